/* rng.c - Philox4x32-10.  The counter holds (draw, index low, index high, step); the key holds seed and stream, mixed
 * so that neighbouring seeds and streams share nothing. */
#include "common/base/rng.h"

#include <math.h>

void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

struct rng rng_at(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    return (struct rng){.seed = seed, .stream = (uint32_t)stream, .step = step, .index = index};
}

uint32_t rng_u32(struct rng *r)
{
    uint32_t word = r->draw & 3;
    if (word == 0) {
        uint32_t counter[4] = {r->draw >> 2, (uint32_t)r->index, (uint32_t)(r->index >> 32), (uint32_t)r->step};
        uint32_t key[2] = {(uint32_t)r->seed ^ (r->stream * 0x9E3779B9u), (uint32_t)(r->seed >> 32) + r->stream};
        philox4x32(r->block, counter, key);
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
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(r, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
