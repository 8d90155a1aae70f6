/* epochs.h - the endless order of micro-batches over a data set that fits in memory (sft: dialogues; rm: rankings).
 *
 * Epoch by epoch the items are shuffled by (seed, epoch), packed best-fit into bins, and the bins shuffled.  Bin number
 * `index`, counted through all epochs, is a pure function of (lengths, capacity, seed, index): a run resumes from its
 * step number, with no further state. */
#pragma once

#include "common/base/base.h"

struct epochs {
    const uint32_t *length;                  /* (n), each in [1, capacity]; the caller's */
    uint32_t n, capacity;
    uint64_t seed;
    uint64_t epoch, first;                   /* the epoch packed now, and the number of its first bin */
    uint32_t bins, *bin_start, *item, *order;
};

/* n >= 1.  Packs epoch 0, whose number of bins is then e->bins (later epochs differ by little). */
void epochs_open(struct epochs *e, const uint32_t *length, uint32_t n, uint32_t capacity, uint64_t seed);
void epochs_close(struct epochs *e);

/* The items of bin `index`: *item (valid until the next call), returns how many.  Walking forward is cheap; going back
 * packs from epoch 0 again. */
uint32_t epochs_bin(struct epochs *e, const uint32_t **item, uint64_t index);

/* Best-fit over `order`: each sequence, in that order but the longer first within a window of `window` sequences, goes
 * into the fullest open bin that still has room (the one filled last among equals), else into a new one; bins are
 * numbered as they are opened.  Every sequence is in exactly one bin.
 *   length (n)  > 0, each <= capacity    order (n) a permutation
 *   bin_start (n_bins + 1), item (n): bin b holds item[bin_start[b]] .. item[bin_start[b+1]-1].
 * Returns n_bins.  Deterministic.  The caller frees *bin_start and *item. */
uint32_t pack_best_fit(uint32_t **bin_start, uint32_t **item, const uint32_t *length, const uint32_t *order, uint32_t n,
                       uint32_t capacity, uint32_t window);
