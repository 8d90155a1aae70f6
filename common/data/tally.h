/* tally.h - counts of what happened to the rows of a data set and why, in the order in which it first happened, for one
 * table a person reads ("3 dropped: an empty answer"). */
#ifndef QUARTET_TALLY_H
#define QUARTET_TALLY_H

#include "common/base/base.h"

enum { TALLY_LINES = 24 };
struct tally { struct { const char *what; uint64_t n; } line[TALLY_LINES]; int count; };     /* starts as {0} */

/* Adds n to the line of that text (n 0: nothing).  what must outlive the tally; dies when there are too many different
 * ones. */
void tally_add(struct tally *t, const char *what, uint64_t n);
/* The count of that line, 0 without one. */
uint64_t tally_get(const struct tally *t, const char *what);
/* One line each, "    1234  an empty answer\n", appended to out. */
void tally_print(struct bytes *out, const struct tally *t);
/* The three of a data set one below the other, and "kept:" for what the caller appends. */
void tally_report(struct bytes *out, const struct tally *read, const struct tally *dropped,
                  const struct tally *changed);

#endif
