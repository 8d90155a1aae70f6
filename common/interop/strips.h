/* strips.h - a tensor of theirs, made of rows of one of ours, a few MiB at a time: what export writes. */
#ifndef QUARTET_STRIPS_H
#define QUARTET_STRIPS_H

#include "common/interop/families.h"
#include "format/checkpoint.h"

/* Piece number `piece` of `pieces` that tensor number `tensor` of a checkpoint becomes: rows x columns values of size
 * `size`, not transposed. */
struct strips {
    struct ckpt *ckpt;
    const struct family *names;
    const struct config *config;
    enum slot slot;
    int piece, pieces;
    size_t tensor;
    int64_t rows, columns;
    size_t size;
};

/* Gives `take` all rows in order, some at a time; rows that we do not have are zeros.  Returns 0, or what is not 0:
 * reading failed (-1), or take returned it. */
int strips_each(const struct strips *s,
                int (*take)(void *self, const uint8_t *values, size_t rows, struct error *error), void *self,
                struct error *error);

/* Writes like file_write_at, and lets the disk begin at once: the sync at the end then has little left to wait for. */
int strips_write(int file, const void *data, uint64_t offset, size_t size);

#endif
