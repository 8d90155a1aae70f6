/* norm.cu (CUDA) - layernorm and rmsnorm are one computation: rmsnorm is layernorm whose mean is 0.  A warp has a row.
 * The norms of queries and keys are in qk.cu. */
#include "common/cuda/columns.h"

struct norm_call {
    act_t *y, *dx;
    const act_t *x, *dy;
    float *mean, *rstd;
    const float *weight, *bias;
    float eps;
    bool centred, add;              /* layernorm;  dx += */
    int N, C;

    __device__ size_t at(int row) const { return (size_t)row * (size_t)C; }
};

__device__ static inline int row_of_warp(void) { return (int)(blockIdx.x * WARPS + threadIdx.x / WARP); }

static __global__ void forward_rows(struct norm_call n)
{
    int row = row_of_warp(), lane = (int)threadIdx.x % WARP;
    if (row >= n.N) return;                             /* a whole warp */
    const act_t *x = n.x + n.at(row);
    act_t *y = n.y + n.at(row);
    float mean = 0, squares = 0;
    if (n.centred) {
        for (int c = lane; c < n.C; c += WARP) mean += to_float(x[c]);
        mean = warp_sum<float>(mean) / (float)n.C;
    }
    for (int c = lane; c < n.C; c += WARP) {
        float d = to_float(x[c]) - mean;
        squares = fmaf(d, d, squares);
    }
    float rstd = 1 / sqrtf(warp_sum<float>(squares) / (float)n.C + n.eps);
    for (int c = lane; c < n.C; c += WARP)
        set(y + c, (to_float(x[c]) - mean) * rstd * n.weight[c] + (n.bias ? n.bias[c] : 0));
    if (lane > 0) return;
    if (n.centred) n.mean[row] = mean;
    n.rstd[row] = rstd;
}

/* dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  xhat = (x - mean) * rstd,  g = dy * weight;  mean(g) only if
 * centred. */
static __global__ void backward_rows(struct norm_call n)
{
    int row = row_of_warp(), lane = (int)threadIdx.x % WARP;
    if (row >= n.N) return;
    size_t at = n.at(row);
    const act_t *x = n.x + at, *dy = n.dy + at;
    act_t *dx = n.dx + at;
    float mean = n.centred ? n.mean[row] : 0, rstd = n.rstd[row], sum = 0, product = 0;
    for (int c = lane; c < n.C; c += WARP) {
        float g = to_float(dy[c]) * n.weight[c];
        sum += g;
        product = fmaf(g, (to_float(x[c]) - mean) * rstd, product);
    }
    sum = n.centred ? warp_sum<float>(sum) / (float)n.C : 0;
    product = warp_sum<float>(product) / (float)n.C;
    for (int c = lane; c < n.C; c += WARP) {
        float g = to_float(dy[c]) * n.weight[c], xhat = (to_float(x[c]) - mean) * rstd;
        float d = fmaf(-xhat, product, g - sum) * rstd;
        set(dx + c, n.add ? d + to_float(dx[c]) : d);
    }
}

struct norm_weight_term {
    typedef float sum;
    struct norm_call n;
    __device__ float operator()(int row, int c) const
    {
        size_t at = n.at(row) + (size_t)c;
        float mean = n.centred ? n.mean[row] : 0;
        return to_float(n.dy[at]) * ((to_float(n.x[at]) - mean) * n.rstd[row]);
    }
};

struct norm_bias_term {
    typedef float sum;
    struct norm_call n;
    __device__ float operator()(int row, int c) const { return to_float(n.dy[n.at(row) + (size_t)c]); }
};

static void forward(const struct norm_call &n)
{
    if (n.N == 0) return;
    forward_rows<<<blocks_of((size_t)n.N, WARPS), BLOCK, 0, cuda_stream()>>>(n);
    cuda_launched("forward_rows");
}

/* The sums first: dx may lie over dy. */
static void backward(const struct norm_call &n, float *dweight, float *dbias)
{
    if (n.N == 0) return;
    add_columns<norm_weight_term>(dweight, norm_weight_term{n}, n.N, n.C);
    if (dbias) add_columns<norm_bias_term>(dbias, norm_bias_term{n}, n.N, n.C);
    backward_rows<<<blocks_of((size_t)n.N, WARPS), BLOCK, 0, cuda_stream()>>>(n);
    cuda_launched("backward_rows");
}

static struct norm_call rows_of(const act_t *x, const float *weight, int N, int C)
{
    struct norm_call n = {};
    n.x = x;
    n.weight = weight;
    n.N = N;
    n.C = C;
    return n;
}

void layernorm_forward(act_t *y, float *mean, float *rstd, const act_t *x, const float *weight, const float *bias,
                       float eps, int N, int C)
{
    struct norm_call n = rows_of(x, weight, N, C);
    n.y = y; n.mean = mean; n.rstd = rstd; n.bias = bias; n.eps = eps; n.centred = true;
    forward(n);
}

void layernorm_backward(act_t *dx, float *dweight, float *dbias, const act_t *dy, const act_t *x, const float *weight,
                        const float *mean, const float *rstd, bool add, int N, int C)
{
    struct norm_call n = rows_of(x, weight, N, C);
    n.dx = dx; n.dy = dy; n.mean = (float *)mean; n.rstd = (float *)rstd; n.centred = true; n.add = add;
    backward(n, dweight, dbias);
}

void rmsnorm_forward(act_t *y, float *rstd, const act_t *x, const float *weight, float eps, int N, int C)
{
    struct norm_call n = rows_of(x, weight, N, C);
    n.y = y; n.rstd = rstd; n.eps = eps;
    forward(n);
}

void rmsnorm_backward(act_t *dx, float *dweight, const act_t *dy, const act_t *x, const float *weight,
                      const float *rstd, bool add, int N, int C)
{
    struct norm_call n = rows_of(x, weight, N, C);
    n.dx = dx; n.dy = dy; n.rstd = (float *)rstd; n.add = add;
    backward(n, dweight, NULL);
}

