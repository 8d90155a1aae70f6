/* textfile.c - plain, gzip and zstd files have one way in, told apart by their first bytes.  What has arrived is handed
 * on at once (zlib's own file calls wait until a buffer is full), so that a line out of a pipe is read when it is
 * written. */
#include "common/data/textfile.h"
#include "common/base/signals.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

enum { BLOCK = 1 << 16, LINE_LIMIT = 256 << 20 };

/* ---- reading ---- */

enum kind { KIND_UNKNOWN, KIND_PLAIN, KIND_GZIP, KIND_ZSTD, KIND_BEHIND, KIND_ENDED };     /* BEHIND: a whole member */

struct textfile {
    int file;
    enum kind kind;
    bool checked;                /* its first text is text, as far as one can see */
    unsigned char input[2 * BLOCK];
    uint64_t taken, given;       /* bytes read from the file, and bytes of text made of them */
    z_stream gzip;               /* its next_in, avail_in: what of the input is not yet handed out, packed or not */
    struct ZSTD_DCtx_s *zstd;    /* when first needed */
    char *path;
    char *buffer;                /* [begin, end) is read but not yet handed out */
    size_t begin, end, capacity;
    int64_t line;
};

int textfile_open(struct textfile **out, const char *path, struct error *error)
{
    struct stat s;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);      /* a FIFO without a writer must not hold us up */
    if (file < 0)
        return fail(error, errno == EIO ? EXIT_IO : EXIT_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    if (fstat(file, &s) == 0 && S_ISDIR(s.st_mode)) {
        close(file);
        return fail(error, EXIT_NOINPUT, "%s is a folder, expected a file", path);
    }
    struct textfile *f = host_alloc(1, sizeof *f);
    if (inflateInit2(&f->gzip, 16 + MAX_WBITS) != Z_OK) die("no memory to read %s", path);
    f->gzip.next_in = f->input;
    f->file = file;
    f->path = host_text("%s", path);
    f->capacity = BLOCK;
    f->buffer = host_alloc(BLOCK, 1);
    *out = f;
    return 0;
}

void textfile_close(struct textfile *f)
{
    if (!f) return;
    inflateEnd(&f->gzip);
#ifdef HAVE_ZSTD
    ZSTD_freeDCtx(f->zstd);
#endif
    close(f->file);
    free(f->path);
    free(f->buffer);
    free(f);
}

int64_t textfile_line_number(const struct textfile *f) { return f->line; }

/* Waits for at least `least` bytes of input.  Returns 1, 0 when the file has fewer (they are there), -1 with *error. */
static int feed(struct textfile *f, unsigned least, struct error *error)
{
    z_stream *z = &f->gzip;
    if (z->avail_in >= least) return 1;
    memmove(f->input, z->next_in, z->avail_in);
    z->next_in = f->input;
    while (z->avail_in < least) {
        if (signals_await(f->file, f->path, error) != 0) return -1;
        ssize_t n = read(f->file, f->input + z->avail_in, sizeof f->input - z->avail_in);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return fail(error, EXIT_IO, "cannot read %s: %s", f->path, strerror(errno));
        if (n == 0) return 0;
        z->avail_in += (unsigned)n;
        f->taken += (uint64_t)n;
    }
    return 1;
}

static bool is_zstd(const unsigned char *s) { return memcmp(s, "\x28\xB5\x2F\xFD", 4) == 0; }

/* At the head of a file, or behind a packed member: another one; zeros between members are padding.  What else follows
 * a member is left alone, as gzip does, but not silently. */
static int look(struct textfile *f, struct error *error)
{
    z_stream *z = &f->gzip;
    bool head = f->kind == KIND_UNKNOWN;
    int got;
    while ((got = feed(f, 1, error)) == 1 && !head && z->next_in[0] == 0) z->next_in++, z->avail_in--;
    if (got == 1) got = feed(f, z->next_in[0] == 0x28 ? 4 : 2, error);       /* no more than needed: it may be a pipe */
    if (got < 0) return -1;
    bool gzip = got == 1 && z->next_in[0] == 0x1F && z->next_in[1] == 0x8B;
    bool zstd = got == 1 && z->next_in[0] == 0x28 && is_zstd(z->next_in);
#ifndef HAVE_ZSTD
    zstd = false;                                                            /* refused by foreign_check */
#endif
    f->kind = gzip ? KIND_GZIP : zstd ? KIND_ZSTD : head ? KIND_PLAIN : KIND_ENDED;
    if (gzip) inflateReset(z);
    if (f->kind == KIND_ENDED && z->avail_in > 0)
        fprintf(stderr, "warning: %s: what follows the packed data is not read, from byte %llu on\n", f->path,
                (unsigned long long)(f->taken - z->avail_in));
    return 0;
}

/* One step of unpacking: bytes written to data, or -1 with *error.  more: there is input. */
static int64_t unpack_gzip(struct textfile *f, void *data, unsigned most, bool more, struct error *error)
{
    z_stream *z = &f->gzip;
    z->next_out = data;
    z->avail_out = most;
    int code = more ? inflate(z, Z_NO_FLUSH) : Z_BUF_ERROR;
    if (code == Z_STREAM_END) f->kind = KIND_BEHIND;
    else if (code != Z_OK)
        return fail(error, EXIT_DATA, "%s: damaged gzip data (%s); unpack or fetch it again",
                    f->path, code == Z_BUF_ERROR ? "it ends in the middle" : z->msg ? z->msg : "unknown");
    return most - z->avail_out;
}

#ifdef HAVE_ZSTD
static int64_t unpack_zstd(struct textfile *f, void *data, unsigned most, bool more, struct error *error)
{
    z_stream *z = &f->gzip;
    ZSTD_inBuffer in = {z->next_in, z->avail_in, 0};
    ZSTD_outBuffer out = {data, most, 0};
    if (!f->zstd && !(f->zstd = ZSTD_createDCtx())) die("no memory to read %s", f->path);
    size_t code = ZSTD_decompressStream(f->zstd, &out, &in);
    bool bad = ZSTD_isError(code);
    z->next_in += in.pos;
    z->avail_in -= (unsigned)in.pos;
    if (code == 0) f->kind = KIND_BEHIND;
    else if (bad || (!more && out.pos == 0))
        return fail(error, EXIT_DATA, "%s: damaged zstd data (%s); unpack or fetch it again", f->path,
                    bad ? ZSTD_getErrorName(code) : "it ends in the middle");
    return (int64_t)out.pos;
}
#else
static int64_t unpack_zstd(struct textfile *f, void *data, unsigned most, bool more, struct error *error)
{
    (void)f, (void)data, (void)most, (void)more, (void)error;
    die("zstd was not built in");
}
#endif

static int64_t copy_plain(struct textfile *f, void *data, unsigned most)
{
    z_stream *z = &f->gzip;
    unsigned n = z->avail_in < most ? z->avail_in : most;
    memcpy(data, z->next_in, n);
    z->next_in += n;
    z->avail_in -= n;
    return n;
}

/* From the file itself, past the buffer: what there is, at least a byte; 0 at the end, -1 with *error. */
static int64_t read_more(struct textfile *f, void *data, size_t size, struct error *error)
{
    unsigned most = (unsigned)(size < (1u << 30) ? size : 1u << 30);
    int64_t n = 0;
    while (n == 0) {
        if ((f->kind == KIND_UNKNOWN || f->kind == KIND_BEHIND) && look(f, error) != 0) return -1;
        if (f->kind == KIND_ENDED) return 0;
        int got = feed(f, 1, error);
        if (got < 0) return -1;
        if (f->kind == KIND_PLAIN && got == 0) return 0;
        n = f->kind == KIND_PLAIN ? copy_plain(f, data, most)
            : f->kind == KIND_GZIP ? unpack_gzip(f, data, most, got == 1, error)
                                   : unpack_zstd(f, data, most, got == 1, error);
    }
    if (n > 0 && !f->checked && foreign_check(f->path, data, (size_t)n, error) != 0) return -1;
    f->checked = true;
    f->given += (uint64_t)n;
    return n;
}

static int64_t fill(struct textfile *f, struct error *error)
{
    if (f->begin > 0) {
        memmove(f->buffer, f->buffer + f->begin, f->end - f->begin);
        f->end -= f->begin;
        f->begin = 0;
    }
    if (f->capacity - f->end < BLOCK) {
        f->capacity = 2 * f->capacity + BLOCK;
        f->buffer = host_grow(f->buffer, f->capacity, 1);
    }
    int64_t n = read_more(f, f->buffer + f->end, f->capacity - f->end, error);
    if (n > 0) f->end += (size_t)n;
    return n;
}

size_t text_whole(const char *text, size_t length)
{
    size_t back = 0;
    if (length > 0 && text[length - 1] == '\r') return length - 1;
    while (back < 3 && back < length && ((unsigned char)text[length - 1 - back] & 0xC0) == 0x80) back++;
    if (back < length && ((unsigned char)text[length - 1 - back] & 0xC0) == 0xC0) return length - 1 - back;
    return length;
}

int textfile_piece(struct textfile *f, char **piece, size_t *length, size_t most, struct error *error)
{
    char *newline = NULL;
    int64_t n = 1;
    for (size_t searched = 0, held; n > 0 && !newline && searched < most; searched = held) {
        if (f->end - f->begin == searched && (n = fill(f, error)) < 0) return -1;
        held = f->end - f->begin;
        size_t end = held < most ? held : most;
        newline = end > searched ? memchr(f->buffer + f->begin + searched, '\n', end - searched) : NULL;
    }
    *piece = f->buffer + f->begin;
    if (newline) *length = (size_t)(newline + 1 - *piece);
    else *length = n == 0 ? f->end - f->begin : text_whole(*piece, most);
    f->begin += *length;
    return *length > 0;
}

int textfile_line(struct textfile *f, char **line, size_t *length, struct error *error)
{
    int got = textfile_piece(f, line, length, LINE_LIMIT + 4, error);
    if (got != 1) return got;
    if (*length > LINE_LIMIT)
        return fail(error, EXIT_DATA, "%s:%lld: a line of more than 256 MiB", f->path, (long long)f->line + 1);
    char *end = *line + *length;
    if (f->line++ == 0 && *length >= 3 && memcmp(*line, "\xEF\xBB\xBF", 3) == 0) *line += 3;
    if (end > *line && end[-1] == '\n') end--;
    if (end > *line && end[-1] == '\r') end--;
    *length = (size_t)(end - *line);
    return 1;
}

int64_t textfile_peek(struct textfile *f, const char **text, size_t least, struct error *error)
{
    while (f->end - f->begin < least) {
        int64_t n = fill(f, error);
        if (n < 0) return -1;
        if (n == 0) break;
    }
    *text = f->buffer + f->begin;
    return (int64_t)(f->end - f->begin);
}

int textfile_first(struct textfile *f, struct error *error)
{
    const char *text;
    for (size_t i = 0; i <= LINE_LIMIT; i++) {
        int64_t n = textfile_peek(f, &text, i + 1, error);
        if (n <= (int64_t)i) return n < 0 ? -1 : 0;
        unsigned char c = (unsigned char)text[i];
        if (!isspace(c) && !(i < 3 && c == (unsigned char)"\xEF\xBB\xBF"[i])) return c;
    }
    return 0;
}

double textfile_packing(const struct textfile *f)
{
    return f->given ? (double)(f->taken - f->gzip.avail_in) / (double)f->given : 1;
}

/* ---- cleaning ---- */

void text_clean(struct bytes *out, const char *text, size_t length, bool at_start, struct text_counts *counts)
{
    size_t i = 0, kept = 0;                                  /* [kept, i) is good and not yet copied */
    counts->bytes += length;
    if (at_start && length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        counts->boms++;
        i = kept = 3;
    }
    while (i < length) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x80 && c != '\r') {
            i++;
            continue;
        }
        int n = c == '\r' ? 0 : utf8_length(text + i, length - i);
        if (n > 0) {
            i += (size_t)n;
            continue;
        }
        bytes_add(out, text + kept, i - kept);
        if (c == '\r') {
            counts->carriage_returns++;
            if (i + 1 >= length || text[i + 1] != '\n') bytes_add(out, "\n", 1);
        } else {
            counts->invalid++;
            bytes_add(out, "\xEF\xBF\xBD", 3);
        }
        kept = ++i;
    }
    bytes_add(out, text + kept, length - kept);
}

int text_check(const struct text_counts *counts, bool at_end, const char *path, const char *way_out,
               struct error *error)
{
    enum { FEW = 16, JUDGED = 64 << 10 };
    if (counts->invalid < FEW || counts->invalid * 100 <= counts->bytes || (counts->bytes < JUDGED && !at_end))
        return 0;
    return fail(error, EXIT_DATA, "%s: %llu of its first %llu bytes are not UTF-8: convert it (iconv -f LATIN1 -t "
                "UTF-8, or what its encoding is), %s", path, (unsigned long long)counts->invalid,
                (unsigned long long)counts->bytes, way_out);
}
