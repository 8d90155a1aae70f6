/* shard_file.c - tokens are streamed out as they come and the index follows them, so a shard of any size is written
 * in a few MiB of memory; the header is written last, so half a shard has no signature.  Reading is by pread and not
 * by a mapping: memory stays what was planned, and a file that someone cuts short gives a sentence instead of a
 * signal.  A block of tokens is checked when it is read for the first time. */
#include "common/data/shard_file.h"

#include "common/base/le.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 192, ENTRY = 24, SOURCE = 24, FLUSH = 1 << 20, VERSION = 2, BLOCK = 1 << 20,
       SPAN = 1 << 14 };                /* bytes of tokens that share a checksum */
static const char signature[8] = "QSHARD\r\n";
static const uint64_t sources_limit = 1u << 28;

static uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

/* ---- writing ---- */

struct shard_writer {
    int file, id_bytes;
    char *path, *temporary;
    struct bytes buffer, index, sums;   /* tokens not yet written; entries; checksums of whole spans */
    uint64_t at;                        /* where the buffer belongs */
    uint64_t sources_length, tokens, documents, bytes;
    uint32_t sources_crc, tokens_crc, span_crc;
    size_t in_span;                     /* bytes in span_crc */
    int failed;                         /* errno of the first write that failed */
};

static void write_at(struct shard_writer *w, const void *data, size_t size, uint64_t at)
{
    if (!w->failed && file_write_at(w->file, data, at, size) != 0) w->failed = errno;
}

static void end_span(struct shard_writer *w)
{
    unsigned char sum[4];
    store32(sum, w->span_crc);
    bytes_add(&w->sums, sum, sizeof sum);
    w->span_crc = 0;
    w->in_span = 0;
}

static void flush_tokens(struct shard_writer *w)
{
    for (size_t at = 0, n; at < w->buffer.size; at += n) {
        n = w->buffer.size - at < SPAN - w->in_span ? w->buffer.size - at : SPAN - w->in_span;
        w->span_crc = crc32_of(w->span_crc, w->buffer.data + at, n);
        w->in_span += n;
        if (w->in_span == SPAN) end_span(w);
    }
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
    bytes_free(&w->sums);
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

/* The fraction of a second in a shard's time of change says that nothing was written into it since: whole microseconds,
 * which every file system keeps that keeps more than seconds. */
static long fraction_of(const unsigned char *header) { return load32(header + HEADER - 4) % 1000000 * 1000l; }

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
    store64(header + 72, index_at + w->index.size + w->sums.size);
    store32(header + 80, w->sources_crc);
    store32(header + 84, w->tokens_crc);
    store32(header + 88, crc32_of(0, w->index.data, w->index.size));
    store32(header + 92, crc32_of(0, w->sums.data, w->sums.size));
    store64(header + 96, info->counts.bytes);
    store64(header + 104, info->counts.boms);
    store64(header + 112, info->counts.carriage_returns);
    store64(header + 120, info->counts.invalid);
    store32(header + HEADER - 4, crc32_of(0, header, HEADER - 4));
    write_at(w, header, HEADER, 0);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {time(NULL), fraction_of(header)}};
    (void)futimens(w->file, times);         /* without it every start reads the shard */
}

int shard_commit(struct shard_writer *w, const struct shard_info *info, struct error *error)
{
    uint64_t end = w->at + w->buffer.size;
    add_zeros(&w->buffer, round_up(end, 8) - end);
    flush_tokens(w);
    if (w->in_span) end_span(w);
    uint64_t index_at = w->at;
    write_at(w, w->index.data, w->index.size, index_at);
    write_at(w, w->sums.data, w->sums.size, index_at + w->index.size);
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

static int check_header(struct shard *s, const unsigned char *h, const struct stat *file, struct error *error)
{
    uint64_t size = (uint64_t)file->st_size;
    struct shard_info *info = &s->info;
    if (memcmp(h, signature, 8) != 0) return bad(s, error, "no signature");
    if (load32(h + HEADER - 4) != crc32_of(0, h, HEADER - 4))
        return bad(s, error, "the checksum of its header is wrong");
    uint32_t version = load32(h + 8);
    if (version != 1 && version != VERSION)
        return fail(error, EXIT_DATA, "%s has version %u, expected 1 to %d", s->path, version, VERSION);
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
        s->index_at != round_up(s->tokens_at + info->tokens * (uint64_t)info->id_bytes, 8))
        return bad(s, error, "the sizes in its header do not agree");
    if (version > 1) s->spans = (s->index_at - s->tokens_at + SPAN - 1) / SPAN;
    if (s->index_at + info->documents * ENTRY + 4 * s->spans != size)
        return bad(s, error, "the sizes in its header do not agree");
    s->as_written = version > 1 && file->st_mtim.tv_nsec == fraction_of(h);
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

static int read_sums(struct shard *s, uint32_t crc, struct error *error)
{
    uint64_t at = s->index_at + s->info.documents * ENTRY;
    unsigned char *raw = host_alloc(s->spans + 1, 4);
    int status = file_read_at(s->file, raw, at, 4 * s->spans);
    if (status != 0 || crc32_of(0, raw, 4 * s->spans) != crc)
        status = bad(s, error, "the checksum of its checksums is wrong");
    s->sum = host_alloc(s->spans + 1, sizeof *s->sum);
    s->checked = host_alloc(s->spans + 1, sizeof *s->checked);
    for (uint64_t i = 0; i < s->spans; i++) s->sum[i] = load32(raw + 4 * i);
    free(raw);
    return status;
}

int shard_open(struct shard *s, const char *path, int vocab, struct error *error)
{
    unsigned char header[HEADER];
    struct stat file;
    *s = (struct shard){.file = open(path, O_RDONLY | O_CLOEXEC), .vocab = vocab};
    if (s->file < 0) return fail(error, EXIT_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    s->path = host_text("%s", path);
    int status = 0;
    if (fstat(s->file, &file) != 0 || file.st_size < HEADER || file_read_at(s->file, header, 0, HEADER) != 0)
        status = bad(s, error, "it is shorter than a header");
    if (status == 0) status = check_header(s, header, &file, error);
    if (status == 0) status = read_sources(s, load64(header + 56), load32(header + 80), error);
    if (status == 0 && s->spans) status = read_sums(s, load32(header + 92), error);
    if (status != 0) shard_close(s);
    return status;
}

void shard_close(struct shard *s)
{
    if (!s->path) return;
    close(s->file);
    for (int i = 0; i < s->n_sources; i++) free(s->source[i].path);
    free(s->source);
    free(s->sum);
    free(s->checked);
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

/* The largest id of n tokens. */
static uint32_t top_id(const unsigned char *raw, size_t n, int id_bytes)
{
    uint32_t top = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = id_bytes == 2 ? load16(raw + 2 * i) : load32(raw + 4 * i);
        top = id > top ? id : top;
    }
    return top;
}

static int verify_tokens(const struct shard *s, struct error *error)
{
    uint32_t crc = 0, top = 0, more;
    unsigned char *raw = host_alloc(BLOCK, 1);
    int status = 0;
    for (uint64_t at = s->tokens_at; at < s->index_at && status == 0;) {
        size_t n = s->index_at - at < BLOCK ? (size_t)(s->index_at - at) : BLOCK;
        status = file_read_at(s->file, raw, at, n);
        crc = crc32_of(crc, raw, n);
        more = top_id(raw, n / (size_t)s->info.id_bytes, s->info.id_bytes);
        top = more > top ? more : top;
        at += n;
    }
    free(raw);
    if (status != 0) return bad(s, error, "its tokens cannot be read");
    if (crc != s->tokens_crc) return bad(s, error, "the checksum of its tokens is wrong");
    if (top >= (uint32_t)s->vocab) return bad(s, error, "it holds a token outside the vocabulary");
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

int shard_verify(const struct shard *s, struct error *error)
{
    if (verify_index(s, error) != 0) return -1;
    return s->as_written ? 0 : verify_tokens(s, error);
}

static int cannot_read(const struct shard *s, uint64_t at, struct error *error)
{
    return fail(error, EXIT_IO, "cannot read %s at byte %llu: %s", s->path, (unsigned long long)at,
                errno ? strerror(errno) : "it has been cut short");
}

void shard_entries(const struct shard *s, struct shard_entry *out, uint64_t first, size_t n)
{
    enum { MOST = 512 };
    unsigned char raw[MOST * ENTRY];
    struct error error;
    assert(first + n <= s->info.documents);
    for (size_t k; n > 0; first += k, out += k, n -= k) {
        k = n < MOST ? n : MOST;
        uint64_t at = s->index_at + first * ENTRY;
        if (file_read_at(s->file, raw, at, k * ENTRY) != 0) {
            cannot_read(s, at, &error);
            quit_error(&error);
        }
        for (size_t i = 0; i < k; i++) {
            const unsigned char *from = raw + i * ENTRY;
            out[i] = (struct shard_entry){.token_end = load64(from), .hash = load32(from + 16)};
        }
    }
}

/* A span that was not read before, whole and checked.  A damaged shard is removed, so that the next start makes it
 * anew: only its tokens are wrong, and they follow from the text. */
static int read_span(const struct shard *s, unsigned char *raw, uint64_t span, struct error *error)
{
    uint64_t at = s->tokens_at + span * SPAN;
    size_t n = s->index_at - at < SPAN ? (size_t)(s->index_at - at) : SPAN;
    if (file_read_at(s->file, raw, at, n) != 0) return cannot_read(s, at, error);
    s->checked[span] = crc32_of(0, raw, n) == s->sum[span] &&
                       top_id(raw, n / (size_t)s->info.id_bytes, s->info.id_bytes) < (uint32_t)s->vocab;
    if (s->checked[span]) return 0;
    bool removed = unlink(s->path) == 0 || errno == ENOENT;
    return fail(error, EXIT_DATA, "%s is damaged: the checksum of its tokens from byte %llu on is wrong; %s, and the same "
                "command makes it anew", s->path, (unsigned long long)at, removed ? "it was removed" : "remove it");
}

int shard_tokens(const struct shard *s, int *out, uint64_t first, size_t n, struct error *error)
{
    unsigned char raw[SPAN];
    size_t width = (size_t)s->info.id_bytes, most = SPAN / width;
    assert(first + n <= s->info.tokens);
    for (size_t k; n > 0; first += k, out += k, n -= k) {
        uint64_t span = first / most, at = s->tokens_at + first * width;
        size_t skip = (size_t)(first % most);
        bool read_whole = s->spans > 0 && !s->checked[span];
        k = n < most - skip ? n : most - skip;
        if (read_whole && read_span(s, raw, span, error) != 0) return -1;
        if (!read_whole && file_read_at(s->file, raw, at, k * width) != 0) return cannot_read(s, at, error);
        decode(out, raw + (read_whole ? skip * width : 0), k, s->info.id_bytes);
    }
    return 0;
}
