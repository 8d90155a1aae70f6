/* record.h - a flat record of one step: ordered keys (stable, documented in docs/metrics.md) with numbers; and what
 * TensorBoard reads: numbers and texts by step, in files events.out.tfevents.* . */
#pragma once

#include "common/base/base.h"

enum { RECORD_MAX = 96 };
struct record_field {
    char key[40];
    double number;
    enum { RECORD_REAL, RECORD_COUNT } kind;
};
struct record { struct record_field field[RECORD_MAX]; int count; };
void record_real(struct record *r, const char *key, double value);       /* not finite is written as null */
void record_count(struct record *r, const char *key, int64_t value);
double record_get(const struct record *r, const char *key);              /* NaN when absent */
void record_json(struct bytes *out, const struct record *r);             /* one line, no newline */

#define EVENTS_BEGIN "events.out.tfevents."         /* then seconds since 1970, ten digits, and */
#define EVENTS_END ".quartet"

/* Append whole records to *out.  A file begins with events_start: a reader then drops what it has of steps from `step`
 * on.  events_numbers takes every finite number of the record but the step itself, and needs that step. */
void events_start(struct bytes *out, int64_t step);
void events_numbers(struct bytes *out, const struct record *r);
void events_text(struct bytes *out, int64_t step, const char *tag, const char *text, size_t size);

/* Cuts a file before its first record of a later step, or one that is not whole; a file without any other is removed.
 * Returns 0, or -1 with errno. */
int events_rewind(const char *path, int64_t step);
