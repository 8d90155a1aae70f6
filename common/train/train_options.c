/* train_options.c - the rows that all four programs share.  Names mean the same everywhere; only the defaults are a
 * program's own. */
#include "common/train/train.h"

#include <assert.h>

enum { CHANGES = OPTION_MAY_CHANGE };

int train_option_rows(struct option *rows, struct train_options *o, const struct train_defaults *d)
{
    const double most = 1e15;
    const struct option all[] = {
        {"Run", "out", OPTION_TEXT, &o->out, NULL, .flags = CHANGES, .help = "Run folder: checkpoints, metrics, log."},
        {NULL, "config", OPTION_TEXT, &o->config, NULL, .flags = OPTION_NOT_SAVED,
         .help = "File of \"name = value\" lines, such as the run.conf of another run; the command line beats it."},
        {NULL, "resume", OPTION_TEXT, &o->resume, "auto", .flags = OPTION_NOT_SAVED,
         .help = "auto: go on from the newest valid checkpoint in the run folder, if any; never: refuse a folder that "
                 "has one; "
                 "or the checkpoint to go on from."},
        {NULL, "plan", OPTION_FLAG, &o->plan, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Print parameters, memory, tokens, operations and time, and end."},
        {NULL, "time-limit", OPTION_SECONDS, &o->time_limit, "0", 0, 1e9, .flags = CHANGES,
         .help = "Save and end with code 75 before this much time since the start has passed; 0: none."},
        {NULL, "threads", OPTION_INT, &o->threads, "0", 0, 4096, .flags = CHANGES,
         .help = "Threads; 0: one a core. Results do not depend on it."},
        {NULL, "seed", OPTION_INT, &o->seed, "1", 0, 9e18, .help = "Seed of everything random."},

        {"Length", "steps", OPTION_INT, &o->steps, "0", 0, 4e9, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Steps; 0: from --tokens or --epochs."},
        {NULL, "tokens", OPTION_INT, &o->tokens, "0", 0, most, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Tokens to train on; 0: from --epochs."},
        {NULL, "epochs", OPTION_REAL, &o->epochs, d->epochs, 1e-6, 1e6, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Passes over the data, where none of the above is given."},

        {"Batches", "batch-tokens", OPTION_INT, &o->batch_tokens, "auto", 1, most, .flags = OPTION_AUTO,
         .help = "Tokens per step, all micro-batches; auto: 0.58 D^0.571 for the D tokens of the run, down to a power "
                 "of two, at least 512."},
        {NULL, "micro-tokens", OPTION_INT, &o->micro_tokens, d->micro_tokens ? d->micro_tokens : "auto", 1, 1 << 24,
         .flags = OPTION_AUTO,
         .help = "Most tokens in one forward and backward: fewer take less memory; auto: --batch-tokens, at most "
                 "4096."},
        {NULL, "recompute", OPTION_CHOICE, &o->recompute, "none", .choices = "none|block", .flags = CHANGES,
         .help = "block: keep only each block's input and compute the rest again in backward: less memory, the same "
                 "results."},

        {"Optimizer", "lr", OPTION_REAL, &o->lr, d->lr, 0, 10, .flags = OPTION_AUTO,
         .help = "Highest learning rate; auto: 0.45 / channels, at most 0.004, of which sft takes 1/4, rm 1/8, rlhf "
                 "1/20."},
        {NULL, "min-lr", OPTION_REAL, &o->min_lr, "-1", -1, 10,
         .help = "Learning rate at the end of the schedule; negative: a tenth of --lr."},
        {NULL, "warmup", OPTION_INT, &o->warmup, "-1", -1, 1e12,
         .help = "Steps in which the learning rate rises from 0; negative: a share of the steps."},
        {NULL, "schedule", OPTION_CHOICE, &o->schedule, d->schedule, .choices = "constant|linear|cosine|wsd",
         .help = "Course of the learning rate after the warmup; wsd: constant, then linear over the last fifth."},
        {NULL, "weight-decay", OPTION_REAL, &o->weight_decay, d->weight_decay, 0, 10,
         .help = "AdamW's decay, of matrices alone."},
        {NULL, "beta1", OPTION_REAL, &o->beta1, "0.9", 0, 0.999999, .help = "AdamW's first beta."},
        {NULL, "beta2", OPTION_REAL, &o->beta2, d->beta2, 0, 0.999999999, .help = "AdamW's second beta."},
        {NULL, "eps", OPTION_REAL, &o->eps, d->eps, 1e-20, 1, .help = "AdamW's epsilon."},
        {NULL, "clip", OPTION_REAL, &o->clip, "1", 0, 1e9, .help = "Largest global gradient norm; 0: no clipping."},

        {"Guards", "skip-limit", OPTION_INT, &o->skip_limit, "3", 1, 1e6, .flags = CHANGES,
         .help = "Updates in a row with a loss or gradient norm that is not finite before the run ends with code 65."},
        {NULL, "spike-z", OPTION_REAL, &o->spike_z, "0", 0, 1e9,
         .help = "Skip an update whose gradient norm lies this many robust deviations above the median of the last "
                 "128; 0: off."},

        {"Reports and checkpoints", "eval-every", OPTION_INT, &o->eval_every, d->eval_every, 0, 1e12, .flags = CHANGES,
         .help = "Steps between evaluations; the first and last are always made."},
        {NULL, "sample-every", OPTION_INT, &o->sample_every, d->sample_every ? d->sample_every : "0", 0, 1e12,
         .flags = CHANGES, .help = "Steps between samples for reading; 0: none."},
        {NULL, "log-every", OPTION_INT, &o->log_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Steps between lines of progress; 0: by time. metrics.jsonl has every step."},
        {NULL, "save-every", OPTION_INT, &o->save_every, d->save_every, 0, 1e12, .flags = CHANGES,
         .help = "Steps between checkpoints; 0: only at the end, and when stopped."},
        {NULL, "keep", OPTION_INT, &o->keep, "3", 1, 1e6, .flags = CHANGES, .help = "Newest checkpoints to keep."},
        {NULL, "keep-every", OPTION_INT, &o->keep_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Also keep the checkpoints whose step is a multiple of this; 0: none."},
    };
    enum { COUNT = sizeof all / sizeof *all };
    static_assert((int)COUNT <= (int)TRAIN_ROWS, "TRAIN_ROWS is too small");
    for (int i = 0; i < COUNT; i++) rows[i] = all[i];
    return COUNT;
}
