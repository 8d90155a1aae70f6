/* optim.c - what happens between backward and the next forward.  Gradients, moments and averages are laid out as
 * the parameters are, so that one walk over the parameters' list finds all four of each. */
#include "common/train/optim.h"
#include "common/model/device.h"

#include <assert.h>
#include <math.h>

/* Between `from` at p = 0 and `to` at p = 1. */
static double line(double from, double to, double p) { return from + (to - from) * p; }

/* How far step lies between first and last, in [0, 1]. */
static double progress(int64_t step, int64_t first, int64_t last)
{
    double p = (double)(step - first) / (double)(last - first > 1 ? last - first : 1);
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

double schedule_lr(const struct schedule_options *s, int64_t step)
{
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)s->warmup;
    double p = progress(step, s->warmup, s->total - 1);
    int64_t decay_from = s->total - (int64_t)fmax(s->decay_share * (double)s->total + 0.5, 2);    /* still at full lr */
    switch (s->kind) {
    case SCHEDULE_CONSTANT: break;
    case SCHEDULE_LINEAR: return line(s->lr, s->min_lr, p);
    case SCHEDULE_COSINE: return line(s->min_lr, s->lr, (1 + cos(3.14159265358979323846 * p)) / 2);
    case SCHEDULE_WSD: return line(s->lr, s->min_lr, progress(step, decay_from > 0 ? decay_from : 0, s->total - 1));
    }
    return s->lr;
}

static void clear_frozen(void *context, const struct param *p)
{
    const struct model *m = context;
    if (!p->trainable) device_clear(m->grads.all + (*p->data - m->params.all), p->count * sizeof(float));
}

double gradient_norm(struct model *m)
{
    if (m->params.frozen) params_each(&m->params, &m->config, clear_frozen, m);
    double squares = sum_squares(m->grads.all, m->grads.count);
    comm_add(m->use.comm, GROUP_DATA, &squares, 1, 0);
    return sqrt(squares);
}

void gradient_sum(struct model *m)
{
    comm_sum_scatter(m->use.comm, GROUP_DATA, m->grads.all, m->grads.all, m->grads.count, NUMBER_FLOAT);
    comm_wait(m->use.comm);
}

struct step { struct model *model; struct adamw adamw; float weight_decay; };

static void update_one(void *context, const struct param *p)
{
    struct step *s = context;
    struct model *m = s->model;
    if (!p->trainable) return;
    size_t at = (size_t)(*p->data - m->params.all);
    s->adamw.decay = p->decay ? s->weight_decay : 0;
    adamw_update(*p->data, m->grads.all + at, m->m.all + at, m->v.all + at, p->count, &s->adamw);
}

void adamw_step(struct model *m, const struct adamw_options *o, int64_t t, double lr, double grad_scale,
                double ema_decay)
{
    assert(m->use.train && t >= 1 && (ema_decay <= 0 || m->use.ema));
    struct step s = {.model = m, .weight_decay = (float)o->weight_decay};
    s.adamw = (struct adamw){.lr = (float)lr, .beta1 = (float)o->beta1, .beta2 = (float)o->beta2, .eps = (float)o->eps,
                             .correction1 = (float)(1 - pow(o->beta1, (double)t)),
                             .correction2 = (float)(1 - pow(o->beta2, (double)t)), .grad_scale = (float)grad_scale};
    params_each(&m->params, &m->config, update_one, &s);
    if (ema_decay > 0) ema_update(m->ema.all, m->params.all, (float)ema_decay, m->params.count);
    comm_gather(m->use.comm, GROUP_DATA, m->params.all, m->params.all, m->params.count * sizeof(float));
    comm_wait(m->use.comm);
    params_pack(&m->params, &m->config);
}
