/* scratch.h - what a thread packs its operands into: taken once by ops_open, shared by products and attention. */
#ifndef QUARTET_SCRATCH_H
#define QUARTET_SCRATCH_H

#include "common/cpu/product_tile.h"
#include "common/model/ops.h"

enum {
    PRODUCT_STRIPS = 384 / STRIP,               /* of A at a time: with MATMUL_BLOCK steps a part of the L2 cache */
    PRODUCT_COLUMNS = 4 * PANEL,                /* of B packed at a time: another part */
};

struct scratch {
    act_t *strips;      /* PRODUCT_STRIPS strips of MATMUL_BLOCK steps */
    act_t *panels;      /* of B, for PRODUCT_COLUMNS columns and MATMUL_BLOCK steps */
    float *tile;        /* 2 STRIP x PANEL */
    float *between;     /* of a task, tile after tile */
    float *attention;   /* SCRATCH_FLOATS, the same memory */
};

enum {
    SCRATCH_FLOATS = 885248,                    /* attention wants that for HEAD_MOST channels */
    SCRATCH_STRIPS = PRODUCT_STRIPS * STRIP * MATMUL_BLOCK,
    SCRATCH_PANELS = MATMUL_BLOCK * PRODUCT_COLUMNS,
    SCRATCH_TILE = 2 * STRIP * PANEL,
    SCRATCH_BETWEEN = SCRATCH_FLOATS - SCRATCH_STRIPS - SCRATCH_PANELS - SCRATCH_TILE,
};

/* The buffers of one thread.  Dies before ops_open, or for a thread started after it. */
struct scratch scratch_of(int thread);

#endif
