/* cluster_memory.c - what a rank holds and sends.  The activations are those of a measuring run of the model that the
 * rank would open; weights, gradients and moments follow from the number of its parameters, because ZeRO and the width
 * of a GPU's numbers are not what this build has. */
#include "common/train/cluster.h"
#include "common/model/model.h"

#include <assert.h>

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

/* Numbers of one micro-batch's rows of the width of the model. */
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

double acts_published(const struct layout *l, const struct config *c)
{
    double t = l->t, square = l->plain_attention ? 5.0 * c->heads * l->s / c->channels : 0;
    if (l->recompute == RECOMPUTE_BLOCK) return 2 * rows(l, c);
    if (l->recompute == RECOMPUTE_ATTENTION) square = 0;
    return rows(l, c) * (l->whole_rows ? 10 + 24 / t + square / t : (34 + square) / t);
}

/* Numbers a token that a block makes of its own heads and hidden units: query, key and value, their mixture, and the two
 * of the mlp. */
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

void rank_memory(struct rank_memory *out, const struct layout *l, const struct config *c,
                 const struct cluster *cluster)
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
