/* score.h - rewards: one number for a whole sequence, read at its last token. */
#ifndef QUARTET_SCORE_H
#define QUARTET_SCORE_H

#include "common/model/model.h"

/* Forward of the batch (keep: a backward follows), then scores (S): the scalar head at the last token of each sequence,
 * as it comes out of the head. */
void score_raw(float *scores, struct model *m, const struct batch *b, bool keep);

/* rewards (S) = (raw - score_mean) / score_std, with the constants of the model's configuration. */
void score_rewards(float *rewards, struct model *m, const struct batch *b);

/* Backward for the last score_raw(keep): dscores (S) is d(loss)/d(scores); adds to the model's gradients. */
void score_backward(struct model *m, const struct batch *b, const float *dscores);

#endif
