/* gguf.c - the file is read from its beginning; every count and length is held against what is left of it. */
#include "common/interop/gguf.h"
#include "common/text/tokenizer.h"
#include "format/layout.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cursor { FILE *file; const char *path; uint64_t at, size; struct error *error; };

/* The next n bytes: 0 or -1. */
static int take(struct cursor *c, void *out, size_t n)
{
    if (n > c->size - c->at || fread(out, 1, n, c->file) != n)
        return fail(c->error, EXIT_DATA, "%s: it ends at byte %llu, inside its metadata", c->path,
                    (unsigned long long)c->size);
    c->at += n;
    return 0;
}

static int take_number(struct cursor *c, uint64_t *out, size_t size)
{
    uint8_t b[8] = {0};
    if (take(c, b, size) != 0) return -1;
    *out = load64(b);
    return 0;
}

/* A text, to free(); its length where asked for. */
static char *take_text(struct cursor *c, size_t *length)
{
    uint64_t n;
    if (take_number(c, &n, 8) != 0) return NULL;
    if (n > c->size - c->at) {
        fail(c->error, EXIT_DATA, "%s: a text of %llu bytes at byte %llu does not fit the file", c->path,
             (unsigned long long)n,
             (unsigned long long)c->at);
        return NULL;
    }
    char *text = host_alloc((size_t)n + 1, 1);
    if (take(c, text, (size_t)n) != 0) { free(text); return NULL; }
    *length = (size_t)n;
    return text;
}

enum value { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 };

/* The shortest number that is this float: 1e-6, not 9.99999997e-07. */
static json_t *real_of(float x)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    double value = strtod(text, NULL);
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *take_value(struct cursor *c, uint64_t type, bool nested)
{
    static const uint8_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t bits, inner, count;
    size_t length;
    if (type == TEXT) {
        char *text = take_text(c, &length);
        json_t *value = text ? json_stringn(text, length) : NULL;      /* only valid UTF-8 */
        free(text);
        return value;
    }
    if (type == ARRAY && !nested) {
        if (take_number(c, &inner, 4) != 0 || take_number(c, &count, 8) != 0) return NULL;
        json_t *list = json_array();
        for (uint64_t i = 0; i < count; i++) {
            json_t *one = count > c->size ? NULL : take_value(c, inner, true);
            if (!one || json_array_append_new(list, one) != 0) {
                if (count > c->size) fail(c->error, EXIT_DATA, "%s: an array of %llu values does not fit the file",
                                          c->path,
                                          (unsigned long long)count);
                json_decref(list);
                return NULL;
            }
        }
        return list;
    }
    if (type > F64 || type == ARRAY) {
        fail(c->error, EXIT_DATA, "%s: a value of type %llu at byte %llu, which is not known", c->path,
             (unsigned long long)type,
             (unsigned long long)c->at);
        return NULL;
    }
    if (take_number(c, &bits, size[type]) != 0) return NULL;
    uint8_t b[8];
    store64(b, bits);
    float x;
    uint32_t low = (uint32_t)bits;
    memcpy(&x, &low, 4);
    if (type == BOOL) return json_boolean(bits != 0);
    if (type == F32) return real_of(x);
    if (type == F64) return json_real(load_f64(b));
    if (type == I8) return json_integer((int8_t)bits);
    if (type == I16) return json_integer((int16_t)bits);
    if (type == I32) return json_integer((int32_t)bits);
    return type == U64 && bits > INT64_MAX ? NULL : json_integer((json_int_t)bits);
}

static uint32_t dtype_of(uint64_t type)
{
    size_t bytes;
    if (type == 0) return DTYPE_F32;
    if (type == 1) return DTYPE_F16;
    if (type == 30) return DTYPE_BF16;
    if (type == 28) return DTYPE_F64;
    return type < 100 && gguf_block(GGUF_QUANTISED + (uint32_t)type, &bytes) ? GGUF_QUANTISED + (uint32_t)type : 0;
}

/* One line of the table of tensors; offset: from the start of the data. */
static int take_tensor(struct cursor *c, struct st_tensor *t)
{
    uint64_t n, type, elements = 1;
    size_t length, block = 1, bytes;
    *t = (struct st_tensor){.name = take_text(c, &length)};
    if (!t->name || take_number(c, &n, 4) != 0) return -1;
    if (strlen(t->name) != length || n < 1 || n > 4)
        return fail(c->error, EXIT_DATA, "%s: the tensor before byte %llu has %llu dimensions (expected 1 to 4)",
                    c->path, (unsigned long long)c->at, (unsigned long long)n);
    if (safetensors_name(t->name, c->path, c->error) != 0) return -1;
    t->ndim = (int)n;
    for (int d = t->ndim - 1; d >= 0; d--)
        if (take_number(c, &t->shape[d], 8) != 0) return -1;
    if (take_number(c, &type, 4) != 0 || take_number(c, &t->offset, 8) != 0) return -1;
    t->dtype = dtype_of(type);
    if (!t->dtype)
        return fail(c->error, EXIT_DATA, "%s: tensor %s has the type number %llu, which is not read here", c->path,
                    t->name, (unsigned long long)type);
    if (t->dtype >= GGUF_QUANTISED) block = gguf_block(t->dtype, &bytes);
    else bytes = dtype_size(t->dtype);
    for (int d = 0; d < t->ndim; d++)
        if (!size_mul(&elements, elements, t->shape[d])) elements = UINT64_MAX;
    if (t->shape[t->ndim - 1] % block != 0 || !size_mul(&t->bytes, elements / block, bytes))
        return fail(c->error, EXIT_DATA, "%s: tensor %s has rows of %llu values, which are no whole blocks", c->path,
                    t->name, (unsigned long long)t->shape[t->ndim - 1]);
    return 0;
}

/* Tensors follow one another, each at the next multiple of the alignment, up to the end. */
static int place_tensors(struct cursor *c, struct safetensors *s, uint64_t align)
{
    uint64_t data = (c->at + align - 1) / align * align, at = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct st_tensor *t = &s->tensor[i];
        if (t->offset != at || data > c->size || at > c->size - data || t->bytes > c->size - data - at)
            return fail(c->error, EXIT_DATA,
                        "%s: tensor %s lies at %llu of the data (expected %llu, and an end within the "
                        "file)", c->path, t->name, (unsigned long long)t->offset, (unsigned long long)at);
        t->offset += data;
        at = (at + t->bytes + align - 1) / align * align;
    }
    return 0;
}

static int read_all(struct cursor *c, struct safetensors *s, json_t *facts)
{
    uint64_t magic, version, tensors, keys, type, align = 32;
    size_t length;
    if (take_number(c, &magic, 4) != 0 || take_number(c, &version, 4) != 0) return -1;
    if (magic != 0x46554747 || version < 2 || version > 3)
        return fail(c->error, EXIT_DATA, magic == 0x46554747 && version >> 24
                    ? "%s: a big-endian GGUF file, which is not read here" : "%s: not a GGUF file of version 2 or 3", c->path);
    if (take_number(c, &tensors, 8) != 0 || take_number(c, &keys, 8) != 0) return -1;
    if (tensors > c->size / 24 || keys > c->size / 12)
        return fail(c->error, EXIT_DATA, "%s: %llu tensors and %llu keys do not fit the file", c->path,
                    (unsigned long long)tensors, (unsigned long long)keys);
    for (uint64_t i = 0; i < keys; i++) {
        *c->error = (struct error){0};
        char *key = take_text(c, &length);
        json_t *value = key && take_number(c, &type, 4) == 0 ? take_value(c, type, false) : NULL;
        bool twice = value && json_object_get(facts, key);
        int bad = !value || twice || json_object_set_new(facts, key, value) != 0;
        char shown[100] = "";
        if (key) text_escape(shown, sizeof shown, key, length);
        if (key && strlen(key) != length) bad = 1;
        if (twice) { json_decref(value); fail(c->error, EXIT_DATA, "%s: the key %s is there twice", c->path, shown); }
        else if (bad && !*c->error->text)
            fail(c->error, EXIT_DATA, "%s: the key %s or its value is not valid", c->path, shown);
        free(key);
        if (bad) return -1;
    }
    const json_t *wanted = json_object_get(facts, "general.alignment");
    if (wanted) align = (uint64_t)json_integer_value(wanted);
    if (align < 8 || align > 1 << 20 || (align & (align - 1)) != 0)
        return fail(c->error, EXIT_DATA, "%s: the alignment is %llu (expected a power of two)", c->path,
                    (unsigned long long)align);
    for (uint64_t i = 0; i < tensors; i++) {
        if (take_tensor(c, safetensors_add(s)) != 0) return -1;
    }
    return place_tensors(c, s, align);
}

int gguf_check_values(const struct safetensors *s, struct error *error)
{
    enum { BLOCKS = 4096 };
    float *wide = host_alloc(256 * BLOCKS, sizeof *wide);
    uint8_t *raw = host_alloc(256 * BLOCKS, 1);
    int status = 0;
    for (size_t i = 0; status == 0 && i < s->count; i++) {
        const struct st_tensor *t = &s->tensor[i];
        size_t bytes = 0, values = gguf_block(t->dtype, &bytes), step = bytes * BLOCKS;
        for (uint64_t at = 0; status == 0 && values && at < t->bytes; at += step) {
            size_t size = t->bytes - at < step ? (size_t)(t->bytes - at) : step, n = size / bytes * values;
            status = safetensors_read(s, t, raw, at, size, error);
            if (status == 0) gguf_dequantise(wide, raw, n, t->dtype);
            for (size_t k = 0; status == 0 && k < n; k++)
                if (!isfinite(wide[k]))
                    status = fail(error, EXIT_DATA, "%s: tensor %s has a scale that is not finite", s->file->path,
                                  t->name);
        }
    }
    free(wide);
    free(raw);
    return status;
}

int gguf_open(struct safetensors *s, json_t **facts, const char *path, struct error *error)
{
    *s = (struct safetensors){0};
    *facts = json_object();
    const struct st_file *f = safetensors_file(s, path, error);
    struct cursor c = {.file = f ? fdopen(dup(f->fd), "rb") : NULL, .path = path, .size = f ? f->size : 0, .error = error};
    int status = f ? 0 : -1;
    if (f && !c.file) status = fail(error, EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (status == 0) status = read_all(&c, s, *facts);
    if (status == 0) status = safetensors_sort(s, path, error);
    if (c.file) fclose(c.file);
    if (status == 0) return 0;
    safetensors_close(s);
    json_decref(*facts);
    *facts = NULL;
    return -1;
}

/* ---- tokenizer ---- */

static json_t *splitting(const char *pre)
{
    enum pattern pattern = strcmp(pre, "qwen2") == 0 ? PATTERN_QWEN2 : PATTERN_LLAMA3;
    static const char bytes[] = "{s:s, s:b, s:b, s:b}";
    bool plain = strcmp(pre, "gpt-2") == 0 || strcmp(pre, "smollm") == 0;
    json_t *last = json_pack(bytes, "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", plain);
    if (strcmp(pre, "gpt-2") == 0) return last;
    json_t *first = plain ? json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1)
                          : json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                      pattern_regex(pattern),
                                      "behavior", "Isolated", "invert", 0);
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, last);
}

/* Pieces with scores, as llama.cpp merges them: a blank also follows every special token. */
static json_t *pieces_of(const json_t *facts, struct error *why)
{
    const json_t *tokens = json_object_get(facts, "tokenizer.ggml.tokens");
    const json_t *scores = json_object_get(facts, "tokenizer.ggml.scores");
    const json_t *types = json_object_get(facts, "tokenizer.ggml.token_type");
    const char *not_known = json_is_true(json_object_get(facts, "tokenizer.ggml.remove_extra_whitespaces"))
                          ? "remove_extra_whitespaces" : json_object_get(facts, "tokenizer.ggml.precompiled_charsmap")
                          ? "precompiled_charsmap" : NULL;
    size_t n = json_array_size(tokens);
    if (not_known || json_array_size(scores) != n || json_array_size(types) != n) {
        fail(why, EXIT_DATA, not_known ? "its tokenizer has %s, which is not known here"
             : "its tokenizer has not as many scores and types as tokens", not_known);
        return NULL;
    }
    json_t *pieces = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(pieces, json_pack("[O, O, O]", json_array_get(tokens, i), json_array_get(scores, i),
                                                json_array_get(types, i)));
    bool prefix = !json_is_false(json_object_get(facts, "tokenizer.ggml.add_space_prefix"));
    return json_pack("{s:o, s:b}", "pieces", pieces, "prefix", prefix);
}

const char *gguf_usual_form(const char *pre) { return strcmp(pre, "qwen2") == 0 ? "NFC" : "none"; }

static json_t *normalizer_of(const json_t *facts, const char *pre)
{
    const char *form = json_string_value(json_object_get(facts, GGUF_FORM));
    if (!form) form = gguf_usual_form(pre);
    return strcmp(form, "none") == 0 ? json_null() : json_pack("{s:s}", "type", form);
}

json_t *gguf_tokenizer(const json_t *facts, struct error *why)
{
    enum { CONTROL = 3, USER = 4, UNUSED = 5 };
    const char *model = json_string_value(json_object_get(facts, "tokenizer.ggml.model"));
    const char *pre = json_string_value(json_object_get(facts, "tokenizer.ggml.pre"));
    const json_t *tokens = json_object_get(facts, "tokenizer.ggml.tokens");
    const json_t *types = json_object_get(facts, "tokenizer.ggml.token_type");
    json_t *merges = json_object_get(facts, "tokenizer.ggml.merges");
    bool found = pre && word_number("gpt-2|llama-bpe|smaug-bpe|qwen2|smollm", pre) >= 0;
    if (model && strcmp(model, "llama") == 0 && json_is_array(tokens)) return pieces_of(facts, why);
    if (model && strcmp(model, "none") == 0) {
        fail(why, EXIT_DATA, "the file holds no tokenizer");
        return NULL;
    }
    if (!model || strcmp(model, "gpt2") != 0 || !found || !json_is_array(tokens) || !json_is_array(merges)) {
        fail(why, EXIT_DATA, "its tokenizer is not one that is known here (model %s, pre %s)",
             model ? text_shown(model).text : "missing", pre ? text_shown(pre).text : "missing");
        return NULL;
    }
    json_t *vocab = json_object(), *added = json_array();
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const char *text = json_string_value(json_array_get(tokens, i));
        json_int_t type = json_integer_value(json_array_get(types, i));
        if (!text || type == UNUSED) continue;
        if (json_object_get(vocab, text)) {
            fail(why, EXIT_DATA, "its tokenizer has the token %s twice", text_shown(text).text);
            json_decref(vocab);
            json_decref(added);
            return NULL;
        }
        json_object_set_new_nocheck(vocab, text, json_integer((json_int_t)i));
        if (type == CONTROL || type == USER)
            json_array_append_new(added, json_pack("{s:I, s:O, s:b}", "id", (json_int_t)i, "content",
                                                   json_array_get(tokens, i), "special", type == CONTROL));
    }
    return json_pack("{s:o, s:o, s:o, s:{s:s, s:o, s:O, s:b}}", "added_tokens", added, "normalizer",
                     normalizer_of(facts, pre), "pre_tokenizer", splitting(pre), "model", "type", "BPE", "vocab", vocab, "merges", merges,
                     "ignore_merges", strcmp(pre, "llama-bpe") == 0);
}
