/* params.c - the one list of parameters.  All of a model's parameters lie in one run of floats in visiting order, each
 * aligned to 64 bytes; the gaps are zeros and stay zero under every update, so that clearing, norms and averages may
 * walk the whole. */
#include "common/model/params.h"
#include "common/model/device.h"
#include "common/base/rng.h"

struct walk {
    void (*visit)(void *context, const struct param *p);
    void *context;
    const struct config *config;
    struct params *params;
    int layer, number;
    bool head;                  /* what comes after the layers */
    bool all;
};

static int stages_of(const struct params *p) { return p->stages > 1 ? p->stages : 1; }
static bool has_copy(const struct params *p, const struct config *c)
{
    return p->stages > 1 && c->head == HEAD_VOCABULARY && c->tied;
}

static int stage_of(const struct walk *w)
{
    const struct params *p = w->params;
    int s = 0;
    if (stages_of(p) == 1 || w->head) return stages_of(p) - 1;
    while (w->layer >= p->first_layer[s + 1]) s++;
    return s;
}

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
    p.trainable = !w->params->frozen || !w->params->frozen(p.name);
    p.number = w->number++;
    p.first = w->params->at ? w->params->at[p.number] : 0;
    p.stage = stage_of(w);
    p.held = p.stage == w->params->stage;
    if (p.number == 0 && has_copy(w->params, w->config) && w->params->stage == w->params->stages - 1) {
        p.held = true;
        if (w->params->run) p.first = w->params->run[w->params->stage].copy;
    }
    if (p.held || w->all) w->visit(w->context, &p);
}

static void say_vector(struct walk *w, const char *name, float **data, int n, enum init init, bool partial)
{
    say(w, name, data, (struct param){.shape = {n}, .init = init, .partial = partial});
}

/* How many ids tensor ranks split: more than the configuration's where it is a view of the first rows (program.c). */
static int split_vocabulary(const struct walk *w) { return int_max(w->params->vocab, w->config->vocab); }

/* A table of a row for each id. */
static void say_vocabulary(struct walk *w, const char *name, float **data, act_t **packed)
{
    const struct config *c = w->config;
    say(w, name, data, (struct param){.shape = {c->vocab, config_embed_width(c)}, .packed = packed, .init = INIT_NORMAL,
                                      .split = SPLIT_ROWS, .part = {split_vocabulary(w)}});
}

static void say_norm(struct walk *w, const char *weight, const char *bias, struct norm_params *n)
{
    say_vector(w, weight, &n->weight, w->config->channels, INIT_ONES, true);
    if (w->config->norm_bias) say_vector(w, bias, &n->bias, w->config->channels, INIT_ZEROS, true);
}

static void say_linear(struct walk *w, const char *weight, const char *bias, struct linear_params *l, enum split split,
                       const int part[3], int in, bool has_bias)
{
    int out = part[0] + part[1] + part[2];
    struct param p = {.shape = {out, in}, .packed = &l->packed, .split = split, .part = {part[0], part[1], part[2]},
                      .init = split == SPLIT_COLUMNS ? INIT_RESIDUAL : INIT_NORMAL, .partial = split == SPLIT_NONE};
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
        say_vector(w, "attn_q_norm.weight", &y->q_norm, D, INIT_ONES, true);
        say_vector(w, "attn_k_norm.weight", &y->k_norm, D, INIT_ONES, true);
    }
    say_linear(w, "attn_output.weight", "attn_output.bias", &y->out, SPLIT_COLUMNS, stream, c->heads * D, c->out_bias);
    if (c->norm_place == NORM_BOTH) say_norm(w, "attn_post_norm.weight", "attn_post_norm.bias", &y->post1);
    if (!c->parallel || c->parallel_norms) say_norm(w, "ffn_norm.weight", "ffn_norm.bias", &y->norm2);
    say_linear(w, "ffn_up.weight", "ffn_up.bias", &y->up, SPLIT_ROWS, up, C, c->mlp_bias);
    say_linear(w, "ffn_down.weight", "ffn_down.bias", &y->down, SPLIT_COLUMNS, stream, F, c->mlp_bias);
    if (c->norm_place == NORM_BOTH) say_norm(w, "ffn_post_norm.weight", "ffn_post_norm.bias", &y->post2);
}

static void each(struct params *p, const struct config *c, bool all,
                 void (*visit)(void *context, const struct param *p), void *context)
{
    struct walk w = {visit, context, c, p, -1, 0, false, all};
    int E = config_embed_width(c);
    const int in[3] = {c->channels}, out[3] = {E};
    say_vocabulary(&w, "tok_embd.weight", &p->embed, NULL);
    if (c->embed_width) say_linear(&w, "tok_embd_proj.weight", NULL, &p->embed_in, SPLIT_NONE, in, E, false);
    if (c->position == POSITION_LEARNED)
        say(&w, "pos_embd.weight", &p->position,
            (struct param){.shape = {c->context, c->channels}, .init = INIT_NORMAL, .partial = true});
    if (c->embed_norm) say_norm(&w, "tok_embd_norm.weight", "tok_embd_norm.bias", &p->embed_norm);
    for (w.layer = 0; w.layer < c->layers; w.layer++) say_layer(&w, &p->layer[w.layer]);
    w.layer = -1;
    w.head = true;
    if (c->norm_place != NORM_AFTER) say_norm(&w, "output_norm.weight", "output_norm.bias", &p->final_norm);
    if (c->embed_width) say_linear(&w, "output_proj.weight", NULL, &p->embed_out, SPLIT_NONE, out, c->channels, false);
    if (c->head == HEAD_SCALAR) {
        say_vector(&w, "score.weight", &p->score, E, INIT_SCALAR_HEAD, false);
        say_vector(&w, "score.bias", &p->score_bias, 1, INIT_ZEROS, false);
    } else {
        if (!c->tied) say_vocabulary(&w, "output.weight", &p->head.weight, &p->head.packed);
        if (c->head_bias)
            say(&w, "output.bias", &p->head.bias, (struct param){.shape = {c->vocab}, .init = INIT_ZEROS,
                                                  .split = SPLIT_ROWS, .part = {split_vocabulary(&w)}});
    }
}

void params_each(struct params *p, const struct config *c, void (*visit)(void *context, const struct param *p),
                 void *context)
{
    each(p, c, false, visit, context);
}

void params_all(struct params *p, const struct config *c, void (*visit)(void *context, const struct param *p),
                void *context)
{
    each(p, c, true, visit, context);
}

static size_t room_of(const struct param *p) { return (p->count + 15) / 16 * 16; }
static size_t up_to(size_t n, size_t whole) { return (n + whole - 1) / whole * whole; }

/* at and run become the params' once they are whole: params_each reads them. */
struct layout { struct params *params; size_t *at; struct stage_run *run; size_t all, vocabulary; int number; };

static void lay_out(void *context, const struct param *p)
{
    struct layout *l = context;
    struct params *all = l->params;
    struct stage_run *run = &l->run[p->stage];
    if (run->end == 0) run->end = run->lead = l->all % (stages_of(all) > 1 ? SQUARES_BLOCK : 1);
    if (p->layer == 0 && all->layer_floats == 0) all->layer_from = run->end;
    l->at = host_append(l->at, (size_t)l->number, 1, sizeof *l->at);
    l->at[l->number++] = run->end;
    run->end += room_of(p);
    l->all += room_of(p);
    if (p->number == 0) l->vocabulary = room_of(p);
    if (p->layer == 0) all->layer_floats += room_of(p);
}

/* Where every parameter begins, before any has memory. */
static void layout_make(struct params *p, const struct config *c, int ranks)
{
    int last = stages_of(p) - 1;
    size_t even = ranks > 1 ? (size_t)ranks * SQUARES_BLOCK : 1;
    struct layout l = {.params = p, .run = host_alloc((size_t)last + 1, sizeof *l.run)};
    if (!p->layer) p->layer = host_alloc((size_t)c->layers, sizeof *p->layer);
    free(p->at);
    free(p->run);
    p->at = NULL;
    p->run = NULL;
    p->layer_floats = 0;
    params_all(p, c, lay_out, &l);
    for (int s = 0; s <= last; s++) l.run[s].count = up_to(l.run[s].end, even);
    if (has_copy(p, c)) {
        l.run[last].copy = up_to(l.run[last].end, SQUARES_BLOCK);
        l.run[last].count = up_to(l.run[last].copy + l.vocabulary, even);
    }
    p->at = l.at;
    p->run = l.run;
    p->layers_end = layer_begin(p, c->layers);
    p->floats = l.run[p->stage].end;
    p->count = l.run[p->stage].count;
}

static float *element(float *base, size_t i) { return base ? base + i : NULL; }     /* NULL while measuring */

/* Where a parameter of a layer lies while its layer is the one in one_layer. */
static float *in_layer(const struct params *all, const struct param *p)
{
    return element(all->one_layer, p->first - layer_begin(all, p->layer));
}

struct take { struct memory *memory; enum phase phase; struct params *params; bool parts; enum packed packed; };

static void take_one(void *context, const struct param *p)
{
    const struct take *t = context;
    const struct params *all = t->params;
    bool own = t->packed == PACKED_ALL && !p->packed, behind = t->parts && p->layer < 0 && p->first > all->layer_from;
    if (!t->parts || p->layer < 0)
        *p->data = element(all->all, behind ? p->first - (all->layers_end - all->layer_from) : p->first);
    else *p->data = own ? memory_take(t->memory, t->phase, p->count, sizeof(float)) : in_layer(all, p);
}

static void take_packed(void *context, const struct param *p)
{
    const struct take *t = context;
    char *field = (char *)p->packed;
    if (!p->packed) return;
    if (t->packed == PACKED_LAYER && p->layer > 0)                  /* that of layer 0 serves all */
        *p->packed = *(act_t **)(void *)(field - (char *)&t->params->layer[p->layer] + (char *)t->params->layer);
    else
        *p->packed = memory_take(t->memory, MEMORY_PACKED,
                                 matmul_packed_elements((int)p->shape[0], (int)p->shape[1]), sizeof(act_t));
}

/* The arrays, their packed forms, and the head that is the embedding. */
static void take_all(struct params *p, const struct config *c, struct take *t)
{
    params_each(p, c, take_one, t);
    if (t->packed != PACKED_NONE) params_each(p, c, take_packed, t);
    if (c->head != HEAD_VOCABULARY || !c->tied || p->stage != stages_of(p) - 1) return;
    p->head.weight = p->embed;
    size_t elements = matmul_packed_elements(c->vocab, config_embed_width(c));
    if (t->packed != PACKED_NONE) p->head.packed = memory_take(t->memory, MEMORY_PACKED, elements, sizeof(act_t));
}

void params_open(struct params *p, const struct config *c, struct memory *memory, enum phase phase, int ranks,
                 bool packed)
{
    layout_make(p, c, ranks);
    p->all = memory_take(memory, phase, p->count, sizeof(float));
    take_all(p, c, &(struct take){memory, phase, p, false, packed ? PACKED_ALL : PACKED_NONE});
}

void params_open_parts(struct params *p, const struct config *c, struct memory *memory, enum phase phase, int ranks,
                       enum packed packed)
{
    layout_make(p, c, ranks);
    p->all = memory_take(memory, phase, p->floats - (p->layers_end - p->layer_from), sizeof(float));
    p->one_layer = memory_take(memory, phase, p->layer_floats, sizeof(float));
    take_all(p, c, &(struct take){memory, phase, p, true, packed});
}

void params_close(struct params *p)
{
    free(p->layer);
    free(p->at);
    free(p->run);
    *p = (struct params){0};
}

/* ---- stages ---- */

int stage_first_layer(const struct config *c, int p, int s)
{
    double width = c->activation == ACTIVATION_SWIGLU ? 3 : 2,
           heads = (2.0 * c->heads + 2.0 * c->kv_heads) * c->head_dim,
           head = c->head == HEAD_VOCABULARY ? (double)c->vocab * config_embed_width(c) : 0,
           layer = c->channels * (heads + width * c->ffn);
    int even = (int)(s * (c->layers + head / layer) / p + 0.5);
    return int_min(int_max(even, s), c->layers - (p - s));
}

/* ---- tensor ranks ---- */

bool config_splits(const struct config *c, int t)
{
    return c->heads % t == 0 && c->kv_heads % t == 0 && c->ffn % t == 0 &&
           (t - 1) * ((c->vocab + t - 1) / t) < c->vocab;
}

struct config config_of_rank(const struct config *whole, int t)
{
    struct config c = *whole;
    c.heads /= t;
    c.kv_heads /= t;
    c.ffn /= t;
    c.vocab = (c.vocab + t - 1) / t;
    return c;
}

size_t param_run(const struct param *p, int t, size_t first, int *holder, size_t *local)
{
    size_t width = p->ndim == 2 ? (size_t)p->shape[1] : 1, row = first / width, column = first % width, before = 0;
    *holder = -1;
    *local = first;
    if (t == 1 || p->split == SPLIT_NONE) return p->count - first;
    if (p->split == SPLIT_COLUMNS) {
        size_t own = width / (size_t)t;
        *holder = (int)(column / own);
        *local = row * own + column % own;
        return own - column % own;
    }
    for (int i = 0; i < 3; i++) {
        size_t rows = (size_t)p->part[i], own = (rows + (size_t)t - 1) / (size_t)t, left = own - row % own;
        if (row < rows) {
            *holder = (int)(row / own);
            *local = (before + row % own) * width + column;
            if (left > rows - row) left = rows - row;
            return left * width - column;
        }
        row -= rows;
        before += own;
    }
    die("element %zu of %s is in none of its parts", first, p->name);
}

void share_each(const struct share *s, const struct param *p, size_t first, size_t n,
                void (*visit)(void *context, size_t at, size_t from, size_t n), void *context)
{
    for (size_t i = 0, run, local; i < n; i += run) {
        int holder;
        run = param_run(p, s->t, first + i, &holder, &local);
        if (run > n - i) run = n - i;
        size_t at = p->first + local, end = at + run;
        size_t from = at > s->from ? at : s->from, to = end < s->to ? end : s->to;
        if ((holder < 0 || holder == s->rank) && from < to) visit(context, from - s->from, i + (from - at), to - from);
    }
}

/* ---- packed forms ---- */

/* layer: only of that one, if not NULL. */
struct pack { struct params *params; const struct config *config; const int *layer; };

static struct rounding rounding_of_param(const struct rounds *r, const struct param *p)
{
    struct rounding o = {.update = (uint32_t)r->update, .number = (uint64_t)r->model << 16 | (uint64_t)p->number};
    size_t t = (size_t)int_max(r->t, 1), rank = (size_t)r->rank, row = 0, before = 0;
    rng_key(o.key, r->seed, RNG_ROUNDING);
    o.width = (size_t)p->shape[1] * (p->split == SPLIT_COLUMNS ? t : 1);
    o.column = p->split == SPLIT_COLUMNS ? rank * (size_t)p->shape[1] : 0;
    for (int i = 0; i < 3 && p->split == SPLIT_ROWS; i++) {
        size_t rows = p->part[1] ? (size_t)p->part[i] : (size_t)p->shape[0];      /* one part: all of them */
        o.shift[i] = before + rank * rows - row;
        o.end[i] = row += rows;
        before += t * rows;
    }
    return o;
}

static void pack_one(void *context, const struct param *p)
{
    struct pack *k = context;
    const struct rounds *r = &k->params->rounds;
    bool tied = p->data == &k->params->embed && k->config->head == HEAD_VOCABULARY && k->config->tied;
    act_t *packed = tied ? k->params->head.packed : p->packed ? *p->packed : NULL;
    if (k->layer && *k->layer != p->layer) return;
    if (!p->packed && p->layer >= 0 && k->params->one_layer && *p->data != in_layer(k->params, p))
        device_copy(*p->data, in_layer(k->params, p), p->count * sizeof(float));
    if (!packed) return;
    struct rounding rounding = rounding_of_param(r, p);
    bool at_random = r->on && r->update > 0 && p->trainable;
    matmul_pack(packed, *p->data, at_random ? &rounding : NULL, (int)p->shape[0], (int)p->shape[1]);
}

void params_pack_layer(struct params *p, const struct config *c, int l)
{
    params_each(p, c, pack_one, &(struct pack){p, c, &l});
}

void params_pack(struct params *p, const struct config *c)
{
    params_each(p, c, pack_one, &(struct pack){p, c, NULL});
}
