/* device.c (CPU) - device memory is host memory: mapped in one piece, on huge pages where the kernel grants them, and
 * zero without being touched. */
#define _GNU_SOURCE
#include "common/model/device.h"
#include "common/cpu/product_tile.h"
#include "common/base/base.h"
#include "common/base/threads.h"
#include "common/base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE = 2 << 20 };

static struct { uint64_t held, peak; } taken;

int device_open(int index, struct error *error)
{
    if (index == 0) return 0;
    return fail(error, EXIT_USAGE, "there is no device %d: this build computes on the CPU, which is device 0", index);
}

int device_count(void) { return 1; }

void *device_alloc(size_t bytes)
{
    size_t size = (bytes + HUGE - 1) / HUGE * HUGE;
    if (bytes < HUGE) size = (bytes + 4095) / 4096 * 4096;
    char *p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) die("no memory for %zu bytes: %s", bytes, strerror(errno));
    char *aligned = (char *)(((uintptr_t)p + HUGE - 1) / HUGE * HUGE);
    if (aligned > p) munmap(p, (size_t)(aligned - p));
    size_t tail = (size_t)(p + size + HUGE - (aligned + size));
    if (tail) munmap(aligned + size, tail);
    if (bytes >= HUGE) madvise(aligned, size, MADV_HUGEPAGE);
    taken.held += bytes;
    if (taken.held > taken.peak) taken.peak = taken.held;
    return aligned;
}

void device_free(void *memory, size_t bytes)
{
    if (!memory) return;
    size_t size = bytes < HUGE ? (bytes + 4095) / 4096 * 4096 : (bytes + HUGE - 1) / HUGE * HUGE;
    munmap(memory, size);
    taken.held -= bytes;
}

void *device_alloc_host(size_t bytes) { return device_alloc(bytes); }
void device_free_host(void *memory, size_t bytes) { device_free(memory, bytes); }

void device_put(void *device, const void *host, size_t bytes) { if (bytes) memcpy(device, host, bytes); }
void device_get(void *host, const void *device, size_t bytes) { if (bytes) memcpy(host, device, bytes); }
void device_copy(void *to, const void *from, size_t bytes) { if (bytes) memcpy(to, from, bytes); }
void device_clear(void *device, size_t bytes) { if (bytes) memset(device, 0, bytes); }

void device_wait(void) {}

uint64_t device_memory_available(void) { return host_memory_available(); }
uint64_t device_memory_peak(void) { return taken.peak; }
bool device_shares_host(void) { return true; }

void device_range(const char *name) { trace_begin(name); }
void device_range_end(void) { trace_end(); }
void device_record(bool on) { (void)on; }

const char *device_build(void)
{
    static char build[64];
#ifdef ACT_BF16
    snprintf(build, sizeof build, "cpu, bfloat16 (%s)", product_tile_name());
#else
    snprintf(build, sizeof build, "cpu, float32");
#endif
    return build;
}

const char *device_name(void)
{
    static char name[128];
#if defined(__AVX512F__)
    const char *isa = "AVX-512";
#elif defined(__AVX2__)
    const char *isa = "AVX2";
#elif defined(__aarch64__)
    const char *isa = "NEON";
#else
    const char *isa = "generic";
#endif
    snprintf(name, sizeof name, "%d thread%s, %s", threads_count(), threads_count() == 1 ? "" : "s", isa);
#ifdef ACT_BF16
    size_t at = strlen(name);
    snprintf(name + at, sizeof name - at, ", bfloat16 (%s)", product_tile_name());
#endif
    return name;
}
