/* documents.h - documents out of files, in parts, so that a document of any size passes through bounded memory.  A file
 * of JSON rows holds one document per row: it is known by its name (.jsonl, .jsonlines, .ndjson, .json, also packed),
 * or by a first line that is a JSON object, whatever the name.  Any other file is plain text: one document, split by
 * lines that are exactly "<|endoftext|>" or the separator (these lines belong to no document). */
#pragma once

#include "common/base/tally.h"
#include "common/data/paths.h"
#include "common/data/textfile.h"

struct document_rules {
    const char *text_key;       /* JSON rows: its value, a string or a list of strings (joined by newlines); a row that
                                   is a plain string is its own text */
    const char *separator;      /* or NULL */
    bool allow_invalid;         /* any share of bytes that are not UTF-8; else at most one in a hundred of a file */
    double skip_bad_rows;       /* how many rows that hold no text are skipped (tally.h) */
};

/* A document is one or more parts; a part is at most PART_LIMIT bytes, cut before a space after a letter where
 * possible: no splitting pattern reaches across that, so the parts' tokens are the document's.  Cleaned as
 * text_clean does. */
enum { PART_LIMIT = 4 << 20 };
struct part { const char *text; size_t length; bool first, last; };

struct documents;
void documents_open(struct documents **out, const struct document_rules *rules);    /* the strings must outlive it */
void documents_close(struct documents *d);
/* Goes on with every step-th of n files, of each of which at most `most` bytes of text are looked at (0: all). */
void documents_over(struct documents *d, char *const *path, int n, int step, uint64_t most);
/* Next part: 1 with *out (valid until the next call), 0 at the end of the files, -1 with *error (EXIT_NOINPUT, EXIT_IO,
 * EXIT_DATA).  Documents of nothing but blanks are left out. */
int documents_next(struct documents *d, struct part *out, struct error *error);
struct text_counts documents_counts(const struct documents *d);                  /* over all files so far */
const struct ledger *documents_ledger(const struct documents *d);                /* rows, and those that were skipped */
double documents_packed(const struct documents *d);     /* bytes on the disk of the text of the files that are done */

/* The files of --data, with weights, and their size on the disk together.  Returns 0, or -1: as paths_expand, or
 * EXIT_NOINPUT for what can be read only once. */
int documents_paths(struct paths *out, uint64_t *bytes, const struct option_list *data, struct error *error);

/* For an estimate: every step-th file, and of each at most *most bytes of text, are about 8 MiB.  Returns the step. */
int documents_step(const struct paths *p, uint64_t *most);
