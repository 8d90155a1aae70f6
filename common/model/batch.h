/* batch.h - the rows of one micro-batch, in host memory. */
#pragma once

#include "common/model/memory.h"

/* A micro-batch: N tokens in S packed sequences, all host arrays.  Every program fills one of these. */
struct batch {
    int N, S;
    int *tokens;        /* (N) ids */
    int *targets;       /* (N) the token that follows within the sequence; any valid id where mask is 0 */
    uint8_t *mask;      /* (N) 1 where the loss or the policy counts */
    int *offsets;       /* (S+1), offsets[0] = 0, offsets[S] = N */
};

/* Host arrays of a batch from MEMORY_DATA. */
void batch_open(struct batch *b, struct memory *m, int max_tokens, int max_sequences);
void batch_clear(struct batch *b);

/* Appends one sequence of n tokens.  targets = ids moved left; mask[t] = 1 where the token t + 1 is trained (all when
 * trained is NULL) and 0 at the last.  Returns the number of positions with mask 1. */
int batch_add(struct batch *b, const int *ids, const uint8_t *trained, int n);
