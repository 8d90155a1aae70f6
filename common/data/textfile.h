/* textfile.h - reading text from outside: plain or gzip (by content, not by name), files, folders and globs. */
#ifndef QUARTET_TEXTFILE_H
#define QUARTET_TEXTFILE_H

#include "common/base/options.h"

/* Expands names, folders (every .txt, .jsonl, .json and .gz of these inside, recursively, sorted) and globs, in order.
 * With `weights` an entry may end in "=WEIGHT": "books=2.5" (a file that really has such a name wins).
 * Returns 0, or -1: EXIT_NOINPUT naming what matches nothing, EXIT_USAGE for a weight that is not in (0, 1000]. */
struct paths { char **path; double *weight; int *source; int count; };      /* source: number of the entry it is of */
int paths_expand(struct paths *out, const struct option_list *list, bool weights, struct error *error);
void paths_free(struct paths *p);                                           /* leaves {0} */

struct textfile;
/* Opens for reading, gzip unpacked on the way.  Returns 0 or -1 (EXIT_NOINPUT, EXIT_IO). */
int textfile_open(struct textfile **out, const char *path, struct error *error);
/* Up to size bytes; 0 at the end; -1 with *error (EXIT_DATA: damaged gzip). */
int64_t textfile_read(struct textfile *f, void *data, size_t size, struct error *error);
/* Next line without its end (LF or CRLF), BOM of the file removed; *line is valid until the next call.
 * Returns 1, 0 at the end, -1 with *error (a line over 256 MiB: EXIT_DATA). */
int textfile_line(struct textfile *f, char **line, size_t *length, struct error *error);
/* The first byte that is neither blank nor of a byte order mark; nothing is consumed.  0 when there is none, -1 with
 * *error. */
int textfile_first(struct textfile *f, struct error *error);
int64_t textfile_line_number(const struct textfile *f);
void textfile_close(struct textfile *f);

/* Text rules: BOM at the start removed, CRLF and lone CR become LF, each invalid UTF-8 byte becomes U+FFFD; counts what
 * it did.  Appends the cleaned text to out. */
struct text_counts { uint64_t bytes, boms, carriage_returns, invalid; };
void text_clean(struct bytes *out, const char *text, size_t length, bool at_start, struct text_counts *counts);

#endif
