/* products.h - row-major products through cuBLASLt. */
#ifndef QUARTET_PRODUCTS_H
#define QUARTET_PRODUCTS_H

#include "common/cuda/kernel.h"

#include <library_types.h>

/* A row-major matrix in device memory, read as it lies or turned. */
struct operand { const void *at; size_t ld; bool turned; };

/* to (rows, columns) = x y (+ bias) (+ from), with x (rows, inner) and y (inner, columns) after turning, both of act_t;
 * to and from of type `type`, both with row distance ld.  bias (columns), act_t, and from may be NULL; from may be to.
 * Sums are float32, rounded once. */
struct product {
    void *to;
    cudaDataType type;
    size_t ld;
    struct operand x, y;
    int rows, columns, inner;
    const act_t *bias;
    const void *from;
    void *workspace;                /* WORKSPACE_BYTES; NULL: cuda_workspace() */
    bool settled;                   /* by the algorithm that cuda_settle has found for its shape, if any */
};
void cuda_product(const struct product *p);

/* Of the algorithms for products of p's types and numbers of columns and inner, with or without a bias as in p, the
 * first that takes every number of rows up to p's and is `alike`: a row has the same bits in every batch.  From then on
 * products that are `settled` use it; so does cuda_product(p) while alike is asked.  False: there is none. */
bool cuda_settle(const struct product *p, bool (*alike)(const struct product *p));
size_t cuda_products_version(void);      /* of cuBLASLt: 10000 major + 100 minor + patch */

#ifdef ACT_BF16
#define ACT_TYPE CUDA_R_16BF
#else
#define ACT_TYPE CUDA_R_32F
#endif

/* The loss's logits: the most rows at once, and their distance. */
int cuda_logits_rows(int V);
int cuda_logits_distance(int V);

/* y[row, c] += bias[c], float32; nothing where there is no bias. */
void cuda_add_bias(float *y, const float *bias, int rows, int columns, size_t ld);

#endif
