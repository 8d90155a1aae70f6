/* start.h - how sft and rm begin: options, parent and template, rows that fit, micro-batches that hold them, and the
 * data that a resumed run must find again.  Both take their micro-batches from the data in one way. */
#pragma once

#include "common/data/dataset.h"
#include "common/data/epochs.h"
#include "common/data/paths.h"
#include "common/text/chat.h"
#include "common/train/program.h"

/* What differs between the two: helps, defaults, and the name of items in checkpoints and in the log. */
struct start_text { const char *model, *data, *length, *epochs, *weight_decay, *sample_every, *items, *longest_item; };

/* The items whose sequences are in a micro-batch of a step, in order. */
struct start_items { uint32_t *item, count; };

/* The first member of a program's struct, whose address is task.self. */
struct start {
    struct train_options train;
    const char *model_path, *skip_bad_rows;
    struct option_list data_paths;
    int template;
    double validation;
    int64_t max_length, eval_tokens;

    struct run *run;                /* NULL with --plan and --dry-run */
    const struct option *table;
    const struct start_text *text;
    struct parent parent;
    struct chat chat;
    struct config config;           /* the parent's, with room for the template's tokens */
    int known_ids;                  /* of the tokenizer before the template's tokens were added */
    struct dataset data;
    struct bytes report;            /* what was read, for a person */
    int micro_batches, micro_tokens;
    struct batch *batch;            /* (micro_batches) of a step */
    struct start_items *items;      /* (micro_batches) what they hold */
    int64_t step_items;             /* in all of them */
    struct epochs order;
    struct memory memory;
    struct model model;
    struct learner learner;
};

/* The whole table: START_ROWS, the program's own n rows, TRAIN_ROWS and the end. */
enum { START_ROWS = 8 };
void start_options(struct option *row, struct start *s, const struct option *own, int n, const struct start_text *text);

/* After program_start: parent and template.  Quits when one fails. */
void start_open(struct start *s, struct run *run, const struct option *table);
/* Longest sequence, by context and --max-length; and the files of --data (to paths_free). */
int start_limit(const struct start *s);
struct paths start_paths(const struct start *s);

/* After s->data is read: learning rate and batches from it, micro-batches at least as long as the longest item, and
 * their order. */
void start_batches(struct start *s, enum stage stage);
/* The micro-batch that bin `index` of the order makes of the sequences; *items, if not NULL, gets what it holds.
 * Returns its trained tokens. */
int start_fill(struct batch *b, struct start_items *items, const struct sequences *s, struct epochs *order,
               uint64_t index);

/* --dry-run: prints the examples (freed), what was read, and how well it packs. */
void start_show(const struct start *s, struct bytes *examples);

/* The model, with a cache for `samples` answers, the data and the batches: the first part of a build (program_take). */
void start_build(struct start *s, struct memory *m, int samples);

/* Completes the task, which comes with what is the program's own, sets steps and schedule from options and data, and
 * calls program_run.  A step's loss averages over its trained tokens in sft, over its items in rm. */
int start_train(struct start *s, struct task *task);
void start_close(struct start *s);
