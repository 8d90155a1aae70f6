/* ptx.h - the pretraining mix (PPO-ptx): the gradient of ordinary text, added to each policy update, so that what
 * pretraining taught is not forgotten.
 *     loss = PPO + coef * mean cross-entropy of the text's target tokens
 * Source: Ouyang et al. 2022, eq. 2 and appendix C.4 (both gradients accumulated before one optimizer step). */
#ifndef QUARTET_PTX_H
#define QUARTET_PTX_H

#include "common/data/order.h"
#include "common/model/model.h"

struct ptx {
    const struct order *order;
    double coef;
    int rows, row_tokens;        /* packed rows of text an update, and their length */
    uint64_t cursor;             /* global index of the next row */
    struct params grads;         /* apart from the model's own, so that both norms can be known */
    float *gradient_sum;
    struct batch batch;
    int max_tokens;              /* of a micro-batch, >= row_tokens */
};

/* Takes memory (measuring and for real) for this policy; the arenas belong to the memory, so
 * ptx_close frees only host bookkeeping. */
void ptx_open(struct ptx *x, const struct model *policy, struct memory *memory);
void ptx_close(struct ptx *x);

/* Adds coef * d(mean cross-entropy of the next rows)/d(params) to the policy's gradients.  Returns that mean,
 * or NaN where the rows have no target; *norm is the norm of what was added. */
double ptx_add(struct ptx *x, struct model *policy, double *norm);

#endif
