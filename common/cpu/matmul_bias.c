/* matmul_bias.c (CPU) - the gradient of a bias: sums of columns, each in the order of the products' blocks. */
#include "common/cpu/blocks.h"
#include "common/cpu/product.h"
#include "common/cpu/vector.h"

struct column_sums { float *sums; const act_t *x; int rows; size_t ld; };

enum { SUM_COLUMNS = 4 * VW };

static void column_sums_task(const void *context, size_t from, size_t end)
{
    const struct column_sums *s = context;
    size_t n = end - from;
    for (int k = 0; k < s->rows; k += MATMUL_BLOCK) {
        float sum[SUM_COLUMNS] = {0};
        for (int r = k; r < int_min(k + MATMUL_BLOCK, s->rows); r++)
            for (size_t c = 0; c < n; c++) sum[c] += act_get(s->x[(size_t)r * s->ld + from + c]);
        for (size_t c = 0; c < n; c++) s->sums[from + c] += sum[c];
    }
}

void product_backward_bias(float *dbias, const act_t *dy, size_t ldy, int N, int out)
{
    blocks_for((size_t)out, SUM_COLUMNS, column_sums_task, &(struct column_sums){dbias, dy, N, ldy});
}
