/* shards.h - from source files to verified shards: what is there and fits is kept, the rest is tokenised anew. */
#pragma once

#include "common/data/paths.h"
#include "common/data/shard_file.h"
#include "common/text/tokenizer.h"

struct shards_say { void (*line)(void *self, const char *line); void *self; };
void shards_tell(const struct shards_say *say, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last two are set by order_open. */
struct shards_options {
    const struct option_list *data;      /* files, folders, globs, each optionally "=WEIGHT" */
    const char *text_key;                /* of JSON rows; "text" */
    const char *separator;               /* a line that splits text into documents besides "<|endoftext|>"; or NULL */
    double skip_bad_rows;                /* JSON rows without text that are skipped, in each entry of data (tally.h) */
    bool allow_invalid;                  /* bytes that are not UTF-8, however many */
    const char *folder;                  /* where the shards lie: RUN/shards */
    uint64_t shard_tokens;               /* a shard ends with the document that reaches this; 0: 64M */
    bool beside;                         /* new shards are made beside those that are there, until shards_settle */
    const struct tokenizer *tokenizer;
    struct shards_say say;
};

/* A run of source files whose documents lie together in shards "NAME-0000.shard", "NAME-0001.shard", ... of the
 * folder. */
struct shard_unit {
    char **path; int n;             /* borrowed */
    double weight;
    uint64_t bytes;                 /* size of the files */
    struct shard *shard; int n_shards;
    bool beside;                    /* made anew, and not in its place yet */
};

/* Sorts the files by weight (weights in order of first appearance, files in the given order; one given again counts
 * again: its weights are added) and cuts them into units: each large file alone, small ones together.  The paths
 * must outlive the units.
 * Returns their number; the caller frees *unit. */
int shard_units(struct shard_unit **unit, struct paths *paths);

/* Opens the shards of all units, building where there are none, where sources, rules or tokenizer have changed, or
 * where a checksum fails; says which and why.  Returns 0 or -1. */
int shards_build(struct shard_unit *unit, int n_units, const struct shards_options *o, struct error *error);
void shard_unit_close(struct shard_unit *u);

/* Puts shards that were made beside the others in their place, or removes them. */
void shards_settle(struct shard_unit *unit, int n_units, const struct shards_options *o, bool keep);
