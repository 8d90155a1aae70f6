/* flash_backward.cu (CUDA) - the gradients of attention on tensor cores, as attention_backward.cu has them: one kernel
 * with tiles of queries, and one with tiles of keys that goes through the queries of all heads of its group.  Both
 * compute the scores anew; no atomics, so the order of every sum is fixed.  Probabilities and their gradients are
 * rounded to bfloat16 before they weigh rows.
 * Source: Dao 2023, FlashAttention-2, alg. 2. */
#include "common/cuda/flash.h"

#ifdef ACT_BF16

/* What row i has of `own`, four fragments a step. */
template <class F> struct fragments {
    const half_t *at;
    __device__ void operator()(uint32_t (&to)[4], int step) const { load_matrices(to, at + 16 * step); }
};

template <class F> __device__ static inline struct fragments<F> own_rows(const half_t *tile)
{
    return {lane_of_a<F>(tile + (int)threadIdx.x / WARP * 16 * F::LD)};
}

/* ---- queries: dq = scale * sum over keys of ds k,  ds = p (dy . v - delta) ---- */

struct query_rows { int position[2]; float slope, lse[2], delta[2]; };

template <class F>
__device__ static inline void query_block(float (&sum)[F::WIDTH / 8][4], const struct attention &a,
                                          const struct query_rows &r, const half_t *own, const half_t *streamed,
                                          int key)
{
    float dot[F::STREAM / 8][4], ds[F::STREAM / 8][4];
    score<F>(dot, own_rows<F>(own), streamed, a.D);
    score<F>(ds, own_rows<F>(own + F::OWN_TILE), streamed + F::STREAM_TILE, a.D);
#pragma unroll
    for (int j = 0; j < F::STREAM / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = i / 2, k = key + 8 * j + 2 * ((int)threadIdx.x % 4) + i % 2, distance = r.position[u] - k;
            float x = fmaf(dot[j][i], a.scale * LOG2_E, a.bias_by(r.slope, distance, k, LOG2_E)) - r.lse[u];
            ds[j][i] = !a.sees(distance) ? 0 : exp2f(x) * (ds[j][i] - r.delta[u]);
        }
    accumulate<F, F::WIDTH>(sum, ds, streamed, 0, a.D);
}

template <class F> static __global__ void __launch_bounds__(F::THREADS, 2) flash_queries(struct attention a)
{
    extern __shared__ uint4 memory[];
    half_t *own = (half_t *)memory, *stages = own + 2 * F::OWN_TILE;
    int h = (int)blockIdx.y, g = h / (a.H / a.G), first = (int)threadIdx.x / WARP * 16;
    struct tile t;
    if (!tile_at(&t, a, (int)(gridDim.x - 1 - blockIdx.x), F::ROWS)) return;             /* the whole block */
    load_rows<F>(own, F::ROWS, t.n, a.D, [&](int i) { return a.query(t.row + i, h); });
    load_rows<F>(own + F::OWN_TILE, F::ROWS, t.n, a.D, [&](int i) { return a.dy + a.output(t.row + i, h); });
    int seen = t.position + t.n, last = first < t.n ? t.position + (first + 15 < t.n ? first + 15 : t.n - 1) : -1;
    auto load = [&](int j) {
        half_t *tile = stages + j / F::STREAM % 2 * 2 * F::STREAM_TILE;
        if (j < seen) {
            load_rows<F>(tile, F::STREAM, seen - j, a.D, [&](int i) { return a.key(t.start + j + i, g); });
            load_rows<F>(tile + F::STREAM_TILE, F::STREAM, seen - j, a.D,
                         [&](int i) { return a.value(t.start + j + i, g); });
        }
        copies_close();
    };
    int begin = a.begin(t.position, F::STREAM);
    load(begin);
    struct query_rows r;
    r.slope = a.slope(h);
    for (int u = 0; u < 2; u++) {
        int i = first + (int)threadIdx.x % WARP / 4 + 8 * u;
        size_t at = (size_t)(t.row + (i < t.n ? i : 0)) * (size_t)a.H + (size_t)h;
        r.position[u] = i < t.n ? t.position + i : -1;
        r.lse[u] = a.lse[at] * LOG2_E;
        r.delta[u] = a.delta[at];
    }
    float sum[F::WIDTH / 8][4] = {};
    for (int j = begin; j < seen; j += F::STREAM) {
        load(j + F::STREAM);
        copies_wait<1>();
        __syncthreads();
        if (j <= last) query_block<F>(sum, a, r, own, stages + j / F::STREAM % 2 * 2 * F::STREAM_TILE, j);
        __syncthreads();
    }
#pragma unroll
    for (int u = 0; u < 2; u++)
        if (r.position[u] >= 0) {
            size_t row = (size_t)(t.start + r.position[u]);
            store_channels<F::WIDTH>(a.dqkv + row * a.width() + (size_t)h * (size_t)a.D, sum, u, a.scale, 0, a.D);
        }
}

/* ---- keys: dk = scale * sum over queries of ds q,  dv = sum over queries of p dy ---- */

/* log-sums and deltas of the streamed queries, of both stages */
template <class F> struct streamed_rows { float lse[F::STREAM], delta[F::STREAM]; };

template <class F, int PART>
__device__ static inline void key_block(float (&dk)[PART / 8][4], float (&dv)[PART / 8][4], const struct attention &a,
                                        const struct streamed_rows<F> &r, const half_t *own, const half_t *streamed,
                                        float slope, int key, int query, int length)
{
    int channel = (int)blockIdx.z * PART, pair = 2 * ((int)threadIdx.x % 4);
    float p[F::STREAM / 8][4], ds[F::STREAM / 8][4];
    score<F>(p, own_rows<F>(own), streamed, a.D);
    score<F>(ds, own_rows<F>(own + F::OWN_TILE), streamed + F::STREAM_TILE, a.D);
#pragma unroll
    for (int j = 0; j < F::STREAM / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int column = 8 * j + pair + i % 2, k = key + 8 * (i / 2), distance = query + column - k;
            float x = fmaf(p[j][i], a.scale * LOG2_E, a.bias_by(slope, distance, k, LOG2_E)) - r.lse[column] * LOG2_E;
            p[j][i] = !a.sees(distance) || query + column >= length ? 0 : exp2f(x);
            ds[j][i] = !a.sees(distance) || query + column >= length ? 0 : p[j][i] * (ds[j][i] - r.delta[column]);
        }
    accumulate<F, PART>(dv, p, streamed + F::STREAM_TILE, channel, a.D);
    accumulate<F, PART>(dk, ds, streamed, channel, a.D);
}

/* PART channels of the gradients, those from blockIdx.z * PART on. */
template <class F, int PART> static __global__ void __launch_bounds__(F::THREADS, 2) flash_keys(struct attention a)
{
    extern __shared__ uint4 memory[];
    half_t *own = (half_t *)memory, *stages = own + 2 * F::OWN_TILE;
    struct streamed_rows<F> *rows = (struct streamed_rows<F> *)(stages + 4 * F::STREAM_TILE);
    int g = (int)blockIdx.y, group = a.H / a.G, first = (int)threadIdx.x / WARP * 16, i = (int)threadIdx.x % WARP / 4;
    struct tile t;
    if (!tile_at(&t, a, (int)blockIdx.x, F::ROWS)) return;                               /* the whole block */
    load_rows<F>(own, F::ROWS, t.n, a.D, [&](int i) { return a.key(t.row + i, g); });
    load_rows<F>(own + F::OWN_TILE, F::ROWS, t.n, a.D, [&](int i) { return a.value(t.row + i, g); });
    int last = t.position + t.n - 1, end = t.length - last > a.window ? last + a.window : t.length;     /* of queries */
    int blocks = (end - t.position + F::STREAM - 1) / F::STREAM;
    auto load = [&](int step) {
        half_t *tile = stages + step % 2 * 2 * F::STREAM_TILE;
        int h = g * group + step / blocks, from = t.position + step % blocks * F::STREAM, n = t.length - from;
        if (step < blocks * group) {
            load_rows<F>(tile, F::STREAM, n, a.D, [&](int i) { return a.query(t.start + from + i, h); });
            load_rows<F>(tile + F::STREAM_TILE, F::STREAM, n, a.D,
                         [&](int i) { return a.dy + a.output(t.start + from + i, h); });
            for (int i = (int)threadIdx.x; i < F::STREAM; i += F::THREADS) {
                size_t at = (size_t)(t.start + from + (i < n ? i : 0)) * (size_t)a.H + (size_t)h;
                copy_4(&rows[step % 2].lse[i], a.lse + at, i < n);
                copy_4(&rows[step % 2].delta[i], a.delta + at, i < n);
            }
        }
        copies_close();
    };
    float dk[PART / 8][4] = {}, dv[PART / 8][4] = {};
    load(0);
    for (int step = 0; step < blocks * group; step++) {
        int query = t.position + step % blocks * F::STREAM;
        load(step + 1);
        copies_wait<1>();
        __syncthreads();
        if (query + F::STREAM > t.position + first)     /* the whole warp: some query sees a key of it */
            key_block<F, PART>(dk, dv, a, rows[step % 2], own, stages + step % 2 * 2 * F::STREAM_TILE,
                               a.slope(g * group + step / blocks), t.position + first + i, query, t.length);
        __syncthreads();
    }
#pragma unroll
    for (int u = 0; u < 2; u++) {
        if (first + i + 8 * u >= t.n) continue;
        half_t *to = a.dqkv + (size_t)(t.row + first + i + 8 * u) * a.width() + (size_t)(a.H + g) * (size_t)a.D;
        store_channels<PART>(to, dk, u, a.scale, (int)blockIdx.z * PART, a.D);
        store_channels<PART>(to + (size_t)a.G * (size_t)a.D, dv, u, 1, (int)blockIdx.z * PART, a.D);
    }
}

template <class F> static constexpr size_t shared_bytes()
{
    constexpr size_t bytes = (2 * F::OWN_TILE + 4 * F::STREAM_TILE) * sizeof(half_t) +
                             2 * sizeof(struct streamed_rows<F>);
    static_assert(bytes <= SHARED_MOST, "shared memory");
    return bytes;
}

template <class F> static constexpr struct flash_launch launch_of(attention_kernel *kernel)
{
    return {kernel, F::THREADS, F::ROWS, shared_bytes<F>()};
}

bool flash_backward(const struct attention *a)
{
    static const struct flash_launch of_queries[3] = {launch_of<flash_64>(flash_queries<flash_64>),
        launch_of<flash_128>(flash_queries<flash_128>), launch_of<flash_256>(flash_queries<flash_256>)};
    static const struct flash_launch of_keys[3] = {launch_of<flash_64>(flash_keys<flash_64, 64>),
        launch_of<flash_128>(flash_keys<flash_128, 128>), launch_of<flash_256>(flash_keys<flash_256, 128>)};
    static const unsigned parts[3] = {1, 1, 2};
    if (!flash_takes(a->D)) return false;
    int v = flash_variant(a->D);
    unsigned tiles = tiles_of(a, of_queries[v].rows);
    flash_run(&of_queries[v], a, dim3(tiles, (unsigned)a->H), "flash_queries");
    flash_run(&of_keys[v], a, dim3(tiles, (unsigned)a->G, parts[v]), "flash_keys");
    return true;
}

#endif
