/* matmul.cu (CUDA) - the linear layers.  Packed weights are the weights as act_t, in the same order. */
#include "common/cuda/columns.h"
#include "common/cuda/products.h"

static __global__ void convert(act_t *to, const float *from, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) set(to + i, from[i]);
}

size_t matmul_packed_elements(int out, int in) { return (size_t)out * (size_t)in; }

/* A thread rounds ROUNDING_RUN neighbours. */
static __global__ void round_rows(act_t *to, const float *from, int out, int in, struct rounding r)
{
    size_t runs = ((size_t)in + ROUNDING_RUN - 1) / ROUNDING_RUN;
    for (size_t i = thread_of_grid(); i < (size_t)out * runs; i += threads_of_grid()) {
        size_t row = i / runs, first = i % runs * ROUNDING_RUN, at = row * (size_t)in;
        uint64_t place = rounding_place(&r, row, first);
        uint32_t bits[4];
        rounding_bits(bits, &r, place);
        for (size_t c = first; c < first + ROUNDING_RUN && c < (size_t)in; c++, place++) {
            if (c > first && place % ROUNDING_RUN == 0) rounding_bits(bits, &r, place);
            set(to + at + c, rounding_of(from[at + c], place, bits));
        }
    }
}

void matmul_pack(act_t *packed, const float *weight, const struct rounding *rounding, int out, int in)
{
    size_t n = (size_t)out * (size_t)in;
    if (rounding) {
        round_rows<<<cuda_blocks(n / ROUNDING_RUN + 1), BLOCK, 0, cuda_stream()>>>(packed, weight, out, in, *rounding);
        cuda_launched("round_rows");
        return;
    }
    convert<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(packed, weight, n);
    cuda_launched("convert");
}

/* A bias as the product wants it: in act_t, and aligned. */
static const act_t *converted_bias(const float *bias, int out)
{
    if (!bias) return NULL;
    if (out > BIAS_MOST) die("a bias of %d numbers, and %d are the most", out, BIAS_MOST);
    convert<<<cuda_blocks((size_t)out), BLOCK, 0, cuda_stream()>>>(cuda_bias(), bias, (size_t)out);
    cuda_launched("convert");
    return cuda_bias();
}

void matmul_forward(act_t *y, const act_t *x, const act_t *packed, const float *bias, const act_t *residual,
                    int N, int out, int in)
{
    struct product p = {};
    p.to = y; p.type = ACT_TYPE; p.ld = (size_t)out;
    p.x = {x, (size_t)in, false};
    p.y = {packed, (size_t)in, true};
    p.rows = N; p.columns = out; p.inner = in;
    p.bias = converted_bias(bias, out);
    p.from = residual;
    p.settled = true;
    cuda_product(&p);
}

void matmul_backward_input(act_t *dx, const act_t *dy, const act_t *packed, bool add, int N, int out, int in)
{
    struct product p = {};
    p.to = dx; p.type = ACT_TYPE; p.ld = (size_t)in;
    p.x = {dy, (size_t)out, false};
    p.y = {packed, (size_t)in, false};
    p.rows = N; p.columns = in; p.inner = out;
    p.from = add ? dx : NULL;
    cuda_product(&p);
}

struct matmul_bias_term {
    typedef float sum;
    const act_t *dy;
    int out;
    __device__ float operator()(int row, int c) const { return to_float(dy[(size_t)row * (size_t)out + (size_t)c]); }
};

void matmul_backward_weight(float *dweight, float *dbias, const act_t *dy, const act_t *x, int N, int out, int in)
{
    struct product p = {};
    if (N == 0) return;
    p.to = dweight; p.type = CUDA_R_32F; p.ld = (size_t)in;
    p.x = {dy, (size_t)out, true};
    p.y = {x, (size_t)in, false};
    p.rows = out; p.columns = in; p.inner = N;
    p.from = dweight;
    cuda_product(&p);
    if (dbias) add_columns<matmul_bias_term>(dbias, matmul_bias_term{dy, out}, N, out);
}

static __global__ void add_bias(float *y, const float *bias, size_t rows, int columns, size_t ld)
{
    for (size_t i = thread_of_grid(); i < rows * (size_t)columns; i += threads_of_grid())
        y[i / (size_t)columns * ld + i % (size_t)columns] += bias[i % (size_t)columns];
}

void cuda_add_bias(float *y, const float *bias, int rows, int columns, size_t ld)
{
    if (!bias || rows == 0) return;
    add_bias<<<cuda_blocks((size_t)rows * (size_t)columns), BLOCK, 0, cuda_stream()>>>(y, bias, (size_t)rows, columns,
                                                                                      ld);
    cuda_launched("add_bias");
}

void logits_forward(float *logits, const act_t *h, const act_t *packed, const float *bias, int n, int V, int C)
{
    struct product p = {};
    p.to = logits; p.type = CUDA_R_32F; p.ld = (size_t)V;
    p.x = {h, (size_t)C, false};
    p.y = {packed, (size_t)C, true};
    p.rows = n; p.columns = V; p.inner = C;
    p.settled = true;
    cuda_product(&p);
    cuda_add_bias(logits, bias, n, V, (size_t)V);
}
