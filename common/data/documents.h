/* documents.h - documents out of files, a piece at a time, so that a document of any size passes through bounded
 * memory.  A .jsonl, .json or .ndjson file (also .gz) holds a document a row; any other file is plain text, one
 * document, split by lines that are exactly "<|endoftext|>" or the separator (these lines belong to no document). */
#ifndef QUARTET_DOCUMENTS_H
#define QUARTET_DOCUMENTS_H

#include "common/data/textfile.h"

struct document_rules {
    const char *text_key;       /* JSON rows: its value, a string or a list of strings (joined by newlines); a row that
                                   is a plain string is its own text */
    const char *separator;      /* or NULL */
};

/* A document is one or more pieces; a piece is at most PIECE_LIMIT bytes, cut before a space after a letter where
 * possible: no splitting pattern reaches across that, so the pieces' tokens are the document's.  Cleaned as
 * text_clean does. */
enum { PIECE_LIMIT = 4 << 20 };
struct piece { const char *text; size_t length; bool first, last; };

struct pieces;
void pieces_open(struct pieces **out, const struct document_rules *rules);       /* the strings must outlive it */
void pieces_close(struct pieces *p);
/* Goes on with a file.  Returns 0, or -1 (EXIT_NOINPUT, EXIT_IO, EXIT_DATA). */
int pieces_file(struct pieces *p, const char *path, struct error *error);
/* Next piece of the file: 1 with *out (valid until the next call), 0 at the end of the file, -1 with *error.
 * Documents of nothing but blanks are left out. */
int pieces_next(struct pieces *p, struct piece *out, struct error *error);
struct text_counts pieces_counts(const struct pieces *p);                        /* over all files so far */

#endif
