/* gguf_rope.c - rope scaling in a GGUF file: linear and yarn are keys; llama3 is a tensor of divisors, one a pair of
 * channels, from which its settings are found again and then computed anew to see that they are the ones. */
#include "common/interop/gguf.h"
#include "format/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "rope.scaling.";
/* What a config.json calls them; NULL: it does not change what is computed.  types: those that have the key. */
static const struct { const char *name, *type, *theirs; } keys[] = {
    {"factor", "linear yarn", "factor"}, {"original_context_length", "yarn", "original_max_position_embeddings"},
    {"original_context_length", "none linear", NULL}, {"yarn_beta_fast", "yarn", "beta_fast"},
    {"yarn_beta_slow", "yarn", "beta_slow"}, {"attn_factor", "yarn", "attention_factor"},
    {"type", "none linear yarn", NULL}, {"finetuned", "none linear yarn", NULL}};
enum { KEYS = sizeof keys / sizeof *keys };

/* llama.cpp multiplies cos and sin by this and by attn_factor. */
static double yarn_factor(double factor) { return 1 + 0.1 * log(factor); }

double gguf_attention_key(const struct config *c) { return c->rope_attention / yarn_factor(c->rope_factor); }

/* The other way round: the shortest number that is written as this key. */
static double attention_of(double key, double factor)
{
    char text[40];
    double all = key * yarn_factor(factor), x = all;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, all);
        x = strtod(text, NULL);
        if ((float)(x / yarn_factor(factor)) == (float)key) break;
    }
    return x;
}

/* ---- llama3 ---- */

void gguf_rope_divisors(float *out, const struct config *c)
{
    struct config plain = *c;
    int pairs = config_rotated(c) / 2;
    double *f = host_alloc((size_t)pairs + 1, sizeof *f), *g = host_alloc((size_t)pairs + 1, sizeof *g);
    plain.rope_scaling = ROPE_PLAIN;
    config_frequencies(f, &plain);
    config_frequencies(g, c);
    for (int i = 0; i < pairs; i++) out[i] = (float)(f[i] / g[i]);
    free(f);
    free(g);
}

/* Settings whose divisors these are, low_freq_factor 1 and high_freq_factor 4 as Llama's; false: there are none. */
static bool llama3_of(struct config *c, const float *divisor)
{
    int pairs = c->head_dim / 2, stretched = 0;
    float *again = host_alloc((size_t)pairs + 1, sizeof *again);
    double factor = (double)divisor[pairs - 1], original = 0;
    bool same = isfinite(factor) && factor > 1;
    while (stretched < pairs - 1 && !((double)divisor[stretched] >= factor)) stretched++;
    for (int i = 0; i < pairs && same; i++) {
        double wave = 2 * M_PI * pow(c->rope_theta, 2.0 * i / c->head_dim), d = (double)divisor[i];
        double smooth = (1 / d - 1 / factor) / (1 - 1 / factor);
        if (original <= 0 && d > 1 && d < factor) original = round(wave * (3 * smooth + 1));
        if (original <= 0 && i == stretched) original = ceil(wave) - 1;        /* none in between: any that parts them */
    }
    c->rope_scaling = ROPE_LLAMA3;
    c->rope_factor = factor;
    c->rope_low = 1;
    c->rope_high = 4;
    c->rope_original = original >= 1 && original <= INT32_MAX ? (int)original : 0;
    same = same && c->rope_original;
    if (same) gguf_rope_divisors(again, c);
    for (int i = 0; i < pairs && same; i++) same = fabs((double)again[i] / (double)divisor[i] - 1) <= 1e-5;
    free(again);
    return same;
}

/* rope_parameters of a model with this tensor, or NULL. */
static json_t *read_divisors(const json_t *config, const struct safetensors *tensors, const struct st_tensor *t,
                             struct error *error)
{
    struct config c = {.rope_fraction = 1, .head_dim = (int)json_integer_value(json_object_get(config, "head_dim")),
                       .rope_theta = json_number_value(json_object_get(config, "rope_theta"))};
    bool right = t->dtype == DTYPE_F32 && t->ndim == 1 && t->shape[0] > 0 && t->shape[0] == (uint64_t)c.head_dim / 2;
    float *divisor = host_alloc((size_t)(right ? t->bytes : 1), 1);
    bool found = false;
    if (right && safetensors_read(tensors, t, divisor, 0, (size_t)t->bytes, error) == 0) found = llama3_of(&c, divisor);
    free(divisor);
    if (found)
        return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", c.rope_factor, "low_freq_factor",
                         c.rope_low, "high_freq_factor", c.rope_high, "original_max_position_embeddings",
                         c.rope_original);
    fail(error, EXIT_DATA, "tensor %s is not that of rope scaling llama3 with the bands 1 and 4", t->name);
    return NULL;
}

/* ---- keys ---- */

/* The word after the architecture's name in a key of rope scaling, or NULL. */
static const char *word_of(const char *key, const char *arch)
{
    size_t n = strlen(arch), m = strlen(prefix);
    if (strncmp(key, arch, n) != 0 || key[n] != '.') return NULL;
    if (strcmp(key + n + 1, "rope.scale_linear") == 0) return "factor";        /* before 2023 */
    return strncmp(key + n + 1, prefix, m) == 0 ? key + n + 1 + m : NULL;
}

bool gguf_rope_key(const char *key, const char *arch) { return word_of(key, arch) != NULL; }

static json_t *read_keys(const json_t *facts, const char *arch, const char *type, struct error *error)
{
    json_t *rope = json_pack("{s:s}", "rope_type", type), *value;
    const char *key, *word;
    json_object_foreach((json_t *)(uintptr_t)facts, key, value) {
        int k = 0;
        if (!(word = word_of(key, arch))) continue;
        while (k < KEYS && !(strcmp(keys[k].name, word) == 0 && strstr(keys[k].type, type))) k++;
        if (k == KEYS) {
            fail(error, EXIT_DATA, "the key %s of rope scaling %s is not known and may change what the model computes",
                 text_shown(key).text, type);
            json_decref(rope);
            return NULL;
        }
        if (keys[k].theirs) json_object_set(rope, keys[k].theirs, value);
    }
    const json_t *attention = json_object_get(rope, "attention_factor"), *factor = json_object_get(rope, "factor");
    if (json_number_value(attention) > 0 && json_number_value(factor) > 0)
        json_object_set_new(rope, "attention_factor",
                            json_real(attention_of(json_number_value(attention), json_number_value(factor))));
    return rope;
}

int gguf_rope_read(json_t *config, const json_t *facts, const char *arch, const struct safetensors *tensors,
                   struct error *error)
{
    char *name = host_text("%s.%stype", arch, prefix), *old = host_text("%s.rope.scale_linear", arch);
    const char *type = json_string_value(json_object_get(facts, name));
    struct st_tensor *divisors = strcmp(arch, "llama") == 0 ? safetensors_find(tensors, "rope_freqs.weight") : NULL;
    json_t *rope = NULL;
    if (!type) type = json_object_get(facts, old) ? "linear" : "none";
    int status = strcmp(type, "none") == 0 || strcmp(type, "linear") == 0 || strcmp(type, "yarn") == 0 ? 0
               : fail(error, EXIT_DATA, "%s is \"%s\" (expected none, linear or yarn)", name, text_shown(type).text);
    if (status == 0 && !(rope = read_keys(facts, arch, type, error))) status = -1;
    if (status == 0 && divisors && strcmp(type, "none") != 0)
        status = fail(error, EXIT_DATA, "%s is \"%s\", and there is a tensor rope_freqs.weight", name, type);
    if (status == 0 && divisors) {
        json_decref(rope);
        if ((rope = read_divisors(config, tensors, divisors, error))) divisors->used = true;
        else status = -1;
    }
    if (status == 0 && (divisors || strcmp(type, "none") != 0)) json_object_set(config, "rope_scaling", rope);
    json_decref(rope);
    free(name);
    free(old);
    return status;
}
