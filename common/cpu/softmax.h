/* softmax.h - one row of logits, for the loss and for sampling alike.  Compiled once (softmax.c), so that both get the
 * same bits: PPO's first ratio is exactly 1 because of it. */
#ifndef QUARTET_SOFTMAX_H
#define QUARTET_SOFTMAX_H

struct softmax { float max; double sum, weighted; };    /* sum of e, and of e * (z - max), with e = exp(z - max) */

/* z = z / temperature in place, then the maximum and sums above.   z (V)   temperature > 0, V >= 1 */
struct softmax softmax_row(float *z, int V, float temperature);

/* log p(token) = z[token] - max - log(sum), never above 0;  entropy = log(sum) - weighted / sum.  Computed in double
 * and rounded once. */
float softmax_logprob(const struct softmax *s, const float *z, int token);
float softmax_entropy(const struct softmax *s);

/* e = exp(z - max); e / sum are the probabilities.   e, z (V), e may be z */
void softmax_exp(float *e, const struct softmax *s, const float *z, int V);

/* The gradient, in place of z, of logprob_slope * logprob(token) - entropy_coef * entropy:
 *   dz[j] = logprob_slope * ([j = token] - p[j]) + entropy_coef * p[j] * (log p[j] + entropy) */
void softmax_gradient(float *z, const struct softmax *s, int token, double logprob_slope, double entropy_coef, int V);

#endif
