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
};
void cuda_product(const struct product *p);
size_t cuda_products_version(void);      /* of cuBLASLt: 10000 major + 100 minor + patch */

#ifdef ACT_BF16
#define ACT_TYPE CUDA_R_16BF
#else
#define ACT_TYPE CUDA_R_32F
#endif

/* y[row, c] += bias[c], float32; nothing where there is no bias. */
void cuda_add_bias(float *y, const float *bias, int rows, int columns, size_t ld);

#endif
