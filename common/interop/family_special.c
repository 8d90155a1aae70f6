/* family_special.c - keys of config.json that say more than one thing, or something else in each family.  What is done
 * with is removed. */
#include "common/interop/families.h"

#include <string.h>

bool family_is(const struct family *f, const char *types) { return word_number(types, f->type) >= 0; }

/* A truth that must be one, if it is there. */
static int take_truth(bool *truth, json_t *json, const char *name, struct error *error)
{
    json_t *value = json_object_get(json, name);
    if (!value || json_is_null(value)) return 0;
    if (!json_is_boolean(value)) return family_refuse(error, name, value, "true or false");
    *truth = json_is_true(value);
    json_object_del(json, name);
    return 0;
}

/* Blocks of falcon: the new decoder has parallel sublayers, by default behind two norms; *f is then the next row. */
static int take_falcon(const struct family **f, struct config *c, json_t *json, struct error *error)
{
    bool decoder = false, one = true, parallel = true, bias = false, alibi = false;
    if (take_truth(&decoder, json, "new_decoder_architecture", error) != 0 ||
        take_truth(&one, json, "multi_query", error) != 0 || take_truth(&parallel, json, "parallel_attn", error) != 0 ||
        take_truth(&bias, json, "bias", error) != 0 || take_truth(&alibi, json, "alibi", error) != 0) return -1;
    if (alibi) c->position = POSITION_ALIBI;
    c->alibi_rounded = alibi;
    json_t *norms = json_object_get(json, "num_ln_in_parallel_attn"), *kv = json_object_get(json, "num_kv_heads");
    bool given = norms && !json_is_null(norms);
    if (given && json_integer_value(norms) != 1 && json_integer_value(norms) != 2)
        return family_refuse(error, "num_ln_in_parallel_attn", norms, "1 or 2");
    if (decoder && json_integer_value(kv) < 1) return family_refuse(error, "num_kv_heads", kv, "a number from 1 up");
    c->kv_heads = decoder ? (int)json_integer_value(kv) : one ? 1 : 0;
    c->qkv_bias = c->out_bias = c->mlp_bias = bias;
    c->parallel = decoder || parallel;
    c->parallel_norms = decoder && (!given || json_integer_value(norms) == 2);
    if (c->parallel_norms) ++*f;
    json_object_del(json, "num_ln_in_parallel_attn");
    json_object_del(json, "num_kv_heads");
    return 0;
}

/* Old names of partial_rotary_factor and rope_theta; and whether there are blocks in parallel. */
static int take_neox(struct config *c, json_t *json, struct error *error)
{
    static const char *const old[][2] = {{"rotary_pct", "partial_rotary_factor"}, {"rotary_emb_base", "rope_theta"}};
    bool bias = true;
    for (int i = 0; i < 2; i++) {
        json_t *value = json_object_get(json, old[i][0]), *other = json_object_get(json, old[i][1]);
        if (value && other && !json_is_null(other) && json_number_value(value) != json_number_value(other))
            return family_refuse(error, old[i][0], value, "the value of the other spelling");
        if (value) json_object_set(json, old[i][1], value);
        json_object_del(json, old[i][0]);
    }
    if (take_truth(&c->parallel, json, "use_parallel_residual", error) != 0 ||
        take_truth(&bias, json, "attention_bias", error) != 0) return -1;
    c->parallel_norms = c->parallel;
    c->qkv_bias = c->out_bias = bias;
    return 0;
}

/* rotary_dim of each head are rotated; absent: 64, null: all. */
static int take_gptj(const struct family *f, struct config *c, json_t *json, struct error *error)
{
    json_t *value = json_object_get(json, "rotary_dim");
    json_int_t heads = json_integer_value(json_object_get(json, "n_head"));
    json_int_t D = heads > 0 ? json_integer_value(json_object_get(json, "n_embd")) / heads : 0;
    json_int_t R = !value ? 64 : json_is_null(value) ? D : json_integer_value(value);
    if (D > 0 && (R < 2 || R > D || R % 2 != 0))
        return family_refuse(error, "rotary_dim", value, "an even part of a head");
    if (f->blocks && heads % f->blocks != 0)
        return family_refuse(error, "n_head", json_object_get(json, "n_head"), "a multiple of 4");
    if (D > 0) c->rope_fraction = (double)R / (double)D;
    json_object_del(json, "rotary_dim");
    return 0;
}

static int take_opt(struct config *c, json_t *json, struct error *error)
{
    static const char proj[] = "word_embed_proj_dim";
    json_t *width = json_object_get(json, proj);
    json_int_t n = json_integer_value(width), all = json_integer_value(json_object_get(json, "hidden_size"));
    bool before = true;
    if (take_truth(&before, json, "do_layer_norm_before", error) != 0) return -1;
    if (width && (n < 1 || n > INT32_MAX)) return family_refuse(error, proj, width, "a number from 1 up");
    c->norm_place = before ? NORM_BEFORE : NORM_AFTER;
    c->embed_width = width && n != all ? (int)n : 0;
    json_object_del(json, proj);
    return 0;
}

/* layer_types: layers that see everything, then those with a window.  Returns how many of the first kind, or -1. */
static int full_layers(const json_t *types, struct error *error)
{
    int full = 0, n = (int)json_array_size(types);
    for (int i = 0; i < n; i++) {
        const json_t *value = json_array_get(types, (size_t)i);
        const char *word = json_string_value(value);
        bool all = word && strcmp(word, "full_attention") == 0;
        if (!all && (!word || strcmp(word, "sliding_attention") != 0))
            return family_refuse(error, "layer_types", value, "full_attention or sliding_attention");
        if (all && i > full)
            return family_refuse(error, "layer_types", types, "full_attention in the first layers alone");
        full += all;
    }
    return full;
}

/* A window of keys: mistral has one in every layer, qwen2 and qwen3 from layer max_window_layers on, if they use it. */
static int take_window(struct config *c, bool always, json_t *json, struct error *error)
{
    json_t *window = json_object_get(json, "sliding_window"), *types = json_object_get(json, "layer_types");
    json_t *first = json_object_get(json, "max_window_layers");
    json_int_t layers = json_integer_value(json_object_get(json, "num_hidden_layers"));
    bool used = always;
    if (!always && take_truth(&used, json, "use_sliding_window", error) != 0) return -1;
    if (window && !json_is_null(window) && json_integer_value(window) < 1)
        return family_refuse(error, "sliding_window", window, "a number from 1 up");
    json_int_t w = used ? json_integer_value(window) : 0;
    json_int_t full = types && !json_is_null(types) ? full_layers(types, error)
                    : always ? 0 : first ? json_integer_value(first) : 28;          /* 28: the class's */
    if (full < 0) return -1;
    if (types && (json_int_t)json_array_size(types) != layers && !json_is_null(types))
        return family_refuse(error, "layer_types", types, "one word a layer");
    if (types && !json_is_null(types) && full < layers && w < 1)
        return family_refuse(error, "layer_types", types, "full_attention, for there is no sliding_window in use");
    if (w > 0 && w < INT32_MAX && full < layers) {
        c->window = (int)w;
        c->full_layers = (int)full;
    }
    json_object_del(json, "sliding_window");
    json_object_del(json, "max_window_layers");
    json_object_del(json, "layer_types");
    return 0;
}

/* 13B has no number of positions, and no rotation.  What only the second generation's config.json has is a weight of its
 * training's loss: *f is then the next row. */
static void take_baichuan(const struct family **f, struct config *c, json_t *json)
{
    if (json_object_get(json, "model_max_length") && !json_object_get(json, "max_position_embeddings"))
        c->position = POSITION_ALIBI;
    if (json_object_get(json, "z_loss_weight")) ++*f;
    json_object_del(json, "z_loss_weight");
}

int family_special(const struct family **family, struct config *c, json_t *json, struct error *error)
{
    const struct family *f = *family;
    bool always = family_is(f, "mistral"), may = family_is(f, "mistral|qwen2|qwen3");
    json_t *window = json_object_get(json, "sliding_window");
    if (!may && window && !json_is_null(window)) return family_refuse(error, "sliding_window", window, "null");
    if (take_window(c, always, json, error) != 0) return -1;
    if (family_is(f, "baichuan")) take_baichuan(family, c, json);
    return family_is(f, "falcon") ? take_falcon(family, c, json, error)
         : family_is(f, "gpt_neox") ? take_neox(c, json, error)
         : family_is(f, "gptj|codegen") ? take_gptj(f, c, json, error)
         : family_is(f, "opt") ? take_opt(c, json, error) : 0;
}
