/* token_loss.c (CPU) - the vocabulary head by chunks of rows: product, softmax and loss, gradient in place of the
 * logits, two products back.  A chunk is a multiple of MATMUL_BLOCK rows, so that the bits of dweight are those of one
 * product over all rows; and as large as memory bandwidth asks (dweight is read and written once a chunk). */
#include "common/cpu/product.h"
#include "common/cpu/softmax.h"
#include "common/cpu/vector.h"
#include "common/base/threads.h"

#include <assert.h>
#include <math.h>

enum { CHUNK_MOST = 2 * MATMUL_BLOCK, CHUNK_BYTES = 128 << 20 };

static int chunk_rows(int V)
{
    return (size_t)CHUNK_MOST * V * sizeof(float) <= CHUNK_BYTES ? CHUNK_MOST : MATMUL_BLOCK;
}

size_t token_loss_work(int max_n, int C, int V)
{
    (void)C;
    return (size_t)int_min(max_n, chunk_rows(V)) * V;
}

struct chunk {
    float *logprobs, *entropy, *losses, *logits;        /* of the chunk's rows */
    const int *targets;
    const float *old_logprobs, *advantages;
    const struct token_loss *loss;
    bool gradient;
    int rows, V, own;                                   /* own: those of the V logits of a row that are tokens */
};

/* The clipped policy loss of one row; *slope = d loss / d logprob. */
static double policy_loss(double *slope, double logprob, double old_logprob, double advantage,
                          const struct token_loss *l)
{
    double difference = logprob - old_logprob, ratio = exp(fmin(fmax(difference, -20), 20));
    double clipped = fmin(fmax(ratio, 1 - (double)l->clip_low), 1 + (double)l->clip_high);
    double plain = -advantage * ratio, loss = fmax(plain, -advantage * clipped);
    *slope = plain >= loss && fabs(difference) <= 20 ? plain : 0;           /* d ratio / d logprob = ratio */
    double most = -(double)l->dual_clip * advantage;
    if (l->dual_clip > 0 && advantage < 0 && loss > most) {
        loss = most;
        *slope = 0;
    }
    return loss;
}

/* What follows from the sums of row i, whose target has the logit z_target. */
static void finish_row(const struct chunk *c, int i, struct softmax s, float z_target)
{
    const struct token_loss *l = c->loss;
    float *z = c->logits + (size_t)i * c->V;
    float logprob = softmax_logprob(&s, z_target), entropy = softmax_entropy(&s);
    c->logprobs[i] = logprob;
    if (c->entropy) c->entropy[i] = entropy;
    double loss = 0, slope = 0, entropy_coef = 0;
    if (l->kind == LOSS_CROSS_ENTROPY) {
        loss = -(double)logprob;
        slope = -1;
    } else if (l->kind == LOSS_POLICY) {
        entropy_coef = (double)l->entropy_coef;
        loss = policy_loss(&slope, (double)logprob, (double)c->old_logprobs[i], (double)c->advantages[i], l) -
               entropy_coef * (double)entropy;
    }
    if (c->losses) c->losses[i] = (float)loss;
    if (c->gradient) {
        double scale = (double)l->scale / (double)l->temperature;
        softmax_gradient(z, &s, c->targets[i], slope * scale, entropy_coef * scale, c->own);
        for (int k = c->own; k < c->V; k++) z[k] = 0;
        if (!act_floats((act_t *)(void *)z))                /* as activations, in place */
            for (int k = 0; k < c->V; k += VW)
                act_store((act_t *)(void *)z + k, v_load_upto(z + k, c->V - k), c->V - k);
    }
}

static void row_task(void *context, int i, int thread)
{
    const struct chunk *c = context;
    float *z = c->logits + (size_t)i * c->V;
    (void)thread;
    assert(c->targets[i] >= 0 && c->targets[i] < c->V);
    struct softmax s = softmax_row(z, c->V, c->loss->temperature);
    finish_row(c, i, s, z[c->targets[i]]);
}

static void part_task(void *context, int i, int thread)
{
    const struct chunk *c = context;
    const struct token_parts *p = c->loss->parts;
    float *z = c->logits + (size_t)i * c->V;
    (void)thread;
    struct softmax s = softmax_row(z, c->own, c->loss->temperature);
    p->all[(size_t)p->rank * c->rows + i] = (struct token_part){s, c->targets[i] >= 0 ? z[c->targets[i]] : 0};
}

static void join_task(void *context, int i, int thread)
{
    const struct chunk *c = context;
    const struct token_part *part = c->loss->parts->all + i;
    struct softmax s = part->row;
    float target = part->target;
    (void)thread;
    for (int r = 1; r < c->loss->parts->ranks; r++) {
        part += c->rows;
        s = softmax_join(&s, &part->row);
        target += part->target;
    }
    finish_row(c, i, s, target);
}

static void chunk_losses(struct chunk *c)
{
    const struct token_parts *p = c->loss->parts;
    if (!p) {
        threads_for(c->rows, row_task, c);
        return;
    }
    threads_for(c->rows, part_task, c);
    p->gather(p->self, (size_t)c->rows * sizeof *p->all);
    threads_for(c->rows, join_task, c);
}

void token_loss(float *logprobs, float *entropy, float *losses, act_t *dh, float *dweight, const act_t *h,
                const int *targets, const act_t *packed, const struct token_loss *loss, float *work, int n, int C,
                int V)
{
    assert(loss->temperature > 0 && !dh == !dweight && (loss->kind != LOSS_LOGPROBS || !dh));
    int rows = chunk_rows(V);
    for (int i = 0; i < n; i += rows) {
        int m = int_min(rows, n - i);
        logits_forward(work, h + (size_t)i * C, packed, loss->bias, m, V, C);
        struct chunk c = {logprobs + i, entropy ? entropy + i : NULL, losses ? losses + i : NULL, work, targets + i,
                          loss->old_logprobs ? loss->old_logprobs + i : NULL,
                          loss->advantages ? loss->advantages + i : NULL,
                          loss, dh != NULL, m, V, loss->parts ? loss->parts->own : V};
        chunk_losses(&c);
        if (!dh) continue;
        const act_t *dz = (act_t *)(void *)work;
        size_t ld = (size_t)V * sizeof *work / sizeof *dz;
        product_backward_input(dh + (size_t)i * C, dz, ld, packed, false, m, V, C);
        product_backward_weight(dweight, dz, ld, h + (size_t)i * C, m, V, C);
        if (loss->bias) product_backward_bias(loss->dbias, dz, ld, m, V);
    }
}
