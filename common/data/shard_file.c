/* shard_file.c - tokens are streamed out as they come and the index follows them, so a shard of any size is written
 * in a few MiB of memory; the header is written last, so half a shard has no signature.  Reading is by pread and not
 * by a mapping: memory stays what was planned, and a file that someone cuts short gives a sentence instead of a
 * signal. */
#include "common/data/shard_file.h"

#include "common/base/le.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 192, ENTRY = 24, SOURCE = 24, FLUSH = 1 << 20, VERSION = 1, BLOCK = 1 << 20 };
static const char signature[8] = "QSHARD\r\n";
static const uint64_t sources_limit = 1u << 28;

static uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

/* ---- writing ---- */

struct shard_writer {
    int file, id_bytes;
    char *path, *temporary;
    struct bytes buffer, index;         /* tokens not yet written; entries */
    uint64_t at;                        /* where the buffer belongs */
    uint64_t sources_length, tokens, documents, bytes;
    uint32_t sources_crc, tokens_crc;
    int failed;                         /* errno of the first write that failed */
};

static void write_at(struct shard_writer *w, const void *data, size_t size, uint64_t at)
{
    if (!w->failed && file_write_at(w->file, data, at, size) != 0) w->failed = errno;
}

static void flush_tokens(struct shard_writer *w)
{
    w->tokens_crc = crc32_of(w->tokens_crc, w->buffer.data, w->buffer.size);
    write_at(w, w->buffer.data, w->buffer.size, w->at);
    w->at += w->buffer.size;
    w->buffer.size = 0;
}

/* Padding belongs to the section before it, and to its checksum: no byte of a shard is unguarded. */
static void add_zeros(struct bytes *b, uint64_t n)
{
    static const char zeros[64];
    bytes_add(b, zeros, n);
}

int shard_create(struct shard_writer **out, const char *path, int id_bytes, const struct shard_source *source,
                 int n_sources, struct error *error)
{
    char *temporary = host_text("%s.tmp", path);
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        fail(error, EXIT_IO, "cannot create %s: %s", temporary, strerror(errno));
        free(temporary);
        return -1;
    }
    struct shard_writer *w = *out = host_alloc(1, sizeof *w);
    w->file = file;
    w->id_bytes = id_bytes;
    w->path = host_text("%s", path);
    w->temporary = temporary;
    struct bytes table = {0};
    for (int i = 0; i < n_sources; i++) {
        unsigned char entry[SOURCE];
        store64(entry, source[i].size);
        store64(entry + 8, (uint64_t)source[i].mtime);
        store32(entry + 16, source[i].crc);
        store32(entry + 20, (uint32_t)strlen(source[i].path));
        bytes_add(&table, entry, sizeof entry);
        bytes_add(&table, source[i].path, strlen(source[i].path));
    }
    w->sources_length = table.size;
    add_zeros(&table, round_up(HEADER + table.size, 64) - HEADER - table.size);
    w->sources_crc = crc32_of(0, table.data, table.size);
    write_at(w, table.data, table.size, HEADER);
    w->at = HEADER + table.size;
    bytes_free(&table);
    return 0;
}

void shard_add(struct shard_writer *w, const int *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char id[4];
        store32(id, (uint32_t)ids[i]);
        bytes_add(&w->buffer, id, (size_t)w->id_bytes);
    }
    w->tokens += n;
    if (w->buffer.size >= FLUSH) flush_tokens(w);
}

void shard_end_document(struct shard_writer *w, uint64_t bytes, uint32_t hash)
{
    unsigned char entry[ENTRY] = {0};
    w->bytes += bytes;
    w->documents++;
    store64(entry, w->tokens);
    store64(entry + 8, w->bytes);
    store32(entry + 16, hash);
    bytes_add(&w->index, entry, sizeof entry);
}

uint64_t shard_written(const struct shard_writer *w) { return w->tokens; }

static void writer_free(struct shard_writer *w)
{
    bytes_free(&w->buffer);
    bytes_free(&w->index);
    free(w->path);
    free(w->temporary);
    free(w);
}

void shard_abandon(struct shard_writer *w)
{
    if (!w) return;
    close(w->file);
    unlink(w->temporary);
    writer_free(w);
}

static void write_header(struct shard_writer *w, const struct shard_info *info, uint64_t index_at)
{
    unsigned char header[HEADER] = {0};
    memcpy(header, signature, 8);
    store32(header + 8, VERSION);
    store32(header + 12, (uint32_t)w->id_bytes);
    store32(header + 16, info->part);
    store32(header + 20, info->last);
    store32(header + 24, info->rules);
    store32(header + 28, info->tokenizer);
    store64(header + 32, info->tokenizer_length);
    store64(header + 40, w->documents);
    store64(header + 48, w->tokens);
    store64(header + 56, w->sources_length);
    store64(header + 64, index_at);
    store64(header + 72, index_at + w->index.size);
    store32(header + 80, w->sources_crc);
    store32(header + 84, w->tokens_crc);
    store32(header + 88, crc32_of(0, w->index.data, w->index.size));
    store64(header + 96, info->counts.bytes);
    store64(header + 104, info->counts.boms);
    store64(header + 112, info->counts.carriage_returns);
    store64(header + 120, info->counts.invalid);
    store32(header + HEADER - 4, crc32_of(0, header, HEADER - 4));
    write_at(w, header, HEADER, 0);
}

int shard_commit(struct shard_writer *w, const struct shard_info *info, struct error *error)
{
    uint64_t end = w->at + w->buffer.size;
    add_zeros(&w->buffer, round_up(end, 8) - end);
    flush_tokens(w);
    uint64_t index_at = w->at;
    write_at(w, w->index.data, w->index.size, index_at);
    write_header(w, info, index_at);
    if (!w->failed && fsync(w->file) != 0) w->failed = errno;
    if (close(w->file) != 0 && !w->failed) w->failed = errno;
    if (!w->failed && rename(w->temporary, w->path) != 0) w->failed = errno;
    int status = 0;
    if (w->failed) {
        unlink(w->temporary);
        status = fail(error, EXIT_IO, "cannot write %s: %s", w->path, strerror(w->failed));
    }
    writer_free(w);
    return status;
}

/* ---- reading ---- */

static int bad(const struct shard *s, struct error *error, const char *what)
{
    return fail(error, EXIT_DATA, "%s is damaged: %s", s->path, what);
}

static int check_header(struct shard *s, const unsigned char *h, uint64_t size, struct error *error)
{
    struct shard_info *info = &s->info;
    if (memcmp(h, signature, 8) != 0) return bad(s, error, "no signature");
    if (load32(h + HEADER - 4) != crc32_of(0, h, HEADER - 4))
        return bad(s, error, "the checksum of its header is wrong");
    if (load32(h + 8) != VERSION)
        return fail(error, EXIT_DATA, "%s has version %u, expected %d", s->path, load32(h + 8), VERSION);
    *info = (struct shard_info){
        .id_bytes = (int)load32(h + 12), .part = load32(h + 16), .last = load32(h + 20) != 0,
        .rules = load32(h + 24), .tokenizer = load32(h + 28), .tokenizer_length = load64(h + 32),
        .documents = load64(h + 40), .tokens = load64(h + 48),
        .counts = {load64(h + 96), load64(h + 104), load64(h + 112), load64(h + 120)}};
    uint64_t sources = load64(h + 56);
    s->tokens_at = round_up(HEADER + sources, 64);
    s->index_at = load64(h + 64);
    s->tokens_crc = load32(h + 84);
    s->index_crc = load32(h + 88);
    if (load64(h + 72) != size) return bad(s, error, "its length is not the one in its header");
    if ((info->id_bytes != 2 && info->id_bytes != 4) || sources > sources_limit || info->tokens > size / 2 ||
        info->documents > size / ENTRY ||
        s->index_at != round_up(s->tokens_at + info->tokens * (uint64_t)info->id_bytes, 8) ||
        s->index_at + info->documents * ENTRY != size)
        return bad(s, error, "the sizes in its header do not agree");
    return 0;
}

static int read_sources(struct shard *s, uint64_t length, uint32_t crc, struct error *error)
{
    size_t padded = s->tokens_at - HEADER;
    unsigned char *table = host_alloc(padded + 1, 1);
    int status = file_read_at(s->file, table, HEADER, padded);
    if (status != 0 || crc32_of(0, table, padded) != crc)
        status = bad(s, error, "the checksum of its list of sources is wrong");
    for (uint64_t at = 0; status == 0 && at < length;) {
        uint64_t name = length - at >= SOURCE ? load32(table + at + 20) : length;
        if (SOURCE + name > length - at) {
            status = bad(s, error, "its list of sources is cut");
            break;
        }
        s->source = host_append(s->source, (size_t)s->n_sources, 1, sizeof *s->source);
        s->source[s->n_sources++] = (struct shard_source){
            host_text("%.*s", (int)name, (char *)table + at + SOURCE), load64(table + at),
            (int64_t)load64(table + at + 8), load32(table + at + 16)};
        at += SOURCE + name;
    }
    free(table);
    return status;
}

int shard_open(struct shard *s, const char *path, struct error *error)
{
    unsigned char header[HEADER];
    struct stat file;
    *s = (struct shard){.file = open(path, O_RDONLY | O_CLOEXEC)};
    if (s->file < 0) return fail(error, EXIT_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    s->path = host_text("%s", path);
    int status = 0;
    if (fstat(s->file, &file) != 0 || file.st_size < HEADER || file_read_at(s->file, header, 0, HEADER) != 0)
        status = bad(s, error, "it is shorter than a header");
    if (status == 0) status = check_header(s, header, (uint64_t)file.st_size, error);
    if (status == 0) status = read_sources(s, load64(header + 56), load32(header + 80), error);
    if (status != 0) shard_close(s);
    return status;
}

void shard_close(struct shard *s)
{
    if (!s->path) return;
    close(s->file);
    for (int i = 0; i < s->n_sources; i++) free(s->source[i].path);
    free(s->source);
    free(s->path);
    *s = (struct shard){0};
}

/* Ids of n tokens at raw (of 2 or 4 bytes) into out. */
static void decode(int *out, const unsigned char *raw, size_t n, int id_bytes)
{
    if (id_bytes == 2)
        for (size_t i = 0; i < n; i++) out[i] = load16(raw + 2 * i);
    else
        for (size_t i = 0; i < n; i++) out[i] = (int)load32(raw + 4 * i);
}

static int verify_tokens(const struct shard *s, int vocab, struct error *error)
{
    size_t width = (size_t)s->info.id_bytes;
    uint32_t crc = 0, top = 0;
    unsigned char *raw = host_alloc(BLOCK, 1);
    int *ids = host_alloc(BLOCK / width, sizeof *ids);
    int status = 0;
    for (uint64_t at = s->tokens_at; at < s->index_at && status == 0;) {
        size_t n = s->index_at - at < BLOCK ? (size_t)(s->index_at - at) : BLOCK;
        status = file_read_at(s->file, raw, at, n);
        crc = crc32_of(crc, raw, n);
        decode(ids, raw, n / width, s->info.id_bytes);
        for (size_t i = 0; i < n / width; i++) top = (uint32_t)ids[i] > top ? (uint32_t)ids[i] : top;
        at += n;
    }
    free(raw);
    free(ids);
    if (status != 0) return bad(s, error, "its tokens cannot be read");
    if (crc != s->tokens_crc) return bad(s, error, "the checksum of its tokens is wrong");
    if (top >= (uint32_t)vocab) return bad(s, error, "it holds a token outside the vocabulary");
    return 0;
}

static int verify_index(const struct shard *s, struct error *error)
{
    uint64_t left = s->info.documents, at = s->index_at, tokens = 0, bytes = 0;
    unsigned char *raw = host_alloc(BLOCK / ENTRY, ENTRY);
    uint32_t crc = 0;
    bool ascending = true;
    int status = 0;
    while (left > 0 && status == 0) {
        size_t n = left < BLOCK / ENTRY ? (size_t)left : BLOCK / ENTRY;
        status = file_read_at(s->file, raw, at, n * ENTRY);
        crc = crc32_of(crc, raw, n * ENTRY);
        for (size_t i = 0; i < n; i++) {
            uint64_t token_end = load64(raw + i * ENTRY), byte_end = load64(raw + i * ENTRY + 8);
            ascending = ascending && token_end > tokens && byte_end >= bytes;
            tokens = token_end;
            bytes = byte_end;
        }
        left -= n;
        at += n * ENTRY;
    }
    free(raw);
    if (status != 0) return bad(s, error, "its index cannot be read");
    if (crc != s->index_crc) return bad(s, error, "the checksum of its index is wrong");
    if (!ascending || tokens != s->info.tokens) return bad(s, error, "its index does not fit its tokens");
    return 0;
}

int shard_verify(const struct shard *s, int vocab, struct error *error)
{
    return verify_index(s, error) != 0 ? -1 : verify_tokens(s, vocab, error);
}

static void read_or_die(const struct shard *s, void *data, size_t size, uint64_t at)
{
    if (file_read_at(s->file, data, at, size) != 0)
        quit(EXIT_IO, "cannot read %s at byte %llu: %s", s->path, (unsigned long long)at,
             errno ? strerror(errno) : "it has been cut short");
}

void shard_entries(const struct shard *s, struct shard_entry *out, uint64_t first, size_t n)
{
    unsigned char raw[64 * ENTRY];
    assert(first + n <= s->info.documents);
    for (size_t k; n > 0; first += k, out += k, n -= k) {
        k = n < 64 ? n : 64;
        read_or_die(s, raw, k * ENTRY, s->index_at + first * ENTRY);
        for (size_t i = 0; i < k; i++) {
            const unsigned char *from = raw + i * ENTRY;
            out[i] = (struct shard_entry){.token_end = load64(from), .hash = load32(from + 16)};
        }
    }
}

void shard_tokens(const struct shard *s, int *out, uint64_t first, size_t n)
{
    unsigned char raw[16384];
    size_t width = (size_t)s->info.id_bytes;
    assert(first + n <= s->info.tokens);
    for (size_t k; n > 0; first += k, out += k, n -= k) {
        k = n < sizeof raw / width ? n : sizeof raw / width;
        read_or_die(s, raw, k * width, s->tokens_at + first * width);
        decode(out, raw, k, s->info.id_bytes);
    }
}
