/* shard_file.c - reading is by pread and not by a mapping: memory stays what was planned, and a file that someone cuts
 * short gives a sentence instead of a signal.  Tokens are checked, a span at a time, when they are read first. */
#include "common/data/shard_layout.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 20 };
static const uint64_t sources_limit = 1u << 28;

static int bad(const struct shard *s, struct error *error, const char *what)
{
    return fail(error, EXIT_DATA, "%s is damaged: %s", s->path, what);
}

static int check_header(struct shard *s, const unsigned char *h, const struct stat *file, struct error *error)
{
    uint64_t size = (uint64_t)file->st_size;
    struct shard_info *info = &s->info;
    if (memcmp(h, SHARD_SIGNATURE, 8) != 0) return bad(s, error, "no signature");
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
    s->as_written = version > 1 && file->st_mtim.tv_nsec == shard_time_of(h);
    return 0;
}

static int read_sources(struct shard *s, uint64_t length, uint32_t crc, struct error *error)
{
    size_t padded = s->tokens_at - HEADER;
    scoped unsigned char *table = host_alloc(padded + 1, 1);
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
    return status;
}

static int read_sums(struct shard *s, uint32_t crc, struct error *error)
{
    uint64_t at = s->index_at + s->info.documents * ENTRY;
    scoped unsigned char *raw = host_alloc(s->spans + 1, 4);
    int status = file_read_at(s->file, raw, at, 4 * s->spans);
    if (status != 0 || crc32_of(0, raw, 4 * s->spans) != crc)
        status = bad(s, error, "the checksum of its checksums is wrong");
    s->sum = host_alloc(s->spans + 1, sizeof *s->sum);
    s->checked = host_alloc(s->spans + 1, sizeof *s->checked);
    for (uint64_t i = 0; i < s->spans; i++) s->sum[i] = load32(raw + 4 * i);
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

static void decode(int *out, const unsigned char *raw, size_t n, int id_bytes)
{
    if (id_bytes == 2)
        for (size_t i = 0; i < n; i++) out[i] = load16(raw + 2 * i);
    else
        for (size_t i = 0; i < n; i++) out[i] = (int)load32(raw + 4 * i);
}

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
    scoped unsigned char *raw = host_alloc(BLOCK, 1);
    int status = 0;
    for (uint64_t at = s->tokens_at; at < s->index_at && status == 0;) {
        size_t n = s->index_at - at < BLOCK ? (size_t)(s->index_at - at) : BLOCK;
        status = file_read_at(s->file, raw, at, n);
        crc = crc32_of(crc, raw, n);
        more = top_id(raw, n / (size_t)s->info.id_bytes, s->info.id_bytes);
        top = more > top ? more : top;
        at += n;
    }
    if (status != 0) return bad(s, error, "its tokens cannot be read");
    if (crc != s->tokens_crc) return bad(s, error, "the checksum of its tokens is wrong");
    if (top >= (uint32_t)s->vocab) return bad(s, error, "it holds a token outside the vocabulary");
    return 0;
}

/* Entries of the index as they lie on the disk; false when their ends do not ascend from *token_end. */
static bool entries_of(struct shard_entry *out, uint64_t *token_end, const unsigned char *raw, size_t n)
{
    bool ascending = true;
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct shard_entry){.token_end = load64(raw + i * ENTRY), .hash = load32(raw + i * ENTRY + 16)};
        ascending &= out[i].token_end > *token_end;
        *token_end = out[i].token_end;
    }
    return ascending;
}

int shard_index(const struct shard *s, void (*visit)(void *self, const struct shard_entry *entry, size_t n), void *self,
                struct error *error)
{
    enum { READ = 64 * SHARD_ENTRIES };
    uint64_t left = s->info.documents, at = s->index_at, tokens = 0;
    scoped unsigned char *raw = host_alloc(READ, ENTRY);
    struct shard_entry entry[SHARD_ENTRIES];
    uint32_t crc = 0;
    bool ascending = true;
    int status = 0;
    while (left > 0 && status == 0) {
        size_t n = left < READ ? (size_t)left : READ, k;
        status = file_read_at(s->file, raw, at, n * ENTRY);
        crc = crc32_of(crc, raw, n * ENTRY);
        for (size_t i = 0; i < n && status == 0 && ascending; i += k) {
            k = n - i < SHARD_ENTRIES ? n - i : SHARD_ENTRIES;
            ascending = entries_of(entry, &tokens, raw + i * ENTRY, k);
            if (visit) visit(self, entry, k);
        }
        left -= n;
        at += n * ENTRY;
    }
    if (status != 0) return bad(s, error, "its index cannot be read");
    if (crc != s->index_crc) return bad(s, error, "the checksum of its index is wrong");
    if (!ascending || tokens != s->info.tokens) return bad(s, error, "its index does not fit its tokens");
    return 0;
}

int shard_verify(const struct shard *s, struct error *error)
{
    return shard_index(s, NULL, NULL, error) != 0 ? -1 : verify_tokens(s, error);
}

int shard_discard(const struct shard *s, struct error *error)
{
    struct error why = *error;
    bool removed = unlink(s->path) == 0 || errno == ENOENT;
    return fail(error, EXIT_DATA, "%s; %s, and the same command makes it anew", why.text,
                removed ? "the shard was removed" : "remove it");
}

static int cannot_read(const struct shard *s, uint64_t at, struct error *error)
{
    return fail(error, EXIT_IO, "cannot read %s at byte %llu: %s", s->path, (unsigned long long)at,
                errno ? strerror(errno) : "it has been cut short");
}

void shard_entries(const struct shard *s, struct shard_entry *out, uint64_t first, size_t n)
{
    unsigned char raw[SHARD_ENTRIES * ENTRY];
    uint64_t at = s->index_at + first * ENTRY, token_end = 0;
    struct error error;
    assert(n <= SHARD_ENTRIES && first + n <= s->info.documents);
    if (file_read_at(s->file, raw, at, n * ENTRY) != 0) {
        cannot_read(s, at, &error);
        quit_error(&error);
    }
    entries_of(out, &token_end, raw, n);
}

/* A span that was not read before, whole and checked. */
static int read_span(const struct shard *s, unsigned char *raw, uint64_t span, struct error *error)
{
    uint64_t at = s->tokens_at + span * SPAN;
    size_t n = s->index_at - at < SPAN ? (size_t)(s->index_at - at) : SPAN;
    if (file_read_at(s->file, raw, at, n) != 0) return cannot_read(s, at, error);
    s->checked[span] = crc32_of(0, raw, n) == s->sum[span] &&
                       top_id(raw, n / (size_t)s->info.id_bytes, s->info.id_bytes) < (uint32_t)s->vocab;
    if (s->checked[span]) return 0;
    fail(error, EXIT_DATA, "%s is damaged: the checksum of its tokens from byte %llu on is wrong", s->path,
         (unsigned long long)at);
    return shard_discard(s, error);
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
