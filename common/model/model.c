/* model.c - the transformer, written in ops.  One block function serves every use: training keeps each layer's
 * activations, --recompute block keeps only each block's input and runs the block again in backward, scoring and
 * decoding keep nothing and let one layer's memory serve all.  All of them call the same ops on the same rows, hence
 * the same bits. */
#include "common/model/model_acts.h"
#include "common/model/device.h"

#include <assert.h>

static void norm_forward(const struct config *c, act_t *y, const struct norm_acts *a, const act_t *x,
                         const struct norm_params *n, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_forward(y, a->rstd, x, n->weight, (float)c->norm_eps, N, c->channels);
    else layernorm_forward(y, a->mean, a->rstd, x, n->weight, n->bias, (float)c->norm_eps, N, c->channels);
}

static void linear_forward(act_t *y, const act_t *x, const struct linear_params *l, const act_t *residual, int N,
                           int out, int in)
{
    matmul_forward(y, x, l->packed, l->bias, residual, N, out, in);
}

/* to = own rows, which part_of has given their place. */
static void take_sum(const struct model *m, act_t *to, int width)
{
    if (m->place.t > 1) device_copy(to, sum_parts(m, m->acts->part, width), own_count(m, width) * sizeof *to);
}

/* The product, and x where it is not NULL; of a parallel block both products, of which this is the second, become one
 * sum.  One rank adds the bias. */
static void product_forward(const struct model *m, act_t *to, const act_t *y, const struct linear_params *l,
                            const act_t *x, bool second, int width)
{
    int C = m->config.channels;
    act_t *part = part_of(m, to);
    if (m->place.t == 1) {
        matmul_forward(to, y, l->packed, l->bias, second ? to : x, m->N, C, width);
        return;
    }
    matmul_forward(part, y, l->packed, m->place.tensor == 0 ? l->bias : NULL, second ? part : NULL, m->N, C, width);
}

static void join_forward(const struct model *m, act_t *to, const struct join *j, const act_t *y,
                         const struct linear_params *l, const act_t *x, int width)
{
    const struct config *c = &m->config;
    bool both = c->norm_place == NORM_BOTH, before = c->norm_place == NORM_BEFORE;
    act_t *sum = before ? to : j->raw;
    product_forward(m, sum, y, l, both ? NULL : x, c->parallel, width);
    if (m->place.t > 1) {
        const act_t *own = sum_parts(m, m->acts->part, c->channels);
        if (both) device_copy(sum, own, own_count(m, c->channels) * sizeof *sum);
        else acts_add(sum, x, own, own_count(m, c->channels));
    }
    if (before) return;
    norm_forward(c, to, j->acts, j->raw, j->norm, m->rows);
    if (both) acts_add(to, to, x, own_count(m, c->channels));
}

struct join join_of(const struct config *c, struct block_acts *a, const struct layer_params *p, bool mlp)
{
    bool both = c->norm_place == NORM_BOTH;
    if (mlp) return (struct join){a->raw2, both ? &a->post2 : &a->norm2, both ? &p->post2 : &p->norm2};
    return (struct join){a->raw1, both ? &a->post1 : &a->norm1, both ? &p->post1 : &p->norm1};
}

struct sight sight_of(const struct model *m, int l)
{
    const struct config *c = &m->config;
    return (struct sight){m->slopes, c->alibi_rounded, l < c->full_layers ? 0 : c->window};
}

struct rope rope_of(const struct model *m)
{
    const struct config *c = &m->config;
    return (struct rope){m->positions, m->frequency, c->position == POSITION_ROPE ? config_rotated(c) : 0, m->rope_factor,
                         c->rope_layout};
}

/* y = attention's weighted values, from its input h.  Keys are found within the S sequences of the batch, or, where S
 * is 0, in the cache. */
static void attend(struct model *m, int l, const act_t *h)
{
    const struct config *c = &m->local;
    struct block_acts *a = &m->acts->block[l];
    struct layer_params *p = &m->params.layer[l];
    int N = m->N, H = c->heads, G = c->kv_heads, D = c->head_dim;
    struct sight sight = sight_of(m, l);
    struct rope rope = rope_of(m);
    act_t *raw = c->qk_norm ? a->qkv_raw : a->qkv;
    linear_forward(raw, h, &p->qkv, NULL, N, qkv_width(c), c->channels);
    qk_forward(a->qkv, a->qk_rstd, raw, p->q_norm, p->k_norm, (float)c->norm_eps, &rope, N, H, G, D);
    if (m->S == 0)
        attention_cached(a->y, m->cache[l], a->qkv, m->slots, m->positions, &sight, N, H, G, D,
                         m->use.cache_slots, m->use.cache_capacity);
    else
        attention_forward(a->y, a->lse, a->qkv, m->offsets, &sight, m->S, N, H, G, D);
}

void block_forward(struct model *m, int l, act_t *out, const act_t *x)
{
    const struct config *c = &m->local;
    struct block_acts *a = &m->acts->block[l];
    struct layer_params *p = &m->params.layer[l];
    int C = c->channels, HD = c->heads * c->head_dim;
    bool after = c->norm_place == NORM_AFTER;
    struct join first = join_of(c, a, p, false), second = join_of(c, a, p, true);
    if (!after) norm_forward(c, a->h1, &a->norm1, x, &p->norm1, m->rows);
    if (c->parallel_norms) norm_forward(c, a->h2, &a->norm2, x, &p->norm2, m->rows);
    const act_t *h = all_rows(m, m->acts->whole, after ? x : a->h1, C);
    attend(m, l, h);
    if (!c->parallel) join_forward(m, a->x2, &first, a->y, &p->out, x, HD);
    else if (out) product_forward(m, out, a->y, &p->out, x, false, HD);
    if (!c->parallel && !after) norm_forward(c, a->h2, &a->norm2, a->x2, &p->norm2, m->rows);
    if (!c->parallel || c->parallel_norms) h = all_rows(m, m->acts->whole, after ? a->x2 : a->h2, C);
    linear_forward(a->up, h, &p->up, NULL, m->N, up_width(c), C);
    activation_forward(a->act, a->up, c->activation, m->N, c->ffn);
    if (!out && c->norm_place == NORM_BEFORE) return;
    join_forward(m, out ? out : m->acts->dh, &second, a->act, &p->down, c->parallel ? x : a->x2, c->ffn);
}

/* x = what the embedding gives, before its norm.  One tensor rank has the row of a token, the others add 0. */
static void embed_in(struct model *m, act_t *x)
{
    const struct config *c = &m->config;
    const struct params *p = &m->params;
    act_t *narrow = m->acts->narrow;
    int C = c->channels, E = c->embed_width;
    if (!E) {
        embed_forward(part_of(m, x), m->tokens, m->positions, p->embed, p->position, m->N, C);
        take_sum(m, x, C);
        return;
    }
    embed_forward(part_of(m, narrow), m->tokens, NULL, p->embed, NULL, m->N, E);
    take_sum(m, narrow, E);
    if (p->position) embed_forward(x, m->positions + m->first_row, NULL, p->position, NULL, m->rows, C);
    linear_forward(x, narrow, &p->embed_in, p->position ? x : NULL, m->rows, C, E);
}

static void final_forward(struct model *m, const act_t *x)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    act_t *own = part_of(m, m->hidden), *last = c->embed_width ? a->last : own;
    if (c->norm_place == NORM_AFTER) device_copy(last, x, own_count(m, c->channels) * sizeof *x);
    else norm_forward(c, last, &a->final_norm, x, &m->params.final_norm, m->rows);
    if (c->embed_width) linear_forward(own, last, &m->params.embed_out, NULL, m->rows, c->embed_width, c->channels);
    all_rows(m, m->hidden, own, config_embed_width(c));
}

bool model_kept(const struct model *m) { return m->acts->kept; }

static void stack_forward(struct model *m, int N, int S, bool keep)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int begin = m->begin, stage = m->place.pipe;
    act_t *x = a->stream[begin], *end = keep ? a->stream[m->end] : x;
    rows_use(m, N, S);
    stage_border(m, model_first(m) ? NULL : x, stage - 1);
    if (model_first(m)) embed_in(m, c->embed_norm ? a->embedded : x);
    if (model_first(m) && c->embed_norm)
        norm_forward(c, x, &a->embed_norm, a->embedded, &m->params.embed_norm, m->rows);
    for (int l = begin; l < m->end; l++) {
        weights_gather_layer(m, l);
        block_forward(m, l, a->stream[keep ? l + 1 : begin], a->stream[keep ? l : begin]);
    }
    if (model_last(m)) final_forward(m, end);
    else stage_leave(m, end, stage + 1);
    if (!keep) model_flush(m);
    a->kept = keep;
}

const int *model_own_tokens(struct model *m, const int *tokens, int n)
{
    int own = m->local.vocab, first = m->place.tensor * own, *to = m->head.own_tokens;
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= m->config.vocab)
            die("token %d of the batch is %d, outside the vocabulary of %d", i, tokens[i], m->config.vocab);
    if (m->place.t == 1) return tokens;
    device_wait();                                      /* for what was put from there */
    for (int i = 0; i < n; i++) to[i] = tokens[i] < first || tokens[i] >= first + own ? -1 : tokens[i] - first;
    return to;
}

void model_forward(struct model *m, const struct batch *b, bool keep)
{
    assert(b->N > 0 && b->N <= m->use.max_tokens && b->S > 0 && b->S <= m->use.max_sequences);
    assert(b->offsets[0] == 0 && b->offsets[b->S] == b->N && (!keep || m->use.train));
    for (int s = 0; s < b->S; s++) {
        int length = b->offsets[s + 1] - b->offsets[s];
        if (length < 1 || length > m->config.context)
            die("a sequence of %d tokens does not fit the context of %d", length, m->config.context);
    }
    flight_use(m, keep ? m->forwards++ : 0);
    device_put(m->tokens, model_own_tokens(m, b->tokens, b->N), (size_t)b->N * sizeof(int));
    device_put(m->offsets, b->offsets, ((size_t)b->S + 1) * sizeof(int));
    positions_fill(m->positions, m->offsets, b->S, b->N);
    stack_forward(m, b->N, b->S, keep);
}

void model_decode(struct model *m, const int *tokens, const int *slots, const int *positions, int N)
{
    assert(N > 0 && N <= m->use.max_tokens && m->use.cache_slots > 0);
    for (int i = 0; i < N; i++)
        assert(slots[i] >= 0 && slots[i] < m->use.cache_slots && positions[i] >= 0 &&
               positions[i] < m->use.cache_capacity && positions[i] < m->config.context);
    flight_use(m, 0);
    device_put(m->tokens, model_own_tokens(m, tokens, N), (size_t)N * sizeof(int));
    device_put(m->positions, positions, (size_t)N * sizeof(int));
    device_put(m->slots, slots, (size_t)N * sizeof(int));
    stack_forward(m, N, 0, false);
}
