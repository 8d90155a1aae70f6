/* shares.c - a rank adds what all ranks have of its piece, in the order of their slices.  A sum over slices starts from
 * 0 on one rank as on many: -0 and 0 must not tell them apart. */
#include "common/model/shares.h"
#include "common/model/device.h"

static size_t piece_of(const struct model *m) { return m->params.count / (size_t)m->place.d; }

bool gradient_overlaps(const struct model *m)
{
    struct place p = m->place;
    return comm_overlaps(m->use.comm) && p.d > 1 && p.p == 1 && m->use.zero < 2 && m->use.slices == p.d;
}

void gradient_begin(struct model *m, bool first, bool early)
{
    m->early = early && gradient_overlaps(m);
    m->last_micro = false;
    m->layers_reduced = 0;
    if (m->use.zero >= 2 && first) device_clear(m->sum, piece_of(m) * sizeof(float));
    if (m->use.zero < 2 && m->use.slices > 1) device_clear(m->grads.all, m->grads.count * sizeof(float));
}

/* Elements from..to of the parameters, which x holds, join the sum. */
static void reduce(struct model *m, float *x, size_t from, size_t to)
{
    comm_sum_scatter(m->use.comm, GROUP_DATA, m->sum, x, from, to, piece_of(m), true);
    device_clear(x, (to - from) * sizeof *x);
}

enum { ENDS = -1, ALL = -2 };            /* instead of the number of a layer */
struct partial { struct model *model; int layer; };

static void sum_partial(void *context, const struct param *p)
{
    struct partial *x = context;
    if (p->partial && (x->layer == ALL || x->layer == p->layer))
        comm_sum(x->model->use.comm, GROUP_TENSOR, *p->data, p->count);
}

/* What tensor ranks have parts of. */
static void sum_partials(struct model *m, int l)
{
    if (m->place.t > 1)
        params_each(&m->grads, &m->local, sum_partial, &(struct partial){m, l});
}

void gradient_reduce_layer(struct model *m, int l)
{
    sum_partials(m, l);
    reduce(m, m->grads.one_layer, layer_begin(&m->params, l), layer_begin(&m->params, l + 1));
}

/* visit(m, x, from, to) of what lies outside the layers, which x has, on both sides of them: elements from..to of
 * all, at x. */
static void each_end(struct model *m, float *x, void (*visit)(struct model *m, float *x, size_t from, size_t to))
{
    const struct params *p = &m->params;
    visit(m, x, 0, p->layer_from);
    visit(m, x + p->layer_from, p->layers_end, p->floats);
}

/* ---- in buckets: one a layer, and what lies before and behind the layers ---- */

void gradient_last(struct model *m) { m->last_micro = m->early; }

void gradient_layer_done(struct model *m, int l)
{
    const struct params *p = &m->params;
    if (!m->last_micro) return;
    sum_partials(m, l);
    comm_bucket(m->use.comm, GROUP_DATA, m->grads.all + layer_begin(p, l), p->layer_floats, m->bucket);
    m->layers_reduced++;
}

void gradient_early_end(struct model *m)
{
    gradient_last(m);
    for (int l = m->config.layers - 1 - m->layers_reduced; l >= 0 && m->early; l--) gradient_layer_done(m, l);
}

/* The layers are summed, or on their way: then the rest, and all of it to the ranks whose piece it is. */
static void sum_in_buckets(struct model *m)
{
    const struct params *p = &m->params;
    int L = m->config.layers;
    scoped struct bucket *b = host_alloc((size_t)L + 2, sizeof *b);
    gradient_early_end(m);
    comm_bucket_end(m->use.comm);
    sum_partials(m, ENDS);
    for (int l = 0; l < L; l++) b[l] = (struct bucket){layer_begin(p, l), p->layer_floats};
    b[L] = (struct bucket){0, p->layer_from};
    b[L + 1] = (struct bucket){p->layers_end, p->count - p->layers_end};
    for (int i = L; i < L + 2; i++) {
        size_t part = comm_part(b[i].n, m->place.d);
        float *x = m->grads.all + b[i].from;
        comm_sum_scatter(m->use.comm, GROUP_DATA, x + (size_t)m->place.data * part, x, 0, b[i].n, part, false);
    }
    comm_bucket_home(m->use.comm, GROUP_DATA, m->grads.all, b, L + 2, piece_of(m));
    m->layers_reduced = 0;
}

/* A tied embedding is the first stage's and the last one's head: both get the sum of what they have, in this order. */
static void sum_tied(struct model *m)
{
    const struct config *c = &m->local;
    size_t n = (size_t)c->vocab * (size_t)config_embed_width(c);
    if (c->head == HEAD_VOCABULARY && c->tied && model_first(m) != model_last(m))
        comm_sum(m->use.comm, GROUP_ENDS, m->grads.embed, n);
}

void gradient_sum(struct model *m, bool first, bool last)
{
    size_t piece = piece_of(m);
    if (m->use.zero >= 2 || !m->early) sum_partials(m, m->use.zero >= 2 ? ENDS : ALL);
    if (m->use.zero >= 2) each_end(m, m->grads.all, reduce);
    sum_tied(m);
    if (m->use.zero >= 2 || m->use.slices <= 1) return;
    if (m->place.d == 1 && first) device_clear(m->sum, piece * sizeof(float));
    if (m->early) sum_in_buckets(m);
    else
        comm_sum_scatter(m->use.comm, GROUP_DATA, m->sum, m->grads.all, 0, m->grads.count, piece,
                         m->place.d == 1 || !first);
    if (m->place.d == 1 || m->use.zero > 0 || !last) return;
    comm_gather(m->use.comm, GROUP_DATA, m->grads.all, m->sum, piece * sizeof(float));
    comm_wait(m->use.comm);
}

float *gradient_own(struct model *m)
{
    return m->place.d > 1 && m->use.zero == 0 ? m->grads.all : m->sum;
}

void gradient_clear(struct model *m)
{
    if (m->use.zero >= 2) device_clear(m->sum, piece_of(m) * sizeof(float));
    else device_clear(m->grads.all, m->grads.count * sizeof(float));
}

/* ---- weights ---- */

struct share weights_share(struct model *m)
{
    if (model_apart(m)) return (struct share){m->own, m->from, m->to, m->place.tensor, m->place.t};
    return (struct share){m->params.all, 0, m->params.count, m->place.tensor, m->place.t};
}

void weights_init(struct model *m, uint64_t seed)
{
    struct share share = weights_share(m);
    params_init_share(&m->params, &m->config, &share, seed);
}

/* What is own goes to its place in x, from where it is sent: engines send memory of the device only. */
static void gather(struct model *m, float *x, size_t from, size_t to)
{
    size_t first = from > m->from ? from : m->from, end = to < m->to ? to : m->to;
    if (first < end) device_copy(x + (first - from), m->own + (first - m->from), (end - first) * sizeof *x);
    size_t size = sizeof *x;
    float *mine = x + ((ptrdiff_t)m->from - (ptrdiff_t)from);
    if (m->use.zero > 0)
        comm_gather_range(m->use.comm, GROUP_DATA, x, mine, from * size, to * size, piece_of(m) * size);
    comm_wait(m->use.comm);
}

static void gather_layer(struct model *m, int l)
{
    gather(m, m->params.one_layer, layer_begin(&m->params, l), layer_begin(&m->params, l + 1));
    params_pack_layer(&m->params, &m->local, l);
}

void weights_gather(struct model *m)
{
    m->layer_held = -1;
    if (!model_apart(m)) {
        params_pack(&m->params, &m->local);
        return;
    }
    each_end(m, m->params.all, gather);
    params_pack_layer(&m->params, &m->local, -1);
    for (int l = 0; l < m->config.layers && m->use.zero < 3; l++) gather_layer(m, l);
}

void weights_gather_layer(struct model *m, int l)
{
    if (m->use.zero < 3 || m->layer_held == l) return;
    gather_layer(m, l);
    m->layer_held = l;
}

static void keep(struct model *m, float *x, size_t from, size_t to)
{
    size_t first = from > m->from ? from : m->from, end = to < m->to ? to : m->to;
    if (first < end) device_copy(m->own + (first - m->from), x + (first - from), (end - first) * sizeof *x);
}

void weights_keep_ends(struct model *m)
{
    if (model_apart(m)) each_end(m, m->params.all, keep);
}

bool model_any(const struct model *m, bool mine)
{
    double any = mine;
    if (m->use.zero >= 3) comm_add(m->use.comm, GROUP_DATA, &any, 0, 1);
    return any > 0;
}

void model_idle(struct model *m, bool backward)
{
    int L = m->config.layers;
    for (int l = 0; l < L; l++) weights_gather_layer(m, l);
    for (int l = L - 1; backward && m->use.zero >= 2 && l >= 0; l--) {
        weights_gather_layer(m, l);
        gradient_reduce_layer(m, l);
    }
}
