/* frequencies.c - how fast each pair of a head turns, and how that is stretched for texts longer than those of
 * pretraining.  Sources: Su et al. 2021, eq. 15; Chen et al. 2023 (linear); Peng et al. 2023, section 3 (YaRN); the
 * llama3 form as published with Llama 3.1. */
#include "common/model/config.h"

#include <assert.h>
#include <math.h>

enum { ROPE_PAIRS_MOST = 2048 };

static double clamped(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* Wavelengths above original / low are stretched, those below original / high stay, the rest is between. */
static double llama3(double f, const struct config *c)
{
    double wave = 2 * M_PI / f, smooth = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
    if (wave < c->rope_original / c->rope_high) return f;
    if (wave > c->rope_original / c->rope_low) return f / c->rope_factor;
    return (1 - smooth) * f / c->rope_factor + smooth * f;
}

/* The number of the pair that turns `turns` times within the original length. */
static double yarn_pair(double turns, const struct config *c, int R)
{
    return R * log(c->rope_original / (turns * 2 * M_PI)) / (2 * log(c->rope_theta));
}

static double yarn(double f, int pair, const struct config *c, int R)
{
    double low = fmax(floor(yarn_pair(c->rope_high, c, R)), 0), high = fmin(ceil(yarn_pair(c->rope_low, c, R)), R - 1);
    double stretched = clamped((pair - low) / (low == high ? 0.001 : high - low));
    return f / c->rope_factor * stretched + f * (1 - stretched);
}

int config_rotated(const struct config *c) { return 2 * (int)(c->head_dim * c->rope_fraction / 2 + 1e-9); }

double config_frequencies(double *frequency, const struct config *c)
{
    int R = config_rotated(c);
    assert(R / 2 <= ROPE_PAIRS_MOST);
    for (int i = 0; i < R / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / R);
        frequency[i] = c->rope_scaling == ROPE_LINEAR ? f / c->rope_factor
                     : c->rope_scaling == ROPE_LLAMA3 ? llama3(f, c)
                     : c->rope_scaling == ROPE_YARN ? yarn(f, i, c, R) : f;     /* dynamic: up to the context, plain */
    }
    if (c->rope_scaling != ROPE_YARN) return 1;
    return c->rope_attention > 0 ? c->rope_attention : c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1;
}
