/* adamw.h - AdamW of ops.h for one number, as every backend computes it, and for arrays of the host. */
#pragma once

#include "common/base/philox.h"
#include "common/model/ops.h"

#include <math.h>

HOST_DEVICE static inline void adamw_one(float *param, float *grad, float *m, float *v, const struct adamw *a)
{
    float m_factor = 1 / a->correction1, v_factor = 1 / a->correction2, rest1 = 1 - a->beta1, rest2 = 1 - a->beta2;
    float g = a->grad_scale * *grad;
    float first = a->beta1 * *m + rest1 * g, second = a->beta2 * *v + rest2 * (g * g);
    float step = first * m_factor / (sqrtf(second * v_factor) + a->eps);
    *param -= a->lr * (step + a->decay * *param);
    *m = first;
    *v = second;
    *grad = 0;
}

/* adamw_update and ema_update by the host's threads, on memory of the host. */
void adamw_host(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a);
void ema_host(float *average, const float *x, float decay, size_t n);
