/* gradients.c - a rank adds what all ranks have of its piece, in the order of their slices.  A sum over slices starts from
 * 0 on one rank as on many: -0 and 0 must not tell them apart. */
#include "common/model/gradients.h"
#include "common/model/device.h"

static size_t piece_of(const struct model *m) { return m->params.count / (size_t)comm_place(m->use.comm).d; }

void gradient_begin(struct model *m, bool first)
{
    if (m->use.reduced && first) device_clear(m->sum, piece_of(m) * sizeof(float));
    if (!m->use.reduced && m->use.slices > 1) device_clear(m->grads.all, m->grads.count * sizeof(float));
}

/* Elements from..to of the parameters, which x holds, join the sum. */
static void reduce(struct model *m, float *x, size_t from, size_t to)
{
    comm_sum_scatter(m->use.comm, GROUP_DATA, m->sum, x, from, to, piece_of(m), true);
    device_clear(x, (to - from) * sizeof *x);
}

void gradient_reduce_layer(struct model *m, int l)
{
    size_t from = m->params.layer_from + (size_t)l * m->params.layer_floats;
    reduce(m, m->grads.one_layer, from, from + m->params.layer_floats);
    m->layers_reduced++;
}

static void reduce_rest(struct model *m)
{
    const struct params *p = &m->params;
    int L = m->config.layers;
    for (int l = L - 1 - m->layers_reduced; l >= 0; l--) gradient_reduce_layer(m, l);
    m->layers_reduced = 0;
    reduce(m, m->grads.all, 0, p->layer_from);
    reduce(m, m->grads.all + p->layer_from, p->layer_from + (size_t)L * p->layer_floats, p->floats);
}

void gradient_sum(struct model *m, bool first, bool last)
{
    struct place place = comm_place(m->use.comm);
    size_t piece = piece_of(m);
    if (m->use.reduced) reduce_rest(m);
    if (m->use.reduced || m->use.slices <= 1) return;
    if (place.d == 1 && first) device_clear(m->sum, piece * sizeof(float));
    comm_sum_scatter(m->use.comm, GROUP_DATA, m->sum, m->grads.all, 0, m->grads.count, piece, place.d == 1 || !first);
    if (place.d == 1 || m->use.shared || !last) return;
    comm_gather(m->use.comm, GROUP_DATA, m->grads.all, m->sum, piece * sizeof(float));
    comm_wait(m->use.comm);
}

float *gradient_own(struct model *m)
{
    return comm_place(m->use.comm).d > 1 && !m->use.shared ? m->grads.all : m->sum;
}

void gradient_clear(struct model *m)
{
    if (m->use.reduced) device_clear(m->sum, piece_of(m) * sizeof(float));
    else device_clear(m->grads.all, m->grads.count * sizeof(float));
}
