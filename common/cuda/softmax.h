/* softmax.h - one row of logits by a block, for the loss and for sampling alike: the same numbers from both. */
#ifndef QUARTET_CUDA_SOFTMAX_H
#define QUARTET_CUDA_SOFTMAX_H

#include "common/cuda/kernel.h"

struct softmax { float max; double sum, weighted; };    /* sum of e, and of e * (z - max), with e = exp(z - max) */
struct softmax_parts { float max[WARPS]; double sum[WARPS]; };

/* z = z / temperature in place, then the maximum and sums above, in every thread.   z (V), seen by the whole block when
 * the call returns */
__device__ static inline struct softmax softmax_row(float *z, int V, float temperature, struct softmax_parts *part)
{
    struct softmax s = {-INFINITY, 0, 0};
    for (int i = (int)threadIdx.x; i < V; i += BLOCK) {
        if (temperature != 1) z[i] /= temperature;
        s.max = fmaxf(s.max, z[i]);
    }
    s.max = block_max(s.max, part->max);
    for (int i = (int)threadIdx.x; i < V; i += BLOCK) {
        float d = z[i] - s.max, e = expf(d);
        s.sum += (double)e;
        if (e > 0) s.weighted += (double)(e * d);       /* at minus infinity the product is not a number */
    }
    s.sum = block_sum<double>(s.sum, part->sum);
    s.weighted = block_sum<double>(s.weighted, part->sum);
    return s;
}

__device__ static inline float softmax_logprob(const struct softmax *s, const float *z, int token)
{
    return (float)((double)z[token] - (double)s->max - log(s->sum));
}

__device__ static inline float softmax_entropy(const struct softmax *s)
{
    return (float)(log(s->sum) - s->weighted / s->sum);
}

#endif
