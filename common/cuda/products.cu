/* products.cu (CUDA) - all that this project knows of cuBLASLt.
 *
 * cuBLASLt is column-major: a row-major matrix is the turned one to it.  So to = x y is asked for as to' = y' x', with
 * A = y, B = x, m = columns, n = rows, and a flag says "turned" where the row-major operand is turned.
 * Documentation: cuBLAS Library, "cublasLtMatmul()" (types that go together: compute float32, scale float32, A and B
 * bfloat16 with C and D bfloat16 or float32, or all float32; the bias epilogue has the type of D) and
 * "cublasLtMatmulPreferenceAttributes_t" (reduction schemes masked out: no split-K, so that the same call gives the
 * same bits).  Which algorithm is chosen depends on the number of rows: a row's bits do too. */
#include "common/cuda/products.h"

#include <cublasLt.h>

enum { PLANS = 512 };       /* shapes remembered; each has one place, and a newer one takes it */

struct key {
    int rows, columns, inner, type, bias;
    size_t ld, ld_x, ld_y;
    bool turned_x, turned_y;
    unsigned aligned[3];
};

struct plan {
    struct key key;
    bool made;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

static cublasLtHandle_t library;
static struct plan plans[PLANS];

size_t cuda_products_version(void) { return cublasLtGetVersion(); }

static void check(cublasStatus_t code, const char *what)
{
    if (code != CUBLAS_STATUS_SUCCESS) die("cuBLASLt: %s: error %d", what, (int)code);
}

/* The largest power of two up to 256 that divides an address. */
static unsigned alignment(const void *p)
{
    unsigned bytes = 256;
    while ((uintptr_t)p % bytes != 0) bytes /= 2;
    return bytes;
}

static struct key key_of(const struct product *p)
{
    struct key k;
    memset(&k, 0, sizeof k);                    /* the bytes between the members too: keys are compared as bytes */
    k.rows = p->rows; k.columns = p->columns; k.inner = p->inner;
    k.type = p->type; k.bias = p->bias != NULL;
    k.ld = p->ld; k.ld_x = p->x.ld; k.ld_y = p->y.ld;
    k.turned_x = p->x.turned; k.turned_y = p->y.turned;
    unsigned from = p->from ? alignment(p->from) : 256, to = alignment(p->to);
    k.aligned[0] = alignment(p->y.at); k.aligned[1] = alignment(p->x.at); k.aligned[2] = from < to ? from : to;
    return k;
}

static unsigned place_of(const struct key *k)
{
    const unsigned char *bytes = (const unsigned char *)k;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof *k; i++) hash = (hash ^ bytes[i]) * 16777619u;
    return (hash ^ hash >> 16) % PLANS;
}

/* As cuBLASLt sees a row-major (rows, columns) matrix. */
static cublasLtMatrixLayout_t layout(cudaDataType type, int rows, int columns, bool turned, size_t ld)
{
    cublasLtMatrixLayout_t made;
    int lines = turned ? columns : rows, length = turned ? rows : columns;
    check(cublasLtMatrixLayoutCreate(&made, type, (uint64_t)length, (uint64_t)lines, (int64_t)ld), "a layout");
    return made;
}

static void set_attribute(struct plan *p, cublasLtMatmulDescAttributes_t which, const void *value, size_t bytes)
{
    check(cublasLtMatmulDescSetAttribute(p->product, which, value, bytes), "an attribute of a product");
}

static void choose(struct plan *p)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    uint64_t workspace = WORKSPACE_BYTES;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    int n = 0;
    check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                               sizeof workspace), "a preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                               sizeof reductions), "a preference");
    for (int i = 0; i < 4; i++) {
        uint32_t bytes = p->key.aligned[int_min(i, 2)];
        check(cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &bytes, sizeof bytes), "a preference");
    }
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(library, p->product, p->a, p->b, p->d, p->d, preference, 1,
                                                         &result, &n);
    cublasLtMatmulPreferenceDestroy(preference);
    if (code != CUBLAS_STATUS_SUCCESS || n < 1 || result.state != CUBLAS_STATUS_SUCCESS)
        die("cuBLASLt has no algorithm for a product of (%d,%d) and (%d,%d): error %d", p->key.rows, p->key.inner,
            p->key.inner, p->key.columns, (int)code);
    p->algorithm = result.algo;
}

static void make(struct plan *p, const struct key *k)
{
    if (p->made) {
        cublasLtMatmulDescDestroy(p->product);
        cublasLtMatrixLayoutDestroy(p->a);
        cublasLtMatrixLayoutDestroy(p->b);
        cublasLtMatrixLayoutDestroy(p->d);
    }
    p->key = *k;
    p->made = true;
    p->a = layout(ACT_TYPE, k->inner, k->columns, k->turned_y, k->ld_y);
    p->b = layout(ACT_TYPE, k->rows, k->inner, k->turned_x, k->ld_x);
    p->d = layout((cudaDataType)k->type, k->rows, k->columns, false, k->ld);
    check(cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    int32_t turn_a = k->turned_y ? CUBLAS_OP_T : CUBLAS_OP_N, turn_b = k->turned_x ? CUBLAS_OP_T : CUBLAS_OP_N;
    set_attribute(p, CUBLASLT_MATMUL_DESC_TRANSA, &turn_a, sizeof turn_a);
    set_attribute(p, CUBLASLT_MATMUL_DESC_TRANSB, &turn_b, sizeof turn_b);
    if (k->bias) {
        uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        set_attribute(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    }
    choose(p);
}

void cuda_product(const struct product *p)
{
    const float one = 1, zero = 0;
    if (p->rows == 0) return;
    if (!library) check(cublasLtCreate(&library), "starting");
    struct key k = key_of(p);
    struct plan *plan = &plans[place_of(&k)];
    if (!plan->made || memcmp(&plan->key, &k, sizeof k) != 0) make(plan, &k);
    if (p->bias) set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    check(cublasLtMatmul(library, plan->product, &one, p->y.at, plan->a, p->x.at, plan->b, p->from ? &one : &zero,
                         p->from ? p->from : p->to, plan->d, p->to, plan->d, &plan->algorithm,
                         p->workspace ? p->workspace : cuda_workspace(), WORKSPACE_BYTES, cuda_stream()), "a product");
}
