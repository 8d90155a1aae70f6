/* records.h - JSON objects from files: a JSON array, or one object a line (told by content), each also gzip.  Errors name file and
 * line (lines) or element number (arrays).  Parsing is jansson's. */
#ifndef QUARTET_RECORDS_H
#define QUARTET_RECORDS_H

#include "common/base.h"
#include <jansson.h>

/* Calls take(self, row, where) for each element of each file, in order; where: "file.jsonl:17" or "file.json[16]".  row is an
 * object, or any other JSON value when the file holds such (a line that is a plain JSON string, for prompts).  take returns 0
 * to go on, -1 with *error to stop.  Blank lines are skipped.  lenient (prompts): a line that is not JSON is handed over as a JSON string.
 * Returns 0, or -1: EXIT_DATA "FILE:LINE: not JSON: ..., found ...", EXIT_NOINPUT. */
int records_read(char *const *path, int n, bool lenient, int (*take)(void *self, json_t *row, const char *where), void *self,
                 struct error *error);

#endif
