/* record.c - records are small and written once a step: a linear search is all they need. */
#include "common/train/record.h"

#include <math.h>
#include <string.h>

static const struct record_field *find_field(const struct record *r, const char *key)
{
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->field[i].key, key) == 0) return &r->field[i];
    return NULL;
}

static void set_field(struct record *r, const char *key, double number, int kind)
{
    const struct record_field *found = find_field(r, key);
    if (!found && r->count == RECORD_MAX) die("more than %d fields in a record", RECORD_MAX);
    struct record_field *f = &r->field[found ? found - r->field : r->count++];
    snprintf(f->key, sizeof f->key, "%s", key);
    f->number = number;
    f->kind = kind;
}

void record_real(struct record *r, const char *key, double value) { set_field(r, key, value, RECORD_REAL); }
void record_count(struct record *r, const char *key, int64_t value) { set_field(r, key, (double)value, RECORD_COUNT); }

double record_get(const struct record *r, const char *key)
{
    const struct record_field *f = find_field(r, key);
    return f ? f->number : NAN;
}

void record_json(struct bytes *out, const struct record *r)
{
    char number[32];
    bytes_text(out, "{");
    for (int i = 0; i < r->count; i++) {
        const struct record_field *f = &r->field[i];
        bytes_text(out, i ? ",\"%s\":" : "\"%s\":", f->key);
        if (f->kind == RECORD_COUNT) bytes_text(out, "%.0f", f->number);
        else bytes_text(out, "%s", isfinite(f->number) ? text_real(number, f->number, 6) : "null");
    }
    bytes_text(out, "}");
}
