/* model.c - the transformer, written in ops.  One block function serves every use: training keeps each layer's
 * activations, --recompute block keeps only each block's input and runs the block again in backward, scoring and
 * decoding keep nothing and let one layer's memory serve all.  All of them call the same ops on the same rows, hence
 * the same bits. */
#include "common/model/model.h"
#include "common/model/device.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* What one block computes on its way; N rows each.  x2 is absent when parallel; qkv_raw and qk_rstd only with
 * qk_norm. */
struct block_acts {
    act_t *h1, *qkv_raw, *qkv, *y, *x2, *h2, *up, *act;
    float *mean1, *rstd1, *qk_rstd, *lse, *mean2, *rstd2;
};

struct layer_acts {
    act_t **stream;               /* (L+1): the input of each block, and the output of the last */
    struct block_acts *block;     /* (L), or all the same one when nothing or only the inputs are kept */
    act_t *embedded;              /* before the embedding norm */
    float *embed_mean, *embed_rstd, *final_mean, *final_rstd;
    act_t *dx, *dh, *dy, *dqkv, *dup, *dact;
    act_t *row_hidden, *row_dhidden;                     /* (N,C): the rows a head looks at */
    int *rows;                                           /* (N) */
    float *logprobs, *entropy, *losses, *old_logprobs, *advantages;      /* (N) each, of those rows: vocabulary head */
    float *values, *dvalues;                                             /* scalar head */
    int *counted;                            /* (2 * max_tokens) on the host: counted rows and their targets */
    bool kept;                                           /* the last forward can be followed by a backward */
};

static int qkv_width(const struct config *c) { return (c->heads + 2 * c->kv_heads) * c->head_dim; }
static int up_width(const struct config *c) { return c->activation == ACTIVATION_SWIGLU ? 2 * c->ffn : c->ffn; }

/* ---- memory ---- */

static act_t *take_acts(struct memory *memory, int N, int width)
{
    return memory_take(memory, MEMORY_ACTS, (size_t)N * (size_t)width, sizeof(act_t));
}

static float *take_floats(struct memory *memory, int n)
{
    return memory_take(memory, MEMORY_ACTS, (size_t)n, sizeof(float));
}

static void block_open(struct block_acts *a, const struct config *c, int N, struct memory *memory)
{
    int C = c->channels;
    a->h1 = take_acts(memory, N, C);
    a->mean1 = take_floats(memory, N);
    a->rstd1 = take_floats(memory, N);
    if (c->qk_norm) {
        a->qkv_raw = take_acts(memory, N, qkv_width(c));
        a->qk_rstd = take_floats(memory, N * (c->heads + c->kv_heads));
    }
    a->qkv = take_acts(memory, N, qkv_width(c));
    a->y = take_acts(memory, N, c->heads * c->head_dim);
    a->lse = take_floats(memory, N * c->heads);
    if (!c->parallel) {
        a->x2 = take_acts(memory, N, C);
        a->h2 = take_acts(memory, N, C);
        a->mean2 = take_floats(memory, N);
        a->rstd2 = take_floats(memory, N);
    }
    a->up = take_acts(memory, N, up_width(c));
    a->act = take_acts(memory, N, c->ffn);
}

static void acts_open(struct model *m, struct memory *memory)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int N = m->use.max_tokens, C = c->channels, L = c->layers;
    bool keep_all = m->use.train && !m->use.recompute;
    for (int l = 0; l <= L; l++) a->stream[l] = l == 0 || m->use.train ? take_acts(memory, N, C) : a->stream[0];
    for (int l = 0; l < L; l++) {
        if (l == 0 || keep_all) block_open(&a->block[l], c, N, memory);
        else a->block[l] = a->block[0];
    }
    if (c->embed_norm) {
        a->embedded = take_acts(memory, N, C);
        a->embed_mean = take_floats(memory, N);
        a->embed_rstd = take_floats(memory, N);
    }
    a->final_mean = take_floats(memory, N);
    a->final_rstd = take_floats(memory, N);
    m->hidden = take_acts(memory, N, C);
    a->row_hidden = take_acts(memory, N, C);
    float **vocabulary[] = {&a->logprobs, &a->entropy, &a->losses, &a->old_logprobs, &a->advantages},
          **scalar[] = {&a->values, &a->dvalues};
    for (int i = 0; i < (c->head == HEAD_SCALAR ? 2 : 5); i++)
        *(c->head == HEAD_SCALAR ? scalar : vocabulary)[i] = take_floats(memory, N);
    a->rows = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    m->tokens = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    m->targets = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    m->positions = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    m->offsets = memory_take(memory, MEMORY_ACTS, (size_t)m->use.max_sequences + 1, sizeof(int));
    if (m->use.cache_slots > 0) m->slots = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    if (!m->use.train) return;
    m->dhidden = take_acts(memory, N, C);
    a->row_dhidden = take_acts(memory, N, C);
    a->dx = take_acts(memory, N, C);
    a->dh = take_acts(memory, N, C);
    a->dy = take_acts(memory, N, c->heads * c->head_dim);
    a->dqkv = take_acts(memory, N, qkv_width(c));
    a->dup = take_acts(memory, N, up_width(c));
    a->dact = take_acts(memory, N, c->ffn);
}

/* Slopes of Press et al. 2022: 2^(-8 i / n) for the largest power of two n <= H, then the odd steps of the next
 * power. */
static void slopes_open(struct model *m, struct memory *memory)
{
    int H = m->config.heads, n = 1;
    m->slopes = memory_take(memory, MEMORY_PARAMS, (size_t)H, sizeof(float));
    if (!m->slopes) return;
    float *slopes = host_alloc((size_t)H, sizeof *slopes);
    while (2 * n <= H) n *= 2;
    for (int h = 0; h < H; h++)
        slopes[h] = (float)(h < n ? pow(2, -8.0 * (h + 1) / n) : pow(2, -4.0 * (2 * (h - n) + 1) / n));
    device_put(m->slopes, slopes, (size_t)H * sizeof *slopes);
    device_wait();
    free(slopes);
}

static void weights_open(struct model *m, struct memory *memory)
{
    const struct config *c = &m->config;
    m->params.frozen = m->ema.frozen = m->m.frozen = m->v.frozen = m->use.frozen;
    params_open(&m->params, c, memory, MEMORY_PARAMS, true);
    if (m->use.train) {
        params_open(&m->grads, c, memory, MEMORY_GRADS, false);
        params_open(&m->m, c, memory, MEMORY_MOMENTS, false);
        params_open(&m->v, c, memory, MEMORY_MOMENTS, false);
    }
    if (m->use.ema) params_open(&m->ema, c, memory, MEMORY_MOMENTS, false);
}

static size_t work_floats(const struct model *m)
{
    const struct config *c = &m->config;
    int N = m->use.max_tokens;
    size_t most = 0;
    if (N > 0 && c->head == HEAD_VOCABULARY) most = token_loss_work(N, c->channels, c->vocab);
    if (m->use.train) {
        size_t attention = attention_backward_work(N, c->heads, c->kv_heads, c->head_dim);
        if (attention > most) most = attention;
    }
    return most;
}

void model_open(struct model *m, const struct config *config, const struct model_use *use, struct memory *memory)
{
    int L = config->layers;
    m->config = *config;
    m->use = *use;
    if (!m->acts) {
        m->acts = host_alloc(1, sizeof *m->acts);
        m->acts->stream = host_alloc((size_t)L + 1, sizeof *m->acts->stream);
        m->acts->block = host_alloc((size_t)L, sizeof *m->acts->block);
        m->acts->counted = host_alloc(2 * (size_t)use->max_tokens, sizeof(int));
        m->cache = host_alloc((size_t)L, sizeof *m->cache);
    }
    if (config->position == POSITION_ALIBI) slopes_open(m, memory);
    weights_open(m, memory);
    size_t acts = memory_mark(memory, MEMORY_ACTS), work = memory_mark(memory, MEMORY_WORK);
    acts_open(m, memory);
    m->work = memory_take(memory, MEMORY_WORK, work_floats(m), sizeof(float));
    memory_release(memory, MEMORY_ACTS, acts);
    memory_release(memory, MEMORY_WORK, work);
    if (use->cache_slots > 0) {
        size_t n = attention_cache_elements(use->cache_slots, use->cache_capacity, config->kv_heads, config->head_dim);
        for (int l = 0; l < L; l++) m->cache[l] = memory_take(memory, MEMORY_CACHE, n, sizeof(act_t));
    }
    size_t n = (size_t)use->logits_rows;
    if (n == 0) return;
    m->logits = memory_take(memory, MEMORY_CACHE, n * (size_t)config->vocab, sizeof *m->logits);
    m->draw.tokens = memory_take(memory, MEMORY_CACHE, n, sizeof *m->draw.tokens);
    m->draw.logprobs = memory_take(memory, MEMORY_CACHE, n, sizeof *m->draw.logprobs);
    m->draw.uniform = memory_take(memory, MEMORY_CACHE, n, sizeof *m->draw.uniform);
    m->draw.sampling = memory_take(memory, MEMORY_CACHE, n, sizeof *m->draw.sampling);
}

void model_close(struct model *m)
{
    if (m->acts) {
        free(m->acts->stream);
        free(m->acts->block);
        free(m->acts->counted);
        free(m->acts);
    }
    free(m->cache);
    params_close(&m->params);
    params_close(&m->grads);
    params_close(&m->m);
    params_close(&m->v);
    params_close(&m->ema);
    *m = (struct model){0};
}

/* ---- forward ---- */

/* How attention finds its keys: within the S sequences of the batch, or, where S is 0, in the cache. */
struct rows { int N, S; };

static void norm_forward(const struct config *c, act_t *y, float *mean, float *rstd, const act_t *x,
                         const struct norm_params *n, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_forward(y, rstd, x, n->weight, (float)c->norm_eps, N, c->channels);
    else layernorm_forward(y, mean, rstd, x, n->weight, n->bias, (float)c->norm_eps, N, c->channels);
}

static void norm_backward(const struct config *c, act_t *dx, struct norm_params *d, const act_t *dy, const act_t *x,
                          const struct norm_params *n, const float *mean, const float *rstd, bool add, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_backward(dx, d->weight, dy, x, n->weight, rstd, add, N, c->channels);
    else layernorm_backward(dx, d->weight, d->bias, dy, x, n->weight, mean, rstd, add, N, c->channels);
}

static void linear_forward(act_t *y, const act_t *x, const struct linear_params *l, const act_t *residual, int N,
                           int out, int in)
{
    matmul_forward(y, x, l->packed, l->bias, residual, N, out, in);
}

/* (N,C) of which each tensor rank has computed a part: what follows out and down, and what comes back from qkv and
 * up. */
static void sum_parts(const struct model *m, act_t *x, int N)
{
    comm_sum(m->use.comm, GROUP_TENSOR, x, (size_t)N * (size_t)m->config.channels, NUMBER_ACT);
    comm_wait(m->use.comm);
}

static int rope_channels(const struct config *c) { return 2 * (int)(c->head_dim * c->rope_fraction / 2); }

static void attend(struct model *m, int l, struct block_acts *a, const struct rows *rows)
{
    const struct config *c = &m->config;
    struct layer_params *p = &m->params.layer[l];
    int N = rows->N, H = c->heads, G = c->kv_heads, D = c->head_dim;
    linear_forward(c->qk_norm ? a->qkv_raw : a->qkv, a->h1, &p->qkv, NULL, N, qkv_width(c), c->channels);
    if (c->qk_norm)
        qk_norm_forward(a->qkv, a->qk_rstd, a->qkv_raw, p->q_norm, p->k_norm, (float)c->norm_eps, N, H, G, D);
    if (c->position == POSITION_ROPE)
        rope_forward(a->qkv, m->positions, N, H, G, D, rope_channels(c), c->rope_theta, c->rope_layout);
    if (rows->S == 0)
        attention_cached(a->y, m->cache[l], a->qkv, m->slots, m->positions, m->slopes, N, H, G, D,
                         m->use.cache_slots, m->use.cache_capacity);
    else
        attention_forward(a->y, a->lse, a->qkv, m->offsets, m->slopes, rows->S, N, H, G, D);
}

static void mlp_hidden(struct model *m, int l, struct block_acts *a, const act_t *h, int N)
{
    const struct config *c = &m->config;
    linear_forward(a->up, h, &m->params.layer[l].up, NULL, N, up_width(c), c->channels);
    activation_forward(a->act, a->up, c->activation, N, c->ffn);
}

/* out = block(x); out may be x.  out NULL: only what backward needs is computed. */
static void block_forward(struct model *m, int l, act_t *out, const act_t *x, const struct rows *rows)
{
    const struct config *c = &m->config;
    struct block_acts *a = &m->acts->block[l];
    struct layer_params *p = &m->params.layer[l];
    int N = rows->N, C = c->channels, HD = c->heads * c->head_dim;
    norm_forward(c, a->h1, a->mean1, a->rstd1, x, &p->norm1, N);
    attend(m, l, a, rows);
    const act_t *h = a->h1, *x2 = out;
    if (c->parallel) {
        if (out) linear_forward(out, a->y, &p->out, x, N, C, HD);
    } else {
        linear_forward(a->x2, a->y, &p->out, x, N, C, HD);
        sum_parts(m, a->x2, N);
        norm_forward(c, a->h2, a->mean2, a->rstd2, a->x2, &p->norm2, N);
        h = a->h2;
        x2 = a->x2;
    }
    mlp_hidden(m, l, a, h, N);
    if (!out) return;
    linear_forward(out, a->act, &p->down, x2, N, C, c->ffn);
    sum_parts(m, out, N);
}

/* The whole stack over rows whose tokens and positions are on the device. */
static void stack_forward(struct model *m, const struct rows *rows, bool keep)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int N = rows->N, L = c->layers;
    act_t *x = a->stream[0];
    embed_forward(c->embed_norm ? a->embedded : x, m->tokens, m->positions, m->params.embed, m->params.position, N,
                  c->channels);
    if (c->embed_norm) norm_forward(c, x, a->embed_mean, a->embed_rstd, a->embedded, &m->params.embed_norm, N);
    for (int l = 0; l < L; l++) block_forward(m, l, a->stream[keep ? l + 1 : 0], a->stream[keep ? l : 0], rows);
    norm_forward(c, m->hidden, a->final_mean, a->final_rstd, a->stream[keep ? L : 0], &m->params.final_norm, N);
    a->kept = keep;
    m->N = N;
    m->S = rows->S;
}

static void check_tokens(const struct model *m, const int *tokens, int N)
{
    for (int i = 0; i < N; i++)
        if (tokens[i] < 0 || tokens[i] >= m->config.vocab)
            die("token %d of the batch is %d, outside the vocabulary of %d", i, tokens[i], m->config.vocab);
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
    check_tokens(m, b->tokens, b->N);
    device_put(m->tokens, b->tokens, (size_t)b->N * sizeof(int));
    device_put(m->offsets, b->offsets, ((size_t)b->S + 1) * sizeof(int));
    positions_fill(m->positions, m->offsets, b->S, b->N);
    stack_forward(m, &(struct rows){.N = b->N, .S = b->S}, keep);
}

void model_decode(struct model *m, const int *tokens, const int *slots, const int *positions, int N)
{
    assert(N > 0 && N <= m->use.max_tokens && m->use.cache_slots > 0);
    check_tokens(m, tokens, N);
    for (int i = 0; i < N; i++)
        assert(slots[i] >= 0 && slots[i] < m->use.cache_slots && positions[i] >= 0 &&
               positions[i] < m->use.cache_capacity && positions[i] < m->config.context);
    device_put(m->tokens, tokens, (size_t)N * sizeof(int));
    device_put(m->positions, positions, (size_t)N * sizeof(int));
    device_put(m->slots, slots, (size_t)N * sizeof(int));
    stack_forward(m, &(struct rows){.N = N}, false);
}

/* ---- backward, in mirror order ---- */

static void linear_backward(act_t *dx, struct linear_params *d, const act_t *dy, const act_t *x,
                            const struct linear_params *l, bool add, int N, int out, int in)
{
    matmul_backward_weight(d->weight, d->bias, dy, x, N, out, in);
    matmul_backward_input(dx, dy, l->packed, add, N, out, in);
}

/* dh (+)= gradient through up, activation and down, given the gradient dx of the block's output. */
static void mlp_backward(struct model *m, int l, const act_t *h)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    struct block_acts *b = &a->block[l];
    struct layer_params *p = &m->params.layer[l], *d = &m->grads.layer[l];
    int N = m->N, C = c->channels;
    linear_backward(a->dact, &d->down, a->dx, b->act, &p->down, false, N, C, c->ffn);
    activation_backward(a->dup, a->dact, b->up, c->activation, N, c->ffn);
    linear_backward(a->dh, &d->up, a->dup, h, &p->up, false, N, up_width(c), C);
}

static void attend_backward(struct model *m, int l, bool add)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    struct block_acts *b = &a->block[l];
    struct layer_params *p = &m->params.layer[l], *d = &m->grads.layer[l];
    int N = m->N, C = c->channels, H = c->heads, G = c->kv_heads, D = c->head_dim;
    linear_backward(a->dy, &d->out, a->dx, b->y, &p->out, false, N, C, H * D);
    attention_backward(a->dqkv, a->dy, b->y, b->lse, b->qkv, m->offsets, m->slopes, m->work, m->S, N, H, G, D);
    if (c->position == POSITION_ROPE)
        rope_backward(a->dqkv, m->positions, N, H, G, D, rope_channels(c), c->rope_theta, c->rope_layout);
    if (c->qk_norm)
        qk_norm_backward(a->dqkv, d->q_norm, d->k_norm, a->dqkv, b->qkv_raw, p->q_norm, p->k_norm, b->qk_rstd, N, H,
                         G, D);
    linear_backward(a->dh, &d->qkv, a->dqkv, b->h1, &p->qkv, add, N, qkv_width(c), C);
}

/* dx: in, the gradient of the block's output; out, of its input x. */
static void block_backward(struct model *m, int l, const act_t *x)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    struct block_acts *b = &a->block[l];
    struct layer_params *p = &m->params.layer[l], *d = &m->grads.layer[l];
    mlp_backward(m, l, c->parallel ? b->h1 : b->h2);
    if (!c->parallel) {
        sum_parts(m, a->dh, m->N);
        norm_backward(c, a->dx, &d->norm2, a->dh, b->x2, &p->norm2, b->mean2, b->rstd2, true, m->N);
    }
    attend_backward(m, l, c->parallel);
    sum_parts(m, a->dh, m->N);
    norm_backward(c, a->dx, &d->norm1, a->dh, x, &p->norm1, b->mean1, b->rstd1, true, m->N);
}

void model_backward(struct model *m)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int L = c->layers;
    assert(a->kept && m->use.train);
    norm_backward(c, a->dx, &m->grads.final_norm, m->dhidden, a->stream[L], &m->params.final_norm, a->final_mean,
                  a->final_rstd, false, m->N);
    for (int l = L - 1; l >= 0; l--) {
        if (m->use.recompute) block_forward(m, l, NULL, a->stream[l], &(struct rows){.N = m->N, .S = m->S});
        block_backward(m, l, a->stream[l]);
    }
    if (c->embed_norm)
        norm_backward(c, a->dx, &m->grads.embed_norm, a->dx, a->embedded, &m->params.embed_norm, a->embed_mean,
                      a->embed_rstd, false, m->N);
    embed_backward(m->grads.embed, m->grads.position, a->dx, m->tokens, m->positions, m->N, c->channels);
    a->kept = false;
}

/* ---- heads ---- */

/* Rows of the last forward as the head's input: the hidden rows themselves when all are wanted, else a gathered
 * copy. */
static const act_t *head_rows(struct model *m, const int *rows, int n)
{
    struct layer_acts *a = m->acts;
    if (n == m->N) return m->hidden;
    device_put(a->rows, rows, (size_t)n * sizeof(int));
    rows_gather(a->row_hidden, m->hidden, a->rows, n, m->config.channels);
    return a->row_hidden;
}

/* Brings the gradient of those rows to dhidden: 0 in all other rows. */
static void head_scatter(struct model *m, const act_t *dh, int n)
{
    if (n == m->N) return;
    device_clear(m->dhidden, (size_t)m->N * (size_t)m->config.channels * sizeof(act_t));
    if (n > 0) rows_scatter(m->dhidden, dh, m->acts->rows, n, m->config.channels);
}

static act_t *head_gradient(struct model *m, int n) { return n == m->N ? m->dhidden : m->acts->row_dhidden; }

/* The gradient array of the output matrix: the embedding's when tied. */
static float *head_gradient_weight(struct model *m) { return m->config.tied ? m->grads.embed : m->grads.head.weight; }

/* Numbers of the counted rows into rows, and their targets onto the device; returns how many. */
static int counted_rows(struct model *m, const struct batch *b, int *rows, int *targets)
{
    int n = 0;
    for (int i = 0; i < b->N; i++) {
        if (!b->mask[i]) continue;
        rows[n] = i;
        targets[n++] = b->targets[i];
    }
    check_tokens(m, targets, n);
    device_put(m->targets, targets, (size_t)n * sizeof(int));
    return n;
}

int model_token_loss(struct model *m, const struct batch *b, const struct token_loss *loss, float *logprobs,
                     float *entropy, float *losses, bool backward)
{
    struct layer_acts *a = m->acts;
    const struct config *c = &m->config;
    assert(b->N == m->N && c->head == HEAD_VOCABULARY && (!backward || m->use.train));
    int *rows = a->counted, n = counted_rows(m, b, rows, rows + b->N);
    size_t bytes = (size_t)n * sizeof(float);
    if (n > 0) {
        struct token_loss l = *loss;
        if (l.kind == LOSS_POLICY) {
            device_put(a->old_logprobs, loss->old_logprobs, bytes);
            device_put(a->advantages, loss->advantages, bytes);
            l.old_logprobs = a->old_logprobs;
            l.advantages = a->advantages;
        }
        const act_t *h = head_rows(m, rows, n);
        token_loss(a->logprobs, entropy ? a->entropy : NULL, losses ? a->losses : NULL,
                   backward ? head_gradient(m, n) : NULL, backward ? head_gradient_weight(m) : NULL, h, m->targets,
                   m->params.head.packed, &l, m->work, n, c->channels, c->vocab);
        if (logprobs) device_get(logprobs, a->logprobs, bytes);
        if (entropy) device_get(entropy, a->entropy, bytes);
        if (losses) device_get(losses, a->losses, bytes);
    }
    device_wait();
    if (backward) head_scatter(m, a->row_dhidden, n);
    return n;
}

void model_values(struct model *m, float *values, const int *rows, int n)
{
    assert(m->config.head == HEAD_SCALAR && n <= m->N);
    if (n > 0) {
        const act_t *h = head_rows(m, rows, n);
        value_forward(m->acts->values, h, m->params.score, m->params.score_bias, n, m->config.channels);
        device_get(values, m->acts->values, (size_t)n * sizeof(float));
    }
    device_wait();
}

void model_values_backward(struct model *m, const float *dvalues, const int *rows, int n)
{
    assert(m->config.head == HEAD_SCALAR && m->use.train && n <= m->N);
    struct layer_acts *a = m->acts;
    if (n > 0) {
        const act_t *h = head_rows(m, rows, n);
        device_put(a->dvalues, dvalues, (size_t)n * sizeof(float));
        value_backward(head_gradient(m, n), m->grads.score, m->grads.score_bias, a->dvalues, h, m->params.score, n,
                       m->config.channels);
    }
    head_scatter(m, a->row_dhidden, n);
    device_wait();
}

void model_logits(struct model *m, const int *rows, int n)
{
    assert(n <= m->use.logits_rows && n <= m->N && m->config.head == HEAD_VOCABULARY);
    if (n == 0) return;
    logits_forward(m->logits, head_rows(m, rows, n), m->params.head.packed, n, m->config.vocab, m->config.channels);
}

void model_sample(struct model *m, int *tokens, float *logprobs, const int *rows, const double *uniform,
                  const struct sampling *sampling, int n)
{
    size_t count = (size_t)n;
    model_logits(m, rows, n);
    device_put(m->draw.uniform, uniform, count * sizeof *uniform);
    device_put(m->draw.sampling, sampling, count * sizeof *sampling);
    sample_rows(m->draw.tokens, m->draw.logprobs, m->logits, m->draw.uniform, m->draw.sampling, n, m->config.vocab);
    comm_share(m->use.comm, GROUP_TENSOR, m->draw.tokens, count * sizeof *tokens, 0);     /* they go on alike */
    comm_wait(m->use.comm);
    device_get(tokens, m->draw.tokens, count * sizeof *tokens);
    device_get(logprobs, m->draw.logprobs, count * sizeof *logprobs);
    device_wait();
}
