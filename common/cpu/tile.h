/* tile.h - the one inner loop of products and attention: a small tile of sums that stays in registers.
 *
 *     out[r][c] = before[r][c] + sum over k of a(r, k) * b[k][c],   r < rows <= TILE_ROWS,  c < TILE_COLUMNS
 *
 * each sum one ascending chain of multiply-adds from zero: its bits do not depend on rows, nor on where the row lies.
 * b is a panel: [n][TILE_COLUMNS], contiguous.   out: rows at distance ldo, may not overlap a or b.
 * before: rows at distance ldb, may be out; NULL: nothing is added. */
#ifndef QUARTET_TILE_H
#define QUARTET_TILE_H

#include "common/cpu/vector.h"

#include <stddef.h>

enum {
    TILE_COLUMNS = 2 * VW,
    TILE_ROWS = VECTOR_REGISTERS >= 32 ? 8 : 6,     /* with 32 registers 12 fit, but gcc copies some of them around */
};

/* tile_rows: a(r, k) = a[r * lda + k], rows as they lie.
 * tile_columns: a(r, k) = a[k * lda + r], columns, or a packed strip with lda = rows.
 * columns: only the vectors that hold so many are computed */
void tile_rows(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
               int rows, int columns, int n);
void tile_columns(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
                  int rows, int n);

/* tile_plain: tile_columns where b is no panel, but rows at distance stride. */
void tile_plain(float *out, size_t ldo, const float *before, size_t ldb, const float *a, size_t lda, const float *b,
                size_t stride, int rows, int n);

/* tile_turned: a lies in panels too, a(r, k) = a[k / TILE_COLUMNS * lda + r * TILE_COLUMNS + k % TILE_COLUMNS]; rows of
 * out and before lie TILE_COLUMNS apart. */
void tile_turned(float *out, const float *before, const float *a, size_t lda, const float *b, int rows, int columns,
                 int n);

/* to[k * ldt + r] = from[r * ldf + k],  r < rows, k < n */
void tile_turn(float *to, size_t ldt, const float *from, size_t ldf, int rows, int n);

/* to[k * rows + r] = from[r * ld + k]: packs a strip of rows <= TILE_ROWS, n long, for tile_columns. */
void tile_pack_strip(float *to, const float *from, size_t ld, int rows, int n);

/* Panels of b.  transposed: to[k][c] = from[c * ld + k], else to[k][c] = from[k * ld + c]; columns <= TILE_COLUMNS, the
 * rest is 0.   to: n rows of TILE_COLUMNS.   ahead: how many floats behind from[c * ld + k] to fetch, 0: none */
void tile_pack_transposed(float *to, const float *from, size_t ld, int columns, int n, int ahead);
void tile_pack_panel(float *to, const float *from, size_t ld, int columns, int n);

/* n rounded up to a multiple of `to`. */
static inline size_t tile_round(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif
