/* optimizer.c (CPU) - what walks over all parameters: one pass that reads and writes each number once, plain loops
 * that the compiler turns into vectors.  Memory is the limit, so nothing here tries to save arithmetic. */
#include "common/cpu/blocks.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <assert.h>
#include <math.h>

struct update { float *param, *grad, *m, *v; size_t n; const struct adamw *a; };

static void update_block(void *context, int i, int thread)
{
    (void)thread;
    const struct update *u = context;
    const struct adamw a = *u->a;
    size_t first = (size_t)i * BLOCK_FLOATS, n = block_size(u->n, BLOCK_FLOATS, i);
    float *restrict param = u->param + first, *restrict grad = u->grad + first;
    float *restrict m = u->m + first, *restrict v = u->v + first;
    float m_factor = 1 / a.correction1, v_factor = 1 / a.correction2, rest1 = 1 - a.beta1, rest2 = 1 - a.beta2;
    for (size_t k = 0; k < n; k++) {
        float g = a.grad_scale * grad[k];
        float first_moment = a.beta1 * m[k] + rest1 * g, second_moment = a.beta2 * v[k] + rest2 * (g * g);
        float step = first_moment * m_factor / (sqrtf(second_moment * v_factor) + a.eps);
        param[k] -= a.lr * (step + a.decay * param[k]);
        m[k] = first_moment;
        v[k] = second_moment;
        grad[k] = 0;
    }
}

void adamw_update(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    struct update u = {param, grad, m, v, n, a};
    threads_for(block_count(n, BLOCK_FLOATS), update_block, &u);
}

enum { LANES = 16 };
static_assert((int)BLOCK_FLOATS == (int)SQUARES_BLOCK, "a task is a block of squares");

struct squares { double *sum; const float *x; size_t n; };

static void squares_block(void *context, int i, int thread)
{
    (void)thread;
    const struct squares *s = context;
    const float *x = s->x + (size_t)i * BLOCK_FLOATS;
    size_t n = block_size(s->n, BLOCK_FLOATS, i), k = 0;
    double lane[LANES] = {0}, sum = 0;
    for (; k + LANES <= n; k += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)x[k + l] * (double)x[k + l];
    for (; k < n; k++) sum += (double)x[k] * (double)x[k];
    for (int l = 0; l < LANES; l++) sum += lane[l];
    s->sum[i] = sum;
}

void sum_squares(double *sums, const float *x, size_t n)
{
    threads_for(block_count(n, BLOCK_FLOATS), squares_block, &(struct squares){sums, x, n});
}

struct stream { float *to; const float *from; float number; size_t n; };

static void ema_block(void *context, int i, int thread)
{
    (void)thread;
    const struct stream *s = context;
    size_t first = (size_t)i * BLOCK_FLOATS, n = block_size(s->n, BLOCK_FLOATS, i);
    float *restrict average = s->to + first, rest = 1 - s->number;
    const float *restrict x = s->from + first;
    for (size_t k = 0; k < n; k++) average[k] = s->number * average[k] + rest * x[k];
}

void ema_update(float *average, const float *x, float decay, size_t n)
{
    threads_for(block_count(n, BLOCK_FLOATS), ema_block, &(struct stream){average, x, decay, n});
}

static void fill_block(void *context, int i, int thread)
{
    (void)thread;
    const struct stream *s = context;
    float *x = s->to + (size_t)i * BLOCK_FLOATS;
    size_t n = block_size(s->n, BLOCK_FLOATS, i);
    for (size_t k = 0; k < n; k++) x[k] = s->number;
}

void fill(float *x, float value, size_t n)
{
    threads_for(block_count(n, BLOCK_FLOATS), fill_block, &(struct stream){x, NULL, value, n});
}

static void add_block(void *context, int i, int thread)
{
    (void)thread;
    const struct stream *s = context;
    size_t first = (size_t)i * BLOCK_FLOATS, n = block_size(s->n, BLOCK_FLOATS, i);
    float *restrict y = s->to + first;
    const float *restrict x = s->from + first;
    for (size_t k = 0; k < n; k++) y[k] += x[k];
}

void add(float *y, const float *x, size_t n)
{
    threads_for(block_count(n, BLOCK_FLOATS), add_block, &(struct stream){y, x, 0, n});
}
