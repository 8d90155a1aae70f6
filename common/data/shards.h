/* shards.h - raw text tokenised once into files beside the run, and served as packed rows in a global, shuffled,
 * resumable order.  Used by pretrain, and by rlhf for its pretraining mix (PPO-ptx).  The file layout is in
 * docs/shards.md. */
#ifndef QUARTET_SHARDS_H
#define QUARTET_SHARDS_H

#include "common/model/batch.h"
#include "common/base/options.h"
#include "common/text/tokenizer.h"

struct shards;

struct shards_options {
    const struct option_list *data;      /* files, folders, globs, each optionally "=WEIGHT" */
    const char *text_key;                /* of JSON rows; "text" */
    const char *separator;               /* a line that splits text into documents besides "<|endoftext|>"; or NULL */
    double skip_bad_rows;                /* JSON rows without text that are skipped, in each entry of data (tally.h) */
    bool allow_invalid;                  /* bytes that are not UTF-8, however many */
    const char *folder;                  /* where the shards lie: RUN/shards */
    double validation;                   /* share of documents held out, by hash of their text */
    uint64_t seed;
    int row_tokens;                      /* T of a packed row: the model's context */
    uint64_t shard_tokens;               /* a shard ends with the document that reaches this; 0: 64M */
    uint32_t expected;                   /* shards_identity of a run that resumes; 0: none yet */
};

/* Tokenises what is not yet there (parallel; reused when source files (size, mtime, CRC) and tokenizer are
 * unchanged) and opens the result.  Says what it did through say(self, line) (may be NULL).  Returns 0 or -1: no
 * text at all (EXIT_DATA), or not what is expected (EXIT_MISMATCH); the folder is then as it was. */
int shards_open(struct shards **out, const struct tokenizer *t, const struct shards_options *o,
                void (*say)(void *self, const char *line), void *self, struct error *error);
void shards_close(struct shards *s);

/* For a plan: opens nothing and writes nothing, but knows the rows of an epoch from a sample of the text, which say
 * names.  Only shards_rows and shards_tokens may be asked. */
int shards_estimate(struct shards **out, const struct tokenizer *t, const struct shards_options *o,
                    void (*say)(void *self, const char *line), void *self, struct error *error);

/* Each document is stored as <|endoftext|> text <|endoftext|>; rows of row_tokens are filled document after
 * document, a document longer than what is left goes on in the next row; what a row holds of one document is a sequence.  The
 * last token of a document has no target. */
uint64_t shards_rows(const struct shards *s, bool validation);       /* rows of an epoch */
uint64_t shards_tokens(const struct shards *s, bool validation);
uint64_t shards_documents(const struct shards *s, bool validation);
uint32_t shards_identity(const struct shards *s);      /* CRC of what decides rows and order: tokens, split, seed, T */

/* Appends the row with global sample index `index` to the batch (arrays have room for row_tokens more tokens and as
 * many sequences).  Epoch = index / rows; within an epoch rows come in an order shuffled by (seed, epoch);
 * validation rows unshuffled. */
void shards_row(const struct shards *s, bool validation, uint64_t index, struct batch *b);

#endif
