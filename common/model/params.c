/* params.c - the one list of parameters.  All of a model's parameters lie in one run of floats in visiting order, each
 * aligned to 64 bytes; the gaps are zeros and stay zero under every update, so that clearing, norms and averages may
 * walk the whole. */
#include "common/model/params.h"
#include "common/model/device.h"
#include "common/base/rng.h"
#include "common/base/threads.h"

#include <math.h>
#include <stdlib.h>

struct walk {
    void (*visit)(void *context, const struct param *p);
    void *context;
    const struct config *config;
    bool (*frozen)(const char *name);
    int layer;
};

/* One line of the list; p says what is special about it. */
static void say(struct walk *w, const char *name, float **data, struct param p)
{
    char full[96];
    if (w->layer >= 0) snprintf(full, sizeof full, "blk.%d.%s", w->layer, name);
    p.name = w->layer >= 0 ? full : name;
    p.layer = w->layer;
    p.data = data;
    p.ndim = p.shape[1] ? 2 : 1;
    p.count = (size_t)p.shape[0] * (size_t)(p.shape[1] ? p.shape[1] : 1);
    p.decay = p.packed != NULL;
    p.trainable = !w->frozen || !w->frozen(p.name);
    w->visit(w->context, &p);
}

static void say_vector(struct walk *w, const char *name, float **data, int n, enum init init)
{
    say(w, name, data, (struct param){.shape = {n}, .init = init});
}

/* A table of a row for each id. */
static void say_vocabulary(struct walk *w, const char *name, float **data, act_t **packed)
{
    const struct config *c = w->config;
    say(w, name, data, (struct param){.shape = {c->vocab, c->channels}, .packed = packed, .init = INIT_NORMAL,
                                      .split = SPLIT_ROWS, .part = {c->vocab}});
}

static void say_norm(struct walk *w, const char *weight, const char *bias, struct norm_params *n)
{
    say_vector(w, weight, &n->weight, w->config->channels, INIT_ONES);
    if (w->config->norm_bias) say_vector(w, bias, &n->bias, w->config->channels, INIT_ZEROS);
}

static void say_linear(struct walk *w, const char *weight, const char *bias, struct linear_params *l, enum split split,
                       const int part[3], int in, bool has_bias)
{
    int out = part[0] + part[1] + part[2];
    struct param p = {.shape = {out, in}, .packed = &l->packed, .split = split, .part = {part[0], part[1], part[2]},
                      .init = split == SPLIT_COLUMNS ? INIT_RESIDUAL : INIT_NORMAL};
    say(w, weight, &l->weight, p);
    if (!has_bias) return;
    p.shape[1] = 0;
    p.packed = NULL;
    p.init = INIT_ZEROS;
    if (split == SPLIT_COLUMNS) p.split = SPLIT_NONE;       /* it is added once, to the sum over the ranks */
    say(w, bias, &l->bias, p);
}

static void say_layer(struct walk *w, struct layer_params *y)
{
    const struct config *c = w->config;
    int C = c->channels, D = c->head_dim, F = c->ffn, gate = c->activation == ACTIVATION_SWIGLU ? F : 0;
    const int heads[3] = {c->heads * D, c->kv_heads * D, c->kv_heads * D}, up[3] = {F, gate}, stream[3] = {C};
    say_norm(w, "attn_norm.weight", "attn_norm.bias", &y->norm1);
    say_linear(w, "attn_qkv.weight", "attn_qkv.bias", &y->qkv, SPLIT_ROWS, heads, C, c->qkv_bias);
    if (c->qk_norm) {
        say_vector(w, "attn_q_norm.weight", &y->q_norm, D, INIT_ONES);
        say_vector(w, "attn_k_norm.weight", &y->k_norm, D, INIT_ONES);
    }
    say_linear(w, "attn_output.weight", "attn_output.bias", &y->out, SPLIT_COLUMNS, stream, c->heads * D,
               c->out_bias);
    if (!c->parallel) say_norm(w, "ffn_norm.weight", "ffn_norm.bias", &y->norm2);
    say_linear(w, "ffn_up.weight", "ffn_up.bias", &y->up, SPLIT_ROWS, up, C, c->mlp_bias);
    say_linear(w, "ffn_down.weight", "ffn_down.bias", &y->down, SPLIT_COLUMNS, stream, F, c->mlp_bias);
}

void params_each(struct params *p, const struct config *c, void (*visit)(void *context, const struct param *p),
                 void *context)
{
    struct walk w = {visit, context, c, p->frozen, -1};
    say_vocabulary(&w, "tok_embd.weight", &p->embed, NULL);
    if (c->position == POSITION_LEARNED)
        say(&w, "pos_embd.weight", &p->position,
            (struct param){.shape = {c->context, c->channels}, .init = INIT_NORMAL});
    if (c->embed_norm) say_norm(&w, "tok_embd_norm.weight", "tok_embd_norm.bias", &p->embed_norm);
    for (w.layer = 0; w.layer < c->layers; w.layer++) say_layer(&w, &p->layer[w.layer]);
    w.layer = -1;
    say_norm(&w, "output_norm.weight", "output_norm.bias", &p->final_norm);
    if (c->head == HEAD_SCALAR) {
        say_vector(&w, "score.weight", &p->score, c->channels, INIT_SCALAR_HEAD);
        say_vector(&w, "score.bias", &p->score_bias, 1, INIT_ZEROS);
    } else if (!c->tied) {
        say_vocabulary(&w, "output.weight", &p->head.weight, &p->head.packed);
    }
}

/* floats: taken so far, of `all` and of one layer. */
struct take { struct memory *memory; enum phase phase; struct params *params; char *base; size_t floats, layer_from, layer_floats; };

static size_t room_of(const struct param *p) { return (p->count + 15) / 16 * 16; }

static void take_one(void *context, const struct param *p)
{
    struct take *t = context;
    float *data = memory_take(t->memory, t->phase, p->count, sizeof(float));
    if (t->floats == 0) t->base = (char *)data;
    *p->data = data;
    if (p->layer == 0 && t->layer_floats == 0) t->layer_from = t->floats;
    t->floats += room_of(p);
    if (p->layer == 0) t->layer_floats += room_of(p);
}

/* The parts of the list that lie outside the layers (layer -1), or in layer 0, whose place the others share. */
static void take_part(void *context, const struct param *p)
{
    struct take *t = context;
    struct layer_params *first = &t->params->layer[0], *own = p->layer > 0 ? &t->params->layer[p->layer] : NULL;
    if (own) *p->data = *(float **)(void *)((char *)first + ((char *)p->data - (char *)own));
}

static void take_ends(void *context, const struct param *p)
{
    if (p->layer < 0) take_one(context, p);
}

static void take_layer(void *context, const struct param *p)
{
    if (p->layer == 0) take_one(context, p);
}

static void take_packed(void *context, const struct param *p)
{
    struct take *t = context;
    if (p->packed)
        *p->packed = memory_take(t->memory, MEMORY_PACKED,
                                 matmul_packed_elements((int)p->shape[0], (int)p->shape[1]), sizeof(act_t));
}

void params_open(struct params *p, const struct config *c, struct memory *memory, enum phase phase, int ranks,
                 bool packed)
{
    if (!p->layer) p->layer = host_alloc((size_t)c->layers, sizeof *p->layer);
    struct take t = {.memory = memory, .phase = phase};
    params_each(p, c, take_one, &t);
    p->all = (float *)(void *)t.base;
    p->count = p->floats = t.floats;
    p->layer_from = t.layer_from;
    p->layer_floats = t.layer_floats;
    if (ranks > 1) {
        size_t even = (size_t)ranks * SQUARES_BLOCK, tail = (even - t.floats % even) % even;
        memory_take(memory, phase, tail, sizeof(float));
        p->count += tail;
    }
    if (packed) params_each(p, c, take_packed, &t);
    if (c->head == HEAD_VOCABULARY && c->tied) {
        p->head.weight = p->embed;
        size_t elements = matmul_packed_elements(c->vocab, c->channels);
        if (packed) p->head.packed = memory_take(memory, MEMORY_PACKED, elements, sizeof(act_t));
    }
}

void params_open_parts(struct params *p, const struct config *c, struct memory *memory, enum phase phase)
{
    if (!p->layer) p->layer = host_alloc((size_t)c->layers, sizeof *p->layer);
    struct take ends = {.memory = memory, .phase = phase}, layer = {.memory = memory, .phase = phase, .params = p};
    params_each(p, c, take_ends, &ends);
    params_each(p, c, take_layer, &layer);
    params_each(p, c, take_part, &layer);
    p->all = (float *)(void *)ends.base;
    p->one_layer = (float *)(void *)layer.base;
    p->count = ends.floats;
    if (c->head == HEAD_VOCABULARY && c->tied) p->head.weight = p->embed;
}

void params_close(struct params *p)
{
    free(p->layer);
    *p = (struct params){0};
}

/* Numbers are drawn in blocks, block b of parameter number k from its own place in the stream, so that any number of
 * threads draws the same; the blocks of one stage lie on the host until they are put to the device. */
enum { BLOCK = 4096, STAGE = 64 };

struct start { const struct config *config; uint64_t seed, number, first; double std; float *stage; };

static void draw_block(void *context, int i, int thread)
{
    (void)thread;
    struct start *s = context;
    struct rng r = rng_at(s->seed, RNG_INIT, s->number, s->first + (uint64_t)i);
    for (int k = 0; k < BLOCK; k += 2) {
        double pair[2];
        rng_normal_pair(&r, pair);
        s->stage[i * BLOCK + k] = (float)(s->std * pair[0]);
        s->stage[i * BLOCK + k + 1] = (float)(s->std * pair[1]);
    }
}

static void init_one(void *context, const struct param *p)
{
    struct start *s = context;
    const struct config *c = s->config;
    s->std = p->init == INIT_NORMAL ? c->init_std
           : p->init == INIT_RESIDUAL ? c->init_std / sqrt(2.0 * c->layers)
           : p->init == INIT_SCALAR_HEAD ? 1 / sqrt(c->channels + 1.0) : 0;
    if (s->std > 0) {
        for (size_t i = 0; i < p->count; i += (size_t)STAGE * BLOCK) {
            size_t n = p->count - i < (size_t)STAGE * BLOCK ? p->count - i : (size_t)STAGE * BLOCK;
            s->first = i / BLOCK;
            threads_for((int)((n + BLOCK - 1) / BLOCK), draw_block, s);
            device_put(*p->data + i, s->stage, n * sizeof(float));
            device_wait();
        }
    } else {
        fill(*p->data, p->init == INIT_ONES ? 1 : 0, p->count);
    }
    s->number++;
}

void params_init(struct params *p, const struct config *c, uint64_t seed)
{
    struct start s = {.config = c, .seed = seed, .stage = host_alloc((size_t)STAGE * BLOCK, sizeof(float))};
    params_each(p, c, init_one, &s);
    free(s.stage);
    params_pack(p, c);
}

static void pack_one(void *context, const struct param *p)
{
    (void)context;
    if (p->packed && *p->packed) matmul_pack(*p->packed, *p->data, (int)p->shape[0], (int)p->shape[1]);
}

void params_pack(struct params *p, const struct config *c)
{
    params_each(p, c, pack_one, NULL);
    if (c->head == HEAD_VOCABULARY && c->tied && p->head.packed)
        matmul_pack(p->head.packed, p->embed, c->vocab, c->channels);
}
