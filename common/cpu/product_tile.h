/* product_tile.h - the inner loop of the products and the packed forms of what it reads, on operands of act_t.
 *
 *     out[r][c] = before[r][c] + sum over k < n of a(r, k) * b(k, c),   r < rows <= product_height(),  c < PANEL
 *
 * STEP contraction steps lie side by side, as the processor multiplies them: 1 for float32, 2 for bfloat16, of whose
 * last two the second is 0 where n is odd.  A panel of b is [n / STEP][PANEL][STEP], a strip of a
 * [n / STEP][rows][STEP] (AMX: see tile_amx.h).  The sums are float32.  With float32 operands each is one ascending chain
 * of multiply-adds from zero; with bfloat16 see tile_bf16.c.  Either way its bits do not depend on rows, nor on where the
 * row lies. */
#ifndef QUARTET_PRODUCT_TILE_H
#define QUARTET_PRODUCT_TILE_H

#include "common/cpu/tile.h"

#ifdef ACT_BF16
/* STRIP: the most rows of a tile.   STRIP_STEPS: a strip's pieces, packed one after the other */
enum { STEP = 2, PANEL = 32, STRIP = 32, STRIP_STEPS = 32 };

/* The rows of this processor's tile, and those that a strip of `rows` rows has. */
int product_height(void);
int product_strip_rows(int rows);

/* out, before: rows at distance ldo, ldb; before may be out, or NULL.   a: rows at distance lda, or columns: with lda =
 * rows a strip; of floats, columns at distance lda */
void product_tile(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda, bool columns,
                  const act_t *b, int rows, int n);
/* Ends a task: the tile may hold state of this thread between calls. */
void product_end(void);
/* A strip from `rows` rows of a matrix, and a piece of one, n <= STRIP_STEPS, from `rows` columns. */
void product_pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n);
void product_pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n);
/* A panel of n steps from columns <= PANEL rows of a float matrix; the rest is 0.  ahead: as in tile.h. */
void product_pack_weights(act_t *to, const float *from, size_t ld, int columns, int n, int ahead);
/* A panel of n <= PANEL steps from the part of a panel, whose columns become steps and whose first `columns` steps
 * become columns. */
void product_pack_turned(act_t *to, const act_t *from, int columns, int n);
/* A panel of n steps from columns <= PANEL rows; the rest is 0.  And rows of a against it, of whose columns only the
 * vectors that hold so many are needed. */
void product_pack_transposed(act_t *to, const act_t *from, size_t ld, int columns, int n);
INLINE void product_rows(float *out, size_t ldo, const act_t *a, size_t lda, const act_t *b, int rows, int columns,
                         int n)
{
    (void)columns;
    product_tile(out, ldo, NULL, 0, a, lda, false, b, rows, n);
}
/* For what attention computes in float32: tile_pack_panel of activations. */
void product_widen_panel(float *to, const act_t *from, size_t ld, int columns, int n);
/* Which inner loop this processor has: "AMX", "AVX512-BF16", or "widened to float32". */
const char *product_tile_name(void);
/* Makes the multiply-adds of `steps` steps from registers as the products do.  Returns how many a step has; 0: the
 * products use the vectors of vector.h.   sink: seems to be written */
int product_chains(volatile float *sink, int steps);

/* STEP steps of width <= PANEL neighbours, at distance ld; left: how many steps there are. */
INLINE void steps_copy(act_t *to, const act_t *from, size_t ld, int width, int left)
{
    typedef uint16_t v8 __attribute__((vector_size(16), aligned(2), may_alias));
    typedef uint16_t v16 __attribute__((vector_size(32), aligned(2), may_alias));
    int c = 0;
    for (; left > 1 && c + 8 <= width; c += 8) {
        v8 x = *(const v8 *)(from + c), y = *(const v8 *)(from + ld + c);
        *(v16 *)(to + 2 * c) = __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (; c < width; c++) {
        to[2 * c] = from[c];
        to[2 * c + 1] = left > 1 ? from[ld + c] : (act_t){0};
    }
}

#else
enum { STEP = 1, PANEL = TILE_COLUMNS, STRIP = TILE_ROWS, STRIP_STEPS = 8 };

INLINE int product_height(void) { return STRIP; }
INLINE int product_strip_rows(int rows) { return rows; }
INLINE void product_end(void) {}

INLINE void product_tile(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda,
                         bool columns, const act_t *b, int rows, int n)
{
    if (columns) tile_columns(out, ldo, before, ldb, a, lda, b, rows, n);
    else tile_rows(out, ldo, before, ldb, a, lda, b, rows, PANEL, n);
}
INLINE void product_pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    tile_pack_strip(to, from, ld, rows, n);
}
INLINE void product_pack_weights(act_t *to, const float *from, size_t ld, int columns, int n, int ahead)
{
    tile_pack_transposed(to, from, ld, columns, n, ahead);
}
INLINE void product_pack_turned(act_t *to, const act_t *from, int columns, int n)
{
    tile_pack_transposed(to, from, TILE_COLUMNS, columns, n, 0);
}
INLINE void product_pack_transposed(act_t *to, const act_t *from, size_t ld, int columns, int n)
{
    tile_pack_transposed(to, from, ld, columns, n, 0);
}
INLINE void product_rows(float *out, size_t ldo, const act_t *a, size_t lda, const act_t *b, int rows, int columns,
                         int n)
{
    tile_rows(out, ldo, NULL, 0, a, lda, b, rows, columns, n);
}
INLINE void product_widen_panel(float *to, const act_t *from, size_t ld, int columns, int n)
{
    tile_pack_panel(to, from, ld, columns, n);
}
INLINE int product_chains(volatile float *sink, int steps) { (void)sink, (void)steps; return 0; }
INLINE void steps_copy(act_t *to, const act_t *from, size_t ld, int width, int left)
{
    (void)ld, (void)left;
    if (width == PANEL) memcpy(to, from, PANEL * sizeof *to);
    else if (width == STRIP) memcpy(to, from, STRIP * sizeof *to);
    else memcpy(to, from, (size_t)width * sizeof *to);
}
INLINE void product_pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    for (int k = 0; k < n; k++) steps_copy(to + k * rows, from + (size_t)k * ld, ld, rows, n - k);
}
#endif

/* n steps, of which STEP lie side by side; and as many as a strip has room for. */
static inline size_t whole_steps(int n) { return tile_round((size_t)n, STEP); }
static inline size_t strip_steps(int n) { return tile_round((size_t)n, STRIP_STEPS); }

#endif
