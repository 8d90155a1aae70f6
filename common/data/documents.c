/* documents.c - both kinds of file fill one buffer with cleaned text, and one routine cuts pieces from it.  Plain
 * text is cleaned line by line: a line end is the one place where neither a CRLF nor a character can be cut apart. */
#include "common/data/documents.h"
#include "common/data/records.h"
#include "common/data/shards.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 1 << 20 };

struct pieces {
    struct document_rules rules;
    struct text_counts counts;
    struct textfile *file;              /* one of the two is open */
    struct records *records;
    char *block;                        /* BLOCK bytes of a text file; [begin, end) is still to be taken */
    size_t begin, end;
    bool file_start, line_start, file_end;
    struct bytes text;                  /* of the document; [0, at) has been handed out */
    size_t at;
    bool inside;                        /* a piece of the document has been handed out */
    bool complete;                      /* `text` holds all the rest of the document */
};

void pieces_open(struct pieces **out, const struct document_rules *rules)
{
    struct pieces *p = *out = host_alloc(1, sizeof *p);
    p->rules = *rules;
    p->block = host_alloc(BLOCK, 1);
}

static void close_file(struct pieces *p)
{
    textfile_close(p->file);
    records_close(p->records);
    p->file = NULL;
    p->records = NULL;
    p->begin = p->end = p->at = p->text.size = 0;
    p->inside = p->complete = p->file_end = false;
    p->file_start = p->line_start = true;
}

void pieces_close(struct pieces *p)
{
    if (!p) return;
    close_file(p);
    bytes_free(&p->text);
    free(p->block);
    free(p);
}

struct text_counts pieces_counts(const struct pieces *p) { return p->counts; }

static bool named(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    if (n > 3 && strcmp(path + n - 3, ".gz") == 0) n -= 3;
    return n >= k && memcmp(path + n - k, end, k) == 0;
}

int pieces_file(struct pieces *p, const char *path, struct error *error)
{
    close_file(p);
    if (named(path, ".jsonl") || named(path, ".json") || named(path, ".ndjson"))
        return records_open(&p->records, path, false, NULL, &p->counts, error);
    return textfile_open(&p->file, path, error);
}

/* ---- text from rows ---- */

static int wrong_row(const struct pieces *p, json_t *row, const char *where, struct error *error)
{
    static const char *const kind[] = {"an object", "a list", "a string", "a number", "a number", "true", "false",
                                       "null"};
    json_t *value = json_object_get(row, p->rules.text_key);
    if (!json_is_object(row))
        return fail(error, EXIT_DATA, "%s: found %s, expected an object with a text or a plain string", where,
                    kind[json_typeof(row)]);
    if (value)
        return fail(error, EXIT_DATA, "%s: the key '%s' holds %s, expected a string or a list of strings", where,
                    p->rules.text_key, kind[json_typeof(value)]);
    struct bytes keys = {0};
    char shown[300];
    const char *key;
    json_object_foreach(row, key, value) bytes_text(&keys, "%s%s", keys.size ? ", " : "", key);
    fail(error, EXIT_DATA, "%s: there is no key '%s', found %s; name the one that holds the text with --text-key",
         where, p->rules.text_key, keys.size ? text_escape(shown, sizeof shown, keys.data, keys.size) : "none");
    bytes_free(&keys);
    return -1;
}

/* The next row becomes the text.  Returns 1, 0 at the end, -1. */
static int take_row(struct pieces *p, struct error *error)
{
    json_t *row;
    const char *where;
    int got = records_next(p->records, &row, &where, error);
    if (got != 1) return got;
    json_t *text = json_is_object(row) ? json_object_get(row, p->rules.text_key) : json_is_string(row) ? row : NULL;
    struct text_counts more = p->counts;        /* bytes were counted when the row was read */
    if (json_is_string(text)) {
        text_clean(&p->text, json_string_value(text), json_string_length(text), true, &more);
    } else if (json_is_array(text)) {
        for (size_t i = 0; i < json_array_size(text); i++) {
            json_t *line = json_array_get(text, i);
            if (!json_is_string(line)) return wrong_row(p, row, where, error);
            if (i > 0) bytes_add(&p->text, "\n", 1);
            text_clean(&p->text, json_string_value(line), json_string_length(line), false, &more);
        }
    } else {
        return wrong_row(p, row, where, error);
    }
    more.bytes = p->counts.bytes;
    p->counts = more;
    p->complete = true;
    return 1;
}

/* ---- text from lines ---- */

/* How much of [begin, end) may be cleaned on its own when no line ends there: not the head of a character or of a
 * CRLF. */
static size_t whole_characters(const char *text, size_t length)
{
    size_t back = 0;
    if (length > 0 && text[length - 1] == '\r') return length - 1;
    while (back < 3 && back < length && ((unsigned char)text[length - 1 - back] & 0xC0) == 0x80) back++;
    if (back < length && ((unsigned char)text[length - 1 - back] & 0xC0) == 0xC0) return length - 1 - back;
    return length;
}

static bool is_separator(const struct pieces *p, const char *line, size_t length)
{
    static const char endoftext[] = "<|endoftext|>";
    const char *separator = p->rules.separator;
    if (p->file_start && length >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) line += 3, length -= 3;
    if (length > 0 && line[length - 1] == '\n') length--;
    if (length > 0 && line[length - 1] == '\r') length--;
    if (length == sizeof endoftext - 1 && memcmp(line, endoftext, length) == 0) return true;
    return separator && strlen(separator) == length && memcmp(line, separator, length) == 0;
}

/* The next line, or BLOCK bytes of a longer one, is added to the text or ends the document.  Returns 1, 0 at the
 * end, -1. */
static int take_line(struct pieces *p, struct error *error)
{
    char *newline;
    while (!(newline = memchr(p->block + p->begin, '\n', p->end - p->begin)) && !p->file_end &&
           p->end - p->begin < BLOCK) {
        memmove(p->block, p->block + p->begin, p->end - p->begin);
        p->end -= p->begin;
        p->begin = 0;
        int64_t n = textfile_read(p->file, p->block + p->end, BLOCK - p->end, error);
        if (n < 0) return -1;
        if (n == 0) p->file_end = true;
        p->end += (size_t)n;
    }
    if (p->begin == p->end) return 0;
    char *line = p->block + p->begin;
    size_t length = p->end - p->begin;
    if (newline) length = (size_t)(newline + 1 - line);
    else if (!p->file_end) length = whole_characters(line, length);
    bool whole = p->line_start && (newline || p->file_end);
    if (whole && is_separator(p, line, length)) {
        p->counts.bytes += length;
        p->complete = true;
    } else {
        text_clean(&p->text, line, length, p->file_start, &p->counts);
    }
    p->begin += length;
    p->line_start = newline != NULL;
    p->file_start = false;
    return 1;
}

/* ---- pieces ---- */

/* Where to cut text of more than PIECE_LIMIT bytes: before a space after a letter, else after a line, else between
 * characters. */
static size_t cut(const char *text)
{
    for (size_t i = PIECE_LIMIT - 1; i > PIECE_LIMIT / 2; i--)
        if (text[i] == ' ' && isascii(text[i - 1]) && isalpha((unsigned char)text[i - 1])) return i;
    for (size_t i = PIECE_LIMIT - 1; i > PIECE_LIMIT / 2; i--)
        if (text[i - 1] == '\n') return i;
    return whole_characters(text, PIECE_LIMIT);
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)text[i])) return false;
    return true;
}

static void begin_document(struct pieces *p)
{
    p->text.size = p->at = 0;
    p->inside = p->complete = false;
}

int pieces_next(struct pieces *p, struct piece *out, struct error *error)
{
    if (p->complete && p->at == p->text.size) begin_document(p);
    for (;;) {
        while (!p->complete && p->text.size - p->at <= PIECE_LIMIT) {
            if (p->at > 0) {
                memmove(p->text.data, p->text.data + p->at, p->text.size - p->at);
                p->text.size -= p->at;
                p->at = 0;
            }
            int got = p->records ? take_row(p, error) : take_line(p, error);
            if (got < 0) return -1;
            if (got == 0 && p->text.size == 0 && !p->inside) return 0;
            if (got == 0) p->complete = true;
        }
        if (p->inside || !is_blank(p->text.data, p->text.size)) break;
        begin_document(p);
    }
    const char *rest = p->text.data ? p->text.data + p->at : "";
    size_t left = p->text.size - p->at;
    *out = (struct piece){rest, left > PIECE_LIMIT ? cut(rest) : left, !p->inside, left <= PIECE_LIMIT};
    p->at += out->length;
    p->inside = true;
    return 1;
}

/* ---- all documents of a data set, for training a tokenizer (shards.h) ---- */

struct documents {
    struct paths paths;
    int next;                   /* file to open next */
    bool open;
    struct pieces *pieces;
    struct error error;
    bool failed;
    uint64_t bytes;
};

int documents_open(struct documents **out, const struct shards_options *o, struct error *error)
{
    struct document_rules rules = {o->text_key, o->separator};
    struct paths paths;
    struct stat s;
    uint64_t bytes = 0;
    int status = paths_expand(&paths, o->data, true, error);
    if (status != 0) return -1;
    for (int i = 0; i < paths.count && status == 0; i++) {
        if (stat(paths.path[i], &s) != 0) continue;                 /* said when it is opened */
        bytes += (uint64_t)s.st_size;
        if (!S_ISREG(s.st_mode))
            status = fail(error, EXIT_NOINPUT, "%s is a pipe or a device, expected a file: text is read more than once",
                          paths.path[i]);
    }
    if (status != 0) {
        paths_free(&paths);
        return -1;
    }
    struct documents *d = *out = host_alloc(1, sizeof *d);
    d->paths = paths;
    d->bytes = bytes;
    pieces_open(&d->pieces, &rules);
    return 0;
}

uint64_t documents_bytes(const struct documents *d) { return d->bytes; }

bool documents_next(void *documents, const char **text, size_t *length)
{
    struct documents *d = documents;
    struct piece piece;
    while (!d->failed) {
        int got = d->open ? pieces_next(d->pieces, &piece, &d->error) : 0;
        if (got == 1) {
            *text = piece.text;
            *length = piece.length;
            return true;
        }
        if (got == 0 && d->next == d->paths.count) return false;
        d->failed = got < 0 || pieces_file(d->pieces, d->paths.path[d->next++], &d->error) != 0;
        d->open = true;
    }
    return false;
}

int documents_close(struct documents *d, struct error *error)
{
    int status = d->failed ? -1 : 0;
    if (d->failed && error) *error = d->error;
    pieces_close(d->pieces);
    paths_free(&d->paths);
    free(d);
    return status;
}
