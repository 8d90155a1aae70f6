/* rows.c (CPU) - copying rows out of and into a batch.  It waits for memory: a loop is enough. */
#include "common/cpu/blocks.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <string.h>

struct copy { act_t *to; const act_t *from; const int *to_rows, *from_rows; int n, C, rows; };

static void copy_rows(void *context, int i, int thread)
{
    (void)thread;
    const struct copy *c = context;
    size_t C = (size_t)c->C;
    for (int row = i * c->rows; row < int_min(c->n, (i + 1) * c->rows); row++) {
        size_t to = (size_t)(c->to_rows ? c->to_rows[row] : row);
        size_t from = (size_t)(c->from_rows ? c->from_rows[row] : row);
        memcpy(c->to + to * C, c->from + from * C, C * sizeof *c->to);
    }
}

void rows_gather(act_t *to, const act_t *from, const int *rows, int n, int C)
{
    struct copy c = {.to = to, .from = from, .from_rows = rows, .n = n, .C = C, .rows = rows_a_block(C)};
    threads_for(block_count((size_t)n, (size_t)c.rows), copy_rows, &c);
}

void rows_scatter(act_t *to, const act_t *from, const int *rows, int n, int C)
{
    struct copy c = {.to = to, .from = from, .to_rows = rows, .n = n, .C = C, .rows = rows_a_block(C)};
    threads_for(block_count((size_t)n, (size_t)c.rows), copy_rows, &c);
}
