/* model_open.c - the memory of a model: weights, gradients, moments, activations, caches. */
#include "common/model/model_acts.h"
#include "common/model/device.h"

#include <math.h>

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
    flight_open(m, first, memory);
    if (model_last(m)) final_open(m, memory);
    if (m->use.cache_slots > 0) m->slots = memory_take(memory, MEMORY_ACTS, (size_t)N, sizeof(int));
    if (m->place.t > 1) {
        first->whole = take_acts(memory, N, m->config.channels);
        first->part = take_acts(memory, N, int_max(m->config.channels, config_embed_width(&m->config)));
    }
    if (m->use.train) backward_open(first, &m->local, N, rows_of(N, m->place.t), memory);
    for (int i = 1; i < m->use.flights; i++) {          /* they share what they do not keep */
        struct layer_acts *a = &m->flight[i], own = *a;
        *a = *first;
        a->stream = own.stream;
        a->block = own.block;
        flight_open(m, a, memory);
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
    scoped float *slopes = host_alloc((size_t)H, sizeof *slopes);
    while (2 * n <= H) n *= 2;
    for (int h = 0; h < H; h++)
        slopes[h] = (float)(h < n ? pow(2, -8.0 * (h + 1) / n) : pow(2, -4.0 * (2 * (h - n) + 1) / n));
    for (int h = 0; h < H && m->config.alibi_rounded; h++) slopes[h] = nearest_bfloat16(slopes[h]);
    device_put(m->slopes, slopes + m->place.tensor * own, (size_t)own * sizeof *slopes);
    device_wait();
}

static void frequencies_open(struct model *m, struct memory *memory)
{
    size_t pairs = (size_t)(config_rotated(&m->config) / 2);
    m->frequency = memory_take(memory, MEMORY_PARAMS, pairs, sizeof(double));
    if (!m->frequency) return;
    scoped double *frequency = host_alloc(pairs, sizeof *frequency);
    m->rope_factor = config_frequencies(frequency, &m->config);
    device_put(m->frequency, frequency, pairs * sizeof *frequency);
    device_wait();
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
