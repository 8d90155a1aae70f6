/* gguf_export.c - a checkpoint as a GGUF file for llama.cpp and its kin.  Loaders want the tensors one behind the
 * other at multiples of 32 bytes, vectors in float32, and key-values of exactly the types written here. */
#include "common/interop/gguf.h"
#include "common/interop/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGN = 32, BLOCK = 32, BLOCK_BYTES = 34 };       /* of Q8_0 */
enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_F32 = 6, TYPE_BOOL = 7, TYPE_TEXT = 8, TYPE_ARRAY = 9 };
/* ggml's numbers, and those of general.file_type, by enum interop_type */
static const struct { uint32_t type, file; } numbers[] = {{0, 0}, {1, 1}, {30, 32}, {8, 7}};

struct export {
    struct parts parts;
    enum interop_type type;
    uint64_t keys;
    struct bytes head;                  /* the key-values */
};

/* ---- key-values ---- */

static void put_text(struct bytes *out, const char *text)
{
    add64(out, strlen(text));
    bytes_add(out, text, strlen(text));
}

static struct bytes *key(struct export *x, const char *name, uint32_t type)
{
    bool own = *name == '.';
    char *full = host_text("%s%s", own ? x->parts.family->type : "", name);
    put_text(&x->head, full);
    add32(&x->head, type);
    free(full);
    x->keys++;
    return &x->head;
}

static void put_count(struct export *x, const char *name, int n) { add32(key(x, name, TYPE_U32), (uint32_t)n); }
static void put_word(struct export *x, const char *name, const char *text) { put_text(key(x, name, TYPE_TEXT), text); }

static void put_real(struct export *x, const char *name, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    add32(key(x, name, TYPE_F32), bits);
}

static void put_array(struct export *x, const char *name, uint32_t type, size_t n)
{
    struct bytes *out = key(x, name, TYPE_ARRAY);
    add32(out, type);
    add64(out, n);
}

static void put_model(struct export *x)
{
    const struct config *c = &x->parts.config;
    const char *name = "model";
    bool rope = c->position == POSITION_ROPE;
    kv_get_text(&ckpt_meta_of(x->parts.ckpt)->meta, "name", &name);
    put_word(x, "general.architecture", x->parts.family->type);
    put_word(x, "general.type", "model");
    put_word(x, "general.name", name);
    put_count(x, "general.file_type", (int)numbers[x->type].file);
    if (x->type == INTEROP_Q8_0) put_count(x, "general.quantization_version", 2);
    put_count(x, ".context_length", c->context);
    put_count(x, ".embedding_length", c->channels);
    put_count(x, ".block_count", c->layers);
    put_count(x, ".feed_forward_length", c->ffn);
    put_count(x, ".attention.head_count", c->heads);
    put_count(x, ".attention.head_count_kv", c->kv_heads);
    put_real(x, c->norm == NORM_RMSNORM ? ".attention.layer_norm_rms_epsilon" : ".attention.layer_norm_epsilon",
             c->norm_eps);
    if (strcmp(x->parts.family->type, "falcon") == 0) put_word(x, ".tensor_data_layout", "jploski");
    if (strcmp(x->parts.family->type, "gptneox") == 0)
        bytes_add(key(x, ".use_parallel_residual", TYPE_BOOL), c->parallel ? "\1" : "", 1);
    if (!rope) return;
    put_count(x, ".vocab_size", c->vocab);
    put_count(x, ".attention.key_length", c->head_dim);
    put_count(x, ".attention.value_length", c->head_dim);
    put_count(x, ".rope.dimension_count", config_rotated(c));
    put_real(x, ".rope.freq_base", c->rope_theta);
    if (c->rope_scaling != ROPE_LINEAR && c->rope_scaling != ROPE_YARN) return;
    put_word(x, ".rope.scaling.type", c->rope_scaling == ROPE_YARN ? "yarn" : "linear");
    put_real(x, ".rope.scaling.factor", c->rope_factor);
    if (c->rope_scaling != ROPE_YARN) return;
    put_count(x, ".rope.scaling.original_context_length", c->rope_original);
    put_real(x, ".rope.scaling.yarn_beta_fast", c->rope_high);
    put_real(x, ".rope.scaling.yarn_beta_slow", c->rope_low);
    if (c->rope_attention > 0) put_real(x, ".rope.scaling.attn_factor", gguf_attention_key(c));
}

/* Every row of the embedding has a token of its own text: those without one are padding. */
static void put_tokens(struct export *x, const struct tokenizer *t, const json_t *json)
{
    const json_t *model = json_object_get(json, "model"), *added = json_object_get(json, "added_tokens");
    size_t V = (size_t)x->parts.config.vocab;
    const char **text = host_alloc(V, sizeof *text), *token;
    json_t *id;
    json_object_foreach(json_object_get(model, "vocab"), token, id) text[json_integer_value(id)] = token;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *one = json_array_get(added, i);
        text[json_integer_value(json_object_get(one, "id"))] = json_string_value(json_object_get(one, "content"));
    }
    put_array(x, "tokenizer.ggml.tokens", TYPE_TEXT, V);
    for (size_t i = 0; i < V; i++) {
        char *pad = text[i] ? NULL : host_text("[PAD%zu]", i);
        put_text(&x->head, pad ? pad : text[i]);
        free(pad);
    }
    put_array(x, "tokenizer.ggml.token_type", TYPE_I32, V);
    for (size_t i = 0; i < V; i++) add32(&x->head, (uint32_t)tokenizer_type(t, (int)i));
    free(text);
}

static void put_merges(struct export *x, const json_t *merges)
{
    put_array(x, "tokenizer.ggml.merges", TYPE_TEXT, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *one = json_array_get(merges, i);
        char *line = host_text("%s %s", json_string_value(json_array_get(one, 0)),
                               json_string_value(json_array_get(one, 1)));
        put_text(&x->head, line);
        free(line);
    }
}

/* The name of the way in which a tokenizer.json splits text; only llama-bpe goes with ignored merges.  NULL: none. */
static const char *pre_of(enum pattern p, const json_t *json)
{
    static const char smollm[] =                        /* what tokenizer_import.c makes of single digits before GPT-2's */
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?![^\\s\\p{N}])|\\s+";
    const json_t *stages = json_object_get(json_object_get(json, "pre_tokenizer"), "pretokenizers");
    const json_t *split = json_array_get(stages, 0);
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    bool ignore = json_is_true(json_object_get(json_object_get(json, "model"), "ignore_merges"));
    if (p == PATTERN_LLAMA3) return ignore ? "llama-bpe" : "smaug-bpe";
    if (ignore) return NULL;
    bool one = json_array_size(stages) == 2;            /* and ByteLevel */
    if (p == PATTERN_CUSTOM) return one && regex && strcmp(regex, smollm) == 0 ? "smollm" : NULL;
    return p == PATTERN_GPT2 ? "gpt-2" : p == PATTERN_QWEN2 ? "qwen2" : NULL;
}

/* How text is split and merged, and the tokens.  False: no way that has a name. */
static bool put_vocabulary(struct export *x, const struct tokenizer *t)
{
    json_t *json = tokenizer_json(t);
    int n = tokenizer_vocab(t);
    float *score = host_alloc((size_t)x->parts.config.vocab, sizeof *score);
    bool scores = tokenizer_scores(score, t);
    const char *pre = scores ? "default" : pre_of(tokenizer_pattern(t), json);
    if (pre) {
        put_word(x, "tokenizer.ggml.model", scores ? "llama" : "gpt2");
        put_word(x, "tokenizer.ggml.pre", pre);
        put_tokens(x, t, json);
    }
    if (pre && !scores) {
        const char *form = tokenizer_form(t);
        put_merges(x, json_object_get(json_object_get(json, "model"), "merges"));
        if (!form) form = "none";
        if (strcmp(form, gguf_usual_form(pre)) != 0) put_word(x, GGUF_FORM, form);
    }
    if (scores) {
        put_array(x, "tokenizer.ggml.scores", TYPE_F32, (size_t)x->parts.config.vocab);
        for (int i = 0; i < x->parts.config.vocab; i++) {
            uint32_t bits = 0;
            if (i < n) memcpy(&bits, &score[i], 4);
            add32(&x->head, bits);
        }
        bytes_add(key(x, "tokenizer.ggml.add_space_prefix", TYPE_BOOL), tokenizer_prefixes(t) ? "\1" : "", 1);
        int unknown = tokenizer_special(t, "<unk>");
        if (unknown >= 0) put_count(x, "tokenizer.ggml.unknown_token_id", unknown);
    }
    free(score);
    json_decref(json);
    return pre;
}

/* What ends a text, as far as there are keys for it. */
static void put_ends(struct export *x, const struct speech *s)
{
    static const char *const key[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                      "tokenizer.ggml.eom_token_id"};
    for (int i = 0, n = 0; i < s->stops.count && n < 3; i++)
        if (i == 0 || s->stops.id[i] != s->bos) put_count(x, key[n++], s->stops.id[i]);
}

static int put_tokenizer(struct export *x, void (*say)(const char *line), struct error *error)
{
    struct speech s;
    int status = speech_open(&s, x->parts.ckpt, error);
    if (status == 0 && !s.tokenizer) put_word(x, "tokenizer.ggml.model", "none");
    else if (status == 0 && !put_vocabulary(x, s.tokenizer))
        status = fail(error, EXIT_MISMATCH,
                      "%s: its tokenizer splits text by a pattern of its own, which GGUF cannot name",
                      ckpt_path(x->parts.ckpt));
    if (status == 0 && s.tokenizer) {
        if (s.bos >= 0) put_count(x, "tokenizer.ggml.bos_token_id", s.bos);
        put_ends(x, &s);
        bytes_add(key(x, "tokenizer.ggml.add_bos_token", TYPE_BOOL), "", 1);
        if (s.template) put_word(x, "tokenizer.chat_template", s.template);
        const char *form = tokenizer_form(s.tokenizer);
        char *line = form ? host_text("the tokenizer brings text into %s, which llama.cpp does not do: text in another form "
                                      "gets other ids there", form) : NULL;
        if (line && say) say(line);
        free(line);
    }
    tokenizer_free(s.tokenizer);
    return status;
}

/* ---- tensors ---- */

/* What stretches frequencies as llama3 does is a tensor. */
static void add_divisors(struct parts *x)
{
    int pairs = config_rotated(&x->config) / 2;
    if (x->config.rope_scaling != ROPE_LLAMA3) return;
    struct part o = {.name = host_text("rope_freqs.weight"), .vector = true, .rows = pairs, .columns = 1,
                     .given = host_alloc((size_t)pairs, sizeof(float))};
    gguf_rope_divisors(o.given, &x->config);
    x->part = host_append(x->part, x->count, 1, sizeof *x->part);
    x->part[x->count++] = o;
}

/* Matrices in the type that was asked for, if they can be. */
static enum interop_type type_of(const struct export *x, const struct part *o)
{
    if (o->vector || o->slot == SLOT_POSITION) return INTEROP_F32;
    return x->type == INTEROP_Q8_0 && o->columns % BLOCK != 0 ? INTEROP_F16 : x->type;
}

static uint64_t bytes_of(uint64_t n, enum interop_type type)
{
    return type == INTEROP_F32 ? 4 * n : type == INTEROP_Q8_0 ? n / BLOCK * BLOCK_BYTES : 2 * n;
}

static uint64_t room_of(const struct export *x, const struct part *o)
{
    return (bytes_of((uint64_t)(o->rows * o->columns), type_of(x, o)) + ALIGN - 1) / ALIGN * ALIGN;
}

struct place { const struct part *part; enum interop_type type; int file; uint64_t at; };

static int write_rows(void *self, const uint8_t *values, size_t rows, struct error *error)
{
    struct place *p = self;
    static const uint32_t same[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, 0};      /* by enum interop_type */
    size_t n = rows * (size_t)p->part->columns, bytes = (size_t)bytes_of(n, p->type);
    bool as_it_is = p->part->given || p->part->dtype == same[p->type];
    float *wide = as_it_is ? NULL : host_alloc(n + 1, sizeof *wide);
    uint8_t *out = as_it_is ? NULL : host_alloc(bytes + 1, 1);
    if (!as_it_is) dtype_to_f32(wide, values, n, p->part->dtype);
    if (!as_it_is) gguf_encode(out, wide, n, p->type);
    int status = parts_write(p->file, as_it_is ? values : out, p->at, bytes);
    if (status != 0) fail(error, EXIT_IO, "the file cannot be written: %s", strerror(errno));
    p->at += bytes;
    free(wide);
    free(out);
    return status;
}

static int write_part(const struct export *x, const struct part *o, int file, uint64_t at, struct error *error)
{
    struct place place = {o, type_of(x, o), file, at};
    return o->given ? write_rows(&place, (const uint8_t *)o->given, (size_t)o->rows, error)
                    : parts_rows(&x->parts, o, write_rows, &place, error);
}

static int write_file(struct export *x, int file, struct error *error)
{
    struct bytes all = {0};
    uint64_t at = 0;
    bytes_add(&all, "GGUF", 4);
    add32(&all, 3);
    add64(&all, x->parts.count);
    add64(&all, x->keys);
    bytes_add(&all, x->head.data, x->head.size);
    for (size_t i = 0; i < x->parts.count; i++) {
        const struct part *o = &x->parts.part[i];
        put_text(&all, o->name);
        add32(&all, o->vector ? 1 : 2);
        add64(&all, (uint64_t)(o->vector ? o->rows : o->columns));
        if (!o->vector) add64(&all, (uint64_t)o->rows);
        add32(&all, numbers[type_of(x, o)].type);
        add64(&all, at);
        at += room_of(x, o);
    }
    while (all.size % ALIGN) bytes_add(&all, "", 1);
    uint64_t place = all.size, size = place + at;
    int status = file_write_at(file, all.data, 0, all.size) == 0 && ftruncate(file, (off_t)size) == 0
               ? 0 : fail(error, EXIT_IO, "the file cannot be written: %s", strerror(errno));
    bytes_free(&all);
    for (size_t i = 0; i < x->parts.count && status == 0; i++) {
        status = write_part(x, &x->parts.part[i], file, place, error);
        place += room_of(x, &x->parts.part[i]);
    }
    if (status == 0 && fsync(file) != 0)
        status = fail(error, EXIT_IO, "the file cannot be written: %s", strerror(errno));
    return status;
}

/* The architecture that computes this configuration: its own, or llama where that computes the same. */
static int choose_family(struct parts *x, struct error *error)
{
    const struct family *family, *llama;
    struct config as_llama = x->config;
    struct error why;
    json_t *json = family_json(&family, &x->config, error);
    json_decref(json);
    if (!json) return -1;
    x->family = gguf_for(family, &x->config, error);
    snprintf(as_llama.family, sizeof as_llama.family, "llama");
    json = x->family ? NULL : family_json(&llama, &as_llama, &why);
    if (json && strcmp(llama->type, "llama") == 0) x->family = gguf_for(llama, &x->config, error);
    json_decref(json);
    return x->family ? 0 : -1;
}

int interop_export_gguf(struct ckpt *c, const char *path, enum interop_type type, void (*say)(const char *line),
                        struct error *error)
{
    struct export x = {.parts = {.ckpt = c}, .type = type};
    char *part = host_text("%s.part-%d", path, (int)getpid());
    int file = -1, status = config_read(&x.parts.config, &ckpt_meta_of(c)->conf, error);
    if (status == 0) status = choose_family(&x.parts, error);
    if (status == 0) status = parts_list(&x.parts, error);
    if (status == 0) add_divisors(&x.parts);
    if (status == 0) status = ckpt_verify(c, error);
    if (status == 0) put_model(&x);
    if (status == 0) status = put_tokenizer(&x, say, error);
    if (status == 0 && path_special(path))
        status = fail(error, EXIT_IO, "%s: cannot be replaced: it is a folder, a device or a pipe", path);
    if (status == 0 && (file = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0)
        status = fail(error, EXIT_IO, "%s: cannot be created: %s", part, strerror(errno));
    if (status == 0 && write_file(&x, file, error) != 0) status = fail_in(error, "%s", path);
    if (status == 0 && rename(part, path) != 0)
        status = fail(error, EXIT_IO, "%s: cannot be given its name: %s", path, strerror(errno));
    if (file >= 0) close(file);
    if (file >= 0 && status != 0) unlink(part);
    parts_free(&x.parts);
    bytes_free(&x.head);
    free(part);
    return status;
}
