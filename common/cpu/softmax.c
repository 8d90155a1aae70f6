/* softmax.c (CPU) - two passes over a row that stays in the second-level cache: the maximum, then the sums.  Floats are
 * added in blocks of BLOCK, blocks in double: 50257 equal terms would otherwise lose three digits. */
#include "common/cpu/softmax.h"
#include "common/cpu/vector.h"

#include <math.h>

enum { BLOCK = 1024 };

static float maximum(const float *z, int V)
{
    float max = z[0];
    int i = 0;
    if (V >= VW) {
        vf most = v_load(z);
        for (i = VW; i + VW <= V; i += VW) most = v_max(v_load(z + i), most);
        max = v_max_lane(most);
    }
    for (; i < V; i++) max = z[i] > max ? z[i] : max;
    return max;
}

/* z - max, with the lanes from n on so low that their exponential is 0. */
static inline vf below_max(const float *z, float max, int n)
{
    if (n >= VW) return v_load(z) - max;
    return v_select(v_lanes() < n, v_load_part(z, n) - max, v_set(-200));
}

struct softmax softmax_row(float *z, int V, float temperature)
{
    if (temperature != 1)
        for (int i = 0; i < V; i++) z[i] /= temperature;
    struct softmax s = {.max = maximum(z, V)};
    for (int b = 0; b < V; b += BLOCK) {
        int end = V - b < BLOCK ? V : b + BLOCK;
        vf sum[2] = {{0}}, weighted[2] = {{0}};
        for (int i = b; i < end; i += 2 * VW)
            for (int j = 0; j < 2 && i + j * VW < end; j++) {
                vf d = below_max(z + i + j * VW, s.max, end - i - j * VW), e = v_exp(d);
                sum[j] += e;
                weighted[j] += e * d;
            }
        s.sum += (double)v_sum(sum[0] + sum[1]);
        s.weighted += (double)v_sum(weighted[0] + weighted[1]);
    }
    return s;
}

struct softmax softmax_join(const struct softmax *a, const struct softmax *b)
{
    struct softmax s = {.max = a->max > b->max ? a->max : b->max};
    double da = (double)a->max - (double)s.max, db = (double)b->max - (double)s.max, ea = exp(da), eb = exp(db);
    s.sum = ea * a->sum + eb * b->sum;
    s.weighted = ea * (a->weighted + da * a->sum) + eb * (b->weighted + db * b->sum);
    return s;
}

float softmax_logprob(const struct softmax *s, float z)
{
    return (float)((double)z - (double)s->max - log(s->sum));
}

float softmax_entropy(const struct softmax *s)
{
    return (float)(log(s->sum) - s->weighted / s->sum);
}

void softmax_exp(float *e, const struct softmax *s, const float *z, int V)
{
    int i = 0;
    for (; i + VW <= V; i += VW) v_store(e + i, v_exp(below_max(z + i, s->max, VW)));
    if (i < V) v_store_part(e + i, v_exp(below_max(z + i, s->max, V - i)), V - i);
}

void softmax_gradient(float *dz, const struct softmax *s, int token, double logprob_slope, double entropy_coef, int V)
{
    double log_sum = log(s->sum), entropy = log_sum - s->weighted / s->sum;
    float inverse = (float)(1 / s->sum), constant = (float)(entropy_coef * (entropy - log_sum) - logprob_slope);
    float coef = (float)entropy_coef;
    for (int i = 0; i < V; i += VW) {
        vf d = below_max(dz + i, s->max, V - i), p = v_exp(d) * inverse;
        vf x = coef == 0 ? p * constant : p * (constant + coef * d);
        if (V - i >= VW) v_store(dz + i, x);
        else v_store_part(dz + i, x, V - i);
    }
    if (token >= 0) dz[token] += (float)logprob_slope;
}
