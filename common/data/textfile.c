/* textfile.c - plain and gzip files have one way in, told apart by their first two bytes.  What has arrived is handed
 * on at once (zlib's own file calls wait until a buffer is full), so that a line out of a pipe is read when it is
 * written.  Lines are cut from a buffer that grows only as far as the longest line, and cleaning is a pure function of the text,
 * so that it can be tested and counted apart from any file. */
#include "common/data/textfile.h"
#include "common/base/signals.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { BLOCK = 1 << 16, LINE_LIMIT = 256 << 20, FOLDER_DEPTH = 32 };

/* ---- names ---- */

static void paths_add(struct paths *p, const char *path, double weight, int source)
{
    if ((p->count & (p->count - 1)) == 0) {                  /* full at every power of two */
        size_t room = p->count ? 2 * (size_t)p->count : 1;
        p->path = host_grow(p->path, room, sizeof *p->path);
        p->weight = host_grow(p->weight, room, sizeof *p->weight);
        p->source = host_grow(p->source, room, sizeof *p->source);
    }
    p->path[p->count] = host_text("%s", path);
    p->weight[p->count] = weight;
    p->source[p->count++] = source;
}

void paths_free(struct paths *p)
{
    for (int i = 0; i < p->count; i++) free(p->path[i]);
    free(p->path);
    free(p->weight);
    free(p->source);
    *p = (struct paths){0};
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n > k && strcmp(name + n - k, end) == 0;
}

static bool holds_text(const char *name)
{
    return ends_with(name, ".txt") || ends_with(name, ".jsonl") || ends_with(name, ".json") || ends_with(name, ".gz");
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* byte order, whatever the locale: the order of documents must not depend on LANG */
static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int add_folder(struct paths *p, const char *folder, double weight, int source, int depth, struct error *error)
{
    struct dirent **entry;
    if (depth > FOLDER_DEPTH)
        return fail(error, EXIT_NOINPUT, "%s: folders are nested more than %d deep", folder, FOLDER_DEPTH);
    int n = scandir(folder, &entry, visible, by_bytes);
    if (n < 0) return fail(error, EXIT_NOINPUT, "cannot list the folder %s: %s", folder, strerror(errno));
    int status = 0;
    for (int i = 0; i < n; i++) {
        char *path = host_text("%s/%s", folder, entry[i]->d_name);
        struct stat s;
        bool there = stat(path, &s) == 0;
        if (status == 0 && there && S_ISDIR(s.st_mode)) status = add_folder(p, path, weight, source, depth + 1, error);
        else if (status == 0 && there && holds_text(path)) paths_add(p, path, weight, source);
        free(path);
        free(entry[i]);
    }
    free(entry);
    return status;
}

static int add_path(struct paths *p, const char *path, double weight, int source, struct error *error)
{
    struct stat s;
    if (stat(path, &s) != 0 || !S_ISDIR(s.st_mode)) {
        paths_add(p, path, weight, source);
        return 0;
    }
    int before = p->count;
    if (add_folder(p, path, weight, source, 1, error) != 0) return -1;
    if (p->count > before) return 0;
    return fail(error, EXIT_NOINPUT, "the folder %s holds no .txt, .jsonl, .json or .gz file", path);
}

static int add_entry(struct paths *p, const char *entry, double weight, int source, struct error *error)
{
    if (access(entry, F_OK) == 0) return add_path(p, entry, weight, source, error);      /* names may hold [ or * */
    glob_t found;
    int status = glob(entry, 0, NULL, &found);
    if (status == GLOB_NOMATCH)
        return fail(error, EXIT_NOINPUT, strpbrk(entry, "*?[") ? "nothing matches '%s'"
                                                               : "there is no file or folder '%s'", entry);
    if (status != 0) return fail(error, EXIT_NOINPUT, "cannot expand '%s': %s", entry, strerror(errno));
    int result = 0;
    for (size_t i = 0; i < found.gl_pathc && result == 0; i++)
        result = add_path(p, found.gl_pathv[i], weight, source, error);
    globfree(&found);
    return result;
}

/* Splits "books=2.5" into name and weight.  Returns 0, or -1 when what follows the last '=' is no weight. */
static int split_weight(char *entry, double *weight, struct error *error)
{
    char *equals = strrchr(entry, '='), *end;
    if (!equals || access(entry, F_OK) == 0) return 0;
    *weight = strtod(equals + 1, &end);
    if (end == equals + 1 || *end) {
        *weight = 1;                                         /* an '=' of the name: let the name be looked for whole */
        return 0;
    }
    if (!(*weight > 0 && *weight <= 1000))
        return fail(error, EXIT_USAGE, "the weight in '%s' is not above 0 and at most 1000", entry);
    *equals = 0;
    return 0;
}

int paths_expand(struct paths *out, const struct option_list *list, bool weights, struct error *error)
{
    struct paths p = {0};
    int status = 0;
    for (int i = 0; i < list->count && status == 0; i++) {
        char *entry = host_text("%s", list->item[i]);
        double weight = 1;
        if (weights) status = split_weight(entry, &weight, error);
        if (status == 0) status = add_entry(&p, entry, weight, i, error);
        free(entry);
    }
    if (status != 0) paths_free(&p);
    else *out = p;
    return status;
}

/* ---- reading ---- */

enum kind { KIND_UNKNOWN, KIND_PLAIN, KIND_PACKED, KIND_BEHIND, KIND_ENDED };    /* BEHIND: a whole gzip member */

struct textfile {
    int file;
    enum kind kind;
    unsigned char input[2 * BLOCK];
    z_stream gzip;               /* its next_in, avail_in: what of the input is not yet handed out, packed or not */
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
    }
    return 1;
}

/* At the head of a file, or behind a gzip member: another member, or (as gunzip has it) rubbish to be left alone. */
static int look(struct textfile *f, struct error *error)
{
    const z_stream *z = &f->gzip;
    int got = feed(f, 2, error);
    if (got < 0) return -1;
    bool packed = got == 1 && z->next_in[0] == 0x1F && z->next_in[1] == 0x8B;
    f->kind = packed ? KIND_PACKED : f->kind == KIND_UNKNOWN ? KIND_PLAIN : KIND_ENDED;
    if (packed) inflateReset(&f->gzip);
    return 0;
}

/* From the file itself, past the buffer: what there is, at least a byte; 0 at the end, -1 with *error. */
static int64_t read_more(struct textfile *f, void *data, size_t size, struct error *error)
{
    z_stream *z = &f->gzip;
    unsigned most = (unsigned)(size < (1u << 30) ? size : 1u << 30);
    for (;;) {
        if ((f->kind == KIND_UNKNOWN || f->kind == KIND_BEHIND) && look(f, error) != 0) return -1;
        if (f->kind == KIND_ENDED) return 0;
        int got = feed(f, 1, error);
        if (got < 0) return -1;
        if (f->kind == KIND_PLAIN) {
            unsigned n = z->avail_in < most ? z->avail_in : most;
            memcpy(data, z->next_in, n);
            z->next_in += n;
            z->avail_in -= n;
            return n;
        }
        z->next_out = data;
        z->avail_out = most;
        int code = got == 0 ? Z_BUF_ERROR : inflate(z, Z_NO_FLUSH);
        if (code == Z_STREAM_END) f->kind = KIND_BEHIND;
        else if (code != Z_OK)
            return fail(error, EXIT_DATA, "%s: damaged gzip data (%s); unpack or fetch it again",
                        f->path, code == Z_BUF_ERROR ? "it ends in the middle" : z->msg ? z->msg : "unknown");
        if (z->avail_out < most) return most - z->avail_out;
    }
}

int64_t textfile_read(struct textfile *f, void *data, size_t size, struct error *error)
{
    size_t held = f->end - f->begin;
    if (held == 0) return read_more(f, data, size, error);
    if (held > size) held = size;
    memcpy(data, f->buffer + f->begin, held);
    f->begin += held;
    return (int64_t)held;
}

/* Makes room behind `end` and reads into it.  Returns what read_more does. */
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

int textfile_line(struct textfile *f, char **line, size_t *length, struct error *error)
{
    char *newline = NULL;
    for (size_t searched = 0;;) {
        char *from = f->buffer + f->begin;
        size_t held = f->end - f->begin;
        if (held > searched) newline = memchr(from + searched, '\n', held - searched);
        if (newline) break;
        searched = held;
        if (held > LINE_LIMIT)
            return fail(error, EXIT_DATA, "%s:%lld: a line of more than 256 MiB", f->path, (long long)f->line + 1);
        int64_t n = fill(f, error);
        if (n < 0) return -1;
        if (n == 0) break;
    }
    if (!newline && f->begin == f->end) return 0;
    char *start = f->buffer + f->begin, *end = newline ? newline : f->buffer + f->end;
    f->begin = newline ? (size_t)(newline + 1 - f->buffer) : f->end;
    if (f->line++ == 0 && end - start >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0) start += 3;
    if (end > start && end[-1] == '\r') end--;
    *line = start;
    *length = (size_t)(end - start);
    return 1;
}

int textfile_first(struct textfile *f, struct error *error)
{
    for (size_t i = 0;; i++) {
        while (f->begin + i >= f->end) {
            int64_t n = i > LINE_LIMIT ? 0 : fill(f, error);
            if (n <= 0) return (int)n;
        }
        unsigned char c = (unsigned char)f->buffer[f->begin + i];
        if (!isspace(c) && !(i < 3 && c == (unsigned char)"\xEF\xBB\xBF"[i])) return c;
    }
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
