/* cublas.cpp - what the backend uses of cuBLASLt, on the CPU: column-major products of float32 or bfloat16 matrices
 * with sums in float32.  It refuses what the manual does not promise: other combinations of types, an algorithm for a
 * problem that neither the heuristic nor cublasLtMatmulAlgoCheck has granted it, pointers that lie less aligned than
 * was said, a workspace smaller than asked for.
 * The order of a sum depends on the algorithm, which the heuristic chooses by shape, as on a GPU; with some algorithms
 * also on the number of columns of D, or on the place among them; and on chance, where split-K was not switched off.
 * CUDASIM_PRODUCTS says which algorithms there are (sim.h). */
#include "sim.h"

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <vector>

namespace sim {

struct Matrix { cudaDataType type; uint64_t rows, columns; int64_t ld; };

struct Product {
    cublasComputeType_t compute;
    cudaDataType scale;
    int turn_a, turn_b;
    unsigned epilogue;
    const void *bias;
};

struct Preference { uint64_t workspace; unsigned reductions, aligned[4]; };

/* What the sums of an algorithm depend on beside its step: nothing; whether D has one column alone; its columns; a
 * column's place; whether the columns are 9 or more beyond a multiple of 16; chance.  PICKY depends on nothing, but does
 * not take every number of columns. */
enum Kind { PLAIN, ONE_COLUMN, COLUMNS, PLACE, SLY, SPLIT, PICKY };

/* An algorithm: fits the 8 words of cublasLtMatmulAlgo_t. */
struct Choice { Kind kind; int step; unsigned aligned[4]; uint64_t types; };
static_assert(sizeof(Choice) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm is too large");

static size_t size_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

static float load(const void *p, cudaDataType type, size_t i)
{
    return type == CUDA_R_32F ? ((const float *)p)[i] : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}

static void store(void *p, cudaDataType type, size_t i, float x)
{
    if (type == CUDA_R_32F) ((float *)p)[i] = x;
    else ((__nv_bfloat16 *)p)[i] = __float2bfloat16(x);
}

static cublasStatus_t refuse(const char *sentence)
{
    fprintf(stderr, "cudasim: cuBLASLt: %s\n", sentence);
    return CUBLAS_STATUS_INVALID_VALUE;
}

struct Call {
    Product product;
    Matrix a, b, c, d;
    const void *A, *B, *C;
    void *D, *workspace;
    float alpha, beta;
    Choice choice;
    int m, n, k;
};

/* op(x) as floats: `lines` of `length`, the length contiguous; `along_rows`: a line is a row of op(x). */
static std::vector<float> lines_of(const void *p, const Matrix &x, bool turned, bool along_rows, int lines, int length)
{
    std::vector<float> all((size_t)lines * length);
    bool jump = turned != along_rows;                       /* a line is a row of x as it is stored */
    for (int i = 0; i < lines; i++)
        for (int j = 0; j < length; j++)
            all[(size_t)i * length + j] = load(p, x.type, jump ? (size_t)j * x.ld + i : (size_t)i * x.ld + j);
    return all;
}

/* Block sums of so many terms: of column j of n. */
static int step_of(const Choice &a, int n, int j)
{
    switch (a.kind) {
    case ONE_COLUMN: return n == 1 ? 2 * a.step : a.step;
    case COLUMNS: return a.step << (n % 3);
    case SLY: return n % 16 > 8 ? 2 * a.step : a.step;
    case PLACE: return j % 32 == 31 ? 2 * a.step : a.step;
    default: return a.step;
    }
}

static size_t workspace_of(int n) { return std::min<size_t>(4096, 64 * (size_t)n); }

static void multiply(const Call &c)
{
    Access access;
    std::vector<float> a = lines_of(c.A, c.a, c.product.turn_a, false, c.k, c.m);      /* columns of op(A) */
    std::vector<float> b = lines_of(c.B, c.b, c.product.turn_b, false, c.n, c.k);      /* columns of op(B) */
    std::vector<float> part((size_t)c.m), sum((size_t)c.m);
    int start = c.choice.kind == SPLIT ? (int)random_below((unsigned)c.k) : 0;
    memset(c.workspace, 0xFF, workspace_of(c.n));
    for (int j = 0; j < c.n; j++) {
        int step = step_of(c.choice, c.n, j);
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int first = 0; first < c.k; first += step) {
            std::fill(part.begin(), part.end(), 0.0f);
            for (int l = first; l < std::min(first + step, c.k); l++) {
                int at = (l + start) % c.k;
                const float *column = &a[(size_t)at * c.m];
                float x = b[(size_t)j * c.k + at];
                for (int i = 0; i < c.m; i++) part[(size_t)i] += column[i] * x;
            }
            for (int i = 0; i < c.m; i++) sum[(size_t)i] += part[(size_t)i];
        }
        for (int i = 0; i < c.m; i++) {
            float x = c.alpha * sum[(size_t)i];
            if (c.beta != 0) x += c.beta * load(c.C, c.c.type, (size_t)i + (size_t)j * c.c.ld);
            if (c.product.epilogue == CUBLASLT_EPILOGUE_BIAS) x += load(c.product.bias, c.d.type, (size_t)i);
            store(c.D, c.d.type, (size_t)i + (size_t)j * c.d.ld, x);
        }
    }
}

static uint64_t mix(uint64_t hash, uint64_t x) { return (hash ^ x) * 0x9E3779B97F4A7C15ull + (hash >> 29); }

static uint64_t shape_of(const Product &p, const Matrix *matrix[4])
{
    uint64_t hash = mix(mix(mix(p.epilogue, (uint64_t)p.turn_a), (uint64_t)p.turn_b), (uint64_t)p.compute);
    for (int i = 0; i < 4; i++) {
        const Matrix &x = *matrix[i];
        hash = mix(mix(mix(mix(hash, x.type), x.rows), x.columns), (uint64_t)x.ld);
    }
    return hash;
}

/* Problems that algorithms were found to take. */
static std::set<uint64_t> granted;

static uint64_t grant_of(const Choice &a, const Product &p, const Matrix *matrix[4])
{
    uint64_t hash = mix(shape_of(p, matrix), mix(mix(a.types, (uint64_t)a.kind), (uint64_t)a.step));
    for (unsigned bytes : a.aligned) hash = mix(hash, bytes);
    return hash;
}

/* "Supported types" of cublasLtMatmul() for CUBLAS_COMPUTE_32F, and what the shapes must be to each other. */
static const char *wrong_problem(const Product &p, const Matrix *x[4])
{
    bool half = x[0]->type == CUDA_R_16BF;
    if (p.compute != CUBLAS_COMPUTE_32F || p.scale != CUDA_R_32F) return "another type of computation than float32";
    if (x[0]->type != x[1]->type || (!half && x[0]->type != CUDA_R_32F))
        return "A and B of types that do not go together";
    if (x[2]->type != x[3]->type || (x[3]->type != CUDA_R_32F && !(half && x[3]->type == CUDA_R_16BF)))
        return "C and D of types that do not go with A and B";
    for (int i = 0; i < 4; i++)
        if (x[i]->rows == 0 || x[i]->columns == 0 || x[i]->ld < (int64_t)x[i]->rows)
            return "an empty matrix, or ld < rows";
    uint64_t m = p.turn_a ? x[0]->columns : x[0]->rows, k = p.turn_a ? x[0]->rows : x[0]->columns;
    uint64_t n = p.turn_b ? x[1]->rows : x[1]->columns, other = p.turn_b ? x[1]->columns : x[1]->rows;
    if (k != other || x[3]->rows != m || x[3]->columns != n || x[2]->rows != m || x[2]->columns != n)
        return "matrices that do not fit each other";
    if (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.epilogue != CUBLASLT_EPILOGUE_BIAS)
        return "an epilogue not simulated";
    return nullptr;
}

static bool aligned(const void *p, unsigned bytes) { return (uintptr_t)p % bytes == 0; }

static size_t bytes_of(const Matrix &x) { return (((size_t)x.columns - 1) * (size_t)x.ld + x.rows) * size_of(x.type); }

static const char *wrong_call(const Call &c, size_t workspace)
{
    const Matrix *matrix[4] = {&c.a, &c.b, &c.c, &c.d};
    const void *pointer[4] = {c.A, c.B, c.C, c.D};
    if (const char *sentence = wrong_problem(c.product, matrix)) return sentence;
    if (!granted.count(grant_of(c.choice, c.product, matrix)))
        return "an algorithm that was neither chosen for this problem nor checked with it";
    for (int i = 0; i < 4; i++) {
        if (!on_device(pointer[i], bytes_of(*matrix[i])))
            return "a matrix that is not inside one piece of device memory";
        if (!aligned(pointer[i], c.choice.aligned[i])) return "a matrix less aligned than the preference said";
    }
    if (c.C == c.D && c.c.ld != c.d.ld) return "C in place of D with another layout";
    if (workspace < workspace_of((int)c.d.columns) || !aligned(c.workspace, 256) || !on_device(c.workspace, workspace))
        return "a workspace that is too small, not on the device, or not aligned";
    if (c.product.epilogue == CUBLASLT_EPILOGUE_BIAS && !on_device(c.product.bias, c.d.rows * size_of(c.d.type)))
        return "a bias that is not on the device";
    return nullptr;
}

static uint64_t types_of(const Matrix *matrix[4])
{
    uint64_t hash = 0;
    for (int i = 0; i < 4; i++) hash = mix(hash, (uint64_t)matrix[i]->type);
    return hash;
}

static bool takes(const Choice &a, const Matrix *matrix[4]) { return a.kind != PICKY || matrix[3]->columns % 32 != 5; }

/* The algorithms for n columns, the best first. */
static std::vector<Choice> offered(int n, bool split)
{
    const std::string mode = setting("CUDASIM_PRODUCTS", "shape");
    if (split) return {{SPLIT, 16, {}, 0}};
    if (mode == "fixed") return {{PLAIN, 256, {}, 0}};
    if (mode == "sly") return {{SLY, 16, {}, 0}};
    std::vector<Choice> all;
    if (mode == "late" || mode == "bad") all = {{COLUMNS, 16, {}, 0}, {PLACE, 16, {}, 0}, {ONE_COLUMN, 16, {}, 0}};
    if (mode == "late") all.push_back({PICKY, 64, {}, 0});
    for (int i = 0; i < 3 && mode != "bad"; i++) all.push_back({PLAIN, 16 << ((n + i) % 3), {}, 0});
    return all;
}

static void answer(cublasLtMatmulHeuristicResult_t *to, size_t workspace)
{
    to->workspaceSize = workspace;
    to->state = CUBLAS_STATUS_SUCCESS;
    to->wavesCount = 1;
}

extern "C" {

size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = (cublasLtHandle_t) new int;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    *out = (cublasLtMatrixLayout_t) new Matrix{type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t x)
{
    delete (Matrix *)x;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType scale)
{
    *out = (cublasLtMatmulDesc_t) new Product{compute, scale, 0, 0, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t p)
{
    delete (Product *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    Product *p = (Product *)product;
    void *to = attribute == CUBLASLT_MATMUL_DESC_TRANSA ? (void *)&p->turn_a :
               attribute == CUBLASLT_MATMUL_DESC_TRANSB ? (void *)&p->turn_b :
               attribute == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&p->epilogue :
               attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? (void *)&p->bias : nullptr;
    if (!to || bytes != (to == &p->bias ? sizeof p->bias : 4))
        return refuse("an attribute not simulated, or of another size");
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = (cublasLtMatmulPreference_t) new Preference{0, ~0u, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete (Preference *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    Preference *p = (Preference *)preference;
    void *to = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? (void *)&p->workspace :
               attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? (void *)&p->reductions :
               attribute == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES ? (void *)&p->aligned[0] :
               attribute == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES ? (void *)&p->aligned[1] :
               attribute == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES ? (void *)&p->aligned[2] :
               attribute == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES ? (void *)&p->aligned[3] : nullptr;
    if (!to || bytes != (to == &p->workspace ? 8 : 4)) return refuse("a preference not simulated, or of another size");
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* "Results [...] ordered in increasing estimated compute time". */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t out[], int *n)
{
    const Matrix *matrix[4] = {(Matrix *)a, (Matrix *)b, (Matrix *)c, (Matrix *)d};
    const Preference *p = (Preference *)preference;
    if (wanted < 1) return refuse("no algorithm asked for");
    if (const char *sentence = wrong_problem(*(Product *)product, matrix)) return refuse(sentence);
    *n = 0;
    for (Choice choice : offered((int)matrix[3]->columns, p->reductions != 0)) {
        size_t workspace = workspace_of((int)matrix[3]->columns);
        if (*n == wanted || workspace > p->workspace || !takes(choice, matrix)) continue;
        choice.types = types_of(matrix);
        std::copy(p->aligned, p->aligned + 4, choice.aligned);
        answer(&out[*n], workspace);
        memset(&out[*n].algo, 0, sizeof out[*n].algo);
        memcpy(&out[(*n)++].algo, &choice, sizeof choice);
        granted.insert(grant_of(choice, *(Product *)product, matrix));
    }
    return *n > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* "If cublasLtMatmulAlgoCheck fails, the algo will not run"; "algo field is never updated". */
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulHeuristicResult_t *result)
{
    const Matrix *matrix[4] = {(Matrix *)a, (Matrix *)b, (Matrix *)c, (Matrix *)d};
    Choice choice;
    memcpy(&choice, algorithm, sizeof choice);
    if (const char *sentence = wrong_problem(*(Product *)product, matrix)) return refuse(sentence);
    if (choice.types != types_of(matrix)) return refuse("an algorithm for other types");
    if (!takes(choice, matrix)) return CUBLAS_STATUS_NOT_SUPPORTED;
    answer(result, workspace_of((int)matrix[3]->columns));
    granted.insert(grant_of(choice, *(Product *)product, matrix));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t bytes, size_t *written)
{
    Choice choice;
    memcpy(&choice, algorithm, sizeof choice);
    bool splits = attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM, split = choice.kind == SPLIT;
    uint32_t found = splits ? (split ? 2 : 1) : split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE :
                                                        CUBLASLT_REDUCTION_SCHEME_NONE;
    if ((!splits && attribute != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) || bytes != sizeof found)
        return refuse("a property of an algorithm not simulated, or of another size");
    memcpy(value, &found, sizeof found);
    if (written) *written = sizeof found;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    if (!algorithm) return refuse("no algorithm: the library would choose one, and that choice is not fixed");
    Call call = {*(Product *)product, *(Matrix *)a, *(Matrix *)b, *(Matrix *)c, *(Matrix *)d, A, B, C, D, workspace,
                 *(const float *)alpha, *(const float *)beta, {}, 0, 0, 0};
    memcpy(&call.choice, algorithm, sizeof call.choice);
    if (const char *sentence = wrong_call(call, workspace_bytes)) return refuse(sentence);
    call.m = (int)call.d.rows;
    call.n = (int)call.d.columns;
    call.k = (int)(call.product.turn_a ? call.a.rows : call.a.columns);
    enqueue(stream, [call] { multiply(call); }, {"cublasLtMatmul", 0});
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"

} // namespace sim
