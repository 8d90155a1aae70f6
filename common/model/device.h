/* device.h - where tensors live.  A pointer from device_alloc is never dereferenced by host code: only ops (ops.h) and
 * the functions below touch it.  On the CPU backend it happens to be host memory; on CUDA it is not. */
#ifndef QUARTET_DEVICE_H
#define QUARTET_DEVICE_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, aligned to at least 64 bytes (2 MiB when large); dies when there is none.  device_free takes the bytes
 * that were asked for; NULL is allowed. */
void *device_alloc(size_t bytes);
void device_free(void *memory, size_t bytes);

/* Copies: host to device, device to host, device to device (no overlap).  Done when they return. */
void device_put(void *device, const void *host, size_t bytes);
void device_get(void *host, const void *device, size_t bytes);
void device_copy(void *to, const void *from, size_t bytes);
void device_clear(void *device, size_t bytes);                  /* every byte 0 */

/* Bytes that can still be taken now (CPU: available memory, the container's limit included). */
uint64_t device_memory_available(void);

/* A short description for the log: "2 threads, AVX-512". */
const char *device_name(void);

/* float32 multiply-adds a second that all threads together reach from registers, in flop/s (2 a multiply-add);
 * measured once, in about 50 ms, at the first call. */
double device_peak_flops(void);

#endif
