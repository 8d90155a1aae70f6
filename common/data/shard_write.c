/* shard_write.c - tokens are streamed out as they come and the index follows them, so a shard of any size is written
 * in a few MiB of memory; the header is written last, so half a shard has no signature. */
#include "common/data/shard_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FLUSH = 1 << 20 };

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
    scoped_bytes struct bytes table = {0};
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

static void write_header(struct shard_writer *w, const struct shard_info *info, uint64_t index_at)
{
    unsigned char header[HEADER] = {0};
    memcpy(header, SHARD_SIGNATURE, 8);
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
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {time(NULL), shard_time_of(header)}};
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
