/* rng.c - Philox4x32-10.  The counter holds (draw, index low, index high, step); the key holds seed and stream, mixed
 * so that neighbouring seeds and streams share nothing. */
#include "common/base/rng.h"
#include "common/base/philox.h"

#include <math.h>

void rng_key(uint32_t key[2], uint64_t seed, enum rng_stream stream)
{
    key[0] = (uint32_t)seed ^ ((uint32_t)stream * 0x9E3779B9u);
    key[1] = (uint32_t)(seed >> 32) + (uint32_t)stream;
}

struct rng rng_at(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    return (struct rng){.seed = seed, .stream = (uint32_t)stream, .step = step, .index = index};
}

uint32_t rng_u32(struct rng *r)
{
    uint32_t word = r->draw & 3;
    if (word == 0) {
        uint32_t key[2];
        rng_key(key, r->seed, (enum rng_stream)r->stream);
        philox_block(r->block, r->draw >> 2, (uint32_t)r->index, (uint32_t)(r->index >> 32), (uint32_t)r->step, key[0],
                     key[1]);
    }
    r->draw++;
    return r->block[word];
}

double rng_uniform(struct rng *r)
{
    uint64_t high = rng_u32(r) >> 5, low = rng_u32(r) >> 6;
    return (double)(high << 26 | low) * (1.0 / 9007199254740992.0);
}

void rng_normal_pair(struct rng *r, double pair[2])
{
    float u = (float)(((double)rng_u32(r) + 0.5) * 0x1p-32);           /* in (0, 1) */
    float turn = (float)((double)rng_u32(r) * 0x1p-32 * 6.283185307179586);
    float radius = sqrtf(-2 * logf(u));
    pair[0] = (double)(radius * cosf(turn));
    pair[1] = (double)(radius * sinf(turn));
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - (UINT64_MAX % n + 1) % n;  /* the last whole multiple of n, minus 1 */
    uint64_t x;
    do x = (uint64_t)rng_u32(r) << 32 | rng_u32(r);
    while (x > limit);
    return x % n;
}

void rng_shuffle(uint32_t *order, uint32_t n, struct rng *r)
{
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(r, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
