/* optimizer.cu (CUDA) - what walks over all parameters: one pass that reads and writes each number once. */
#include "common/cuda/kernel.h"
extern "C" {
#include "common/model/adamw.h"
}

static __global__ void update(float *param, float *grad, float *m, float *v, size_t n, struct adamw a)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) adamw_one(param + i, grad + i, m + i, v + i, &a);
}

void adamw_update(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    update<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(param, grad, m, v, n, *a);
    cuda_launched("update");
}

static __global__ void square_blocks(double *sums, const float *x, size_t n)
{
    __shared__ double part[WARPS];
    size_t first = (size_t)blockIdx.x * SQUARES_BLOCK, end = first + SQUARES_BLOCK < n ? first + SQUARES_BLOCK : n;
    double sum = 0;
    for (size_t i = first + threadIdx.x; i < end; i += BLOCK) sum += (double)x[i] * (double)x[i];
    sum = block_sum<double>(sum, part);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

void sum_squares(double *sums, const float *x, size_t n)
{
    enum { ROUND = SCRATCH_FLOATS / 4 };                 /* sums that the scratch holds at once */
    double *round = (double *)cuda_scratch();
    for (size_t first = 0; first < n; first += (size_t)ROUND * SQUARES_BLOCK) {
        size_t left = n - first, blocks = squares_blocks(left) < ROUND ? squares_blocks(left) : (size_t)ROUND;
        square_blocks<<<(unsigned)blocks, BLOCK, 0, cuda_stream()>>>(round, x + first, left);
        cuda_launched("square_blocks");
        device_get(sums + first / SQUARES_BLOCK, round, blocks * sizeof *sums);
    }
    device_wait();
}

static __global__ void average_in(float *average, const float *x, float decay, size_t n)
{
    float rest = 1 - decay;
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) average[i] = decay * average[i] + rest * x[i];
}

void ema_update(float *average, const float *x, float decay, size_t n)
{
    average_in<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(average, x, decay, n);
    cuda_launched("average_in");
}

static __global__ void fill_with(float *x, float value, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) x[i] = value;
}

void fill(float *x, float value, size_t n)
{
    fill_with<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(x, value, n);
    cuda_launched("fill_with");
}

static __global__ void add_to(float *y, const float *x, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) y[i] += x[i];
}

void add(float *y, const float *x, size_t n)
{
    add_to<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(y, x, n);
    cuda_launched("add_to");
}

static __global__ void add_acts(act_t *y, const act_t *x, int parts, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) {
        float sum = to_float(x[i]);
        for (int r = 1; r < parts; r++) sum += to_float(x[(size_t)r * n + i]);
        set(y + i, sum);
    }
}

void acts_sum(act_t *y, const act_t *x, int parts, size_t n)
{
    add_acts<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(y, x, parts, n);
    cuda_launched("add_acts");
}
