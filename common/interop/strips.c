/* strips.c - where each row lies here follows from where ours lie there; neighbours are read at once. */
#define _GNU_SOURCE
#include "common/interop/strips.h"
#include "format/reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 4 << 20 };

/* Rows from, from + 1 ... of theirs, `n` of them. */
static int read_rows(const struct strips *s, uint8_t *out, const int64_t *ours, int64_t from, int64_t n,
                     struct error *error)
{
    size_t row = (size_t)s->columns * s->size;
    for (int64_t i = 0, run; i < n; i += run) {
        int64_t first = ours[from + i];
        run = 1;
        while (i + run < n && ours[from + i + run] == (first < 0 ? first : first + run)) run++;
        if (first < 0) memset(out + (size_t)i * row, 0, (size_t)run * row);
        else if (tensor_read(s->ckpt, s->tensor, out + (size_t)i * row, (uint64_t)first * row, (size_t)run * row,
                             error) != 0)
            return -1;
    }
    return 0;
}

int strips_each(const struct strips *s,
                int (*take)(void *self, const uint8_t *values, size_t rows, struct error *error), void *self,
                struct error *error)
{
    int64_t all = (int64_t)ckpt_tensor_at(s->ckpt, s->tensor)->shape[0];
    int64_t high = STRIP / (int64_t)((size_t)s->columns * s->size);
    int64_t *ours = host_alloc((size_t)s->rows + 1, sizeof *ours);
    if (high < 1) high = 1;
    if (high > s->rows) high = s->rows;
    uint8_t *strip = host_alloc((size_t)(high * s->columns) + 1, s->size);
    int status = 0;
    for (int64_t i = 0; i < s->rows; i++) ours[i] = -1;
    for (int64_t r = 0; r < all; r++) {
        struct family_place at = family_place(s->names, s->config, s->slot, s->pieces, all, r);
        if (at.piece == s->piece) ours[at.row] = r;
    }
    for (int64_t from = 0; from < s->rows && status == 0; from += high) {
        int64_t n = s->rows - from < high ? s->rows - from : high;
        status = read_rows(s, strip, ours, from, n, error);
        if (status == 0) status = take(self, strip, (size_t)n, error);
    }
    free(strip);
    free(ours);
    return status;
}

int strips_write(int file, const void *data, uint64_t offset, size_t size)
{
    if (file_write_at(file, data, offset, size) != 0) return -1;
    (void)sync_file_range(file, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);     /* where it is not there: later */
    return 0;
}
