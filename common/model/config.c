/* config.c - one table of settings: writing, reading and checking a configuration walk the same rows, so that a new
 * setting is one row here and one field in config.h. */
#include "common/model/params.h"
#include "format/kv.h"

#include <assert.h>
#include <math.h>

enum kind { COUNT, REAL, YES_NO, WORD };

/* optional: absent where it is 0, false or the first word, so that a model that does not use it can be read by programs
 * that do not know it. */
struct setting { const char *key; enum kind kind; size_t at; double min, max; const char *words; bool optional; };

#define AT(field) offsetof(struct config, field)

static const struct setting setting[] = {
    {"n_layer", COUNT, AT(layers), 1, 4096, NULL},
    {"d_model", COUNT, AT(channels), 1, 1 << 20, NULL},
    {"n_head", COUNT, AT(heads), 1, 4096, NULL},
    {"n_kv_head", COUNT, AT(kv_heads), 1, 4096, NULL},
    {"head_dim", COUNT, AT(head_dim), 1, 4096, NULL},
    {"d_ff", COUNT, AT(ffn), 1, 1 << 22, NULL},
    {"vocab_size", COUNT, AT(vocab), 1, 1 << 24, NULL},
    {"ctx_len", COUNT, AT(context), 1, 1 << 24, NULL},
    {"pos", WORD, AT(position), 0, 0, "learned|rope|alibi"},
    {"rope.layout", WORD, AT(rope_layout), 0, 0, "half|pairs"},
    {"rope.theta", REAL, AT(rope_theta), 1, 1e12, NULL},
    {"rope.fraction", REAL, AT(rope_fraction), 0, 1, NULL},
    {"rope.scaling", WORD, AT(rope_scaling), 0, 0, "none|linear|llama3|yarn|dynamic", true},
    {"rope.factor", REAL, AT(rope_factor), 0, 1e6, NULL, true},
    {"rope.original", COUNT, AT(rope_original), 0, 1 << 24, NULL, true},
    {"rope.low", REAL, AT(rope_low), 0, 1e6, NULL, true},
    {"rope.high", REAL, AT(rope_high), 0, 1e6, NULL, true},
    {"rope.attention", REAL, AT(rope_attention), 0, 1e6, NULL, true},
    {"alibi.rounded", YES_NO, AT(alibi_rounded), 0, 1, NULL, true},
    {"attn.window", COUNT, AT(window), 0, 1 << 24, NULL, true},
    {"attn.full_layers", COUNT, AT(full_layers), 0, 4096, NULL, true},
    {"norm", WORD, AT(norm), 0, 0, "layernorm|rmsnorm"},
    {"norm.place", WORD, AT(norm_place), 0, 0, "before|both|after", true},
    {"norm_eps", REAL, AT(norm_eps), 0, 1, NULL},
    {"act", WORD, AT(activation), 0, 0, "gelu|gelu_tanh|relu|swiglu"},
    {"qkv_bias", YES_NO, AT(qkv_bias), 0, 1, NULL},
    {"out_bias", YES_NO, AT(out_bias), 0, 1, NULL},
    {"mlp_bias", YES_NO, AT(mlp_bias), 0, 1, NULL},
    {"norm_bias", YES_NO, AT(norm_bias), 0, 1, NULL},
    {"qk_norm", YES_NO, AT(qk_norm), 0, 1, NULL},
    {"embed_norm", YES_NO, AT(embed_norm), 0, 1, NULL},
    {"parallel", YES_NO, AT(parallel), 0, 1, NULL},
    {"parallel.norms", YES_NO, AT(parallel_norms), 0, 1, NULL, true},
    {"embed_width", COUNT, AT(embed_width), 0, 1 << 20, NULL, true},
    {"tie_embeddings", YES_NO, AT(tied), 0, 1, NULL},
    {"head.bias", YES_NO, AT(head_bias), 0, 1, NULL, true},
    {"head", WORD, AT(head), 0, 0, "lm|scalar"},
    {"init.std", REAL, AT(init_std), 0, 10, NULL},
    {"score.mean", REAL, AT(score_mean), -1e30, 1e30, NULL},
    {"score.std", REAL, AT(score_std), 1e-30, 1e30, NULL},
};
enum { SETTINGS = sizeof setting / sizeof *setting };

int config_check(const struct config *c, struct error *error)
{
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &setting[i];
        const char *field = (const char *)c + s->at;
        double value = s->kind == COUNT ? *(const int *)(const void *)field
                     : s->kind == REAL ? *(const double *)(const void *)field : s->min;
        if (!(value >= s->min && value <= s->max))
            return fail(error, EXIT_USAGE, "model setting %s is %g (expected %g to %g)", s->key, value, s->min, s->max);
    }
    if (c->heads % c->kv_heads != 0)
        return fail(error, EXIT_USAGE, "%d query heads cannot share %d key/value heads evenly", c->heads, c->kv_heads);
    if (c->position == POSITION_ROPE && c->head_dim < 2)
        return fail(error, EXIT_USAGE, "rotary positions need at least 2 channels a head, found %d", c->head_dim);
    bool bands = c->rope_scaling == ROPE_LLAMA3 || c->rope_scaling == ROPE_YARN;
    if ((c->rope_scaling != ROPE_PLAIN && (c->position != POSITION_ROPE || c->rope_factor < 1)) ||
        (bands && (c->rope_original < 1 || !(c->rope_low > 0 && c->rope_low < c->rope_high) || c->rope_theta <= 1)))
        return fail(error, EXIT_USAGE, "rope scaling needs rotary positions, a factor from 1 up and, for llama3 and "
                    "yarn, an original length and 0 < low < high");
    if ((c->alibi_rounded && c->position != POSITION_ALIBI) || (c->full_layers && !c->window))
        return fail(error, EXIT_USAGE, "alibi.rounded needs pos alibi, and attn.full_layers needs attn.window");
    if ((c->parallel_norms && !c->parallel) || (c->norm_place != NORM_BEFORE && c->parallel))
        return fail(error, EXIT_USAGE, "parallel.norms needs parallel, and parallel needs norms before, not both or "
                    "after");
    if (c->embed_width == c->channels)
        return fail(error, EXIT_USAGE, "embed_width is d_model, %d (expected 0, or another width)", c->channels);
    if (c->norm == NORM_RMSNORM && c->norm_bias)
        return fail(error, EXIT_USAGE, "rmsnorm has no bias, but norm_bias is on");
    return 0;
}

static bool is_absent(const struct setting *s, const void *field)
{
    return s->kind == REAL ? *(const double *)field == 0 : s->kind == YES_NO ? !*(const bool *)field
                                                         : *(const int *)field == 0;
}

void config_write(const struct config *c, struct kv *kv)
{
    kv_set_text(kv, "arch", c->family);
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &setting[i];
        const void *field = (const char *)c + s->at;
        size_t length = 0;
        if (s->optional && is_absent(s, field)) continue;
        if (s->kind == COUNT) kv_set_u64(kv, s->key, (uint64_t)*(const int *)field);
        if (s->kind == REAL) kv_set_f64(kv, s->key, *(const double *)field);
        if (s->kind == YES_NO) kv_set_bool(kv, s->key, *(const bool *)field);
        if (s->kind == WORD) {
            const char *word = word_at(s->words, *(const int *)field, &length);
            char text[32];
            snprintf(text, sizeof text, "%.*s", (int)length, word);
            kv_set_text(kv, s->key, text);
        }
    }
}

/* Reads one row: 0, or -1 when the key is absent, of another type, or (WORD) not one of the words. */
static int read_setting(struct config *c, const struct setting *s, const struct kv *kv, struct error *error)
{
    void *field = (char *)c + s->at;
    uint64_t count = 0;
    const char *text = NULL;
    int got;
    if (s->kind == COUNT) got = kv_get_u64(kv, s->key, &count);
    else if (s->kind == REAL) got = kv_get_f64(kv, s->key, field);
    else if (s->kind == YES_NO) got = kv_get_bool(kv, s->key, field);
    else got = kv_get_text(kv, s->key, &text);
    if (got == 0 && s->optional) return 0;
    if (got == 0) return fail(error, EXIT_DATA, "CONF: the key %s is missing [C1]", s->key);
    if (got < 0) return fail(error, EXIT_DATA, "CONF: the key %s has another type than expected [C1]", s->key);
    if (s->kind == COUNT) {
        if (count > (uint64_t)s->max || count < (uint64_t)s->min)
            return fail(error, EXIT_DATA, "CONF: %s is %llu (expected %.0f to %.0f) [C1]", s->key,
                        (unsigned long long)count, s->min, s->max);
        *(int *)field = (int)count;
    }
    if (s->kind == WORD) {
        int n = word_number(s->words, text);
        if (n < 0) return fail(error, EXIT_DATA, "CONF: %s is '%s' (expected %s) [C1]", s->key, text_shown(text).text,
                               s->words);
        *(int *)field = n;
    }
    return 0;
}

int config_read(struct config *c, const struct kv *kv, struct error *error)
{
    struct config new = {0};
    const char *family;
    if (kv_get_text(kv, "arch", &family) != 1)
        return fail(error, EXIT_DATA, "CONF: the key arch is missing or not a text [C1]");
    snprintf(new.family, sizeof new.family, "%s", family);
    for (int i = 0; i < SETTINGS; i++)
        if (read_setting(&new, &setting[i], kv, error) != 0) return -1;
    for (size_t k = 0; k < kv->count; k++) {
        const char *key = kv->entry[k].key;
        bool known = strcmp(key, "arch") == 0 || strncmp(key, "x.", 2) == 0;
        for (int i = 0; i < SETTINGS && !known; i++) known = strcmp(key, setting[i].key) == 0;
        if (!known)
            return fail(error, EXIT_DATA, "CONF: unknown key '%s', which may change what the model computes; a newer "
                        "version is needed to run it [C1]", key);
    }
    if (config_check(&new, error) != 0) {
        error->exit_code = EXIT_DATA;
        return fail_in(error, "CONF");
    }
    *c = new;
    return 0;
}

struct totals { uint64_t all, matrices; };

static void add_parameter(void *context, const struct param *p)
{
    struct totals *t = context;
    t->all += p->count;
    if (p->packed) t->matrices += p->count;
}

static struct totals totals_of(const struct config *c)
{
    struct totals t = {0};
    struct params list = {.layer = host_alloc((size_t)c->layers, sizeof *list.layer)};
    params_each(&list, c, add_parameter, &t);
    free(list.layer);
    return t;
}

int config_embed_width(const struct config *c) { return c->embed_width ? c->embed_width : c->channels; }

uint64_t config_parameters(const struct config *c) { return totals_of(c).all; }

uint64_t config_matmul_parameters(const struct config *c)
{
    uint64_t C = (uint64_t)config_embed_width(c);
    uint64_t head = c->head == HEAD_SCALAR ? C : c->tied ? (uint64_t)c->vocab * C : 0;
    return totals_of(c).matrices + head;
}

double config_train_flops(const struct config *c, double T)
{
    /* causal attention: scores and values, 2 products of D over on average (T+1)/2 keys, or w - w (w-1) / 2T where a
     * window is shorter than T, 2 flop each, forward once and backward twice */
    double all = (T + 1) / 2, w = c->window, seen = w > 0 && w < T ? w - w * (w - 1) / (2 * T) : all;
    double keys = all * int_min(w > 0 ? c->full_layers : c->layers, c->layers);
    keys += seen * (w > 0 ? int_max(c->layers - c->full_layers, 0) : 0);
    double attention = 3 * 2 * 2 * (double)c->heads * c->head_dim * keys;
    return 6 * (double)config_matmul_parameters(c) + attention;
}

char *config_line(char *out, size_t size, const struct config *c)
{
    static const char *const position[] = {"learned", "rope", "alibi"}, *const norm[] = {"layernorm", "rmsnorm"};
    static const char *const activation[] = {"gelu", "gelu_tanh", "relu", "swiglu"};
    char heads[24];
    snprintf(heads, sizeof heads, c->heads == c->kv_heads ? "%d" : "%d/%d", c->heads, c->kv_heads);
    snprintf(out, size, "%s L%d C%d H%s D%d F%d V%d T%d %s %s %s%s%s", c->family, c->layers, c->channels, heads,
             c->head_dim, c->ffn, c->vocab, c->context, position[c->position], norm[c->norm], activation[c->activation],
             c->head == HEAD_SCALAR ? " scalar" : c->tied ? " tied" : "", c->parallel ? " parallel" : "");
    return out;
}

/* ---- angles ---- */

/* How fast each pair of a head turns, and how that is stretched for texts longer than those of pretraining.
 * Sources: Su et al. 2021, eq. 15; Chen et al. 2023 (linear); Peng et al. 2023, section 3 (YaRN); the llama3 form as
 * published with Llama 3.1. */
enum { ROPE_PAIRS_MOST = 2048 };

static double clamped(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* Wavelengths above original / low are stretched, those below original / high stay, the rest is between. */
static double llama3(double f, const struct config *c)
{
    double wave = 2 * M_PI / f, smooth = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
    if (wave < c->rope_original / c->rope_high) return f;
    if (wave > c->rope_original / c->rope_low) return f / c->rope_factor;
    return (1 - smooth) * f / c->rope_factor + smooth * f;
}

/* The number of the pair that turns `turns` times within the original length. */
static double yarn_pair(double turns, const struct config *c, int R)
{
    return R * log(c->rope_original / (turns * 2 * M_PI)) / (2 * log(c->rope_theta));
}

static double yarn(double f, int pair, const struct config *c, int R)
{
    double low = fmax(floor(yarn_pair(c->rope_high, c, R)), 0), high = fmin(ceil(yarn_pair(c->rope_low, c, R)), R - 1);
    double stretched = clamped((pair - low) / (low == high ? 0.001 : high - low));
    return f / c->rope_factor * stretched + f * (1 - stretched);
}

int config_rotated(const struct config *c) { return 2 * (int)(c->head_dim * c->rope_fraction / 2 + 1e-9); }

double config_frequencies(double *frequency, const struct config *c)
{
    int R = config_rotated(c);
    assert(R / 2 <= ROPE_PAIRS_MOST);
    for (int i = 0; i < R / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / R);
        frequency[i] = c->rope_scaling == ROPE_LINEAR ? f / c->rope_factor
                     : c->rope_scaling == ROPE_LLAMA3 ? llama3(f, c)
                     : c->rope_scaling == ROPE_YARN ? yarn(f, i, c, R) : f;     /* dynamic: up to the context, plain */
    }
    if (c->rope_scaling != ROPE_YARN) return 1;
    return c->rope_attention > 0 ? c->rope_attention : c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1;
}
