/* reader.c - opens a checkpoint and believes nothing: every number is held against the file's real size and the limits
 * before it is used, metadata is copied to private memory, checked there and used from there only. */
#define _GNU_SOURCE
#include "format/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

int input_read(const struct input *in, void *out, uint64_t offset, size_t size, struct error *error)
{
    if (offset > in->size || size > in->size - offset)
        return fail(error, EXIT_IO, "%zu bytes at %" PRIu64 " are not there", size, offset);
    if (in->memory) {
        memcpy(out, in->memory + offset, size);
        return 0;
    }
    if (file_read_at(in->fd, out, offset, size) == 0) return 0;
    return fail(error, EXIT_IO, "reading %zu bytes at byte %" PRIu64 " failed: %s", size, offset,
                errno ? strerror(errno) : "the file became shorter while being read");
}

int input_used(const struct input *in, uint64_t from, uint64_t to, struct error *error)
{
    uint8_t block[CKPT_PAGE];
    for (size_t n; from < to; from += n) {
        n = to - from < sizeof block ? (size_t)(to - from) : sizeof block;
        if (input_read(in, block, from, n, error) != 0) return -1;
        if (!all_zero(block, n)) return 1;
    }
    return 0;
}

void problems_add(struct problems *p, const struct error *error)
{
    p->exit_code = error->exit_code;
    p->count++;
    if (p->kept < PROBLEMS_KEPT) p->text[p->kept++] = host_text("%s", error->text);
}

void problems_free(struct problems *p)
{
    for (int i = 0; i < p->kept; i++) free(p->text[i]);
    *p = (struct problems){0};
}

/* 0 when opening may continue, -1 when the first problem ends it. */
static int problem(struct problems *problems, const struct error *error)
{
    if (!problems) return -1;
    problems_add(problems, error);
    return 0;
}

/* Pages of the promised size are touched only as bytes come out. */
static int inflate_section(struct bytes *out, const struct bytes *in, const struct section *s, struct error *error)
{
    uLong raw = (uLong)s->raw, stored = (uLong)in->size;
    *out = (struct bytes){host_alloc(s->raw + 1, 1), s->raw, s->raw + 1};
    if (uncompress2((Bytef *)out->data, &raw, (const Bytef *)in->data, &stored) == Z_OK && raw == s->raw &&
        stored == in->size) return 0;
    return corrupt(error, "section %s does not inflate to its %" PRIu64 " bytes [S12]", s->type, s->raw);
}

int section_read(struct bytes *out, const struct ckpt *c, const struct section *s, struct error *error)
{
    struct bytes stored = {host_alloc(s->stored + 1, 1), s->stored, s->stored + 1}, raw = {0};
    int status = input_read(&c->input, stored.data, s->offset, stored.size, error);
    uint32_t crc = crc32_of(0, stored.data, stored.size);
    if (status == 0 && crc != s->crc)
        status = corrupt(error, "section %s is corrupt (CRC %08x, expected %08x) [S9]", s->type, crc, s->crc);
    if (status == 0 && s->codec == CODEC_ZLIB) {
        status = inflate_section(&raw, &stored, s, error);
        bytes_free(&stored);
        stored = raw;
    }
    if (status != 0) bytes_free(&stored);
    else *out = stored;
    return status;
}

/* ---- opening ---- */

static int read_header(struct header *h, const struct input *in, struct error *error)
{
    uint8_t page[CKPT_PAGE];
    if (in->size == 0) return corrupt(error, "the file is empty [H1]");
    memset(page, 0, sizeof page);
    if (input_read(in, page, 0, in->size < CKPT_PAGE ? (size_t)in->size : CKPT_PAGE, error) != 0) return -1;
    if (in->size < 2 * CKPT_PAGE || in->size % CKPT_PAGE != 0 || in->size > CKPT_MAX_FILE) {
        bool ours = memcmp(page, CKPT_SIGNATURE, 8) == 0;
        return corrupt(error, ours ? "the file has %" PRIu64 " bytes, no multiple of 4096: it is truncated, or "
                       "something was appended [H1]" : "this is not a checkpoint (%" PRIu64 " bytes) [H1]", in->size);
    }
    return header_decode(h, page, in->size, error);
}

static int read_table(struct ckpt *c, struct error *error)
{
    size_t size = (size_t)(c->header.file_size - c->header.table_offset),
           used = (size_t)c->header.section_count * c->header.section_entry;
    uint8_t *table = host_alloc(size, 1);
    int status = input_read(&c->input, table, c->header.table_offset, size, error);
    if (status == 0 && !all_zero(table + used, size - used))
        status = corrupt(error, "the padding after the section table is not zero [H12]");
    if (status == 0) status = table_decode(&c->section, table, &c->header, error);
    free(table);
    return status;
}

/* A section's bytes, understood.  CCRC and STAT need the index and come in the second round. */
static int take_section(struct ckpt *c, const struct section *s, bool second, struct error *error)
{
    const struct section_facts *facts = section_facts(s->type);
    bool late = section_is(s, "CCRC") || section_is(s, "STAT");
    if (s == c->tdat || late != second) return 0;
    if (!facts && s->flags & SECTION_CRITICAL)
        return corrupt(error, "section %s is unknown here but must be understood; the file was written by '%s', a "
                       "newer version is needed [S11]", s->type, c->header.meta.writer);
    struct bytes b = {0};
    if (section_read(&b, c, s, error) != 0) return -1;
    int status = 0;
    if (facts && facts->kv >= 0) status = kv_decode(&c->header.meta.kv[facts->kv], b.data, b.size, error);
    else if (section_is(s, "TIDX"))
        status = index_decode(&c->index, b.data, b.size, c->tdat->stored, c->header.align, error);
    else if (section_is(s, "CCRC") && c->index.count)
        status = chunks_decode(&c->chunk_crc, b.data, b.size, &c->index, error);
    else if (section_is(s, "STAT") && c->index.count)
        status = stats_decode(&c->stats, b.data, b.size, &c->index, error);
    else if (section_is(s, "TOKN")) {
        c->header.meta.tokn = b;
        b = (struct bytes){0};
    }
    bytes_free(&b);
    return status == 0 ? 0 : fail_in(error, "section %s", s->type);
}

/* The CRC of a whole tensor follows from those of its chunks. */
static int check_chunks(const struct ckpt *c, struct error *error)
{
    if (!c->chunk_crc) return 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[i];
        uint64_t chunks = tensor_chunks(t->bytes);
        uint32_t crc = 0;
        for (uint64_t k = 0; k < chunks; k++) {
            uint64_t size = k + 1 < chunks ? CKPT_CHUNK : t->bytes - k * CKPT_CHUNK;
            crc = (uint32_t)crc32_combine(crc, c->chunk_crc[t->first_chunk + k], (z_off_t)size);
        }
        if (crc != t->crc)
            return corrupt(error, "tensor %s: its CRC %08x does not follow from those of its chunks (%08x) [CC3]",
                           t->name, t->crc, crc);
    }
    return 0;
}

static int check_gaps(const struct ckpt *c, struct problems *problems, struct error *error)
{
    uint64_t end = CKPT_PAGE;
    for (uint32_t i = 0; i <= c->header.section_count; i++) {
        const struct section *s = i < c->header.section_count ? &c->section[i] : NULL;
        int used = input_used(&c->input, end, s ? s->offset : c->header.table_offset, error);
        if (used == 1)
            corrupt(error, "the padding before %s, at byte %" PRIu64 ", is not zero [S4]",
                    s ? s->type : "the section table", end);
        if (used != 0 && problem(problems, error) != 0) return -1;
        if (s) end = s->offset + s->stored;
    }
    return 0;
}

static int open_parts(struct ckpt *c, struct problems *problems, struct error *error)
{
    if (read_header(&c->header, &c->input, error) != 0 || read_table(c, error) != 0) return -1;
    for (uint32_t i = 0; i < c->header.section_count; i++)
        if (section_is(&c->section[i], "TDAT")) c->tdat = &c->section[i];
    if (check_gaps(c, problems, error) != 0) return -1;
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < c->header.section_count; i++)
            if (take_section(c, &c->section[i], round == 1, error) != 0 && problem(problems, error) != 0) return -1;
    if (c->tdat->crc != 0) {
        corrupt(error, "section TDAT has a CRC of its own (%08x, expected 0) [S9]", c->tdat->crc);
        if (problem(problems, error) != 0) return -1;
    }
    return check_chunks(c, error) == 0 ? 0 : problem(problems, error);
}

int reader_open(struct ckpt **out, const struct input *in, const char *path, struct problems *problems,
                struct error *error)
{
    struct ckpt *c = host_alloc(1, sizeof *c);
    struct error local;
    if (!error) error = &local;
    *out = NULL;
    c->input = *in;
    c->path = host_text("%s", path);
    if (open_parts(c, problems, error) != 0) {
        fail_in(error, "%s", path);
        ckpt_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

static int open_path(struct input *in, const char *path, struct error *error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(error, errno == EIO ? EXIT_IO : EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return corrupt(error, "%s: not a regular file [H1]", path);
    }
    *in = (struct input){.fd = fd, .size = (uint64_t)st.st_size};
    return 0;
}

int reader_open_file(struct ckpt **out, const char *path, struct problems *problems, struct error *error)
{
    struct input in;
    *out = NULL;
    if (open_path(&in, path, error) != 0) return -1;
    if (reader_open(out, &in, path, problems, error) != 0) {
        close(in.fd);
        return -1;
    }
    (*out)->owns_fd = true;
    return 0;
}

int reader_header(struct header *h, const char *path, struct error *error)
{
    struct input in;
    if (open_path(&in, path, error) != 0) return -1;
    int status = read_header(h, &in, error);
    close(in.fd);
    return status == 0 ? 0 : fail_in(error, "%s", path);
}

int ckpt_open(struct ckpt **out, const char *path, struct error *error)
{
    if (folder_is(path)) return run_newest(out, path, true, error) == 1 ? 0 : -1;
    return reader_open_file(out, path, NULL, error);
}

void ckpt_meta_free(struct ckpt_meta *m)
{
    for (int i = 0; i < CKPT_KV_SECTIONS; i++) kv_free(&m->kv[i]);
    bytes_free(&m->tokn);
}

void ckpt_close(struct ckpt *c)
{
    if (!c) return;
    if (c->owns_fd) close(c->input.fd);
    if (c->outside.close) c->outside.close(c->outside.self);
    ckpt_meta_free(&c->header.meta);
    index_free(&c->index);
    free(c->section);
    free(c->chunk_crc);
    free(c->stats);
    free(c->path);
    free(c);
}

const struct ckpt_meta *ckpt_meta_of(const struct ckpt *c) { return &c->header.meta; }
const char *ckpt_path(const struct ckpt *c) { return c->path; }
size_t ckpt_tensor_count(const struct ckpt *c) { return c->index.count; }
const struct ckpt_tensor *ckpt_tensor_at(const struct ckpt *c, size_t i) { return &c->index.tensor[i]; }
int64_t ckpt_find(const struct ckpt *c, const char *name, enum role role) { return index_find(&c->index, name, role); }
