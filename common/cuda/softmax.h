/* softmax.h - one row of logits by a block, for the loss and for sampling alike: the same numbers from both. */
#ifndef QUARTET_CUDA_SOFTMAX_H
#define QUARTET_CUDA_SOFTMAX_H

#include "common/cuda/kernel.h"

struct softmax_parts { float max[WARPS]; double sum[WARPS]; };

/* z = z / temperature in place, then its maximum and sums, in every thread.   z (V), seen by the whole block when
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

/* Those of a row in two parts. */
__device__ static inline struct softmax softmax_join(const struct softmax &a, const struct softmax &b)
{
    struct softmax s = {a.max > b.max ? a.max : b.max, 0, 0};
    double da = (double)a.max - (double)s.max, db = (double)b.max - (double)s.max, ea = exp(da), eb = exp(db);
    s.sum = ea * a.sum + eb * b.sum;
    s.weighted = ea * (a.weighted + da * a.sum) + eb * (b.weighted + db * b.sum);
    return s;
}

__device__ static inline float softmax_logprob(const struct softmax *s, float z)
{
    return (float)((double)z - (double)s->max - log(s->sum));
}

__device__ static inline float softmax_entropy(const struct softmax *s)
{
    return (float)(log(s->sum) - s->weighted / s->sum);
}

#endif
