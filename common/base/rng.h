/* rng.h - randomness is a counter: the same (seed, stream, step, index, draw) gives the same number on any machine, for
 * any number of threads or ranks, with no state to lose.
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10. */
#pragma once

#include <stdint.h>

/* What a number is used for; never renumber (stored runs depend on it). */
enum rng_stream { RNG_INIT = 1, RNG_SHUFFLE = 2, RNG_SAMPLE = 3, RNG_ROLLOUT = 4, RNG_MINIBATCH = 5, RNG_SPLIT = 6,
                  RNG_EVAL = 8, RNG_ROUNDING = 9, RNG_TEST = 99 };

/* The key of a seed's stream. */
void rng_key(uint32_t key[2], uint64_t seed, enum rng_stream stream);

/* A place in a stream.  draw counts the 32-bit words taken from it. */
struct rng { uint64_t seed; uint32_t stream; uint64_t step; uint64_t index; uint32_t draw; uint32_t block[4]; };

/* index: the global number of the sample (never a rank's own); step: update, epoch or iteration (below 2^32). */
struct rng rng_at(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index);
uint32_t rng_u32(struct rng *r);
double rng_uniform(struct rng *r);                 /* in [0, 1), 53 bits */
void rng_normal_pair(struct rng *r, double pair[2]);   /* two of mean 0, variance 1 (Box-Muller), from 32 bits each */
uint64_t rng_below(struct rng *r, uint64_t n);     /* uniform in [0, n), without bias; n >= 1 */

/* order = 0 .. n - 1 in an order drawn with the stream's numbers (Fisher-Yates). */
void rng_shuffle(uint32_t *order, uint32_t n, struct rng *r);
