/* records.h - JSON values from files, also packed ones: a JSON array, or one value a line (told by content, not by
 * name).  A repeated key in an object is an error; strings may hold \u0000.  What Python writes and JSON does not
 * know is read all the same: NaN and Infinity as null, integers of any length as real numbers, half a surrogate pair
 * as U+FFFD, which is counted. */
#pragma once

#include "common/base/tally.h"
#include <jansson.h>

/* Calls take(self, row, where) for each element of each file, in order; where: "file.jsonl:17" or "file.json[16]".
 * take may change the row, and returns 0 to go on, -1 with *error to stop.  Blank lines are skipped.  lenient
 * (prompts): a line that begins with neither { nor [ and is not JSON, or only a number or true, false, null, is handed
 * over as a JSON string.  Rows that are not JSON, or that take refuses with EXIT_DATA, are skipped as far as the ledger
 * (may be NULL) allows.
 * Returns 0, or -1: EXIT_DATA "FILE:LINE: not JSON at column ...", EXIT_NOINPUT. */
int records_read(char *const *path, int n, bool lenient, struct ledger *ledger,
                 int (*take)(void *self, json_t *row, const char *where), void *self, struct error *error);

/* The same of one file, pulled row by row.  With counts (may be NULL) invalid UTF-8 is replaced and counted as
 * text_clean does; without, it is an error. */
struct records;
struct text_counts;
int records_open(struct records **out, const char *path, bool lenient, struct ledger *ledger,
                 struct text_counts *counts, struct error *error);
/* Returns 1 with *row and *where (both valid until the next call), 0 at the end, -1 with *error. */
int records_next(struct records *r, json_t **row, const char **where, struct error *error);
double records_packing(const struct records *r);         /* bytes of the file per byte of text, so far */
void records_close(struct records *r);
