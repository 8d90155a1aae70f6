/* optimizer.c (CPU) - what walks over all parameters: one pass that reads and writes each number once, plain loops
 * that the compiler turns into vectors.  Memory is the limit, so nothing here tries to save arithmetic. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/adamw.h"

#include <assert.h>

void adamw_update(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    adamw_host(param, grad, m, v, n, a);
}

void adamw_offloaded(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    adamw_host(param, grad, m, v, n, a);
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

void ema_update(float *average, const float *x, float decay, size_t n)
{
    ema_host(average, x, decay, n);
}

struct stream { float *to; const float *from; float number; };

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
