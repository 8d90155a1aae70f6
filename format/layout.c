/* layout.c - the records of a checkpoint as tables, a row per field, which encoding, decoding, the check of reserved
 * bytes and `ckpt explain` walk; header page and section table.  The decoder refuses every bit it does not know: a CRC
 * proves nothing about who made it. */
#include "format/layout.h"

#include <stdlib.h>

/* ---- fields ---- */

#define AT(type, member) offsetof(type, member), sizeof ((type *)0)->member

const struct field header_fields[] = {
    {"signature", 0, 8}, {"byte-order word", 8, 4}, {"major version", 12, 2, AT(struct header, major)},
    {"minor version", 14, 2, AT(struct header, minor)}, {"header size", 16, 4},
    {"kind", 20, 4, AT(struct header, kind)}, {"file size", 24, 8, AT(struct header, file_size)},
    {"incompatible features", 32, 8, AT(struct header, incompat)},
    {"read-only-compatible features", 40, 8, AT(struct header, rocompat)},
    {"compatible features", 48, 8, AT(struct header, compat)},
    {"section table offset", 56, 8, AT(struct header, table_offset)},
    {"section count", 64, 4, AT(struct header, section_count)},
    {"section table CRC", 68, 4, AT(struct header, table_crc)}, {"stage", 72, 4, AT(struct header, meta.stage)},
    {"flags", 76, 4, AT(struct header, meta.flags)}, {"uuid", 80, 16, AT(struct header, meta.uuid)},
    {"run uuid", 96, 16, AT(struct header, meta.run_uuid)},
    {"weights_id", 112, 16, AT(struct header, meta.weights_id)}, {"reserved", 128, 16},
    {"step", 144, 8, AT(struct header, meta.step)}, {"tokens seen", 152, 8, AT(struct header, meta.tokens_seen)},
    {"created", 160, 8, AT(struct header, meta.created)}, {"shard index", 168, 4, AT(struct header, shard_index)},
    {"shard count", 172, 4, AT(struct header, shard_count)}, {"tensor alignment", 176, 4, AT(struct header, align)},
    {"section entry size", 180, 4, AT(struct header, section_entry)},
    {"writer", 184, 32, AT(struct header, meta.writer)}, {"reserved", 216, 36}, {"header CRC", 252, 4},
    {"reserved", 256, 3840}, {NULL}};

const struct field section_fields[] = {
    {"type", 0, 4}, {"flags", 4, 4, AT(struct section, flags)}, {"offset", 8, 8, AT(struct section, offset)},
    {"stored length", 16, 8, AT(struct section, stored)}, {"raw length", 24, 8, AT(struct section, raw)},
    {"CRC", 32, 4, AT(struct section, crc)}, {"codec", 36, 2, AT(struct section, codec)},
    {"version", 38, 2, AT(struct section, version)}, {"instance", 40, 4, AT(struct section, instance)},
    {"checksum algorithm", 44, 4}, {"reserved", 48, 16}, {NULL}};

/* Nothing is compressed: both lengths are those of the tensor.  The shape is eight numbers: index.c's. */
const struct field tensor_fields[] = {
    {"data offset", 0, 8, AT(struct ckpt_tensor, offset)}, {"stored length", 8, 8, AT(struct ckpt_tensor, bytes)},
    {"raw length", 16, 8, AT(struct ckpt_tensor, bytes)}, {"CRC", 24, 4, AT(struct ckpt_tensor, crc)},
    {"name offset", 28, 4}, {"name length", 32, 2}, {"dtype", 34, 1, AT(struct ckpt_tensor, dtype)},
    {"dimensions", 35, 1, AT(struct ckpt_tensor, ndim)}, {"role", 36, 1, AT(struct ckpt_tensor, role)},
    {"codec", 37, 1}, {"flags", 38, 2, AT(struct ckpt_tensor, flags)}, {"shape", 40, 64}, {"reserved", 104, 4},
    {"parameter group", 108, 4, AT(struct ckpt_tensor, group)},
    {"first chunk", 112, 4, AT(struct ckpt_tensor, first_chunk)}, {"reserved", 116, 12}, {NULL}};

const struct field stat_fields[] = {
    {"min", 0, 8, AT(struct stats, min)}, {"max", 8, 8, AT(struct stats, max)}, {"mean", 16, 8, AT(struct stats, mean)},
    {"std", 24, 8, AT(struct stats, std)}, {"absmax", 32, 8, AT(struct stats, absmax)},
    {"NaNs", 40, 8, AT(struct stats, nan)}, {"infinities", 48, 8, AT(struct stats, inf)},
    {"zeros", 56, 8, AT(struct stats, zero)}, {NULL}};

union number { uint16_t half; uint32_t word; uint64_t whole; };

void fields_encode(uint8_t *out, const struct field *field, const void *from)
{
    for (const struct field *f = field; f->name; f++) {
        union number n = {.whole = 0};
        if (f->size > 8 && f->width) memcpy(out + f->at, (const char *)from + f->place, f->size);
        if (f->size > 8 || f->width == 0) continue;
        memcpy(&n, (const char *)from + f->place, f->width);
        uint64_t value = f->width == 2 ? n.half : f->width == 4 ? n.word : n.whole;
        for (int i = 0; i < f->size; i++) out[f->at + i] = (uint8_t)(value >> 8 * i);
    }
}

void fields_decode(void *to, const struct field *field, const uint8_t *in)
{
    for (const struct field *f = field; f->name; f++) {
        union number n = {.whole = 0};
        uint64_t value = 0;
        for (int i = 0; i < f->size && f->size <= 8; i++) value |= (uint64_t)in[f->at + i] << 8 * i;
        if (f->width == 2) n.half = (uint16_t)value;
        else if (f->width == 4) n.word = (uint32_t)value;
        else n.whole = value;
        memcpy((char *)to + f->place, f->size > 8 ? (const void *)(in + f->at) : &n, f->width);
    }
}

bool fields_reserved_zero(const struct field *field, const uint8_t *in)
{
    for (const struct field *f = field; f->name; f++)
        if (strcmp(f->name, "reserved") == 0 && !all_zero(in + f->at, f->size)) return false;
    return true;
}

const char *field_name(const struct field *field, uint64_t at)
{
    for (; field->name; field++)
        if (at >= field->at && at - field->at < field->size) return field->name;
    return "unknown field";
}

void add32(struct bytes *out, uint32_t v)
{
    char b[4];
    store32(b, v);
    bytes_add(out, b, sizeof b);
}

void add64(struct bytes *out, uint64_t v)
{
    add32(out, (uint32_t)v);
    add32(out, (uint32_t)(v >> 32));
}

void pad8(struct bytes *out) { bytes_add(out, "\0\0\0\0\0\0\0", -out->size & 7); }

bool all_zero(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) any |= p[i];
    return any == 0;
}

/* ---- names ---- */

const struct section_facts section_table[] = {
    {"CONF", SECTION_CRITICAL, CKPT_MAX_METADATA, 0},
    {"TOKN", SECTION_CRITICAL | SECTION_SAFE_TO_COPY, CKPT_MAX_TOKENIZER, -1},
    {"CHAT", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, 1},
    {"TRNS", 0, CKPT_MAX_METADATA, 2},
    {"RNGS", 0, CKPT_MAX_METADATA, 3},
    {"DCUR", 0, CKPT_MAX_METADATA, 4},
    {"LINE", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, 5},
    {"META", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, 6},
    {"EVAL", 0, CKPT_MAX_METADATA, 7},
    {"TIDX", SECTION_CRITICAL, CKPT_MAX_METADATA, -1},
    {"CCRC", 0, CKPT_MAX_METADATA, -1},
    {"STAT", 0, CKPT_MAX_METADATA, -1},
    {"TDAT", SECTION_CRITICAL, CKPT_MAX_FILE, -1},
    {NULL},
};

const struct section_facts *section_facts(const char *type)
{
    for (const struct section_facts *f = section_table; f->type; f++)
        if (strcmp(f->type, type) == 0) return f;
    return NULL;
}

const char *stage_name(enum stage stage)
{
    static const char *const name[] = {"unknown", "pretrain", "sft", "rm", "rlhf", "critic", "imported"};
    return (unsigned)stage < sizeof name / sizeof *name ? name[stage] : "unknown";
}

/* ---- header ---- */

void header_encode(uint8_t page[4096], const struct header *h)
{
    memset(page, 0, CKPT_PAGE);
    memcpy(page, CKPT_SIGNATURE, 8);
    store32(page + 8, CKPT_BYTE_ORDER);
    store32(page + 16, CKPT_PAGE);
    fields_encode(page, header_fields, h);
    store32(page + 252, crc32_of(0, page, 252));
}

/* Is it a checkpoint of this version, and whole?  Before this nothing in the page means anything. */
static int check_identity(const uint8_t *page, struct error *error)
{
    if (memcmp(page, CKPT_SIGNATURE, 8) != 0) {
        if (all_zero(page, CKPT_PAGE))
            return corrupt(error, "the header is empty: the save that wrote this file never finished [H2]");
        if (memcmp(page + 1, "QCK", 3) == 0)
            return corrupt(error, "the signature is damaged, as by a transfer in text mode; copy the file again as "
                           "binary [H2]");
        return corrupt(error, "this is not a checkpoint (no signature) [H2]");
    }
    if (load32(page + 8) == UINT32_C(0x04030201))
        return corrupt(error, "the file is byte-swapped; checkpoints are little-endian on every machine [H3]");
    if (load32(page + 8) != CKPT_BYTE_ORDER)
        return corrupt(error, "the byte-order word is %08x [H3]", load32(page + 8));
    uint32_t crc = crc32_of(0, page, 252);
    if (crc != load32(page + 252))
        return corrupt(error, "the header is corrupt (CRC %08x, expected %08x) [H4]", crc, load32(page + 252));
    return 0;
}

static int check_range(const struct header *h, struct error *error)
{
    if (h->align < CKPT_MIN_ALIGN || h->align > CKPT_MAX_ALIGN || (h->align & (h->align - 1)) != 0)
        return corrupt(error, "tensor alignment is %u (expected a power of two, %d to %" PRIu64 ") [H8]", h->align,
                       CKPT_MIN_ALIGN, CKPT_MAX_ALIGN);
    if (h->incompat != 0)
        return corrupt(error, "the file needs features %llx, which this version (%d.%d) lacks; it was written by '%s' "
                       "[H9]", (unsigned long long)h->incompat, CKPT_MAJOR, CKPT_MINOR, h->meta.writer);
    if (h->kind == 2 || h->kind == 3)
        return corrupt(error, "the file is a piece of a sharded checkpoint; this version reads single files [H10]");
    if (h->kind != 1) return corrupt(error, "the kind of file is %u (expected 1) [H10]", h->kind);
    if (h->meta.stage > STAGE_IMPORTED)
        return corrupt(error, "the stage is %u (expected 0 to %d) [H10]", h->meta.stage, STAGE_IMPORTED);
    if (h->meta.flags & ~(uint32_t)(CKPT_TRAINING_STATE | CKPT_RESUMABLE | CKPT_FINAL))
        return corrupt(error, "the header has the unknown flags %x [H10]", h->meta.flags);
    if (h->shard_index != 0 || h->shard_count != 1)
        return corrupt(error, "a single file says it is shard %u of %u [H11]", h->shard_index, h->shard_count);
    return 0;
}

static int check_table_place(const struct header *h, struct error *error)
{
    if (h->section_count < 1 || h->section_count > CKPT_MAX_SECTIONS)
        return corrupt(error, "the file has %u sections (expected 1 to %d) [H12]", h->section_count, CKPT_MAX_SECTIONS);
    if (h->section_entry < CKPT_SECTION_ENTRY || h->section_entry > CKPT_SECTION_ENTRY_MAX || h->section_entry % 8 != 0)
        return corrupt(error, "a section entry has %u bytes (expected 64 to 256) [H12]", h->section_entry);
    uint64_t table = (uint64_t)h->section_count * h->section_entry, padded = (table + CKPT_PAGE - 1) & ~(CKPT_PAGE - 1);
    if (h->table_offset % CKPT_PAGE != 0 || h->table_offset < CKPT_PAGE || h->table_offset > h->file_size ||
        h->file_size - h->table_offset != padded)
        return corrupt(error, "the section table at %" PRIu64 " does not end the file of %" PRIu64 " bytes [H12]",
                       h->table_offset, h->file_size);
    return 0;
}

int header_decode(struct header *h, const uint8_t page[4096], uint64_t file_size, struct error *error)
{
    struct header new = {0};
    if (check_identity(page, error) != 0) return -1;
    fields_decode(&new, header_fields, page);
    for (int i = 0, end = 0; i < 32; i++) {
        char c = new.meta.writer[i];
        if (c == 0) end = 1;
        else if (end || c < 0x20 || c > 0x7E)
            return corrupt(error, "the writer's name is not printable ASCII [H13]");
    }
    if (new.major != CKPT_MAJOR)
        return corrupt(error, "the file has format version %u.%u, written by '%s'; this program reads version %d [H5]",
                       new.major, new.minor, new.meta.writer, CKPT_MAJOR);
    if (load32(page + 16) != CKPT_PAGE)
        return corrupt(error, "the header has %u bytes (expected 4096) [H5]", load32(page + 16));
    if (!fields_reserved_zero(header_fields, page))
        return corrupt(error, "reserved bytes of the header are not zero [H6]");
    if (new.file_size != file_size)
        return corrupt(error, "the file has %" PRIu64 " bytes, its header says %" PRIu64 ": %s [H7]", file_size,
                       new.file_size, new.file_size > file_size ? "it is truncated" : "something was appended");
    if (check_range(&new, error) != 0 || check_table_place(&new, error) != 0) return -1;
    *h = new;
    return 0;
}

/* ---- section table ---- */

void table_encode(uint8_t *out, const struct section *section, size_t count)
{
    memset(out, 0, count * CKPT_SECTION_ENTRY);
    for (size_t i = 0; i < count; i++, out += CKPT_SECTION_ENTRY) {
        memcpy(out, section[i].type, 4);
        fields_encode(out, section_fields, &section[i]);
    }
}

/* What one entry says by itself.  end: where the section before ended. */
static int check_section(const struct section *s, const uint8_t *p, uint64_t end, uint64_t table, struct error *error)
{
    for (int i = 0; i < 4; i++)
        if (p[i] < 'A' || p[i] > 'Z') return corrupt(error, "a section type is not four capital letters [S6]");
    if (s->flags & ~(uint32_t)(SECTION_CRITICAL | SECTION_SAFE_TO_COPY))
        return corrupt(error, "section %s has the unknown flags %x [S7]", s->type, s->flags);
    if (load32(p + 44) != 0 || !fields_reserved_zero(section_fields, p))
        return corrupt(error, "section %s has reserved bytes that are not zero [S7]", s->type);
    if (s->offset % CKPT_PAGE != 0 || s->offset < end || s->offset < CKPT_PAGE || s->offset >= table)
        return corrupt(error, "section %s starts at %" PRIu64 " (expected a multiple of 4096 from %" PRIu64
                       " on, before %" PRIu64 ") [S2]", s->type, s->offset, end, table);
    if (s->stored < 1 || s->stored > table - s->offset)
        return corrupt(error, "section %s has %" PRIu64 " bytes, %" PRIu64 " are left for it [S3]", s->type, s->stored,
                       table - s->offset);
    if (s->offset - end >= CKPT_PAGE)
        return corrupt(error, "there is a hole of %" PRIu64 " bytes before section %s [S4]", s->offset - end, s->type);
    const struct section_facts *facts = section_facts(s->type);
    uint64_t limit = facts ? facts->limit : CKPT_MAX_METADATA;
    if (s->codec > CODEC_ZLIB || (s->codec == CODEC_NONE && s->raw != s->stored) || s->raw > limit ||
        s->stored > limit ||
        (s->codec == CODEC_ZLIB && (limit == CKPT_MAX_FILE || s->raw > CKPT_MAX_INFLATE * s->stored + 64)))
        return corrupt(error, "section %s: codec %u, %" PRIu64 " bytes stored, %" PRIu64 " raw do not fit together "
                       "(limit %" PRIu64 ") [S8]", s->type, s->codec, s->stored, s->raw, limit);
    if (facts && (s->instance != 0 || s->version != 0))
        return corrupt(error, "section %s has instance %u, version %u (expected 0, 0) [S7]", s->type, s->instance,
                       s->version);
    return 0;
}

/* Unique (S5); all that must be there, there (S10). */
static int check_set(const struct section *section, size_t count, struct error *error)
{
    bool index = false, data = false;
    for (size_t i = 0; i < count; i++) {
        const struct section *s = &section[i];
        index |= section_is(s, "TIDX");
        data |= section_is(s, "TDAT");
        for (size_t k = 0; k < i; k++)
            if (section_is(s, section[k].type) && s->instance == section[k].instance)
                return corrupt(error, "there are two sections %s of instance %u [S5]", s->type, s->instance);
    }
    if (index && data) return 0;
    return corrupt(error, "the section %s is missing [S10]", index ? "TDAT" : "TIDX");
}

int table_decode(struct section **out, const uint8_t *table, const struct header *h, struct error *error)
{
    uint32_t crc = crc32_of(0, table, (size_t)h->section_count * h->section_entry);
    if (crc != h->table_crc)
        return corrupt(error, "the section table is corrupt (CRC %08x, expected %08x) [S1]", crc, h->table_crc);
    struct section *section = host_alloc(h->section_count, sizeof *section);
    uint64_t end = CKPT_PAGE;
    int status = 0;
    for (uint32_t i = 0; i < h->section_count && status == 0; i++) {
        const uint8_t *p = table + (size_t)i * h->section_entry;
        struct section *s = &section[i];
        fields_decode(s, section_fields, p);
        memcpy(s->type, p, 4);
        status = check_section(s, p, end, h->table_offset, error);
        end = s->offset + s->stored;
    }
    if (status == 0 && h->table_offset - end >= CKPT_PAGE)
        status = corrupt(error, "there is a hole of %" PRIu64 " bytes before the section table [S4]",
                         h->table_offset - end);
    if (status == 0) status = check_set(section, h->section_count, error);
    if (status != 0) free(section);
    else *out = section;
    return status;
}
