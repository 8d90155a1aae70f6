/* rows.c (CPU) - copying rows out of and into a batch, and adding them up.  It waits for memory: a loop is enough. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

#include <string.h>

struct copy { act_t *to; const act_t *from; const int *to_rows, *from_rows; size_t C; };

static void copy_rows(const void *context, size_t from, size_t end)
{
    const struct copy *c = context;
    for (size_t row = from; row < end; row++)
        memcpy(c->to + (c->to_rows ? (size_t)c->to_rows[row] : row) * c->C,
               c->from + (c->from_rows ? (size_t)c->from_rows[row] : row) * c->C, c->C * sizeof *c->to);
}

void rows_gather(act_t *to, const act_t *from, const int *rows, int n, int C)
{
    rows_for(n, C, copy_rows, &(struct copy){.to = to, .from = from, .from_rows = rows, .C = (size_t)C});
}

void rows_scatter(act_t *to, const act_t *from, const int *rows, int n, int C)
{
    rows_for(n, C, copy_rows, &(struct copy){.to = to, .from = from, .to_rows = rows, .C = (size_t)C});
}

struct sum { act_t *y; const act_t *a, *b; };

static void add_block(const void *context, size_t from, size_t end)
{
    const struct sum *s = context;
    for (size_t i = from; i < end; i += VW) {
        int n = (int)(end - i < VW ? end - i : VW);
        act_store(s->y + i, act_load(s->a + i, n) + act_load(s->b + i, n), n);
    }
}

void acts_add(act_t *y, const act_t *a, const act_t *b, size_t n)
{
    blocks_for(n, BLOCK_FLOATS, add_block, &(struct sum){y, a, b});
}
