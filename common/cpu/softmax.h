/* softmax.h - one row of logits, for the loss and for sampling alike.  Compiled once (softmax.c), so that both get the
 * same bits: PPO's first ratio is exactly 1 because of it. */
#ifndef QUARTET_SOFTMAX_H
#define QUARTET_SOFTMAX_H

#include "common/model/ops.h"

/* z = z / temperature in place, then its maximum and sums.   z (V)   temperature > 0, V >= 1 */
struct softmax softmax_row(float *z, int V, float temperature);
/* Those of a row in two parts. */
struct softmax softmax_join(const struct softmax *a, const struct softmax *b);

/* log p = z - max - log(sum), of the token with this z, never above 0;  entropy = log(sum) - weighted / sum.  Computed in double
 * and rounded once. */
float softmax_logprob(const struct softmax *s, float z);
float softmax_entropy(const struct softmax *s);

/* e = exp(z - max); e / sum are the probabilities.   e, z (V), e may be z */
void softmax_exp(float *e, const struct softmax *s, const float *z, int V);

/* The gradient, in place of z, of logprob_slope * logprob(token) - entropy_coef * entropy:
 *   dz[j] = logprob_slope * ([j = token] - p[j]) + entropy_coef * p[j] * (log p[j] + entropy)
 * z may be a part of the row; a token below 0 is in another. */
void softmax_gradient(float *z, const struct softmax *s, int token, double logprob_slope, double entropy_coef, int V);

#endif
