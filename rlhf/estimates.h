/* estimates.h - the arithmetic of PPO between its models: from one reward per answer to one advantage per token, what
 * the critic minimises, and the few numbers that steer a run from iteration to iteration (part of the checkpoint).
 *
 * Tokens of all answers lie in one flat row: answer s owns offsets[s] .. offsets[s+1]-1, offsets (S+1), at least one.
 * All arrays are on the host; sums are in double; nothing can fail. */
#ifndef QUARTET_ESTIMATES_H
#define QUARTET_ESTIMATES_H

/* The mean (0 of nothing), and the summed squared deviations from it. */
double mean_of(const float *x, int n);
double squares_of(const float *x, int n, double mean);

/* rewards[t] = -beta * (logprobs[t] - ref_logprobs[t]),  + reward[s] on the last token of answer s.
 *   rewards (N) overwritten   logprobs, ref_logprobs (N)   reward (S)
 * Source: Ziegler et al. 2019, eq. 2; the end token is an action like any other. */
void advantage_rewards(float *rewards, const float *logprobs, const float *ref_logprobs, const float *reward,
                       const int *offsets, int S, double beta);

/* delta[t] = rewards[t] + gamma * values[t+1] - values[t]
 * advantages[t] = delta[t] + gamma * lambda * advantages[t+1]
 * returns[t] = advantages[t] + values[t]                          (what the critic should learn)
 *   advantages, returns (N) overwritten; may not overlap the inputs   rewards, values (N)
 *   Past the last token of an answer values and advantages are 0, also when it was cut by length.
 *   gamma, lambda in [0, 1].
 * Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16. */
void advantage_estimate(float *advantages, float *returns, const float *rewards, const float *values,
                        const int *offsets, int S, double gamma, double lambda);

/* x = (x - mean) / sqrt(variance + 1e-8), mean and biased variance over the n entries; 0 when the entries are equal up
 * to rounding; unchanged when there are fewer than two.  Returns the mean before. */
double advantage_whiten(float *x, int n);

/* ---- the critic ---- */

/* clipped = clip(value, old - clip, old + clip)
 * loss = sum of max((value - return)^2, (clipped - return)^2) / 2
 * dvalues[t] = scale * (value - return), or 0 where the clipped branch is the larger one and lies on a border.
 *   dvalues, values, old_values, returns (n) on the host   clip > 0, or 0: no clipping
 * Adds to *clipped the number of tokens whose clipped branch is strictly the larger.  Returns the sum.
 * Source: the value clipping of Dhariwal et al. 2017 (OpenAI baselines), as in Ziegler et al. 2019. */
double value_loss(float *dvalues, int *clipped, const float *values, const float *old_values, const float *returns,
                  double clip, double scale, int n);

/* 1 - mean((values - returns)^2) / variance(returns): 1 for a critic that knows, 0 for one that says the mean; NaN when
 * all returns are equal up to rounding. */
double explained_variance(const float *values, const float *returns, int n);

/* ---- rewards and the divergence ---- */

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
