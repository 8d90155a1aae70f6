/* scratch.h - what a thread packs its operands into: taken once by ops_open, shared by products and attention. */
#ifndef QUARTET_SCRATCH_H
#define QUARTET_SCRATCH_H

#include "common/cpu/product_tile.h"
#include "common/model/ops.h"

enum {
    PRODUCT_STRIPS = 384 / STRIP,               /* of A at a time: with MATMUL_BLOCK steps a part of the L2 cache */
    PRODUCT_ROWS = 2 * PRODUCT_STRIPS * STRIP,  /* of the rectangle of a task */
    PRODUCT_COLUMNS = 768,
};

struct scratch {
    act_t *strips;      /* PRODUCT_STRIPS strips of MATMUL_BLOCK steps */
    act_t *panels;      /* of B, for PRODUCT_COLUMNS columns and MATMUL_BLOCK steps */
    float *tile;        /* 2 STRIP x PANEL */
    float *between;     /* PRODUCT_ROWS x PRODUCT_COLUMNS, tile after tile */
    float *attention;   /* SCRATCH_FLOATS, the same memory */
};

enum {
    SCRATCH_STRIPS = PRODUCT_STRIPS * STRIP * MATMUL_BLOCK,
    SCRATCH_PANELS = MATMUL_BLOCK * PRODUCT_COLUMNS,
    SCRATCH_TILE = 2 * STRIP * PANEL,
    SCRATCH_BETWEEN = PRODUCT_ROWS * PRODUCT_COLUMNS,
    SCRATCH_FLOATS = SCRATCH_STRIPS + SCRATCH_PANELS + SCRATCH_TILE + SCRATCH_BETWEEN,
};

/* The buffers of one thread.  Dies before ops_open, or for a thread started after it. */
struct scratch scratch_of(int thread);

#endif
