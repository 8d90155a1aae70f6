/* scratch.h - what a thread packs its operands into: taken once by ops_open, shared by products and attention. */
#ifndef QUARTET_SCRATCH_H
#define QUARTET_SCRATCH_H

#include "common/cpu/tile.h"
#include "common/ops.h"

enum {
    /* of A in a task; its blocks fill a part of the second-level cache */
    PRODUCT_STRIPS = 384 / TILE_ROWS,
    PRODUCT_COLUMNS = 384,                          /* of the rectangle of a task */
};

struct scratch {
    float *strips;      /* PRODUCT_STRIPS strips of MATMUL_BLOCK steps */
    float *panel;       /* MATMUL_BLOCK steps of TILE_COLUMNS */
    float *tile;        /* TILE_ROWS x TILE_COLUMNS */
    float *between;     /* PRODUCT_STRIPS * TILE_ROWS rows of PRODUCT_COLUMNS */
    float *attention;   /* SCRATCH_ATTENTION floats, the same memory */
};

enum {
    SCRATCH_STRIPS = PRODUCT_STRIPS * TILE_ROWS * MATMUL_BLOCK,
    SCRATCH_PANEL = MATMUL_BLOCK * TILE_COLUMNS,
    SCRATCH_TILE = TILE_ROWS * TILE_COLUMNS,
    SCRATCH_BETWEEN = PRODUCT_STRIPS * TILE_ROWS * PRODUCT_COLUMNS,
    SCRATCH_ATTENTION = 256 * 1024,                 /* more than all of the above; heads of 1024 channels fit */
};

/* The buffers of one thread.  Dies before ops_open, or for a thread started after it. */
struct scratch scratch_of(int thread);

#endif
