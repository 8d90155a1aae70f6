/* textfile.h - reading text from outside: plain, gzip or zstd (by content, not by name; zstd where the library was
 * there when Quartet was built), in one pass, so that a pipe will do. */
#pragma once

#include "common/base/base.h"

struct textfile;
/* Opens for reading, unpacking on the way.  Returns 0 or -1 (EXIT_NOINPUT, EXIT_IO). */
int textfile_open(struct textfile **out, const char *path, struct error *error);
/* The next line with its end, or about `most` bytes of a longer one, whole characters; valid until the next call.
 * Returns 1, 0 at the end, -1 with *error (EXIT_DATA: damaged, or a format that holds no UTF-8 text: foreign_check).
 * What follows the packed data of a file and is not packed is warned about on stderr, with its place. */
int textfile_piece(struct textfile *f, char **piece, size_t *length, size_t most, struct error *error);
/* The same without its end (LF or CRLF), and without the byte order mark of the file; over 256 MiB: EXIT_DATA. */
int textfile_line(struct textfile *f, char **line, size_t *length, struct error *error);
/* What comes next, nothing is consumed: *text has as many bytes as are returned, at least `least` unless the file ends
 * before.  -1 with *error. */
int64_t textfile_peek(struct textfile *f, const char **text, size_t least, struct error *error);
/* The first byte that is neither blank nor of a byte order mark; nothing is consumed.  0 when there is none, -1
 * with *error. */
int textfile_first(struct textfile *f, struct error *error);
double textfile_packing(const struct textfile *f);       /* bytes of the file per byte of text, so far */
int64_t textfile_line_number(const struct textfile *f);
void textfile_close(struct textfile *f);

/* 0 when the first n bytes of a file (unpacked, if it was gzip or zstd) may be those of UTF-8 text; -1 (EXIT_DATA) with
 * a sentence that names the format and the way out (foreign.c). */
int foreign_check(const char *path, const void *data, size_t n, struct error *error);

/* How much of a text may be cleaned on its own when more follows: not the head of a character or of a CRLF. */
size_t text_whole(const char *text, size_t length);

/* Text rules: BOM at the start removed, CRLF and lone CR become LF, each invalid UTF-8 byte becomes U+FFFD; counts what
 * it did.  Appends the cleaned text to out. */
struct text_counts { uint64_t bytes, boms, carriage_returns, invalid; };
void text_clean(struct bytes *out, const char *text, size_t length, bool at_start, struct text_counts *counts);

/* A text in another encoding, or no text at all, is not used by mistake.  Returns 0, or -1 (EXIT_DATA) when, of the
 * bytes counted, at least 16 and more than one in a hundred are not UTF-8; before at_end only from 64 KiB on.
 * way_out: what the user may do besides converting the file. */
int text_check(const struct text_counts *counts, bool at_end, const char *path, const char *way_out,
               struct error *error);
