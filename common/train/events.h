/* events.h - what TensorBoard reads: numbers and texts by step, in files events.out.tfevents.* (docs/metrics.md). */
#ifndef QUARTET_EVENTS_H
#define QUARTET_EVENTS_H

#include "common/train/record.h"

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

#endif
