/* records.c - a file whose first byte that is not blank is '[' is one JSON array and is parsed whole, up to 1 GiB;
 * anything else is read line by line in the memory of one line.  Names are not asked: real data sets keep JSON lines
 * in files called .json. */
#include "common/records.h"
#include "common/textfile.h"

#include <stdlib.h>
#include <string.h>

static const size_t array_limit = 1u << 30;
static const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES;

struct records {
    char *path, *where;
    struct textfile *file;          /* lines; NULL when the file is an array */
    struct bytes clean;             /* the line with invalid UTF-8 replaced */
    struct text_counts *counts;
    bool lenient;
    json_t *array, *row;
    size_t at;
};

/* One sentence for what jansson could not take.  It reports the place behind the word it quotes, we say where that word
 * starts; columns count characters from 1. */
static int not_json(const char *path, int64_t line, const char *text, size_t length, const json_error_t *e,
                    struct error *error)
{
    char found[80];
    const char *near = strstr(e->text, " near '");
    size_t at = e->position < 0 ? 0 : (size_t)e->position, word = near ? strlen(near + strlen(" near '")) - 1 : 0;
    if (json_error_code(e) == json_error_invalid_utf8) word = 0;
    at = at > word ? at - word : 0;
    if (json_error_code(e) == json_error_premature_end_of_input || at >= length)
        return fail(error, EXIT_DATA, "%s:%lld: not JSON: it ends in the middle of a value (expected an array, or one "
                    "whole value a line)", path, (long long)line);
    size_t start = at, column = 1;
    while (start > 0 && text[start - 1] != '\n') start--;
    for (size_t i = start; i < at; i++) column += ((unsigned char)text[i] & 0xC0) != 0x80;
    text_escape(found, sizeof found, text + at, length - at < 40 ? length - at : 40);
    return fail(error, EXIT_DATA, "%s:%lld: not JSON at column %zu (%.*s), found '%s'", path, (long long)line, column,
                near ? (int)(near - e->text) : (int)sizeof e->text, e->text, found);
}

static int read_whole(struct bytes *out, struct textfile *file, const char *path, struct error *error)
{
    char *block = host_alloc(1 << 20, 1);
    int64_t n;
    while ((n = textfile_read(file, block, 1 << 20, error)) > 0) {
        bytes_add(out, block, (size_t)n);
        if (out->size > array_limit) {
            n = fail(error, EXIT_DATA, "%s: a JSON array of more than 1 GiB; write it as JSON lines, one object a line",
                     path);
            break;
        }
    }
    free(block);
    return n < 0 ? -1 : 0;
}

/* Parses the whole file.  Returns 1 when it is an array, 0 when it is not one but may be lines (lenient), -1 with
 * *error. */
static int open_array(struct records *r, struct error *error)
{
    struct bytes text = {0};
    json_error_t e;
    int status = read_whole(&text, r->file, r->path, error);
    if (status == 0 && text.size >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) memset(text.data, ' ', 3);
    if (status == 0 && r->counts) {
        text_clean(&r->clean, text.data, text.size, false, r->counts);
        struct bytes raw = text;
        text = r->clean;
        r->clean = (struct bytes){0};
        bytes_free(&raw);
    }
    if (status == 0) {
        r->array = json_loadb(text.data, text.size, flags, &e);
        if (r->array) status = 1;
        else if (!r->lenient) status = not_json(r->path, e.line, text.data, text.size, &e, error);
    }
    bytes_free(&text);
    return status;
}

int records_open(struct records **out, const char *path, bool lenient, struct text_counts *counts, struct error *error)
{
    struct records *r = host_alloc(1, sizeof *r);
    r->path = host_text("%s", path);
    r->lenient = lenient;
    r->counts = counts;
    int status = textfile_open(&r->file, path, error);
    if (status == 0) status = textfile_first(r->file, error);
    if (status == '[') {
        status = open_array(r, error);
        textfile_close(r->file);
        r->file = NULL;
        if (status == 0) status = textfile_open(&r->file, path, error);
    }
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
    json_decref(r->array);
    json_decref(r->row);
    bytes_free(&r->clean);
    free(r->path);
    free(r->where);
    free(r);
}

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", line[i])) return false;         /* NUL bytes count as blank: nothing can be read from them */
    return true;
}

/* The line as plain text: cleaned, because a JSON string must be valid UTF-8. */
static json_t *line_as_string(const char *line, size_t length)
{
    struct bytes text = {0};
    struct text_counts ignored = {0};
    text_clean(&text, line, length, false, &ignored);
    json_t *row = json_stringn(text.data ? text.data : "", text.size);
    bytes_free(&text);
    if (!row) die("no memory for a line of %zu bytes", length);
    return row;
}

static int parse_line(struct records *r, const char *line, size_t length, struct error *error)
{
    json_error_t e;
    if (r->counts) {
        r->clean.size = 0;
        text_clean(&r->clean, line, length, false, r->counts);
        line = r->clean.data;
        length = r->clean.size;
    }
    r->row = json_loadb(line, length, flags, &e);
    bool word = json_is_number(r->row) || json_is_boolean(r->row) || json_is_null(r->row);
    if (r->lenient && (!r->row || word)) {
        json_decref(r->row);
        r->row = line_as_string(line, length);
    }
    return r->row ? 0 : not_json(r->path, textfile_line_number(r->file), line, length, &e, error);
}

int records_next(struct records *r, json_t **row, const char **where, struct error *error)
{
    json_decref(r->row);
    r->row = NULL;
    free(r->where);
    r->where = NULL;
    if (r->array) {
        if (r->at >= json_array_size(r->array)) return 0;
        r->where = host_text("%s[%zu]", r->path, r->at);
        r->row = json_incref(json_array_get(r->array, r->at++));
    } else {
        char *line;
        size_t length;
        int got;
        do got = textfile_line(r->file, &line, &length, error);
        while (got == 1 && is_blank(line, length));
        if (got != 1) return got;
        r->where = host_text("%s:%lld", r->path, (long long)textfile_line_number(r->file));
        if (parse_line(r, line, length, error) != 0) return -1;
    }
    *row = r->row;
    *where = r->where;
    return 1;
}

int records_read(char *const *path, int n, bool lenient, int (*take)(void *self, json_t *row, const char *where),
                 void *self, struct error *error)
{
    for (int i = 0; i < n; i++) {
        struct records *r;
        json_t *row;
        const char *where;
        if (records_open(&r, path[i], lenient, NULL, error) != 0) return -1;
        int got;
        while ((got = records_next(r, &row, &where, error)) == 1)
            if (take(self, row, where) != 0) {
                got = -1;
                break;
            }
        records_close(r);
        if (got < 0) return -1;
    }
    return 0;
}
