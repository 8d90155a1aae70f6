/* record.h - a flat record of one step: ordered keys (stable, documented in docs/metrics.md) with numbers. */
#ifndef QUARTET_RECORD_H
#define QUARTET_RECORD_H

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

#endif
