/* dump_explain.c - `ckpt explain FILE OFFSET`: which field, key or element a byte belongs to. */
#include "format/ckpt/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static char *explain_index(const struct ckpt *c, uint64_t at)
{
    uint64_t n = c->index.count, entries = CKPT_INDEX_HEAD + n * CKPT_INDEX_ENTRY,
             order = entries + (4 * n + 7) / 8 * 8;
    if (n == 0) return host_text("the tensor index (damaged)");
    if (at < CKPT_INDEX_HEAD) return host_text("head of the tensor index, byte %" PRIu64, at);
    if (at < entries) {
        uint64_t i = (at - CKPT_INDEX_HEAD) / CKPT_INDEX_ENTRY;
        const struct ckpt_tensor *t = &c->index.tensor[i];
        return host_text("entry %" PRIu64 " of the tensor index (%s, %s): %s", i, t->name, role_name(t->role),
                         field_name(tensor_fields, (at - CKPT_INDEX_HEAD) % CKPT_INDEX_ENTRY));
    }
    if (at < order) return host_text("name order of the tensor index, place %" PRIu64, (at - entries) / 4);
    for (size_t i = 0, start = order; i < n; i++) {
        size_t length = strlen(c->index.tensor[i].name);
        if (at - start < length)
            return host_text("name of tensor %zu (%s), character %" PRIu64, i, c->index.tensor[i].name, at - start);
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
    size_t i = c->index.count;
    while (i > 0 && c->index.tensor[i - 1].offset > at) i--;
    if (i == 0) return host_text("tensor data (the index is damaged)");
    const struct ckpt_tensor *t = &c->index.tensor[--i];
    const char *name = t->name, *role = role_name(t->role);
    if (at - t->offset >= t->bytes) return host_text("padding after tensor %s (%s)", name, role);
    uint32_t size = dtype_size(t->dtype);
    uint64_t element = (at - t->offset) / size;
    uint8_t bytes[8];
    char place[200];
    double value = 0;
    if (tensor_read(c, i, bytes, element * size, size, NULL) == 0) dtype_to_f64(&value, bytes, 1, t->dtype);
    return host_text("tensor %s (%s, %s), element %s = %.9g, chunk %" PRIu64, name, role, dtype_name(t->dtype),
                     coordinates(place, t, element), value, (at - t->offset) / CKPT_CHUNK);
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
    if (section_is(s, "TIDX")) return explain_index(c, at);
    if (facts && facts->kv >= 0) return explain_kv(c, s, at);
    if (at >= CKPT_TABLE_HEAD && section_is(s, "CCRC"))
        return host_text("CRC of chunk %" PRIu64, (at - CKPT_TABLE_HEAD) / 4);
    uint64_t entry = (at - CKPT_TABLE_HEAD) / CKPT_STAT_ENTRY;
    if (at >= CKPT_TABLE_HEAD && section_is(s, "STAT") && entry < c->index.count)
        return host_text("statistics of tensor %s (%s): %s", c->index.tensor[entry].name,
                         role_name(c->index.tensor[entry].role),
                         field_name(stat_fields, (at - CKPT_TABLE_HEAD) % CKPT_STAT_ENTRY));
    return host_text("section %s, byte %" PRIu64, s->type, at);
}

static char *explain(const struct ckpt *c, uint64_t offset)
{
    const struct header *h = &c->header;
    if (offset < CKPT_PAGE) return host_text("header: %s", field_name(header_fields, offset));
    if (offset >= h->table_offset) {
        uint64_t at = offset - h->table_offset, i = at / h->section_entry;
        if (i >= h->section_count) return host_text("padding after the section table");
        return host_text("section table, entry %" PRIu64 " (%s): %s", i, c->section[i].type,
                         field_name(section_fields, at % h->section_entry));
    }
    for (uint32_t i = 0; i < h->section_count; i++) {
        const struct section *s = &c->section[i];
        if (offset >= s->offset && offset - s->offset < s->stored) return explain_section(c, s, offset - s->offset);
    }
    return host_text("padding between sections");
}

int dump_explain(struct dump *d, struct ckpt *c, json_t *facts)
{
    const char *word = d->argument[1];
    char *end;
    uint8_t value = 0;
    errno = 0;
    uint64_t offset = strtoull(word, &end, 0);
    if (end == word || *end || errno || *word == '-')
        quit(EXIT_USAGE, "'%s' is not a byte offset (a number, or 0x...)", word);
    if (offset >= c->header.file_size)
        quit(EXIT_USAGE, "%s has %" PRIu64 " bytes; there is no byte %" PRIu64, c->path, c->header.file_size, offset);
    char *text = explain(c, offset);
    input_read(&c->input, &value, offset, 1, NULL);
    fact(facts, "offset", fact_u64(offset));
    fact(facts, "byte", json_sprintf("0x%02x", value));
    fact(facts, "meaning", fact_text(text));
    d->note = host_text("byte %" PRIu64 " is 0x%02x: %s", offset, value, text);
    free(text);
    return 0;
}
