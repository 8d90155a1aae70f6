/* prompts.h - what the policy is asked: rows of JSON lines, JSON arrays or plain text lines, rendered as ids up to
 * where the answer begins, and served in a global, shuffled, resumable order. */
#pragma once

#include "common/text/chat.h"
#include "common/base/options.h"

struct prompt {
    size_t first;            /* of its ids in prompts.ids */
    int count;
    char *row;               /* the row of the file as JSON text, for a reward program; or NULL */
    char *dialogue;          /* the inside of a JSON object: "prompt": "...", "messages": [...]; or NULL */
};

/* Starts as {0}, or with ledger.skip.  longest: ids of the longest prompt kept. */
struct prompts {
    struct prompt *prompt;
    uint32_t count;
    struct ids ids;
    int longest;
    struct ledger ledger;
    uint64_t too_long, unusable;
    uint64_t seed, epoch;    /* order holds the permutation of this epoch */
    uint32_t *order;
};

/* Appends the prompts of files (also folders and globs, .gz).  A row is a string, an object that dialogue_from_json
 * knows ({prompt}, {messages}, {question}, {turns}, {instruction, input}, {conversations}, {context}) or a line of
 * plain text.  An answer at its end is left out.  Rows of more than `most` ids are dropped and counted
 * (too_long), as are those that ask nothing (unusable); equal rows are all kept.  share of the prompts goes to held_out
 * ({0} before; NULL: none): those whose first question sft and rm hold out too.  Returns 0, or -1: EXIT_NOINPUT, or
 * EXIT_DATA with file and line, also when no prompt is left. */
int prompts_read(struct prompts *p, struct prompts *held_out, double share, const struct option_list *files,
                 const struct chat *chat, int most, uint64_t seed, struct error *error);
/* CRC of the prompts' ids and rows: what a resumed run must find again. */
uint32_t prompts_identity(const struct prompts *p);
/* Appends one prompt of n ids (copied).  row and dialogue may be NULL and are taken over. */
void prompts_add(struct prompts *p, const int *ids, int n, char *row, char *dialogue);
void prompts_free(struct prompts *p);

/* The prompt with global sample index `index`: epoch index / count, and within it a place in an order shuffled by
 * (seed, epoch). */
const struct prompt *prompts_at(struct prompts *p, uint64_t index);
