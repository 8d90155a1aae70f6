/* device.h - where tensors live.  A pointer from device_alloc is never dereferenced by host code: only ops (ops.h) and
 * the functions below touch it.  On the CPU backend it happens to be host memory; on CUDA it is not. */
#ifndef QUARTET_DEVICE_H
#define QUARTET_DEVICE_H

#include "common/base/base.h"

/* Chooses the device of this process, before anything else here or in ops.h.  Returns 0, or -1 (EXIT_USAGE) when there
 * is none of that number.  The CPU backend has number 0. */
int device_open(int index, struct error *error);
/* How many there are; 0 where none can be used. */
int device_count(void);

/* Zeroed memory, aligned to at least 64 bytes (2 MiB when large); dies when there is none.  device_free takes the bytes
 * that were asked for; NULL is allowed. */
void *device_alloc(size_t bytes);
void device_free(void *memory, size_t bytes);

/* Zeroed memory of the host that the device reads and writes as its own: all ops and the copies below take it for device
 * memory.  Host code may use it, too, after device_wait. */
void *device_alloc_host(size_t bytes);
void device_free_host(void *memory, size_t bytes);

/* Copies: host to device, device to host, device to device (no overlap).  All of them, and all ops, happen in the order
 * of the calls, but may still be under way when the call returns.  Until device_wait, the host array of a device_put
 * must stay as it is, and that of a device_get must not be read or written.  device_wait returns when everything asked
 * for is done; an op that returns numbers to the host waits too. */
void device_put(void *device, const void *host, size_t bytes);
void device_get(void *host, const void *device, size_t bytes);
void device_copy(void *to, const void *from, size_t bytes);
void device_clear(void *device, size_t bytes);                  /* every byte 0 */
void device_wait(void);

/* Bytes that can still be taken now, and the most that device_alloc has held at once.  shares_host: device memory is
 * part of the host's (CPU), so that both must fit it together. */
uint64_t device_memory_available(void);
uint64_t device_memory_peak(void);
bool device_shares_host(void);

/* For --trace, and for Nsight Systems on a GPU: what is asked for between range and range_end goes by that name.
 * Ranges nest.  record: from here on, or no more, when the profiler waits to be told (--capture-range=cudaProfilerApi);
 * everything asked for before is done first. */
void device_range(const char *name);
void device_range_end(void);
void device_record(bool on);

/* A short description for the log: "2 threads, AVX-512". */
const char *device_name(void);

/* For --version: the backend and the type of its activations, "cpu, float32". */
const char *device_build(void);

/* Multiply-adds a second, as the products make them, that all threads together reach from registers, in flop/s (2 a
 * multiply-add); measured once, in about 50 ms, at the first call. */
double device_peak_flops(void);

#endif
