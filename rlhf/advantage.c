/* advantage.c - how much better was each token than the critic expected?
 *
 * The recursion is walked right to left over each answer.  It stays on the host and in double: a few thousand numbers
 * per iteration are nothing beside one matmul, and advantages are small differences of large sums. */
#include "rlhf/advantage.h"
#include "common/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

static bool counts(const uint8_t *mask, int t) { return !mask || mask[t]; }

void advantage_rewards(float *rewards, const float *logprobs, const float *ref_logprobs, const float *reward,
                       const uint8_t *mask, const int *offsets, int S, double beta)
{
    for (int s = 0; s < S; s++) {
        int last = -1;
        for (int t = offsets[s]; t < offsets[s + 1]; t++) {
            rewards[t] = counts(mask, t) ? (float)(-beta * ((double)logprobs[t] - (double)ref_logprobs[t])) : 0;
            if (counts(mask, t)) last = t;
        }
        assert(last >= 0);
        rewards[last] = (float)(-beta * ((double)logprobs[last] - (double)ref_logprobs[last]) + (double)reward[s]);
    }
}

void advantage_estimate(float *advantages, float *returns, const float *rewards, const float *values,
                        const uint8_t *mask, const int *offsets, int S, double gamma, double lambda)
{
    assert(0 <= gamma && gamma <= 1 && 0 <= lambda && lambda <= 1);
    for (int s = 0; s < S; s++) {
        double next_value = 0, next_advantage = 0;      /* past the last token the episode is over: worth 0 */
        for (int t = offsets[s + 1] - 1; t >= offsets[s]; t--) {
            advantages[t] = returns[t] = 0;
            if (!counts(mask, t)) continue;
            double value = (double)values[t], delta = (double)rewards[t] + gamma * next_value - value;
            next_advantage = delta + gamma * lambda * next_advantage;
            next_value = value;
            advantages[t] = (float)next_advantage;
            returns[t] = (float)(next_advantage + value);
        }
    }
}

double advantage_whiten(float *x, const uint8_t *mask, int n)
{
    double sum = 0, squares = 0;                        /* two passes: the entries nearly cancel */
    int counted = 0;
    for (int i = 0; i < n; i++)
        if (counts(mask, i)) { sum += (double)x[i]; counted++; }
    double mean = counted > 0 ? sum / counted : 0;
    if (counted < 2) return mean;
    for (int i = 0; i < n; i++)
        if (counts(mask, i)) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    bool spread = standard_deviation(squares, counted, mean) > 0;      /* else what is left is rounding */
    double factor = spread ? 1 / sqrt(squares / counted + 1e-8) : 0;
    for (int i = 0; i < n; i++) x[i] = counts(mask, i) ? (float)(((double)x[i] - mean) * factor) : 0;
    return mean;
}
