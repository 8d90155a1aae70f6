/* limits.h - arrays of numbers, and what this machine's processors and memory reach: for the benchmarks of the CPU. */
#ifndef QUARTET_LIMITS_H
#define QUARTET_LIMITS_H

#include "common/cpu/vector.h"
#include "test/bench/bench.h"

UNUSED static float *bench_numbers(size_t n)
{
    float *p = device_alloc(n * sizeof *p);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        p[i] = (float)(state >> 8) * 0x1p-23f - 1;
    }
    return p;
}

/* Activations instead of floats. */
UNUSED static act_t *bench_acts(size_t n)
{
    act_t *p = device_alloc(n * sizeof *p);
    float *x = bench_numbers(n);
    for (size_t i = 0; i < n; i++) p[i] = act_put(x[i]);
    device_free(x, n * sizeof *x);
    return p;
}

/* ---- memory ---- */

enum bench_stream { BENCH_READ, BENCH_WRITE, BENCH_COPY, BENCH_TRIAD, BENCH_UPDATE, BENCH_STREAMS };
enum { BENCH_PIECES = 1536, BENCH_FLOATS = 24 << 20 };

struct bench_stream_run { float *a, *b, *c; enum bench_stream kind; float sum[BENCH_PIECES]; };

static void bench_stream_task(void *context, int i, int thread)
{
    struct bench_stream_run *s = context;
    size_t n = BENCH_FLOATS / BENCH_PIECES, from = n * (size_t)i;
    float *restrict a = s->a + from, *restrict b = s->b + from, *restrict c = s->c + from;
    float sum[64] = {0};
    (void)thread;
    if (s->kind == BENCH_WRITE)
        for (size_t k = 0; k < n; k++) a[k] = 1;
    else if (s->kind == BENCH_COPY)
        for (size_t k = 0; k < n; k += VW) v_stream(a + k, v_load(b + k));
    else if (s->kind == BENCH_TRIAD)
        for (size_t k = 0; k < n; k++) a[k] = b[k] + 3 * c[k];
    else if (s->kind == BENCH_UPDATE)
        for (size_t k = 0; k < n; k++) a[k] *= 0.999f, b[k] *= 0.999f, c[k] *= 0.999f;
    else
        for (size_t k = 0; k < n; k += 64)
            for (int j = 0; j < 64; j++) sum[j] += a[k + (size_t)j];
    for (int j = 1; j < 64; j++) sum[0] += sum[j];
    s->sum[i] = sum[0];
}

UNUSED static void bench_stream_once(void *context) { threads_for(BENCH_PIECES, bench_stream_task, context); }

struct bench_limits { double peak, rate[BENCH_STREAMS]; };

/* Bytes a second of: reading one array; writing one; copying past the caches (8 bytes an element); a = b + 3 c (12);
 * three arrays changed in place (24). */
UNUSED static struct bench_limits bench_limits(void)
{
    static const double bytes[BENCH_STREAMS] = {4, 4, 8, 12, 24};
    struct bench_stream_run s = {.a = bench_numbers(BENCH_FLOATS), .b = bench_numbers(BENCH_FLOATS),
                                 .c = bench_numbers(BENCH_FLOATS)};
    struct bench_limits limits = {.peak = device_peak_flops()};
    for (s.kind = 0; s.kind < BENCH_STREAMS; s.kind++)
        limits.rate[s.kind] = bytes[s.kind] * BENCH_FLOATS / bench_seconds(bench_stream_once, &s, 0.4);
    device_free(s.a, BENCH_FLOATS * sizeof(float));
    device_free(s.b, BENCH_FLOATS * sizeof(float));
    device_free(s.c, BENCH_FLOATS * sizeof(float));
    printf("%s: multiply-adds %.1f GF; GB/s: read %.1f, write %.1f, copy %.1f, triad %.1f, update in place %.1f\n",
           device_name(), 1e-9 * limits.peak, 1e-9 * limits.rate[BENCH_READ], 1e-9 * limits.rate[BENCH_WRITE],
           1e-9 * limits.rate[BENCH_COPY], 1e-9 * limits.rate[BENCH_TRIAD], 1e-9 * limits.rate[BENCH_UPDATE]);
    return limits;
}

/* The multiply-add peak at this moment: the library keeps its first measurement until the number of threads changes. */
UNUSED static double bench_peak_now(void)
{
    int n = threads_count();
    threads_start(n == 1 ? 2 : 1);
    device_peak_flops();
    threads_start(n);
    return device_peak_flops();
}

#endif
