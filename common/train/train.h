/* train.h - the one loop of all four programs.  A program says only what differs (struct task).
 *
 * step: one record, one possible checkpoint.  begin, prepare and end count it from 0; what people see (records,
 * checkpoints, samples, rollouts.jsonl) says how many are done: step + 1.
 * update: one optimizer application: one a step, but in rlhf ppo_epochs * minibatches of them after sampling rollouts.
 * A step's losses are sums over a counted set, scaled once by 1 / (count over all its micro-batches).
 * slice: the n micro-batches of an update are cut into --slices runs of neighbours, ceil(n / slices) each.  A slice's
 * gradient and sums start from 0; the update's are slice 0 + slice 1 + ...  Data rank k of d computes slices k, k + d,
 * k + 2d, ...; so d ranks have the bits of one rank with the same --slices.  Every rank prepares the whole step. */
#pragma once

#include "common/model/model.h"
#include "common/train/optim.h"
#include "common/train/run.h"

/* A model being trained.  rlhf has two: policy and critic. */
#define LEARNER_CRITIC "critic."
struct learner {
    const char *name;               /* a prefix of its tensors and keys in a checkpoint: LEARNER_CRITIC, or "" */
    struct model *model;
    struct schedule_options schedule;
    double ema_decay;               /* 0: none */
    bool frozen;                    /* skip its updates in this step (critic warm-up freezes the policy) */
};

struct task {
    const char *program;            /* "pretrain", ... */
    enum stage stage;
    void *self;
    struct learner *learner;
    int n_learners;

    /* A step begins (rlhf samples here).  Returns the number of updates it wants to make, or -1 with *error.  NULL: one
     * update. */
    int (*begin)(void *self, int64_t step, struct error *error);
    /* Update `update` of this step begins: returns its number of micro-batches (0: this and the remaining updates are
     * skipped) and *count, what its loss averages over (0: no update is made). */
    int (*prepare)(void *self, int64_t step, int update, double *count, struct error *error);
    /* The rows of micro-batch i for this learner, which is not frozen, or NULL.  Valid until the next call. */
    const struct batch *(*batch)(void *self, int i, int learner);
    /* Between forward and backward of those rows: writes dhidden of d(scale * sum of losses), adds the head's own
     * gradients, and returns the SUM of the loss over its things. */
    double (*head)(void *self, int i, int learner, double scale);
    /* What heads add up over a step, for end: n_sums sums, then n_maxima largest values, which are never negative.  The
     * loop sets them to 0 before begin. */
    double *sums;
    int n_sums, n_maxima;
    /* Optional: adds to the learners' gradients after the last micro-batch, when the update's own are whole. */
    void (*mix)(void *self);
    /* The step is done: add metrics to the record (already there: step, loss, lr, grad_norm, tokens, seconds ...). */
    void (*end)(void *self, int64_t step, struct record *r);

    /* Before the loop (program_run): the program's memory, as in program_take; what a person should know before the
     * first step (NULL: nothing); and the first weights, 0 or -1 with *error. */
    void (*build)(void *self, struct memory *m);
    void (*say)(void *self);
    int (*fill)(void *self, struct error *error);

    /* Optional (NULL): evaluation (adds "val_*" fields; 0, or -1 with *error) and samples for a person to read. */
    int (*evaluate)(void *self, struct record *r, struct error *error);
    void (*sample)(void *self, struct run *run, int64_t step);
    /* After the last step, before final.ckpt: normalise a reward model, and the like. */
    void (*finish)(void *self, struct run *run, struct record *r);

    /* What must survive a restart, beyond weights, moments, step and settings.  save fills sections of the
     * checkpoint (conf and tokn always; chat, dcur, rngs, line, eval and its own keys of trns as needed), and is
     * also asked for the counts of dcur, the position in the data; load gets them back before the first step of a
     * resumed run: 0, or -1 with *error. */
    void (*save)(void *self, struct ckpt_meta *meta);
    int (*load)(void *self, const struct ckpt_meta *meta, struct error *error);

    const char *main_metric;        /* key of the record that lineage shows: "val_loss", "val_accuracy", "reward" */
    const char *shown[5];           /* keys of the record that begin the progress line, up to the first NULL */
    double tokens_per_step;         /* for ETA and --plan; 0 when unknown */
    double flops_per_token;         /* for "% of peak" */
};

/* How ranks share a model; -1 where it is left open (slices and zero: until defaults_fill).  And machines to plan
 * for. */
struct parallel_options {
    int64_t tensor, pipeline, data, zero, slices;
    int64_t micro;                  /* not an option: micro-batches of a slice, set by parallel_fit */
    bool slices_auto;               /* of this start, not from a checkpoint */
    const char *cluster;
    double gpu_hour;
};

/* The options that all four programs share; a program adds their rows to its table with TRAIN_OPTIONS. */
struct train_options {
    const char *out, *config;
    const char *resume;             /* auto | never | FILE */
    int64_t seed, threads, device;
    const char *devices, *trace;
    int64_t steps, tokens, batch_tokens, micro_tokens;
    double epochs;
    double lr, min_lr;              /* min_lr < 0: a tenth of lr */
    int64_t warmup;                 /* steps; < 0: the program's default share of the steps */
    int schedule;
    bool stochastic_rounding;
    double weight_decay, beta1, beta2, eps, clip;
    int64_t eval_every, save_every, keep, keep_every, sample_every, log_every;
    bool tensorboard;
    const char *profile_steps;      /* "a:b", or NULL */
    double time_limit;
    int recompute;                  /* none | block */
    int offload;                    /* none | moments */
    bool plan;
    struct parallel_options parallel;
    double stall_limit;
    struct comm *comm;              /* not an option: set by program_start */
    bool no_stages;                 /* not an option: ranks of this program do not split the row of layers */
    bool dry_run;                   /* --dry-run, a row of the programs that have it: touches no run folder */
    int64_t skip_limit;             /* non-finite updates in a row before giving up (3) */
    double spike_z;                 /* skip an update whose gradient norm lies this many robust deviations above the
                                       median of the last 128 (0: off) */
};

/* Held-out micro-batches are dealt to the data ranks in turn; every rank goes through all of them.
 * next: before micro-batch i: 0, or -1 with *error when asked to stop.   mine: whether this rank computes it.
 * gather: after n_micro of them x becomes its sum over the ranks; -1 on all when one has status -1 with *error. */
int evaluation_next(const struct model *m, int64_t i, struct error *error);
bool evaluation_mine(const struct model *m, int64_t i);
int evaluation_gather(struct model *m, int status, int64_t n_micro, double *x, size_t n, struct error *error);

/* A program's own defaults, as text; micro_tokens may be NULL: auto. */
struct train_defaults {
    const char *lr, *schedule, *micro_tokens, *beta2, *eps, *weight_decay, *epochs, *eval_every, *save_every,
               *sample_every;
};
/* Fills rows with the shared options and returns their number (<= TRAIN_ROWS). */
enum { TRAIN_ROWS = 45 };
int train_option_rows(struct option *rows, struct train_options *o, const struct train_defaults *defaults);

/* After comm_open: 0, or -1 (EXIT_USAGE) when ranks are asked for that a run cannot have, or a plan's options without a
 * plan. */
int parallel_check(const struct option *table, const struct train_options *o, struct error *error);

/* The steps that --profile-steps names, counted from 1: the first and the last, or 0 and 0 without the option.  Returns
 * 0, or -1 (EXIT_USAGE) with *error. */
int profile_steps(int64_t *first, int64_t *last, const struct train_options *o, struct error *error);

/* Sets "option.<name>" (dashes as underscores) of kv to the text of every saved option. */
void options_save(struct kv *kv, const struct option *table);

/* The check on resume.  Returns 0, or -1 (EXIT_MISMATCH) naming the first option that differs and may not change, with
 * both values.  An option that kv does not know counts as having had its default: it was added since. */
int options_compare(const struct option *table, const struct kv *saved, struct error *error);

/* Gives every option that is still "auto" the value it has in kv; not those that may change and were given as auto. */
void options_adopt(const struct option *table, const struct kv *saved);

/* 0.45 / channels, at most 0.004, times a stage's share: pretrain 1, sft 1/4, rm 1/8, rlhf 1/20.  Two digits.
 * Source: Brown et al. 2020, table 2.1: rate x width is 0.31 to 0.51 from 768 to 5140 channels. */
double default_lr(enum stage stage, int channels);

/* 0.58 tokens^0.571, down to a power of two, at least 512; tokens: of the whole run.
 * Source: Li et al. 2025 (arXiv:2503.04715), eq. 1, measured on runs of a billion tokens and more. */
int64_t default_batch_tokens(double tokens);

/* Ends the program when its ranks cannot share out a model like this, or an update of n micro-batches: with --zero 2
 * and 3 each is a slice. */
void parallel_fit(struct train_options *o, const struct config *c, int n);

/* What a model that learns is opened for: the use's own fields are set by the caller. */
void train_use(struct model_use *use, const struct train_options *o);

/* Replaces every "auto" of *o: by what the run that is resumed used, else by the rules above.  run: NULL for none;
 * epoch_tokens: of one pass over the data; least: tokens that a batch has in any case. */
void defaults_fill(struct train_options *o, const struct option *table, struct run *run, enum stage stage, int channels,
                   double epoch_tokens, double least);

/* Runs task from where the run folder stands (its newest valid checkpoint, or --resume FILE) to o->steps; a resumed run
 * has the bits of one that was not interrupted.  table: the program's options, for run.conf and the check on resume.
 * Returns the exit code: EXIT_DONE, EXIT_STOPPED (checkpoint saved), or another after saying why. */
int train(struct task *task, struct run *run, const struct train_options *o, const struct option *table);

/* Copies the weights of an open checkpoint into a model (after memory_open), and packs them.  prefix: the learner's
 * name. role: ROLE_WEIGHT or ROLE_EMA.  Every parameter must be there with its shape and nothing may be left over (C4);
 * but a scalar model ignores a vocabulary head, and initialises its own when head_optional and there is none.
 * Returns 0, or -1 (EXIT_MISMATCH) naming the tensor, expected and found. */
int model_load(struct model *m, struct ckpt *c, const char *prefix, enum role role, bool head_optional, uint64_t seed,
               struct error *error);

/* --plan: parameters, memory by phase, tokens, flop and estimated time at the measured peak, or with --cluster the plan
 * for it, to stdout.  Returns EXIT_DONE, or EXIT_INTERNAL after saying on stderr that the memory will not suffice.
 * plan_cluster: a run of so many tokens of a model in sequences of this length; quits (EXIT_USAGE) on options that do
 * not fit. */
int train_print_plan(const struct task *task, const struct memory *memory, const struct train_options *o,
                     const struct option *table);
int train_plan_cluster(const struct config *c, int sequence, double tokens, const struct train_options *o,
                       const struct option *table);

/* The same in a few lines of the log, before the run begins, with a warning where there are few updates. */
void train_log_plan(struct run *run, const struct task *task, const struct memory *memory,
                    const struct train_options *o, const struct option *table);
