/* tile_bf16.c (CPU) - products of bfloat16, see product_tile.h.
 *
 * The panels hold two steps of a column in one word, as vdpbf16ps reads them.  It adds the product of the odd step to
 * the sum, then that of the even one; a product of two bfloat16 is exact in float32, so fused or not is the same.
 * Denormals it takes and gives as 0.  Where the processor lacks it, the halves are widened to float32, which is exact,
 * and added in the same order: only denormals differ.  AMX (tile_amx.c) adds in another order.  Which loop runs is
 * decided once.
 * Source: Intel, Architecture Instruction Set Extensions Programming Reference, VDPBF16PS. */
#include "common/cpu/tile_amx.h"

#ifdef ACT_BF16
#include <stdlib.h>

INLINE uint32_t word_at(const act_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

INLINE vf low_half(vu w) { return (vf)(w << 16); }
INLINE vf high_half(vu w) { return (vf)(w & 0xffff0000u); }

/* The two steps of row r: words of a strip, or of rows, whose last may have one step only. */
INLINE uint32_t pair_at(const act_t *a, size_t lda, bool packed, int rows, int r, int k, int n)
{
    if (packed) return word_at(a + 2 * ((size_t)(k / 2) * (size_t)rows + (size_t)r));
    const act_t *at = a + (size_t)r * lda + k;
    return k + 1 < n ? word_at(at) : at->bits;
}

enum { PAIR_ROWS = 8 };                                     /* the height of both tiles here */

/* ---- widened: 2 vectors of columns, up to 4 rows ---- */

INLINE void widened(const int rows, bool packed, float *out, size_t ldo, const float *before, size_t ldb,
                    const act_t *a, size_t lda, int strip, const act_t *b, int n)
{
    vf sum[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = v_set(0);
    for (int k = 0; k < n; k += 2, b += 2 * PANEL) {
        vu w0 = *(const vu *)b, w1 = *(const vu *)(b + 2 * VW);
        vf low0 = v_pin(low_half(w0)), low1 = v_pin(low_half(w1));
        vf high0 = v_pin(high_half(w0)), high1 = v_pin(high_half(w1));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vu x = pair_at(a, lda, packed, strip, r, k, n) - (vu){0};
            vf low = low_half(x), high = high_half(x);
            sum[r][0] += high * high0;
            sum[r][1] += high * high1;
            sum[r][0] += low * low0;
            sum[r][1] += low * low1;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        if (before) {
            sum[r][0] = v_load(before + (size_t)r * ldb) + sum[r][0];
            sum[r][1] = v_load(before + (size_t)r * ldb + VW) + sum[r][1];
        }
        v_store(out + (size_t)r * ldo, sum[r][0]);
        v_store(out + (size_t)r * ldo + VW, sum[r][1]);
    }
}

static void tile_widened(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda,
                         bool packed, const act_t *b, int rows, int n)
{
    for (int c = 0; c < PANEL; c += 2 * VW)
        for (int r = 0; r < rows; r += 4) {
            float *o = out + (size_t)r * ldo + c;
            const float *x = before ? before + (size_t)r * ldb + c : NULL;
            const act_t *p = packed ? a + 2 * r : a + (size_t)r * lda, *q = b + 2 * c;
            switch (rows - r) {
            case 1: widened(1, packed, o, ldo, x, ldb, p, lda, rows, q, n); break;
            case 2: widened(2, packed, o, ldo, x, ldb, p, lda, rows, q, n); break;
            case 3: widened(3, packed, o, ldo, x, ldb, p, lda, rows, q, n); break;
            default: widened(4, packed, o, ldo, x, ldb, p, lda, rows, q, n);
            }
        }
}

/* ---- vdpbf16ps: the whole panel, up to 8 rows ---- */

#if defined(__x86_64__)
#define WITH_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

static inline __attribute__((always_inline)) WITH_DOT void dots(const int rows, bool packed, float *out, size_t ldo,
                                                               const float *before, size_t ldb, const act_t *a,
                                                               size_t lda, const act_t *b, int n)
{
    enum { AHEAD = 32 };
    __m512 sum[PAIR_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (int k = 0; k < n; k += 2, b += 2 * PANEL) {
        if (rows > 4) {
            __builtin_prefetch(b + 2 * PANEL * AHEAD, 0, 2);
            __builtin_prefetch(b + 2 * PANEL * AHEAD + 32, 0, 2);
        }
        __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 32);
        __asm__("" : "+v"(b0), "+v"(b1));                    /* stay in registers */
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512i x = _mm512_set1_epi32((int)pair_at(a, lda, packed, rows, r, k, n));
            __asm__ volatile("" : "+v"(x));                  /* one after the other */
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], (__m512bh)x, (__m512bh)b0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], (__m512bh)x, (__m512bh)b1);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        if (before) {
            sum[r][0] = _mm512_add_ps(_mm512_loadu_ps(before + (size_t)r * ldb), sum[r][0]);
            sum[r][1] = _mm512_add_ps(_mm512_loadu_ps(before + (size_t)r * ldb + 16), sum[r][1]);
        }
        _mm512_storeu_ps(out + (size_t)r * ldo, sum[r][0]);
        _mm512_storeu_ps(out + (size_t)r * ldo + 16, sum[r][1]);
    }
}

static WITH_DOT void tile_dots(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda,
                               bool packed, const act_t *b, int rows, int n)
{
#define CASE(R) \
    case R: \
        if (packed) dots(R, true, out, ldo, before, ldb, a, lda, b, n); \
        else dots(R, false, out, ldo, before, ldb, a, lda, b, n); \
        break
    switch (rows) { CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8); }
#undef CASE
}

static WITH_DOT int dot_chains(volatile float *sink, int steps)
{
    enum { CHAINS = 12 };
    __m512 sum[CHAINS];
    __m512i x = _mm512_set1_epi32(0x3f800000);               /* 0 and 1 */
#pragma GCC unroll 16                                        /* else the sums lie in memory */
    for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_set1_ps((float)c);
    for (int s = 0; s < steps; s++)
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            sum[c] = _mm512_dpbf16_ps(sum[c], (__m512bh)x, (__m512bh)x);
            __asm__("" : "+v"(sum[c]));
        }
#pragma GCC unroll 16
    for (int c = 1; c < CHAINS; c++) sum[0] = _mm512_add_ps(sum[0], sum[c]);
    if (_mm512_reduce_add_ps(sum[0]) == 0.5f) *sink = 1;
    return 32 * CHAINS;
}
#endif

/* ---- strips of pairs, for both ---- */

/* Whole words are moved as floats are, by the same transposes; a row that begins at an odd element, and the last of an
 * odd number of steps, one by one. */
static void pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    int words = ld % 2 == 0 && (uintptr_t)from % 4 == 0 ? n / 2 : 0;
    if (words) tile_pack_strip((float *)(void *)to, (const float *)(const void *)from, ld / 2, rows, words);
    to += 2 * words * rows;
    for (int k = 2 * words; k < n; k += 2)
        for (int r = 0; r < rows; r++, to += 2) {
            const act_t *at = from + (size_t)r * ld + k;
            to[0] = at[0];
            to[1] = k + 1 < n ? at[1] : (act_t){0};
        }
}

static void pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    for (int k = 0; k < n; k += 2) steps_copy(to + k * rows, from + (size_t)k * ld, ld, rows, n - k);
}

/* ---- the choice ---- */

struct tile {
    const char *name, *wish;        /* wish: QUARTET_TILE, for tests */
    bool (*usable)(void);
    int height, whole;              /* rows; a strip's are a multiple of `whole` */
    void (*product)(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda, bool packed,
                    const act_t *b, int rows, int n);
    void (*pack_strip)(act_t *to, const act_t *from, size_t ld, int rows, int n);
    void (*pack_columns)(act_t *to, const act_t *from, size_t ld, int rows, int n);
    int (*chains)(volatile float *sink, int steps);
    void (*end)(void);
};

#if defined(__x86_64__)
static bool has_dots(void) { return __builtin_cpu_supports("avx512bf16"); }
#endif
static bool always(void) { return true; }
static int no_chains(volatile float *sink, int steps) { (void)sink, (void)steps; return 0; }
static void nothing(void) {}

/* From the fastest on. */
static const struct tile tiles[] = {
#if defined(__x86_64__)
    {"AMX", "amx", tile_amx_usable, STRIP, AMX_ROWS, tile_amx, tile_amx_pack_strip, tile_amx_pack_columns,
     tile_amx_chains, tile_amx_end},
    {"AVX512-BF16", "dots", has_dots, PAIR_ROWS, 1, tile_dots, pack_strip, pack_columns, dot_chains, nothing},
#endif
    {"widened to float32", "widened", always, PAIR_ROWS, 1, tile_widened, pack_strip, pack_columns, no_chains, nothing},
};

static const struct tile *tile(void)
{
    static const struct tile *chosen;
    const struct tile *t = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (t) return t;
    const char *wish = getenv("QUARTET_TILE");
    t = tiles;
    for (const struct tile *w = tiles; wish && w < tiles + sizeof tiles / sizeof *tiles; w++)
        if (strcmp(w->wish, wish) == 0) t = w;
    while (!t->usable()) t++;
    __atomic_store_n(&chosen, t, __ATOMIC_RELAXED);
    return t;
}

const char *product_tile_name(void) { return tile()->name; }
int product_height(void) { return tile()->height; }
int product_strip_rows(int rows) { return (int)tile_round((size_t)rows, (size_t)tile()->whole); }
int product_chains(volatile float *sink, int steps) { return tile()->chains(sink, steps); }
void product_end(void) { tile()->end(); }

void product_tile(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda, bool packed,
                  const act_t *b, int rows, int n)
{
    tile()->product(out, ldo, before, ldb, a, lda, packed, b, rows, n);
}

void product_pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    tile()->pack_strip(to, from, ld, rows, n);
}

void product_pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    tile()->pack_columns(to, from, ld, rows, n);
}

/* ---- packing for all ---- */

void product_pack_weights(act_t *to, const float *from, size_t ld, int columns, int n, int ahead)
{
    enum { PIECE = 64 };
    float piece[PIECE * PANEL];
    const float *at = from;
    for (int k = 0; k < n; k += PIECE, at += PIECE) {
        int m = n - k < PIECE ? n - k : PIECE;
        if (m % 2) memset(piece + m * PANEL, 0, PANEL * sizeof *piece);
        for (int c = 0; c < PANEL; c += TILE_COLUMNS) {
            int width = columns - c < TILE_COLUMNS ? columns - c : TILE_COLUMNS;
            float part[PIECE * TILE_COLUMNS];
            if (width > 0) tile_pack_transposed(part, at + (size_t)c * ld, ld, width, m, ahead);
            else memset(part, 0, sizeof part);
            for (int z = 0; z < m; z++)
                memcpy(piece + z * PANEL + c, part + z * TILE_COLUMNS, TILE_COLUMNS * sizeof *part);
        }
        for (int z = 0; z < m; z += 2)
            for (int c = 0; c < PANEL; c += VW, to += 2 * VW) {
                const float *even = piece + z * PANEL + c;
                *(vu *)to = v_round_act(v_load(even)) | v_round_act(v_load(even + PANEL)) << 16;
            }
    }
}

void product_pack_turned(act_t *to, const act_t *from, int columns, int n)
{
    typedef uint16_t v8 __attribute__((vector_size(16), aligned(2), may_alias));
    typedef uint64_t v2 __attribute__((vector_size(16)));
    enum { LD = 2 * PANEL };
    for (int z = 0; z < n; z += 2, to += LD) {
        int i = 0;
        for (; i + 4 <= columns; i += 4) {           /* two squares of 2 x 2, four neighbours each */
            const act_t *at = from + i / 2 * LD + 2 * z;
            uint64_t upper, lower;
            memcpy(&upper, at, sizeof upper);
            memcpy(&lower, at + LD, sizeof lower);
            v8 x = (v8)(v2){upper, lower};
            *(v8 *)(to + 2 * i) = __builtin_shufflevector(x, x, 0, 2, 1, 3, 4, 6, 5, 7);
        }
        for (; i < PANEL; i++) {
            const act_t *at = from + i / 2 * LD + 2 * z + i % 2;            /* step z of column i */
            to[2 * i] = i < columns ? at[0] : (act_t){0};
            to[2 * i + 1] = i < columns ? at[2] : (act_t){0};
        }
    }
}

/* Words of two steps are transposed. */
void product_pack_transposed(act_t *to, const act_t *from, size_t ld, int columns, int n)
{
    int pairs = ld % 2 == 0 && (uintptr_t)from % 4 == 0 ? n / 2 : 0;
    if (columns < PANEL) memset(to, 0, whole_steps(n) * PANEL * sizeof *to);
    if (pairs) tile_turn((float *)(void *)to, PANEL, (const float *)(const void *)from, ld / 2, columns, pairs);
    for (int k = 2 * pairs; k < n; k += 2)
        for (int c = 0; c < columns; c++) {
            const act_t *at = from + (size_t)c * ld + k;
            act_t *word = to + (size_t)k * PANEL + 2 * c;
            word[0] = at[0];
            word[1] = k + 1 < n ? at[1] : (act_t){0};
        }
}

void product_widen_panel(float *to, const act_t *from, size_t ld, int columns, int n)
{
    for (int k = 0; k < n; k++, to += TILE_COLUMNS, from += ld) {
        if (columns == TILE_COLUMNS) {
            v_store(to, act_load(from, VW));
            v_store(to + VW, act_load(from + VW, VW));
        } else {
            for (int c = 0; c < TILE_COLUMNS; c++) to[c] = c < columns ? act_get(from[c]) : 0;
        }
    }
}
#else
typedef int tile_bf16_is_empty;
#endif
