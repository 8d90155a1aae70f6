/* records.c - a file whose first byte that is not blank is '[' is one JSON array: its text is read whole, up to 1
 * GiB, and parsed an element at a time, because parsed values take many times the room of their text.  Anything else
 * is read line by line. Names are not asked: real data sets keep JSON lines in files called .json. */
#include "common/data/records.h"
#include "common/data/textfile.h"
#include "common/base/signals.h"

#include <math.h>

static const size_t array_limit = 1u << 30, row_limit = 64u << 20;
static const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES;

struct records {
    char *path, *where;
    struct textfile *file;          /* lines; NULL when the file is an array */
    struct bytes text;              /* of an array, or of the line with invalid UTF-8 replaced */
    struct bytes repaired;          /* of the row */
    struct ledger *ledger;
    struct text_counts *counts;
    struct text_counts plain;       /* of the lines that are plain text */
    bool lenient, array, skippable; /* skippable: the error is of one row, and the next one can be read */
    size_t at, n;                   /* array: place in the text, elements before it */
    json_t *row;
};

/* One sentence for what is wrong at text[at].  line: the number of the line that text begins with; columns count
 * characters from 1. */
static int not_json(const struct records *r, int64_t line, const char *text, size_t length, size_t at, const char *what,
                    int what_length, struct error *error)
{
    const char *plain = r->lenient ? "; a plain text that begins with { or [ must be a JSON string" : "";
    char found[80];
    size_t start = 0, column = 1;
    for (size_t i = 0; i < at && i < length; i++)
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    if (at >= length)
        return fail(error, EXIT_DATA, "%s:%lld: not JSON: it ends in the middle of a value (expected an array, or one "
                    "whole value per line)%s", r->path, (long long)line, plain);
    for (size_t i = start; i < at; i++) column += ((unsigned char)text[i] & 0xC0) != 0x80;
    text_escape(found, sizeof found, text + at, length - at < 40 ? length - at : 40);
    return fail(error, EXIT_DATA, "%s:%lld: not JSON at column %zu (%.*s), found '%s'%s", r->path, (long long)line,
                column, what_length, what, found, plain);
}

/* ---- what Python writes ---- */

/* The length of the value at text, up to the comma or bracket that ends it in an array. */
static size_t value_length(const char *text, size_t length)
{
    int depth = 0;
    bool quoted = false;
    size_t i;
    for (i = 0; i < length; i++) {
        char c = text[i];
        if (quoted && c == '\\') i++;
        else if (c == '"') quoted = !quoted;
        else if (quoted) continue;
        else if (c == '[' || c == '{') depth++;
        else if (depth == 0 && (c == ',' || c == ']' || c == '}')) break;
        else if (c == ']' || c == '}') depth--;
    }
    return i < length ? i : length;
}

static bool is_surrogate(const char *escape, size_t length, bool low)
{
    return length >= 6 && escape[0] == '\\' && escape[1] == 'u' && (escape[2] | 32) == 'd' &&
           strchr(low ? "cdefCDEF" : "89abAB", escape[3]);
}

/* The value with NaN, Infinity and numbers beyond a double as null, integers of more than 18 digits as real numbers and
 * lone surrogates, which are counted, as U+FFFD; an unchanged value comes out as it was.  Ends early when `most` bytes
 * have come out.  Returns how many went in. */
static size_t repair(struct bytes *out, uint64_t *lone, const char *text, size_t length, size_t most)
{
    static const char digits[] = "+-0123456789.eE", *const word[] = {"NaN", "Infinity", "-Infinity"};
    bool quoted = false;
    size_t i = 0;
    *lone = 0;
    out->size = 0;
    for (size_t n; i < length && out->size < most; i += n) {
        const char *at = text + i, *instead = NULL;
        size_t left = length - i;
        n = 1;
        if (*at == '"') quoted = !quoted;
        if (quoted && *at == '\\') {
            bool high = is_surrogate(at, left, false);
            n = left < 2 ? left : high && is_surrogate(at + 6, left - 6, true) ? 12 : 2;
            if (n == 2 && (high || is_surrogate(at, left, true))) n = 6, ++*lone, instead = "\\uFFFD";
        } else if (!quoted && *at && strchr(digits, *at)) {
            while (n < left && at[n] && strchr(digits, at[n])) n++;
            if (isinf(strtod(at, NULL))) instead = "null";
        }
        for (int w = 0; w < 3 && !quoted; w++) {
            size_t k = strlen(word[w]);
            if (left >= k && memcmp(at, word[w], k) == 0) n = k, instead = "null";
        }
        bytes_add(out, instead ? instead : at, instead ? strlen(instead) : n);
        if (!quoted && !instead && n > 18 && !memchr(at, '.', n) && !memchr(at, 'e', n) && !memchr(at, 'E', n))
            bytes_text(out, ".0");
    }
    return i;
}

/* Parses the value at text[*at] and moves *at behind it, also when it is wrong.  Returns 0, or -1 with *error. */
static int parse(struct records *r, int64_t line, const char *text, size_t length, size_t *at, size_t more_flags,
                 struct error *error)
{
    json_error_t e, again;
    size_t start = *at, left = length - start < row_limit ? length - start : row_limit;
    r->row = json_loadb(text + start, left, flags | more_flags, &e);
    size_t position = e.position < 0 ? 0 : (size_t)e.position;
    if (r->row) {
        *at += position;
        return 0;
    }
    size_t whole = r->array ? value_length(text + start, length - start) : left;
    *at += whole;
    uint64_t lone = 0;
    bool changed = false;
    if (whole <= left) {
        repair(&r->repaired, &lone, text + start, whole, SIZE_MAX);
        changed = r->repaired.size != whole || (whole > 0 && memcmp(r->repaired.data, text + start, whole) != 0);
        r->row = r->repaired.size ? json_loadb(r->repaired.data, r->repaired.size, flags, &again) : NULL;
    }
    if (r->row) {
        if (r->counts) r->counts->invalid += lone;
        else if (r->ledger) tally_add(&r->ledger->changed, "halves of surrogate pairs, replaced by U+FFFD", lone);
        return 0;
    }
    r->skippable = true;
    if (changed) {                                           /* what is wrong besides what may be repaired */
        e = again;
        position = e.position < 0 ? 0 : (size_t)e.position;
    }
    if (json_error_code(&e) == json_error_premature_end_of_input) {
        if (left == row_limit) return fail(error, EXIT_DATA, "%s: a row of more than 64 MiB of JSON", r->where);
        return not_json(r, line, text, length, length, "", 0, error);
    }
    /* jansson reports the place behind the word it quotes, but for a byte it cannot decode */
    const char *near = strstr(e.text, " near '");
    size_t word = near && json_error_code(&e) != json_error_invalid_utf8 ? strlen(near + strlen(" near '")) - 1 : 0;
    size_t place = position > word ? position - word : 0;
    if (changed) place = repair(&r->repaired, &lone, text + start, whole, place);
    return not_json(r, line, text, length, start + place, e.text, near ? (int)(near - e.text) : (int)sizeof e.text,
                    error);
}

/* ---- arrays ---- */

static int read_whole(struct bytes *out, struct textfile *file, const char *path, struct error *error)
{
    char *piece;
    size_t length;
    int got;
    while ((got = textfile_piece(file, &piece, &length, 1 << 20, error)) == 1) {
        bytes_add(out, piece, length);
        if (out->size > array_limit)
            return fail(error, EXIT_DATA, "%s: a JSON array of more than 1 GiB; write it as JSON lines, one object per "
                        "line", path);
    }
    return got;
}

static int next_char(struct records *r)
{
    r->at += strspn(r->text.data + r->at, " \t\r\n");
    return r->at < r->text.size ? (unsigned char)r->text.data[r->at] : -1;
}

/* The next element into r->row: 1, 0 at the end, -1 with *error. */
static int next_element(struct records *r, struct error *error)
{
    static const char comma[] = "',' or ']' expected", end[] = "end of file expected";
    int c = next_char(r);
    if (c == ']') {
        r->at++;
        if (next_char(r) == -1) {
            r->at--;                                         /* stays at the end when asked again */
            return 0;
        }
        return not_json(r, 1, r->text.data, r->text.size, r->at, end, sizeof end - 1, error);
    }
    if (r->n > 0) {
        if (c != ',') return not_json(r, 1, r->text.data, r->text.size, r->at, comma, sizeof comma - 1, error);
        r->at++;
    }
    next_char(r);
    r->where = host_text("%s[%zu]", r->path, r->n++);
    return parse(r, 1, r->text.data, r->text.size, &r->at, JSON_DISABLE_EOF_CHECK, error) == 0 ? 1 : -1;
}

static void drop_row(struct records *r)
{
    json_decref(r->row);
    free(r->where);
    r->row = NULL;
    r->where = NULL;
}

static int open_array(struct records *r, struct error *error)
{
    struct bytes raw = {0};
    int status = read_whole(&raw, r->file, r->path, error);
    if (status == 0 && raw.size >= 3 && memcmp(raw.data, "\xEF\xBB\xBF", 3) == 0) memset(raw.data, ' ', 3);
    if (status == 0 && r->counts) {
        text_clean(&r->text, raw.data, raw.size, false, r->counts);
        bytes_free(&raw);
    } else {
        r->text = raw;
    }
    if (status != 0) return -1;
    next_char(r);
    r->at++;                                                 /* behind the bracket */
    return 0;
}

static int refuse_table(const char *path, struct error *error)
{
    if (!path_named(path, ".csv|.tsv")) return 0;
    return fail(error, EXIT_DATA, "%s: a table is not read; write its rows as JSON lines, such as {\"prompt\": ...}",
                path);
}

int records_open(struct records **out, const char *path, bool lenient, struct ledger *ledger,
                 struct text_counts *counts, struct error *error)
{
    if (refuse_table(path, error) != 0) return -1;
    struct records *r = host_alloc(1, sizeof *r);
    r->path = host_text("%s", path);
    r->lenient = lenient;
    r->ledger = ledger;
    r->counts = counts;
    int status = textfile_open(&r->file, path, error);
    if (status == 0) status = textfile_first(r->file, error);
    r->array = status == '[';
    if (r->array) status = open_array(r, error);
    if (status < 0) {
        records_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void records_close(struct records *r)
{
    if (!r) return;
    textfile_close(r->file);
    drop_row(r);
    bytes_free(&r->text);
    bytes_free(&r->repaired);
    free(r->path);
    free(r);
}

double records_packing(const struct records *r) { return textfile_packing(r->file); }

/* ---- lines ---- */

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", line[i])) return false;      /* NUL bytes count as blank: nothing can be read from them */
    return true;
}

/* The line as plain text: cleaned, because a JSON string must be valid UTF-8. */
static json_t *line_as_string(struct records *r, const char *line, size_t length)
{
    scoped_bytes struct bytes text = {0};
    uint64_t before = r->plain.invalid;
    text_clean(&text, line, length, false, &r->plain);
    if (r->ledger) tally_add(&r->ledger->changed, "invalid bytes, replaced by U+FFFD", r->plain.invalid - before);
    json_t *row = json_stringn(text.data ? text.data : "", text.size);
    if (!row) die("no memory for a line of %zu bytes", length);
    return row;
}

static int parse_line(struct records *r, const char *line, size_t length, struct error *error)
{
    size_t at = 0;
    if (r->counts) {
        r->text.size = 0;
        text_clean(&r->text, line, length, false, r->counts);
        line = r->text.data;
        length = r->text.size;
    }
    while (at < length && strchr(" \t\r", line[at]) && line[at]) at++;
    char first = at < length ? line[at] : 0;
    at = 0;
    int status = parse(r, textfile_line_number(r->file), line, length, &at, 0, error);
    bool word = json_is_number(r->row) || json_is_boolean(r->row) || json_is_null(r->row);
    if (!r->lenient || (status == 0 && !word)) return status;
    if (first == '{' || first == '[') return status;
    json_decref(r->row);
    r->row = line_as_string(r, line, length);
    return 0;
}

static int next_line(struct records *r, struct error *error)
{
    char *line;
    size_t length;
    int got;
    do got = textfile_line(r->file, &line, &length, error);
    while (got == 1 && is_blank(line, length));
    if (got != 1) return got;
    r->where = host_text("%s:%lld", r->path, (long long)textfile_line_number(r->file));
    return parse_line(r, line, length, error) == 0 ? 1 : -1;
}

int records_next(struct records *r, json_t **row, const char **where, struct error *error)
{
    int got;
    *row = NULL;
    do {
        drop_row(r);
        if (signals_check(error, "reading %s", r->path) != 0) return -1;
        r->skippable = false;
        got = r->array ? next_element(r, error) : next_line(r, error);
        if (got >= 0 && text_check(&r->plain, got == 0, r->path, "or leave it out", error) != 0) return -1;
        if (r->ledger && (got == 1 || r->skippable)) r->ledger->rows++;
    } while (got < 0 && r->skippable && ledger_skip(r->ledger, error) == 0);
    *row = r->row;
    *where = r->where;
    return got;
}

int records_read(char *const *path, int n, bool lenient, struct ledger *ledger,
                 int (*take)(void *self, json_t *row, const char *where), void *self, struct error *error)
{
    for (int i = 0; i < n; i++) {
        struct records *r;
        json_t *row;
        const char *where;
        if (records_open(&r, path[i], lenient, ledger, NULL, error) != 0) return -1;
        int got;
        while ((got = records_next(r, &row, &where, error)) == 1)
            if (take(self, row, where) != 0 && ledger_skip(ledger, error) != 0) {
                got = -1;
                break;
            }
        records_close(r);
        if (got < 0) return -1;
    }
    return ledger ? ledger_check(ledger, error) : 0;
}
