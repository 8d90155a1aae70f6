/* train_state.h - what the loop knows besides the models; only for the train*.c files.  Whatever affects the next
 * step is in every checkpoint. */
#pragma once

#include "common/train/train.h"

enum { LEARNERS_MAX = 4, NORMS_MAX = 128, RECENT = 16, SUMS_MAX = 32 };

/* The last accepted gradient norms of a learner, a ring; `next` is the place of the next one. */
struct norms { double norm[NORMS_MAX]; int count, next; };

/* What the micro-batches of one slice add up to, as ranks tell each other: losses, rows, a wish to stop, and the task's
 * sums and maxima. */
struct slice { double loss, rows, wish, sums[SUMS_MAX]; };

/* How long things took: only for people, and for stopping before a time limit. */
struct clock {
    double step[RECENT];                 /* the last steps, a ring */
    int steps;                           /* made by this process */
    double begun, evaluation, save;      /* when the first step began; how long the last evaluation and save took */
    double status;                       /* when status.json was written */
    char line[200];                      /* the last line of progress */
};

struct train_state {
    struct task *task;
    struct run *run;
    const struct train_options *o;
    const struct option *table;

    int64_t step;                        /* steps done */
    int64_t t[LEARNERS_MAX];             /* updates each learner has had */
    int64_t tokens;                      /* positions trained on */
    int64_t skipped;                     /* updates skipped for any reason */
    int64_t bad_row, spike_row;          /* of those, how many just now in a row: not finite; too large */
    struct norms norms[LEARNERS_MAX];
    struct kv eval;                      /* section EVAL: the newest results */
    uint8_t run_uuid[16], weights_id[16];
    bool weights_changed;                /* since weights_id was drawn */

    struct slice *slice;                 /* (data ranks) of the round under way */
    struct record record;                /* of step `step`, while its evaluation is still to come; else empty */
    bool may_give_up;                    /* the step under way: nothing of it has been kept yet */

    int64_t profile_first, profile_last;    /* steps, from 1; 0: none */
    bool resumed;
    int64_t saved_step;                  /* of the newest checkpoint in the folder, or -1 */
    int failed_saves;                    /* in a row */
    struct clock clock;
};

/* train_begin.c: loads what the run goes on from and takes the run folder.  All ranks return 0, or -1 with *error. */
int train_begin(struct train_state *s, struct error *error);

/* What one step's updates did. */
struct step_result { double loss, norm[LEARNERS_MAX]; int losses, norms[LEARNERS_MAX]; };   /* sums, and how many */

/* train_update.c: update number `update` of the step: all micro-batches, the guards, the optimizers.
 * Returns 1, 0 when this and the remaining updates of the step are skipped, or -1 with *error. */
int train_update(struct train_state *s, struct step_result *result, int update, struct error *error);

/* Forward, head and backward of micro-batch i, the last of a slice or not, for every learner that is not frozen and has
 * rows in it.  Returns the sum of the losses; *rows is the number of rows read. */
double train_micro_batch(const struct task *task, int i, bool last, double scale, int *rows);

/* Where in the data the task stands: the numbers of its cursor, appended. */
void data_position(struct bytes *out, const struct train_state *s);

/* What stage `stage` of p does as number `turn` of its 2m turns: the forward or the backward of one of m micro-batches.
 * Each begins with as many forwards as there are stages behind it, then forwards and backwards alternate (1F1B), so
 * that at most min(m, p - stage) micro-batches are under way.  Source: Narayanan et al. 2021. */
struct turn { int micro; bool backward; };
struct turn pipeline_turn(int stage, int p, int m, int turn);

/* (x - median) / max(1.4826 MAD, 0.001 median) of the accepted norms; 0 while there are fewer than 16. */
double norms_deviation(const struct norms *n, double x);
void norms_add(struct norms *n, double x);

/* A learner's name for this key: "critic.lr". */
static inline const char *learner_key(char key[64], const struct learner *l, const char *name)
{
    snprintf(key, 64, "%s%s", l->name, name);
    return key;
}

/* alike.c: 0, or -1 on all ranks (EXIT_MISMATCH) where one has another build, other options or other data. */
int ranks_alike(struct train_state *s, struct error *error);

/* train_save.c: the state to folder/name with the header flags, and from a file.  Both return 0, or -1 with *error. */
int train_save(struct train_state *s, const char *name, uint32_t flags, struct error *error);
int train_load(struct train_state *s, struct ckpt *c, struct error *error);
