/* blocks.h - how operations that stream through memory are cut into tasks: by a fixed number of floats, so that the
 * cut (and with it every sum over a block) does not know the number of threads. */
#ifndef QUARTET_BLOCKS_H
#define QUARTET_BLOCKS_H

#include "common/base/base.h"

enum { BLOCK_FLOATS = 16384 };      /* 64 KiB of each array: some microseconds of work, far more than a task costs */

/* How many blocks of `block` things hold n of them. */
static inline int block_count(size_t n, size_t block) { return (int)((n + block - 1) / block); }

/* Things in block i: `block`, or fewer in the last one. */
static inline size_t block_size(size_t n, size_t block, int i)
{
    size_t left = n - (size_t)i * block;
    return left < block ? left : block;
}

/* Rows of `width` floats that make about one block. */
static inline int rows_a_block(int width) { return int_max(1, BLOCK_FLOATS / width); }

#endif
