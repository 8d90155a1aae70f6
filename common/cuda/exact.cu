/* exact.cu (CUDA) - whether a row of a product has the same bits in every batch.  cuBLASLt's manual promises it of no
 * algorithm, so it is tried: rows of a large batch against the same rows in smaller ones, at other places. */
#include "common/cuda/products.h"

#include <stdlib.h>
#include <string.h>

__device__ static inline unsigned long long mixed(unsigned long long z)
{
    z *= 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 29) * 0xBF58476D1CE4E5B9ull;
    return z ^ z >> 32;
}

/* Numbers without a pattern, between -1 and 1 and of many sizes: the sum of numbers of one size may well be exact, and
 * then has no order. */
static __global__ void many_sizes(act_t *x, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid()) {
        unsigned long long z = mixed(i + 1);
        set(x + i, ldexpf((float)(z >> 40) * 0x1p-23f - 1, -(int)(z % 12)));
    }
}

static void fill_sizes(act_t *x, size_t n)
{
    many_sizes<<<cuda_blocks(n), BLOCK, 0, cuda_stream()>>>(x, n);
    cuda_launched("many_sizes");
}

/* A warp a row: a number made of its bits.  The row becomes its negative, bit for bit. */
template <class T> static __global__ void take_rows(unsigned long long *taken, T *rows, int n, int columns, size_t ld)
{
    int row = (int)(blockIdx.x * WARPS + threadIdx.x / WARP);
    if (row >= n) return;                               /* a whole warp */
    T *x = rows + (size_t)row * ld;
    unsigned long long sum = 0;
    for (int c = (int)threadIdx.x % WARP; c < columns; c += WARP) {
        float number = to_float(x[c]);
        sum += mixed((unsigned long long)c << 32 | __float_as_uint(number));
        set(x + c, -number);
    }
    sum = warp_sum<unsigned long long>(sum);
    if (threadIdx.x % WARP == 0) taken[row] = sum;
}

static void take(unsigned long long *taken, const struct product *p)
{
    unsigned blocks = blocks_of((size_t)p->rows, WARPS);
    if (p->type == CUDA_R_32F)
        take_rows<float><<<blocks, BLOCK, 0, cuda_stream()>>>(taken, (float *)p->to, p->rows, p->columns, p->ld);
    else
        take_rows<act_t><<<blocks, BLOCK, 0, cuda_stream()>>>(taken, (act_t *)p->to, p->rows, p->columns, p->ld);
    cuda_launched("take_rows");
}

/* Numbers of n rows from `first` on, multiplied as a batch of their own: n of the product, and n of what its rounding
 * has left over, which shows another order of its sums where a rounded product hides it.   taken (2n) on the host */
static void take_batch(unsigned long long *taken, const struct product *all, int first, int n)
{
    unsigned long long *device = (unsigned long long *)cuda_scratch();
    struct product p = *all;
    p.x.at = (const act_t *)all->x.at + (size_t)first * all->x.ld;
    p.rows = n;
    cuda_product(&p);
    take(device, &p);
    p.from = p.to;                              /* the negative of the product */
    cuda_product(&p);
    take(device + n, &p);
    device_get(taken, device, 2 * (size_t)n * sizeof *taken);
    /* check_simulated sees it */
    device_wait();
}

/* n rows at the start, at the end, and, few, at places between. */
static bool batch_alike(const unsigned long long *all, unsigned long long *part, const struct product *p, int n)
{
    int step = int_max((p->rows - n) / (n < 16 ? 12 : 1), 1);
    for (int first = 0;; first = int_min(first + step, p->rows - n)) {
        take_batch(part, p, first, n);
        for (int half = 0; half < 2; half++)
            if (memcmp(all + half * p->rows + first, part + half * n, (size_t)n * sizeof *part) != 0) return false;
        if (first == p->rows - n) return true;
    }
}

static bool batches_alike(const unsigned long long *all, unsigned long long *part, const struct product *p)
{
    static const int count[] = {1, 2, 3, 7, 8, 16, 33, 64, 100, 128, 200, 256, 333, 512, 777, 1024, 1536, 2048, 3000,
                                4096, 8192, 16384, 32768, 65536};
    bool alike = batch_alike(all, part, p, p->rows) && batch_alike(all, part, p, (p->rows + 1) / 2);
    for (size_t i = 0; i < sizeof count / sizeof *count && count[i] < p->rows && alike; i++)
        alike = batch_alike(all, part, p, count[i]);
    return alike;
}

static bool rows_alike_in(const struct product *const *layout, int layouts)
{
    size_t rows = (size_t)layout[0]->rows;
    unsigned long long *all = (unsigned long long *)host_alloc(4 * rows, sizeof *all);
    bool alike = true;
    take_batch(all, layout[0], 0, layout[0]->rows);
    for (int i = 0; i < layouts && alike; i++) alike = batches_alike(all, all + 2 * rows, layout[i]);
    free(all);
    return alike;
}

static bool rows_alike(const struct product *p) { return rows_alike_in(&p, 1); }

/* Logits, in rows as sampling has them, and as the loss does. */
static bool logits_alike(const struct product *p)
{
    struct product apart = *p;
    const struct product *both[2] = {p, &apart};
    apart.ld = (size_t)cuda_logits_distance(p->columns);
    return rows_alike_in(both, 2);
}

bool matmul_settle(const act_t *packed, bool bias, bool logits, act_t *x, void *y, int N, int out, int in)
{
    struct product p = {};
    if (bias && !logits && out > BIAS_MOST) return false;
    p.to = y; p.type = logits ? CUDA_R_32F : ACT_TYPE; p.ld = (size_t)out;
    p.x = {x, (size_t)in, false};
    p.y = {packed, (size_t)in, true};
    p.rows = int_min(N, logits ? cuda_logits_rows(out) : SCRATCH_FLOATS / 4);
    p.columns = out; p.inner = in;
    p.settled = true;
    if (bias && !logits) {
        p.bias = cuda_bias();
        fill_sizes(cuda_bias(), (size_t)out);
    }
    fill_sizes(x, (size_t)p.rows * (size_t)in);
    return cuda_settle(&p, logits ? logits_alike : rows_alike);
}
