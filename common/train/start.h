/* start.h - how sft and rm begin, which is one way: options, parent and template, rows that fit, micro-batches that hold
 * them, and the data that a resumed run must find again. */
#ifndef QUARTET_START_H
#define QUARTET_START_H

#include "common/data/epochs.h"
#include "common/data/paths.h"
#include "common/text/chat.h"
#include "common/train/program.h"

struct start {
    const char *model_path, *skip_bad_rows;
    struct option_list data_paths;
    int template;
    double validation;
    int64_t max_length, eval_tokens;

    struct run *run;                /* NULL with --plan and --dry-run */
    const struct option *table;
    struct train_options *train;
    struct parent parent;
    struct chat chat;
    struct config config;           /* the parent's, with room for the template's tokens */
    int known_ids;                  /* of the tokenizer before the template's tokens were added */
    int micro_batches, micro_tokens;
    struct epochs order;
    struct memory memory;
};

/* Rows for the table; returns their number, START_ROWS. */
enum { START_ROWS = 8 };
int start_option_rows(struct option *row, struct start *s, struct train_options *o, const char *model_help,
                      const char *data_help, const char *length_help);

/* After program_start: parent and template.  Quits when one fails. */
void start_open(struct start *s, struct run *run, const struct option *table, struct train_options *o);
/* Longest sequence, by context and --max-length; and the files of --data (to paths_free). */
int start_limit(const struct start *s);
struct paths start_paths(const struct start *s);

/* What was read: items (dialogues, prompts) and their tokens, for training; the longest of them or of those held out,
 * and its name in the log. */
struct start_data {
    const char *items, *longest_item;
    const uint32_t *length;
    uint32_t count, longest, identity;
    uint64_t tokens;
};
/* Learning rate and batches from the data, micro-batches at least as long as the longest item, and their order. */
void start_batches(struct start *s, enum stage stage, const struct start_data *d);

/* Where the run comes from, and the report on its data, to the log. */
void start_log(struct start *s, struct bytes *report, bool validation);
/* task.save and task.load, but for a task's own keys. */
void start_save(const struct start *s, struct ckpt_meta *meta, const struct config *c, const struct start_data *d);
int start_load(const struct start *s, const struct ckpt_meta *meta, const struct start_data *d, struct error *error);

/* Steps and schedule from the options and the data, then program_run. */
int start_train(struct start *s, struct task *task, const struct program_parts *parts);
void start_close(struct start *s);

#endif
