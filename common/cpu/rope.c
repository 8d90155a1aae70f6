/* rope.c (CPU) - a row's cosines and sines are computed where they are used and serve all its heads: a branch-free
 * loop in double that the compiler turns into vectors costs about as much as the rotation itself, and needs no
 * table that would have to grow with the context. */
#include "common/cpu/rope.h"
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"

#include <assert.h>
#include <math.h>
#include <string.h>

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

void turn_begin(struct turn *t, const struct rope *rope, size_t row, float sign)
{
    int pairs = rope->R / 2;
    assert(rope->R % 2 == 0 && pairs <= MAX_PAIRS);
    t->rope = rope;
    angles(t->cosine, t->sine, rope->frequency, rope->positions[row], pairs);
    for (int k = 0; k < pairs; k++) t->sine[k] *= sign;
    for (int k = 0; k < pairs && rope->factor != 1; k++) {
        t->cosine[k] = (float)(rope->factor * (double)t->cosine[k]);
        t->sine[k] = (float)(rope->factor * (double)t->sine[k]);
    }
}

void turn_head(act_t *x, const struct turn *t)
{
    if (t->rope->layout == ROPE_HALF) rotate_halves(x, t->cosine, t->sine, t->rope->R / 2);
    else rotate_pairs(x, t->cosine, t->sine, t->rope->R / 2);
}

struct rows { act_t *y; const act_t *x; const struct rope *rope; float sign; int heads, D, stride; };

static void rotate_rows(const void *context, size_t from, size_t end)
{
    const struct rows *r = context;
    struct turn turn;
    for (size_t row = from; row < end; row++) {
        act_t *y = r->y + row * (size_t)r->stride;
        if (r->y != r->x) memcpy(y, r->x + row * (size_t)r->stride, (size_t)r->stride * sizeof *y);
        turn_begin(&turn, r->rope, row, r->sign);
        for (int h = 0; h < r->heads; h++) turn_head(y + h * r->D, &turn);
    }
}

void turn_rows(act_t *y, const act_t *x, const struct rope *rope, float sign, int N, int heads, int D, int stride)
{
    assert(rope->R <= D);
    if (rope->R > 0 || y != x)
        rows_for(N, stride, rotate_rows, &(struct rows){y, x, rope, sign, heads, D, stride});
}
