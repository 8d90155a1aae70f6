/* attention.h - what the forward and backward halves of attention share: sizes of blocks, fixed by D alone. */
#ifndef QUARTET_ATTENTION_H
#define QUARTET_ATTENTION_H

#include "common/cpu/scratch.h"

#include <math.h>

enum { HEAD_MOST = 1024 };      /* largest D: its blocks must fit the scratch */

/* The largest power of two up to `most` with n * D <= floats, at least `least`. */
static inline int attention_block(int D, int most, int least, int floats)
{
    int n = most;
    while (n > least && n * D > floats) n /= 2;
    return n;
}

static inline float attention_scale(int D) { return (float)(1 / sqrt((double)D)); }      /* 1 / sqrt(D) */

/* Panels (tile.h) of n vectors of D floats at distance ld, as the b of products that contract over D (columns: D rows a
 * panel, vector j in column j mod TILE_COLUMNS), or over the vectors (rows: n rows a panel, channel d in column d mod
 * TILE_COLUMNS). */
static inline void attention_pack_columns(float *to, const float *from, size_t ld, int n, int D)
{
    for (int j = 0; j < n; j += TILE_COLUMNS)
        tile_pack_transposed(to + (size_t)j * D, from + (size_t)j * ld, ld, int_min(TILE_COLUMNS, n - j), D, 0);
}

/* panel: floats from one panel to the next. */
static inline void attention_pack_rows(float *to, size_t panel, const float *from, size_t ld, int n, int D)
{
    for (int d = 0; d < D; d += TILE_COLUMNS, to += panel)
        tile_pack_panel(to, from + d, ld, int_min(TILE_COLUMNS, D - d), n);
}

#endif
