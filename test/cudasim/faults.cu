/* faults.cu NAME - one planted fault each, for check_cudasim.sh: the simulator must stop the program, or make its
 * answer another one than "none" has, or one that depends on the order of threads or streams.  Prints the answer. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 256, BLOCK = 128, BLOCKS = N / BLOCK };
#define ALL_LANES 0xffffffffu

enum fault {
    NONE, PAST_GLOBAL, PAST_SHARED, PAST_DYNAMIC, MISALIGNED, NO_BARRIER, NO_SECOND_BARRIER, NO_WARP_BARRIER,
    DIVERGENT_BARRIER, EARLY_RETURN, DIVERGENT_SHUFFLE, WRONG_MASK, UNWRITTEN_SHARED, UNWRITTEN_GLOBAL, HOST_POINTER,
    HOST_POINTER_IN_STRUCT, TOO_MANY_THREADS, EMPTY_GRID, TOO_MUCH_SHARED, HOST_TOUCHES, COPY_TOO_LONG, COPY_WRONG_SIDE,
    FREED_POINTER, DEFAULT_STREAM, NO_EVENT, PINNED_EARLY, LT_OTHER_PROBLEM, LT_MISALIGNED, LT_NO_WORKSPACE, LT_SPLIT_K,
    LT_TYPES, COPY_NO_WAIT, COPY_NO_BARRIER, COPY_MISALIGNED, COPY_LEFT, LT_WORKSPACE_MISALIGNED, SAME_WRITTEN, BLOCKS_WRITE, FAULTS
};

static const char *const names[FAULTS] = {
    "none", "past_global", "past_shared", "past_dynamic", "misaligned", "no_barrier", "no_second_barrier",
    "no_warp_barrier", "divergent_barrier", "early_return", "divergent_shuffle", "wrong_mask", "unwritten_shared",
    "unwritten_global", "host_pointer", "host_pointer_in_struct", "too_many_threads", "empty_grid", "too_much_shared",
    "host_touches", "copy_too_long", "copy_wrong_side", "freed_pointer", "default_stream", "no_event", "pinned_early",
    "lt_other_problem", "lt_misaligned", "lt_no_workspace", "lt_split_k", "lt_types", "copy_no_wait", "copy_no_barrier",
    "copy_misaligned", "copy_left", "lt_workspace_misaligned", "same_written", "blocks_write"};

struct task { float *to; const float *from; };

/* to[i] = the mirror of its block's part of from, plus the warp's sum, through shared memory. */
static __global__ void work(struct task task, int n, int fault)
{
    extern __shared__ float dynamic[];
    __shared__ float part[BLOCK];
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), t = (int)threadIdx.x;
    if (fault == EARLY_RETURN && t == 5) return;
    float x = fault == PAST_GLOBAL && i == n - 1 ? task.from[n + 2] : task.from[i];
    if (fault == MISALIGNED) x += *(const float *)((const char *)task.from + 4 * t % 16 + 2);
    dynamic[t] = 1;
    if (fault == SAME_WRITTEN) dynamic[BLOCK] = 1;
    if (fault == BLOCKS_WRITE && t == 0) task.to[N] = 1;
    if (fault == PAST_DYNAMIC && t == 3) dynamic[BLOCK + 2] = 1;
    if (fault != UNWRITTEN_SHARED || t != 7) part[fault == PAST_SHARED && t == BLOCK - 1 ? n : t] = x;
    if (fault == DIVERGENT_BARRIER) {
        if (t < 64) __syncthreads();
        else __syncthreads();
    } else if (fault != NO_BARRIER) {
        __syncthreads();
    }
    x = part[BLOCK - 1 - t] * dynamic[t];
    if (fault != NO_SECOND_BARRIER) __syncthreads();
    part[t] = x + 1;
    if (fault != NO_WARP_BARRIER) __syncwarp();
    x += part[t ^ 1];
    float sum = x;
    for (int by = 16; by > 0; by /= 2) {
        if (fault == DIVERGENT_SHUFFLE && t % 2) sum += __shfl_xor_sync(ALL_LANES, sum, by);
        else sum += __shfl_xor_sync(fault == WRONG_MASK && t == 9 ? 0xffffu : ALL_LANES, sum, by);
    }
    task.to[i] = x + sum;
}

/* to[i] += the mirror of its block's part of from, copied to shared memory asynchronously. */
static __global__ void copied(struct task task, int fault)
{
    __shared__ float part[BLOCK];
    int t = (int)threadIdx.x, i = (int)blockIdx.x * BLOCK + t;
    sim::copy_later((char *)(part + t) + (fault == COPY_MISALIGNED ? 2 : 0), task.from + i, 4, true);
    sim::copies_close();
    if (fault != COPY_NO_WAIT && fault != COPY_LEFT) sim::copies_wait(0);
    if (fault != COPY_NO_BARRIER) __syncthreads();
    task.to[i] += part[BLOCK - 1 - t];
    if (fault != COPY_LEFT) sim::copies_wait(0);
}

static __global__ void add_one(float *x) { x[blockIdx.x * blockDim.x + threadIdx.x] += 1; }

static void must(int bad, const char *what)
{
    if (!bad) return;
    fprintf(stderr, "refused: %s\n", what);
    exit(3);
}

/* y = x x' of N / 8 rows, with the fault; its sum. */
static double product(const float *x, float *y, void *workspace, cudaStream_t stream, int fault)
{
    enum { EDGE = 15 };
    cublasLtHandle_t library;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t in, out, other;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    float one = 1, zero = 0, back[EDGE * EDGE];
    int n = 0, turn = CUBLAS_OP_T;
    uint32_t none = 0, aligned = 256;
    uint64_t bytes = 4096;
    cublasLtCreate(&library);
    cublasLtMatmulDescCreate(&product, fault == LT_TYPES ? CUBLAS_COMPUTE_16F : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn);
    cublasLtMatrixLayoutCreate(&in, CUDA_R_32F, EDGE, EDGE, EDGE);
    cublasLtMatrixLayoutCreate(&out, CUDA_R_32F, EDGE, EDGE, EDGE);
    cublasLtMatrixLayoutCreate(&other, CUDA_R_32F, EDGE, EDGE, EDGE + 1);
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &aligned,
                                         sizeof aligned);
    if (fault != LT_SPLIT_K)
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &none,
                                             sizeof none);
    must(cublasLtMatmulAlgoGetHeuristic(library, product, in, in, out, out, preference, 1, &found, &n) != 0 || n < 1,
         "no algorithm");
    float *to = fault == LT_MISALIGNED ? y + 1 : y;
    must(cublasLtMatmul(library, product, &one, x, in, x, in, &zero, to, fault == LT_OTHER_PROBLEM ? other : out, to,
                        fault == LT_OTHER_PROBLEM ? other : out, &found.algo, (char *)workspace + (fault == LT_WORKSPACE_MISALIGNED ? 64 : 0),
                        fault == LT_NO_WORKSPACE ? 16 : bytes, stream) != 0, "the product");
    cudaMemcpyAsync(back, to, sizeof back, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    double sum = 0;
    for (int i = 0; i < EDGE * EDGE; i++) sum += (i + 1) * (double)back[i];
    return sum;
}

/* A second stream reads what the first one writes, after an event; a pinned array comes back after a wait. */
static double streams(float *x, cudaStream_t first, int fault)
{
    cudaStream_t second;
    cudaEvent_t written;
    float *pinned;
    double sum = 0;
    cudaMallocHost((void **)&pinned, N * sizeof *pinned);
    memset(pinned, 0, N * sizeof *pinned);
    cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
    cudaEventCreate(&written);
    add_one<<<BLOCKS, BLOCK, 0, first>>>(x);
    cudaEventRecord(written, first);
    if (fault != NO_EVENT) cudaStreamWaitEvent(second, written, 0);
    cudaMemcpyAsync(pinned, x, N * sizeof *x, cudaMemcpyDeviceToHost, second);
    if (fault != PINNED_EARLY) cudaStreamSynchronize(second);
    for (int i = 0; i < N; i++) sum += (double)pinned[i];
    cudaFreeHost(pinned);
    return sum;
}

static void misuse(float *x, float *y, float *host, cudaStream_t stream, int fault)
{
    if (fault == HOST_TOUCHES) y[3] = 1;
    if (fault == COPY_TOO_LONG)
        must(cudaMemcpyAsync(y, host, N * sizeof *y + 8, cudaMemcpyHostToDevice, stream) != 0, "the copy");
    if (fault == COPY_WRONG_SIDE) must(cudaMemcpyAsync(y, host, 16, cudaMemcpyDeviceToDevice, stream) != 0, "the copy");
    if (fault == HOST_POINTER) add_one<<<1, 32, 0, stream>>>(host);
    if (fault == DEFAULT_STREAM) add_one<<<1, 32, 0, 0>>>(y);
    if (fault == TOO_MANY_THREADS) add_one<<<1, 1056, 0, stream>>>(y);
    if (fault == EMPTY_GRID) add_one<<<0, 32, 0, stream>>>(y);
    if (fault == TOO_MUCH_SHARED) add_one<<<1, 32, 50000, stream>>>(y);
    if (fault == FREED_POINTER) {
        cudaFree(x);
        add_one<<<1, 32, 0, stream>>>(x);
    }
    must(cudaGetLastError() != cudaSuccess, "the launch");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "none";
    int fault = 0;
    while (fault < FAULTS && strcmp(names[fault], name) != 0) fault++;
    if (fault == FAULTS) return 2;
    float host[2 * N], *x, *y, *z, sums[N];
    void *workspace;
    cudaStream_t stream;
    for (int i = 0; i < 2 * N; i++) host[i] = sinf((float)i);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMalloc((void **)&x, N * sizeof *x);
    cudaMalloc((void **)&y, (N + 1) * sizeof *y);
    cudaMalloc((void **)&z, N * sizeof *z);
    cudaMalloc(&workspace, 4096 + 64);
    cudaMemcpyAsync(x, host, (fault == UNWRITTEN_GLOBAL ? N - 1 : N) * sizeof *x, cudaMemcpyHostToDevice, stream);
    struct task task = {y, fault == HOST_POINTER_IN_STRUCT ? host : x};
    work<<<BLOCKS, BLOCK, (BLOCK + 1) * sizeof(float), stream>>>(task, N, fault);
    copied<<<BLOCKS, BLOCK, 0, stream>>>(task, fault);
    must(cudaGetLastError() != cudaSuccess, "the launch");
    cudaMemcpyAsync(sums, y, sizeof sums, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (i + 1) * (double)sums[i];
    sum += product(x, z, workspace, stream, fault);
    sum += streams(x, stream, fault);
    misuse(x, y, host, stream, fault);
    printf("%.17g\n", sum);
    return 0;
}
