/* adamw.c - plain loops that the compiler turns into vectors, in blocks that threads share out.  The CPU backend's own,
 * and that of a GPU whose moments lie in the host's memory. */
#include "common/model/adamw.h"
#include "common/base/threads.h"

enum { BLOCK = 16384 };                 /* 64 KiB of each array: far more work than a task costs */

struct update { float *param, *grad, *m, *v; const struct adamw *a; size_t n; };

static size_t end_of(size_t from, size_t n) { return n - from < BLOCK ? n : from + BLOCK; }

static void update_block(void *context, int i, int thread)
{
    const struct update *u = context;
    const struct adamw a = *u->a;
    size_t from = (size_t)i * BLOCK, n = end_of(from, u->n) - from;
    float *restrict param = u->param + from, *restrict grad = u->grad + from;
    float *restrict m = u->m + from, *restrict v = u->v + from;
    (void)thread;
    for (size_t k = 0; k < n; k++) adamw_one(param + k, grad + k, m + k, v + k, &a);
}

void adamw_host(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    threads_for((int)((n + BLOCK - 1) / BLOCK), update_block, &(struct update){param, grad, m, v, a, n});
}

struct average { float *average; const float *x; float decay; size_t n; };

static void average_block(void *context, int i, int thread)
{
    const struct average *a = context;
    float *restrict average = a->average, rest = 1 - a->decay;
    const float *restrict x = a->x;
    size_t from = (size_t)i * BLOCK, end = end_of(from, a->n);
    (void)thread;
    for (size_t k = from; k < end; k++) average[k] = a->decay * average[k] + rest * x[k];
}

void ema_host(float *average, const float *x, float decay, size_t n)
{
    threads_for((int)((n + BLOCK - 1) / BLOCK), average_block, &(struct average){average, x, decay, n});
}
