/* gradients.h - from the gradients of one slice to those of an update.
 *
 * Slices (train.h) are computed in rounds, one slice per data rank.  The sum over all slices is made in the order of
 * their numbers, whatever the number of ranks. */
#ifndef QUARTET_GRADIENTS_H
#define QUARTET_GRADIENTS_H

#include "common/model/model.h"

/* begin: m->grads is ready for another slice; first: of an update's first round.  sum: m->sum becomes, or grows by, the
 * sum of the round's slices; last: of the update's last round.  With one slice the sum is m->grads itself. */
void gradient_begin(struct model *m, bool first);
void gradient_sum(struct model *m, bool first, bool last);

/* Where gradients are shared out as well (use.reduced): layer l's of this rank's slice join the sum, and its place is
 * free for the next.  All ranks do so for layers L-1 to 0, and gradient_sum makes up for those without a slice. */
void gradient_reduce_layer(struct model *m, int l);

/* After the last round: the gradient of the elements from..to that this rank updates.  clear: of an update that is not
 * made. */
float *gradient_own(struct model *m);
void gradient_clear(struct model *m);

#endif
