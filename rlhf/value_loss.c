/* value_loss.c - the squared error of the critic, pessimistic about large moves: a value that left the band around its
 * old value pays for the worse of the two, and gets no gradient from the clipped one. */
#include "rlhf/value_loss.h"
#include "common/base/base.h"

#include <math.h>
#include <stdbool.h>

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
