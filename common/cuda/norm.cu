/* norm.cu (CUDA) - layernorm, rmsnorm and the per-head rmsnorm of queries and keys are one computation: rmsnorm is
 * layernorm whose mean is 0, and a head is a line that lies inside a wider row.  A warp has a line. */
#include "common/cuda/columns.h"

struct lines {
    act_t *y, *dx;
    const act_t *x, *dy;
    float *mean, *rstd;
    const float *weight, *bias;
    float eps;
    bool centred, add;              /* layernorm;  dx += */
    int N, C, heads;                /* C: width of a line, `heads` of them in a row */
    int stride, statistics;         /* numbers from row to row of x, and of mean and rstd */

    __device__ size_t at(int line) const
    {
        return (size_t)(line / heads) * (size_t)stride + (size_t)(line % heads) * (size_t)C;
    }
    __device__ size_t number(int line) const
    {
        return (size_t)(line / heads) * (size_t)statistics + (size_t)(line % heads);
    }
};

__device__ static inline int line_of_warp(void) { return (int)(blockIdx.x * WARPS + threadIdx.x / WARP); }

static __global__ void forward_lines(struct lines n)
{
    int line = line_of_warp(), lane = (int)threadIdx.x % WARP;
    if (line >= n.N * n.heads) return;                  /* a whole warp */
    const act_t *x = n.x + n.at(line);
    act_t *y = n.y + n.at(line);
    float mean = 0, squares = 0;
    if (n.centred) {
        for (int c = lane; c < n.C; c += WARP) mean += to_float(x[c]);
        mean = warp_sum<float>(mean) / (float)n.C;
    }
    for (int c = lane; c < n.C; c += WARP) {
        float d = to_float(x[c]) - mean;
        squares += d * d;
    }
    float rstd = 1 / sqrtf(warp_sum<float>(squares) / (float)n.C + n.eps);
    for (int c = lane; c < n.C; c += WARP)
        set(y + c, (to_float(x[c]) - mean) * rstd * n.weight[c] + (n.bias ? n.bias[c] : 0));
    if (lane > 0) return;
    if (n.centred) n.mean[n.number(line)] = mean;
    n.rstd[n.number(line)] = rstd;
}

/* dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  xhat = (x - mean) * rstd,  g = dy * weight;  mean(g) only if
 * centred. */
static __global__ void backward_lines(struct lines n)
{
    int line = line_of_warp(), lane = (int)threadIdx.x % WARP;
    if (line >= n.N * n.heads) return;
    size_t at = n.at(line), number = n.number(line);
    const act_t *x = n.x + at, *dy = n.dy + at;
    act_t *dx = n.dx + at;
    float mean = n.centred ? n.mean[number] : 0, rstd = n.rstd[number], sum = 0, product = 0;
    for (int c = lane; c < n.C; c += WARP) {
        float g = to_float(dy[c]) * n.weight[c];
        sum += g;
        product += g * ((to_float(x[c]) - mean) * rstd);
    }
    sum = n.centred ? warp_sum<float>(sum) / (float)n.C : 0;
    product = warp_sum<float>(product) / (float)n.C;
    for (int c = lane; c < n.C; c += WARP) {
        float g = to_float(dy[c]) * n.weight[c], xhat = (to_float(x[c]) - mean) * rstd;
        float d = (g - sum - xhat * product) * rstd;
        set(dx + c, n.add ? d + to_float(dx[c]) : d);
    }
}

struct norm_weight_term {
    typedef float sum;
    struct lines n;
    __device__ float operator()(int line, int c) const
    {
        size_t number = n.number(line), at = n.at(line) + (size_t)c;
        float mean = n.centred ? n.mean[number] : 0;
        return to_float(n.dy[at]) * ((to_float(n.x[at]) - mean) * n.rstd[number]);
    }
};

struct norm_bias_term {
    typedef float sum;
    struct lines n;
    __device__ float operator()(int line, int c) const { return to_float(n.dy[n.at(line) + (size_t)c]); }
};

static void forward(const struct lines &n)
{
    if (n.N == 0) return;
    forward_lines<<<blocks_of((size_t)n.N * (size_t)n.heads, WARPS), BLOCK, 0, cuda_stream()>>>(n);
    cuda_launched("forward_lines");
}

/* The sums first: dx may lie over dy. */
static void backward(const struct lines &n, float *dweight, float *dbias)
{
    int lines = n.N * n.heads;
    if (n.N == 0) return;
    add_columns<norm_weight_term>(dweight, norm_weight_term{n}, lines, n.C);
    if (dbias) add_columns<norm_bias_term>(dbias, norm_bias_term{n}, lines, n.C);
    backward_lines<<<blocks_of((size_t)lines, WARPS), BLOCK, 0, cuda_stream()>>>(n);
    cuda_launched("backward_lines");
}

static struct lines rows_of(const act_t *x, const float *weight, int N, int C)
{
    struct lines n = {};
    n.x = x;
    n.weight = weight;
    n.N = N;
    n.C = n.stride = C;
    n.heads = n.statistics = 1;
    return n;
}

void layernorm_forward(act_t *y, float *mean, float *rstd, const act_t *x, const float *weight, const float *bias,
                       float eps, int N, int C)
{
    struct lines n = rows_of(x, weight, N, C);
    n.y = y; n.mean = mean; n.rstd = rstd; n.bias = bias; n.eps = eps; n.centred = true;
    forward(n);
}

void layernorm_backward(act_t *dx, float *dweight, float *dbias, const act_t *dy, const act_t *x, const float *weight,
                        const float *mean, const float *rstd, bool add, int N, int C)
{
    struct lines n = rows_of(x, weight, N, C);
    n.dx = dx; n.dy = dy; n.mean = (float *)mean; n.rstd = (float *)rstd; n.centred = true; n.add = add;
    backward(n, dweight, dbias);
}

void rmsnorm_forward(act_t *y, float *rstd, const act_t *x, const float *weight, float eps, int N, int C)
{
    struct lines n = rows_of(x, weight, N, C);
    n.y = y; n.rstd = rstd; n.eps = eps;
    forward(n);
}

void rmsnorm_backward(act_t *dx, float *dweight, const act_t *dy, const act_t *x, const float *weight,
                      const float *rstd, bool add, int N, int C)
{
    struct lines n = rows_of(x, weight, N, C);
    n.dx = dx; n.dy = dy; n.rstd = (float *)rstd; n.add = add;
    backward(n, dweight, NULL);
}

/* The query heads of qkv, or the key heads. */
static struct lines heads_of(const act_t *x, const float *weight, const float *rstd, int N, int H, int G, int D,
                             bool keys)
{
    struct lines n = rows_of(keys ? x + (size_t)H * (size_t)D : x, weight, N, D);
    n.heads = keys ? G : H;
    n.stride = (H + 2 * G) * D;
    n.statistics = H + G;
    n.rstd = (float *)rstd + (keys ? H : 0);
    return n;
}

/* The values go through unchanged. */
static __global__ void copy_part(act_t *to, const act_t *from, size_t n, size_t count, size_t width, size_t at)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) {
        size_t k = i / count * width + at + i % count;
        to[k] = from[k];
    }
}

static void copy_values(act_t *to, const act_t *from, int N, int H, int G, int D)
{
    size_t count = (size_t)(G * D), n = (size_t)N * count;
    if (to == from) return;
    copy_part<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(to, from, n, count, (size_t)((H + 2 * G) * D),
                                                          (size_t)((H + G) * D));
    cuda_launched("copy_part");
}

void qk_norm_forward(act_t *y, float *rstd, const act_t *x, const float *weight_q, const float *weight_k, float eps,
                     int N, int H, int G, int D)
{
    for (int keys = 0; keys < 2; keys++) {
        struct lines n = heads_of(x, keys ? weight_k : weight_q, rstd, N, H, G, D, keys);
        n.y = keys ? y + (size_t)H * (size_t)D : y;
        n.eps = eps;
        forward(n);
    }
    copy_values(y, x, N, H, G, D);
}

void qk_norm_backward(act_t *dx, float *dweight_q, float *dweight_k, const act_t *dy, const act_t *x,
                      const float *weight_q, const float *weight_k, const float *rstd, int N, int H, int G, int D)
{
    for (int keys = 0; keys < 2; keys++) {
        struct lines n = heads_of(x, keys ? weight_k : weight_q, rstd, N, H, G, D, keys);
        size_t at = keys ? (size_t)H * (size_t)D : 0;
        n.dx = dx + at;
        n.dy = dy + at;
        backward(n, keys ? dweight_k : dweight_q, NULL);
    }
    copy_values(dx, dy, N, H, G, D);
}
