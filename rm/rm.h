/* rm.h - the parts of the program rm: what it holds, and the task it gives the loop.
 *
 * The trunk is a fine-tuned model, the head one number at the end token of an answer.  A step's loss is the mean over
 * its prompts of the mean over each prompt's pairs (ranking.h); all answers of a prompt lie in one micro-batch, each
 * read once. */
#ifndef QUARTET_RM_H
#define QUARTET_RM_H

#include "common/train/start.h"
#include "rm/data.h"
#include "rm/ranking.h"

enum normalize { NORMALIZE_NONE, NORMALIZE_MEAN, NORMALIZE_BOTH };

/* The groups whose answers are in a micro-batch of a step, in order. */
struct micro { uint32_t *group, groups; };

struct rm {
    struct start start;                         /* first: it has callbacks of its own */
    int normalize;
    struct ranking_options ranking;

    struct rm_data data;
    struct micro *micro;                        /* (micro-batches) */
    float *scores, *dscores;                    /* (sequences of a micro-batch) */
    double *group_scores, *group_dscores;       /* (answers of a group) */
    struct ranking_stats stats;                 /* of the step */
    double prompts;                             /* of the step */
};

struct task rm_task(struct rm *s);          /* for start_train */

/* rm --score, the whole command: rewards for answers in files or on standard input.  Returns the exit code. */
int score_files(int argc, char **argv);

#endif
