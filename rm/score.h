/* score.h - rewards: one number for a whole sequence, read at its last token. */
#ifndef QUARTET_SCORE_H
#define QUARTET_SCORE_H

#include "common/model/model.h"

/* scores (S): the scalar head at the last token of each sequence, as it comes out of the head.  score_read takes them
 * from the last forward, which was of b; score_raw makes that forward, without keeping anything for a backward. */
void score_read(float *scores, struct model *m, const struct batch *b);
void score_raw(float *scores, struct model *m, const struct batch *b);

/* rewards (S) = (raw - score_mean) / score_std, with the constants of the model's configuration. */
void score_rewards(float *rewards, struct model *m, const struct batch *b);

/* The head's backward before model_backward: dscores (S) is d(loss)/d(scores). */
void score_backward(struct model *m, const struct batch *b, const float *dscores);

/* rm --score, the whole command: rewards for answers in files or on standard input.  Returns the exit code. */
int score_files(int argc, char **argv);

#endif
