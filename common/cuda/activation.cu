/* activation.cu (CUDA) - one thread an element; float32 between load and store. */
#include "common/cuda/kernel.h"

__device__ static inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* gelu_tanh is x * sigmoid(u), because (1 + tanh(u/2)) / 2 is the sigmoid of u. */
__device__ static inline float tanh_argument(float x) { return x * (1.59576912f + 0.0713548162f * x * x); }

/* P(X <= x) of the normal distribution; erfc keeps the digits of a small tail. */
__device__ static inline float normal(float x) { return 0.5f * erfcf(x * -0.70710678f); }

__device__ static inline float value(enum activation kind, float x)
{
    if (kind == ACTIVATION_RELU) return x < 0 ? 0 : x;                  /* a NaN stays one */
    if (kind == ACTIVATION_GELU_TANH) return x * sigmoid(tanh_argument(x));
    return x * normal(x);
}

__device__ static inline float slope(enum activation kind, float x)
{
    if (kind == ACTIVATION_RELU) return x > 0 ? 1 : 0;
    if (kind == ACTIVATION_GELU_TANH) {
        float s = sigmoid(tanh_argument(x));
        return s + x * s * (1 - s) * (1.59576912f + 0.214064449f * x * x);
    }
    return normal(x) + x * expf(x * x * -0.5f) * 0.39894228f;
}

static __global__ void forward(act_t *y, const act_t *x, enum activation kind, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) set(y + i, value(kind, to_float(x[i])));
}

static __global__ void backward(act_t *dx, const act_t *dy, const act_t *x, enum activation kind, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid())
        set(dx + i, to_float(dy[i]) * slope(kind, to_float(x[i])));
}

static __global__ void swiglu_forward(act_t *y, const act_t *x, size_t n, size_t F)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) {
        size_t at = i / F * 2 * F + i % F;
        float gate = to_float(x[at]);
        set(y + i, gate * sigmoid(gate) * to_float(x[at + F]));
    }
}

static __global__ void swiglu_backward(act_t *dx, const act_t *dy, const act_t *x, size_t n, size_t F)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) {
        size_t at = i / F * 2 * F + i % F;
        float gate = to_float(x[at]), up = to_float(x[at + F]), d = to_float(dy[i]), s = sigmoid(gate);
        set(dx + at, d * up * s * (1 + gate * (1 - s)));
        set(dx + at + F, d * gate * s);
    }
}

void activation_forward(act_t *y, const act_t *x, enum activation kind, int N, int F)
{
    size_t n = (size_t)N * (size_t)F;
    unsigned blocks = cuda_blocks(n);
    if (kind == ACTIVATION_SWIGLU) swiglu_forward<<<blocks, BLOCK, 0, cuda_stream()>>>(y, x, n, (size_t)F);
    else forward<<<blocks, BLOCK, 0, cuda_stream()>>>(y, x, kind, n);
    cuda_launched("activation_forward");
}

void activation_backward(act_t *dx, const act_t *dy, const act_t *x, enum activation kind, int N, int F)
{
    size_t n = (size_t)N * (size_t)F;
    unsigned blocks = cuda_blocks(n);
    if (kind == ACTIVATION_SWIGLU) swiglu_backward<<<blocks, BLOCK, 0, cuda_stream()>>>(dx, dy, x, n, (size_t)F);
    else backward<<<blocks, BLOCK, 0, cuda_stream()>>>(dx, dy, x, kind, n);
    cuda_launched("activation_backward");
}
