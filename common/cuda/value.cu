/* value.cu (CUDA) - the scalar head: a warp a row, sums in double. */
#include "common/cuda/columns.h"

static __global__ void forward(float *values, const act_t *h, const float *weight, const float *bias, int n, int C)
{
    int row = (int)(blockIdx.x * WARPS + threadIdx.x / WARP), lane = (int)threadIdx.x % WARP;
    if (row >= n) return;                               /* a whole warp */
    double sum = 0;
    for (int c = lane; c < C; c += WARP)
        sum += (double)to_float(h[(size_t)row * (size_t)C + (size_t)c]) * (double)weight[c];
    sum = warp_sum<double>(sum);
    if (lane == 0) values[row] = (float)(sum + (double)bias[0]);
}

void value_forward(float *values, const act_t *h, const float *weight, const float *bias, int n, int C)
{
    if (n == 0) return;
    forward<<<blocks_of((size_t)n, WARPS), BLOCK, 0, cuda_stream()>>>(values, h, weight, bias, n, C);
    cuda_launched("value_forward");
}

static __global__ void backward(act_t *dh, const float *dvalues, const float *weight, size_t n, size_t C)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) set(dh + i, dvalues[i / C] * weight[i % C]);
}

struct value_weight_term {
    typedef double sum;
    const float *dvalues;
    const act_t *h;
    int C;
    __device__ double operator()(int row, int c) const
    {
        return (double)dvalues[row] * (double)to_float(h[(size_t)row * (size_t)C + (size_t)c]);
    }
};

struct value_bias_term {
    typedef double sum;
    const float *dvalues;
    __device__ double operator()(int row, int) const { return (double)dvalues[row]; }
};

void value_backward(act_t *dh, float *dweight, float *dbias, const float *dvalues, const act_t *h, const float *weight,
                    int n, int C)
{
    size_t all = (size_t)n * (size_t)C;
    add_columns<value_weight_term>(dweight, value_weight_term{dvalues, h, C}, n, C);
    add_columns<value_bias_term>(dbias, value_bias_term{dvalues}, n, 1);
    backward<<<cuda_blocks(all), BLOCK, 0, cuda_stream()>>>(dh, dvalues, weight, all, (size_t)C);
    cuda_launched("value_backward");
}
