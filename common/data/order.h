/* order.h - the tokens of all shards as packed rows in a global, shuffled, resumable order.  Used by pretrain, and by
 * rlhf for its pretraining mix (PPO-ptx).  docs/shards.md explains the order. */
#pragma once

#include "common/data/shards.h"
#include "common/model/batch.h"

struct order;

struct order_options {
    struct shards_options shards;
    double validation;                   /* share of documents held out, by hash of their text */
    uint64_t seed;
    int row_tokens;                      /* T of a packed row: the model's context */
    uint32_t expected;                   /* order_identity of a run that resumes; 0: none yet */
};

/* Tokenises what is not yet there (parallel; reused when source files (size, mtime, CRC) and tokenizer are
 * unchanged) and opens the result.  Says what it did through say(self, line) (may be NULL).  Returns 0 or -1: no
 * text at all (EXIT_DATA), or not what is expected (EXIT_MISMATCH); the folder is then as it was. */
int order_open(struct order **out, const struct tokenizer *t, const struct order_options *o,
               void (*say)(void *self, const char *line), void *self, struct error *error);
void order_close(struct order *s);

/* For a plan: opens nothing and writes nothing, but knows the rows of an epoch from a sample of the text, which say
 * names.  Only order_rows and order_tokens may be asked. */
int order_estimate(struct order **out, const struct tokenizer *t, const struct order_options *o,
                   void (*say)(void *self, const char *line), void *self, struct error *error);

/* Each document is stored as <|endoftext|> text <|endoftext|> (tokenizer_document); rows of row_tokens are filled
 * document after document, a document longer than what is left goes on in the next row; what a row holds of one
 * document is a sequence. The last token of a document has no target. */
uint64_t order_rows(const struct order *s, bool validation);       /* rows of an epoch */
uint64_t order_tokens(const struct order *s, bool validation);
uint64_t order_documents(const struct order *s, bool validation);
uint32_t order_identity(const struct order *s);      /* CRC of what decides rows and order: tokens, split, seed, T */

/* Appends the row with global sample index `index` to the batch (arrays have room for row_tokens more tokens and as
 * many sequences).  Epoch = index / rows; within an epoch rows come in an order shuffled by (seed, epoch);
 * validation rows unshuffled.  Returns 0, or -1 when a shard turns out to be damaged or cannot be read
 * (shard_file.h). */
int order_row(const struct order *s, bool validation, uint64_t index, struct batch *b, struct error *error);
