/* norm.c (CPU) - layernorm, rmsnorm and the per-head rmsnorm of queries and keys are one computation: rmsnorm is
 * layernorm whose mean is 0, and a head is a row that lies inside a wider one.  A head turns while it lies in the cache.
 *
 * Backward reads each row once: it adds to the sums of its group of rows, then writes dx, which may lie over dy.  A
 * group's sums lie on the caller's stack, and the groups are added in ascending order: the order does not know the
 * number of threads. */
#include "common/cpu/blocks.h"
#include "common/cpu/rope.h"
#include "common/cpu/vector.h"

#include <assert.h>
#include <math.h>

/* Rows of a group, most groups at once, floats of all their sums (256 KiB). */
enum { GROUP_ROWS = 32, GROUPS = 16, SUMS = 65536 };

struct norm_call {
    act_t *y, *dx;
    const act_t *x, *dy;
    float *mean, *rstd, *dweight, *dbias, *dweight_k;
    const float *weight, *bias, *weight_k;
    float eps;
    bool centred, add;              /* layernorm;  dx += */
    int N, C, heads;                /* C: width of what is normalised, `heads` of them in a row */
    int keys;                       /* how many of these, the last ones, have weight_k for a weight */
    int stride, statistics;         /* floats from row to row of x; numbers of mean and rstd a row */
    int tail;                       /* floats after the heads that go through unchanged: the value heads */
    const struct rope *rope;        /* or NULL */
    int first, groups;              /* backward: the first row of these groups, and how many can run at once */
    float *sums;                    /* (groups, 2C): of each dweight, and dbias or dweight_k */
};

/* Every row function is compiled twice: for rows of whole vectors (`whole`), where no load asks how much is left,
 * and for others. */
INLINE float sum_row(const act_t *x, int C, bool whole)
{
    vf sum[2] = {{0}};
    for (int c = 0; c < C; c += 2 * VW)
        for (int k = 0; k < 2 && c + k * VW < C; k++) sum[k] += act_load(x + c + k * VW, whole ? VW : C - c - k * VW);
    return v_sum(sum[0] + sum[1]);
}

INLINE float squares_row(const act_t *x, float mean, int C, bool whole)
{
    vf sum[2] = {{0}};
    for (int c = 0; c < C; c += 2 * VW)
        for (int k = 0; k < 2 && c + k * VW < C; k++) {
            int n = whole ? VW : C - c - k * VW;
            vf d = act_load(x + c + k * VW, n) - mean;
            if (n < VW) d = v_select(v_lanes() < n, d, v_set(0));
            sum[k] += d * d;
        }
    return v_sum(sum[0] + sum[1]);
}

INLINE void forward_row(const struct norm_call *n, act_t *y, float *mean, float *rstd, const act_t *x,
                        const float *weight, bool whole)
{
    int C = n->C;
    float m = n->centred ? sum_row(x, C, whole) / (float)C : 0;
    float r = 1 / sqrtf(squares_row(x, m, C, whole) / (float)C + n->eps);
    for (int c = 0; c < C; c += VW) {
        int left = whole ? VW : C - c;
        vf v = (act_load(x + c, left) - m) * r * v_load_upto(weight + c, left);
        if (n->bias) v += v_load_upto(n->bias + c, left);
        act_store(y + c, v, left);
    }
    if (n->centred) *mean = m;
    *rstd = r;
}

/* What follows the heads of a row. */
static void copy_tail(const struct norm_call *n, act_t *to, const act_t *from, size_t row)
{
    size_t at = row * (size_t)n->stride + (size_t)n->heads * (size_t)n->C;
    if (n->tail && to != from) memcpy(to + at, from + at, (size_t)n->tail * sizeof *to);
}

INLINE bool is_key(const struct norm_call *n, int h) { return h >= n->heads - n->keys; }

INLINE void forward_block(const struct norm_call *n, size_t from, size_t end, bool whole)
{
    struct turn turn;
    for (size_t row = from; row < end; row++) {
        if (n->rope) turn_begin(&turn, n->rope, row, 1);
        for (int h = 0; h < n->heads; h++) {
            size_t at = row * (size_t)n->stride + (size_t)h * (size_t)n->C;
            size_t number = row * (size_t)n->statistics + (size_t)h;
            forward_row(n, n->y + at, n->centred ? n->mean + number : NULL, n->rstd + number, n->x + at,
                        is_key(n, h) ? n->weight_k : n->weight, whole);
            if (n->rope) turn_head(n->y + at, &turn);
        }
        copy_tail(n, n->y, n->x, row);
    }
}

static void forward_rows(const void *context, size_t from, size_t end)
{
    const struct norm_call *n = context;
    if (n->C % VW == 0) forward_block(n, from, end, true);
    else forward_block(n, from, end, false);
}

static void forward(const struct norm_call *n) { rows_for(n->N, n->stride, forward_rows, n); }

/* dweight += dy * xhat, dbias += dy;  then dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),
 *   xhat = (x - mean) * rstd,  g = dy * weight,  mean(g) only if centred. */
INLINE void backward_row(const struct norm_call *n, act_t *dx, float *dweight, float *dbias, const act_t *dy,
                         const act_t *x, const float *weight, float mean, float rstd, bool whole)
{
    int C = n->C;
    vf sum = {0}, product = {0};
    for (int c = 0; c < C; c += VW) {
        int left = whole ? VW : C - c;
        vf d = act_load(dy + c, left), g = d * v_load_upto(weight + c, left);
        vf xhat = (act_load(x + c, left) - mean) * rstd;
        sum += g;
        product += g * xhat;
        v_store_upto(dweight + c, v_load_upto(dweight + c, left) + d * xhat, left);
        if (dbias) v_store_upto(dbias + c, v_load_upto(dbias + c, left) + d, left);
    }
    float g_mean = n->centred ? v_sum(sum) / (float)C : 0, product_mean = v_sum(product) / (float)C;
    for (int c = 0; c < C; c += VW) {
        int left = whole ? VW : C - c;
        vf g = act_load(dy + c, left) * v_load_upto(weight + c, left), xhat = (act_load(x + c, left) - mean) * rstd;
        vf d = (g - g_mean - xhat * product_mean) * rstd;
        if (n->add) d += act_load(dx + c, left);
        act_store(dx + c, d, left);
    }
}

/* dy of a head turned back, in dx. */
static const act_t *turned(const struct norm_call *n, act_t *dx, const act_t *dy, const struct turn *turn)
{
    if (dx != dy) memcpy(dx, dy, (size_t)n->C * sizeof *dx);
    turn_head(dx, turn);
    return dx;
}

/* Rows [from, end) of those at n->first. */
INLINE void backward_group(const struct norm_call *n, size_t from, size_t end, bool whole)
{
    size_t C = (size_t)n->C, first = (size_t)n->first;
    float *dweight = n->groups > 1 ? n->sums + from / GROUP_ROWS * 2 * C : n->dweight, *dbias = n->dbias;
    float *dweight_k = n->groups > 1 ? dweight + C : n->dweight_k;
    struct turn turn;
    if (n->groups > 1) memset(dweight, 0, 2 * C * sizeof(float));
    if (n->groups > 1 && dbias) dbias = dweight + C;
    for (size_t row = first + from; row < first + end; row++) {
        if (n->rope) turn_begin(&turn, n->rope, row, -1);
        for (int h = 0; h < n->heads; h++) {
            size_t at = row * (size_t)n->stride + (size_t)h * C;
            size_t number = row * (size_t)n->statistics + (size_t)h;
            const act_t *dy = n->dy + at;
            if (n->rope) dy = turned(n, n->dx + at, dy, &turn);
            backward_row(n, n->dx + at, is_key(n, h) ? dweight_k : dweight, dbias, dy, n->x + at,
                         is_key(n, h) ? n->weight_k : n->weight, n->centred ? n->mean[number] : 0, n->rstd[number],
                         whole);
        }
        copy_tail(n, n->dx, n->dy, row);
    }
}

static void backward_rows(const void *context, size_t from, size_t end)
{
    const struct norm_call *n = context;
    if (n->C % VW == 0) backward_group(n, from, end, true);
    else backward_group(n, from, end, false);
}

/* Rows so wide that two groups' sums do not fit go one group at a time, straight to dweight: C alone decides. */
static void backward(struct norm_call *n)
{
    float sums[SUMS], *second = n->keys ? n->dweight_k : n->dbias;
    n->sums = sums;
    n->groups = int_min(GROUPS, SUMS / 2 / n->C);
    int rows = int_max(1, n->groups) * GROUP_ROWS;
    for (n->first = 0; n->first < n->N; n->first += rows) {
        size_t left = (size_t)int_min(rows, n->N - n->first);
        blocks_for(left, GROUP_ROWS, backward_rows, n);
        for (size_t i = 0; i * GROUP_ROWS < left && n->groups > 1; i++)
            for (int c = 0; c < n->C; c++) {
                n->dweight[c] += sums[i * 2 * (size_t)n->C + (size_t)c];
                if (second) second[c] += sums[(i * 2 + 1) * (size_t)n->C + (size_t)c];
            }
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

void rmsnorm_backward(act_t *dx, float *dweight, const act_t *dy, const act_t *x, const float *weight,
                      const float *rstd, bool add, int N, int C)
{
    backward(&(struct norm_call){.dx = dx, .dweight = dweight, .dy = dy, .x = x, .weight = weight,
                                 .rstd = (float *)rstd, .add = add, .N = N, .C = C, .heads = 1, .stride = C,
                                 .statistics = 1});
}

static struct norm_call heads_of(const act_t *x, const float *weight_q, const float *weight_k, const float *rstd,
                                 const struct rope *rope, int N, int H, int G, int D)
{
    assert(rope->R <= D);
    return (struct norm_call){.rstd = (float *)rstd, .x = x, .weight = weight_q, .weight_k = weight_k, .N = N, .C = D,
                              .heads = H + G, .keys = G, .stride = (H + 2 * G) * D, .statistics = H + G, .tail = G * D,
                              .rope = rope->R > 0 ? rope : NULL};
}

void qk_forward(act_t *y, float *rstd, const act_t *x, const float *weight_q, const float *weight_k, float eps,
                const struct rope *rope, int N, int H, int G, int D)
{
    struct norm_call n = heads_of(x, weight_q, weight_k, rstd, rope, N, H, G, D);
    n.y = y;
    n.eps = eps;
    if (weight_q) forward(&n);
    else turn_rows(y, x, rope, 1, N, H + G, D, n.stride);
}

void qk_backward(act_t *dx, float *dweight_q, float *dweight_k, const act_t *dy, const act_t *x, const float *weight_q,
                 const float *weight_k, const float *rstd, const struct rope *rope, int N, int H, int G, int D)
{
    struct norm_call n = heads_of(x, weight_q, weight_k, rstd, rope, N, H, G, D);
    n.dx = dx;
    n.dy = dy;
    n.dweight = dweight_q;
    n.dweight_k = dweight_k;
    if (weight_q) backward(&n);
    else turn_rows(dx, dy, rope, -1, N, H + G, D, n.stride);
}
