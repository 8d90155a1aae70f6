/* products.cu (CUDA) - all that this project knows of cuBLASLt.
 *
 * cuBLASLt is column-major: a row-major matrix is the turned one to it.  So to = x y is asked for as to' = y' x', with
 * A = y, B = x, m = columns, n = rows, and a flag says "turned" where the row-major operand is turned.
 * Documentation: cuBLAS Library, "cublasLtMatmul()" (types that go together: compute float32, scale float32, A and B
 * bfloat16 with C and D bfloat16 or float32, or all float32; the bias epilogue has the type of D),
 * "cublasLtMatmulPreferenceAttributes_t" (reduction schemes masked out: no split-K, so that the same call gives the
 * same bits) and "cublasLtMatmulAlgoCheck()" (whether an algorithm takes a problem; when it says no, it will not run).
 *
 * Which algorithm the library proposes depends on the number of rows, and so do a row's bits, except where one
 * algorithm was settled on for every number of them. */
#include "common/cuda/products.h"

#include <cublasLt.h>

enum { PLANS = 512,         /* shapes remembered; each has one place, and a newer one takes it */
       SETTLED = 32, CANDIDATES = 8,
       ROWS_TYPICAL = 256,  /* for which candidates are asked: between those of decoding and those of training */
       BYTES_TYPICAL = 16 };/* alignment beyond that makes no difference to an algorithm that is settled on */

struct key {
    int rows, columns, inner, type, bias, settled;
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

/* The algorithm for all products with weights of a shape; number: never the same again, 0: none. */
struct settled { int columns, inner, type, bias, number; unsigned aligned[3]; cublasLtMatmulAlgo_t algorithm; };

static cublasLtHandle_t library;
static struct plan plans[PLANS];
static struct settled settled[SETTLED];
static int n_settled;

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

static bool same_shape(const struct settled *s, const struct key *k)
{
    return s->columns == k->columns && s->inner == k->inner && s->type == k->type && s->bias == k->bias;
}

/* The algorithm that this product is to use, or NULL. */
static const struct settled *settled_for(const struct product *p, const struct key *k)
{
    for (int i = 0; i < n_settled && p->settled; i++) {
        const struct settled *s = &settled[i];
        if (s->number && same_shape(s, k) && k->aligned[0] >= s->aligned[0] && k->aligned[1] >= s->aligned[1] &&
            k->aligned[2] >= s->aligned[2]) return s;
    }
    return NULL;
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

/* Algorithms for a plan, the best first; returns how many, which may be none. */
static int propose(const struct plan *p, cublasLtMatmulHeuristicResult_t *result, int most)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t preference;
    uint64_t workspace = WORKSPACE_BYTES;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    int n = 0, good = 0;
    check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                               sizeof workspace), "a preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                               sizeof reductions), "a preference");
    for (int i = 0; i < 4; i++) {
        uint32_t bytes = p->key.aligned[int_min(i, 2)];
        check(cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &bytes, sizeof bytes), "a preference");
    }
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(library, p->product, p->a, p->b, p->d, p->d, preference, most,
                                                         result, &n);
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < n && code == CUBLAS_STATUS_SUCCESS; i++)
        if (result[i].state == CUBLAS_STATUS_SUCCESS) result[good++] = result[i];
    return good;
}

static void describe(struct plan *p, const struct key *k)
{
    p->key = *k;
    p->made = true;
    p->a = layout(ACT_TYPE, k->inner, k->columns, k->turned_y, k->ld_y);
    p->b = layout(ACT_TYPE, k->rows, k->inner, k->turned_x, k->ld_x);
    p->d = layout((cudaDataType)k->type, k->rows, k->columns, false, k->ld);
    check(cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    int32_t turn_a = k->turned_y ? CUBLAS_OP_T : CUBLAS_OP_N, turn_b = k->turned_x ? CUBLAS_OP_T : CUBLAS_OP_N;
    set_attribute(p, CUBLASLT_MATMUL_DESC_TRANSA, &turn_a, sizeof turn_a);
    set_attribute(p, CUBLASLT_MATMUL_DESC_TRANSB, &turn_b, sizeof turn_b);
    if (!k->bias) return;
    uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    set_attribute(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
}

static void forget(struct plan *p)
{
    if (!p->made) return;
    cublasLtMatmulDescDestroy(p->product);
    cublasLtMatrixLayoutDestroy(p->a);
    cublasLtMatrixLayoutDestroy(p->b);
    cublasLtMatrixLayoutDestroy(p->d);
    p->made = false;
}

static bool takes(const struct plan *p, const cublasLtMatmulAlgo_t *algorithm)
{
    cublasLtMatmulHeuristicResult_t result;
    return cublasLtMatmulAlgoCheck(library, p->product, p->a, p->b, p->d, p->d, algorithm, &result) ==
           CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE_BYTES;
}

/* s: the algorithm settled on, or NULL.  Where it does not take the problem after all, the library chooses. */
static void make(struct plan *p, const struct key *k, const struct settled *s)
{
    cublasLtMatmulHeuristicResult_t best;
    forget(p);
    describe(p, k);
    if (s && takes(p, &s->algorithm)) {
        p->algorithm = s->algorithm;
        return;
    }
    if (propose(p, &best, 1) == 0)
        die("cuBLASLt has no algorithm for a product of (%d,%d) and (%d,%d)", k->rows, k->inner, k->inner, k->columns);
    p->algorithm = best.algo;
}

static void settle_key(struct key *k, const struct settled *s)
{
    k->settled = s->number;
    memcpy(k->aligned, s->aligned, sizeof k->aligned);
}

void cuda_product(const struct product *p)
{
    const float one = 1, zero = 0;
    if (p->rows == 0) return;
    if (!library) check(cublasLtCreate(&library), "starting");
    struct key k = key_of(p);
    const struct settled *s = settled_for(p, &k);
    if (s) settle_key(&k, s);
    struct plan *plan = &plans[place_of(&k)];
    if (!plan->made || memcmp(&plan->key, &k, sizeof k) != 0) make(plan, &k, s);
    if (p->bias) set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    check(cublasLtMatmul(library, plan->product, &one, p->y.at, plan->a, p->x.at, plan->b, p->from ? &one : &zero,
                         p->from ? p->from : p->to, plan->d, p->to, plan->d, &plan->algorithm,
                         p->workspace ? p->workspace : cuda_workspace(), WORKSPACE_BYTES, cuda_stream()), "a product");
}

/* ---- one algorithm for every number of rows ---- */

/* Whether each sum is made by one block, as far as the manual lets one ask. */
static bool sums_whole(const cublasLtMatmulAlgo_t *algorithm)
{
    int32_t splits = 0;
    uint32_t reduction = 0;
    check(cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits,
                                               NULL), "a property of an algorithm");
    check(cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction,
                                               sizeof reduction, NULL), "a property of an algorithm");
    return splits <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static bool takes_all(const cublasLtMatmulAlgo_t *algorithm, struct key k, int rows)
{
    struct plan p = {};
    bool all = true;
    for (k.rows = 1; k.rows <= rows && all; k.rows++) {
        describe(&p, &k);
        all = takes(&p, algorithm);
        forget(&p);
    }
    return all;
}

/* The place of a shape: what was settled on for it before is forgotten. */
static struct settled *settled_place(const struct product *p, const struct key *k)
{
    struct settled *s = settled;
    while (s < settled + n_settled && !same_shape(s, k)) s++;
    if (s == settled + SETTLED) die("more than %d shapes of weights", SETTLED);
    if (s == settled + n_settled) n_settled++;
    size_t line = p->type == CUDA_R_32F ? sizeof(float) : sizeof(act_t);
    *s = {k->columns, k->inner, k->type, k->bias, 0, {}, {}};
    s->aligned[0] = k->aligned[0];
    s->aligned[1] = alignment((const void *)(p->x.ld * sizeof(act_t)));     /* of rows anywhere in x and in to */
    s->aligned[2] = alignment((const void *)(p->ld * line));
    for (int i = 0; i < 3; i++) s->aligned[i] = (unsigned)int_min((int)s->aligned[i], BYTES_TYPICAL);
    return s;
}

void matmul_unsettle(void) { n_settled = 0; }

bool cuda_settle(const struct product *p, bool (*alike)(const struct product *p))
{
    static int numbers;
    cublasLtMatmulHeuristicResult_t candidate[CANDIDATES];
    struct plan typical = {};
    if (!library) check(cublasLtCreate(&library), "starting");
    struct key k = key_of(p);
    struct settled *s = settled_place(p, &k);
    settle_key(&k, s);
    k.rows = int_min(p->rows, ROWS_TYPICAL);
    describe(&typical, &k);
    int n = propose(&typical, candidate, CANDIDATES);
    forget(&typical);
    for (int i = 0; i < n; i++) {
        s->number = 0;
        if (!sums_whole(&candidate[i].algo) || !takes_all(&candidate[i].algo, k, p->rows)) continue;
        s->algorithm = candidate[i].algo;
        s->number = ++numbers;
        if (alike(p)) return true;
    }
    s->number = 0;
    return false;
}
