/* model.c - the transformer, written in ops.  One block function serves every use: training keeps each layer's
 * activations, --recompute block keeps only each block's input and runs the block again in backward, scoring and
 * decoding keep nothing and let one layer's memory serve all.  All of them call the same ops on the same rows, hence
 * the same bits. */
#include "common/model/shares.h"
#include "common/model/device.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* A norm's input is kept elsewhere. */
struct norm_acts { float *mean, *rstd; };

/* What one block computes on its way; N rows each, or, of what no split matrix gives, the rank's own of them.  h1, h2:
 * normed inputs of attention and mlp; raw1, raw2: what norms after them take; qkv_raw and qk_rstd only with qk_norm.  Absent is what the block does without. */
struct block_acts {
    act_t *h1, *qkv_raw, *qkv, *y, *raw1, *x2, *h2, *up, *act, *raw2;
    float *qk_rstd, *lse;
    struct norm_acts norm1, norm2, post1, post2;
};

struct layer_acts {
    act_t **stream;               /* (L+1): the input of each block, and the output of the last */
    struct block_acts *block;     /* (L), or all the same one when nothing or only the inputs are kept */
    act_t *narrow, *embedded;     /* (N,E) before the matrix that makes it wide; before the embedding norm */
    act_t *last;                  /* before the matrix that makes it narrow again */
    act_t *whole, *part;          /* (N,C) with several tensor ranks: the rows of all; what they are to add up */
    struct norm_acts embed_norm, final_norm;
    act_t *dnarrow, *dx, *dh, *dy, *dqkv, *dup, *dact;   /* of all flights the same */
    int *tokens, *positions, *offsets;                   /* the batch, on the device */
    int N, S;
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

static struct norm_acts take_norm(struct memory *memory, int N)
{
    struct norm_acts a = {take_floats(memory, N), NULL};
    a.rstd = take_floats(memory, N);
    return a;
}

/* n: the most rows of the N that one tensor rank has. */
static void block_open(struct block_acts *a, const struct config *c, int N, int n, struct memory *memory)
{
    int C = c->channels;
    bool after = c->norm_place == NORM_AFTER, both = c->norm_place == NORM_BOTH;
    if (!after) a->h1 = take_acts(memory, n, C);
    a->norm1 = take_norm(memory, n);
    if (c->qk_norm) {
        a->qkv_raw = take_acts(memory, N, qkv_width(c));
        a->qk_rstd = take_floats(memory, N * (c->heads + c->kv_heads));
    }
    a->qkv = take_acts(memory, N, qkv_width(c));
    a->y = take_acts(memory, N, c->heads * c->head_dim);
    a->lse = take_floats(memory, N * c->heads);
    if (after || both) a->raw1 = take_acts(memory, n, C);
    if (both) a->post1 = take_norm(memory, n);
    if (!c->parallel) a->x2 = take_acts(memory, n, C);
    if (!after && (!c->parallel || c->parallel_norms)) a->h2 = take_acts(memory, n, C);
    if (!c->parallel || c->parallel_norms) a->norm2 = take_norm(memory, n);
    a->up = take_acts(memory, N, up_width(c));
    a->act = take_acts(memory, N, c->ffn);
    if (after || both) a->raw2 = take_acts(memory, n, C);
    if (both) a->post2 = take_norm(memory, n);
}

/* Tensor ranks have as many rows each, the last of them fewer. */
static int rows_of(int N, int t) { return (N + t - 1) / t; }

/* What every micro-batch under way keeps for itself. */
static void flight_open(struct model *m, struct layer_acts *a, struct memory *memory)
{
    const struct config *c = &m->local;
    const struct layer_acts *first = m->flight;
    int N = m->use.max_tokens, n = rows_of(N, m->place.t), C = c->channels, begin = m->begin;
    bool keep_all = m->use.train && !m->use.recompute;
    for (int l = begin; l <= m->end; l++)
        a->stream[l] = l == begin || m->use.train ? take_acts(memory, n, C) : a->stream[begin];
    for (int l = begin; l < m->end; l++) {
        if ((l == begin && a == first) || keep_all) block_open(&a->block[l], c, N, n, memory);
        else a->block[l] = first->block[begin];
    }
    a->tokens = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    a->positions = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    a->offsets = memory_take(memory, MEMORY_ACTS, (size_t)m->use.max_sequences + 1, sizeof(int));
    if (model_first(m) && c->embed_norm) {
        a->embedded = take_acts(memory, n, C);
        a->embed_norm = take_norm(memory, n);
    }
    if (model_first(m) && c->embed_width) a->narrow = take_acts(memory, n, config_embed_width(c));
}

/* Between the layers and the head. */
static void final_open(struct model *m, struct memory *memory)
{
    const struct config *c = &m->local;
    int N = m->use.max_tokens, n = rows_of(N, m->place.t), E = config_embed_width(c);
    if (c->embed_width) m->flight->last = take_acts(memory, n, c->channels);
    m->flight->final_norm = take_norm(memory, n);
    m->hidden = take_acts(memory, N, E);
    if (m->use.train) m->dhidden = take_acts(memory, N, E);
}

/* Of N rows, which are this rank's own. */
static void rows_use(struct model *m, int N, int S)
{
    int most = rows_of(N, m->place.t);
    m->N = m->acts->N = N;
    m->S = m->acts->S = S;
    m->first_row = int_min(m->place.tensor * most, N);
    m->rows = int_min(most, N - m->first_row);
}

static void flight_use(struct model *m, int64_t number)
{
    m->acts = &m->flight[number % m->use.flights];
    m->tokens = m->acts->tokens;
    m->positions = m->acts->positions;
    m->offsets = m->acts->offsets;
    rows_use(m, m->acts->N, m->acts->S);
}

static void backward_open(struct layer_acts *a, const struct config *c, int N, int n, struct memory *memory)
{
    int C = c->channels;
    if (c->embed_width) a->dnarrow = take_acts(memory, n, config_embed_width(c));
    a->dx = take_acts(memory, n, C);
    a->dh = take_acts(memory, n, C);
    a->dy = take_acts(memory, N, c->heads * c->head_dim);
    a->dqkv = take_acts(memory, N, qkv_width(c));
    a->dup = take_acts(memory, N, up_width(c));
    a->dact = take_acts(memory, N, c->ffn);
}

static void acts_open(struct model *m, struct memory *memory)
{
    int N = m->use.max_tokens;
    struct layer_acts *first = m->flight;
    for (int i = 0; i < m->use.flights; i++) flight_open(m, &m->flight[i], memory);
    if (model_last(m)) final_open(m, memory);
    if (m->use.cache_slots > 0) m->slots = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    if (m->place.t > 1) {
        first->whole = take_acts(memory, N, m->config.channels);
        first->part = take_acts(memory, N, int_max(m->config.channels, config_embed_width(&m->config)));
    }
    if (m->use.train) backward_open(first, &m->local, N, rows_of(N, m->place.t), memory);
    for (int i = 1; i < m->use.flights; i++) {
        struct layer_acts *a = &m->flight[i];
        a->whole = first->whole;
        a->part = first->part;
        a->dnarrow = first->dnarrow;
        a->dx = first->dx;
        a->dh = first->dh;
        a->dy = first->dy;
        a->dqkv = first->dqkv;
        a->dup = first->dup;
        a->dact = first->dact;
    }
    flight_use(m, 0);
}

static float nearest_bfloat16(float x)
{
    int exponent;
    float part = frexpf(x, &exponent);
    return ldexpf(nearbyintf(ldexpf(part, 8)), exponent - 8);
}

/* Slopes of Press et al. 2022: 2^(-8 i / n) for the largest power of two n <= H, then the odd steps of the next
 * power. */
static void slopes_open(struct model *m, struct memory *memory)
{
    int H = m->config.heads, own = m->local.heads, n = 1;
    m->slopes = memory_take(memory, MEMORY_PARAMS, (size_t)own, sizeof(float));
    if (!m->slopes) return;
    float *slopes = host_alloc((size_t)H, sizeof *slopes);
    while (2 * n <= H) n *= 2;
    for (int h = 0; h < H; h++)
        slopes[h] = (float)(h < n ? pow(2, -8.0 * (h + 1) / n) : pow(2, -4.0 * (2 * (h - n) + 1) / n));
    for (int h = 0; h < H && m->config.alibi_rounded; h++) slopes[h] = nearest_bfloat16(slopes[h]);
    device_put(m->slopes, slopes + m->place.tensor * own, (size_t)own * sizeof *slopes);
    device_wait();
    free(slopes);
}

static void frequencies_open(struct model *m, struct memory *memory)
{
    size_t pairs = (size_t)(config_rotated(&m->config) / 2);
    m->frequency = memory_take(memory, MEMORY_PARAMS, pairs, sizeof(double));
    if (!m->frequency) return;
    double *frequency = host_alloc(pairs, sizeof *frequency);
    m->rope_factor = config_frequencies(frequency, &m->config);
    device_put(m->frequency, frequency, pairs * sizeof *frequency);
    device_wait();
    free(frequency);
}

/* With as many slices as ranks the sum goes to this rank's piece of the gradients themselves. */
void model_gradients_open(struct params *grads, float **sum, const struct params *params, const struct config *c,
                          const struct model_use *use, struct memory *memory)
{
    struct place place = comm_place(use->comm);
    grads->stage = params->stage;
    grads->stages = params->stages;
    grads->first_layer = params->first_layer;
    if (use->zero >= 2) params_open_parts(grads, c, memory, MEMORY_GRADS, 1, PACKED_NONE);
    else params_open(grads, c, memory, MEMORY_GRADS, place.d, false);
    size_t piece = params->count / (size_t)place.d;
    if (use->slices > place.d || use->zero >= 2) *sum = memory_take(memory, MEMORY_GRADS, piece, sizeof(float));
    else *sum = grads->all ? grads->all + (size_t)place.data * piece : NULL;
}

static void weights_open(struct model *m, struct memory *memory)
{
    const struct config *c = &m->local;
    struct place place = m->place;
    m->params.frozen = m->use.frozen;
    m->params.vocab = m->config.vocab;
    m->params.rounds = (struct rounds){m->use.at_random, m->use.seed, 0, m->use.number, place.tensor, place.t};
    m->params.stage = place.pipe;
    m->params.stages = place.p;
    m->params.first_layer = m->first_layer;
    if (model_apart(m))
        params_open_parts(&m->params, c, memory, MEMORY_PARAMS, place.d, m->use.zero < 3 ? PACKED_ALL : PACKED_LAYER);
    else params_open(&m->params, c, memory, MEMORY_PARAMS, m->use.train ? place.d : 1, true);
    size_t pieces = m->use.zero > 0 ? (size_t)place.d : 1, piece = m->params.count / pieces;
    m->from = m->use.zero > 0 ? (size_t)place.data * piece : 0;
    m->to = m->from + piece;
    m->layer_held = -1;
    enum phase masters = m->use.offload ? MEMORY_OFFLOADED : MEMORY_PARAMS;
    if (model_apart(m)) m->own = memory_take(memory, masters, piece, sizeof(float));
    else m->own = m->params.all ? m->params.all + m->from : NULL;
    if (!m->use.train) return;
    model_gradients_open(&m->grads, &m->sum, &m->params, c, &m->use, memory);
    if (gradient_overlaps(m))
        m->bucket = memory_take(memory, MEMORY_GRADS, (size_t)place.d * comm_part(m->params.layer_floats, place.d),
                                sizeof(float));
    enum phase moments = m->use.offload ? MEMORY_OFFLOADED : MEMORY_MOMENTS;
    m->m = memory_take(memory, moments, piece, sizeof(float));
    m->v = memory_take(memory, moments, piece, sizeof(float));
    if (m->use.ema) m->ema = memory_take(memory, moments, piece, sizeof(float));
}

static size_t work_floats(const struct model *m)
{
    const struct config *c = &m->local;
    int N = m->use.max_tokens;
    bool reads = N > 0 && c->head == HEAD_VOCABULARY && model_last(m);
    size_t loss = reads ? token_loss_work(N, config_embed_width(c), c->vocab) : 0,
           attention = m->use.train ? attention_backward_work(N, c->heads, c->kv_heads, c->head_dim) : 0;
    return loss > attention ? loss : attention;
}

static void host_open(struct model *m)
{
    struct place place = m->place;
    size_t L = (size_t)m->config.layers;
    m->flight = host_alloc((size_t)m->use.flights, sizeof *m->flight);
    for (int i = 0; i < m->use.flights; i++) {
        m->flight[i].stream = host_alloc(L + 1, sizeof *m->flight->stream);
        m->flight[i].block = host_alloc(L, sizeof *m->flight->block);
    }
    m->cache = host_alloc(L, sizeof *m->cache);
    m->first_layer = host_alloc((size_t)place.p + 1, sizeof *m->first_layer);
    for (int s = 0; s <= place.p; s++) m->first_layer[s] = stage_first_layer(&m->config, place.p, s);
    m->begin = m->first_layer[place.pipe];
    m->end = m->first_layer[place.pipe + 1];
}

void model_open(struct model *m, const struct config *config, const struct model_use *use, struct memory *memory)
{
    m->config = *config;
    m->place = comm_place(use->comm);
    if (use->tensor > 0) m->place.t = use->tensor;
    m->local = config_of_rank(config, m->place.t);
    m->use = *use;
    m->use.flights = int_max(use->flights, 1);
    if (!m->flight) host_open(m);
    if (config->position == POSITION_ALIBI) slopes_open(m, memory);
    if (config->position == POSITION_ROPE) frequencies_open(m, memory);
    weights_open(m, memory);
    size_t acts = memory_mark(memory, MEMORY_ACTS), work = memory_mark(memory, MEMORY_WORK);
    acts_open(m, memory);
    heads_open(m, memory);
    m->work = memory_take(memory, MEMORY_WORK, work_floats(m), sizeof(float));
    size_t wide = (size_t)int_max(config->channels, config_embed_width(config));
    comm_take(use->comm, memory, use->train ? m->params.count / (size_t)m->place.d : 0,
              (size_t)(rows_of(use->max_tokens, m->place.t) * m->place.t) * wide * sizeof(act_t));
    memory_release(memory, MEMORY_ACTS, acts);
    memory_release(memory, MEMORY_WORK, work);
    if (use->cache_slots > 0) {
        size_t n = attention_cache_elements(use->cache_slots, use->cache_capacity, m->local.kv_heads, config->head_dim);
        for (int l = m->begin; l < m->end; l++) m->cache[l] = memory_take(memory, MEMORY_CACHE, n, sizeof(act_t));
    }
}

void model_close(struct model *m)
{
    for (int i = 0; m->flight && i < m->use.flights; i++) {
        free(m->flight[i].stream);
        free(m->flight[i].block);
    }
    free(m->flight);
    free(m->cache);
    free(m->first_layer);
    params_close(&m->params);
    params_close(&m->grads);
    free(m->head.counted);
    free(m->head.host_logprobs);
    free(m->head.own_tokens);
    *m = (struct model){0};
}

/* ---- forward ---- */

static void norm_forward(const struct config *c, act_t *y, const struct norm_acts *a, const act_t *x,
                         const struct norm_params *n, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_forward(y, a->rstd, x, n->weight, (float)c->norm_eps, N, c->channels);
    else layernorm_forward(y, a->mean, a->rstd, x, n->weight, n->bias, (float)c->norm_eps, N, c->channels);
}

static void norm_backward(const struct config *c, act_t *dx, struct norm_params *d, const act_t *dy, const act_t *x,
                          const struct norm_params *n, const struct norm_acts *a, bool add, int N)
{
    if (c->norm == NORM_RMSNORM) rmsnorm_backward(dx, d->weight, dy, x, n->weight, a->rstd, add, N, c->channels);
    else layernorm_backward(dx, d->weight, d->bias, dy, x, n->weight, a->mean, a->rstd, add, N, c->channels);
}

static void linear_forward(act_t *y, const act_t *x, const struct linear_params *l, const act_t *residual, int N,
                           int out, int in)
{
    matmul_forward(y, x, l->packed, l->bias, residual, N, out, in);
}

/* ---- rows of tensor ranks: norms and sums are made of a rank's own rows, products of all of them ---- */

static size_t own_count(const struct model *m, int width) { return (size_t)m->rows * (size_t)width; }

/* All rows of x (N,width), in `to`, from each rank's own; with one rank x itself. */
static const act_t *all_rows(const struct model *m, act_t *to, const act_t *x, int width)
{
    size_t row = (size_t)width * sizeof *x;
    if (m->place.t == 1) return x;
    comm_gather_range(m->use.comm, GROUP_TENSOR, to, x, 0, (size_t)m->N * row, (size_t)rows_of(m->N, m->place.t) * row);
    comm_wait(m->use.comm);
    return to;
}

/* Where a product goes of which each rank has a part: to `own` itself with one rank. */
static act_t *part_of(const struct model *m, act_t *own) { return m->place.t == 1 ? own : m->acts->part; }

/* The own rows of the sum of these parts; with one rank they are the whole. */
static act_t *sum_parts(const struct model *m, act_t *part, int width)
{
    size_t row = (size_t)width, piece = (size_t)rows_of(m->N, m->place.t) * row;
    if (m->place.t == 1) return part;
    comm_sum_piece(m->use.comm, GROUP_TENSOR, part, (size_t)m->N * row, piece, NUMBER_ACT);
    return part + (size_t)m->first_row * row;
}

/* to = own rows, which part_of has given their place. */
static void take_sum(const struct model *m, act_t *to, int width)
{
    if (m->place.t > 1) device_copy(to, sum_parts(m, m->acts->part, width), own_count(m, width) * sizeof *to);
}

/* A sublayer's end, to (N,C): x plus its product y W^T, with norms where they are set; raw: what a norm takes then. */
struct join { act_t *raw; const struct norm_acts *acts; const struct norm_params *norm; };

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
        if (sum != x) device_copy(sum, both ? own : x, own_count(m, c->channels) * sizeof *sum);
        if (!both) acts_add(sum, own, own_count(m, c->channels));
    }
    if (before) return;
    norm_forward(c, to, j->acts, j->raw, j->norm, m->rows);
    if (both) acts_add(to, x, own_count(m, c->channels));
}

static struct join join_of(const struct config *c, struct block_acts *a, const struct layer_params *p, bool mlp)
{
    bool both = c->norm_place == NORM_BOTH;
    if (mlp) return (struct join){a->raw2, both ? &a->post2 : &a->norm2, both ? &p->post2 : &p->norm2};
    return (struct join){a->raw1, both ? &a->post1 : &a->norm1, both ? &p->post1 : &p->norm1};
}

/* What layer l sees. */
static struct sight sight_of(const struct model *m, int l)
{
    const struct config *c = &m->config;
    return (struct sight){m->slopes, c->alibi_rounded, l < c->full_layers ? 0 : c->window};
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
    linear_forward(c->qk_norm ? a->qkv_raw : a->qkv, h, &p->qkv, NULL, N, qkv_width(c), c->channels);
    if (c->qk_norm)
        qk_norm_forward(a->qkv, a->qk_rstd, a->qkv_raw, p->q_norm, p->k_norm, (float)c->norm_eps, N, H, G, D);
    if (c->position == POSITION_ROPE)
        rope_forward(a->qkv, m->positions, m->frequency, N, H, G, D, config_rotated(c), m->rope_factor, c->rope_layout);
    if (m->S == 0)
        attention_cached(a->y, m->cache[l], a->qkv, m->slots, m->positions, &sight, N, H, G, D,
                         m->use.cache_slots, m->use.cache_capacity);
    else
        attention_forward(a->y, a->lse, a->qkv, m->offsets, &sight, m->S, N, H, G, D);
}

/* out = block(x); out may be x.  out NULL: only what backward needs is computed. */
static void block_forward(struct model *m, int l, act_t *out, const act_t *x)
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

/* The last block's output becomes the rows that a head reads. */
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

/* Sends what another stage is to have, and gets x from stage `from`, unless that is NULL. */
static void border(struct model *m, act_t *x, int from)
{
    size_t bytes = own_count(m, m->config.channels) * sizeof *x;
    comm_exchange(m->use.comm, GROUP_PIPE, &m->out, &(struct parcel){x, x ? bytes : 0, from});
    m->out.bytes = 0;
}

/* x is for stage `to`. */
static void leave(struct model *m, act_t *x, int to)
{
    m->out = (struct parcel){x, own_count(m, m->config.channels) * sizeof *x, to};
}

void model_flush(struct model *m) { border(m, NULL, 0); }

bool model_kept(const struct model *m) { return m->acts->kept; }

/* The whole stack over N rows whose tokens and positions are on the device. */
static void stack_forward(struct model *m, int N, int S, bool keep)
{
    const struct config *c = &m->config;
    struct layer_acts *a = m->acts;
    int begin = m->begin, stage = m->place.pipe;
    act_t *x = a->stream[begin], *end = keep ? a->stream[m->end] : x;
    rows_use(m, N, S);
    border(m, model_first(m) ? NULL : x, stage - 1);
    if (model_first(m)) embed_in(m, c->embed_norm ? a->embedded : x);
    if (model_first(m) && c->embed_norm)
        norm_forward(c, x, &a->embed_norm, a->embedded, &m->params.embed_norm, m->rows);
    for (int l = begin; l < m->end; l++) {
        weights_gather_layer(m, l);
        block_forward(m, l, a->stream[keep ? l + 1 : begin], a->stream[keep ? l : begin]);
    }
    if (model_last(m)) final_forward(m, end);
    else leave(m, end, stage + 1);
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

/* ---- backward, in mirror order ---- */

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
    if (c->norm_place == NORM_AFTER) acts_add(a->dx, dh, own_count(m, c->channels));
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
    attention_backward(a->dqkv, a->dy, b->y, b->lse, b->qkv, m->offsets, &sight, m->work, m->S, N, H, G, D);
    if (c->position == POSITION_ROPE)
        rope_backward(a->dqkv, m->positions, m->frequency, N, H, G, D, config_rotated(c), m->rope_factor,
                      c->rope_layout);
    if (c->qk_norm)
        qk_norm_backward(a->dqkv, d->q_norm, d->k_norm, a->dqkv, b->qkv_raw, p->q_norm, p->k_norm, b->qk_rstd, N, H,
                         G, D);
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
    else border(m, a->dx, stage + 1);
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
        leave(m, a->dh, stage - 1);
        return;
    }
    if (c->embed_norm)
        norm_backward(c, a->dx, &m->grads.embed_norm, a->dx, a->embedded, &m->params.embed_norm, &a->embed_norm, false,
                      m->rows);
    embed_in_backward(m);
}
