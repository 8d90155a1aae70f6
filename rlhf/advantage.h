/* advantage.h - from one number per answer to one advantage per token.
 *
 * Tokens of all answers lie in one flat row: answer s owns offsets[s] .. offsets[s+1]-1, offsets (S+1).
 * mask (N), or NULL when every token counts: 0 marks tokens inside an answer that the policy did not choose.
 * All arrays are on the host; sums are in double. */
#ifndef QUARTET_ADVANTAGE_H
#define QUARTET_ADVANTAGE_H

#include <stdint.h>

/* rewards[t] = -beta * (logprobs[t] - ref_logprobs[t]),  + reward[s] on the last counted token of answer s.
 *   rewards (N) overwritten, 0 where mask is 0   logprobs, ref_logprobs (N)   reward (S)
 * Every answer has at least one counted token.  Cannot fail.
 * Source: Ziegler et al. 2019, eq. 2; the end token is an action like any other. */
void advantage_rewards(float *rewards, const float *logprobs, const float *ref_logprobs, const float *reward,
                       const uint8_t *mask, const int *offsets, int S, double beta);

/* delta[t] = rewards[t] + gamma * values[t+1] - values[t]
 * advantages[t] = delta[t] + gamma * lambda * advantages[t+1]
 * returns[t] = advantages[t] + values[t]                          (what the critic should learn)
 *   advantages, returns (N) overwritten, 0 where mask is 0; may not overlap the inputs   rewards, values (N)
 *   t+1 is the next counted token of the answer; after the last one both are 0, also when the answer was cut by length.
 *   gamma, lambda in [0, 1].  Cannot fail.
 * Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16. */
void advantage_estimate(float *advantages, float *returns, const float *rewards, const float *values,
                        const uint8_t *mask, const int *offsets, int S, double gamma, double lambda);

/* x = (x - mean) / sqrt(variance + 1e-8), mean and biased variance over the n counted entries; 0 where mask is 0,
 * and everywhere when the entries are equal up to rounding.  Returns the mean before.  With fewer than two counted
 * entries x stays as it is. */
double advantage_whiten(float *x, const uint8_t *mask, int n);

#endif
