/* dump_json.c - `ckpt`'s output: a small JSON writer, and values as text.  JSON numbers above 2^53 would be rounded by
 * most readers and NaN is not JSON, so both are written as texts. */
#include "format/dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

static void before(struct json *j, const char *key)
{
    if (j->comma) bytes_text(&j->out, ",");
    if (j->depth == 1) bytes_text(&j->out, "\n ");
    if (key) bytes_text(&j->out, "\"%s\": ", key);
    j->comma = true;
}

/* Controls, bidi marks and what is no UTF-8 never reach a terminal as they are. */
static void quoted(struct bytes *out, const char *text, size_t length)
{
    bytes_text(out, "\"");
    for (size_t i = 0; i < length;) {
        const unsigned char *s = (const unsigned char *)text + i;
        int n = utf8_length(text + i, length - i);
        char shown[20];
        if (n == 0) bytes_text(out, "\\ufffd");
        else if (n == 1 && (s[0] == '"' || s[0] == '\\')) bytes_text(out, "\\%c", s[0]);
        else if (n == 1 && (s[0] < 0x20 || s[0] == 0x7F)) bytes_text(out, "\\u%04x", s[0]);
        else if (text_escape(shown, sizeof shown, text + i, (size_t)n)[0] == '\\' && n == 2)
            bytes_text(out, "\\u%04x", (unsigned)((s[0] & 0x1F) << 6 | (s[1] & 0x3F)));
        else if (shown[0] == '\\' && n == 3)
            bytes_text(out, "\\u%04x", (unsigned)((s[0] & 0x0F) << 12 | (s[1] & 0x3F) << 6 | (s[2] & 0x3F)));
        else bytes_add(out, s, (size_t)n);
        i += n ? (size_t)n : 1;
    }
    bytes_text(out, "\"");
}

void json_start(struct json *j, const struct dump *d)
{
    *j = (struct json){0};
    json_open(j, NULL, '{');
    json_text(j, "schema", "ckpt-dump/1");
    json_text(j, "command", d->command);
}

void json_end(struct json *j)
{
    json_close(j, '}');
    bytes_text(&j->out, "\n");
    fwrite(j->out.data, 1, j->out.size, stdout);
    bytes_free(&j->out);
}

void json_open(struct json *j, const char *key, char bracket)
{
    before(j, key);
    bytes_text(&j->out, "%c", bracket);
    j->depth++;
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    if (--j->depth == 0) bytes_text(&j->out, "\n");
    bytes_text(&j->out, "%c", bracket);
    j->comma = true;
}

void json_text(struct json *j, const char *key, const char *value)
{
    before(j, key);
    quoted(&j->out, value, strlen(value));
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    before(j, key);
    bytes_text(&j->out, value > UINT64_C(1) << 53 ? "\"%" PRIu64 "\"" : "%" PRIu64, value);
}

void json_i64(struct json *j, const char *key, int64_t value)
{
    bool wide = value > INT64_C(1) << 53 || value < -(INT64_C(1) << 53);
    before(j, key);
    bytes_text(&j->out, wide ? "\"%" PRId64 "\"" : "%" PRId64, value);
}

void json_f64(struct json *j, const char *key, double value)
{
    before(j, key);
    if (isfinite(value)) bytes_text(&j->out, "%.17g", value);
    else bytes_text(&j->out, "\"%s\"", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

void json_bool(struct json *j, const char *key, bool value)
{
    before(j, key);
    bytes_text(&j->out, value ? "true" : "false");
}

void json_crc(struct json *j, const char *key, uint32_t crc)
{
    before(j, key);
    bytes_text(&j->out, "\"%08x\"", crc);
}

void json_hex(struct json *j, const char *key, const void *data, size_t size)
{
    before(j, key);
    bytes_text(&j->out, "\"");
    for (size_t i = 0; i < size; i++) bytes_text(&j->out, "%02x", ((const uint8_t *)data)[i]);
    bytes_text(&j->out, "\"");
}

void json_entry(struct json *j, const char *key, const struct kv_entry *e)
{
    if (e->type == KV_BOOL) json_bool(j, key, *(const bool *)e->value);
    else if (e->type == KV_I64) json_i64(j, key, *(const int64_t *)e->value);
    else if (e->type == KV_U64) json_u64(j, key, *(const uint64_t *)e->value);
    else if (e->type == KV_F64) json_f64(j, key, *(const double *)e->value);
    else if (e->type == KV_TEXT) json_text(j, key, e->value);
    else if (e->type == KV_BYTES) json_hex(j, key, e->value, (size_t)e->count);
    else {
        json_open(j, key, '[');
        for (uint64_t i = 0; i < e->count; i++) {
            if (e->type == KV_I64S) json_i64(j, NULL, ((const int64_t *)e->value)[i]);
            if (e->type == KV_U64S) json_u64(j, NULL, ((const uint64_t *)e->value)[i]);
            if (e->type == KV_F64S) json_f64(j, NULL, ((const double *)e->value)[i]);
            if (e->type == KV_TEXTS) json_text(j, NULL, ((char *const *)e->value)[i]);
        }
        json_close(j, ']');
    }
}

void json_kv(struct json *j, const char *key, const struct kv *kv)
{
    json_open(j, key, '{');
    for (size_t i = 0; i < kv->count; i++) json_entry(j, kv->entry[i].key, &kv->entry[i]);
    json_close(j, '}');
}

void json_findings(struct json *j, const struct findings *f)
{
    json_open(j, "problems", '[');
    for (int i = 0; i < f->shown; i++) json_text(j, NULL, f->text[i]);
    json_close(j, ']');
    json_text(j, "result", f->shown ? "corrupt" : "ok");
}

/* ---- text ---- */

char *with_commas(char out[32], uint64_t n)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n), o = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) out[o++] = ',';
        out[o++] = digits[i];
    }
    out[o] = 0;
    return out;
}

char *shape_text(char out[200], const struct ckpt_tensor *t)
{
    int o = snprintf(out, 200, "[");
    for (int d = 0; d < t->ndim; d++) o += snprintf(out + o, 200 - (size_t)o, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    snprintf(out + o, 200 - (size_t)o, "]");
    return out;
}

char *time_text(char out[32], int64_t nanoseconds)
{
    time_t seconds = (time_t)(nanoseconds / 1000000000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm)) snprintf(out, 32, "?");
    return out;
}

char *flags_text(char out[64], uint32_t flags)
{
    snprintf(out, 64, "%s%s%s", flags & CKPT_TRAINING_STATE ? "training-state " : "", flags & CKPT_RESUMABLE
             ? "resumable " : "",
             flags & CKPT_FINAL ? "final " : "");
    size_t n = strlen(out);
    if (n) out[n - 1] = 0;
    return out;
}

static void add_escaped(struct bytes *out, const char *text, size_t length, bool cut)
{
    size_t size = cut ? 80 : 4 * length + 8;
    char *shown = host_alloc(size, 1);
    bytes_text(out, "%s", text_escape(shown, size, text, length));
    free(shown);
}

static void add_element(struct bytes *out, const struct kv_entry *e, uint64_t i, bool cut)
{
    const char *text;
    switch (e->type) {
    case KV_BOOL: bytes_text(out, *(const bool *)e->value ? "true" : "false"); break;
    case KV_I64: case KV_I64S: bytes_text(out, "%" PRId64, ((const int64_t *)e->value)[i]); break;
    case KV_U64: case KV_U64S: bytes_text(out, "%" PRIu64, ((const uint64_t *)e->value)[i]); break;
    case KV_F64: case KV_F64S: bytes_text(out, cut ? "%g" : "%.17g", ((const double *)e->value)[i]); break;
    case KV_BYTES: bytes_text(out, "%02x", ((const uint8_t *)e->value)[i]); break;
    case KV_TEXT: add_escaped(out, e->value, (size_t)e->count, cut); break;
    case KV_TEXTS: text = ((char *const *)e->value)[i]; add_escaped(out, text, strlen(text), cut); break;
    }
}

void entry_text(struct bytes *out, const struct kv_entry *e, bool cut)
{
    uint64_t count = e->type <= KV_TEXT ? 1 : e->count, shown = cut ? (e->type == KV_BYTES ? 32 : 8) : count;
    const char *between = e->type == KV_BYTES ? "" : e->type == KV_TEXTS && !cut ? "\n" : ", ";
    for (uint64_t i = 0; i < count && i < shown; i++) {
        if (i) bytes_text(out, "%s", between);
        add_element(out, e, i, cut);
    }
    if (shown < count) bytes_text(out, "... (%" PRIu64 ")", count);
}

bool glob_match(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            from = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++from;
        } else return false;
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}
