/* blocks.h - how operations that stream through memory are cut into tasks: by a fixed number of floats, so that the
 * cut (and with it every sum over a block) does not know the number of threads. */
#ifndef QUARTET_BLOCKS_H
#define QUARTET_BLOCKS_H

#include "common/base/base.h"

enum { BLOCK_FLOATS = 16384 };      /* 64 KiB of each array: some microseconds of work, far more than a task costs */

/* task(context, from, end) for each block of things [from, end) of n: `block` of them, fewer in the last one. */
void blocks_for(size_t n, size_t block, void (*task)(const void *context, size_t from, size_t end),
                const void *context);
/* The same for n rows of `width` floats, about BLOCK_FLOATS in a block. */
void rows_for(int n, int width, void (*task)(const void *context, size_t from, size_t end), const void *context);

#endif
