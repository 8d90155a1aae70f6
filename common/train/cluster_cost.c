/* cluster_cost.c - what a rank holds and sends, and how long a step takes.  The activations are those of a measuring
 * run of the model that the rank would open; weights, gradients and moments follow from the number of its
 * parameters, because ZeRO and the width of a GPU's numbers are not what this build has. */
#include "common/train/cluster.h"
#include "common/model/model.h"

#include <assert.h>
#include <math.h>

int layout_layers(const struct layout *l, const struct config *c) { return (c->layers + l->p - 1) / l->p; }

double layout_parameters(const struct layout *l, const struct config *c)
{
    return (double)config_parameters(c) / ((double)l->t * l->p);
}

/* ---- state and traffic ---- */

double state_held(const struct number_bytes *k, int zero, int d, double psi, double part)
{
    double w = k->weight, g = k->gradient, o = k->optimizer;
    if (zero == 0) return (w + g + o) * psi;
    if (zero == 1) return (w + g + o / d) * psi;
    if (zero == 2) return (w + (g + o) / d) * psi + 2 * g * part;
    return (w + g + o) / d * psi + 2 * (k->gathered + g) * part;
}

double state_sent(const struct number_bytes *k, int zero, int d, int m, double psi)
{
    double g = k->gradient, w = k->gathered, others = (d - 1.0) / d * psi;
    if (zero == 0) return others * 2 * g;
    if (zero == 1) return others * (g + w);
    return zero == 2 ? others * (g * m + w) : others * m * (g + 2 * w);
}

static double rows(const struct layout *l, const struct config *c) { return (double)l->b * l->s * c->channels; }

/* For each half of a layer the inputs of products are gathered and their outputs summed, each other ranks' rows: 2 in
 * the forward pass, 3 in the backward pass, where the product's input is needed again; a block that is run again leaves
 * the last sum out. */
double tensor_sent(const struct layout *l, const struct config *c, double bytes)
{
    double times = l->recompute == RECOMPUTE_BLOCK ? 13 : 10;
    return times * (l->t - 1) / l->t * bytes * rows(l, c) * layout_layers(l, c) * l->m;
}

double pipeline_sent(const struct layout *l, const struct config *c, double bytes)
{
    return l->p > 1 ? 2 * bytes * rows(l, c) / (l->whole_borders ? 1 : l->t) * l->m : 0;
}

double rlhf_held(const struct number_bytes *k, int zero, int d, double policy, double critic, double reference,
                 double reward)
{
    double frozen = k->weight * (reference + reward) / (zero == 3 ? d : 1);
    return state_held(k, zero, d, policy, 0) + state_held(k, zero, d, critic, 0) + frozen;
}

/* ---- activations ---- */

/* Numbers a token that a block makes of its own heads and hidden units: query, key and value, their mixture, and the
 * two of the mlp. */
static double cut_numbers(const struct config *c)
{
    int up = c->activation == ACTIVATION_SWIGLU ? 2 * c->ffn : c->ffn;
    return (2.0 * c->heads + 2.0 * c->kv_heads) * c->head_dim + up + c->ffn;
}

double acts_formula(const struct layout *l, const struct config *c, double bytes)
{
    double wide = l->recompute == RECOMPUTE_BLOCK ? 1 : c->parallel ? 2 : 4;
    double cut = l->recompute == RECOMPUTE_BLOCK ? 0 : cut_numbers(c);
    return bytes * l->b * l->s * (wide * c->channels + cut) / l->t;
}

/* What the ranks of the first stage open together, which takes most.  An output matrix of its own lies on the last. */
static struct config stage_config(const struct layout *l, const struct config *c)
{
    struct config r = *c;
    assert(c->heads % l->t == 0 && c->kv_heads % l->t == 0);
    r.layers = l->p <= c->layers ? stage_first_layer(c, l->p, 1) : layout_layers(l, c);
    r.tied = c->tied || l->p > 1;
    return r;
}

static void measure(struct memory *memory, const struct config *c, const struct layout *l)
{
    struct model model = {0};
    struct model_use use = {.train = true, .recompute = l->recompute == RECOMPUTE_BLOCK, .max_tokens = l->b * l->s,
                            .max_sequences = l->b, .tensor = l->t};
    *memory = (struct memory){0};
    model_open(&model, c, &use, memory);
    model_close(&model);
}

void rank_memory(struct rank_memory *out, const struct layout *l, const struct config *c, const struct cluster *cluster)
{
    struct memory all, one, two;
    struct config r = stage_config(l, c), small = r;
    double width = cluster->bytes.activation / sizeof(act_t), live = l->m < l->p ? l->m : l->p;
    measure(&all, &r, l);
    small.layers = 1;
    measure(&one, &small, l);
    small.layers = 2;
    measure(&two, &small, l);
    double layer = (double)(memory_bytes(&two, MEMORY_ACTS) - memory_bytes(&one, MEMORY_ACTS));
    double psi = (double)memory_bytes(&all, MEMORY_PARAMS) / sizeof(float);
    double part = (double)(memory_bytes(&two, MEMORY_PARAMS) - memory_bytes(&one, MEMORY_PARAMS)) / sizeof(float);
    double table = (double)c->vocab * c->channels / l->t;
    out->state = state_held(&cluster->bytes, l->zero, l->d, psi, part > table ? part : table);
    out->acts = width * ((double)memory_bytes(&all, MEMORY_ACTS) + (live - 1) * r.layers * layer);
    out->work = (double)memory_bytes(&all, MEMORY_WORK);
    out->total = out->state + out->acts + out->work;
    /* a block that is run again, and the gradients on their way through one; what a head reads and all ranks' rows of a
     * product are there once */
    double b = cluster->bytes.activation, tokens = (double)l->b * l->s;
    double block = l->recompute == RECOMPUTE_BLOCK ? (c->parallel ? 1 : 3) * c->channels + cut_numbers(c) : 0;
    double gradients = 3.0 * c->channels + cut_numbers(c), whole = (l->t > 1 ? 6.0 : 4.0) * c->channels;
    out->acts_formula = live * r.layers * acts_formula(l, c, b) + b * tokens * ((block + gradients) / l->t + whole);
}

/* ---- time ---- */

/* The time of a step is summed up from matrix products, attention, what only moves bytes, and messages.  A product is
 * slow where its inner size is small, where its outer sizes do not fill tiles, and where the tiles do not fill the
 * processors; that much is needed to come within a few per cent of published runs. */
static double round_up(double x, double unit) { return ceil(x / unit) * unit; }

/* Share of the peak beside cluster.share: half of the T x T square is skipped, in tiles that are not all full. */
static const double plain_share = 0.55, flash_share = 0.45;

/* (M,K) times (K,N) */
static double product(const struct cluster *c, double M, double N, double K)
{
    double excess = 1;
    if (c->units > 0) {
        double waves = ceil(M / 128) * ceil(N / 256) / c->units;
        excess = round_up(M, 128) / M * round_up(N, 128) / N * sqrt(fmin(2, ceil(waves) / waves));
    }
    double compute = 2 * M * N * K * excess / (c->flops * c->share * K / (K + c->half));
    return fmax(compute, c->bytes.activation * (M * K + K * N + M * N) / c->hbm) + c->launch;
}

/* Half of an all-reduce: n ranks each end with the sum of a piece of `bytes`, or with all of the pieces. */
static double scatter(const struct cluster *c, bool within_host, double n, double bytes)
{
    static const double start_host = 3e-6, start_network = 8e-6;
    return (n - 1) / n * bytes / (within_host ? c->nvlink : c->network) +
           (n - 1) * (within_host ? start_host : start_network);
}

static double attention_time(const struct cluster *c, const struct layout *l, const struct config *m)
{
    double s = l->s, b = l->b, width = (double)m->heads * m->head_dim / l->t, heads = (double)m->heads / l->t;
    if (l->plain_attention)
        return 4 * b * s * s * width / (c->flops * c->share * plain_share) +
               6 * c->bytes.activation * b * s * s * heads / c->hbm + 3 * c->launch;
    return 2 * b * s * s * width / (c->flops * c->share * flash_share) + c->launch;
}

/* One layer and micro-batch, forward and backward: products, attention and rows; and the tensor ranks' messages. */
static void layer_time(double *compute, double *tensor, const struct cluster *c, const struct layout *l,
                       const struct config *m)
{
    double T = (double)l->b * l->s, h = m->channels, t = l->t, width = (double)m->heads * m->head_dim;
    bool gated = m->activation == ACTIVATION_SWIGLU;
    double products = product(c, T, (m->heads + 2.0 * m->kv_heads) * m->head_dim / t, h) + product(c, T, h, width / t) +
                      product(c, T, (gated ? 2 : 1) * m->ffn / t, h) + product(c, T, h, m->ffn / t);
    double attention = attention_time(c, l, m);
    double wide = 10 / (l->whole_rows ? 1 : t) + (gated ? 12 : 8) * m->ffn / (4 * h * t);
    double moved = c->bytes.activation * T * h * wide / c->hbm + 6 * c->launch;
    double sums = t > 1 ? 2 * 2 * scatter(c, t <= (double)c->host, t, c->bytes.activation * T * h) : 0;
    double forwards = l->recompute == RECOMPUTE_BLOCK ? 2 : 1;
    *compute = forwards * (products + attention + moved) + 2 * products + 2.5 * attention + 2 * moved +
               (l->recompute == RECOMPUTE_ATTENTION ? attention : 0);
    *tensor = (forwards + 1) * sums * (1 - c->tensor_overlap);
}

static double head_time(const struct cluster *c, const struct layout *l, const struct config *m)
{
    double T = (double)l->b * l->s, V = (double)m->vocab / l->t;
    return 3 * (product(c, T, V, m->channels) + 6 * c->bytes.activation * T * V / c->hbm);
}

/* The ranks of d lie t apart; a message's bytes follow from the stage of ZeRO (state_sent). */
static double data_time(const struct cluster *c, const struct layout *l, double psi)
{
    bool near = (int64_t)l->t * l->d <= c->host;
    double g = c->bytes.gradient, w = c->bytes.gathered, d = l->d;
    double reduce = scatter(c, near, d, g * psi), gather = scatter(c, near, d, w * psi);
    if (l->d == 1) return 0;
    if (l->zero == 0) return 2 * reduce;
    if (l->zero == 1) return reduce + gather;
    return l->zero == 2 ? l->m * reduce + gather : l->m * (reduce + 2 * gather);
}

void cluster_step(struct step_time *out, const struct layout *l, const struct config *c, const struct cluster *cluster)
{
    double compute, tensor, psi = layout_parameters(l, c), p = l->p, v = l->chunks > 1 ? l->chunks : 1;
    double layers = layout_layers(l, c), spare = layers * p - c->layers;
    layer_time(&compute, &tensor, cluster, l, c);
    bool near = (int64_t)l->t * l->d * l->p <= cluster->host;
    double sent = cluster->bytes.activation * rows(l, c) / (l->whole_borders ? 1 : l->t);
    double border = p > 1 ? v * (sent / (near ? cluster->nvlink : cluster->network) + 10e-6) : 0;
    double head = head_time(cluster, l, c);
    if (spare >= 2) head /= p;              /* the first and the last stage have a layer less */
    *out = (struct step_time){
        .compute = l->m * (layers * compute + head), .tensor = l->m * layers * tensor, .pipeline = l->m * border,
        .bubble = (p - 1) / v * (layers * (compute + tensor) + border),
        .data = (1 - cluster->overlap) * data_time(cluster, l, psi),
        .optimizer = 28 * psi / (l->zero > 0 ? l->d : 1) / cluster->hbm};
    out->total = out->compute + out->tensor + out->pipeline + out->bubble + out->data + out->optimizer;
}

double cluster_days(double work, double devices, double rate) { return work / (devices * rate) / 86400; }

double save_cadence(double save, double failure) { return sqrt(2 * save * failure); }

double goodput(double every, double save, double failure, double restart)
{
    return (1 - (every / 2 + restart) / failure) / (1 + save / every);
}
