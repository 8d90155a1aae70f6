/* tiny.h - small models of every family's settings, with weights large enough that each part of them matters, and
 * batches of ragged sequences. */
#ifndef QUARTET_TEST_TINY_H
#define QUARTET_TEST_TINY_H

#include "common/model/model.h"
#include "test/on_device.h"
#include "common/base/rng.h"
#include "test/numbers.h"

#include <string.h>

enum { TINY_SETTINGS = 26 };

/* Setting number i, and its name. */
__attribute__((unused))
static struct config tiny_config(int i, const char **name)
{
    static const char *const names[TINY_SETTINGS] = {"gpt2", "llama", "bloom", "falcon", "qwen3", "opt", "pairs", "scalar llama",
                                                     "scalar gpt2", "qwen2", "all biases", "wide", "linear rope",
                                                     "llama3 rope", "yarn", "gpt-neox", "glm4", "opt-350m",
                                                     "scalar opt-350m", "embedding of its own width",
                                                     "mistral", "qwen2 with windows", "falcon-rw", "alibi and window", "gpt-j",
                                                     "tied with a bias"};
    struct config c;
    bool gpt2 = i == 0 || i == 2 || i == 3 || i == 5 || i == 8 || i == 10 || i == 15 || i == 17 || i == 18 || i == 22 || i == 24;
    if (config_preset(&c, gpt2 ? "gpt2" : "llama", NULL)) die("no preset");
    c.layers = 2; c.channels = 24; c.heads = c.kv_heads = 4; c.head_dim = 6; c.ffn = 21; c.vocab = 37; c.context = 19;
    switch (i) {
    case 1: c.kv_heads = 2; break;
    case 2: c.position = POSITION_ALIBI; c.embed_norm = true; c.heads = c.kv_heads = 6; c.head_dim = 4; break;
    case 3: c.parallel = true; c.kv_heads = 1; c.position = POSITION_ROPE; c.activation = ACTIVATION_GELU;
            c.qkv_bias = c.out_bias = c.mlp_bias = false; break;
    case 4: c.qk_norm = true; c.kv_heads = 2; c.head_dim = 10; c.tied = false; break;
    case 5: c.activation = ACTIVATION_RELU; break;
    case 6: c.rope_layout = ROPE_PAIRS; c.rope_fraction = 0.5; c.head_dim = 8; c.tied = false; break;
    case 7: case 8: c.head = HEAD_SCALAR; c.tied = false; break;
    case 9: c.qkv_bias = true; c.kv_heads = 1; c.tied = false; break;
    case 10: c.tied = false; c.position = POSITION_ROPE; c.kv_heads = 2; c.qk_norm = c.parallel = c.embed_norm = true; break;
    case 11: c.layers = 1; c.channels = 268; c.heads = 5; c.kv_heads = 1; c.head_dim = 54; c.ffn = 523; c.vocab = 301; break;
    }
    if (i == 15) { c.position = POSITION_ROPE; c.rope_fraction = 0.25; c.head_dim = 16; c.parallel = c.parallel_norms = true; c.tied = false; }
    if (i == 16) { c.norm_place = NORM_BOTH; c.kv_heads = 2; c.tied = false; }
    if (i == 17 || i == 18) { c.norm_place = NORM_AFTER; c.embed_width = 13; c.activation = ACTIVATION_RELU; }
    if (i == 18) { c.head = HEAD_SCALAR; c.tied = false; c.activation = ACTIVATION_GELU; }
    if (i == 19) { c.embed_width = 40; c.embed_norm = true; }
    if (i == 24) { c.position = POSITION_ROPE; c.rope_layout = ROPE_PAIRS; c.rope_fraction = 8.0 / 12; c.head_dim = 12; c.parallel = true; }
    if (i == 24) { c.qkv_bias = c.out_bias = c.tied = false; c.head_bias = true; }
    if (i == 25) c.head_bias = true;
    if (i == 20) { c.window = 5; c.kv_heads = 2; c.tied = false; }
    if (i == 21) { c.window = 4; c.full_layers = 1; c.qkv_bias = true; c.kv_heads = 2; }
    if (i == 22) { c.position = POSITION_ALIBI; c.alibi_rounded = true; c.activation = ACTIVATION_GELU; c.heads = c.kv_heads = 6; c.head_dim = 4; }
    if (i == 23) { c.position = POSITION_ALIBI; c.window = 7; c.heads = c.kv_heads = 3; c.head_dim = 8; }
    if (i >= 12 && i <= 14) {
        c.head_dim = 12; c.rope_theta = 20; c.rope_factor = 2.5;
        c.rope_scaling = i == 12 ? ROPE_LINEAR : i == 13 ? ROPE_LLAMA3 : ROPE_YARN;
    }
    if (i == 13 || i == 14) { c.rope_original = 24; c.rope_low = 1; c.rope_high = 3; }
    if (name) *name = names[i];
    return c;
}

struct tiny { struct memory memory; struct model m; };

static void tiny_fill_one(void *context, const struct param *p)
{
    uint64_t *seed = context;
    float *x = numbers(p->count, ++*seed, p->ndim == 2 ? 0.8 / sqrt((double)p->shape[1]) : 0.2);
    if (p->init == INIT_ONES) for (size_t i = 0; i < p->count; i++) x[i] += 1;
    to_device(*p->data, x, p->count * sizeof *x);
    free(x);
}

/* Opens a model with random weights; the same for the same config and seed. */
__attribute__((unused))
static void tiny_open(struct tiny *t, const struct config *c, const struct model_use *use, uint64_t seed)
{
    struct error error;
    memset(t, 0, sizeof *t);
    for (int pass = 0; pass < 2; pass++) {
        ops_open(&t->memory);
        model_open(&t->m, c, use, &t->memory);
        if (pass == 0 && memory_open(&t->memory, &error)) quit_error(&error);
    }
    memory_seal(&t->memory);
    seed *= 1000;
    params_each(&t->m.params, c, tiny_fill_one, &seed);
    params_pack(&t->m.params, c);
}

__attribute__((unused))
static void tiny_close(struct tiny *t)
{
    model_close(&t->m);
    memory_close(&t->memory);
}

/* S sequences of the given lengths with random tokens; a third of the rows do not count. */
__attribute__((unused))
static struct batch tiny_batch(const int *lengths, int S, int vocab, uint64_t seed)
{
    struct batch b = {.S = S, .offsets = host_alloc((size_t)S + 1, sizeof(int))};
    for (int s = 0; s < S; s++) b.offsets[s + 1] = b.offsets[s] + lengths[s];
    b.N = b.offsets[S];
    b.tokens = host_alloc((size_t)b.N, sizeof(int));
    b.targets = host_alloc((size_t)b.N, sizeof(int));
    b.mask = host_alloc((size_t)b.N, 1);
    struct rng r = rng_at(seed, RNG_TEST, 1, 0);
    for (int i = 0; i < b.N; i++) {
        b.tokens[i] = (int)rng_below(&r, (uint64_t)vocab);
        b.targets[i] = (int)rng_below(&r, (uint64_t)vocab);
        b.mask[i] = rng_below(&r, 3) > 0;
    }
    b.mask[b.N - 1] = 1;
    return b;
}

__attribute__((unused))
static void tiny_batch_free(struct batch *b)
{
    free(b->offsets);
    free(b->tokens);
    free(b->targets);
    free(b->mask);
}

#endif
