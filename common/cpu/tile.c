/* tile.c (CPU) - see tile.h.  One template, inlined for every number of rows, so that all sums live in registers.
 * Vectors of b are pinned by an empty asm: gcc 12 otherwise folds the load into every multiply-add, twelve loads
 * instead of one.  Those of a are taken in turn: it otherwise loads them all first, and with 16 registers spills
 * sums. */
#include "common/cpu/tile.h"

/* AHEAD: steps of b to fetch ahead; with few rows the hardware's own fetching does best.  SOON: the same where all of
 * them may lie in the same lines of a cache */
enum { AHEAD = 64, SOON = 16, HARDWARE_ROWS = 4, UNROLL = 2, LINE = 16 };

/* Where a(r, k) and b lie: see tile_rows, tile_columns, tile_plain and tile_turned. */
enum walk { ROWS, COLUMNS, PLAIN, TURNED };

/* `steps` steps of all chains.   stride: from step to step of b.   next: floats to fetch on the way, `further` from step
 * to step, or NULL */
INLINE void advance(const int rows, const int vectors, const enum walk walk, vf sum[][2], const float *a, size_t lda,
                    const float *b, size_t stride, int steps, const float *next, size_t further)
{
    const bool columns = walk == COLUMNS || walk == PLAIN;
#pragma GCC unroll UNROLL
    for (int k = 0; k < steps; k++) {
        for (int line = 0; line < vectors * VW; line += LINE)
            if (walk == PLAIN) __builtin_prefetch(b + SOON * stride + line, 0, 3);
            else if (rows > HARDWARE_ROWS) __builtin_prefetch(b + AHEAD * stride + line, 0, 2);
        if (next) __builtin_prefetch(next + (size_t)k * further);
        vf b0 = v_pin(v_load(b)), b1 = vectors > 1 ? v_pin(v_load(b + VW)) : b0;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf x = v_in_turn(v_set(columns ? a[r] : a[(size_t)r * lda]));
            sum[r][0] += x * b0;
            if (vectors > 1) sum[r][1] += x * b1;
        }
        a += columns ? lda : 1;
        b += stride;
    }
}

INLINE void chains(const int rows, const int vectors, const enum walk walk, float *out, size_t ldo, const float *before,
                   size_t ldb, const float *a, size_t lda, const float *b, size_t stride, int n)
{
    vf sum[TILE_ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = v_set(0);
    if (walk == TURNED) {
        for (; n >= TILE_COLUMNS; n -= TILE_COLUMNS, a += lda, b += TILE_COLUMNS * TILE_COLUMNS)
            advance(rows, vectors, walk, sum, a, TILE_COLUMNS, b, TILE_COLUMNS, TILE_COLUMNS,
                    a + AHEAD / TILE_COLUMNS * lda, TILE_ROWS);
        if (n) advance(rows, vectors, walk, sum, a, TILE_COLUMNS, b, TILE_COLUMNS, n, NULL, 0);
    } else {
        advance(rows, vectors, walk, sum, a, lda, b, walk == PLAIN ? stride : TILE_COLUMNS, n,
                walk == ROWS ? NULL : a + LINE, lda);
    }
    if (before)
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sum[r][v] = v_load(before + (size_t)r * ldb + v * VW) + sum[r][v];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) v_store(out + (size_t)r * ldo + v * VW, sum[r][v]);
}

INLINE void choose(const int vectors, const enum walk walk, float *out, size_t ldo, const float *before, size_t ldb,
                   const float *a, size_t lda, const float *b, size_t stride, int rows, int n)
{
    switch (rows) {
    case 1: chains(1, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 2: chains(2, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 3: chains(3, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 4: chains(4, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 5: chains(5, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 6: chains(6, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
#if VECTOR_REGISTERS >= 32
    case 7: chains(7, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
    case 8: chains(8, vectors, walk, out, ldo, before, ldb, a, lda, b, stride, n); break;
#endif
    }
}

void tile_rows(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
               int rows, int columns, int n)
{
    if (columns > VW) choose(2, ROWS, out, ldo, before, ldb, a, lda, b, 0, rows, n);
    else choose(1, ROWS, out, ldo, before, ldb, a, lda, b, 0, rows, n);
}

void tile_columns(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
                  int rows, int n)
{
    choose(2, COLUMNS, out, ldo, before, ldb, a, lda, b, 0, rows, n);
}

void tile_plain(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
                size_t stride, int rows, int n)
{
    choose(2, PLAIN, out, ldo, before, ldb, a, lda, b, stride, rows, n);
}

void tile_turned(float *out, const float *before, const float *a, size_t lda, const float *b, int rows, int columns,
                 int n)
{
    if (columns > VW) choose(2, TURNED, out, TILE_COLUMNS, before, TILE_COLUMNS, a, lda, b, 0, rows, n);
    else choose(1, TURNED, out, TILE_COLUMNS, before, TILE_COLUMNS, a, lda, b, 0, rows, n);
}

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));

/* to[k * ldt + r] = from[r * ldf + k] for a 4 x 4 square. */
INLINE void transpose4(float *to, size_t ldt, const float *from, size_t ldf)
{
    v4 a = *(const v4 *)from, b = *(const v4 *)(from + ldf);
    v4 c = *(const v4 *)(from + 2 * ldf), d = *(const v4 *)(from + 3 * ldf);
    v4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    v4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(v4 *)to = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    *(v4 *)(to + ldt) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    *(v4 *)(to + 2 * ldt) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(v4 *)(to + 3 * ldt) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

typedef float v2 __attribute__((vector_size(8), aligned(4), may_alias));

/* The same for 2 x 4. */
INLINE void transpose2(float *to, size_t ldt, const float *from, size_t ldf)
{
    v4 a = *(const v4 *)from, b = *(const v4 *)(from + ldf);
    v4 low = __builtin_shufflevector(a, b, 0, 4, 1, 5), high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    *(v2 *)to = __builtin_shufflevector(low, low, 0, 1);
    *(v2 *)(to + ldt) = __builtin_shufflevector(low, low, 2, 3);
    *(v2 *)(to + 2 * ldt) = __builtin_shufflevector(high, high, 0, 1);
    *(v2 *)(to + 3 * ldt) = __builtin_shufflevector(high, high, 2, 3);
}

#if defined(__AVX512F__)
/* Row r, r + 4, r + 8 and r + 12 of four columns. */
INLINE __m512 quarter_rows(const float *from, size_t ldf)
{
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(from));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(from + 4 * ldf), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(from + 8 * ldf), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(from + 12 * ldf), 3);
}

/* The same for 16 x 16: loads bring the rows of a quarter together, the rest stays within quarters. */
INLINE void transpose16(float *to, size_t ldt, const float *from, size_t ldf)
{
#pragma GCC unroll 4
    for (int k = 0; k < 16; k += 4, from += 4, to += 4 * ldt) {
        __m512 a = quarter_rows(from, ldf), b = quarter_rows(from + ldf, ldf);
        __m512 c = quarter_rows(from + 2 * ldf, ldf), d = quarter_rows(from + 3 * ldf, ldf);
        __m512d ab_low = (__m512d)_mm512_unpacklo_ps(a, b), ab_high = (__m512d)_mm512_unpackhi_ps(a, b);
        __m512d cd_low = (__m512d)_mm512_unpacklo_ps(c, d), cd_high = (__m512d)_mm512_unpackhi_ps(c, d);
        v_store(to, (vf)_mm512_unpacklo_pd(ab_low, cd_low));
        v_store(to + ldt, (vf)_mm512_unpackhi_pd(ab_low, cd_low));
        v_store(to + 2 * ldt, (vf)_mm512_unpacklo_pd(ab_high, cd_high));
        v_store(to + 3 * ldt, (vf)_mm512_unpackhi_pd(ab_high, cd_high));
    }
}
#endif

/* Fetches a line of each row, `ahead` floats (0: none) behind column k. */
INLINE void fetch_ahead(const float *from, size_t ldf, int rows, int k, int ahead)
{
    if (ahead && k % 16 == 0)
        for (int i = 0; i < rows; i++) __builtin_prefetch(from + (size_t)i * ldf + k + ahead);
}

INLINE void transpose(float *to, size_t ldt, const float *from, size_t ldf, int rows, int n, int ahead)
{
    int r = 0;
#if defined(__AVX512F__)
    for (; n % 16 == 0 && r + 16 <= rows; r += 16)
        for (int k = 0; k < n; k += 16) {
            fetch_ahead(from + (size_t)r * ldf, ldf, 16, k, ahead);
            transpose16(to + (size_t)k * ldt + r, ldt, from + (size_t)r * ldf + k, ldf);
        }
#endif
    for (; r + 4 <= rows; r += 4) {
        int k = 0;
        for (; k + 4 <= n; k += 4) {
            fetch_ahead(from + (size_t)r * ldf, ldf, 4, k, ahead);
            transpose4(to + (size_t)k * ldt + r, ldt, from + (size_t)r * ldf + k, ldf);
        }
        for (; k < n; k++)
            for (int i = r; i < r + 4; i++) to[(size_t)k * ldt + i] = from[(size_t)i * ldf + k];
    }
    for (; r + 2 <= rows; r += 2) {
        int k = 0;
        for (; k + 4 <= n; k += 4) transpose2(to + (size_t)k * ldt + r, ldt, from + (size_t)r * ldf + k, ldf);
        for (; k < n; k++)
            for (int i = r; i < r + 2; i++) to[(size_t)k * ldt + i] = from[(size_t)i * ldf + k];
    }
    for (; r < rows; r++)
        for (int k = 0; k < n; k++) to[(size_t)k * ldt + r] = from[(size_t)r * ldf + k];
}

void tile_turn(float *to, size_t ldt, const float *from, size_t ldf, int rows, int n)
{
    enum { PIECE = VW == 16 ? 16 : 4 };             /* the rows of `to` may all lie in the same lines of a cache */
    for (int k = 0; k < n; k += PIECE)
        transpose(to + (size_t)k * ldt, ldt, from + k, ldf, rows, n - k < PIECE ? n - k : PIECE, 0);
}

void tile_pack_strip(float *to, const float *from, size_t ld, int rows, int n)
{
    transpose(to, (size_t)rows, from, ld, rows, n, 0);
}

void tile_pack_transposed(float *to, const float *from, size_t ld, int columns, int n, int ahead)
{
    if (columns < TILE_COLUMNS) memset(to, 0, (size_t)n * TILE_COLUMNS * sizeof *to);
    transpose(to, TILE_COLUMNS, from, ld, columns, n, ahead);
}

void tile_pack_panel(float *to, const float *from, size_t ld, int columns, int n)
{
    for (int k = 0; k < n; k++, to += TILE_COLUMNS, from += ld) {
        if (columns == TILE_COLUMNS) {
            v_store(to, v_load(from));
            v_store(to + VW, v_load(from + VW));
        } else {
            for (int c = 0; c < TILE_COLUMNS; c++) to[c] = c < columns ? from[c] : 0;
        }
    }
}
