/* controllers.c - statistics of rewards merge iteration by iteration, so a run remembers three numbers of them all. */
#include "rlhf/controllers.h"
#include "common/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

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
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += (double)x[i] / n;
    for (int i = 0; i < n; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
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
