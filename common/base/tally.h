/* tally.h - counts of what happened to the rows of a data set and why, in the order of first occurrence. */
#pragma once

#include "common/base/base.h"

enum { TALLY_LINES = 32 };
struct tally { struct { char what[100]; uint64_t n; } line[TALLY_LINES]; int count; };       /* starts as {0} */

/* Adds n to the line of that text (n 0: nothing).  When the lines are used up, new texts are counted as "others". */
void tally_add(struct tally *t, const char *what, uint64_t n);
/* The count of that line, 0 without one. */
uint64_t tally_get(const struct tally *t, const char *what);

/* All counts of one data set.  Starts as {0}, or with `skip`: how many bad rows may be skipped, below 1 as a share. */
struct ledger {
    struct tally read, dropped, changed, unused;     /* unused: keys of rows that nothing was made of */
    double skip;
    uint64_t rows, bad;
    struct bytes bad_rows;                           /* the first sentences about them */
};
void ledger_free(struct ledger *l);

/* The row that *error (EXIT_DATA) speaks of is not understood.  Returns 0 when it may be skipped (now counted and
 * listed); -1 when it may not, or l is NULL. */
int ledger_skip(struct ledger *l, struct error *error);
/* After the last row: 0, or -1 (EXIT_DATA) when the skipped rows are more than the allowed share. */
int ledger_check(const struct ledger *l, struct error *error);
/* The rows that were skipped, if any, as lines. */
void ledger_skipped(struct bytes *out, const struct ledger *l);
/* -1 (EXIT_DATA): nothing is left to use; what ("no ranking to train on") and why, with everything counted. */
int ledger_nothing(const struct ledger *l, const char *what, bool held_out, struct error *error);
/* Everything counted, a line "    1234  an empty answer" each, and "kept:" for what the caller appends. */
void ledger_report(struct bytes *out, const struct ledger *l);
