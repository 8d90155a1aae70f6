/* grow.h - a parent's weights in a model whose vocabulary has new tokens. */
#ifndef QUARTET_GROW_H
#define QUARTET_GROW_H

#include "common/train/program.h"

/* model_load of the parent's weights (a missing scalar head is initialised from seed) into a model that equals it but
 * for its head and for ids added to the vocabulary.  Rows known_ids and up, of the embedding and of the output matrix,
 * become the mean of the rows before: known_ids is the number of ids the parent's tokenizer had before special tokens
 * were added to it.  Returns 0, or -1 (EXIT_MISMATCH, EXIT_DATA).   Source: Taori et al. 2023 (Alpaca), mean rows for
 * new tokens. */
int parent_load(struct model *m, struct parent *p, int known_ids, uint64_t seed, struct error *error);

#endif
