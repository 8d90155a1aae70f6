/* attention.cu (CUDA) - softmax(q k^T) v in blocks of keys, for training and for decoding: one kernel, so that both
 * give the same bits.  Blocks of keys start at fixed positions of the sequence.  What tensor cores can do is left to
 * flash.cu.
 * Source: Dao et al. 2022, alg. 1 (running maximum and sum). */
#include "common/cuda/flash.h"

template <int ROWS, int CHANNELS> struct softmax_rows { float sum[ROWS][CHANNELS], max[ROWS], total[ROWS]; };

/* Scores of one row become weight[lane] = exp(score - max).  What earlier keys gave is scaled to the new maximum. */
template <int CHANNELS>
__device__ static inline void weigh(float (&sum)[CHANNELS], float *max, float *total, float *weight, float score,
                                    bool seen)
{
    float most = fmaxf(*max, warp_max(seen ? score : -INFINITY)), factor = expf(*max - most);
    float e = seen ? expf(score - most) : 0;
    *total = fmaf(*total, factor, warp_sum<float>(e));
    *max = most;
    weight[threadIdx.x % WARP] = e;
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) sum[c] *= factor;
}

/* One run of rows against all keys they see. */
template <int ROWS, int CHANNELS>
__device__ static inline void attend_run(const struct attention &a, const struct run &u, int first_row,
                                         struct softmax_rows<ROWS, CHANNELS> &s, const float (*q)[CHANNELS * WARP],
                                         float (*weight)[KEYS], tile_t &tile)
{
    int h = (int)blockIdx.y, g = h / (a.H / a.G), lane = (int)threadIdx.x % WARP, seen = u.position + u.end - u.first;
    const act_t *k = a.offsets ? a.key(u.start, g) : a.cached(a.slots[u.first], g, 0);
    const act_t *v = a.offsets ? a.value(u.start, g) : a.cached(a.slots[u.first], g, 1);
    size_t ld = a.offsets ? a.width() : (size_t)a.D;
    for (int j = a.begin(u.position, KEYS); j < seen; j += KEYS) {
        int n = seen - j < KEYS ? seen - j : KEYS;
        float score[ROWS];
        dots<ROWS, CHANNELS * WARP>(score, q, tile, k + (size_t)j * ld, ld, n, a.D);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int row = first_row + r, distance = u.position + row - u.first - j;
            weight[r][lane] = 0;
            if (row < u.first || row >= u.end || distance < 0 || distance - (KEYS - 1) >= a.window)
                continue;                                                       /* the whole warp */
            float x = fmaf(score[r], a.scale, a.bias(h, distance - lane, j + lane));
            weigh<CHANNELS>(s.sum[r], &s.max[r], &s.total[r], weight[r], x, a.sees(distance - lane));
        }
        add_rows<ROWS, CHANNELS>(s.sum, weight, tile, v + (size_t)j * ld, ld, n, a.D);
    }
}

template <int ROWS, int CHANNELS>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) attend(struct attention a)
{
    __shared__ float q[ATTENTION_WARPS * ROWS][CHANNELS * WARP];
    __shared__ float weight[ATTENTION_WARPS * ROWS][KEYS];
    __shared__ tile_t tile;
    struct softmax_rows<ROWS, CHANNELS> s;
    int warp = (int)threadIdx.x / WARP, h = (int)blockIdx.y, first = (int)blockIdx.x * ATTENTION_WARPS * ROWS;
    int end = first + ATTENTION_WARPS * ROWS < a.N ? first + ATTENTION_WARPS * ROWS : a.N, own = first + warp * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        load_row<CHANNELS * WARP>(q[warp * ROWS + r], own + r < end ? a.query(own + r, h) : NULL, a.D);
        s.max[r] = -INFINITY;
        s.total[r] = 0;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) s.sum[r][c] = 0;
    }
    for (int row = first; row < end;) {
        struct run u = run_at(a, row, end);
        attend_run<ROWS, CHANNELS>(a, u, own, s, q + warp * ROWS, weight + warp * ROWS, tile);
        row = u.end;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (own + r >= end) continue;
        store_row<CHANNELS>(a.y + a.output(own + r, h), s.sum[r], 1 / s.total[r], a.D);
        if (a.lse && threadIdx.x % WARP == 0)
            a.lse[(size_t)(own + r) * (size_t)a.H + (size_t)h] = (float)((double)s.max[r] + log((double)s.total[r]));
    }
}

static attention_kernel *const attends[4] = ATTENTION_VARIANTS(attend);

static struct attention shape(const act_t *qkv, const struct sight *sight, int N, int H, int G, int D)
{
    struct attention a = {};
    attention_see(&a, sight);
    a.qkv = qkv;
    a.N = N; a.H = H; a.G = G; a.D = D;
    a.scale = (float)(1 / sqrt((double)D));
    return a;
}

void attention_forward(act_t *y, float *lse, const act_t *qkv, const int *offsets, const struct sight *sight, int S, int N,
                       int H, int G, int D)
{
    struct attention a = shape(qkv, sight, N, H, G, D);
    a.y = y; a.lse = lse; a.offsets = offsets; a.S = S;
    if (N == 0 || flash_forward(&a)) return;
    attention_launch(attends, a, H, "attend");
}

/* A block a row: its keys and values go to their places. */
static __global__ void write_cache(struct attention a)
{
    int row = (int)blockIdx.x, count = a.G * a.D;
    size_t at = (size_t)a.positions[row] * (size_t)a.D;
    for (int i = (int)threadIdx.x; i < 2 * count; i += BLOCK) {
        int values = i / count, g = i % count / a.D, d = i % a.D;
        a.cached(a.slots[row], g, values)[at + (size_t)d] = a.key(row, 0)[i];
    }
}

size_t attention_cache_elements(int slots, int capacity, int G, int D)
{
    return (size_t)slots * (size_t)capacity * 2 * (size_t)G * (size_t)D;
}

void attention_cached(act_t *y, act_t *cache, const act_t *qkv, const int *slots, const int *positions,
                      const struct sight *sight, int N, int H, int G, int D, int n_slots, int capacity)
{
    (void)n_slots;
    struct attention a = shape(qkv, sight, N, H, G, D);
    a.y = y; a.cache = cache; a.slots = slots; a.positions = positions; a.capacity = capacity;
    if (N == 0) return;
    write_cache<<<(unsigned)N, BLOCK, 0, cuda_stream()>>>(a);
    cuda_launched("write_cache");
    if (flash_forward(&a)) return;
    attention_launch(attends, a, H, "attend");
}
