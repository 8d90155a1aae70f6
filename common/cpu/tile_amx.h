/* tile_amx.h (CPU) - the products of product_tile.h by Intel AMX, where tile_amx_usable() says so.
 *
 * A strip is [n / 32][rows][32]: whole tiles, with 0 in the rows and steps that are not there. */
#ifndef QUARTET_TILE_AMX_H
#define QUARTET_TILE_AMX_H

#include "common/cpu/product_tile.h"

#ifdef ACT_BF16
enum { AMX_ROWS = 16 };                             /* of a tile: the rows of a strip are a multiple of it */

/* Whether processor and system let this process use AMX; asks the system for it. */
bool tile_amx_usable(void);
void tile_amx(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda, bool packed,
              const act_t *b, int rows, int n);
void tile_amx_pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n);
void tile_amx_pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n);
int tile_amx_chains(volatile float *sink, int steps);
void tile_amx_end(void);
#endif

#endif
