/* optimizer.c (CPU) - what walks over all parameters: one pass that reads and writes each number once, plain loops
 * that the compiler turns into vectors.  Memory is the limit, so nothing here tries to save arithmetic. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

#include <assert.h>
#include <math.h>

struct update { float *param, *grad, *m, *v; const struct adamw *a; };

static void update_block(const void *context, size_t from, size_t end)
{
    const struct update *u = context;
    const struct adamw a = *u->a;
    size_t n = end - from;
    float *restrict param = u->param + from, *restrict grad = u->grad + from;
    float *restrict m = u->m + from, *restrict v = u->v + from;
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
    blocks_for(n, BLOCK_FLOATS, update_block, &(struct update){param, grad, m, v, a});
}

enum { LANES = 16 };
static_assert((int)BLOCK_FLOATS == (int)SQUARES_BLOCK, "a task is a block of squares");

struct squares { double *sum; const float *x; };

static void squares_block(const void *context, size_t from, size_t end)
{
    const struct squares *s = context;
    const float *x = s->x + from;
    size_t n = end - from, k = 0;
    double lane[LANES] = {0}, sum = 0;
    for (; k + LANES <= n; k += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)x[k + l] * (double)x[k + l];
    for (; k < n; k++) sum += (double)x[k] * (double)x[k];
    for (int l = 0; l < LANES; l++) sum += lane[l];
    s->sum[from / BLOCK_FLOATS] = sum;
}

void sum_squares(double *sums, const float *x, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, squares_block, &(struct squares){sums, x});
}

struct stream { float *to; const float *from; float number; };

static void ema_block(const void *context, size_t from, size_t end)
{
    const struct stream *s = context;
    float *restrict average = s->to, rest = 1 - s->number;
    const float *restrict x = s->from;
    for (size_t k = from; k < end; k++) average[k] = s->number * average[k] + rest * x[k];
}

void ema_update(float *average, const float *x, float decay, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, ema_block, &(struct stream){average, x, decay});
}

static void fill_block(const void *context, size_t from, size_t end)
{
    const struct stream *s = context;
    for (size_t k = from; k < end; k++) s->to[k] = s->number;
}

void fill(float *x, float value, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, fill_block, &(struct stream){x, NULL, value});
}

static void add_block(const void *context, size_t from, size_t end)
{
    const struct stream *s = context;
    float *restrict y = s->to;
    const float *restrict x = s->from;
    for (size_t k = from; k < end; k++) y[k] += x[k];
}

void add(float *y, const float *x, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, add_block, &(struct stream){y, x, 0});
}

struct acts { act_t *y; const act_t *x; int parts; size_t n; };

static void acts_sum_block(const void *context, size_t from, size_t end)
{
    const struct acts *a = context;
    for (size_t k = from; k < end; k++) {
        float sum = act_get(a->x[k]);
        for (int r = 1; r < a->parts; r++) sum += act_get(a->x[(size_t)r * a->n + k]);
        a->y[k] = act_put(sum);
    }
}

void acts_sum(act_t *y, const act_t *x, int parts, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, acts_sum_block, &(struct acts){y, x, parts, n});
}
