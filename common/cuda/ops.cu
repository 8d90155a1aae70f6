/* ops.cu (CUDA) - the scratch of the operations, and the small ones: copying rows, positions, sums. */
#include "common/cuda/kernel.h"

static struct { float *scratch; void *workspace; act_t *bias; } work;

/* cuBLASLt wants its workspace at a multiple of 256 bytes ("cublasLtMatmul()"); memory_take promises 64. */
static void *workspace_of(void *taken)
{
    return taken ? (void *)(((uintptr_t)taken + WORKSPACE_ALIGNED - 1) / WORKSPACE_ALIGNED * WORKSPACE_ALIGNED) : NULL;
}

void ops_open(struct memory *memory)
{
    work.scratch = (float *)memory_take(memory, MEMORY_WORK, SCRATCH_FLOATS, sizeof(float));
    work.workspace = workspace_of(memory_take(memory, MEMORY_WORK, WORKSPACE_BYTES + WORKSPACE_ALIGNED, 1));
    work.bias = (act_t *)memory_take(memory, MEMORY_WORK, BIAS_MOST, sizeof(act_t));
}

static void *opened(void *p)
{
    if (!p) die("an operation needs scratch before ops_open has taken it");
    return p;
}

float *cuda_scratch(void) { return (float *)opened(work.scratch); }
void *cuda_workspace(void) { return opened(work.workspace); }
act_t *cuda_bias(void) { return (act_t *)opened(work.bias); }

/* ---- rows ---- */

/* A block a row; to_rows or from_rows NULL: in order. */
static __global__ void copy_rows(act_t *to, const act_t *from, const int *to_rows, const int *from_rows, int C)
{
    int row = (int)blockIdx.x;
    act_t *t = to + (size_t)(to_rows ? to_rows[row] : row) * (size_t)C;
    const act_t *f = from + (size_t)(from_rows ? from_rows[row] : row) * (size_t)C;
    for (int c = (int)threadIdx.x; c < C; c += BLOCK) t[c] = f[c];
}

static void copy(act_t *to, const act_t *from, const int *to_rows, const int *from_rows, int n, int C)
{
    if (n == 0) return;
    copy_rows<<<(unsigned)n, BLOCK, 0, cuda_stream()>>>(to, from, to_rows, from_rows, C);
    cuda_launched("copy_rows");
}

void rows_gather(act_t *to, const act_t *from, const int *rows, int n, int C) { copy(to, from, NULL, rows, n, C); }
void rows_scatter(act_t *to, const act_t *from, const int *rows, int n, int C) { copy(to, from, rows, NULL, n, C); }

static __global__ void add_acts(act_t *y, const act_t *a, const act_t *b, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) set(y + i, to_float(a[i]) + to_float(b[i]));
}

void acts_add(act_t *y, const act_t *a, const act_t *b, size_t n)
{
    if (n == 0) return;
    add_acts<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(y, a, b, n);
    cuda_launched("add_acts");
}

static __global__ void fill_positions(int *positions, const int *offsets, int S)
{
    for (int s = (int)blockIdx.x; s < S; s += (int)gridDim.x)
        for (int i = offsets[s] + (int)threadIdx.x; i < offsets[s + 1]; i += BLOCK) positions[i] = i - offsets[s];
}

void positions_fill(int *positions, const int *offsets, int S, int N)
{
    (void)N;
    if (S == 0) return;
    fill_positions<<<(unsigned)S, BLOCK, 0, cuda_stream()>>>(positions, offsets, S);
    cuda_launched("fill_positions");
}
