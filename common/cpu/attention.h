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

/* The first block of keys that a row sees. */
static inline int attention_begin(int position, int window, int keys)
{
    return window == 0 || position < window ? 0 : (position - window + 1) / keys * keys;
}

/* A row's scaled scores of the keys from position `key` on with their biases; distance: from there to the row. */
INLINE vf attention_biased(vf x, float slope, bool rounded, float scale, int key, int distance)
{
    if (!rounded) return x - slope * __builtin_convertvector(distance - v_lanes(), vf);
    return x + v_to_bf16(slope * v_to_bf16(__builtin_convertvector(key + v_lanes(), vf))) * scale;
}

static inline float attention_scale(int D) { return (float)(1 / sqrt((double)D)); }      /* 1 / sqrt(D) */

/* Fetches a row of D activations.  Inlined always: gcc takes a function that only fetches for one without effects, and
 * drops calls of it. */
INLINE void attention_fetch(const act_t *row, int D)
{
    for (int d = 0; d < D; d += 64 / (int)sizeof(act_t)) __builtin_prefetch(row + d);
}

/* n rows of D activations at distance *ld as floats: the array itself, or a copy in `to` with *ld = D. */
static inline const float *attention_floats(float *to, const act_t *from, size_t *ld, int n, int D)
{
    if (act_floats(from)) return act_floats(from);
    for (int r = 0; r < n; r++, from += *ld)
        for (int d = 0; d < D; d += VW) v_store_upto(to + (size_t)r * D + d, act_load(from + d, D - d), D - d);
    *ld = (size_t)D;
    return to;
}

/* One row of D floats as activations. */
static inline void attention_store(act_t *to, const float *from, int D)
{
    for (int d = 0; d < D; d += VW) act_store(to + d, v_load_upto(from + d, D - d), D - d);
}

/* Panels of n vectors of D activations at distance ld, as the b of products that contract over D (columns: as they are,
 * see product_tile.h, vector j in column j mod PANEL), or over the vectors (rows: as floats, see tile.h, n rows a
 * panel, channel d in column d mod TILE_COLUMNS). */
static inline void attention_pack_columns(act_t *to, const act_t *from, size_t ld, int n, int D)
{
    for (int j = 0; j < n; j += PANEL)
        product_pack_transposed(to + j * whole_steps(D), from + (size_t)j * ld, ld, int_min(PANEL, n - j), D);
}

/* panel: floats from one panel to the next. */
static inline void attention_pack_rows(float *to, size_t panel, const act_t *from, size_t ld, int n, int D)
{
    for (int d = 0; d < D; d += TILE_COLUMNS, to += panel)
        product_widen_panel(to, from + d, ld, int_min(TILE_COLUMNS, D - d), n);
}

#endif
