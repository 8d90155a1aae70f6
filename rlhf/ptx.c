/* ptx.c - the text's gradient is computed into arrays of its own and then added: one more set of gradients buys both
 * norms, without which the coefficient cannot be chosen. */
#include "rlhf/ptx.h"
#include "common/train/optim.h"

#include <math.h>

void ptx_open(struct ptx *x, const struct config *c, struct memory *memory)
{
    params_open(&x->grads, c, memory, MEMORY_GRADS, false);
    batch_open(&x->batch, memory, x->max_tokens, x->max_tokens);
}

void ptx_close(struct ptx *x) { params_close(&x->grads); }

/* The rows from `from` to below `to` that fit into one micro-batch, into x->batch; returns the number of the next. */
static int fill_batch(struct ptx *x, int from, int to)
{
    batch_clear(&x->batch);
    while (from < to && x->batch.N + x->row_tokens <= x->max_tokens)
        order_row(x->order, false, x->cursor + (uint64_t)from++, &x->batch);
    return from;
}

static int64_t count_targets(struct ptx *x)
{
    int64_t count = 0;
    for (int row = 0; row < x->rows;) {
        row = fill_batch(x, row, x->rows);
        for (int i = 0; i < x->batch.N; i++) count += x->batch.mask[i];
    }
    return count;
}

double ptx_add(struct ptx *x, struct model *policy, double *norm)
{
    int64_t count = count_targets(x);
    struct params own = policy->grads;
    double sum = 0;
    policy->grads = x->grads;
    for (int row = 0; count > 0 && row < x->rows;) {
        row = fill_batch(x, row, x->rows);
        model_forward(policy, &x->batch, true);
        sum += model_cross_entropy(policy, &x->batch, x->coef / (double)count, true);
        model_backward(policy);
    }
    gradient_sum(policy);
    *norm = gradient_norm(policy);
    policy->grads = own;
    add(own.all, x->grads.all, own.count);
    fill(x->grads.all, 0, own.count);
    x->cursor += (uint64_t)x->rows;
    return count > 0 ? sum / (double)count : NAN;
}
