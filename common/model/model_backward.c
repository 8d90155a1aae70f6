/* model_backward.c - the gradients of the transformer, in mirror order of model.c. */
#include "common/model/model_acts.h"
#include "common/model/device.h"

#include <assert.h>

static void norm_backward(const struct config *c, act_t *dx, struct norm_params *d, const act_t *dy, const act_t *x,
                          const struct norm_params *n, const struct norm_acts *a, bool add, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_backward(dx, d->weight, dy, x, n->weight, a->rstd, add, N, c->channels);
    else layernorm_backward(dx, d->weight, d->bias, dy, x, n->weight, a->mean, a->rstd, add, N, c->channels);
}

static void linear_backward(act_t *dx, struct linear_params *d, const act_t *dy, const act_t *x,
                            const struct linear_params *l, bool add, int N, int out, int in)
{
    matmul_backward_weight(d->weight, d->bias, dy, x, N, out, in);
    matmul_backward_input(dx, dy, l->packed, add, N, out, in);
}

/* dx: in, the gradient of what a sublayer's end gave; out, of x in it.  Returns the gradient of the product in it, all
 * rows. */
static const act_t *join_backward(struct model *m, const struct join *j, struct norm_params *d)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    if (c->norm_place == NORM_BEFORE) return all_rows(m, a->part, a->dx, c->channels);
    act_t *to = c->norm_place == NORM_BOTH ? a->dh : a->dx;
    norm_backward(c, to, d, a->dx, j->raw, j->norm, j->acts, false, m->rows);
    return all_rows(m, a->part, to, c->channels);
}

/* dh, or what ranks have of it: the gradient of a sublayer's input reaches x, of which the input is the norm, or which
 * it is itself. */
static void input_backward(struct model *m, const act_t *x, const struct norm_params *n, struct norm_params *d,
                           const struct norm_acts *acts)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    const act_t *dh = sum_parts(m, part_of(m, a->dh), c->channels);
    if (c->norm_place == NORM_AFTER) acts_add(a->dx, a->dx, dh, own_count(m, c->channels));
    else norm_backward(c, a->dx, d, dh, x, n, acts, true, m->rows);
}

/* From dy to dqkv. */
static void attend_backward(struct model *m, int l)
{
    const struct config *c = &m->local;
    struct layer_acts *a = m->acts;
    struct block_acts *b = &a->block[l];
    struct layer_params *p = &m->params.layer[l], *d = &m->grads.layer[l];
    int N = m->N, H = c->heads, G = c->kv_heads, D = c->head_dim;
    struct sight sight = sight_of(m, l);
    struct rope rope = rope_of(m);
    attention_backward(a->dqkv, a->dy, b->y, b->lse, b->qkv, m->offsets, &sight, m->work, m->S, N, H, G, D);
    qk_backward(a->dqkv, d->q_norm, d->k_norm, a->dqkv, b->qkv_raw, p->q_norm, p->k_norm, b->qk_rstd, &rope, N, H, G, D);
}

/* dx: in, the gradient of the block's output; out, of its input x. */
static void block_backward(struct model *m, int l, const act_t *x)
{
    const struct config *c = &m->local;
    struct layer_acts *a = m->acts;
    struct block_acts *b = &a->block[l];
    struct layer_params *p = &m->params.layer[l], *d = &m->grads.layer[l];
    int N = m->N, C = c->channels, F = c->ffn, HD = c->heads * c->head_dim;
    bool after = c->norm_place == NORM_AFTER, one_norm = c->parallel && !c->parallel_norms;
    bool both = c->norm_place == NORM_BOTH;
    struct join first = join_of(c, b, p, false), second = join_of(c, b, p, true);
    const act_t *dy = join_backward(m, &second, both ? &d->post2 : &d->norm2);
    act_t *dh = part_of(m, a->dh);
    linear_backward(a->dact, &d->down, dy, b->act, &p->down, false, N, C, F);
    if (c->parallel) linear_backward(a->dy, &d->out, dy, b->y, &p->out, false, N, C, HD);
    activation_backward(a->dup, a->dact, b->up, c->activation, N, F);
    const act_t *h = all_rows(m, a->whole, after ? b->x2 : one_norm ? b->h1 : b->h2, C);
    linear_backward(dh, &d->up, a->dup, h, &p->up, false, N, up_width(c), C);
    if (!one_norm) input_backward(m, c->parallel ? x : b->x2, &p->norm2, &d->norm2, &b->norm2);
    if (!c->parallel)
        linear_backward(a->dy, &d->out, join_backward(m, &first, both ? &d->post1 : &d->norm1), b->y, &p->out, false, N,
                        C, HD);
    attend_backward(m, l);
    if (!one_norm) h = all_rows(m, a->whole, after ? x : b->h1, C);
    linear_backward(dh, &d->qkv, a->dqkv, h, &p->qkv, one_norm, N, qkv_width(c), C);
    input_backward(m, x, &p->norm1, &d->norm1, &b->norm1);
}

/* dx = the gradient of the last block's output. */
static void final_backward(struct model *m)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int E = config_embed_width(c);
    const act_t *dlast = m->dhidden + (size_t)m->first_row * (size_t)E, *x = a->stream[m->end];
    if (c->head == HEAD_VOCABULARY) sum_parts(m, m->dhidden, E);
    if (c->embed_width) {
        linear_backward(a->dh, &m->grads.embed_out, dlast, a->last, &m->params.embed_out, false, m->rows, E, c->channels);
        dlast = a->dh;
    }
    if (c->norm_place == NORM_AFTER) device_copy(a->dx, dlast, own_count(m, c->channels) * sizeof *dlast);
    else norm_backward(c, a->dx, &m->grads.final_norm, dlast, x, &m->params.final_norm, &a->final_norm, false, m->rows);
}

static void embed_in_backward(struct model *m)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    struct params *d = &m->grads;
    const act_t *dx = a->dx;
    int E = config_embed_width(c);
    if (d->position)
        embed_backward(d->position, NULL, dx, m->positions + m->first_row, NULL, m->rows, c->channels);
    if (c->embed_width) {
        linear_backward(a->dnarrow, &d->embed_in, dx, a->narrow, &m->params.embed_in, false, m->rows, c->channels, E);
        dx = a->dnarrow;
    }
    embed_backward(d->embed, NULL, all_rows(m, a->part, dx, E), m->tokens, NULL, m->N, E);
}

void model_backward(struct model *m)
{
    const struct config *c = &m->config;
    int stage = m->place.pipe;
    flight_use(m, m->backwards++);
    struct layer_acts *a = m->acts;
    assert(a->kept && m->use.train);
    if (model_last(m)) final_backward(m);
    else stage_border(m, a->dx, stage + 1);
    for (int l = m->end - 1; l >= m->begin; l--) {
        weights_gather_layer(m, l);
        if (m->use.recompute) block_forward(m, l, NULL, a->stream[l]);
        block_backward(m, l, a->stream[l]);
        if (m->use.zero >= 2) gradient_reduce_layer(m, l);
        gradient_layer_done(m, l);
    }
    a->kept = false;
    if (!model_first(m)) {
        /* the next dx may come before this one goes */
        device_copy(a->dh, a->dx, own_count(m, c->channels) * sizeof *a->dx);
        stage_leave(m, a->dh, stage - 1);
        return;
    }
    if (c->embed_norm)
        norm_backward(c, a->dx, &m->grads.embed_norm, a->dx, a->embedded, &m->params.embed_norm, &a->embed_norm, false,
                      m->rows);
    embed_in_backward(m);
}
