/* embed.cu (CUDA) - forward copies rows.  Backward has a block for each row, and the block of a token's first row adds
 * the gradients of all its rows in ascending order: no atomics, and one order. */
#include "common/cuda/kernel.h"

static __global__ void look_up(act_t *x, const int *tokens, const int *positions, const float *table,
                               const float *position_table, int C)
{
    size_t row = blockIdx.x, width = (size_t)C;
    if (tokens[row] < 0) {
        for (size_t c = threadIdx.x; c < width; c += BLOCK) set(x + row * width + c, 0);
        return;
    }
    const float *t = table + (size_t)tokens[row] * width;
    const float *p = position_table ? position_table + (size_t)positions[row] * width : NULL;
    for (size_t c = threadIdx.x; c < width; c += BLOCK) set(x + row * width + c, p ? t[c] + p[c] : t[c]);
}

void embed_forward(act_t *x, const int *tokens, const int *positions, const float *table, const float *position_table,
                   int N, int C)
{
    if (N == 0) return;
    look_up<<<(unsigned)N, BLOCK, 0, cuda_stream()>>>(x, tokens, positions, table, position_table, C);
    cuda_launched("look_up");
}

/* dtable[key] += dx of all rows with the key of row blockIdx.x, unless an earlier row has it too, or it is below 0. */
static __global__ void add_rows(float *dtable, const act_t *dx, const int *keys, int N, int C)
{
    __shared__ unsigned found[WARPS];
    int first = (int)blockIdx.x, key = keys[first], earlier = 0, thread = (int)threadIdx.x;
    if (key < 0) return;
    for (int i = thread; i < first && !earlier; i += BLOCK) earlier = keys[i] == key;
    if (__syncthreads_or(earlier)) return;
    float *to = dtable + (size_t)key * (size_t)C;
    for (int start = first / BLOCK * BLOCK; start < N; start += BLOCK) {
        int row = start + thread;
        unsigned mine = __ballot_sync(ALL_LANES, row >= first && row < N && keys[row < N ? row : first] == key);
        if (thread % WARP == 0) found[thread / WARP] = mine;
        __syncthreads();
        for (int w = 0; w < WARPS; w++)
            for (unsigned left = found[w]; left; left &= left - 1) {
                const act_t *d = dx + (size_t)(start + w * WARP + __ffs((int)left) - 1) * (size_t)C;
                for (int c = thread; c < C; c += BLOCK) to[c] += to_float(d[c]);
            }
        __syncthreads();
    }
}

void embed_backward(float *dtable, float *dposition_table, const act_t *dx, const int *tokens, const int *positions,
                    int N, int C)
{
    if (N == 0) return;
    add_rows<<<(unsigned)N, BLOCK, 0, cuda_stream()>>>(dtable, dx, tokens, N, C);
    cuda_launched("add_rows");
    if (!dposition_table) return;
    add_rows<<<(unsigned)N, BLOCK, 0, cuda_stream()>>>(dposition_table, dx, positions, N, C);
    cuda_launched("add_rows");
}
