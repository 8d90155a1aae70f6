/* kernel.h - what every .cu file needs: the contract with C linkage, checked launches, conversions, sums over a warp
 * and a block.
 *
 * Kernels synchronise only through __syncthreads, __syncwarp and _sync operations with the mask of the whole warp;
 * nothing returns before a barrier, and no sum depends on the number of multiprocessors. */
#ifndef QUARTET_KERNEL_H
#define QUARTET_KERNEL_H

#define _Noreturn [[noreturn]]
#include "act.h"
extern "C" {
#include "common/base/base.h"
#include "common/model/device.h"
#include "common/model/ops.h"
}

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

enum { WARP = 32, BLOCK = 256, WARPS = BLOCK / WARP };
#define ALL_LANES 0xffffffffu

/* The stream of everything.  Opens device 0 where nobody has chosen one. */
cudaStream_t cuda_stream(void);
/* Dies when a call failed.  cuda_launched: after every launch. */
void cuda_check(cudaError_t code, const char *what);
static inline void cuda_launched(const char *kernel) { cuda_check(cudaGetLastError(), kernel); }

/* Blocks that keep the device busy with n things, one a thread and the rest in strides of the grid; at least 1. */
unsigned cuda_blocks(size_t n);
int cuda_multiprocessors(void);

/* Scratch of one operation, from ops_open: SCRATCH_FLOATS floats.  Operations follow one another, so that all may use
 * it.  cuda_workspace: that of cuBLASLt, and cuda_bias: BIAS_MOST act_t. */
enum { SCRATCH_FLOATS = 4 << 20, BIAS_MOST = 1 << 19, WORKSPACE_BYTES = 32 << 20, WORKSPACE_ALIGNED = 256 };
float *cuda_scratch(void);
void *cuda_workspace(void);
act_t *cuda_bias(void);

static inline unsigned blocks_of(size_t n, size_t block) { return (unsigned)((n + block - 1) / block); }

__host__ __device__ static inline float to_float(float x) { return x; }
__host__ __device__ static inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ static inline void set(float *to, float x) { *to = x; }
__device__ static inline void set(__nv_bfloat16 *to, float x) { *to = __float2bfloat16(x); }

__device__ static inline size_t thread_of_grid(void) { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ static inline size_t threads_of_grid(void) { return (size_t)gridDim.x * blockDim.x; }

/* The sum, or the largest, of all lanes, in every lane: in one order, whatever the lanes hold. */
template <class T> __device__ static inline T warp_sum(T x)
{
    for (int by = WARP / 2; by > 0; by /= 2) x += __shfl_xor_sync(ALL_LANES, x, by);
    return x;
}

__device__ static inline float warp_max(float x)
{
    for (int by = WARP / 2; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, by));
    return x;
}

/* The same over a block of BLOCK threads.   part (WARPS), shared: free again when the call returns */
template <class T> __device__ static inline T block_sum(T x, T *part)
{
    x = warp_sum<T>(x);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = part[0];
    for (int i = 1; i < WARPS; i++) x += part[i];
    __syncthreads();
    return x;
}

__device__ static inline float block_max(float x, float *part)
{
    x = warp_max(x);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = part[0];
    for (int i = 1; i < WARPS; i++) x = fmaxf(x, part[i]);
    /* No test sees it: between two maxima of today's kernels there is always a sum. */
    __syncthreads();
    return x;
}

#endif
