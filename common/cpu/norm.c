/* norm.c (CPU) - layernorm, rmsnorm and the per-head rmsnorm of queries and keys are one computation: rmsnorm is layernorm whose
 * mean is 0, and a head is a row that lies inside a wider one.
 *
 * Backward goes through the rows in blocks.  For each block, tasks first sum dweight and dbias by columns, then other tasks
 * write dx by rows: the second finds dy and x still in the cache, no scratch is needed, the order of the sums does not know
 * the number of threads, and dx may lie over dy. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/ops.h"
#include "common/threads.h"

#include <math.h>

enum { BLOCK_ROWS = 128, COLUMN_VECTORS = 4, COLUMNS = COLUMN_VECTORS * VW };

struct norm_call {
    float *y, *mean, *rstd, *dx, *dweight, *dbias;
    const float *x, *dy, *weight, *bias;
    float eps;
    bool centred, add;              /* layernorm;  dx += */
    int N, C, heads;                /* C: width of what is normalised, `heads` of them in a row */
    int stride, statistics;         /* floats from row to row of x; numbers of mean and rstd a row */
    int rows, first, last;          /* rows a task; backward: the rows of this block */
};

static inline vf load(const float *p, int n) { return n >= VW ? v_load(p) : v_load_part(p, n); }
static inline void store(float *p, vf x, int n)
{
    if (n >= VW) v_store(p, x);
    else v_store_part(p, x, n);
}

static float sum_row(const float *x, int C)
{
    vf sum[2] = {{0}};
    for (int c = 0; c < C; c += 2 * VW)
        for (int k = 0; k < 2 && c + k * VW < C; k++) sum[k] += load(x + c + k * VW, C - c - k * VW);
    return v_sum(sum[0] + sum[1]);
}

static float squares_row(const float *x, float mean, int C)
{
    vf sum[2] = {{0}};
    for (int c = 0; c < C; c += 2 * VW)
        for (int k = 0; k < 2 && c + k * VW < C; k++) {
            int n = C - c - k * VW;
            vf d = load(x + c + k * VW, n) - mean;
            if (n < VW) d = v_select(v_lanes() < n, d, v_set(0));
            sum[k] += d * d;
        }
    return v_sum(sum[0] + sum[1]);
}

static void forward_row(const struct norm_call *n, float *y, float *mean, float *rstd, const float *x)
{
    int C = n->C;
    float m = n->centred ? sum_row(x, C) / (float)C : 0;
    float r = 1 / sqrtf(squares_row(x, m, C) / (float)C + n->eps);
    for (int c = 0; c < C; c += VW) {
        vf v = (load(x + c, C - c) - m) * r * load(n->weight + c, C - c);
        if (n->bias) v += load(n->bias + c, C - c);
        store(y + c, v, C - c);
    }
    if (n->centred) *mean = m;
    *rstd = r;
}

static void forward_rows(void *context, int i, int thread)
{
    (void)thread;
    const struct norm_call *n = context;
    for (int row = i * n->rows; row < int_min(n->N, (i + 1) * n->rows); row++)
        for (int h = 0; h < n->heads; h++) {
            size_t at = (size_t)row * (size_t)n->stride + (size_t)h * (size_t)n->C;
            size_t number = (size_t)row * (size_t)n->statistics + (size_t)h;
            forward_row(n, n->y + at, n->centred ? n->mean + number : NULL, n->rstd + number, n->x + at);
        }
}

static void forward(struct norm_call *n)
{
    n->rows = rows_a_block(n->stride);
    threads_for(block_count((size_t)n->N, (size_t)n->rows), forward_rows, n);
}

/* dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * weight,  xhat = (x - mean) * rstd;  mean(g) only if centred. */
static void backward_row(const struct norm_call *n, float *dx, const float *dy, const float *x, float mean, float rstd)
{
    int C = n->C;
    vf sum = {0}, product = {0};
    for (int c = 0; c < C; c += VW) {
        vf g = load(dy + c, C - c) * load(n->weight + c, C - c);
        sum += g;
        product += g * ((load(x + c, C - c) - mean) * rstd);
    }
    float g_mean = n->centred ? v_sum(sum) / (float)C : 0, product_mean = v_sum(product) / (float)C;
    for (int c = 0; c < C; c += VW) {
        vf g = load(dy + c, C - c) * load(n->weight + c, C - c), xhat = (load(x + c, C - c) - mean) * rstd;
        vf d = (g - g_mean - xhat * product_mean) * rstd;
        if (n->add) d += load(dx + c, C - c);
        store(dx + c, d, C - c);
    }
}

static void backward_rows(void *context, int i, int thread)
{
    (void)thread;
    const struct norm_call *n = context;
    int first = n->first + i * n->rows;
    for (int row = first; row < int_min(n->last, first + n->rows); row++)
        for (int h = 0; h < n->heads; h++) {
            size_t at = (size_t)row * (size_t)n->stride + (size_t)h * (size_t)n->C;
            size_t number = (size_t)row * (size_t)n->statistics + (size_t)h;
            backward_row(n, n->dx + at, n->dy + at, n->x + at, n->centred ? n->mean[number] : 0, n->rstd[number]);
        }
}

/* dweight += dy * xhat and dbias += dy over the rows of the block, for up to COLUMNS columns from c. */
INLINE void sum_columns(const struct norm_call *n, int c, int columns)
{
    vf weight[COLUMN_VECTORS] = {{0}}, bias[COLUMN_VECTORS] = {{0}};
    for (int row = n->first; row < n->last; row++)
        for (int h = 0; h < n->heads; h++) {
            size_t at = (size_t)row * (size_t)n->stride + (size_t)h * (size_t)n->C + (size_t)c;
            size_t number = (size_t)row * (size_t)n->statistics + (size_t)h;
            float mean = n->centred ? n->mean[number] : 0, rstd = n->rstd[number];
            for (int k = 0; k < COLUMN_VECTORS && k * VW < columns; k++) {
                vf dy = load(n->dy + at + k * VW, columns - k * VW), x = load(n->x + at + k * VW, columns - k * VW);
                weight[k] += dy * ((x - mean) * rstd);
                bias[k] += dy;
            }
        }
    for (int k = 0; k < COLUMN_VECTORS && k * VW < columns; k++) {
        int at = c + k * VW, left = columns - k * VW;
        store(n->dweight + at, load(n->dweight + at, left) + weight[k], left);
        if (n->dbias) store(n->dbias + at, load(n->dbias + at, left) + bias[k], left);
    }
}

static void backward_columns(void *context, int i, int thread)
{
    (void)thread;
    const struct norm_call *n = context;
    int c = i * COLUMNS;
    if (n->C - c >= COLUMNS) sum_columns(n, c, COLUMNS);      /* a known width: no test for the tail in the loop */
    else sum_columns(n, c, n->C - c);
}

static void backward(struct norm_call *n)
{
    n->rows = rows_a_block(n->stride);
    for (n->first = 0; n->first < n->N; n->first = n->last) {
        n->last = int_min(n->N, n->first + BLOCK_ROWS);
        threads_for(block_count((size_t)n->C, COLUMNS), backward_columns, n);
        threads_for(block_count((size_t)(n->last - n->first), (size_t)n->rows), backward_rows, n);
    }
}

void layernorm_forward(act_t *y, float *mean, float *rstd, const act_t *x, const float *weight, const float *bias,
                       float eps, int N, int C)
{
    forward(&(struct norm_call){.y = y, .mean = mean, .rstd = rstd, .x = x, .weight = weight, .bias = bias, .eps = eps,
                           .centred = true, .N = N, .C = C, .heads = 1, .stride = C, .statistics = 1});
}

void layernorm_backward(act_t *dx, float *dweight, float *dbias, const act_t *dy, const act_t *x, const float *weight,
                        const float *mean, const float *rstd, bool add, int N, int C)
{
    backward(&(struct norm_call){.dx = dx, .dweight = dweight, .dbias = dbias, .dy = dy, .x = x, .weight = weight,
                            .mean = (float *)mean, .rstd = (float *)rstd, .centred = true, .add = add, .N = N, .C = C,
                            .heads = 1, .stride = C, .statistics = 1});
}

void rmsnorm_forward(act_t *y, float *rstd, const act_t *x, const float *weight, float eps, int N, int C)
{
    forward(&(struct norm_call){.y = y, .rstd = rstd, .x = x, .weight = weight, .eps = eps, .N = N, .C = C, .heads = 1,
                           .stride = C, .statistics = 1});
}

void rmsnorm_backward(act_t *dx, float *dweight, const act_t *dy, const act_t *x, const float *weight, const float *rstd,
                      bool add, int N, int C)
{
    backward(&(struct norm_call){.dx = dx, .dweight = dweight, .dy = dy, .x = x, .weight = weight, .rstd = (float *)rstd,
                            .add = add, .N = N, .C = C, .heads = 1, .stride = C, .statistics = 1});
}

/* The value heads, which go through unchanged. */
static void copy_values(float *to, const float *from, int N, int H, int G, int D)
{
    size_t width = (size_t)(H + 2 * G) * (size_t)D, at = (size_t)(H + G) * (size_t)D, size = (size_t)G * (size_t)D;
    if (to == from) return;
    for (int i = 0; i < N; i++) memcpy(to + (size_t)i * width + at, from + (size_t)i * width + at, size * sizeof(float));
}

void qk_norm_forward(act_t *y, float *rstd, const act_t *x, const float *weight_q, const float *weight_k, float eps,
                     int N, int H, int G, int D)
{
    size_t keys = (size_t)H * (size_t)D;
    struct norm_call query = {.y = y, .rstd = rstd, .x = x, .weight = weight_q, .eps = eps, .N = N, .C = D, .heads = H,
                         .stride = (H + 2 * G) * D, .statistics = H + G};
    struct norm_call key = query;
    key.y = y + keys;
    key.x = x + keys;
    key.rstd = rstd + H;
    key.weight = weight_k;
    key.heads = G;
    forward(&query);
    forward(&key);
    copy_values(y, x, N, H, G, D);
}

void qk_norm_backward(act_t *dx, float *dweight_q, float *dweight_k, const act_t *dy, const act_t *x,
                      const float *weight_q, const float *weight_k, const float *rstd, int N, int H, int G, int D)
{
    size_t keys = (size_t)H * (size_t)D;
    struct norm_call query = {.dx = dx, .dweight = dweight_q, .dy = dy, .x = x, .weight = weight_q, .rstd = (float *)rstd,
                         .N = N, .C = D, .heads = H, .stride = (H + 2 * G) * D, .statistics = H + G};
    struct norm_call key = query;
    key.dx = dx + keys;
    key.dy = dy + keys;
    key.x = x + keys;
    key.dweight = dweight_k;
    key.weight = weight_k;
    key.rstd = (float *)rstd + H;
    key.heads = G;
    backward(&query);
    backward(&key);
    copy_values(dx, dy, N, H, G, D);
}
