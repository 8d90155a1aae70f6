/* on_device.h - device memory in tests: copies that are done when they return, and device arrays with their contents. */
#ifndef QUARTET_TEST_ON_DEVICE_H
#define QUARTET_TEST_ON_DEVICE_H

#include "test/act_host.h"
#include "common/model/device.h"
#include "common/model/memory.h"

#include <stdlib.h>
#include <string.h>

/* from host to device, and back */
static inline void to_device(void *device, const void *host, size_t bytes)
{
    device_put(device, host, bytes);
    device_wait();
}

static inline void from_device(void *host, const void *device, size_t bytes)
{
    device_get(host, device, bytes);
    device_wait();
}

/* The scratch of the operations, for a test without a model; memory_close(memory) ends it. */
static inline void ops_ready(struct memory *memory)
{
    struct error error;
    ops_open(memory);
    if (memory_open(memory, &error) != 0) quit_error(&error);
    ops_open(memory);
}

/* Whether the device is the simulator's, which takes its time: tests that draw often may draw less. */
static inline bool is_simulated(void) { return strstr(device_name(), "simulated") != NULL; }

/* One number of a device array, read or written. */
static inline float number_at(const float *device)
{
    float x;
    from_device(&x, device, sizeof x);
    return x;
}

static inline void set_number(float *device, float x) { to_device(device, &x, sizeof x); }

/* A copy of n floats of a device array, to free(). */
static inline float *host_copy(const float *device, size_t n)
{
    float *copy = host_alloc(n, sizeof *copy);
    from_device(copy, device, n * sizeof *copy);
    return copy;
}

/* Whether n floats of a device array have the bits of the host's. */
static inline bool same_there(const float *host, const float *device, size_t n)
{
    float *copy = host_copy(device, n);
    bool same = memcmp(host, copy, n * sizeof *copy) == 0;
    free(copy);
    return same;
}

/* A copy of n activations of a device array as floats, to free(). */
static inline float *host_acts(const act_t *device, size_t n)
{
    act_t *copy = host_alloc(n + 1, sizeof *copy);
    float *x = host_alloc(n + 1, sizeof *x);
    from_device(copy, device, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) x[i] = act_value(copy[i]);
    free(copy);
    return x;
}

/* Whether n activations of a device array are these. */
static inline bool same_acts(const float *host, const act_t *device, size_t n)
{
    float *copy = host_acts(device, n);
    bool same = memcmp(host, copy, n * sizeof *copy) == 0;
    free(copy);
    return same;
}

/* A device array of n elements with the contents of a host array (NULL: zeros), to device_free. */
static inline void *device_copy_of(const void *host, size_t n, size_t size)
{
    void *device = device_alloc(n * size);
    if (host) to_device(device, host, n * size);
    return device;
}

#endif
