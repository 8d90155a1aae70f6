/* rounding.h - float32 to bfloat16, up or down at random, so that the mean over many updates is the number itself.
 *
 * A float32 lies between two neighbouring bfloat16.  Adding 16 random bits to the 16 that bfloat16 drops, and then
 * dropping them, gives the farther neighbour from 0 with the probability dropped / 65536, exactly.  The bits depend on
 * seed, model, parameter, update and element alone: not on threads, ranks, backend, or when the weights are made. */
#pragma once

#include "common/base/philox.h"

#include <stddef.h>
#include <string.h>

/* Of one matrix.  Its element (r, c) is number (r + shift) * width + column + c of the whole parameter, of which ranks
 * may hold parts: shift is that of the first part with r < end. */
struct rounding {
    uint32_t key[2], update;            /* of rng.h: seed and stream; step */
    uint64_t number;                    /* of the parameter, and of the model */
    size_t width, column, end[3], shift[3];
};

enum { ROUNDING_RUN = 8 };              /* elements whose bits are one block; the first is at a multiple of it */

HOST_DEVICE static inline uint64_t rounding_place(const struct rounding *r, size_t row, size_t c)
{
    size_t shift = row < r->end[0] ? r->shift[0] : row < r->end[1] ? r->shift[1] : r->shift[2];
    return (uint64_t)(row + shift) * r->width + r->column + c;
}

/* The random bits of the element at this place, and of all in its run. */
HOST_DEVICE static inline void rounding_bits(uint32_t bits[4], const struct rounding *r, uint64_t place)
{
    uint64_t index = r->number << 40 | place / ROUNDING_RUN;
    philox_block(bits, 0, (uint32_t)index, (uint32_t)(index >> 32), r->update, r->key[0], r->key[1]);
}

/* x on the bfloat16 below or above, as a float, with the bits of its place; what is not finite stays. */
HOST_DEVICE static inline float rounding_of(float x, uint64_t place, const uint32_t bits[4])
{
    uint32_t u, pair = place & 4 ? (place & 2 ? bits[3] : bits[2]) : (place & 2 ? bits[1] : bits[0]);
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7f800000) == 0x7f800000) return x;
    u = (u + (place & 1 ? pair >> 16 : pair & 0xffff)) & 0xffff0000;
    memcpy(&x, &u, sizeof u);
    return x;
}
