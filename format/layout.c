/* layout.c - header page and section table (SPEC.md, "Header" and "Section table").  The encoder writes what the
 * decoder demands; the decoder refuses every bit it does not know, since a CRC proves nothing about who made it. */
#include "format/layout.h"

#include <stdlib.h>

bool all_zero(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) any |= p[i];
    return any == 0;
}

const struct section_facts section_table[] = {
    {"CONF", SECTION_CRITICAL, CKPT_MAX_METADATA, SECTION_KV},
    {"TOKN", SECTION_CRITICAL | SECTION_SAFE_TO_COPY, CKPT_MAX_TOKENIZER, SECTION_BYTES},
    {"CHAT", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, SECTION_KV},
    {"TRNS", 0, CKPT_MAX_METADATA, SECTION_KV},
    {"RNGS", 0, CKPT_MAX_METADATA, SECTION_KV},
    {"DCUR", 0, CKPT_MAX_METADATA, SECTION_KV},
    {"LINE", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, SECTION_KV},
    {"META", SECTION_SAFE_TO_COPY, CKPT_MAX_METADATA, SECTION_KV},
    {"EVAL", 0, CKPT_MAX_METADATA, SECTION_KV},
    {"TIDX", SECTION_CRITICAL, CKPT_MAX_METADATA, SECTION_BYTES},
    {"CCRC", 0, CKPT_MAX_METADATA, SECTION_BYTES},
    {"STAT", 0, CKPT_MAX_METADATA, SECTION_BYTES},
    {"TDAT", SECTION_CRITICAL, CKPT_MAX_FILE, SECTION_BYTES},
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

void header_encode(uint8_t page[4096], struct header *h)
{
    memset(page, 0, CKPT_PAGE);
    memcpy(page, CKPT_SIGNATURE, 8);
    store32(page + 8, CKPT_BYTE_ORDER);
    store16(page + 12, h->major);
    store16(page + 14, h->minor);
    store32(page + 16, CKPT_PAGE);
    store32(page + 20, h->kind);
    store64(page + 24, h->file_size);
    store64(page + 32, h->incompat);
    store64(page + 40, h->rocompat);
    store64(page + 48, h->compat);
    store64(page + 56, h->table_offset);
    store32(page + 64, h->section_count);
    store32(page + 68, h->table_crc);
    store32(page + 72, h->stage);
    store32(page + 76, h->flags);
    memcpy(page + 80, h->uuid, 16);
    memcpy(page + 96, h->run_uuid, 16);
    memcpy(page + 112, h->weights_id, 16);
    store64(page + 144, h->step);
    store64(page + 152, h->tokens_seen);
    store64(page + 160, (uint64_t)h->created);
    store32(page + 168, h->shard_index);
    store32(page + 172, h->shard_count);
    store32(page + 176, h->align);
    store32(page + 180, h->section_entry);
    memcpy(page + 184, h->writer, strnlen(h->writer, 32));
    h->crc = crc32_of(0, page, 252);
    store32(page + 252, h->crc);
}

static void header_fields(struct header *h, const uint8_t *page)
{
    *h = (struct header){
        .major = load16(page + 12), .minor = load16(page + 14), .kind = load32(page + 20),
        .file_size = load64(page + 24),
        .incompat = load64(page + 32), .rocompat = load64(page + 40), .compat = load64(page + 48),
        .table_offset = load64(page + 56), .section_count = load32(page + 64), .table_crc = load32(page + 68),
        .stage = load32(page + 72), .flags = load32(page + 76), .step = load64(page + 144),
        .tokens_seen = load64(page + 152),
        .created = (int64_t)load64(page + 160), .shard_index = load32(page + 168), .shard_count = load32(page + 172),
        .align = load32(page + 176), .section_entry = load32(page + 180), .crc = load32(page + 252)};
    memcpy(h->uuid, page + 80, 16);
    memcpy(h->run_uuid, page + 96, 16);
    memcpy(h->weights_id, page + 112, 16);
    memcpy(h->writer, page + 184, 32);
}

/* Is it a checkpoint of this version, and whole?  Before this nothing in the page means anything. */
static int check_identity(const uint8_t *page, struct error *error)
{
    if (memcmp(page, CKPT_SIGNATURE, 8) != 0) {
        if (all_zero(page, CKPT_PAGE))
            return fail(error, EXIT_DATA, "the header is empty: the save that wrote this file never finished [H2]");
        if (memcmp(page + 1, "QCK", 3) == 0)
            return fail(error, EXIT_DATA,
                        "the signature is damaged, as by a transfer in text mode; copy the file again as binary [H2]");
        return fail(error, EXIT_DATA, "this is not a checkpoint (no signature) [H2]");
    }
    if (load32(page + 8) == UINT32_C(0x04030201))
        return fail(error, EXIT_DATA, "the file is byte-swapped; checkpoints are little-endian on every machine [H3]");
    if (load32(page + 8) != CKPT_BYTE_ORDER)
        return fail(error, EXIT_DATA, "the byte-order word is %08x [H3]", load32(page + 8));
    uint32_t crc = crc32_of(0, page, 252);
    if (crc != load32(page + 252))
        return fail(error, EXIT_DATA, "the header is corrupt (CRC %08x, expected %08x) [H4]", crc, load32(page + 252));
    return 0;
}

static int check_range(const struct header *h, struct error *error)
{
    if (h->align < CKPT_MIN_ALIGN || h->align > CKPT_MAX_ALIGN || (h->align & (h->align - 1)) != 0)
        return fail(error, EXIT_DATA, "tensor alignment is %u (expected a power of two, %d to %llu) [H8]", h->align,
                    CKPT_MIN_ALIGN, (unsigned long long)CKPT_MAX_ALIGN);
    if (h->incompat != 0)
        return fail(error, EXIT_DATA,
                    "the file needs features %llx, which this version (%d.%d) lacks; it was written by '%s' [H9]",
                    (unsigned long long)h->incompat, CKPT_MAJOR, CKPT_MINOR, h->writer);
    if (h->kind == 2 || h->kind == 3)
        return fail(error, EXIT_DATA,
                    "the file is a piece of a sharded checkpoint; this version reads single files [H10]");
    if (h->kind != 1) return fail(error, EXIT_DATA, "the kind of file is %u (expected 1) [H10]", h->kind);
    if (h->stage > STAGE_IMPORTED)
        return fail(error, EXIT_DATA, "the stage is %u (expected 0 to %d) [H10]", h->stage, STAGE_IMPORTED);
    if (h->flags & ~(uint32_t)(CKPT_TRAINING_STATE | CKPT_RESUMABLE | CKPT_FINAL))
        return fail(error, EXIT_DATA, "the header has the unknown flags %x [H10]", h->flags);
    if (h->shard_index != 0 || h->shard_count != 1)
        return fail(error, EXIT_DATA, "a single file says it is shard %u of %u [H11]", h->shard_index, h->shard_count);
    return 0;
}

static int check_table_place(const struct header *h, struct error *error)
{
    if (h->section_count < 1 || h->section_count > CKPT_MAX_SECTIONS)
        return fail(error, EXIT_DATA, "the file has %u sections (expected 1 to %d) [H12]", h->section_count,
                    CKPT_MAX_SECTIONS);
    if (h->section_entry < CKPT_SECTION_ENTRY || h->section_entry > CKPT_SECTION_ENTRY_MAX || h->section_entry % 8 != 0)
        return fail(error, EXIT_DATA, "a section entry has %u bytes (expected 64 to 256) [H12]", h->section_entry);
    uint64_t table = (uint64_t)h->section_count * h->section_entry, padded = (table + CKPT_PAGE - 1) & ~(CKPT_PAGE - 1);
    if (h->table_offset % CKPT_PAGE != 0 || h->table_offset < CKPT_PAGE || h->table_offset > h->file_size ||
        h->file_size - h->table_offset != padded)
        return fail(error, EXIT_DATA, "the section table at %llu does not end the file of %llu bytes [H12]",
                    (unsigned long long)h->table_offset, (unsigned long long)h->file_size);
    return 0;
}

int header_decode(struct header *h, const uint8_t page[4096], uint64_t file_size, struct error *error)
{
    struct header new;
    if (check_identity(page, error) != 0) return -1;
    header_fields(&new, page);
    for (int i = 0, end = 0; i < 32; i++) {
        char c = new.writer[i];
        if (c == 0) end = 1;
        else if (end || c < 0x20 || c > 0x7E)
            return fail(error, EXIT_DATA, "the writer's name is not printable ASCII [H13]");
    }
    if (new.major != CKPT_MAJOR)
        return fail(error, EXIT_DATA,
                    "the file has format version %u.%u, written by '%s'; this program reads version %d [H5]",
                    new.major, new.minor, new.writer, CKPT_MAJOR);
    if (load32(page + 16) != CKPT_PAGE)
        return fail(error, EXIT_DATA, "the header has %u bytes (expected 4096) [H5]", load32(page + 16));
    if (!all_zero(page + 128, 16) || !all_zero(page + 216, 36) || !all_zero(page + 256, CKPT_PAGE - 256))
        return fail(error, EXIT_DATA, "reserved bytes of the header are not zero [H6]");
    if (new.file_size < file_size)
        return fail(error, EXIT_DATA, "the file has %llu bytes, its header says %llu: something was appended [H7]",
                    (unsigned long long)file_size, (unsigned long long)new.file_size);
    if (new.file_size > file_size)
        return fail(error, EXIT_DATA, "the file has %llu bytes, its header says %llu: it is truncated [H7]",
                    (unsigned long long)file_size, (unsigned long long)new.file_size);
    if (check_range(&new, error) != 0 || check_table_place(&new, error) != 0) return -1;
    *h = new;
    return 0;
}

/* ---- section table ---- */

void table_encode(uint8_t *out, const struct section *section, size_t count)
{
    memset(out, 0, count * CKPT_SECTION_ENTRY);
    for (size_t i = 0; i < count; i++, out += CKPT_SECTION_ENTRY) {
        const struct section *s = &section[i];
        memcpy(out, s->type, 4);
        store32(out + 4, s->flags);
        store64(out + 8, s->offset);
        store64(out + 16, s->stored);
        store64(out + 24, s->raw);
        store32(out + 32, s->crc);
        store16(out + 36, s->codec);
        store16(out + 38, s->version);
        store32(out + 40, s->instance);
    }
}

/* What one entry says by itself.  end: where the section before ended. */
static int check_section(const struct section *s, const uint8_t *p, uint64_t end, uint64_t table, struct error *error)
{
    for (int i = 0; i < 4; i++)
        if (p[i] < 'A' || p[i] > 'Z') return fail(error, EXIT_DATA, "a section type is not four capital letters [S6]");
    if (s->flags & ~(uint32_t)(SECTION_CRITICAL | SECTION_SAFE_TO_COPY))
        return fail(error, EXIT_DATA, "section %s has the unknown flags %x [S7]", s->type, s->flags);
    if (load32(p + 44) != 0 || !all_zero(p + 48, 16))
        return fail(error, EXIT_DATA, "section %s has reserved bytes that are not zero [S7]", s->type);
    if (s->offset % CKPT_PAGE != 0 || s->offset < end || s->offset < CKPT_PAGE || s->offset >= table)
        return fail(error, EXIT_DATA,
                    "section %s starts at %llu (expected a multiple of 4096 from %llu on, before %llu) [S2]", s->type,
                    (unsigned long long)s->offset, (unsigned long long)end, (unsigned long long)table);
    if (s->stored < 1 || s->stored > table - s->offset)
        return fail(error, EXIT_DATA, "section %s has %llu bytes, %llu are left for it [S3]", s->type,
                    (unsigned long long)s->stored, (unsigned long long)(table - s->offset));
    if (s->offset - end >= CKPT_PAGE)
        return fail(error, EXIT_DATA, "there is a hole of %llu bytes before section %s [S4]",
                    (unsigned long long)(s->offset - end), s->type);
    const struct section_facts *facts = section_facts(s->type);
    uint64_t limit = facts ? facts->limit : CKPT_MAX_METADATA;
    if (s->codec > CODEC_ZLIB || (s->codec == CODEC_NONE && s->raw != s->stored) || s->raw > limit ||
        s->stored > limit ||
        (s->codec == CODEC_ZLIB && (limit == CKPT_MAX_FILE || s->raw > CKPT_MAX_INFLATE * s->stored + 64)))
        return fail(error, EXIT_DATA,
                    "section %s: codec %u, %llu bytes stored, %llu raw do not go together (limit %llu) [S8]", s->type,
                    s->codec, (unsigned long long)s->stored, (unsigned long long)s->raw, (unsigned long long)limit);
    if (facts && (s->instance != 0 || s->version != 0))
        return fail(error, EXIT_DATA, "section %s has instance %u, version %u (expected 0, 0) [S7]", s->type,
                    s->instance, s->version);
    return 0;
}

static int by_type(const void *a, const void *b)
{
    const struct section *x = a, *y = b;
    int order = memcmp(x->type, y->type, 4);
    return order ? order : (x->instance > y->instance) - (x->instance < y->instance);
}

/* Unique (S5); all that must be there, there (S10). */
static int check_set(const struct section *section, size_t count, struct error *error)
{
    struct section *sorted = host_alloc(count, sizeof *sorted);
    memcpy(sorted, section, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_type);
    int status = 0;
    bool index = false, data = false;
    for (size_t i = 0; i < count && status == 0; i++) {
        index |= strcmp(sorted[i].type, "TIDX") == 0;
        data |= strcmp(sorted[i].type, "TDAT") == 0;
        if (i && by_type(&sorted[i - 1], &sorted[i]) == 0)
            status = fail(error, EXIT_DATA, "there are two sections %s of instance %u [S5]", sorted[i].type,
                          sorted[i].instance);
    }
    free(sorted);
    if (status == 0 && !(index && data))
        return fail(error, EXIT_DATA, "the section %s is missing [S10]", index ? "TDAT" : "TIDX");
    return status;
}

int table_decode(struct section **out, const uint8_t *table, const struct header *h, struct error *error)
{
    uint32_t crc = crc32_of(0, table, (size_t)h->section_count * h->section_entry);
    if (crc != h->table_crc)
        return fail(error, EXIT_DATA, "the section table is corrupt (CRC %08x, expected %08x) [S1]", crc, h->table_crc);
    struct section *section = host_alloc(h->section_count, sizeof *section);
    uint64_t end = CKPT_PAGE;
    int status = 0;
    for (uint32_t i = 0; i < h->section_count && status == 0; i++) {
        const uint8_t *p = table + (size_t)i * h->section_entry;
        struct section *s = &section[i];
        *s = (struct section){.flags = load32(p + 4), .offset = load64(p + 8), .stored = load64(p + 16),
                              .raw = load64(p + 24),
                              .crc = load32(p + 32), .codec = load16(p + 36), .version = load16(p + 38),
                              .instance = load32(p + 40)};
        memcpy(s->type, p, 4);
        status = check_section(s, p, end, h->table_offset, error);
        end = s->offset + s->stored;
    }
    if (status == 0 && h->table_offset - end >= CKPT_PAGE)
        status = fail(error, EXIT_DATA, "there is a hole of %llu bytes before the section table [S4]",
                      (unsigned long long)(h->table_offset - end));
    if (status == 0) status = check_set(section, h->section_count, error);
    if (status != 0) free(section);
    else *out = section;
    return status;
}
