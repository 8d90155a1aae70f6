/* order_parts.h - what order_open.c finds out about the sources, and order.c serves rows from. */
#pragma once

#include "common/data/order.h"

enum { BLOCK = SHARD_ENTRIES };                 /* documents between two entries of the table */
enum split { TRAINING, VALIDATION, SPLITS };

/* A shard among the others.  before[k][i]: tokens of split k in the shard before its document
 * BLOCK i. */
struct placed {
    const struct shard *shard;
    uint64_t *before[SPLITS], start[SPLITS], tokens[SPLITS], documents[SPLITS];
    bool bad;
};

/* The files of one weight: `times` rows in an epoch are drawn from its `rows`. */
struct group { double weight; int shard, end; uint64_t tokens, rows, times; };

struct order {
    struct paths paths;
    struct shard_unit *unit; int n_units;
    struct placed *placed; int n_placed;
    struct group *group; int n_groups;
    bool tails;                                 /* the end of every document is held out, not whole documents */
    uint32_t threshold;                         /* documents whose mixed hash is below are held out */
    double validation;
    uint64_t seed, rows[SPLITS], tokens[SPLITS], documents[SPLITS];
    int row_tokens;
    uint32_t identity;
};

/* [*begin, *end): the tokens of the split in a document that has [from, entry.token_end). */
void order_part(const struct order *s, enum split split, uint64_t from, const struct shard_entry *entry,
                uint64_t *begin, uint64_t *end);
