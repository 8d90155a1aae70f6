/* numbers.h - for the tests of operations: random arrays, and comparisons that a NaN cannot pass. */
#ifndef QUARTET_TEST_NUMBERS_H
#define QUARTET_TEST_NUMBERS_H

#include "common/base/base.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "test/act_host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* n normal numbers times `size` that an activation can hold, the same for the same seed; free() them. */
__attribute__((unused))
static float *numbers(size_t n, uint64_t seed, double size)
{
    float *x = host_alloc(n + 1, sizeof *x);
    struct rng r = rng_at(seed, RNG_TEST, 0, 0);
    for (size_t i = 0; i < n; i += 2) {
        double pair[2];
        rng_normal_pair(&r, pair);
        x[i] = act_rounded((float)(size * pair[0]));
        if (i + 1 < n) x[i + 1] = act_rounded((float)(size * pair[1]));
    }
    return x;
}

__attribute__((unused))
static float *copy_of(const float *x, size_t n)
{
    float *y = host_alloc(n + 1, sizeof *y);
    memcpy(y, x, n * sizeof *x);
    return y;
}

__attribute__((unused))
static bool same_bits(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* The largest |a - want| / (1 + |want|); infinite when any is not a number. */
__attribute__((unused))
static double furthest(const float *a, const double *want, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - want[i]) / (1 + fabs(want[i]));
        if (!(d <= most)) most = d;
        if (isnan(d)) return INFINITY;
    }
    return most;
}

#endif
