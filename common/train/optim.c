/* optim.c - what happens between backward and the next forward.  Gradients, moments and averages are laid out as the
 * parameters are.  A rank that updates a piece of the parameters has only that piece of them; a parameter may lie
 * across the border of two. */
#include "common/train/optim.h"
#include "common/model/adamw.h"
#include "common/model/device.h"

#include <assert.h>
#include <math.h>

static double line(double from, double to, double p) { return from + (to - from) * p; }

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

/* ---- gradients ---- */

/* The part of a parameter that this rank updates: first element within params.all, and how many. */
static size_t own_part(const struct model *m, const struct param *p, size_t *first)
{
    size_t at = p->first, end = at + p->count;
    *first = at > m->from ? at : m->from;
    end = end < m->to ? end : m->to;
    return *first < end ? end - *first : 0;
}

static void clear_frozen(void *context, const struct param *p)
{
    struct model *m = context;
    size_t first, n = own_part(m, p, &first);
    if (!p->trainable && n > 0) device_clear(gradient_own(m) + (first - m->from), n * sizeof(float));
}

/* sums[b] of block b of this rank's piece: of what only this tensor rank has, and, on one of them, of what all have. */
struct squares { struct model *model; double *sums; };

static void add_squares(void *context, const struct param *p)
{
    struct squares *q = context;
    const struct model *m = q->model;
    size_t first, n = own_part(m, p, &first), at = first - m->from, block = at / SQUARES_BLOCK;
    if (n == 0 || p->stage != m->params.stage || (m->place.tensor > 0 && p->split == SPLIT_NONE)) return;
    size_t border = (block + 1) * SQUARES_BLOCK - at, head = n < border ? n : border, rest = squares_blocks(n - head);
    scoped double *part = host_alloc(rest + 1, sizeof *part);
    sum_squares(part, gradient_own(q->model) + at, head);
    if (n > head) sum_squares(part + 1, gradient_own(q->model) + at + head, n - head);
    for (size_t i = 0; i <= rest; i++) q->sums[block + i] += part[i];
}

/* Where a block of a stage's run begins that goes on in the next stage, how much of it lies before that, and who has
 * it. */
struct border { size_t at, n; int data; };

static struct border border_after(const struct model *m, int stage)
{
    const struct stage_run *run = &m->params.run[stage];
    struct border b = {.n = run->end % SQUARES_BLOCK, .data = m->place.data};
    b.at = run->end - b.n;
    if (m->use.zero > 0) b.data = (int)(b.at / (run->count / (size_t)m->place.d));
    return b;
}

/* Tells the next stage of such a block, or hears of it from the one before: its elements, or, where they are on several
 * tensor ranks, the sum of their squares so far, which lies in *sum. */
static void border_pass(struct model *m, double *sum, bool send)
{
    struct comm *comm = m->use.comm;
    struct place place = comm_place(comm);
    struct border b = border_after(m, send ? place.pipe : place.pipe - 1);
    if (b.n == 0 || (send ? b.data != place.data : m->from > 0)) return;
    int sender = comm_rank_of(comm, b.data, place.pipe - 1);
    int receiver = comm_rank_of(comm, m->use.zero > 0 ? 0 : place.data, place.pipe + 1);
    scoped float *x = host_alloc(b.n, sizeof *x);
    float *gradient = gradient_own(m) + (send ? b.at - m->from : 0);
    size_t bytes = place.t > 1 ? sizeof *sum : b.n * sizeof *x;
    if (send && place.t == 1) device_get(x, gradient, bytes);
    device_wait();
    if (send) comm_send_host(comm, place.t > 1 ? (void *)&sum[(b.at - m->from) / SQUARES_BLOCK] : x, bytes, receiver);
    else comm_receive_host(comm, place.t > 1 ? (void *)sum : x, bytes, sender);
    if (!send && place.t == 1) device_put(gradient, x, bytes);
    device_wait();
}

/* The squares of this rank's piece, block by block.  Blocks lie where they lie in the run of the whole model: one that
 * two stages have parts of is the later one's. */
static void own_squares(struct model *m, double *sums)
{
    if (m->params.frozen) params_each(&m->params, &m->local, clear_frozen, m);
    if (m->place.pipe > 0) border_pass(m, sums, false);
    if (m->place.t == 1) sum_squares(sums, gradient_own(m), m->to - m->from);
    else params_each(&m->params, &m->local, add_squares, &(struct squares){m, sums});
    if (m->place.pipe < m->place.p - 1) border_pass(m, sums, true);
    if (m->from == 0) device_clear(gradient_own(m), m->params.run[m->place.pipe].lead * sizeof(float));
}

/* Blocks are added in the order of the whole model, stage after stage. */
double gradient_norm(struct model *m)
{
    struct comm *comm = m->use.comm;
    struct place place = comm_place(comm);
    bool pieces = m->use.zero > 0;
    size_t blocks = squares_blocks(m->to - m->from), all = pieces ? blocks * (size_t)place.d : blocks;
    scoped double *squares = host_alloc(all, sizeof *squares);
    double sum = 0, *mine = pieces ? squares + blocks * (size_t)place.data : squares;
    own_squares(m, mine);
    if (pieces) comm_gather_host(comm, GROUP_DATA, squares, mine, blocks * sizeof *squares);
    size_t end = m->params.run[place.pipe].end, counted = model_last(m) ? squares_blocks(end) : end / SQUARES_BLOCK;
    if (place.pipe > 0) comm_receive_host(comm, &sum, sizeof sum, comm_rank_of(comm, place.data, place.pipe - 1));
    for (size_t i = 0; i < counted; i++) sum += squares[i];
    if (!model_last(m)) comm_send_host(comm, &sum, sizeof sum, comm_rank_of(comm, place.data, place.pipe + 1));
    comm_share_host(comm, GROUP_PIPE, &sum, sizeof sum, place.p - 1);
    comm_add(comm, GROUP_TENSOR, &sum, 1, 0);
    return sqrt(sum);
}

/* ---- AdamW ---- */

struct step { struct model *model; struct adamw adamw; float weight_decay; };

static void update_one(void *context, const struct param *p)
{
    struct step *s = context;
    struct model *m = s->model;
    size_t first, n = own_part(m, p, &first), at = first - m->from;
    if (!p->trainable || n == 0) return;
    s->adamw.decay = p->decay ? s->weight_decay : 0;
    (m->use.offload ? adamw_offloaded : adamw_update)(m->own + at, gradient_own(m) + at, m->m + at, m->v + at, n,
                                                      &s->adamw);
}

void adamw_step(struct model *m, const struct adamw_options *o, int64_t t, double lr, double grad_scale,
                double ema_decay)
{
    assert(m->use.train && t >= 1 && (ema_decay <= 0 || m->use.ema));
    struct step s = {.model = m, .weight_decay = (float)o->weight_decay};
    s.adamw = (struct adamw){.lr = (float)lr, .beta1 = (float)o->beta1, .beta2 = (float)o->beta2, .eps = (float)o->eps,
                             .correction1 = (float)(1 - pow(o->beta1, (double)t)),
                             .correction2 = (float)(1 - pow(o->beta2, (double)t)), .grad_scale = (float)grad_scale};
    size_t own = m->to - m->from;
    m->params.rounds.update = t;
    params_each(&m->params, &m->local, update_one, &s);
    if (ema_decay > 0) (m->use.offload ? ema_host : ema_update)(m->ema, m->own, (float)ema_decay, own);
    if (m->use.zero > 0 && !model_apart(m)) {
        comm_gather(m->use.comm, GROUP_DATA, m->params.all, m->own, own * sizeof(float));
        comm_wait(m->use.comm);
    }
    weights_gather(m);
}
