/* estimates.c - plain loops over arrays of the host, in double: a few thousand numbers per iteration are nothing beside
 * one matmul, and advantages are small differences of large sums. */
#include "rlhf/estimates.h"
#include "common/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

double mean_of(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i];
    return n > 0 ? sum / n : 0;
}

double squares_of(const float *x, int n, double mean)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sum;
}

void advantage_rewards(float *rewards, const float *logprobs, const float *ref_logprobs, const float *reward,
                       const int *offsets, int S, double beta)
{
    for (int s = 0; s < S; s++) {
        int last = offsets[s + 1] - 1;
        assert(last >= offsets[s]);
        for (int t = offsets[s]; t <= last; t++)
            rewards[t] = (float)(-beta * ((double)logprobs[t] - (double)ref_logprobs[t]) +
                                 (t == last ? (double)reward[s] : 0));
    }
}

void advantage_estimate(float *advantages, float *returns, const float *rewards, const float *values,
                        const int *offsets, int S, double gamma, double lambda)
{
    assert(0 <= gamma && gamma <= 1 && 0 <= lambda && lambda <= 1);
    for (int s = 0; s < S; s++) {
        double next_value = 0, next_advantage = 0;      /* past the last token the episode is over: worth 0 */
        for (int t = offsets[s + 1] - 1; t >= offsets[s]; t--) {
            double value = (double)values[t], delta = (double)rewards[t] + gamma * next_value - value;
            next_advantage = delta + gamma * lambda * next_advantage;
            next_value = value;
            advantages[t] = (float)next_advantage;
            returns[t] = (float)(next_advantage + value);
        }
    }
}

double advantage_whiten(float *x, int n)
{
    double mean = mean_of(x, n), squares = squares_of(x, n, mean);
    if (n < 2) return mean;
    bool spread = standard_deviation(squares, n, mean) > 0;      /* else what is left is rounding */
    double factor = spread ? 1 / sqrt(squares / n + 1e-8) : 0;
    for (int i = 0; i < n; i++) x[i] = (float)(((double)x[i] - mean) * factor);
    return mean;
}

/* ---- the critic ---- */

/* Pessimistic about large moves: a value that left the band around its old value pays for the worse of the two, and
 * gets no gradient from the clipped one. */
double value_loss(float *dvalues, int *clipped, const float *values, const float *old_values, const float *returns,
                  double clip, double scale, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double value = (double)values[i], old = (double)old_values[i], target = (double)returns[i];
        double held = clip > 0 ? fmin(fmax(value, old - clip), old + clip) : value;
        double free_loss = (value - target) * (value - target), held_loss = (held - target) * (held - target);
        bool held_wins = held_loss > free_loss;
        dvalues[i] = held_wins ? 0 : (float)(scale * (value - target));
        *clipped += held_wins;
        sum += (held_wins ? held_loss : free_loss) / 2;
    }
    return sum;
}

double explained_variance(const float *values, const float *returns, int n)
{
    double mean = 0, variance = 0, error = 0;
    for (int i = 0; i < n; i++) mean += (double)returns[i] / n;
    for (int i = 0; i < n; i++) {
        double r = (double)returns[i], miss = (double)values[i] - r;
        variance += (r - mean) * (r - mean);
        error += miss * miss;
    }
    return standard_deviation(variance, n, mean) > 0 ? 1 - error / variance : NAN;
}

/* ---- rewards and the divergence ---- */

void kl_controller_update(struct kl_controller *c, double kl, int episodes)
{
    if (c->target <= 0) return;
    double error = fmin(fmax(kl / c->target - 1, -0.2), 0.2);
    assert(episodes < c->horizon);
    c->beta *= 1 + error * episodes / c->horizon;
}

void running_add(struct running *m, const float *x, int n)
{
    if (n <= 0) return;
    double mean = 0;
    for (int i = 0; i < n; i++) mean += (double)x[i] / n;
    double squares = squares_of(x, n, mean);
    double total = m->count + n, apart = mean - m->mean;
    m->mean += apart * n / total;
    m->squares += squares + apart * apart * m->count * n / total;
    m->count = total;
}

double running_std(const struct running *m) { return standard_deviation(m->squares, m->count - 1, m->mean); }

int reward_shape(float *reward, const unsigned char *ended, int n, const struct reward_shaping *s, struct running *seen)
{
    int clipped = 0;
    running_add(seen, reward, n);
    double std = running_std(seen);
    bool normalise = s->norm != REWARD_NORM_NONE && std > 0;
    for (int i = 0; i < n; i++) {
        double r = (double)reward[i];
        if (normalise) r = (s->norm == REWARD_NORM_WHITEN ? r - seen->mean : r) / std;
        if (s->clip > 0 && fabs(r) > s->clip) {
            r = copysign(s->clip, r);
            clipped++;
        }
        reward[i] = (float)(ended[i] ? r : r - s->missing_end_penalty);
    }
    return clipped;
}
