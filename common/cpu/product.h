/* product.h - products of ops.h for a dy whose rows lie further apart than `out`: the gradients of logits, which take
 * the place of the logits.   ldy: elements from row to row */
#ifndef QUARTET_PRODUCT_H
#define QUARTET_PRODUCT_H

#include "common/model/ops.h"

void product_backward_input(act_t *dx, const act_t *dy, size_t ldy, const act_t *packed, bool add, int N, int out,
                            int in);
void product_backward_weight(float *dweight, const act_t *dy, size_t ldy, const act_t *x, int N, int out, int in);
void product_backward_bias(float *dbias, const act_t *dy, size_t ldy, int N, int out);

#endif
