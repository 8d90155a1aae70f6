/* packing.h - whole sequences of different lengths into bins of a fixed capacity. */
#ifndef QUARTET_PACKING_H
#define QUARTET_PACKING_H

#include "common/base/base.h"

/* Best-fit over `order`: each sequence, in that order but the longer first within a window of `window` sequences, goes
 * into the fullest open bin that still has room (the one filled last among equals), else into a new one; bins are
 * numbered as they are opened.  Every sequence is in exactly one bin.
 *   length (n)  > 0, each <= capacity    order (n) a permutation
 *   bin_start (n_bins + 1), item (n): bin b holds item[bin_start[b]] .. item[bin_start[b+1]-1].
 * Returns n_bins.  Deterministic.  The caller frees *bin_start and *item. */
uint32_t pack_best_fit(uint32_t **bin_start, uint32_t **item, const uint32_t *length, const uint32_t *order, uint32_t n,
                       uint32_t capacity, uint32_t window);

#endif
