/* rope.cu (CUDA) - a thread computes the angle of a pair in double and turns that pair in all heads of its row. */
#include "common/cuda/kernel.h"

#include <assert.h>

struct rope {
    act_t *qkv;
    const int *positions;
    const double *frequency;
    int N, heads, D, pairs, stride;
    double factor;
    float sign;
    bool halves;
};

static __global__ void rotate_pairs(struct rope r)
{
    size_t n = (size_t)r.N * (size_t)r.pairs;
    for (size_t t = thread_of_grid(); t < n; t += threads_of_grid()) {
        int row = (int)(t / (size_t)r.pairs), i = (int)(t % (size_t)r.pairs);
        double sine, cosine;
        sincos(r.positions[row] * r.frequency[i], &sine, &cosine);
        float c = (float)(r.factor * cosine), s = (float)(r.factor * sine) * r.sign;
        act_t *x = r.qkv + (size_t)row * (size_t)r.stride + (r.halves ? i : 2 * i);
        int other = r.halves ? r.pairs : 1;
        for (int h = 0; h < r.heads; h++, x += r.D) {
            float a = to_float(x[0]), b = to_float(x[other]);
            set(x, a * c - b * s);
            set(x + other, b * c + a * s);
        }
    }
}

static void rotate(act_t *qkv, const int *positions, const double *frequency, int N, int H, int G, int D, int R,
                   double factor, enum rope_layout layout, float sign)
{
    assert(R % 2 == 0 && R <= D);
    if (R == 0) return;
    struct rope r = {qkv, positions, frequency, N, H + G, D, R / 2, (H + 2 * G) * D, factor, sign, layout == ROPE_HALF};
    rotate_pairs<<<cuda_blocks((size_t)N * (size_t)r.pairs), BLOCK, 0, cuda_stream()>>>(r);
    cuda_launched("rotate_pairs");
}

void rope_forward(act_t *qkv, const int *positions, const double *frequency, int N, int H, int G, int D, int R,
                  double factor, enum rope_layout layout)
{
    rotate(qkv, positions, frequency, N, H, G, D, R, factor, layout, 1);
}

void rope_backward(act_t *dqkv, const int *positions, const double *frequency, int N, int H, int G, int D, int R,
                   double factor, enum rope_layout layout)
{
    rotate(dqkv, positions, frequency, N, H, G, D, R, factor, layout, -1);
}
