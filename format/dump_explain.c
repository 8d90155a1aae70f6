/* dump_explain.c - `ckpt explain FILE OFFSET`: whose byte is this?  For whoever stares at a hex dump. */
#include "format/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* A run of named fields; the last has size 0. */
struct field { const char *name; unsigned at, size; };

static const struct field header_fields[] = {
    {"signature", 0, 8}, {"byte-order word", 8, 4}, {"major version", 12, 2}, {"minor version", 14, 2},
    {"header size", 16, 4}, {"kind", 20, 4},
    {"file size", 24, 8}, {"incompatible features", 32, 8}, {"read-only-compatible features", 40, 8},
    {"compatible features", 48, 8},
    {"section table offset", 56, 8}, {"section count", 64, 4}, {"section table CRC", 68, 4}, {"stage", 72, 4},
    {"flags", 76, 4}, {"uuid", 80, 16},
    {"run uuid", 96, 16}, {"weights_id", 112, 16}, {"reserved", 128, 16}, {"step", 144, 8}, {"tokens seen", 152, 8},
    {"created", 160, 8},
    {"shard index", 168, 4}, {"shard count", 172, 4}, {"tensor alignment", 176, 4}, {"section entry size", 180, 4},
    {"writer", 184, 32},
    {"reserved", 216, 36}, {"header CRC", 252, 4}, {"reserved", 256, 3840}, {NULL}};

static const struct field section_fields[] = {
    {"type", 0, 4}, {"flags", 4, 4}, {"offset", 8, 8}, {"stored length", 16, 8}, {"raw length", 24, 8}, {"CRC", 32, 4},
    {"codec", 36, 2}, {"version", 38, 2},
    {"instance", 40, 4}, {"checksum algorithm", 44, 4}, {"reserved", 48, 16}, {NULL}};

static const struct field tensor_fields[] = {
    {"data offset", 0, 8}, {"stored length", 8, 8}, {"raw length", 16, 8}, {"CRC", 24, 4}, {"name offset", 28, 4},
    {"name length", 32, 2}, {"dtype", 34, 1},
    {"dimensions", 35, 1}, {"role", 36, 1}, {"codec", 37, 1}, {"flags", 38, 2}, {"shape", 40, 64}, {"reserved", 104, 4},
    {"parameter group", 108, 4},
    {"first chunk", 112, 4}, {"reserved", 116, 12}, {NULL}};

static const struct field stat_fields[] = {
    {"min", 0, 8}, {"max", 8, 8}, {"mean", 16, 8}, {"std", 24, 8}, {"absmax", 32, 8}, {"NaNs", 40, 8},
    {"infinities", 48, 8}, {"zeros", 56, 8}, {NULL}};

static const char *field_at(const struct field *field, uint64_t at)
{
    for (; field->name; field++)
        if (at >= field->at && at - field->at < field->size) return field->name;
    return "unknown field";
}

static char *explain_index(const struct ckpt *c, uint64_t at)
{
    uint64_t n = c->index.count, entries = CKPT_INDEX_HEAD + n * CKPT_INDEX_ENTRY,
             order = entries + (4 * n + 7) / 8 * 8;
    if (n == 0) return host_text("the tensor index (damaged)");
    if (at < CKPT_INDEX_HEAD) return host_text("head of the tensor index, byte %" PRIu64, at);
    if (at < entries) {
        uint64_t i = (at - CKPT_INDEX_HEAD) / CKPT_INDEX_ENTRY;
        const struct ckpt_tensor *t = &c->index.tensor[i].public;
        return host_text("entry %" PRIu64 " of the tensor index (%s, %s): %s", i, t->name, role_name(t->role),
                         field_at(tensor_fields, (at - CKPT_INDEX_HEAD) % CKPT_INDEX_ENTRY));
    }
    if (at < order) return host_text("name order of the tensor index, place %" PRIu64, (at - entries) / 4);
    for (size_t i = 0, start = order; i < n; i++) {
        size_t length = strlen(c->index.tensor[i].public.name);
        if (at - start < length)
            return host_text("name of tensor %zu (%s), character %" PRIu64, i, c->index.tensor[i].public.name,
                             at - start);
        start += length;
    }
    return host_text("padding of the tensor index");
}

/* "[3, 17]" of element number i. */
static char *coordinates(char out[200], const struct ckpt_tensor *t, uint64_t i)
{
    uint64_t at[CKPT_MAX_DIMS];
    for (int d = t->ndim - 1; d >= 0; d--) {
        at[d] = i % t->shape[d];
        i /= t->shape[d];
    }
    struct ckpt_tensor place = {.ndim = t->ndim};
    memcpy(place.shape, at, (size_t)t->ndim * sizeof *at);
    return shape_text(out, &place);
}

static char *explain_data(const struct ckpt *c, uint64_t at)
{
    size_t low = 0, high = c->index.count;
    while (high - low > 1) {                                  /* the last tensor that starts at or before `at` */
        size_t middle = low + (high - low) / 2;
        if (c->index.tensor[middle].offset <= at) low = middle;
        else high = middle;
    }
    if (c->index.count == 0) return host_text("tensor data (the index is damaged)");
    const struct tensor *t = &c->index.tensor[low];
    const struct dtype_facts *facts = dtype_facts(t->public.dtype);
    char place[200];
    if (at - t->offset >= t->stored)
        return host_text("padding behind tensor %s (%s)", t->public.name, role_name(t->public.role));
    uint64_t i = (at - t->offset) / facts->block_bytes;
    if (facts->block != 1)
        return host_text("tensor %s (%s), block %" PRIu64, t->public.name, role_name(t->public.role), i);
    uint8_t bytes[8];
    double value = 0;
    if (tensor_read(c, low, bytes, i * facts->block_bytes, facts->block_bytes, NULL) == 0)
        dtype_to_f64(&value, bytes, 1, t->public.dtype);
    return host_text("tensor %s (%s, %s), element %s = %.9g, chunk %" PRIu64, t->public.name, role_name(t->public.role),
                     facts->name,
                     coordinates(place, &t->public, i), value, (at - t->offset) / CKPT_CHUNK);
}

/* Which key of the encoded key-values; the sizes are those of SPEC.md. */
static char *explain_kv(const struct ckpt *c, const struct section *s, uint64_t at)
{
    struct bytes b = {0};
    char *text = NULL;
    if (at < CKPT_TABLE_HEAD) return host_text("head of the key-values of %s", s->type);
    if (section_read(&b, c, s, NULL) != 0) return host_text("section %s (damaged), byte %" PRIu64, s->type, at);
    for (uint64_t p = CKPT_TABLE_HEAD; p + 8 <= b.size && !text;) {
        uint64_t key = load16(b.data + p + 2), value = load32(b.data + p + 4), start = p + 8 + (key + 7) / 8 * 8,
                 end = start + (value + 7) / 8 * 8;
        if (key > CKPT_MAX_KEY || end > b.size) break;
        if (at < end)
            text = host_text("%s of key %.*s in %s", at < start ? "head or name" : "value", (int)key, b.data + p + 8,
                             s->type);
        p = end;
    }
    bytes_free(&b);
    return text ? text : host_text("section %s, byte %" PRIu64, s->type, at);
}

static char *explain_section(const struct ckpt *c, const struct section *s, uint64_t at)
{
    const struct section_facts *facts = section_facts(s->type);
    if (s == c->tdat) return explain_data(c, at);
    if (s->codec != CODEC_NONE) return host_text("section %s, byte %" PRIu64 " of its compressed bytes", s->type, at);
    if (strcmp(s->type, "TIDX") == 0) return explain_index(c, at);
    if (facts && facts->form == SECTION_KV) return explain_kv(c, s, at);
    if (at >= CKPT_TABLE_HEAD && strcmp(s->type, "CCRC") == 0)
        return host_text("CRC of chunk %" PRIu64, (at - CKPT_TABLE_HEAD) / 4);
    uint64_t entry = (at - CKPT_TABLE_HEAD) / CKPT_STAT_ENTRY;
    if (at >= CKPT_TABLE_HEAD && strcmp(s->type, "STAT") == 0 && entry < c->index.count)
        return host_text("statistics of tensor %s (%s): %s", c->index.tensor[entry].public.name,
                         role_name(c->index.tensor[entry].public.role),
                         field_at(stat_fields, (at - CKPT_TABLE_HEAD) % CKPT_STAT_ENTRY));
    return host_text("section %s, byte %" PRIu64, s->type, at);
}

static char *explain(const struct ckpt *c, uint64_t offset)
{
    const struct header *h = &c->header;
    if (offset < CKPT_PAGE) return host_text("header: %s", field_at(header_fields, offset));
    if (offset >= h->table_offset) {
        uint64_t at = offset - h->table_offset, i = at / h->section_entry;
        if (i >= h->section_count) return host_text("padding behind the section table");
        return host_text("section table, entry %" PRIu64 " (%s): %s", i, c->section[i].type,
                         field_at(section_fields, at % h->section_entry));
    }
    for (uint32_t i = 0; i < h->section_count; i++) {
        const struct section *s = &c->section[i];
        if (offset >= s->offset && offset - s->offset < s->stored) return explain_section(c, s, offset - s->offset);
    }
    return host_text("padding between sections");
}

int dump_explain(struct dump *d)
{
    struct findings f = {0};
    struct problems problems = {findings_add, &f, 0};
    struct ckpt *c;
    struct json j;
    char *end, byte[8];
    errno = 0;
    uint64_t offset = strtoull(d->argument[1], &end, 0);
    if (end == d->argument[1] || *end || errno || d->argument[1][0] == '-')
        quit(EXIT_USAGE, "'%s' is no byte offset (a number, or 0x...)", d->argument[1]);
    int code = dump_open(&c, d, 0, &problems);
    if (code) return code;
    if (offset >= c->header.file_size)
        quit(EXIT_USAGE, "%s has %" PRIu64 " bytes; there is no byte %" PRIu64, c->path, c->header.file_size, offset);
    char *text = explain(c, offset);
    uint8_t value = 0;
    input_read(&c->input, &value, offset, 1, NULL);
    snprintf(byte, sizeof byte, "0x%02x", value);
    if (d->json) {
        json_start(&j, d);
        json_u64(&j, "offset", offset);
        json_text(&j, "byte", byte);
        json_text(&j, "meaning", text);
        json_end(&j);
    } else printf("byte %" PRIu64 " is %s: %s\n", offset, byte, text);
    free(text);
    findings_free(&f);
    ckpt_close(c);
    return 0;
}
