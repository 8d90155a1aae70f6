/* shares.h - what ranks share out of a model: from the gradients of one slice to those of an update, and weights
 * that no rank holds all of.  Slices (train.h) are computed in rounds, one slice per data rank.  The sum over all
 * slices is made in the order of their numbers, whatever the number of ranks. */
#pragma once

#include "common/model/model.h"

/* begin: m->grads is ready for another slice; first: of an update's first round; early: layers may join the sum
 * before gradient_sum, as gradient_layer_done says, and then all ranks call gradient_early_end before anything
 * else.  sum: m->sum becomes, or grows by, the sum of the round's slices; last: of the update's last round.  With
 * one slice the sum is m->grads itself. */
void gradient_begin(struct model *m, bool first, bool early);
void gradient_sum(struct model *m, bool first, bool last);

/* ZeRO-2 and 3: layer l's of this rank's slice join the sum, and its place is free for the next.  All ranks do so for
 * layers L-1 to 0, in model_backward or in model_idle. */
void gradient_reduce_layer(struct model *m, int l);

/* Where the engine moves bytes while the device computes, and each rank has one slice: layer l's gradient is whole
 * when the last micro-batch (gradient_last) has been through it, and is summed while the layers before it are
 * differentiated; early_end: so are those of which this rank has nothing. */
bool gradient_overlaps(const struct model *m);
void gradient_last(struct model *m);
void gradient_layer_done(struct model *m, int l);
void gradient_early_end(struct model *m);

/* After the last round: the gradient of the elements from..to that this rank updates.  clear: of an update that is not
 * made. */
float *gradient_own(struct model *m);
void gradient_clear(struct model *m);

/* Weights change in m->own.  share: where a rank keeps what it reads of them: all of its parameters, or its share.
 * init: from (seed, ...) as params_init.  gather: after any change, what is to be read of it on this rank, packed
 * too: all of it, or, with ZeRO-3, what lies outside the layers; gather_layer: then, before a layer is used, its.
 * keep_ends: the way back, from what was changed outside the layers to m->own. */
struct share weights_share(struct model *m);
void weights_init(struct model *m, uint64_t seed);
void weights_gather(struct model *m);
void weights_gather_layer(struct model *m, int l);
void weights_keep_ends(struct model *m);
