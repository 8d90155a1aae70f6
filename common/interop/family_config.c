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
    if (family_special(&f, &new, json, error) != 0 || family_rope_read(&new, json, error) != 0 ||
        take_all(&new, json, error) != 0) return -1;
    if (new.heads < 1) return fail(error, EXIT_DATA, "config.json: the number of attention heads is missing");
    if (new.window >= new.context) new.window = new.full_layers = 0;            /* it hides nothing */
    if (!new.kv_heads) new.kv_heads = new.heads;
    if (!new.head_dim || (!json_object_get(json, "head_dim") &&
                          f->config.head_dim == 0)) new.head_dim = new.channels / new.heads;
    if (!new.ffn) new.ffn = 4 * new.channels;
    if (family_is(f, "llama")) new.out_bias = new.qkv_bias;
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
                                          family_is(f, "gpt2") ? "LMHeadModel" : "ForCausalLM"));
    char name[40];
    for (const char *at = f->keys; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        put_key(json, c, name);
        at += n;
    }
    put_key(json, c, family_is(f, "opt") ? "init_std" : "initializer_range");
    if (!scalar) put_key(json, c, "tie_word_embeddings");
    if (strstr(f->keys, "rope_theta"))
        family_rope_write(json, c, strstr(f->keys, "partial_rotary_factor") != NULL);
    if (family_is(f, "opt"))
        json_object_update_new(json, json_pack("{s:b, s:i}", "do_layer_norm_before", c->norm_place == NORM_BEFORE,
                                               "word_embed_proj_dim", config_embed_width(c)));
    if (family_is(f, "mistral|qwen2|qwen3"))              /* absent: 4096 to some */
        json_object_set_new(json, "sliding_window", c->window ? json_integer(c->window) : json_null());
    if (family_is(f, "qwen2|qwen3"))
        json_object_update_new(json, json_pack("{s:b, s:i}", "use_sliding_window", c->window > 0, "max_window_layers",
                                               c->window ? c->full_layers : c->layers));
    if (family_is(f, "gptj|codegen"))
        json_object_set_new(json, "rotary_dim", json_integer(config_rotated(c)));
    if (family_is(f, "gpt_neox"))
        json_object_update_new(json, json_pack("{s:f, s:f, s:b}", "rotary_pct", c->rope_fraction, "rotary_emb_base",
                                               c->rope_theta, "use_parallel_residual", c->parallel));
    if (family_is(f, "falcon")) {
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
        bool of_head = strcmp(p->key, "tie_embeddings") == 0 || strcmp(p->key, "head.bias") == 0;
        if (a->head == HEAD_SCALAR && of_head) continue;
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

