/* parts.h - what export writes, whatever the form of the file: which of their tensors ours become, the rows of each, and
 * the tokens that have a role. */
#ifndef QUARTET_PARTS_H
#define QUARTET_PARTS_H

#include "common/interop/families.h"
#include "common/text/chat.h"
#include "format/reader.h"

/* A tensor of theirs: piece number `piece` of `pieces` that tensor number `tensor` of the checkpoint becomes, rows x columns
 * values.  transposed: it is (columns, rows) in the file.  given: its values in float32, where no tensor has them. */
struct part {
    char *name;
    enum slot slot;
    int piece, pieces;
    bool transposed, vector;
    int64_t rows, columns;
    size_t tensor;
    uint32_t dtype;
    float *given;
};
struct parts { struct ckpt *ckpt; const struct family *family; struct config config; struct part *part; size_t count; };

/* Lists the tensors of a family for all of ours, in file order: 0, or -1 (EXIT_DATA; EXIT_MISMATCH: one has no name). */
int parts_list(struct parts *x, struct error *error);
void parts_free(struct parts *x);

/* Gives `take` all rows of a part in order, a few MiB at a time; rows that we do not have are zeros.  Returns 0, or what is
 * not 0: reading failed (-1), or take returned it. */
int parts_rows(const struct parts *x, const struct part *o,
               int (*take)(void *self, const uint8_t *values, size_t rows, struct error *error), void *self,
               struct error *error);

/* Writes like file_write_at, and lets the disk begin at once: the sync at the end then has little left to wait for. */
int parts_write(int file, const void *data, uint64_t offset, size_t size);

/* The tokenizer (NULL: none), the text of the chat template (NULL: none), and the ids of the tokens before a text and behind
 * an answer (-1: none).  chat.tokenizer is NULL where the template is unknown. */
struct speech { struct tokenizer *tokenizer; struct chat chat; const char *template; struct stops stops; int bos, eos; };
int speech_open(struct speech *s, const struct ckpt *c, struct error *error);      /* to tokenizer_free, also when -1 */

#endif
