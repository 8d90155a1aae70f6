/* controllers.h - the few numbers that steer a run from iteration to iteration, and what is done to a reward before it
 * reaches a token.  All of it is plain double arithmetic and part of the checkpoint. */
#ifndef QUARTET_CONTROLLERS_H
#define QUARTET_CONTROLLERS_H

/* The weight of the divergence from the reference.
 *   error = clip(kl / target - 1, -0.2, 0.2);  beta *= 1 + error * episodes / horizon       (target 0: beta stays)
 *   episodes < horizon, so that the factor lies between 0.8 and 1.2.
 *   kl: nats per sequence (sum over its tokens), mean over the iteration's episodes.
 * Source: Ziegler et al. 2019, section 2.2. */
struct kl_controller { double beta, target, horizon; };
void kl_controller_update(struct kl_controller *c, double kl, int episodes);

/* Mean and sum of squared deviations of all numbers seen so far; starts as {0}.
 * Source: Chan, Golub, LeVeque 1979 (merging). */
struct running { double count, mean, squares; };
void running_add(struct running *m, const float *x, int n);
double running_std(const struct running *m);      /* of the sample (count - 1); 0 for fewer than two numbers,
                                                     or when they are equal up to rounding */

/* What happens to the n rewards of an iteration, in this order:
 *   norm:  none | scale: reward / std | whiten: (reward - mean) / std,  over all rewards seen so far, these included
 *          (a std of 0 leaves them as they are)
 *   clip > 0:  to [-clip, clip]
 *   missing_end_penalty is subtracted where ended[i] is false: being cut must not be worth more than ending.
 * Returns the number of clipped rewards. */
enum reward_norm { REWARD_NORM_NONE, REWARD_NORM_SCALE, REWARD_NORM_WHITEN };
#define REWARD_NORMS "none|scale|whiten"
struct reward_shaping { enum reward_norm norm; double clip, missing_end_penalty; };
int reward_shape(float *reward, const unsigned char *ended, int n, const struct reward_shaping *s,
                 struct running *seen);

#endif
