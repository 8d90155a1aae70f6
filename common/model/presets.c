/* presets.c - the settings of each family with a default size, and sizes that were published. */
#include "common/model/config.h"

#define GPT .norm = NORM_LAYERNORM, .norm_bias = true
#define BIASES .qkv_bias = true, .out_bias = true, .mlp_bias = true
#define LLAMA .position = POSITION_ROPE, .norm = NORM_RMSNORM, .activation = ACTIVATION_SWIGLU
#define FALCON GPT, .family = "falcon", .position = POSITION_ROPE, .activation = ACTIVATION_GELU, .parallel = true, \
    .tied = true

/* What is 0 here is the default below. */
static const struct preset { const char *name; struct config config; } families[] = {
    {"gpt2", {GPT, BIASES, .family = "gpt2", .position = POSITION_LEARNED, .activation = ACTIVATION_GELU_TANH,
              .tied = true}},
    {"llama", {LLAMA, .family = "llama", .tied = true}},
    {"bloom", {GPT, BIASES, .family = "bloom", .position = POSITION_ALIBI, .activation = ACTIVATION_GELU_TANH,
               .embed_norm = true, .tied = true}},
    {"opt", {GPT, BIASES, .family = "opt", .position = POSITION_LEARNED, .activation = ACTIVATION_RELU, .tied = true}},
    {"falcon", {FALCON, .kv_heads = 1}},
    {"gpt_neox", {GPT, BIASES, .family = "gpt_neox", .position = POSITION_ROPE, .rope_fraction = 0.25,
                  .activation = ACTIVATION_GELU, .parallel = true, .parallel_norms = true}},
    {"gptj", {GPT, .family = "gptj", .position = POSITION_ROPE, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5,
              .activation = ACTIVATION_GELU_TANH, .mlp_bias = true, .parallel = true, .head_bias = true}},
    {"codegen", {GPT, .family = "codegen", .position = POSITION_ROPE, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5,
                 .activation = ACTIVATION_GELU_TANH, .mlp_bias = true, .parallel = true, .head_bias = true}},
    {"phi", {GPT, BIASES, .family = "phi", .position = POSITION_ROPE, .rope_fraction = 0.5,
             .activation = ACTIVATION_GELU_TANH, .parallel = true, .head_bias = true}},
    {"mistral", {LLAMA, .family = "mistral", .kv_heads = 4}},
    {"qwen2", {LLAMA, .family = "qwen2", .kv_heads = 4, .norm_eps = 1e-6, .rope_theta = 1e6, .qkv_bias = true,
               .tied = true}},
    {"qwen3", {LLAMA, .family = "qwen3", .kv_heads = 4, .norm_eps = 1e-6, .rope_theta = 1e6, .qk_norm = true,
               .tied = true}},
    {"glm4", {LLAMA, .family = "glm4", .kv_heads = 4, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5,
              .qkv_bias = true, .norm_place = NORM_BOTH}},
    {"glm", {LLAMA, .family = "glm", .kv_heads = 4, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.5, .qkv_bias = true}},
    {"baichuan", {LLAMA, .family = "baichuan", .norm_eps = 1e-6}},
    /* sizes with settings of their own: Zhang et al. 2022; Wang & Komatsuzaki 2021; Almazrouei et al. 2023;
     * Yang et al. 2023, table 3 */
    {"opt-350m", {GPT, BIASES, .family = "opt", .layers = 24, .channels = 1024, .heads = 16, .ffn = 4096,
                  .vocab = 50272, .context = 2048, .activation = ACTIVATION_RELU, .tied = true,
                  .norm_place = NORM_AFTER, .embed_width = 512}},
    {"gptj-6b", {GPT, .family = "gptj", .layers = 28, .channels = 4096, .heads = 16, .ffn = 16384, .vocab = 50400,
                 .context = 2048, .position = POSITION_ROPE, .rope_layout = ROPE_PAIRS, .rope_fraction = 0.25,
                 .activation = ACTIVATION_GELU_TANH, .mlp_bias = true, .parallel = true, .head_bias = true}},
    {"falcon-40b", {FALCON, .layers = 60, .channels = 8192, .heads = 128, .kv_heads = 8, .ffn = 32768, .vocab = 65024,
                    .context = 2048, .parallel_norms = true}},
    {"baichuan-13b", {.family = "baichuan", .layers = 40, .channels = 5120, .heads = 40, .ffn = 13696, .vocab = 64000,
                      .context = 4096, .position = POSITION_ALIBI, .norm = NORM_RMSNORM, .norm_eps = 1e-6,
                      .activation = ACTIVATION_SWIGLU}},
};
enum { FAMILIES = sizeof families / sizeof *families };

/* Brown et al. 2020, table 2.1 (1.3B and 13B: with widths that its heads divide); Grattafiori et al. 2024, table 3; Le
 * Scao et al. 2022, table 3; Zhang et al. 2022, table 1; Almazrouei et al. 2023; Biderman et al. 2023, table 1; Jiang
 * et al. 2023, table 1; the others as in the config.json that was published. */
struct size {
    const char *name, *family;
    int layers, channels, heads, kv_heads, ffn, vocab, context;
    int head_dim;               /* 0: channels / heads */
    double theta;               /* 0: the family's */
    bool untied;
};
static const struct size published[] = {
    {"gpt3-125m", "gpt2", 12, 768, 12, 12, 3072, 50257, 2048},
    {"gpt3-350m", "gpt2", 24, 1024, 16, 16, 4096, 50257, 2048},
    {"gpt3-760m", "gpt2", 24, 1536, 16, 16, 6144, 50257, 2048},
    {"gpt3-1.3b", "gpt2", 24, 2048, 16, 16, 8192, 50257, 2048},
    {"gpt3-2.7b", "gpt2", 32, 2560, 32, 32, 10240, 50257, 2048},
    {"gpt3-6.7b", "gpt2", 32, 4096, 32, 32, 16384, 50257, 2048},
    {"gpt3-13b", "gpt2", 40, 5120, 40, 40, 20480, 50257, 2048},
    {"gpt3-175b", "gpt2", 96, 12288, 96, 96, 49152, 50257, 2048},
    {"llama3-8b", "llama", 32, 4096, 32, 8, 14336, 128256, 8192, 0, 5e5, true},
    {"llama3-70b", "llama", 80, 8192, 64, 8, 28672, 128256, 8192, 0, 5e5, true},
    {"llama3-405b", "llama", 126, 16384, 128, 8, 53248, 128256, 8192, 0, 5e5, true},
    {"bloom-176b", "bloom", 70, 14336, 112, 112, 57344, 250880, 2048},
    {"opt-125m", "opt", 12, 768, 12, 12, 3072, 50272, 2048},
    {"opt-1.3b", "opt", 24, 2048, 32, 32, 8192, 50272, 2048},
    {"opt-6.7b", "opt", 32, 4096, 32, 32, 16384, 50272, 2048},
    {"opt-175b", "opt", 96, 12288, 96, 96, 49152, 50272, 2048},
    {"falcon-7b", "falcon", 32, 4544, 71, 1, 18176, 65024, 2048},
    {"pythia-160m", "gpt_neox", 12, 768, 12, 12, 3072, 50304, 2048},
    {"pythia-1.4b", "gpt_neox", 24, 2048, 16, 16, 8192, 50304, 2048},
    {"pythia-6.9b", "gpt_neox", 32, 4096, 32, 32, 16384, 50432, 2048},
    {"mistral-7b", "mistral", 32, 4096, 32, 8, 14336, 32000, 4096},
    {"qwen3-0.6b", "qwen3", 28, 1024, 16, 8, 3072, 151936, 40960, 128},
    {"qwen3-8b", "qwen3", 36, 4096, 32, 8, 12288, 151936, 40960, 128, 0, true},
    {"glm4-9b", "glm4", 40, 4096, 32, 2, 13696, 151552, 32768},
    {"baichuan-7b", "baichuan", 32, 4096, 32, 32, 11008, 64000, 4096},
};
enum { SIZES = sizeof published / sizeof *published };

static void fill_defaults(struct config *c)
{
    const struct { int *field, value; } counts[] = {
        {&c->layers, 12}, {&c->channels, 768}, {&c->heads, 12}, {&c->vocab, 50257}, {&c->context, 1024},
        {&c->ffn, c->activation == ACTIVATION_SWIGLU ? 2048 : 3072}};
    const struct { double *field, value; } reals[] = {
        {&c->rope_theta, 10000}, {&c->rope_fraction, 1}, {&c->norm_eps, 1e-5}, {&c->init_std, 0.02},
        {&c->score_std, 1}};
    for (int i = 0; i < 6; i++)
        if (*counts[i].field == 0) *counts[i].field = counts[i].value;
    for (int i = 0; i < 5; i++)
        if (*reals[i].field == 0) *reals[i].field = reals[i].value;
    if (c->kv_heads == 0) c->kv_heads = c->heads;
    c->head_dim = c->channels / c->heads;
}

static bool find_family(struct config *c, const char *name)
{
    int i = 0;
    while (i < FAMILIES && strcmp(families[i].name, name) != 0) i++;
    if (i == FAMILIES) return false;
    *c = families[i].config;
    fill_defaults(c);
    return true;
}

static void set_size(struct config *c, const struct size *s)
{
    if (!find_family(c, s->family)) die("no family %s", s->family);
    c->layers = s->layers;
    c->channels = s->channels;
    c->heads = s->heads;
    c->kv_heads = s->kv_heads;
    c->head_dim = s->head_dim ? s->head_dim : s->channels / s->heads;
    c->ffn = s->ffn;
    c->vocab = s->vocab;
    c->context = s->context;
    if (s->theta > 0) c->rope_theta = s->theta;
    if (s->untied) c->tied = false;
}

int config_preset(struct config *c, const char *name, struct error *error)
{
    if (find_family(c, name)) return 0;
    for (int i = 0; i < SIZES; i++) {
        if (strcmp(published[i].name, name) != 0) continue;
        set_size(c, &published[i]);
        return 0;
    }
    scoped_bytes struct bytes known = {0};
    for (int i = 0; i < FAMILIES; i++) bytes_text(&known, "%s%s", i ? ", " : "", families[i].name);
    for (int i = 0; i < SIZES; i++) bytes_text(&known, ", %s", published[i].name);
    fail(error, EXIT_USAGE, "there is no preset '%s' (expected %s)", text_shown(name).text, known.data);
    return -1;
}
