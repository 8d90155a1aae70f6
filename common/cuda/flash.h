/* flash.h - attention on tensor cores, for bfloat16 and heads of up to 256 channels in eights; attention.h has the
 * rest.  A block has a tile of 16 rows per warp and streams the others past them, STREAM at a time, each block of
 * rows on its way to shared memory while the one before it is computed.
 *
 * A tile begins at a fixed position of its sequence, and so does every block of streamed rows; masked elements add
 * exact zeros.  So a row's bits depend on its own sequence alone.
 * Where sm_90 offers more - wgmma, which reads operands from shared memory, and bulk copies by one thread - it would
 * take the place of these loads and products; registers for two tiles in flight would become free. */
#ifndef QUARTET_CUDA_FLASH_H
#define QUARTET_CUDA_FLASH_H

#include "common/cuda/attention.h"
#include "common/cuda/tensor.h"

enum { FLASH_MOST = 256, SEGMENT = 256, SHARED_MOST = 99 << 10 };
#define LOG2_E 1.44269504f

/* False where the plain kernels must do it: in float32, or for other heads. */
#ifndef ACT_BF16
static inline bool flash_forward(const struct attention *a) { (void)a; return false; }
static inline bool flash_backward(const struct attention *a) { (void)a; return false; }
#else
bool flash_forward(const struct attention *a);
bool flash_backward(const struct attention *a);
static inline bool flash_takes(int D) { return D % 8 == 0 && D <= FLASH_MOST; }


/* What follows from the channels a head may have.  Shared memory, in half_t: rows of LD, so that the 8 rows of a
 * matrix lie in different banks; [2 own tiles of ROWS rows][two stages: each 2 tiles of STREAM rows]. */
template <int WIDTH_, int WARPS_, int STREAM_> struct flash {
    enum { WIDTH = WIDTH_, STREAM = STREAM_, ROWS = WARPS_ * 16, THREADS = WARPS_ * WARP,
           LD = WIDTH_ + 8, STEPS = WIDTH_ / 16, OWN_TILE = ROWS * LD, STREAM_TILE = STREAM_ * LD };
};
typedef flash<64, 4, 64> flash_64;
typedef flash<128, 4, 32> flash_128;
typedef flash<256, 2, 16> flash_256;

/* Rows of one sequence (or of one slot of the cache): `n` tokens, the first at `row` of the batch and `position` of
 * its sequence, which begins at row `start` and has `length` rows (no use of these with the cache). */
struct tile { int row, n, position, start, length; };

/* The tile of `most` tokens that block `index` has.  Sequence s owns the blocks from offsets[s] / most + s to before
 * offsets[s + 1] / most + s + 1: at least as many as it has tiles.  False: this block has none. */
__device__ static inline bool tile_at(struct tile *t, const struct attention &a, int index, int most)
{
    int low = 0, high = a.S;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (a.offsets[middle] / most + middle <= index) low = middle;
        else high = middle;
    }
    t->start = a.offsets[low];
    t->length = a.offsets[low + 1] - t->start;
    t->position = (index - t->start / most - low) * most;
    t->row = t->start + t->position;
    t->n = t->length - t->position < most ? t->length - t->position : most;
    return t->position < t->length;
}

static inline unsigned tiles_of(const struct attention *a, int most) { return (unsigned)(a->N / most + a->S); }

/* With the cache: row `index` begins a tile where its slot begins, or its position is a multiple of `most`. */
__device__ static inline bool cached_tile_at(struct tile *t, const struct attention &a, int index, int most)
{
    int slot = a.slots[index], position = a.positions[index];
    if (index > 0 && a.slots[index - 1] == slot && position % most != 0) return false;
    *t = {index, 1, position, 0, 0};
    while (index + t->n < a.N && a.slots[index + t->n] == slot && (position + t->n) % most != 0) t->n++;
    return true;
}

/* rows (count, LD) = `there` rows of D channels at distance ld, zeros beyond up to a multiple of 16 channels; `at`
 * finds row i.  The copies are under way when the call returns. */
template <class F, class At> __device__ static inline void load_rows(half_t *rows, int count, int there, int D, At at)
{
    int pieces = (D + 15) / 16 * 2;
    for (int i = (int)threadIdx.x; i < count * pieces; i += F::THREADS) {
        int row = i / pieces, d = i % pieces * 8;
        bool use = row < there && d < D;
        copy_16(rows + row * F::LD + d, at(use ? row : 0) + (use ? d : 0), use);
    }
}

/* Where a lane's row lies for load_matrices and load_turned, in an operand of 16 rows that is a, or b turned; and in
 * a b of 16 columns, which are rows of the memory. */
template <class F> __device__ static inline const half_t *lane_of_a(const half_t *rows)
{
    int lane = (int)threadIdx.x % WARP;
    return rows + lane % 16 * F::LD + lane / 16 * 8;
}

template <class F> __device__ static inline const half_t *lane_of_b(const half_t *rows)
{
    int lane = (int)threadIdx.x % WARP;
    return rows + (lane % 8 + lane / 16 * 8) * F::LD + lane / 8 % 2 * 8;
}

/* c (16,STREAM) = own (16,D) streamed (STREAM,D)^T.   a: own's fragments of 16 channels at a time, by step */
template <class F, class A>
__device__ static inline void score(float (&c)[F::STREAM / 8][4], const A &a, const half_t *streamed, int D)
{
    const half_t *b_at = lane_of_b<F>(streamed);
#pragma unroll
    for (int j = 0; j < F::STREAM / 8; j++) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0;
#pragma unroll
    for (int k = 0; k < F::STEPS; k++) {
        if (16 * k >= D) break;
        uint32_t own[4];
        a(own, k);
#pragma unroll
        for (int j = 0; j < F::STREAM / 16; j++) {
            uint32_t b[4];
            load_matrices(b, b_at + 16 * j * F::LD + 16 * k);
            multiply_add(c[2 * j], own, b[0], b[1]);
            multiply_add(c[2 * j + 1], own, b[2], b[3]);
        }
    }
}

/* sum (16,CHANNELS) += weight (16,STREAM) streamed (STREAM, channels [first, first + CHANNELS) below D). */
template <class F, int CHANNELS>
__device__ static inline void accumulate(float (&sum)[CHANNELS / 8][4], const float (&weight)[F::STREAM / 8][4],
                                         const half_t *streamed, int first, int D)
{
    const half_t *b_at = lane_of_a<F>(streamed) + first;
#pragma unroll
    for (int j = 0; j < F::STREAM / 16; j++) {
        const float *low = weight[2 * j], *high = weight[2 * j + 1];
        uint32_t a[4] = {pair_of(low[0], low[1]), pair_of(low[2], low[3]), pair_of(high[0], high[1]),
                         pair_of(high[2], high[3])};
#pragma unroll
        for (int c = 0; c < CHANNELS / 16; c++) {
            if (first + 16 * c >= D) break;
            uint32_t b[4];
            load_turned(b, b_at + 16 * j * F::LD + 16 * c);
            multiply_add(sum[2 * c], a, b[0], b[1]);
            multiply_add(sum[2 * c + 1], a, b[2], b[3]);
        }
    }
}

/* to[first + c] = sum of the channel * factor, for a lane's channels below D of one of its two rows. */
template <int CHANNELS>
__device__ static inline void store_channels(half_t *to, const float (&sum)[CHANNELS / 8][4], int upper, float factor,
                                             int first, int D)
{
    int pair = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int c = 0; c < CHANNELS / 8; c++) {
        if (first + 8 * c >= D) break;
        uint32_t two = pair_of(sum[c][2 * upper] * factor, sum[c][2 * upper + 1] * factor);
        memcpy((void *)(to + first + 8 * c + pair), &two, sizeof two);
    }
}

/* A kernel for heads of up to 64, 128 or 256 channels. */
struct flash_launch { attention_kernel *kernel; int threads, rows; size_t shared; };
static inline int flash_variant(int D) { return D <= 64 ? 0 : D <= 128 ? 1 : 2; }

static inline void flash_run(const struct flash_launch *l, const struct attention *a, dim3 grid, const char *name)
{
    attention_kernel *kernel = l->kernel;
    cuda_check(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)l->shared),
               name);
    kernel<<<grid, (unsigned)l->threads, l->shared, cuda_stream()>>>(*a);
    cuda_launched(name);
}

#endif
#endif
