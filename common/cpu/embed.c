/* embed.c (CPU) - forward copies rows.  Backward is cut by columns: each task walks all rows in ascending order
 * over its own columns, so that rows with the same token add up in one order without a lock. */
#include "common/cpu/blocks.h"
#include "common/cpu/vector.h"
#include "common/model/ops.h"

#include <string.h>

enum { COLUMNS = 64 };      /* a task of backward: whole cache lines, 64 apart */

struct embed {
    act_t *x;
    const act_t *dx;
    float *dtable, *dposition_table;
    const float *table, *position_table;
    const int *tokens, *positions;
    int N, C;
};

static void forward_rows(const void *context, size_t from, size_t end)
{
    const struct embed *e = context;
    size_t C = (size_t)e->C;
    for (size_t row = from; row < end; row++) {
        act_t *x = e->x + row * C;
        if (e->tokens[row] < 0) {
            memset(x, 0, C * sizeof *x);
            continue;
        }
        const float *token = e->table + (size_t)e->tokens[row] * C;
        const float *position = e->position_table ? e->position_table + (size_t)e->positions[row] * C : NULL;
        if (position) for (size_t c = 0; c < C; c++) x[c] = act_put(token[c] + position[c]);
        else for (size_t c = 0; c < C; c++) x[c] = act_put(token[c]);
    }
}

void embed_forward(act_t *x, const int *tokens, const int *positions, const float *table, const float *position_table,
                   int N, int C)
{
    struct embed e = {.x = x, .tokens = tokens, .positions = positions, .table = table,
                      .position_table = position_table, .C = C};
    rows_for(N, C, forward_rows, &e);
}

static void add_row(float *table, int row, const act_t *dx, size_t C, size_t columns)
{
    float *to = table + (size_t)row * C;
    for (size_t c = 0; c < columns; c++) to[c] += act_get(dx[c]);
}

static void backward_columns(const void *context, size_t from, size_t end)
{
    const struct embed *e = context;
    size_t C = (size_t)e->C, columns = end - from;
    for (int row = 0; row < e->N; row++) {
        const act_t *dx = e->dx + (size_t)row * C + from;
        if (e->tokens[row] >= 0) add_row(e->dtable + from, e->tokens[row], dx, C, columns);
        if (e->dposition_table) add_row(e->dposition_table + from, e->positions[row], dx, C, columns);
    }
}

void embed_backward(float *dtable, float *dposition_table, const act_t *dx, const int *tokens, const int *positions,
                    int N, int C)
{
    struct embed e = {.dtable = dtable, .dposition_table = dposition_table, .dx = dx, .tokens = tokens,
                      .positions = positions, .N = N, .C = C};
    blocks_for((size_t)C, COLUMNS, backward_columns, &e);
}

void positions_fill(int *positions, const int *offsets, int S, int N)
{
    (void)N;
    for (int s = 0; s < S; s++)
        for (int i = offsets[s]; i < offsets[s + 1]; i++) positions[i] = i - offsets[s];
}
