/* dump_facts.c - what all commands of `ckpt` print with: values made of what a file holds, and the one place that turns
 * them into JSON (ASCII) or text. */
#include "format/ckpt/dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { WIDTH = 110, KEY = 12, SETTING = 28, SHOWN = 16, TEXT = 240, COLUMNS = 32 };

/* ---- values ---- */

json_t *fact_text(const char *text)
{
    json_t *value = json_string(text);
    struct bytes clean = {0};
    for (size_t i = 0, length = strlen(text); !value && i < length;) {
        int n = utf8_length(text + i, length - i);
        if (n) bytes_add(&clean, text + i, (size_t)n);
        else bytes_text(&clean, "\xEF\xBF\xBD");
        i += n ? (size_t)n : 1;
    }
    if (!value) value = json_string(clean.data);
    bytes_free(&clean);
    return value;
}

json_t *fact_u64(uint64_t value)
{
    return value > UINT64_C(1) << 53 ? json_sprintf("%" PRIu64, value) : json_integer((json_int_t)value);
}

static json_t *fact_i64(int64_t value)
{
    bool wide = value > INT64_C(1) << 53 || value < -(INT64_C(1) << 53);
    return wide ? json_sprintf("%" PRId64, value) : json_integer(value);
}

json_t *fact_f64(double value)
{
    if (isfinite(value)) return json_real(value);
    return json_string(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

json_t *fact_crc(uint32_t crc) { return json_sprintf("%08x", crc); }

json_t *fact_hex(const void *data, size_t size)
{
    char *text = host_alloc(2 * size + 1, 1);
    json_t *value = json_string(hex_text(text, data, size));
    free(text);
    return value;
}

json_t *fact_entry(const struct kv_entry *e)
{
    static const enum kv_type element[] = {
        [KV_I64S] = KV_I64, [KV_U64S] = KV_U64, [KV_F64S] = KV_F64, [KV_TEXTS] = KV_TEXT};
    const char *at = e->value;
    switch (e->type) {
    case KV_BOOL: return json_boolean(*(const bool *)e->value);
    case KV_I64: return fact_i64(*(const int64_t *)e->value);
    case KV_U64: return fact_u64(*(const uint64_t *)e->value);
    case KV_F64: return fact_f64(*(const double *)e->value);
    case KV_TEXT: return fact_text(e->value);
    case KV_BYTES: return fact_hex(e->value, (size_t)e->count);
    default: break;
    }
    json_t *list = json_array();
    for (uint64_t i = 0; i < e->count; i++) {
        struct kv_entry one = {.type = element[e->type], .count = 1, .value = (void *)(at + 8 * i)};
        if (e->type == KV_TEXTS) one.value = ((char **)e->value)[i];
        fact(list, NULL, fact_entry(&one));
    }
    return list;
}

json_t *fact_kv(const struct kv *kv)
{
    json_t *object = json_object();
    for (size_t i = 0; i < kv->count; i++) fact(object, kv->entry[i].key, fact_entry(&kv->entry[i]));
    return object;
}

void fact_problems(json_t *facts, const struct problems *p)
{
    json_t *list = json_array();
    for (int i = 0; i < p->kept; i++) fact(list, NULL, fact_text(p->text[i]));
    fact(facts, "problems", list);
    fact(facts, "result", json_string(p->count ? "corrupt" : "ok"));
}

void fact(json_t *to, const char *key, json_t *value)
{
    if (!value || (key ? json_object_set_new(to, key, value) : json_array_append_new(to, value)) != 0)
        die("no value for '%s'", key ? key : "an element");
}

void fact_members(json_t *to, json_t *members)
{
    if (!members || json_object_update(to, members) != 0) die("no values");
    json_decref(members);
}

/* ---- text ---- */

char *with_commas(char out[32], uint64_t n)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n), o = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) out[o++] = ',';
        out[o++] = digits[i];
    }
    out[o] = 0;
    return out;
}

char *shape_text(char out[200], const struct ckpt_tensor *t)
{
    int o = snprintf(out, 200, "[");
    for (int d = 0; d < t->ndim; d++) o += snprintf(out + o, 200 - (size_t)o, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    snprintf(out + o, 200 - (size_t)o, "]");
    return out;
}

char *flags_text(char out[64], uint32_t flags)
{
    snprintf(out, 64, "%s%s%s", flags & CKPT_TRAINING_STATE ? "training-state " : "",
             flags & CKPT_RESUMABLE ? "resumable " : "", flags & CKPT_FINAL ? "final " : "");
    size_t n = strlen(out);
    if (n) out[n - 1] = 0;
    return out;
}

static void print_text(struct bytes *out, const char *text, bool cut)
{
    size_t size = cut ? TEXT : 4 * strlen(text) + 8;
    char *shown = host_alloc(size, 1);
    bytes_text(out, "%s", text_escape(shown, size, text, strlen(text)));
    free(shown);
}

void fact_print(struct bytes *out, const json_t *value, bool cut)
{
    size_t count = json_array_size(value), shown = cut && count > SHOWN ? SHOWN : count;
    if (json_is_string(value)) print_text(out, json_string_value(value), cut);
    if (json_is_boolean(value)) bytes_text(out, json_is_true(value) ? "true" : "false");
    if (json_is_integer(value)) bytes_text(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value)) bytes_text(out, cut ? "%g" : "%.17g", json_real_value(value));
    if (!json_is_array(value)) return;
    if (cut) bytes_text(out, "[");
    for (size_t i = 0; i < shown; i++) {
        const json_t *element = json_array_get(value, i);
        if (i) bytes_text(out, json_is_string(element) && !cut ? "\n" : ", ");
        fact_print(out, element, cut);
    }
    if (shown < count) bytes_text(out, ", ... (%zu)", count);
    if (cut) bytes_text(out, "]");
}

/* One cell of a table. */
static void print_cell(struct bytes *out, const char *key, const json_t *value)
{
    out->size = 0;
    if (json_is_true(value)) bytes_text(out, "%s", key);
    else if (value && !json_is_false(value)) fact_print(out, value, true);
    if (out->size == 0) bytes_text(out, "-");
}

/* The columns: every key of every row, in the order met, but the long sentence of "problem" last. */
static int find_columns(const char *column[COLUMNS], const json_t *rows)
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *key;
        json_t *value;
        json_object_foreach(json_array_get(rows, i), key, value) {
            int k = 0;
            while (k < n && strcmp(column[k], key) != 0) k++;
            if (k == n && n < COLUMNS && !json_is_object(value)) column[n++] = key;
        }
    }
    for (int k = 0; k + 1 < n; k++)
        if (strcmp(column[k], "problem") == 0) {
            const char *next = column[k + 1];
            column[k + 1] = column[k];
            column[k] = next;
        }
    return n;
}

void facts_table(const json_t *rows, int indent)
{
    const char *column[COLUMNS];
    int n = find_columns(column, rows), width[COLUMNS];
    size_t count = json_array_size(rows);
    struct bytes cell = {0};
    bool number[COLUMNS] = {false};
    for (int k = 0; k < n; k++) {
        width[k] = (int)strlen(column[k]);
        for (size_t i = 0; i < count; i++) {
            const json_t *value = json_object_get(json_array_get(rows, i), column[k]);
            print_cell(&cell, column[k], value);
            width[k] = int_max(width[k], (int)cell.size);
            number[k] |= json_is_number(value);
        }
    }
    for (size_t i = 0; i <= count && n; i++) {
        if (i) printf("%*s", indent, "");
        for (int k = 0; k < n; k++) {
            print_cell(&cell, column[k], i ? json_object_get(json_array_get(rows, i - 1), column[k]) : NULL);
            const char *text = i ? cell.data : column[k];
            if (k + 1 == n && !number[k]) printf("%s", text);
            else printf(number[k] ? "%*s" : "%-*s", width[k], text);
            printf(k + 1 == n ? "\n" : "  ");
        }
    }
    bytes_free(&cell);
}

/* "key value  key value", on as few lines as it needs. */
static void print_object(const json_t *object)
{
    const char *key;
    json_t *value;
    int column = KEY;
    json_object_foreach((json_t *)object, key, value) {
        struct bytes text = {0};
        fact_print(&text, value, true);
        int size = (int)strlen(key) + 1 + (int)text.size;
        if (column > KEY && column + 2 + size > WIDTH) column = printf("\n%*s", KEY, "") - 1;
        else if (column > KEY) column += printf("  ");
        column += printf("%s %s", key, text.data ? text.data : "");
        bytes_free(&text);
    }
    printf("\n");
}

/* A member of the facts on a line of its own, or more.  Settings keep their digits as a user would type them. */
static void print_member(const char *key, const json_t *value, int width, bool setting)
{
    struct bytes text = {0};
    char big[32];
    if (json_is_array(value) && json_array_size(value) == 0) return;
    printf("%-*s", width, key);
    if (json_is_object(value)) print_object(value);
    else if (json_is_object(json_array_get(value, 0))) facts_table(value, width);
    else if (!setting && json_is_integer(value) && json_integer_value(value) >= 10000)
        printf("%s\n", with_commas(big, (uint64_t)json_integer_value(value)));
    else {
        fact_print(&text, value, true);
        printf("%s\n", text.data ? text.data : "");
    }
    bytes_free(&text);
}

static void print_facts(const json_t *facts, const char *table)
{
    static const char *const quiet = " schema command problems ", *const known = " file folder section result ";
    const char *key, *name;
    json_t *value, *member;
    int width = KEY;
    json_object_foreach((json_t *)facts, key, value) width = int_max(width, (int)strlen(key) + 2);
    json_object_foreach((json_t *)facts, key, value) {
        char word[64];
        snprintf(word, sizeof word, " %s ", key);
        if (strstr(quiet, word) || (table && strstr(known, word))) continue;
        if (!table || strcmp(key, table) != 0) print_member(key, value, width, false);
        else if (json_is_array(value)) facts_table(value, 0);
        else json_object_foreach(value, name, member) print_member(name, member, SETTING, true);
    }
}

/* ---- output ---- */

/* One line per member.  DEL, the one control in ASCII that JSON leaves alone, is escaped here. */
static void print_json(const json_t *facts)
{
    const char *key;
    json_t *value;
    bool first = true;
    json_object_foreach((json_t *)facts, key, value) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        if (!text) die("no JSON for '%s'", key);
        printf("%s\n \"%s\": ", first ? "{" : ",", key);
        for (const char *c = text; *c; c++) {
            if (*c == 0x7F) printf("\\u007f");
            else putchar(*c);
        }
        free(text);
        first = false;
    }
    printf("\n}\n");
}

void facts_print(const json_t *facts, const struct dump *d)
{
    size_t i;
    json_t *problem;
    if (d->json) {
        print_json(facts);
        return;
    }
    if (!d->show || *d->show) print_facts(facts, d->show);
    if (d->note) printf("%s\n", d->note);
    json_array_foreach(json_object_get(facts, "problems"), i, problem)
        fprintf(stderr, "%s: %s\n", program_name(), json_string_value(problem));
}
