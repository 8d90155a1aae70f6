/* activation.c (CPU) - one loop over vectors, compiled once for each function.  All exponentials are v_exp: libm's,
 * one element at a time, would cost more than reading the memory. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

struct activation_call { act_t *y, *dx; const act_t *dy, *x; enum activation kind; size_t F; };

INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + v_exp(-x)); }

/* The normal distribution: P(X > |x|), and exp(-x^2/2).  The tail is that exponential times a polynomial in
 * t = 1 / (1 + p |x| / sqrt 2), to 1e-7.   Source: Abramowitz & Stegun 1964, 7.1.26. */
INLINE vf normal_tail(vf x, vf *e)
{
    *e = v_exp(x * x * -0.5f);
    vf t = 1.0f / (1.0f + v_max(x, -x) * 0.23164189f), tail = v_set(0.5f * 1.061405429f);
    tail = tail * t - 0.5f * 1.453152027f;
    tail = tail * t + 0.5f * 1.421413741f;
    tail = tail * t - 0.5f * 0.284496736f;
    tail = tail * t + 0.5f * 0.254829592f;
    return tail * t * *e;
}

/* gelu_tanh is x * sigmoid(u), because (1 + tanh(u/2)) / 2 is the sigmoid of u. */
INLINE vf tanh_argument(vf x) { return x * (1.59576912f + 0.0713548162f * x * x); }

/* A NaN stays one. */
INLINE vf value(enum activation kind, vf x)
{
    vf positive = v_max(v_set(0), x), e;
    if (kind == ACTIVATION_RELU) return positive;
    if (kind == ACTIVATION_GELU_TANH) return x / (1.0f + v_exp(-tanh_argument(x)));
    return positive - v_max(x, -x) * normal_tail(x, &e);
}

INLINE vf slope(enum activation kind, vf x)
{
    if (kind == ACTIVATION_RELU) return v_select(x > 0, v_set(1), v_set(0));
    if (kind == ACTIVATION_GELU_TANH) {
        vf s = sigmoid(tanh_argument(x));
        return s + x * s * (1.0f - s) * (1.59576912f + 0.214064449f * x * x);
    }
    vf e, tail = normal_tail(x, &e);
    return v_select(x < 0, tail, 1.0f - tail) + x * e * 0.39894228f;
}

INLINE void forward_span(enum activation kind, act_t *y, const act_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        int left = (int)(n - i);
        act_store(y + i, value(kind, act_load(x + i, left)), left);
    }
}

INLINE void backward_span(enum activation kind, act_t *dx, const act_t *dy, const act_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        int left = (int)(n - i);
        act_store(dx + i, act_load(dy + i, left) * slope(kind, act_load(x + i, left)), left);
    }
}

static void swiglu_forward(act_t *y, const act_t *gate, const act_t *up, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        int left = (int)(n - i);
        vf g = act_load(gate + i, left);
        act_store(y + i, g / (1.0f + v_exp(-g)) * act_load(up + i, left), left);
    }
}

static void swiglu_backward(act_t *dgate, act_t *dup, const act_t *dy, const act_t *gate, const act_t *up, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        int left = (int)(n - i);
        vf g = act_load(gate + i, left), d = act_load(dy + i, left), s = sigmoid(g);
        act_store(dgate + i, d * act_load(up + i, left) * s * (1.0f + g * (1.0f - s)), left);
        act_store(dup + i, d * g * s, left);
    }
}

static void forward_rows(const void *context, size_t from, size_t end)
{
    const struct activation_call *a = context;
    size_t F = a->F, rows = end - from;
    act_t *y = a->y + from * F;
    const act_t *x = a->x + from * F * (a->kind == ACTIVATION_SWIGLU ? 2 : 1);
    switch (a->kind) {
    case ACTIVATION_GELU: forward_span(ACTIVATION_GELU, y, x, rows * F); return;
    case ACTIVATION_GELU_TANH: forward_span(ACTIVATION_GELU_TANH, y, x, rows * F); return;
    case ACTIVATION_RELU: forward_span(ACTIVATION_RELU, y, x, rows * F); return;
    case ACTIVATION_SWIGLU:
        for (size_t row = 0; row < rows; row++) swiglu_forward(y + row * F, x + row * 2 * F, x + row * 2 * F + F, F);
    }
}

static void backward_rows(const void *context, size_t from, size_t end)
{
    const struct activation_call *a = context;
    size_t F = a->F, rows = end - from;
    size_t wide = F * (a->kind == ACTIVATION_SWIGLU ? 2 : 1);
    act_t *dx = a->dx + from * wide;
    const act_t *dy = a->dy + from * F, *x = a->x + from * wide;
    switch (a->kind) {
    case ACTIVATION_GELU: backward_span(ACTIVATION_GELU, dx, dy, x, rows * F); return;
    case ACTIVATION_GELU_TANH: backward_span(ACTIVATION_GELU_TANH, dx, dy, x, rows * F); return;
    case ACTIVATION_RELU: backward_span(ACTIVATION_RELU, dx, dy, x, rows * F); return;
    case ACTIVATION_SWIGLU:
        for (size_t row = 0; row < rows; row++)
            swiglu_backward(dx + row * wide, dx + row * wide + F, dy + row * F, x + row * wide, x + row * wide + F, F);
    }
}

void activation_forward(act_t *y, const act_t *x, enum activation kind, int N, int F)
{
    rows_for(N, F, forward_rows, &(struct activation_call){.y = y, .x = x, .kind = kind, .F = (size_t)F});
}

void activation_backward(act_t *dx, const act_t *dy, const act_t *x, enum activation kind, int N, int F)
{
    rows_for(N, F, backward_rows, &(struct activation_call){.dx = dx, .dy = dy, .x = x, .kind = kind, .F = (size_t)F});
}
