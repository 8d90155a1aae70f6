/* dataset.h - what sft and rm learn from, read whole: items of one or more sequences of tokens, which lie one after the
 * other.  sft: an item is a dialogue; rm: a prompt with its ranked answers, a sequence each. */
#pragma once

#include "common/base/tally.h"
#include "common/model/batch.h"
#include "common/text/tokenizer.h"

#include <jansson.h>

/* Sequence i: id[start[i]] .. id[start[i] + length[i] - 1], trained[] beside it; item g: sequences first[g] ..
 * first[g + 1] - 1. */
struct sequences {
    int *id;
    uint8_t *trained;
    uint64_t *start;
    uint32_t *length, *spoken;       /* (count); spoken: trained tokens */
    double *quality;                 /* (count) of a ranked answer: the higher, the better */
    uint32_t *first, *item_tokens;   /* (items + 1), (items) */
    uint32_t count, items;
    uint64_t tokens, targets;        /* targets: trained tokens of all */
    bool settled;                    /* the memory owns the arrays */
};

struct dataset {
    struct sequences train, validation;
    struct ledger ledger;
    uint32_t longest;                /* tokens of the longest item of either half */
    uint32_t identity;               /* CRC of all that was read: what a resumed run must find again */
    struct ids *prompt;              /* (prompts) of samples */
    int prompts;
};

/* Reads the rows of the files with take, which calls dataset_add for what it keeps.  nothing: what is missing when no
 * token to train on is found.  Returns 0, or -1 with *d freed: as records_read, or nothing to train on (EXIT_DATA). */
int dataset_read(struct dataset *d, char *const *path, int n, double skip_bad_rows, const char *nothing,
                 int (*take)(void *self, json_t *row, const char *where), void *self, struct error *error);
/* One item of n sequences: number i ends before end[i] of its ids.  quality may be NULL. */
void dataset_add(struct dataset *d, bool held_out, const int *id, const char *trained, const int *end, size_t n,
                 const double *quality);
void dataset_free(struct dataset *d);

/* Moves the sequences into MEMORY_DATA; called by both runs of the build. */
void dataset_settle(struct dataset *d, struct memory *m);

/* Appends all sequences of an item to a batch; returns how many of their tokens are trained. */
int sequences_batch(struct batch *b, const struct sequences *s, uint32_t item);
