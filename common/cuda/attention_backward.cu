/* attention_backward.cu (CUDA) - the probabilities are computed again from the log-sum kept by forward.  One kernel has
 * tiles of queries and adds up their gradient over the keys; the other has tiles of keys and adds up the gradients of
 * keys and values over the queries that see them, head after head of the group.  No atomics.
 * Source: Dao et al. 2022, alg. 4. */
#include "common/cuda/flash.h"

/* delta (N,H) = dy . y, a warp each. */
static __global__ void row_deltas(struct attention a)
{
    size_t i = blockIdx.x * (size_t)(BLOCK / WARP) + threadIdx.x / WARP;
    if (i >= (size_t)a.N * (size_t)a.H) return;         /* a whole warp */
    const act_t *y = a.y + i * (size_t)a.D, *dy = a.dy + i * (size_t)a.D;
    float sum = 0;
    for (int d = (int)threadIdx.x % WARP; d < a.D; d += WARP) sum = fmaf(to_float(y[d]), to_float(dy[d]), sum);
    sum = warp_sum<float>(sum);
    if (threadIdx.x % WARP == 0) a.delta[i] = sum;
}

__device__ static inline float probability(const struct attention &a, float dot, int h, int distance, int key,
                                           float lse)
{
    return a.sees(distance) ? expf(fmaf(dot, a.scale, a.bias(h, distance, key)) - lse) : 0;
}

/* The queries of one run against all keys they see: sum += ds k. */
template <int ROWS, int CHANNELS>
__device__ static inline void query_run(const struct attention &a, const struct run &u, int first_row,
                                        float (&sum)[ROWS][CHANNELS], const float (*q)[CHANNELS * WARP],
                                        const float (*dy)[CHANNELS * WARP], float (*weight)[KEYS], tile_t &tile)
{
    int h = (int)blockIdx.y, g = h / (a.H / a.G), lane = (int)threadIdx.x % WARP, seen = u.position + u.end - u.first;
    size_t ld = a.width();
    for (int j = a.begin(u.position, KEYS); j < seen; j += KEYS) {
        int n = seen - j < KEYS ? seen - j : KEYS;
        const act_t *k = a.key(u.start + j, g), *v = a.value(u.start + j, g);
        float dot[ROWS], slope[ROWS];
        dots<ROWS, CHANNELS * WARP>(dot, q, tile, k, ld, n, a.D);
        dots<ROWS, CHANNELS * WARP>(slope, dy, tile, v, ld, n, a.D);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int row = first_row + r, distance = u.position + row - u.first - j - lane;
            bool mine = row >= u.first && row < u.end;
            size_t i = (size_t)(mine ? row : u.first) * (size_t)a.H + (size_t)h;
            float p = mine ? probability(a, dot[r], h, distance, j + lane, a.lse[i]) : 0;
            weight[r][lane] = mine && a.sees(distance) ? p * (slope[r] - a.delta[i]) : 0;
        }
        add_rows<ROWS, CHANNELS>(sum, weight, tile, k, ld, n, a.D);
    }
}

template <int ROWS, int CHANNELS>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) query_gradients(struct attention a)
{
    __shared__ float q[ATTENTION_WARPS * ROWS][CHANNELS * WARP];
    __shared__ float dy[ATTENTION_WARPS * ROWS][CHANNELS * WARP];
    __shared__ float weight[ATTENTION_WARPS * ROWS][KEYS];
    __shared__ tile_t tile;
    float sum[ROWS][CHANNELS];
    int warp = (int)threadIdx.x / WARP, h = (int)blockIdx.y, first = (int)blockIdx.x * ATTENTION_WARPS * ROWS;
    int end = first + ATTENTION_WARPS * ROWS < a.N ? first + ATTENTION_WARPS * ROWS : a.N, own = first + warp * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        bool there = own + r < end;
        load_row<CHANNELS * WARP>(q[warp * ROWS + r], there ? a.query(own + r, h) : NULL, a.D);
        load_row<CHANNELS * WARP>(dy[warp * ROWS + r], there ? a.dy + a.output(own + r, h) : NULL, a.D);
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) sum[r][c] = 0;
    }
    for (int row = first; row < end;) {
        struct run u = run_at(a, row, end);
        query_run<ROWS, CHANNELS>(a, u, own, sum, q + warp * ROWS, dy + warp * ROWS, weight + warp * ROWS, tile);
        row = u.end;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (own + r < end)
            store_row<CHANNELS>(a.dqkv + (size_t)(own + r) * a.width() + (size_t)h * (size_t)a.D, sum[r], a.scale, a.D);
}

/* The keys of one run against all queries of head h that see them: dk += ds q, dv += p dy. */
template <int ROWS, int CHANNELS>
__device__ static inline void key_run(const struct attention &a, const struct run &u, int h, int first_row,
                                      float (&dk)[ROWS][CHANNELS], float (&dv)[ROWS][CHANNELS],
                                      const float (*k)[CHANNELS * WARP], const float (*v)[CHANNELS * WARP],
                                      float (*ds)[KEYS], float (*p)[KEYS], tile_t &tile)
{
    int lane = (int)threadIdx.x % WARP;
    size_t narrow = (size_t)a.H * (size_t)a.D;
    int last = u.position + u.end - u.first - 1, end = u.length - last > a.window ? last + a.window : u.length;
    for (int i = u.position; i < end; i += KEYS) {
        int n = u.length - i < KEYS ? u.length - i : KEYS;
        const act_t *q = a.query(u.start + i, h), *dy = a.dy + a.output(u.start + i, h);
        float dot[ROWS], slope[ROWS];
        dots<ROWS, CHANNELS * WARP>(dot, k, tile, q, a.width(), n, a.D);
        dots<ROWS, CHANNELS * WARP>(slope, v, tile, dy, narrow, n, a.D);
        size_t at = (size_t)(u.start + i + (lane < n ? lane : 0)) * (size_t)a.H + (size_t)h;
        float lse = a.lse[at], delta = a.delta[at];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int row = first_row + r, key = u.position + row - u.first, distance = i + lane - key;
            bool seen = row >= u.first && row < u.end && lane < n && a.sees(distance);
            float x = seen ? probability(a, dot[r], h, distance, key, lse) : 0;
            p[r][lane] = x;
            ds[r][lane] = seen ? x * (slope[r] - delta) : 0;
        }
        add_rows<ROWS, CHANNELS>(dk, ds, tile, q, a.width(), n, a.D);
        add_rows<ROWS, CHANNELS>(dv, p, tile, dy, narrow, n, a.D);
    }
}

template <int ROWS, int CHANNELS>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) key_gradients(struct attention a)
{
    __shared__ float k[ATTENTION_WARPS * ROWS][CHANNELS * WARP];
    __shared__ float v[ATTENTION_WARPS * ROWS][CHANNELS * WARP];
    __shared__ float p[ATTENTION_WARPS * ROWS][KEYS];
    __shared__ float ds[ATTENTION_WARPS * ROWS][KEYS];
    __shared__ tile_t tile;
    float dk[ROWS][CHANNELS], dv[ROWS][CHANNELS];
    int warp = (int)threadIdx.x / WARP, g = (int)blockIdx.y, first = (int)blockIdx.x * ATTENTION_WARPS * ROWS;
    int end = first + ATTENTION_WARPS * ROWS < a.N ? first + ATTENTION_WARPS * ROWS : a.N, own = first + warp * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        bool there = own + r < end;
        load_row<CHANNELS * WARP>(k[warp * ROWS + r], there ? a.key(own + r, g) : NULL, a.D);
        load_row<CHANNELS * WARP>(v[warp * ROWS + r], there ? a.value(own + r, g) : NULL, a.D);
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) dk[r][c] = dv[r][c] = 0;
    }
    int group = a.H / a.G;
    for (int row = first; row < end;) {
        struct run u = run_at(a, row, end);
        for (int h = g * group; h < (g + 1) * group; h++)
            key_run<ROWS, CHANNELS>(a, u, h, own, dk, dv, k + warp * ROWS, v + warp * ROWS, ds + warp * ROWS,
                                    p + warp * ROWS, tile);
        row = u.end;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (own + r >= end) continue;
        act_t *to = a.dqkv + (size_t)(own + r) * a.width() + (size_t)(a.H + g) * (size_t)a.D;
        store_row<CHANNELS>(to, dk[r], a.scale, a.D);
        store_row<CHANNELS>(to + (size_t)a.G * (size_t)a.D, dv[r], 1, a.D);
    }
}

static attention_kernel *const of_queries[4] = ATTENTION_VARIANTS(query_gradients);
static attention_kernel *const of_keys[4] = ATTENTION_VARIANTS(key_gradients);

size_t attention_backward_work(int max_N, int H, int G, int D)
{
    (void)G;
    (void)D;
    return (size_t)max_N * (size_t)H;
}

void attention_backward(act_t *dqkv, const act_t *dy, const act_t *y, const float *lse, const act_t *qkv,
                        const int *offsets, const struct sight *sight, float *work, int S, int N, int H, int G, int D)
{
    struct attention a = {};
    if (N == 0) return;
    a.y = (act_t *)y; a.dqkv = dqkv; a.qkv = qkv; a.dy = dy;
    a.lse = (float *)lse; a.delta = work; a.offsets = offsets;
    attention_see(&a, sight);
    a.S = S; a.N = N; a.H = H; a.G = G; a.D = D;
    a.scale = (float)(1 / sqrt((double)D));
    row_deltas<<<blocks_of((size_t)N * (size_t)H, WARPS), BLOCK, 0, cuda_stream()>>>(a);
    cuda_launched("row_deltas");
    if (flash_backward(&a)) return;
    attention_launch(of_queries, a, H, "query_gradients");
    attention_launch(of_keys, a, G, "key_gradients");
}
