/* flash.cu (CUDA) - attention forward on tensor cores.  Keys come in segments of fixed positions.  A segment gives a
 * maximum, a sum and weighted values, and segments are folded together in ascending order: by the block that has just
 * computed them, or, while decoding, by a second kernel, after blocks have shared the segments out among them.  Both
 * ways do the same sums, so that decoding gives the bits of training, whatever else is in the batch.
 * Probabilities are rounded to bfloat16 before they weigh the values.
 * Source: Dao 2023, FlashAttention-2, alg. 1; Dao et al. 2023, "Flash-Decoding". */
#include "common/cuda/flash.h"

#ifdef ACT_BF16

/* Of a lane's two rows: sums of weighted values, the largest score (base 2) and the sum of the weights. */
template <class F> struct attended { float sum[F::WIDTH / 8][4], max[2], total[2]; };

template <class F> __device__ static inline void clear(struct attended<F> &s)
{
#pragma unroll
    for (int c = 0; c < F::WIDTH / 8; c++) s.sum[c][0] = s.sum[c][1] = s.sum[c][2] = s.sum[c][3] = 0;
    for (int u = 0; u < 2; u++) {
        s.max[u] = -INFINITY;
        s.total[u] = 0;
    }
}

/* The queries of a warp, for score(): held in registers where there is room. */
template <class F> struct queries {
    enum { HELD = F::WIDTH <= 128 };
    const half_t *at;
    uint32_t held[HELD ? F::STEPS : 1][4];

    __device__ void hold(int D)
    {
#pragma unroll
        for (int k = 0; HELD && k < F::STEPS; k++)
            if (16 * k < D) load_matrices(held[HELD ? k : 0], at + 16 * k);
    }

    __device__ void operator()(uint32_t (&to)[4], int step) const
    {
        if (!HELD) load_matrices(to, at + 16 * step);
        for (int i = 0; HELD && i < 4; i++) to[i] = held[HELD ? step : 0][i];
    }
};

/* A lane's two rows: of the batch, the head, and the position; -1: there is none, and it sees no key. */
struct lane_rows { int row[2], head[2], position[2], last; float slope[2]; };

template <class F>
__device__ static inline struct lane_rows rows_of_lane(const struct attention &a, const struct tile &t)
{
    struct lane_rows r;
    int first = (int)threadIdx.x / WARP * 16, last = (first + 15) / a.pack;
    r.last = first / a.pack < t.n ? t.position + (last < t.n ? last : t.n - 1) : -1;    /* of the warp */
    for (int u = 0; u < 2; u++) {
        int i = first + (int)threadIdx.x % WARP / 4 + 8 * u, token = i / a.pack;
        r.row[u] = t.row + token;
        r.head[u] = (int)blockIdx.y * a.pack + i % a.pack;
        r.position[u] = token < t.n ? t.position + token : -1;
        r.slope[u] = token < t.n ? a.slope(r.head[u]) : 0;
    }
    return r;
}

/* Scores become weights, 2^(score - max), with what earlier keys gave scaled to the new maximum. */
template <class F>
__device__ static inline void weigh(struct attended<F> &s, float (&score)[F::STREAM / 8][4], const struct attention &a,
                                    const struct lane_rows &r, int first)
{
    float most[2] = {s.max[0], s.max[1]}, factor[2], base[2], scale = a.scale * LOG2_E;
#pragma unroll
    for (int j = 0; j < F::STREAM / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int key = first + 8 * j + 2 * ((int)threadIdx.x % 4) + i % 2, distance = r.position[i / 2] - key;
            score[j][i] = !a.sees(distance) ? -INFINITY
                        : fmaf(score[j][i], scale, a.bias_by(r.slope[i / 2], distance, key, LOG2_E));
            most[i / 2] = fmaxf(most[i / 2], score[j][i]);
        }
#pragma unroll
    for (int u = 0; u < 2; u++) {
        most[u] = fmaxf(most[u], __shfl_xor_sync(ALL_LANES, most[u], 1));
        most[u] = fmaxf(most[u], __shfl_xor_sync(ALL_LANES, most[u], 2));
        base[u] = most[u] == -INFINITY ? 0 : most[u];
        factor[u] = exp2f(s.max[u] - base[u]);
        s.max[u] = most[u];
        s.total[u] *= factor[u];
    }
#pragma unroll
    for (int c = 0; c < F::WIDTH / 8; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) s.sum[c][i] *= factor[i / 2];
#pragma unroll
    for (int j = 0; j < F::STREAM / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            score[j][i] = exp2f(score[j][i] - base[i / 2]);
            s.total[i / 2] += score[j][i];
        }
}

/* The factors with which what earlier segments gave, and what one more gives, are added.  max, total: so far */
__device__ static inline void fold(float *max, float *total, float *factor, float *more_factor, float more_max,
                                   float more_total)
{
    float most = fmaxf(*max, more_max), base = most == -INFINITY ? 0 : most;
    *factor = exp2f(*max - base);
    *more_factor = exp2f(more_max - base);
    *total = fmaf(more_total, *more_factor, *total * *factor);
    *max = most;
}

/* What a segment gave is folded into `so_far`, of this thread alone. */
template <class F>
__device__ static inline void fold_segment(const struct attended<F> &s, float (&max)[2], float (&total)[2],
                                           float *so_far)
{
    float factor[2], more[2];
#pragma unroll
    for (int u = 0; u < 2; u++) fold(&max[u], &total[u], &factor[u], &more[u], s.max[u], s.total[u]);
    so_far += threadIdx.x;
#pragma unroll
    for (int c = 0; c < F::WIDTH / 8; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *to = so_far + (4 * c + i) * F::THREADS;
            *to = fmaf(s.sum[c][i], more[i / 2], *to * factor[i / 2]);
        }
}

/* What a segment gave goes to memory, for flash_combine. */
template <class F>
__device__ static inline void store_segment(const struct attended<F> &s, const struct attention &a,
                                            const struct lane_rows &r)
{
    int pair = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int u = 0; u < 2; u++) {
        if (r.position[u] < 0) continue;
        float *to = a.part_at(r.row[u], r.head[u], (int)blockIdx.z);
        if (pair == 0) {
            to[a.D] = s.max[u];
            to[a.D + 1] = s.total[u];
        }
#pragma unroll
        for (int c = 0; c < F::WIDTH / 8; c++) {
            if (8 * c >= a.D) break;
            to[8 * c + pair] = s.sum[c][2 * u];
            to[8 * c + pair + 1] = s.sum[c][2 * u + 1];
        }
    }
}

/* The end of a segment, and of the weights that other lanes have of its rows. */
template <class F>
__device__ static inline void end_segment(struct attended<F> &s, const struct attention &a, const struct lane_rows &r,
                                          float (&max)[2], float (&total)[2], float *so_far)
{
#pragma unroll
    for (int u = 0; u < 2; u++) {
        s.total[u] += __shfl_xor_sync(ALL_LANES, s.total[u], 1);
        s.total[u] += __shfl_xor_sync(ALL_LANES, s.total[u], 2);
    }
    if (a.part) {                               /* the only segment of this block */
        store_segment<F>(s, a, r);
        return;
    }
    fold_segment<F>(s, max, total, so_far);
    clear<F>(s);
}

/* The tile's rows against keys [from, to). */
template <class F>
__device__ static inline void attend_keys(const struct attention &a, const struct tile &t, const struct lane_rows &r,
                                          const struct queries<F> &q, float *so_far, half_t *stages,
                                          float (&max)[2], float (&total)[2], int from, int to)
{
    int g = (int)blockIdx.y * a.pack / (a.H / a.G);
    const half_t *k = a.offsets ? a.key(t.start, g) : a.cached(a.slots[t.row], g, 0);
    const half_t *v = a.offsets ? a.value(t.start, g) : a.cached(a.slots[t.row], g, 1);
    size_t ld = a.offsets ? a.width() : (size_t)a.D;
    auto load = [&](int j) {
        half_t *tile = stages + (j - from) / F::STREAM % 2 * 2 * F::STREAM_TILE;
        if (j < to) {
            load_rows<F>(tile, F::STREAM, to - j, a.D, [&](int i) { return k + (size_t)(j + i) * ld; });
            load_rows<F>(tile + F::STREAM_TILE, F::STREAM, to - j, a.D,
                         [&](int i) { return v + (size_t)(j + i) * ld; });
        }
        copies_close();
    };
    struct attended<F> s;
    clear<F>(s);
    load(from);
    for (int j = from; j < to; j += F::STREAM) {
        const half_t *tile = stages + (j - from) / F::STREAM % 2 * 2 * F::STREAM_TILE;
        load(j + F::STREAM);
        copies_wait<1>();
        __syncthreads();
        if (j <= r.last) {                      /* the whole warp */
            float weight[F::STREAM / 8][4];
            score<F>(weight, q, tile, a.D);
            weigh<F>(s, weight, a, r, j);
            accumulate<F, F::WIDTH>(s.sum, weight, tile + F::STREAM_TILE, 0, a.D);
        }
        if ((j + F::STREAM) % SEGMENT == 0 || j + F::STREAM >= to) end_segment<F>(s, a, r, max, total, so_far);
        __syncthreads();
    }
}

template <class F> static __global__ void __launch_bounds__(F::THREADS, 2) flash_attend(struct attention a)
{
    extern __shared__ uint4 memory[];
    float *so_far = (float *)memory, max[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    half_t *stages = (half_t *)(so_far + F::ROWS * F::WIDTH);
    half_t *own = queries<F>::HELD ? (half_t *)memory : stages + 4 * F::STREAM_TILE;
    struct tile t;
    int most = F::ROWS / a.pack;
    if (!(a.offsets ? tile_at(&t, a, (int)(gridDim.x - 1 - blockIdx.x), most)
                    : cached_tile_at(&t, a, (int)blockIdx.x, most))) return;            /* the whole block */
    int seen = t.position + t.n, from = a.part ? (int)blockIdx.z * SEGMENT : a.begin(t.position, SEGMENT);
    int to = a.part && from + SEGMENT < seen ? from + SEGMENT : seen;
    if (from >= seen) return;                   /* the whole block */
    struct lane_rows r = rows_of_lane<F>(a, t);
    load_rows<F>(own, F::ROWS, t.n * a.pack, a.D, [&](int i) {
        return a.query(t.row + i / a.pack, (int)blockIdx.y * a.pack + i % a.pack);
    });
    copies_close();
    copies_wait<0>();
    __syncthreads();
    struct queries<F> q;
    q.at = lane_of_a<F>(own + (int)threadIdx.x / WARP * 16 * F::LD);
    q.hold(a.D);
    __syncthreads();                            /* sums take the place of queries that are held */
    for (int i = 0; i < F::WIDTH / 2; i++) so_far[i * F::THREADS + (int)threadIdx.x] = 0;
    attend_keys<F>(a, t, r, q, so_far, stages, max, total, from, to);
    if (a.part) return;
#pragma unroll
    for (int u = 0; u < 2; u++) {
        if (r.position[u] < 0) continue;
        float factor = 1 / total[u];
        for (int c = 0; 8 * c < a.D; c++) {
            const float *two = so_far + (4 * c + 2 * u) * F::THREADS + (int)threadIdx.x;
            uint32_t y = pair_of(two[0] * factor, two[F::THREADS] * factor);
            memcpy((void *)(a.y + a.output(r.row[u], r.head[u]) + 8 * c + 2 * ((int)threadIdx.x % 4)), &y, sizeof y);
        }
        size_t at = (size_t)r.row[u] * (size_t)a.H + (size_t)r.head[u];
        if (a.lse && threadIdx.x % 4 == 0) a.lse[at] = (float)((double)max[u] * M_LN2 + log((double)total[u]));
    }
}

/* A warp a row and head: the segments it sees, folded in ascending order. */
static __global__ void flash_combine(struct attention a)
{
    size_t i = blockIdx.x * (size_t)WARPS + threadIdx.x / WARP;
    if (i >= (size_t)a.N * (size_t)a.H) return;         /* a whole warp */
    int row = (int)(i / (size_t)a.H), h = (int)(i % (size_t)a.H), lane = (int)threadIdx.x % WARP;
    float max = -INFINITY, total = 0, sum[FLASH_MOST / WARP] = {};
    for (int z = 0; z <= a.positions[row] / SEGMENT; z++) {
        const float *part = a.part_at(row, h, z);
        float factor, more;
        fold(&max, &total, &factor, &more, part[a.D], part[a.D + 1]);
#pragma unroll
        for (int c = 0; c < FLASH_MOST / WARP; c++)
            if (lane + WARP * c < a.D) sum[c] = fmaf(part[lane + WARP * c], more, sum[c] * factor);
    }
    float factor = 1 / total;
#pragma unroll
    for (int c = 0; c < FLASH_MOST / WARP; c++)
        if (lane + WARP * c < a.D) set(a.y + a.output(row, h) + lane + WARP * c, sum[c] * factor);
}

template <class F> static constexpr struct flash_launch variant()
{
    constexpr size_t shared = F::ROWS * F::WIDTH * sizeof(float) +
                              (4 * F::STREAM_TILE + (queries<F>::HELD ? 0 : F::OWN_TILE)) * sizeof(half_t);
    static_assert(shared <= SHARED_MOST && F::OWN_TILE * sizeof(half_t) <= F::ROWS * F::WIDTH * sizeof(float),
                  "shared memory");
    return {flash_attend<F>, F::THREADS, F::ROWS, shared};
}

/* Few rows: the segments are shared out, where there is more than one, and scratch for them. */
static bool shares_segments(const struct attention *a, int tiles)
{
    size_t floats = (size_t)a->N * (size_t)a->H * (size_t)a->segments * ((size_t)a->D + 2);
    return !a->offsets && a->segments > 1 && floats <= SCRATCH_FLOATS && tiles < 8 * cuda_multiprocessors();
}

bool flash_forward(const struct attention *given)
{
    static const struct flash_launch variants[3] = {variant<flash_64>(), variant<flash_128>(), variant<flash_256>()};
    struct attention a = *given;
    if (!flash_takes(a.D)) return false;
    const struct flash_launch *l = &variants[flash_variant(a.D)];
    a.pack = a.H / a.G <= l->rows ? a.H / a.G : 1;
    a.segments = (a.capacity + SEGMENT - 1) / SEGMENT;
    if (shares_segments(&a, a.N * (a.H / a.pack))) a.part = cuda_scratch();
    unsigned tiles = a.offsets ? tiles_of(&a, l->rows / a.pack) : (unsigned)a.N;
    flash_run(l, &a, dim3(tiles, (unsigned)(a.H / a.pack), a.part ? (unsigned)a.segments : 1), "flash_attend");
    if (!a.part) return true;
    flash_combine<<<blocks_of((size_t)a.N * (size_t)a.H, WARPS), BLOCK, 0, cuda_stream()>>>(a);
    cuda_launched("flash_combine");
    return true;
}

#endif
