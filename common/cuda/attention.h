/* attention.h - what the attention kernels share.  A block has a tile of ROWS rows per warp (queries; or keys, in the
 * gradient of keys and values) and streams the others past them, KEYS at a time and CHUNK channels at a time.
 *
 * A lane has one of the KEYS streamed rows while products over channels are formed, and CHANNELS channels while rows
 * are added up.  Both sums are single ascending chains, so that a row's bits depend neither on the tile it lies in nor
 * on its neighbours, and decoding repeats those of training. */
#ifndef QUARTET_CUDA_ATTENTION_H
#define QUARTET_CUDA_ATTENTION_H

#include "common/cuda/kernel.h"

#include <limits.h>
#include <string.h>

enum { ATTENTION_WARPS = 4, ATTENTION_THREADS = ATTENTION_WARPS * WARP, KEYS = WARP, CHUNK = 64, HEAD_MOST = 1024 };

/* To the nearest bfloat16, ties to even; of finite numbers, in a float. */
__device__ static inline float to_bf16(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct attention {
    act_t *y, *dqkv, *cache;
    const act_t *qkv, *dy;
    float *lse, *delta;
    const float *slopes;
    const int *offsets;                     /* (S+1), or NULL: rows of the cache */
    const int *slots, *positions;           /* (N), with the cache */
    int S, N, H, G, D, capacity;
    int window;                             /* a query sees keys at distances below; no window: INT_MAX */
    bool rounded;
    float scale;
    float *part;                            /* flash.cu: what each segment of keys gives; NULL: nobody wants it apart */
    int segments, pack;                     /* segments of keys, heads of a tile */

    __device__ size_t width() const { return (size_t)(H + 2 * G) * (size_t)D; }
    __device__ const act_t *query(int row, int h) const { return qkv + (size_t)row * width() + (size_t)h * (size_t)D; }
    __device__ const act_t *key(int row, int g) const { return query(row, H + g); }
    __device__ const act_t *value(int row, int g) const { return query(row, H + G + g); }
    __device__ size_t output(int row, int h) const { return ((size_t)row * (size_t)H + (size_t)h) * (size_t)D; }
    __device__ float slope(int h) const { return slopes ? slopes[h] : 0; }
    __device__ bool sees(int distance) const { return distance >= 0 && distance < window; }
    /* The first key that is seen from a position, down to a multiple of `block`. */
    __device__ int begin(int position, int block) const
    {
        return position < window ? 0 : (position - window + 1) / block * block;
    }
    /* What is added to the scaled score of a key; unit: of the score's logarithm. */
    __device__ float bias(int h, int distance, int key) const { return bias_by(slope(h), distance, key, 1); }
    __device__ float bias_by(float slope, int distance, int key, float unit) const
    {
        return rounded ? to_bf16(slope * to_bf16((float)key)) * (scale * unit) : -(slope * unit * (float)distance);
    }
    /* The keys of a slot, then its values. */
    __device__ act_t *cached(int slot, int g, int values) const
    {
        return cache + (((size_t)slot * (size_t)G + (size_t)g) * 2 + (size_t)values) * (size_t)capacity * (size_t)D;
    }
    /* (D) sums, then the maximum and the sum of the weights. */
    __device__ float *part_at(int row, int h, int segment) const
    {
        return part + (((size_t)row * (size_t)H + (size_t)h) * (size_t)segments + (size_t)segment) * ((size_t)D + 2);
    }
};

/* Rows of one sequence that lie in one tile: [first, end), the first at `position`; the sequence begins at row `start`
 * of the batch and has `length` rows (both of no use with the cache). */
struct run { int first, end, position, start, length; };

__device__ static inline struct run run_at(const struct attention &a, int first, int tile_end)
{
    struct run r = {first, first + 1, 0, 0, 0};
    if (!a.offsets) {
        r.position = a.positions[first];
        while (r.end < tile_end && a.slots[r.end] == a.slots[first]) r.end++;
        return r;
    }
    int low = 0, high = a.S;                /* the last sequence with offsets[s] <= first */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (a.offsets[middle] <= first) low = middle;
        else high = middle;
    }
    r.start = a.offsets[low];
    r.length = a.offsets[low + 1] - r.start;
    r.position = first - r.start;
    r.end = r.start + r.length < tile_end ? r.start + r.length : tile_end;
    return r;
}

/* The streamed rows: `n` of them at distance ld, `channels` channels from `from` on; zeros beyond.  Its barriers also
 * order what the warps wrote to shared memory before, own rows and weights, and what they read of it after. */
typedef float tile_t[KEYS][CHUNK + 1];

__device__ static inline void load_tile(tile_t &tile, const act_t *from, size_t ld, int n, int channels)
{
    __syncthreads();
    for (int i = (int)threadIdx.x; i < KEYS * CHUNK; i += ATTENTION_THREADS) {
        int j = i / CHUNK, d = i % CHUNK;
        tile[j][d] = j < n && d < channels ? to_float(from[(size_t)j * ld + (size_t)d]) : 0;
    }
    __syncthreads();
}

/* The tile's own rows.   to (rows, WIDTH) */
template <int WIDTH> __device__ static inline void load_row(float *to, const act_t *from, int D)
{
    for (int d = (int)threadIdx.x % WARP; d < WIDTH; d += WARP) to[d] = from && d < D ? to_float(from[d]) : 0;
}

/* dot[r] = own row r of this warp . streamed row of this lane.   own: of this warp, (ROWS, WIDTH) */
template <int ROWS, int WIDTH>
__device__ static inline void dots(float (&dot)[ROWS], const float (*own)[WIDTH], tile_t &tile, const act_t *from,
                                   size_t ld, int n, int D)
{
    for (int r = 0; r < ROWS; r++) dot[r] = 0;
    for (int first = 0; first < D; first += CHUNK) {
        int channels = D - first < CHUNK ? D - first : CHUNK;
        load_tile(tile, from + first, ld, n, channels);
        for (int d = 0; d < channels; d++) {
            float x = tile[threadIdx.x % WARP][d];
            for (int r = 0; r < ROWS; r++) dot[r] = fmaf(own[r][first + d], x, dot[r]);
        }
    }
}

/* sum[r, c] += weight[r, j] * streamed row j, for the channels of this lane: lane + WARP * c.  weight: of this warp */
template <int ROWS, int CHANNELS>
__device__ static inline void add_rows(float (&sum)[ROWS][CHANNELS], const float (*weight)[KEYS], tile_t &tile,
                                       const act_t *from, size_t ld, int n, int D)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int part = 0; part < CHANNELS / 2; part++) {
        int first = part * CHUNK;
        if (first >= D) break;
        load_tile(tile, from + first, ld, n, D - first < CHUNK ? D - first : CHUNK);
        for (int j = 0; j < n; j++) {
            float x0 = tile[j][lane], x1 = tile[j][lane + WARP];
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                sum[r][2 * part] = fmaf(weight[r][j], x0, sum[r][2 * part]);
                sum[r][2 * part + 1] = fmaf(weight[r][j], x1, sum[r][2 * part + 1]);
            }
        }
    }
}

/* to[d] = sum of the channel * factor, for the lane's channels below D. */
template <int CHANNELS>
__device__ static inline void store_row(act_t *to, const float (&sum)[CHANNELS], float factor, int D)
{
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) {
        int d = (int)threadIdx.x % WARP + WARP * c;
        if (d < D) set(to + d, sum[c] * factor);
    }
}

static inline void attention_see(struct attention *a, const struct sight *s)
{
    a->slopes = s->slopes;
    a->rounded = s->rounded;
    a->window = s->window ? s->window : INT_MAX;
}

/* Rows per warp and channels per lane of the four variants of a kernel: as many rows as registers and shared memory
 * allow. */
typedef void attention_kernel(struct attention a);
#define ATTENTION_VARIANTS(kernel) {kernel<4, 2>, kernel<4, 4>, kernel<2, 8>, kernel<1, 32>}
static const int attention_rows[4] = {4, 4, 2, 1}, attention_channels[4] = {2, 4, 8, 32};

/* Tiles of all N rows, for each of `heads` heads. */
static inline void attention_launch(attention_kernel *const variants[4], const struct attention &a, int heads,
                                    const char *name)
{
    int v = 0;
    if (a.D > HEAD_MOST) die("heads of %d channels, and %d are the most", a.D, (int)HEAD_MOST);
    while (a.D > attention_channels[v] * WARP) v++;
    attention_kernel *kernel = variants[v];
    dim3 grid(blocks_of((size_t)a.N, (size_t)(attention_rows[v] * ATTENTION_WARPS)), (unsigned)heads);
    if (a.N == 0) return;
    kernel<<<grid, ATTENTION_THREADS, 0, cuda_stream()>>>(a);
    cuda_launched(name);
}

#endif
