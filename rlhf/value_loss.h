/* value_loss.h - what the critic minimises. */
#ifndef QUARTET_VALUE_LOSS_H
#define QUARTET_VALUE_LOSS_H

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

#endif
