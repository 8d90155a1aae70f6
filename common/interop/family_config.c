/* family_config.c - one table for the keys of every family's config.json, read and written. */
#include "common/interop/families.h"
#include "format/kv.h"

#include <stdlib.h>
#include <string.h>

/* A key and its other spellings; where its value goes, or (MUST) what it must be: a JSON value, or one of several
 * with '|' between; NULL: any, because it does not change what the model computes. */
enum kind { NUMBER, REAL, TRUTH, WORD, MUST };
struct key { const char *names; enum kind kind; size_t at; const char *must; };
#define AT(field) offsetof(struct config, field)
static const struct key keys[] = {
    {"num_hidden_layers|n_layer", NUMBER, AT(layers)},
    {"hidden_size|n_embd", NUMBER, AT(channels)},
    {"num_attention_heads|n_head", NUMBER, AT(heads)},
    {"num_key_value_heads", NUMBER, AT(kv_heads)},
    {"head_dim", NUMBER, AT(head_dim)},
    {"intermediate_size|n_inner|ffn_dim|ffn_hidden_size", NUMBER, AT(ffn)},
    {"vocab_size", NUMBER, AT(vocab)},
    {"max_position_embeddings|n_positions|n_ctx|model_max_length|seq_length", NUMBER, AT(context)},
    {"rms_norm_eps|layer_norm_epsilon|layer_norm_eps", REAL, AT(norm_eps)},
    {"rope_theta", REAL, AT(rope_theta)},
    {"partial_rotary_factor", REAL, AT(rope_fraction)},
    {"initializer_range|init_std", REAL, AT(init_std)},
    {"activation_function|hidden_act|activation", WORD, AT(activation)},
    {"tie_word_embeddings", TRUTH, AT(tied)},
    {"attention_bias", TRUTH, AT(qkv_bias)},
    {"mlp_bias", TRUTH, AT(mlp_bias)},
    {"mean", REAL, AT(score_mean)},
    {"std", REAL, AT(score_std)},
    /* what a family may have and the transformer here does not */
    {"qk_layernorm", MUST, 0, "false"},
    {"scale_attn_by_inverse_layer_idx", MUST, 0, "false"},
    {"scale_attn_weights", MUST, 0, "true"},
    {"add_cross_attention", MUST, 0, "false"},
    {"is_encoder_decoder", MUST, 0, "false"},
    {"_remove_final_layer_norm", MUST, 0, "false"},
    {"enable_bias", MUST, 0, "true"},
    {"layer_norm_elementwise_affine", MUST, 0, "true"},
    {"apply_residual_connection_post_layernorm", MUST, 0, "false"},
    {"quantization_config", MUST, 0, "null"},
    /* what does not change the result */
    {"architectures|model_type|_name_or_path|name_or_path|transformers_version|dtype|torch_dtype|use_cache|bos_token_id|"
     "eos_token_id|pad_token_id|sep_token_id|unk_token_id|decoder_start_token_id|attn_pdrop|embd_pdrop|resid_pdrop|"
     "attention_dropout|hidden_dropout|dropout|activation_dropout|layerdrop|classifier_dropout|summary_activation|"
     "summary_first_dropout|summary_proj_to_labels|summary_type|summary_use_proj|reorder_and_upcast_attn|pretraining_tp|"
     "slow_but_exact|task_specific_params|id2label|label2id|problem_type|output_past|_num_labels|"
     "attn_implementation|_attn_implementation|use_return_dict|return_dict|output_attentions|output_hidden_states|"
     "gradient_checkpointing|auto_map|is_decoder|skip_bias_add|attention_softmax_in_fp32|masked_softmax_fusion|"
     "bias_dropout_fusion|unk_index|offset_alibi|normalize_reward", MUST, 0, NULL},
};

int family_refuse(struct error *error, const char *key, const json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), shown[100];
    text_escape(shown, sizeof shown, text ? text : "?", strlen(text ? text : "?"));
    free(text);
    return fail(error, EXIT_DATA, "config.json: %s is %s (expected %s): the model would compute something else here",
                key, shown, expected);
}

static const struct { const char *names; enum activation kind; } words[] = {
    {"gelu_new|gelu_fast|gelu_pytorch_tanh", ACTIVATION_GELU_TANH}, {"gelu", ACTIVATION_GELU},
    {"relu", ACTIVATION_RELU}, {"silu|swish", ACTIVATION_SWIGLU}};
enum { WORDS = sizeof words / sizeof *words };

static int take_word(struct config *c, const char *key, const json_t *value, struct error *error)
{
    bool gated = c->activation == ACTIVATION_SWIGLU;            /* the family's: silu is that of a gate */
    for (int i = 0; json_is_string(value) && i < WORDS; i++)
        if (word_number(words[i].names, json_string_value(value)) >= 0 && gated == (words[i].kind == ACTIVATION_SWIGLU)) {
            c->activation = words[i].kind;
            return 0;
        }
    return family_refuse(error, key, value, gated ? "silu" : "gelu, gelu_new or relu");
}

/* Null leaves what the family says. */
static int take_key(struct config *c, const struct key *k, const char *key, const json_t *value, struct error *error)
{
    void *field = (char *)c + k->at;
    if (k->kind == MUST) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        bool fine = !k->must || json_is_null(value) || (text && word_number(k->must, text) >= 0);
        free(text);
        return fine ? 0 : family_refuse(error, key, value, k->must);
    }
    if (json_is_null(value)) return 0;
    if (k->kind == WORD) return take_word(c, key, value, error);
    if (k->kind == TRUTH) {
        if (!json_is_boolean(value)) return family_refuse(error, key, value, "true or false");
        *(bool *)field = json_is_true(value);
    }
    if (k->kind == REAL) {
        if (!json_is_number(value)) return family_refuse(error, key, value, "a number");
        *(double *)field = json_number_value(value);
    }
    if (k->kind == NUMBER) {
        if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > INT32_MAX)
            return family_refuse(error, key, value, "a number from 1 up");
        *(int *)field = (int)json_integer_value(value);
    }
    return 0;
}

/* Is it of one of these types, "a|b"? */
static bool is_type(const struct family *f, const char *types) { return word_number(types, f->type) >= 0; }

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
    if (D > 0 && (R < 2 || R > D || R % 2 != 0)) return family_refuse(error, "rotary_dim", value, "an even part of a head");
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
        if (all && i > full) return family_refuse(error, "layer_types", types, "full_attention in the first layers alone");
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

/* Keys that say more than one thing, or something else in each family; what is done with is removed. */
static int take_special(const struct family **family, struct config *c, json_t *json, struct error *error)
{
    const struct family *f = *family;
    bool always = is_type(f, "mistral"), may = is_type(f, "mistral|qwen2|qwen3");
    json_t *window = json_object_get(json, "sliding_window");
    if (!may && window && !json_is_null(window)) return family_refuse(error, "sliding_window", window, "null");
    if (take_window(c, always, json, error) != 0) return -1;
    if (is_type(f, "baichuan")) take_baichuan(family, c, json);
    return is_type(f, "falcon") ? take_falcon(family, c, json, error)
         : is_type(f, "gpt_neox") ? take_neox(c, json, error)
         : is_type(f, "gptj|codegen") ? take_gptj(f, c, json, error)
         : is_type(f, "opt") ? take_opt(c, json, error) : 0;
}

static int take_all(struct config *c, json_t *json, struct error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value) {
        size_t k = 0, n = sizeof keys / sizeof *keys;
        while (k < n && word_number(keys[k].names, name) < 0) k++;
        if (k == n)
            return fail(error, EXIT_DATA, "config.json: the key %s is not known and may change what the model computes",
                        text_shown(name).text);
        if (take_key(c, &keys[k], name, value, error) != 0) return -1;
    }
    return 0;
}

int family_config(const struct family **family, struct config *c, json_t *json, struct error *error)
{
    const char *type = json_string_value(json_object_get(json, "model_type"));
    const char *class = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    const struct family *f = families;
    while (f->type && (!type || strcmp(f->type, type) != 0)) f++;
    if (!f->type)
        return fail(error, EXIT_DATA, "config.json: the model_type %s is not one that can be imported (docs/interop.md "
                    "lists them)", type ? text_shown(type).text : "is missing");
    struct config new = f->config;
    new.score_std = 1;
    new.init_std = 0.02;
    snprintf(new.family, sizeof new.family, "%s", f->type);
    if (take_special(&f, &new, json, error) != 0 || family_rope_read(&new, json, error) != 0 ||
        take_all(&new, json, error) != 0) return -1;
    if (new.heads < 1) return fail(error, EXIT_DATA, "config.json: the number of attention heads is missing");
    if (new.window >= new.context) new.window = new.full_layers = 0;            /* it hides nothing */
    if (!new.kv_heads) new.kv_heads = new.heads;
    if (!new.head_dim || (!json_object_get(json, "head_dim") &&
                          f->config.head_dim == 0)) new.head_dim = new.channels / new.heads;
    if (!new.ffn) new.ffn = 4 * new.channels;
    if (is_type(f, "llama")) new.out_bias = new.qkv_bias;
    if (class && strstr(class, "SequenceClassification")) {
        new.head = HEAD_SCALAR;
        new.tied = new.head_bias = false;
    } else if (class && !strstr(class, "CausalLM") && !strstr(class, "LMHead")) {
        return fail(error, EXIT_DATA,
                    "config.json: the architecture is %s (expected a language model, or one for sequence "
                    "classification)", class);
    }
    if (config_check(&new, error) != 0) {
        error->exit_code = EXIT_DATA;
        return fail_in(error, "config.json");
    }
    *family = f;
    *c = new;
    return 0;
}

/* ---- and back ---- */

static json_t *value_of(const struct config *c, const struct key *k)
{
    const void *field = (const char *)c + k->at;
    if (k->kind == NUMBER) return json_integer(*(const int *)field);
    if (k->kind == REAL) return json_real(*(const double *)field);
    if (k->kind == TRUTH) return json_boolean(*(const bool *)field);
    for (int i = 0; i < WORDS; i++)
        if (words[i].kind == c->activation)
            return json_sprintf("%.*s", (int)strcspn(words[i].names, "|"), words[i].names);
    return json_null();
}

static void put_key(json_t *json, const struct config *c, const char *name)
{
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (word_number(keys[k].names, name) >= 0) json_object_set_new(json, name, value_of(c, &keys[k]));
}

static json_t *json_by(const struct family *f, const struct config *c)
{
    bool scalar = c->head == HEAD_SCALAR;
    json_t *json = json_pack("{s:s, s:[o]}", "model_type", f->type, "architectures",
                             json_sprintf("%s%s", f->class, scalar ? "ForSequenceClassification" :
                                          is_type(f, "gpt2") ? "LMHeadModel" : "ForCausalLM"));
    char name[40];
    for (const char *at = f->keys; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        put_key(json, c, name);
        at += n;
    }
    put_key(json, c, is_type(f, "opt") ? "init_std" : "initializer_range");
    if (!scalar) put_key(json, c, "tie_word_embeddings");
    if (strstr(f->keys, "rope_theta"))
        family_rope_write(json, c, strstr(f->keys, "partial_rotary_factor") != NULL);
    if (is_type(f, "opt"))
        json_object_update_new(json, json_pack("{s:b, s:i}", "do_layer_norm_before", c->norm_place == NORM_BEFORE,
                                               "word_embed_proj_dim", config_embed_width(c)));
    if (is_type(f, "mistral|qwen2|qwen3"))              /* absent: 4096 to some */
        json_object_set_new(json, "sliding_window", c->window ? json_integer(c->window) : json_null());
    if (is_type(f, "qwen2|qwen3"))
        json_object_update_new(json, json_pack("{s:b, s:i}", "use_sliding_window", c->window > 0, "max_window_layers",
                                               c->window ? c->full_layers : c->layers));
    if (is_type(f, "gptj|codegen"))
        json_object_set_new(json, "rotary_dim", json_integer(config_rotated(c)));
    if (is_type(f, "gpt_neox"))
        json_object_update_new(json, json_pack("{s:f, s:f, s:b}", "rotary_pct", c->rope_fraction, "rotary_emb_base",
                                               c->rope_theta, "use_parallel_residual", c->parallel));
    if (is_type(f, "falcon")) {
        bool decoder = c->parallel && (c->kv_heads != 1 || c->parallel_norms);
        json_t *norms = decoder ? json_integer(c->parallel_norms ? 2 : 1) : json_null();
        json_object_update_new(json, json_pack("{s:b, s:b, s:b, s:b, s:b, s:i, s:o}",
                                               "alibi", c->position == POSITION_ALIBI, "parallel_attn", c->parallel,
                                               "bias", c->mlp_bias, "multi_query", c->kv_heads == 1 || decoder,
                                               "new_decoder_architecture", decoder, "num_kv_heads", c->kv_heads,
                                               "num_ln_in_parallel_attn", norms));
    }
    return json;
}

static bool same_entry(const struct kv_entry *p, const struct kv_entry *q)
{
    size_t size = p->type == KV_TEXT ? (size_t)p->count : p->type == KV_BOOL ? sizeof(bool) : 8;
    return q && p->count == q->count && memcmp(p->value, q->value, size) == 0;
}

/* The first setting in which two configurations differ, to free(); NULL: none. */
static char *difference(const struct config *a, const struct config *b)
{
    static const char no_matter[] = "arch score.mean score.std rope.theta rope.fraction rope.layout";
    struct kv x = {0}, y = {0};
    char *found = NULL;
    config_write(a, &x);
    config_write(b, &y);
    for (size_t i = 0; i < x.count + y.count && !found; i++) {      /* those of either: some are written where used */
        const struct kv_entry *p = i < x.count ? &x.entry[i] : &y.entry[i - x.count];
        bool rope = a->position == POSITION_ROPE;
        if (a->head == HEAD_SCALAR && (strcmp(p->key, "tie_embeddings") == 0 || strcmp(p->key, "head.bias") == 0)) continue;
        if (strstr(no_matter, p->key) && !(rope && strncmp(p->key, "rope.", 5) == 0)) continue;
        if (!same_entry(p, kv_find(i < x.count ? &y : &x, p->key))) found = host_text("%s", p->key);
    }
    kv_free(&x);
    kv_free(&y);
    return found;
}

json_t *family_json(const struct family **family, const struct config *c, struct error *why)
{
    char *own = NULL;
    for (int pass = 0; pass < 2; pass++)
        for (const struct family *f = families; f->type; f++) {
            struct config again;
            bool named = strcmp(f->type, c->family) == 0;
            if (!f->keys || named != (pass == 0)) continue;
            json_t *json = json_by(f, c), *copy = json_deep_copy(json);
            char *key = family_config(family, &again, copy, why) == 0 ? difference(c, &again)
                                                                      : host_text("%s", why->text);
            json_decref(copy);
            if (!key && *family != f) key = host_text("another form of %s", f->type);
            if (!key) {
                free(own);
                *family = f;
                return json;
            }
            json_decref(json);
            if (named) own = key;
            else free(key);
        }
    fail(why, EXIT_MISMATCH, "no family of the Hugging Face world computes this model (as %s: %s)", c->family,
         own ? own : "not a type that can be written");
    free(own);
    return NULL;
}

