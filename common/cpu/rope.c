/* rope.c (CPU) - a row's cosines and sines are computed where they are used and serve all its heads: a branch-free
 * loop in double that the compiler turns into vectors costs about as much as the rotation itself, and needs no
 * table that would have to grow with the context. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

#include <assert.h>
#include <math.h>

enum { MAX_PAIRS = 2048 };      /* config_check allows heads of 4096 channels */

struct rope {
    act_t *qkv;
    const int *positions;
    int heads, D, pairs, stride;
    float sign;                 /* -1: the inverse rotation */
    enum rope_layout layout;
    double factor;
    const double *frequency;
};

/* sin and cos by quarter turns: x = k pi/2 + r, |r| <= pi/4, and Taylor's series of r to below 1e-13.  pi/2 is
 * split in two so that k times the first part is exact. */
static void angles(float *cosine, float *sine, const double *frequency, double position, int n)
{
    for (int i = 0; i < n; i++) {
        double x = position * frequency[i], k = rint(x * 0.63661977236758134308);
        double r = (x - k * 0x1.921fb544p+0) - k * 6.07710050650619224932e-11, q = r * r;
        double s = r + r * q * (-1.0 / 6 + q * (1.0 / 120 + q * (-1.0 / 5040 + q * (1.0 / 362880 +
                   q * (-1.0 / 39916800 + q * (1.0 / 6227020800))))));
        double c = 1 + q * (-1.0 / 2 + q * (1.0 / 24 + q * (-1.0 / 720 + q * (1.0 / 40320 + q * (-1.0 / 3628800 +
                   q * (1.0 / 479001600 + q * (-1.0 / 87178291200)))))));
        double turn = k - 4 * floor(k * 0.25);           /* 0, 1, 2 or 3 */
        bool odd = turn == 1 || turn == 3;
        double a = odd ? s : c, b = odd ? c : s;
        cosine[i] = (float)(turn == 1 || turn == 2 ? -a : a);
        sine[i] = (float)(turn >= 2 ? -b : b);
    }
}

static void rotate_halves(act_t *x, const float *cosine, const float *sine, int n)
{
    for (int i = 0; i < n; i++) {
        float a = act_get(x[i]), b = act_get(x[i + n]);
        x[i] = act_put(a * cosine[i] - b * sine[i]);
        x[i + n] = act_put(b * cosine[i] + a * sine[i]);
    }
}

static void rotate_pairs(act_t *x, const float *cosine, const float *sine, int n)
{
    for (int i = 0; i < n; i++) {
        float a = act_get(x[2 * i]), b = act_get(x[2 * i + 1]);
        x[2 * i] = act_put(a * cosine[i] - b * sine[i]);
        x[2 * i + 1] = act_put(b * cosine[i] + a * sine[i]);
    }
}

static void rotate_rows(const void *context, size_t from, size_t end)
{
    const struct rope *p = context;
    float cosine[MAX_PAIRS], sine[MAX_PAIRS];
    for (size_t row = from; row < end; row++) {
        angles(cosine, sine, p->frequency, p->positions[row], p->pairs);
        for (int k = 0; k < p->pairs; k++) sine[k] *= p->sign;
        for (int k = 0; k < p->pairs && p->factor != 1; k++) {
            cosine[k] = (float)(p->factor * (double)cosine[k]);
            sine[k] = (float)(p->factor * (double)sine[k]);
        }
        for (int h = 0; h < p->heads; h++) {
            act_t *x = p->qkv + row * (size_t)p->stride + (size_t)h * (size_t)p->D;
            if (p->layout == ROPE_HALF) rotate_halves(x, cosine, sine, p->pairs);
            else rotate_pairs(x, cosine, sine, p->pairs);
        }
    }
}

static void rotate(act_t *qkv, const int *positions, const double *frequency, int N, int H, int G, int D, int R,
                   double factor, enum rope_layout layout, float sign)
{
    assert(R % 2 == 0 && R <= D && R / 2 <= MAX_PAIRS);
    int stride = (H + 2 * G) * D;
    struct rope p = {.qkv = qkv, .positions = positions, .heads = H + G, .D = D, .pairs = R / 2, .stride = stride,
                     .sign = sign, .layout = layout, .factor = factor, .frequency = frequency};
    rows_for(N, stride, rotate_rows, &p);
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
