/* start.h - how sft and rm begin: options, parent and template, rows that fit, micro-batches that hold them, and the
 * data that a resumed run must find again. */
#ifndef QUARTET_START_H
#define QUARTET_START_H

#include "common/data/epochs.h"
#include "common/data/paths.h"
#include "common/text/chat.h"
#include "common/train/program.h"

/* What was read: items (dialogues, prompts) and their tokens, for training; the longest of them or of those held out,
 * and its name in the log. */
struct start_data {
    const char *items, *longest_item;
    const uint32_t *length;
    uint32_t count, longest, identity;
    uint64_t tokens;
};

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
    struct parent parent;
    struct chat chat;
    struct config config;           /* the parent's, with room for the template's tokens */
    int known_ids;                  /* of the tokenizer before the template's tokens were added */
    struct start_data data;
    int micro_batches, micro_tokens;
    struct epochs order;
    struct memory memory;
    struct model model;
    void (*report)(struct bytes *out, const void *self);     /* of start_train */
    bool held_out;                  /* of start_train: there is something to validate on */
};

/* The whole table: START_ROWS, the program's own n rows, TRAIN_ROWS and the end. */
enum { START_ROWS = 8 };
struct start_help { const char *model, *data, *length; };
void start_options(struct option *row, struct start *s, const struct option *own, int n,
                   const struct train_defaults *defaults, const struct start_help *help);

/* After program_start: parent and template.  Quits when one fails. */
void start_open(struct start *s, struct run *run, const struct option *table);
/* Longest sequence, by context and --max-length; and the files of --data (to paths_free). */
int start_limit(const struct start *s);
struct paths start_paths(const struct start *s);

/* Learning rate and batches from s->data, micro-batches at least as long as the longest item, and their order. */
void start_batches(struct start *s, enum stage stage);

/* task.save and task.load. */
void start_save(void *self, struct ckpt_meta *meta);
int start_load(void *self, const struct ckpt_meta *meta, struct error *error);

/* Steps and schedule from the options and the data, then program_run.  build: as in program_take; report: what was
 * read, for the log. */
int start_train(struct start *s, struct task *task, void (*build)(void *self, struct memory *m),
                void (*report)(struct bytes *out, const void *self));
void start_close(struct start *s);

#endif
