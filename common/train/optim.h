/* optim.h - schedules, global gradient norm, and AdamW over all parameters of a model. */
#pragma once

#include "common/model/shares.h"

enum schedule { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_WSD };

struct schedule_options {
    enum schedule kind;
    double lr, min_lr;          /* per step; min_lr is the floor that linear, cosine and the decay of wsd end at */
    int64_t warmup, total;      /* steps */
    double decay_share;         /* wsd: the last share of `total` falls linearly (default 0.2) */
};

/* The learning rate of step `step` (from 0).  In the warmup lr * (step + 1) / warmup; after it, with
 *   p = (step - warmup) / max(1, total - 1 - warmup), clamped to [0,1]:
 *   constant: lr     linear: lr + (min_lr - lr) p     cosine: min_lr + (lr - min_lr) (1 + cos(pi p)) / 2
 *   wsd: lr until the last decay_share of total (two steps at least), then linear to min_lr at the last step.
 * Source: Loshchilov & Hutter 2017 (cosine); Hu et al. 2024 (wsd). */
double schedule_lr(const struct schedule_options *s, int64_t step);

/* sqrt(sum g^2) over the gradients of the whole model, in double, the same bits on all ranks; not finite when any
 * gradient is not.  Gradients of frozen parameters are cleared first. */
double gradient_norm(struct model *m);

struct adamw_options { double beta1, beta2, eps, weight_decay; };

/* AdamW (ops.h) on every trainable parameter of m, update number t (from 1), with gradients times grad_scale; clears
 * them, gathers what other ranks have updated, and packs the weights.  ema_decay > 0 also updates m->ema. */
void adamw_step(struct model *m, const struct adamw_options *o, int64_t t, double lr, double grad_scale,
                double ema_decay);
