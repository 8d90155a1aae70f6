/* families.c - one row per architecture, and one table for the keys of all their config.json. */
#include "common/interop/families.h"
#include "format/kv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LLAMA_NAMES \
    [SLOT_EMBED] = "embed_tokens", [SLOT_NORM1] = "layers.%d.input_layernorm", \
    [SLOT_OUT] = "layers.%d.self_attn.o_proj", [SLOT_NORM2] = "layers.%d.post_attention_layernorm", \
    [SLOT_DOWN] = "layers.%d.mlp.down_proj", [SLOT_FINAL_NORM] = "norm", [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"
#define Q_K_V [SLOT_QKV] = "layers.%d.self_attn.{q,k,v}_proj"
#define GATE_UP [SLOT_UP] = "layers.%d.mlp.{gate,up}_proj"
#define LLAMA \
    .position = POSITION_ROPE, .rope_theta = 10000, .norm = NORM_RMSNORM, .norm_eps = 1e-6, \
    .activation = ACTIVATION_SWIGLU
#define GPT2 \
    .rope_theta = 10000, .rope_fraction = 1, .norm = NORM_LAYERNORM, .norm_bias = true, .norm_eps = 1e-5, .tied = true
#define BIASES .qkv_bias = true, .out_bias = true, .mlp_bias = true
#define LLAMA_KEYS \
    "num_hidden_layers hidden_size num_attention_heads num_key_value_heads head_dim intermediate_size " \
    "max_position_embeddings vocab_size rms_norm_eps rope_theta hidden_act"
#define FUSED_NAMES \
    [SLOT_EMBED] = "word_embeddings", [SLOT_NORM1] = "h.%d.input_layernorm", \
    [SLOT_QKV] = "h.%d.self_attention.query_key_value", [SLOT_OUT] = "h.%d.self_attention.dense", \
    [SLOT_NORM2] = "h.%d.post_attention_layernorm", [SLOT_UP] = "h.%d.mlp.dense_h_to_4h", \
    [SLOT_DOWN] = "h.%d.mlp.dense_4h_to_h", [SLOT_FINAL_NORM] = "ln_f", [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"

const struct family families[] = {
    {"gpt2", "GPT2", "transformer.",
     {[SLOT_EMBED] = "wte", [SLOT_POSITION] = "wpe", [SLOT_NORM1] = "h.%d.ln_1", [SLOT_QKV] = "h.%d.attn.c_attn",
      [SLOT_OUT] = "h.%d.attn.c_proj", [SLOT_NORM2] = "h.%d.ln_2", [SLOT_UP] = "h.%d.mlp.c_fc",
      [SLOT_DOWN] = "h.%d.mlp.c_proj", [SLOT_FINAL_NORM] = "ln_f", [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"},
     .transposed = true, .config = {GPT2, BIASES, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU_TANH},
     .keys = "n_layer n_embd n_head n_inner n_positions n_ctx vocab_size layer_norm_epsilon activation_function"},
    {"opt", "OPT", "model.decoder.",
     {[SLOT_EMBED] = "embed_tokens", [SLOT_POSITION] = "embed_positions",
      [SLOT_NORM1] = "layers.%d.self_attn_layer_norm",
      [SLOT_QKV] = "layers.%d.self_attn.{q,k,v}_proj", [SLOT_OUT] = "layers.%d.self_attn.out_proj",
      [SLOT_NORM2] = "layers.%d.final_layer_norm", [SLOT_UP] = "layers.%d.fc1", [SLOT_DOWN] = "layers.%d.fc2",
      [SLOT_FINAL_NORM] = "final_layer_norm", [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"},
     .position_rows = 2, .config = {GPT2, BIASES, .position = POSITION_LEARNED, .activation = ACTIVATION_RELU},
     .keys = "num_hidden_layers hidden_size num_attention_heads ffn_dim max_position_embeddings vocab_size "
             "activation_function"},
    {"bloom", "Bloom", "transformer.", {FUSED_NAMES, [SLOT_EMBED_NORM] = "word_embeddings_layernorm"},
     .grouped = true,
     .config = {GPT2, BIASES, .position = POSITION_ALIBI, .activation = ACTIVATION_GELU_TANH, .embed_norm = true,
                .context = 2048},
     .keys = "n_layer hidden_size n_head vocab_size seq_length layer_norm_epsilon"},
    {"falcon", "Falcon", "transformer.", {FUSED_NAMES}, .grouped = true,
     .config = {GPT2, .position = POSITION_ROPE, .activation = ACTIVATION_GELU, .kv_heads = 1, .parallel = true,
                .context = 2048},
     .keys = "num_hidden_layers hidden_size num_attention_heads ffn_hidden_size max_position_embeddings vocab_size "
             "layer_norm_epsilon rope_theta activation"},
    {"llama", "Llama", "model.", {LLAMA_NAMES, Q_K_V, GATE_UP}, .config = {LLAMA, .rope_fraction = 1},
     .keys = LLAMA_KEYS " attention_bias mlp_bias"},
    {"mistral", "Mistral", "model.", {LLAMA_NAMES, Q_K_V, GATE_UP}, .config = {LLAMA, .rope_fraction = 1},
     .keys = LLAMA_KEYS},
    {"qwen2", "Qwen2", "model.", {LLAMA_NAMES, Q_K_V, GATE_UP}, .config = {LLAMA, .rope_fraction = 1, .qkv_bias = true},
     .keys = LLAMA_KEYS},
    {"qwen3", "Qwen3", "model.",
     {LLAMA_NAMES, Q_K_V, GATE_UP, [SLOT_Q_NORM] = "layers.%d.self_attn.q_norm",
      [SLOT_K_NORM] = "layers.%d.self_attn.k_norm"},
     .config = {LLAMA, .rope_fraction = 1, .qk_norm = true, .head_dim = 128}, .keys = LLAMA_KEYS},
    {"glm", "Glm", "model.", {LLAMA_NAMES, Q_K_V, [SLOT_UP] = "layers.%d.mlp.gate_up_proj"},
     .config = {LLAMA, .qkv_bias = true, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5, .head_dim = 128},
     .keys = LLAMA_KEYS " partial_rotary_factor attention_bias"},
    {"baichuan", "BaiChuan", "model.", {LLAMA_NAMES, GATE_UP, [SLOT_QKV] = "layers.%d.self_attn.W_pack"},
     .config = {LLAMA, .rope_fraction = 1}},
    {NULL}};

/* ---- config.json ---- */

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
    {"scale_attn_by_inverse_layer_idx", MUST, 0, "false"},
    {"scale_attn_weights", MUST, 0, "true"},
    {"add_cross_attention", MUST, 0, "false"},
    {"is_encoder_decoder", MUST, 0, "false"},
    {"do_layer_norm_before", MUST, 0, "true"},
    {"_remove_final_layer_norm", MUST, 0, "false"},
    {"enable_bias", MUST, 0, "true"},
    {"layer_norm_elementwise_affine", MUST, 0, "true"},
    {"apply_residual_connection_post_layernorm", MUST, 0, "false"},
    {"rope_scaling", MUST, 0, "null"},
    {"use_sliding_window", MUST, 0, "false"},
    {"alibi", MUST, 0, "false"},
    {"parallel_attn", MUST, 0, "true"},
    {"num_ln_in_parallel_attn", MUST, 0, "null|1"},
    {"quantization_config", MUST, 0, "null"},
    /* what does not change the result */
    {"architectures|model_type|_name_or_path|name_or_path|transformers_version|dtype|torch_dtype|use_cache|bos_token_id|"
     "eos_token_id|pad_token_id|sep_token_id|unk_token_id|decoder_start_token_id|attn_pdrop|embd_pdrop|resid_pdrop|"
     "attention_dropout|hidden_dropout|dropout|activation_dropout|layerdrop|classifier_dropout|summary_activation|"
     "summary_first_dropout|summary_proj_to_labels|summary_type|summary_use_proj|reorder_and_upcast_attn|pretraining_tp|"
     "slow_but_exact|task_specific_params|max_window_layers|id2label|label2id|problem_type|output_past|_num_labels|"
     "attn_implementation|_attn_implementation|use_return_dict|return_dict|output_attentions|output_hidden_states|"
     "gradient_checkpointing|auto_map|is_decoder|skip_bias_add|attention_softmax_in_fp32|masked_softmax_fusion|"
     "bias_dropout_fusion|unk_index|offset_alibi|normalize_reward", MUST, 0, NULL},
};

/* Is `name` one of "a|b|c"? */
static bool among(const char *names, const char *name)
{
    for (size_t n = strlen(name); names; names = strchr(names, '|') ? strchr(names, '|') + 1 : NULL)
        if (strncmp(names, name, n) == 0 && (names[n] == '|' || names[n] == 0)) return true;
    return false;
}

static int refuse(struct error *error, const char *key, const json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), shown[100];
    text_escape(shown, sizeof shown, text ? text : "?", strlen(text ? text : "?"));
    free(text);
    return fail(error, EXIT_DATA, "config.json: %s is %s (expected %s): the model would compute something else here",
                key,
                shown, expected);
}

static const struct { const char *names; enum activation kind; } words[] = {
    {"gelu_new|gelu_fast|gelu_pytorch_tanh", ACTIVATION_GELU_TANH}, {"gelu", ACTIVATION_GELU},
    {"relu", ACTIVATION_RELU}, {"silu|swish", ACTIVATION_SWIGLU}};
enum { WORDS = sizeof words / sizeof *words };

static int take_word(struct config *c, const char *key, const json_t *value, struct error *error)
{
    bool gated = c->activation == ACTIVATION_SWIGLU;            /* the family's: silu is that of a gate */
    for (int i = 0; json_is_string(value) && i < WORDS; i++)
        if (among(words[i].names, json_string_value(value)) && gated == (words[i].kind == ACTIVATION_SWIGLU)) {
            c->activation = words[i].kind;
            return 0;
        }
    return refuse(error, key, value, gated ? "silu" : "gelu, gelu_new or relu");
}

/* Null leaves what the family says. */
static int take_key(struct config *c, const struct key *k, const char *key, const json_t *value, struct error *error)
{
    void *field = (char *)c + k->at;
    if (k->kind == MUST) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        bool fine = !k->must || json_is_null(value) || (text && among(k->must, text));
        free(text);
        return fine ? 0 : refuse(error, key, value, k->must);
    }
    if (json_is_null(value)) return 0;
    if (k->kind == WORD) return take_word(c, key, value, error);
    if (k->kind == TRUTH) {
        if (!json_is_boolean(value)) return refuse(error, key, value, "true or false");
        *(bool *)field = json_is_true(value);
    }
    if (k->kind == REAL) {
        if (!json_is_number(value)) return refuse(error, key, value, "a number");
        *(double *)field = json_number_value(value);
    }
    if (k->kind == NUMBER) {
        if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > INT32_MAX)
            return refuse(error, key, value, "a number from 1 up");
        *(int *)field = (int)json_integer_value(value);
    }
    return 0;
}

/* Keys that say more than one thing, or something else in each family; what is done with is removed. */
static int take_special(const struct family *f, struct config *c, json_t *json, struct error *error)
{
    json_t *rope = json_object_get(json, "rope_parameters"), *value;
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (type && strcmp(type, "default") != 0)
        return refuse(error, "rope_parameters.rope_type", json_object_get(rope, "rope_type"), "default");
    static const char *const rotary[] = {"rope_theta", "partial_rotary_factor"};
    for (int i = 0; i < 2; i++) {
        json_t *inner = json_object_get(rope, rotary[i]), *outer = json_object_get(json, rotary[i]);
        if (inner && outer && !json_is_null(outer) && json_number_value(inner) != json_number_value(outer))
            return refuse(error, rotary[i], outer, "the value in rope_parameters");
        if (inner) json_object_set(json, rotary[i], inner);
    }
    json_object_del(json, "rope_parameters");
    json_t *types = json_object_get(json, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        value = json_array_get(types, i);
        if (!json_is_string(value) || strcmp(json_string_value(value), "full_attention") != 0)
            return refuse(error, "layer_types", value, "full_attention");
    }
    json_object_del(json, "layer_types");
    if (strcmp(f->type, "falcon") == 0) {
        bool decoder = json_is_true(json_object_get(json, "new_decoder_architecture"));
        bool one = json_is_true(json_object_get(json, "multi_query"));
        if (decoder && json_integer_value(json_object_get(json, "num_ln_in_parallel_attn")) != 1)
            return refuse(error, "num_ln_in_parallel_attn", json_object_get(json, "num_ln_in_parallel_attn"), "1");
        c->kv_heads = decoder ? (int)json_integer_value(json_object_get(json, "num_kv_heads")) : one ? 1 : 0;
        c->qkv_bias = c->out_bias = c->mlp_bias = json_is_true(json_object_get(json, "bias"));
        static const char *const done[] = {"new_decoder_architecture", "multi_query", "num_kv_heads", "bias"};
        for (int i = 0; i < 4; i++) json_object_del(json, done[i]);
    }
    if (strcmp(f->type, "baichuan") == 0 && json_object_get(json, "model_max_length")) c->position = POSITION_ALIBI;
    value = json_object_get(json, "word_embed_proj_dim");
    if (value && json_integer_value(value) != json_integer_value(json_object_get(json, "hidden_size")))
        return refuse(error, "word_embed_proj_dim", value, "hidden_size");
    json_object_del(json, "word_embed_proj_dim");
    return 0;
}

static int take_all(struct config *c, json_t *json, struct error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value) {
        size_t k = 0, n = sizeof keys / sizeof *keys;
        while (k < n && !among(keys[k].names, name)) k++;
        if (k == n) {
            char shown[100];
            return fail(error, EXIT_DATA, "config.json: the key %s is not known and may change what the model computes",
                        text_escape(shown, sizeof shown, name, strlen(name)));
        }
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
    if (!f->type) {
        char shown[100];
        return fail(error, EXIT_DATA, "config.json: the model_type %s is not one that can be imported (docs/interop.md "
                    "lists them)", type ? text_escape(shown, sizeof shown, type, strlen(type)) : "is missing");
    }
    struct config new = f->config;
    new.score_std = 1;
    new.init_std = 0.02;
    snprintf(new.family, sizeof new.family, "%s", f->type);
    /* a window of at least the context sees all of it; a shorter one limits the context */
    int64_t window = json_is_false(json_object_get(json, "use_sliding_window"))
                   ? 0 : json_integer_value(json_object_get(json, "sliding_window"));
    json_object_del(json, "sliding_window");
    if (take_special(f, &new, json, error) != 0 || take_all(&new, json, error) != 0) return -1;
    if (new.heads < 1) return fail(error, EXIT_DATA, "config.json: the number of attention heads is missing");
    if (window > 0 && window < new.context) new.context = (int)window;
    if (!new.kv_heads) new.kv_heads = new.heads;
    if (!new.head_dim || (!json_object_get(json, "head_dim") &&
                          f->config.head_dim == 0)) new.head_dim = new.channels / new.heads;
    if (!new.ffn) new.ffn = 4 * new.channels;
    if (strcmp(f->type, "llama") == 0) new.out_bias = new.qkv_bias;
    if (class && strstr(class, "SequenceClassification")) {
        new.head = HEAD_SCALAR;
        new.tied = false;
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
        if (among(keys[k].names, name)) json_object_set_new(json, name, value_of(c, &keys[k]));
}

static json_t *json_by(const struct family *f, const struct config *c)
{
    bool scalar = c->head == HEAD_SCALAR;
    json_t *json = json_pack("{s:s, s:[o]}", "model_type", f->type, "architectures",
                             json_sprintf("%s%s", f->class, scalar ? "ForSequenceClassification" :
                                          strcmp(f->type, "gpt2") == 0 ? "LMHeadModel" : "ForCausalLM"));
    char name[40];
    for (const char *at = f->keys; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        put_key(json, c, name);
        at += n;
    }
    put_key(json, c, strcmp(f->type, "opt") == 0 ? "init_std" : "initializer_range");
    if (!scalar) put_key(json, c, "tie_word_embeddings");
    if (f->config.position == POSITION_ROPE) {                  /* versions from 5 on read this, those before the key */
        json_object_set_new(json, "rope_parameters", json_pack("{s:s, s:f}", "rope_type", "default", "rope_theta",
                                                               c->rope_theta));
        if (strstr(f->keys, "partial_rotary_factor"))
            json_object_set_new(json_object_get(json, "rope_parameters"), "partial_rotary_factor",
                                json_real(c->rope_fraction));
    }
    if (strcmp(f->type, "opt") == 0) {
        json_object_set_new(json, "do_layer_norm_before", json_true());
        put_key(json, c, "hidden_size");
        json_object_set_new(json, "word_embed_proj_dim", json_integer(c->channels));
    }
    if (strcmp(f->type, "falcon") == 0) {
        static const char form[] = "{s:b, s:b, s:b, s:b, s:b, s:i, s:o}";
        bool decoder = c->kv_heads != 1;
        json_t *more = json_pack(form, "alibi", 0, "parallel_attn", 1, "bias", c->mlp_bias, "multi_query", 1,
                                 "new_decoder_architecture", decoder, "num_kv_heads", c->kv_heads,
                                     "num_ln_in_parallel_attn",
                                 decoder ? json_integer(1) : json_null());
        json_object_update_new(json, more);
    }
    return json;
}

/* The first setting in which two configurations differ, to free(); NULL: none. */
static char *difference(const struct config *a, const struct config *b)
{
    struct kv x = {0}, y = {0};
    char *found = NULL;
    config_write(a, &x);
    config_write(b, &y);
    for (size_t i = 0; i < x.count && !found; i++) {
        const struct kv_entry *p = &x.entry[i], *q = &y.entry[i];
        size_t size = p->type == KV_TEXT ? (size_t)p->count : p->type == KV_BOOL ? sizeof(bool) : 8;
        static const char no_matter[] = "arch score.mean score.std rope.theta rope.fraction rope.layout";
        bool rope = a->position == POSITION_ROPE;
        if (a->head == HEAD_SCALAR && strcmp(p->key, "tie_embeddings") == 0) continue;
        if (strstr(no_matter, p->key) && !(rope && strncmp(p->key, "rope.", 5) == 0)) continue;
        if (p->count != q->count || memcmp(p->value, q->value, size) != 0) found = host_text("%s", p->key);
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

/* ---- names ---- */

bool family_slot(enum slot *slot, int *layer, const char **end, const char *name)
{
    static const char *const ours[SLOTS] = {
        [SLOT_EMBED] = "tok_embd", [SLOT_POSITION] = "pos_embd", [SLOT_EMBED_NORM] = "tok_embd_norm",
        [SLOT_NORM1] = "attn_norm", [SLOT_QKV] = "attn_qkv", [SLOT_Q_NORM] = "attn_q_norm",
            [SLOT_K_NORM] = "attn_k_norm",
        [SLOT_OUT] = "attn_output", [SLOT_NORM2] = "ffn_norm", [SLOT_UP] = "ffn_up", [SLOT_DOWN] = "ffn_down",
        [SLOT_FINAL_NORM] = "output_norm", [SLOT_HEAD] = "output", [SLOT_SCORE] = "score"};
    *layer = -1;
    if (strncmp(name, "blk.", 4) == 0) {
        char *rest;
        *layer = (int)strtol(name + 4, &rest, 10);
        name = rest + 1;
    }
    size_t length = strcspn(name, ".");
    if (!name[length]) return false;
    *end = name + length + 1;
    for (int s = 0; s < SLOTS; s++)
        if (strlen(ours[s]) == length && memcmp(ours[s], name, length) == 0) {
            *slot = (enum slot)s;
            return true;
        }
    return false;
}

int family_names(char *names[PIECES], const struct family *f, enum slot slot, int layer, const char *end)
{
    const char *form = f->name[slot], *open, *close, *word;
    const char *prefix = slot == SLOT_HEAD || slot == SLOT_SCORE ? "" : f->prefix;
    char plain[100];
    int n = 0;
    if (!form) return 0;
    open = strchr(form, '{');
    close = open ? strchr(open, '}') : NULL;
    for (word = open; word && word < close && n < PIECES; n++) {
        size_t length = strcspn(++word, ",}");
        snprintf(plain, sizeof plain, "%.*s%.*s%s", (int)(open - form), form, (int)length, word, close + 1);
        char *layered = host_text(plain, layer);                /* the form is ours: at most one %d */
        names[n] = host_text("%s%s.%s", prefix, layered, end);
        free(layered);
        word += length;
    }
    if (open) return n;
    char *layered = host_text(form, layer);
    names[0] = host_text("%s%s.%s", prefix, layered, end);
    free(layered);
    return 1;
}

int64_t family_rows(const struct config *c, enum slot slot, int piece, int pieces, int64_t rows)
{
    if (pieces == 1) return rows;
    if (slot == SLOT_QKV) return (int64_t)c->head_dim * (piece == 0 ? c->heads : c->kv_heads);
    return rows / pieces;
}

struct family_place family_place(const struct family *f, const struct config *c, enum slot slot, int pieces,
                                 int64_t rows,
                                 int64_t row)
{
    struct family_place p = {0, row};
    if (pieces == 1 && slot == SLOT_POSITION) p.row += f->position_rows;
    if (pieces == 1 && slot == SLOT_QKV && f->grouped) {
        int64_t D = c->head_dim, head = row / D, each = c->heads / c->kv_heads, key = head - c->heads;
        int64_t group = key < 0 ? head / each : key % c->kv_heads;
        int64_t within = key < 0 ? head % each : each + (key >= c->kv_heads);
        p.row = (group * (each + 2) + within) * D + row % D;
    }
    for (; p.piece + 1 < pieces && p.row >= family_rows(c, slot, p.piece, pieces, rows); p.piece++)
        p.row -= family_rows(c, slot, p.piece, pieces, rows);
    if (f->turned && slot == SLOT_QKV && p.piece < 2) {
        int64_t D = c->head_dim, at = p.row % D, pairs = D / 2;
        p.row += 2 * (at % pairs) + at / pairs - at;
    }
    return p;
}
