/* value.c (CPU) - the scalar head: few rows, so that exactness is cheap.  Sums run in double over LANES fixed
 * lanes. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

enum { LANES = 8, COLUMNS = 64 };

struct value {
    float *values, *dweight;
    act_t *dh;
    const act_t *h;
    const float *dvalues, *weight, *bias;
    int n, C;
};

static double dot(const act_t *a, const float *b, int n)
{
    double lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) lane[k] += (double)act_get(a[i + k]) * (double)b[i + k];
    for (int k = 0; i < n; i++, k++) lane[k] += (double)act_get(a[i]) * (double)b[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void forward_rows(const void *context, size_t from, size_t end)
{
    const struct value *v = context;
    for (size_t row = from; row < end; row++)
        v->values[row] = (float)(dot(v->h + row * (size_t)v->C, v->weight, v->C) + (double)v->bias[0]);
}

void value_forward(float *values, const act_t *h, const float *weight, const float *bias, int n, int C)
{
    rows_for(n, C, forward_rows, &(struct value){.values = values, .h = h, .weight = weight, .bias = bias, .C = C});
}

static void backward_rows(const void *context, size_t from, size_t end)
{
    const struct value *v = context;
    for (size_t row = from; row < end; row++) {
        act_t *dh = v->dh + row * (size_t)v->C;
        for (int c = 0; c < v->C; c++) dh[c] = act_put(v->dvalues[row] * v->weight[c]);
    }
}

static void backward_columns(const void *context, size_t from, size_t end)
{
    const struct value *v = context;
    size_t C = (size_t)v->C, columns = end - from;
    double sum[COLUMNS] = {0};
    for (int row = 0; row < v->n; row++) {
        const act_t *h = v->h + (size_t)row * C + from;
        for (size_t c = 0; c < columns; c++) sum[c] += (double)v->dvalues[row] * (double)act_get(h[c]);
    }
    for (size_t c = 0; c < columns; c++) v->dweight[from + c] += (float)sum[c];
}

void value_backward(act_t *dh, float *dweight, float *dbias, const float *dvalues, const act_t *h, const float *weight,
                    int n, int C)
{
    struct value v = {.dh = dh, .dweight = dweight, .dvalues = dvalues, .h = h, .weight = weight, .n = n, .C = C};
    blocks_for((size_t)C, COLUMNS, backward_columns, &v);
    rows_for(n, C, backward_rows, &v);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)dvalues[i];
    dbias[0] += (float)sum;
}
