/* gguf_model.c - the architectures of GGUF files: how their tensors are called, and their keys as those of a
 * config.json.  llama.cpp fixes the rest: activation, place of the norms, which matrices have biases. */
#include "common/interop/gguf.h"

#include <stdlib.h>
#include <string.h>

#define NAMES \
    [SLOT_EMBED] = "token_embd", [SLOT_OUT] = "blk.%d.attn_output", [SLOT_DOWN] = "blk.%d.ffn_down", \
    [SLOT_FINAL_NORM] = "output_norm", [SLOT_HEAD] = "output"
#define NORMS [SLOT_NORM1] = "blk.%d.attn_norm", [SLOT_NORM2] = "blk.%d.ffn_norm"
#define Q_K_V [SLOT_QKV] = "blk.%d.attn_{q,k,v}"
#define FUSED [SLOT_QKV] = "blk.%d.attn_qkv"
#define UP [SLOT_UP] = "blk.%d.ffn_up"
#define GATE_UP [SLOT_UP] = "blk.%d.ffn_{gate,up}"
#define PARTIAL .config = {.rope_fraction = 0.5}         /* not all of each head need be rotated */

/* type: the architecture; class: the model_type that it is.  Of several rows with one name the first fits whose names of
 * norms, queries, keys and values are there. */
static const struct family names[] = {
    {"gpt2", "gpt2", "", {NAMES, NORMS, FUSED, UP, [SLOT_POSITION] = "position_embd"}},
    {"llama", "llama", "", {NAMES, NORMS, Q_K_V, GATE_UP}, .turned = true},
    {"qwen2", "qwen2", "", {NAMES, NORMS, Q_K_V, GATE_UP}},
    {"qwen3", "qwen3", "",
     {NAMES, NORMS, Q_K_V, GATE_UP, [SLOT_Q_NORM] = "blk.%d.attn_q_norm", [SLOT_K_NORM] = "blk.%d.attn_k_norm"}},
    {"bloom", "bloom", "", {NAMES, NORMS, FUSED, UP, [SLOT_EMBED_NORM] = "token_embd_norm"}},
    {"falcon", "falcon", "",
     {NAMES, FUSED, UP, [SLOT_NORM1] = "blk.%d.attn_norm_2", [SLOT_NORM2] = "blk.%d.attn_norm"}},
    {"falcon", "falcon", "", {NAMES, FUSED, UP, [SLOT_NORM1] = "blk.%d.attn_norm"}},
    {"gptneox", "gpt_neox", "", {NAMES, NORMS, FUSED, UP}, PARTIAL},
    {"phi2", "phi", "", {NAMES, Q_K_V, UP, [SLOT_NORM1] = "blk.%d.attn_norm"}, PARTIAL},
    {"chatglm", "glm", "", {NAMES, NORMS, Q_K_V, UP}, PARTIAL},
    {"chatglm", "glm", "", {NAMES, NORMS, FUSED, UP}, PARTIAL},
    {"glm4", "glm4", "",
     {NAMES, NORMS, Q_K_V, UP, [SLOT_POST1] = "blk.%d.post_attention_norm", [SLOT_POST2] = "blk.%d.post_ffw_norm"},
     PARTIAL},
    {NULL}};
static const char listed[] = "gpt2, llama, qwen2, qwen3, bloom, falcon, gptneox, phi2, chatglm or glm4";

static bool has(const struct safetensors *tensors, const struct family *f, enum slot slot)
{
    char *name[PIECES];
    int n = family_names(name, f, slot, 0, "weight");
    bool found = true;
    for (int i = 0; i < n; i++) {
        found = found && safetensors_find(tensors, name[i]);
        free(name[i]);
    }
    return found;
}

const struct family *gguf_names(const json_t *facts, const struct safetensors *tensors, struct error *error)
{
    const char *arch = json_string_value(json_object_get(facts, "general.architecture"));
    const struct family *found = NULL;
    for (const struct family *f = names; f->type && arch; f++)
        if (strcmp(f->type, arch) == 0) {
            if (!found) found = f;
            if (has(tensors, f, SLOT_QKV) && has(tensors, f, SLOT_NORM1)) return f;
        }
    if (!found) fail(error, EXIT_DATA, "the architecture is %s (expected %s)", arch ? text_shown(arch).text : "missing",
                     listed);
    return found;                                        /* what it lacks will be missed by name */
}

/* ---- keys ---- */

/* A whole number of the architecture, or 0. */
static int64_t number_of(const json_t *facts, const char *arch, const char *name)
{
    char *key = host_text("%s.%s", arch, name);
    int64_t value = json_integer_value(json_object_get(facts, key));
    free(key);
    return value;
}

/* A key that has no setting here must have the value that it has here. */
static int check_fixed(const char *const fixed[][2], size_t count, const char *key, const char *name, const json_t *value,
                       int64_t head, struct error *error)
{
    size_t k = 0;
    char expected[32], shown[100], what[60];
    while (k < count && strcmp(fixed[k][0], name) != 0) k++;
    text_escape(shown, sizeof shown, key, strlen(key));
    if (k == count)
        return fail(error, EXIT_DATA, "the key %s is not known and may change what the model computes", shown);
    if (*fixed[k][1]) snprintf(expected, sizeof expected, "%s", fixed[k][1]);
    else snprintf(expected, sizeof expected, "%lld", (long long)head);
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    bool same = text && strcmp(text, expected) == 0;
    text_escape(what, sizeof what, text ? text : "?", strlen(text ? text : "?"));
    free(text);
    return same ? 0 : fail(error, EXIT_DATA, "%s is %s (expected %s): the model would compute something else here", shown,
                           what, expected);
}

/* The keys of the architecture, those of rope scaling but for. */
static int take_keys(json_t *config, const json_t *facts, const struct family *names_of, int64_t head, struct error *error)
{
    static const char *const known[][2] = {
        {"block_count", "num_hidden_layers"}, {"context_length", "max_position_embeddings"},
        {"embedding_length", "hidden_size"}, {"feed_forward_length", "intermediate_size"},
        {"attention.head_count", "num_attention_heads"}, {"attention.head_count_kv", "num_key_value_heads"},
        {"attention.key_length", "head_dim"}, {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
        {"attention.layer_norm_epsilon", "layer_norm_epsilon"}, {"rope.freq_base", "rope_theta"},
        {"use_parallel_residual", "use_parallel_residual"}, {"vocab_size", NULL}};
    /* what must be as given, for the transformer has no setting for it; "" stands for the length of a head */
    static const char *const fixed[][2] = {
        {"attention.value_length", ""}, {"rope.dimension_count", ""}, {"attention.causal", "true"},
        {"expert_count", "0"}, {"expert_used_count", "0"}, {"attention.max_alibi_bias", "8.0"},
        {"tensor_data_layout", "\"jploski\""}};
    const char *arch = names_of->type, *key;
    bool partial = names_of->config.rope_fraction > 0;
    size_t n = strlen(arch);
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)facts, key, value) {
        size_t k = 0, count = sizeof known / sizeof *known;
        if (strncmp(key, arch, n) != 0 || key[n] != '.' || gguf_rope_key(key, arch)) continue;
        const char *name = key + n + 1;
        while (k < count && strcmp(known[k][0], name) != 0) k++;
        if (k < count && known[k][1]) json_object_set(config, known[k][1], value);
        if (k < count || (partial && strcmp(name, "rope.dimension_count") == 0)) continue;
        if (check_fixed(fixed, sizeof fixed / sizeof *fixed, key, name, value, head, error) != 0) return -1;
    }
    if (partial && head > 0) {
        int64_t rotated = number_of(facts, arch, "rope.dimension_count");
        json_object_set_new(config, "partial_rotary_factor", json_real(rotated ? (double)rotated / (double)head : 1));
    }
    return 0;
}

/* What the tensors say and the keys do not. */
static void take_tensors(json_t *config, const struct safetensors *tensors, const char *arch)
{
    const struct st_tensor *embed = safetensors_find(tensors, "token_embd.weight");
    bool llama = strcmp(arch, "llama") == 0;
    if (embed) json_object_set_new(config, "vocab_size", json_integer((json_int_t)embed->shape[0]));
    json_object_set_new(config, "tie_word_embeddings", json_boolean(!safetensors_find(tensors, "output.weight")));
    if (llama || strcmp(arch, "chatglm") == 0 || strcmp(arch, "glm4") == 0 || strcmp(arch, "gptneox") == 0)
        json_object_set_new(config, "attention_bias", json_boolean(safetensors_find(tensors, "blk.0.attn_q.bias") ||
                                                                   safetensors_find(tensors, "blk.0.attn_qkv.bias")));
    if (llama) json_object_set_new(config, "mlp_bias", json_boolean(safetensors_find(tensors, "blk.0.ffn_up.bias") != NULL));
    if (llama && !json_object_get(config, "rope_theta")) json_object_set_new(config, "rope_theta", json_real(10000));
    if (strcmp(arch, "falcon") == 0) {                   /* one key head and one norm, or the new decoder */
        const json_t *kv = json_object_get(config, "num_key_value_heads");
        bool two = safetensors_find(tensors, "blk.0.attn_norm_2.weight"), decoder = two || json_integer_value(kv) > 1;
        json_object_update_new(config, json_pack("{s:b, s:b, s:b, s:b, s:b, s:I, s:i}", "alibi", 0, "bias", 0,
                                                 "parallel_attn", 1, "multi_query", 1, "new_decoder_architecture",
                                                 decoder, "num_kv_heads", json_integer_value(kv),
                                                 "num_ln_in_parallel_attn", two ? 2 : 1));
    }
}

json_t *gguf_config(const json_t *facts, const struct family *names_of, const struct safetensors *tensors,
                    struct error *error)
{
    const char *arch = names_of->type;
    json_t *config = json_pack("{s:s}", "model_type", names_of->class);
    int64_t heads = number_of(facts, arch, "attention.head_count"), head = number_of(facts, arch, "attention.key_length");
    if (!head && heads > 0) head = number_of(facts, arch, "embedding_length") / heads;
    if (head > 0) json_object_set_new(config, "head_dim", json_integer(head));
    int status = take_keys(config, facts, names_of, head, error);
    if (status == 0) take_tensors(config, tensors, arch);
    if (status == 0) status = gguf_rope_read(config, facts, arch, tensors, error);
    if (status == 0) return config;
    json_decref(config);
    return NULL;
}

/* ---- and back ---- */

/* What llama.cpp computes of an architecture whatever a file says, and this model does not; NULL: nothing. */
static const char *obstacle(const struct family *f, const struct family *family, const struct config *c)
{
    static const char square[] = "bloom falcon gptneox phi2 chatglm", untied[] = "gptneox phi2";
    bool falcon = strcmp(f->type, "falcon") == 0, bands = c->rope_scaling == ROPE_LLAMA3 && strcmp(f->type, "llama") != 0;
    if (bands) return "with rope scaling llama3";
    if (c->rope_scaling == ROPE_YARN && (c->rope_high != 32 || c->rope_low != 1))   /* llama.cpp reads no key of them */
        return "with a beta_fast of YaRN other than 32, or a beta_slow other than 1,";
    if (c->activation != family->config.activation) return "with another activation than its own";
    if (falcon && c->position == POSITION_ALIBI) return "with ALiBi";
    if (falcon && c->mlp_bias) return "with biases";
    if (strcmp(f->type, "gptneox") == 0 && !c->qkv_bias) return "without biases of attention";
    if (strstr(square, f->type) && c->heads * c->head_dim != c->channels)
        return "with heads that are not as wide as the model";
    if (strstr(untied, f->type) && c->tied) return "whose output matrix is the embedding";
    return NULL;
}

const struct family *gguf_for(const struct family *family, const struct config *c, struct error *error)
{
    const struct family *f = names;
    bool one_norm = c->parallel && !c->parallel_norms;
    while (f->type && (strcmp(f->class, family->type) != 0 || one_norm == (f->name[SLOT_NORM2] != NULL))) f++;
    const char *why = c->head == HEAD_SCALAR ? "as a reward model" : c->window ? "with a window of keys"
                    : c->rope_scaling == ROPE_DYNAMIC ? "with rope scaling dynamic"
                    : f->type ? obstacle(f, family, c) : NULL;
    if (f->type && !why) return f;
    if (why)
        fail(error, EXIT_MISMATCH, "a model of type %s %s has no place in a GGUF file; --hf writes it", family->type,
             why);
    else
        fail(error, EXIT_MISMATCH, "a model of type %s is not written as a GGUF file (architectures are %s)",
             family->type, listed);
    return NULL;
}
