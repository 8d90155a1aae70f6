/* model_settle.c - products of the forward pass whose rows do not depend on their number, one weight of each shape at a
 * time.  Activations that a product reads and writes serve as its operands. */
#include "common/model/model_acts.h"

struct settling { struct model *m; struct error *error; int rows; };

/* x, y: as matmul_settle. */
static int settle(const struct settling *s, const char *name, const struct linear_params *l, bool bias, bool logits,
                  act_t *x, void *y, int out, int in)
{
    if (matmul_settle(l->packed, bias, logits, x, y, s->rows, out, in)) return 0;
    return fail(s->error, EXIT_UNAVAILABLE, "no way of computing products with %s (%d,%d) gives a row the same bits "
                "among any number of rows", name, out, in);
}

/* All layers have the same shapes. */
static int settle_layer(const struct settling *s)
{
    struct model *m = s->m;
    const struct config *c = &m->local;
    const struct layer_params *p = &m->params.layer[m->begin];
    const struct block_acts *a = &m->acts->block[m->begin];
    bool split = m->place.t > 1, adds = m->place.tensor == 0;               /* model.c: one rank adds the bias */
    act_t *from = split ? m->acts->whole : m->acts->stream[m->begin], *to = split ? m->acts->part : from;
    int C = c->channels;
    weights_gather_layer(m, m->begin);
    if (settle(s, "qkv", &p->qkv, p->qkv.bias, false, from, a->qkv, qkv_width(c), C) != 0 ||
        settle(s, "out", &p->out, adds && p->out.bias, false, a->y, to, C, c->heads * c->head_dim) != 0 ||
        settle(s, "up", &p->up, p->up.bias, false, from, a->up, up_width(c), C) != 0) return -1;
    return settle(s, "down", &p->down, adds && p->down.bias, false, a->act, to, C, c->ffn);
}

static int settle_ends(const struct settling *s)
{
    struct model *m = s->m;
    const struct config *c = &m->local;
    const struct params *p = &m->params;
    struct settling own = *s;
    int C = c->channels, E = config_embed_width(c);
    own.rows = rows_of(s->rows, m->place.t);
    if (c->embed_width && model_first(m) &&
        settle(&own, "embed_in", &p->embed_in, p->embed_in.bias, false, m->acts->narrow, m->acts->stream[m->begin], C,
               E) != 0) return -1;
    if (c->embed_width && model_last(m) &&
        settle(&own, "embed_out", &p->embed_out, p->embed_out.bias, false, m->acts->last, m->hidden, E, C) != 0)
        return -1;
    if (!model_last(m) || c->head != HEAD_VOCABULARY) return 0;
    return settle(s, "head", &p->head, p->head.bias, true, m->hidden, m->work, c->vocab, E);
}

int model_settle(struct model *m, struct error *error)
{
    struct settling s = {m, error, m->use.max_tokens};
    int status = m->begin < m->end ? settle_layer(&s) : 0;
    if (status == 0) status = settle_ends(&s);
    status = comm_agree(m->use.comm, status, error);
    if (status != 0) matmul_unsettle();             /* some alone are of no use */
    return status;
}
