/* families.c - one row per architecture, and where each row of a tensor lies in each of them. */
#include "common/interop/families.h"

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
    [SLOT_EMBED] = "word_embeddings", \
    [SLOT_QKV] = "h.%d.self_attention.query_key_value", [SLOT_OUT] = "h.%d.self_attention.dense", \
    [SLOT_UP] = "h.%d.mlp.dense_h_to_4h", \
    [SLOT_DOWN] = "h.%d.mlp.dense_4h_to_h", [SLOT_FINAL_NORM] = "ln_f", [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"

#define FUSED_NORMS \
    [SLOT_NORM1] = "h.%d.input_layernorm", [SLOT_NORM2] = "h.%d.post_attention_layernorm"
#define FALCON \
    GPT2, .position = POSITION_ROPE, .activation = ACTIVATION_GELU, .kv_heads = 1, .parallel = true, .context = 2048
#define FALCON_KEYS \
    "num_hidden_layers hidden_size num_attention_heads ffn_hidden_size max_position_embeddings vocab_size " \
    "layer_norm_epsilon rope_theta activation"

#define GPTJ_NAMES \
    [SLOT_EMBED] = "wte", [SLOT_NORM1] = "h.%d.ln_1", [SLOT_OUT] = "h.%d.attn.out_proj", \
    [SLOT_UP] = "h.%d.mlp.fc_in", [SLOT_DOWN] = "h.%d.mlp.fc_out", [SLOT_FINAL_NORM] = "ln_f", [SLOT_HEAD] = "lm_head", \
    [SLOT_SCORE] = "score"
#define GPTJ \
    .position = POSITION_ROPE, .rope_layout = ROPE_PAIRS, .rope_theta = 10000, .rope_fraction = 1, \
    .norm = NORM_LAYERNORM, .norm_bias = true, .norm_eps = 1e-5, .activation = ACTIVATION_GELU_TANH, \
    .mlp_bias = true, .parallel = true, .head_bias = true, .context = 2048
#define GPTJ_KEYS "n_layer n_embd n_head n_inner n_positions vocab_size layer_norm_epsilon activation_function"

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
      [SLOT_FINAL_NORM] = "final_layer_norm", [SLOT_EMBED_IN] = "project_in", [SLOT_EMBED_OUT] = "project_out",
      [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"},
     .position_rows = 2, .config = {GPT2, BIASES, .position = POSITION_LEARNED, .activation = ACTIVATION_RELU},
     .keys = "num_hidden_layers hidden_size num_attention_heads ffn_dim max_position_embeddings vocab_size "
             "activation_function"},
    {"bloom", "Bloom", "transformer.", {FUSED_NAMES, FUSED_NORMS, [SLOT_EMBED_NORM] = "word_embeddings_layernorm"},
     .grouped = true,
     .config = {GPT2, BIASES, .position = POSITION_ALIBI, .activation = ACTIVATION_GELU_TANH, .embed_norm = true,
                .context = 2048},
     .keys = "n_layer hidden_size n_head vocab_size seq_length layer_norm_epsilon"},
    {"falcon", "Falcon", "transformer.", {FUSED_NAMES, FUSED_NORMS}, .grouped = true, .config = {FALCON},
     .keys = FALCON_KEYS},
    {"falcon", "Falcon", "transformer.",                        /* that of two norms: family_config chooses */
     {FUSED_NAMES, [SLOT_NORM1] = "h.%d.ln_attn", [SLOT_NORM2] = "h.%d.ln_mlp"}, .grouped = true,
     .config = {FALCON, .parallel_norms = true}, .keys = FALCON_KEYS},
    {"gptj", "GPTJ", "transformer.", {GPTJ_NAMES, [SLOT_QKV] = "h.%d.attn.{q,k,v}_proj"}, .config = {GPTJ},
     .keys = GPTJ_KEYS},
    {"codegen", "CodeGen", "transformer.", {GPTJ_NAMES, [SLOT_QKV] = "h.%d.attn.qkv_proj"}, .blocks = 4,
     .config = {GPTJ}, .keys = GPTJ_KEYS " n_ctx"},
    {"phi", "Phi", "model.",
     {[SLOT_EMBED] = "embed_tokens", [SLOT_NORM1] = "layers.%d.input_layernorm",
      [SLOT_QKV] = "layers.%d.self_attn.{q,k,v}_proj", [SLOT_OUT] = "layers.%d.self_attn.dense",
      [SLOT_UP] = "layers.%d.mlp.fc1", [SLOT_DOWN] = "layers.%d.mlp.fc2", [SLOT_FINAL_NORM] = "final_layernorm",
      [SLOT_HEAD] = "lm_head", [SLOT_SCORE] = "score"},
     .config = {BIASES, .position = POSITION_ROPE, .rope_theta = 10000, .rope_fraction = 0.5, .norm = NORM_LAYERNORM,
                .norm_bias = true, .norm_eps = 1e-5, .activation = ACTIVATION_GELU_TANH, .parallel = true,
                .head_bias = true, .context = 2048},
     .keys = "num_hidden_layers hidden_size num_attention_heads num_key_value_heads intermediate_size "
             "max_position_embeddings vocab_size layer_norm_eps rope_theta partial_rotary_factor hidden_act"},
    {"gpt_neox", "GPTNeoX", "gpt_neox.",
     {[SLOT_EMBED] = "embed_in", [SLOT_NORM1] = "layers.%d.input_layernorm",
      [SLOT_QKV] = "layers.%d.attention.query_key_value", [SLOT_OUT] = "layers.%d.attention.dense",
      [SLOT_NORM2] = "layers.%d.post_attention_layernorm", [SLOT_UP] = "layers.%d.mlp.dense_h_to_4h",
      [SLOT_DOWN] = "layers.%d.mlp.dense_4h_to_h", [SLOT_FINAL_NORM] = "final_layer_norm", [SLOT_HEAD] = "embed_out",
      [SLOT_SCORE] = "score"},
     .grouped = true,
     .config = {BIASES, .position = POSITION_ROPE, .rope_theta = 10000, .rope_fraction = 0.25, .norm = NORM_LAYERNORM,
                .norm_bias = true, .norm_eps = 1e-5, .activation = ACTIVATION_GELU, .parallel = true,
                .parallel_norms = true, .context = 2048},
     .keys = "num_hidden_layers hidden_size num_attention_heads intermediate_size max_position_embeddings vocab_size "
             "layer_norm_eps rope_theta partial_rotary_factor hidden_act attention_bias"},
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
    {"glm4", "Glm4", "model.",
     {LLAMA_NAMES, Q_K_V, [SLOT_UP] = "layers.%d.mlp.gate_up_proj",
      [SLOT_POST1] = "layers.%d.post_self_attn_layernorm", [SLOT_POST2] = "layers.%d.post_mlp_layernorm"},
     .config = {LLAMA, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5, .head_dim = 128, .norm_place = NORM_BOTH},
     .keys = LLAMA_KEYS " partial_rotary_factor attention_bias"},
    {"baichuan", "BaiChuan", "model.", {LLAMA_NAMES, GATE_UP, [SLOT_QKV] = "layers.%d.self_attn.W_pack"},
     .config = {LLAMA, .rope_fraction = 1}},
    {"baichuan", "Baichuan", "model.",                          /* the second: family_config chooses */
     {LLAMA_NAMES, GATE_UP, [SLOT_QKV] = "layers.%d.self_attn.W_pack"}, .unit_head = true,
     .config = {LLAMA, .rope_fraction = 1}},
    {NULL}};

bool family_slot(enum slot *slot, int *layer, const char **end, const char *name)
{
    static const char *const ours[SLOTS] = {
        [SLOT_EMBED] = "tok_embd", [SLOT_POSITION] = "pos_embd", [SLOT_EMBED_NORM] = "tok_embd_norm",
        [SLOT_NORM1] = "attn_norm", [SLOT_QKV] = "attn_qkv", [SLOT_Q_NORM] = "attn_q_norm",
        [SLOT_K_NORM] = "attn_k_norm", [SLOT_OUT] = "attn_output", [SLOT_POST1] = "attn_post_norm",
        [SLOT_NORM2] = "ffn_norm", [SLOT_UP] = "ffn_up", [SLOT_DOWN] = "ffn_down", [SLOT_POST2] = "ffn_post_norm",
        [SLOT_FINAL_NORM] = "output_norm", [SLOT_EMBED_IN] = "tok_embd_proj", [SLOT_EMBED_OUT] = "output_proj",
        [SLOT_HEAD] = "output", [SLOT_SCORE] = "score"};
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
    const char *form = f->name[slot], *prefix = slot == SLOT_HEAD || slot == SLOT_SCORE ? "" : f->prefix;
    if (!form) return 0;
    size_t before = strcspn(form, "{");
    const char *word = form + before, *close = strchr(word, '}');
    char plain[100];
    int n = 0;
    do {
        size_t length = *word ? strcspn(++word, ",}") : 0;
        snprintf(plain, sizeof plain, "%.*s%.*s%s", (int)before, form, (int)length, word, close ? close + 1 : "");
        char *layered = host_text(plain, layer);                /* the form is ours: at most one %d */
        names[n++] = host_text("%s%s.%s", prefix, layered, end);
        free(layered);
        word += length;
    } while (*word == ',');
    return n;
}

int64_t family_rows(const struct config *c, enum slot slot, int piece, int pieces, int64_t rows)
{
    if (pieces == 1) return rows;
    if (slot == SLOT_QKV) return (int64_t)c->head_dim * (piece == 0 ? c->heads : c->kv_heads);
    return rows / pieces;
}

struct family_place family_place(const struct family *f, const struct config *c, enum slot slot, int pieces,
                                 int64_t rows, int64_t row)
{
    struct family_place p = {0, row};
    if (pieces == 1 && slot == SLOT_POSITION) p.row += f->position_rows;
    if (pieces == 1 && slot == SLOT_QKV && f->blocks) {
        static const int order[3] = {0, 2, 1};                  /* of query, key, value */
        int64_t D = c->head_dim, H = c->heads, head = row / D, own = H / f->blocks, h = head % H;
        p.row = ((h / own * 3 + order[head / H]) * own + h % own) * D + row % D;
    }
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
