/* ptx.c - the text's gradient is computed into arrays of its own and then added: one more set of gradients buys both
 * norms, without which the coefficient cannot be chosen. */
#include "rlhf/ptx.h"
#include "common/train/optim.h"

#include <math.h>
#include <stdlib.h>

void ptx_open(struct ptx *x, const struct model *policy, struct memory *memory)
{
    model_gradients_open(&x->grads, &x->gradient_sum, &policy->params, &policy->local, &policy->use, memory);
    batch_open(&x->batch, memory, x->max_tokens, x->max_tokens);
}

void ptx_close(struct ptx *x) { params_close(&x->grads); }

/* The rows from `from` to below `to` that fit into one micro-batch, into x->batch; returns the number of the next. */
static int fill_batch(struct ptx *x, int from, int to)
{
    struct error error;
    batch_clear(&x->batch);
    while (from < to && x->batch.N + x->row_tokens <= x->max_tokens)
        if (order_row(x->order, false, x->cursor + (uint64_t)from++, &x->batch, &error) != 0) quit_error(&error);
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

/* One slice (train.h) of the rows: the sum of its losses. */
static double make_slice(struct ptx *x, struct model *policy, int slice, double scale)
{
    int slices = int_max(policy->use.slices, 1), each = (x->rows + slices - 1) / slices;
    int to = int_min((slice + 1) * each, x->rows);
    double sum = 0;
    if (slice * each >= to) model_idle(policy, true);
    for (int row = slice * each; row < to;) {
        row = fill_batch(x, row, to);
        model_forward(policy, &x->batch, true);
        sum += model_cross_entropy(policy, &x->batch, scale, true);
        model_backward(policy);
    }
    return sum;
}

double ptx_add(struct ptx *x, struct model *policy, double *norm)
{
    int64_t count = count_targets(x);
    struct comm *comm = policy->use.comm;
    struct place place = comm_place(comm);
    struct params own = policy->grads;
    float *own_sum = policy->sum;
    double sum = 0, *all = host_alloc((size_t)place.d, sizeof *all);
    policy->grads = x->grads;
    policy->sum = x->gradient_sum;
    gradient_clear(policy);
    for (int first = 0, slices = int_max(policy->use.slices, 1); first < slices; first += place.d) {
        gradient_begin(policy, first == 0, false);
        double mine = count > 0 ? make_slice(x, policy, first + place.data, x->coef / (double)count) : 0;
        comm_gather_host(comm, GROUP_DATA, all, &mine, sizeof mine);
        for (int r = 0; r < place.d; r++) sum += all[r];
        gradient_sum(policy, first == 0, first + place.d >= slices);
    }
    free(all);
    *norm = gradient_norm(policy);
    float *gradient = gradient_own(policy);
    policy->grads = own;
    policy->sum = own_sum;
    add(gradient_own(policy), gradient, policy->to - policy->from);
    x->cursor += (uint64_t)x->rows;
    return count > 0 ? sum / (double)count : NAN;
}
