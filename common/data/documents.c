/* documents.c - both kinds of file fill one buffer with cleaned text, and one routine cuts parts from it. */
#include "common/data/documents.h"
#include "common/data/records.h"

#include <ctype.h>
#include <sys/stat.h>

enum { BLOCK = 1 << 20, ROW_LIMIT = 64 << 20 };

struct documents {
    struct document_rules rules;
    struct ledger ledger;
    struct text_counts counts, before;  /* of all files, and of those before this one */
    char *const *list; int files, next, step;       /* still to be opened: every step-th from `next` on */
    const char *path;
    uint64_t most;                      /* bytes to look at in a file, or 0 */
    double packed;                      /* bytes on the disk of the files that are done */
    struct textfile *file;              /* one of the two is open */
    struct records *records;
    bool file_start, line_start;
    struct bytes text;                  /* of the document; [0, at) has been handed out */
    size_t at;
    bool inside;                        /* a part of the document has been handed out */
    bool complete;                      /* `text` holds all the rest of the document */
};

void documents_open(struct documents **out, const struct document_rules *rules)
{
    struct documents *d = *out = host_alloc(1, sizeof *d);
    d->rules = *rules;
    d->ledger.skip = rules->skip_bad_rows;
}

static void close_file(struct documents *d)
{
    textfile_close(d->file);
    records_close(d->records);
    d->file = NULL;
    d->records = NULL;
    d->at = d->text.size = 0;
    d->inside = d->complete = false;
    d->file_start = d->line_start = true;
}

void documents_close(struct documents *d)
{
    if (!d) return;
    close_file(d);
    ledger_free(&d->ledger);
    bytes_free(&d->text);
    free(d);
}

struct text_counts documents_counts(const struct documents *d) { return d->counts; }

const struct ledger *documents_ledger(const struct documents *d) { return &d->ledger; }

double documents_packed(const struct documents *d) { return d->packed; }

void documents_over(struct documents *d, char *const *path, int n, int step, uint64_t most)
{
    close_file(d);
    d->list = path;
    d->files = n;
    d->next = 0;
    d->step = step;
    d->most = most;
}

/* Is this line, the first of a file, an object of JSON, or an array of some or its beginning? */
static bool is_row(const char *line, size_t length)
{
    scoped_bytes struct bytes clean = {0};
    struct text_counts ignored = {0};
    text_clean(&clean, line, length, true, &ignored);
    json_auto_t *row = json_loadb(clean.data, clean.size, JSON_ALLOW_NUL, NULL);
    const json_t *first = json_array_get(row, 0);
    return json_is_object(row) || json_is_object(first) || json_is_string(first);
}

/* 1 when the open file holds JSON rows, 0 for text, -1 with *error. */
static int looks_like_rows(struct textfile *f, struct error *error)
{
    const char *text, *newline = NULL;
    int64_t n;
    int first = textfile_first(f, error);
    if (first != '{' && first != '[') return first < 0 ? -1 : 0;
    for (size_t want = 1 << 16;; want *= 2) {
        if ((n = textfile_peek(f, &text, want, error)) < 0) return -1;
        const char *start = memchr(text, first, (size_t)n), *end = text + n;
        if (!start) continue;
        newline = memchr(start, '\n', (size_t)(end - start));
        const char *next = start + 1;
        while (next < end && isspace((unsigned char)*next)) next++;
        if (first == '[' && next < end && *next == '{') return 1;             /* a list that may go on for many lines */
        if (newline || (size_t)n < want || want >= ROW_LIMIT)
            return is_row(start, (size_t)((newline ? newline : end) - start));
    }
}

static int open_file(struct documents *d, const char *path, struct error *error)
{
    d->path = path;
    d->before = d->counts;
    int rows = path_named(path, ".jsonl|.jsonlines|.ndjson|.json");
    if (!rows) {
        if (textfile_open(&d->file, path, error) != 0 || (rows = looks_like_rows(d->file, error)) < 0) return -1;
        if (rows) close_file(d);
    }
    return rows ? records_open(&d->records, path, false, &d->ledger, &d->counts, error) : 0;
}

static int check_invalid(const struct documents *d, bool at_end, struct error *error)
{
    struct text_counts file = {.bytes = d->counts.bytes - d->before.bytes,
                               .invalid = d->counts.invalid - d->before.invalid};
    if (d->rules.allow_invalid) return 0;
    return text_check(&file, at_end, d->path, "leave it out, or give --allow-invalid-utf8 (rlhf: "
                      "--ptx-allow-invalid-utf8) to have each such byte replaced by U+FFFD", error);
}

/* ---- text from rows ---- */

static int wrong_row(const struct documents *d, json_t *row, const char *where, struct error *error)
{
    static const char *const kind[] = {"an object", "a list", "a string", "a number", "a number", "true", "false",
                                       "null"};
    json_t *value = json_object_get(row, d->rules.text_key);
    if (!json_is_object(row))
        return fail(error, EXIT_DATA, "%s: found %s, expected an object with a text or a plain string", where,
                    kind[json_typeof(row)]);
    if (value)
        return fail(error, EXIT_DATA, "%s: the key '%s' holds %s, expected a string or a list of strings", where,
                    d->rules.text_key, kind[json_typeof(value)]);
    scoped_bytes struct bytes keys = {0};
    char shown[300];
    const char *key;
    json_object_foreach(row, key, value) bytes_text(&keys, "%s%s", keys.size ? ", " : "", key);
    fail(error, EXIT_DATA, "%s: there is no key '%s', found %s; name the one that holds the text with --text-key",
         where, d->rules.text_key, keys.size ? text_escape(shown, sizeof shown, keys.data, keys.size) : "none");
    return -1;
}

/* The row becomes the text. */
static int use_row(struct documents *d, json_t *row, const char *where, struct error *error)
{
    json_t *text = json_is_object(row) ? json_object_get(row, d->rules.text_key) : json_is_string(row) ? row : NULL;
    struct text_counts more = d->counts;        /* bytes were counted when the row was read */
    if (json_is_string(text)) {
        text_clean(&d->text, json_string_value(text), json_string_length(text), true, &more);
    } else if (json_is_array(text)) {
        for (size_t i = 0; i < json_array_size(text); i++) {
            json_t *line = json_array_get(text, i);
            if (!json_is_string(line)) return wrong_row(d, row, where, error);
            if (i > 0) bytes_add(&d->text, "\n", 1);
            text_clean(&d->text, json_string_value(line), json_string_length(line), false, &more);
        }
    } else {
        return wrong_row(d, row, where, error);
    }
    more.bytes = d->counts.bytes;
    d->counts = more;
    d->complete = true;
    return 0;
}

/* The next row, but those that are skipped.  Returns 1, 0 at the end, -1. */
static int take_row(struct documents *d, struct error *error)
{
    json_t *row;
    const char *where;
    int got;
    while ((got = records_next(d->records, &row, &where, error)) == 1 && use_row(d, row, where, error) != 0) {
        d->text.size = 0;
        if (ledger_skip(&d->ledger, error) != 0) return -1;
    }
    return got;
}

/* ---- text from lines ---- */

static bool is_separator(const struct documents *d, const char *line, size_t length)
{
    static const char endoftext[] = "<|endoftext|>";
    const char *separator = d->rules.separator;
    if (d->file_start && length >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) line += 3, length -= 3;
    if (length > 0 && line[length - 1] == '\n') length--;
    if (length > 0 && line[length - 1] == '\r') length--;
    if (length == sizeof endoftext - 1 && memcmp(line, endoftext, length) == 0) return true;
    return separator && strlen(separator) == length && memcmp(line, separator, length) == 0;
}

/* The next line, or BLOCK bytes of a longer one, is added to the text or ends the document.  Returns 1, 0 at the
 * end, -1. */
static int take_line(struct documents *d, struct error *error)
{
    char *line;
    size_t length;
    int got = textfile_piece(d->file, &line, &length, BLOCK, error);
    if (got != 1) return got;
    if (d->line_start && is_separator(d, line, length)) {
        d->counts.bytes += length;
        d->complete = true;
    } else {
        text_clean(&d->text, line, length, d->file_start, &d->counts);
    }
    d->line_start = line[length - 1] == '\n';
    d->file_start = false;
    return 1;
}

/* ---- parts ---- */

/* Where to cut text of more than PART_LIMIT bytes: before a space after a letter, else after a line, else between
 * characters. */
static size_t cut(const char *text)
{
    for (size_t i = PART_LIMIT - 1; i > PART_LIMIT / 2; i--)
        if (text[i] == ' ' && isascii(text[i - 1]) && isalpha((unsigned char)text[i - 1])) return i;
    for (size_t i = PART_LIMIT - 1; i > PART_LIMIT / 2; i--)
        if (text[i - 1] == '\n') return i;
    return text_whole(text, PART_LIMIT);
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)text[i])) return false;
    return true;
}

static void begin_document(struct documents *d)
{
    d->text.size = d->at = 0;
    d->inside = d->complete = false;
}

/* The next part of the file: 1, 0 at its end, -1. */
static int next_part(struct documents *d, struct part *out, struct error *error)
{
    if (d->complete && d->at == d->text.size) begin_document(d);
    for (;;) {
        while (!d->complete && d->text.size - d->at <= PART_LIMIT) {
            if (d->at > 0) {
                memmove(d->text.data, d->text.data + d->at, d->text.size - d->at);
                d->text.size -= d->at;
                d->at = 0;
            }
            bool enough = d->most > 0 && d->counts.bytes - d->before.bytes >= d->most;
            int got = enough ? 0 : d->records ? take_row(d, error) : take_line(d, error);
            if (got < 0 || check_invalid(d, got == 0, error) != 0) return -1;
            if (got == 0 && d->text.size == 0 && !d->inside) return 0;
            if (got == 0) d->complete = true;
        }
        if (d->inside || !is_blank(d->text.data, d->text.size)) break;
        begin_document(d);
    }
    const char *rest = d->text.data ? d->text.data + d->at : "";
    size_t left = d->text.size - d->at;
    *out = (struct part){rest, left > PART_LIMIT ? cut(rest) : left, !d->inside, left <= PART_LIMIT};
    d->at += out->length;
    d->inside = true;
    return 1;
}

int documents_next(struct documents *d, struct part *out, struct error *error)
{
    for (;;) {
        int got = d->file || d->records ? next_part(d, out, error) : 0;
        if (got != 0) return got;
        if (d->file || d->records)
            d->packed += (double)(d->counts.bytes - d->before.bytes) *
                         (d->records ? records_packing(d->records) : textfile_packing(d->file));
        close_file(d);
        if (d->next >= d->files) return 0;
        d->next += d->step;
        if (open_file(d, d->list[d->next - d->step], error) != 0) return -1;
    }
}

int documents_paths(struct paths *out, uint64_t *bytes, const struct option_list *data, struct error *error)
{
    struct stat s;
    *bytes = 0;
    if (paths_expand(out, data, true, error) != 0) return -1;
    for (int i = 0; i < out->count; i++) {
        *bytes += out->size[i];
        if (stat(out->path[i], &s) != 0 || S_ISREG(s.st_mode)) continue;     /* not there: an error when it is opened */
        fail(error, EXIT_NOINPUT, "%s is a pipe or a device, expected a file: this text is read more than once; write "
             "it to a file first", out->path[i]);
        paths_free(out);
        return -1;
    }
    return 0;
}

int documents_step(const struct paths *p, uint64_t *most)
{
    enum { FILES = 64, SAMPLE = 8 << 20 };
    int step = (p->count + FILES - 1) / FILES;
    *most = SAMPLE / (uint64_t)((p->count + step - 1) / step);
    return step;
}
