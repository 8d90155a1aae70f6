/* act_host.h - activations on the host: tests hold them as floats that an act_t can represent. */
#ifndef QUARTET_TEST_ACT_HOST_H
#define QUARTET_TEST_ACT_HOST_H

#include "common/model/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ACT_IS_FLOAT = sizeof(act_t) == sizeof(float) };

/* The bits of an activation, and the float that they mean; bfloat16 is rounded to nearest, ties to even. */
static inline act_t act_of(float x)
{
    act_t a;
    uint32_t u;
    memcpy(&u, &x, 4);
    if (!ACT_IS_FLOAT) u = isnan(x) ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    memcpy(&a, &u, sizeof a);
    return a;
}

static inline float act_value(act_t a)
{
    uint32_t u = 0;
    float x;
    memcpy(&u, &a, sizeof a);
    if (!ACT_IS_FLOAT) u <<= 16;
    memcpy(&x, &u, 4);
    return x;
}

/* Whether a row has the same bits in every batch: a promise of the backend, or a setting of the simulated cuBLASLt. */
static inline bool rows_are_exact(void)
{
    const char *products = getenv("CUDASIM_PRODUCTS");
    return sampling_is_exact() || (products && strcmp(products, "fixed") == 0);
}

static inline float act_rounded(float x) { return act_value(act_of(x)); }

/* The tolerance of what is stored as an activation: with bfloat16 half a unit in the last of 8 places, twice. */
static inline double stored(double tolerance) { return ACT_IS_FLOAT ? tolerance : tolerance + 0x1p-8; }

/* One tolerance for float32, and one for bfloat16 where roundings add up: of inputs, or over the layers of a model. */
static inline double by_type(double float32, double bfloat16) { return ACT_IS_FLOAT ? float32 : bfloat16; }

#endif
