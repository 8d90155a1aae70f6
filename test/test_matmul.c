/* test_matmul.c - products against double on ragged shapes, and their bits against the law of ops.h written as a plain
 * loop: blocks of MATMUL_BLOCK, each an ascending chain, whatever the rows, the batch and the threads. */
#include "common/model/device.h"
#include "test/host_ops.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "test/test.h"

struct product { int N, out, in; float *x, *w; act_t *packed; float *bias, *residual, *y, *dx, *dw, *db; };

static const int shapes[][3] = {    /* N, out, in */
    {1, 1, 1}, {1, 33, 257}, {2, 7, 3}, {5, 64, 256}, {12, 31, 255}, {13, 100, 300}, {31, 129, 64}, {47, 48, 513},
    {48, 1000, 37}, {49, 65, 700}, {61, 401, 256}, {97, 17, 1031}, {256, 96, 128}, {257, 3, 5}, {300, 500, 31},
    {613, 127, 259}, {500, 600, 700}, {1, 2000, 96}, {8, 2000, 96}, {32, 2000, 96}, {1025, 31, 33},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static float *array(size_t n, uint64_t index)
{
    float *p = host_alloc(n + 1, sizeof *p);
    struct rng r = rng_at(6, RNG_TEST, 0, index);
    for (size_t i = 0; i < n; i++) p[i] = act_rounded((float)(2 * rng_uniform(&r) - 1));
    return p;
}

static void product_open(struct product *p, int N, int out, int in)
{
    size_t n = (size_t)N, o = (size_t)out, i = (size_t)in;
    *p = (struct product){N, out, in, array(n * i, 1), array(o * i, 2),
                          host_alloc(matmul_packed_elements(out, in), sizeof(act_t)),
                          array(o, 4), array(n * o, 5), array(n * o, 6), array(n * i, 7), array(o * i, 8), array(o, 9)};
    host_matmul_pack(p->packed, p->w, out, in);
}

static void product_close(struct product *p)
{
    void *all[] = {p->x, p->w, p->packed, p->bias, p->residual, p->y, p->dx, p->dw, p->db};
    for (int i = 0; i < 9; i++) free(all[i]);
}

/* How the backend adds a block: a chain that rounds each product, one that does not, or as tiles of AMX do. */
enum order { ROUNDED, FUSED, TILES };

/* Fused: (1 + e)^2 - (1 + 2e) is e^2 then, and else what rounding leaves. */
static enum order order_of_build(void)
{
    float e = 0x1p-12f, x[2] = {-1, 1 + e}, w[2] = {1 + 2 * e, 1 + e}, y;
    if (strstr(device_build(), "AMX")) return TILES;
    if (!ACT_IS_FLOAT) return FUSED;                /* products of bfloat16 fit a float32 whole */
    act_t packed[64 * 2];
    host_matmul_pack(packed, w, 1, 2);
    host_matmul_forward(&y, x, packed, NULL, NULL, 1, 1, 2);
    return y == e * e ? FUSED : ROUNDED;
}

/* The sum of n steps from zero, as AMX adds them: of 32 the even ones, the odd ones, and both together. */
static float tiles(const float *a, size_t step_a, const float *b, size_t step_b, int n)
{
    float sum = 0, part[2] = {0};
    for (int i = 0; i < n; i++) {
        part[i % 2] = fmaf(a[(size_t)i * step_a], b[(size_t)i * step_b], part[i % 2]);
        if (i % 32 != 31 && i + 1 < n) continue;
        sum += part[0] + part[1];
        part[0] = part[1] = 0;
    }
    return sum;
}

/* The law: start, or nothing, then block sums, then bias, then residual.  Of two bfloat16 steps the odd one is first. */
static float law(enum order order, const float *start, const float *a, size_t step_a, const float *b, size_t step_b, int K,
                 const float *bias, const float *residual)
{
    float sum = start ? *start : 0;
    for (int k = 0; k < K; k += MATMUL_BLOCK) {
        int end = int_min(k + MATMUL_BLOCK, K);
        float chain = order == TILES ? tiles(a + (size_t)k * step_a, step_a, b + (size_t)k * step_b, step_b, end - k) : 0;
        for (int i = k; i < end && order != TILES; i++) {
            int at = ACT_IS_FLOAT ? i : i % 2 ? i - 1 : i + 1 < K ? i + 1 : i;
            float x = a[(size_t)at * step_a], y = b[(size_t)at * step_b];
            chain = order == FUSED ? fmaf(x, y, chain) : chain + x * y;
        }
        sum = k || start ? sum + chain : chain;
    }
    if (bias) sum += *bias;
    if (residual) sum += *residual;
    return sum;
}

static bool same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* Whether a sum of K products is what the law says: its bits, where this backend keeps the law, else up to rounding. */
static bool lawful(float got, float want, int K)
{
    if (sampling_is_exact()) return got == want;
    return close_to((double)got, (double)want, by_type(1e-5, 0x1p-7), by_type(1e-6, 0x1p-8) * (1 + sqrt(K)));
}

/* Worst |y - exact| / sqrt(K) over all elements of the three products, and whether every bit is the law's. */
static void check_shape(int N, int out, int in)
{
    struct product p;
    product_open(&p, N, out, in);
    size_t O = (size_t)out, I = (size_t)in;
    enum order order = order_of_build();
    bool forward = true, residual = true, input = true, weight = true, sums = true;
    double worst = 0;
    host_matmul_forward(p.y, p.x, p.packed, NULL, NULL, N, out, in);
    for (int i = 0; i < N; i++)
        for (int o = 0; o < out; o++) {
            const float *x = p.x + i * I, *w = p.w + o * I;
            double exact = 0;
            for (int k = 0; k < in; k++) exact += (double)x[k] * (double)w[k];
            forward &= lawful(p.y[i * O + o], act_rounded(law(order, NULL, x, 1, w, 1, in, NULL, NULL)), in);
            worst = fmax(worst, (fabs((double)p.y[i * O + o] - exact) - stored(0) * fabs(exact)) / sqrt(in));
        }
    float *y = array((size_t)N * O, 5);
    host_matmul_forward(y, p.x, p.packed, p.bias, y, N, out, in);        /* the residual may be y */
    host_matmul_forward(p.y, p.x, p.packed, p.bias, p.residual, N, out, in);
    for (int i = 0; i < N; i++)
        for (int o = 0; o < out; o++) {
            float want = act_rounded(law(order, NULL, p.x + i * I, 1, p.w + o * I, 1, in, p.bias + o,
                                         p.residual + i * O + o));
            residual &= lawful(p.y[i * O + o], want, in) && lawful(y[i * O + o], want, in);
        }
    float *dx = array((size_t)N * I, 7), *dw = array(O * I, 8), *db = array(O, 9);
    host_matmul_backward_input(p.dx, p.y, p.packed, true, N, out, in);
    host_matmul_backward_weight(p.dw, p.db, p.y, p.x, N, out, in);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < in; c++)
            input &= lawful(p.dx[i * I + c], act_rounded(law(order, dx + i * I + c, p.y + i * O, 1, p.w + c, I, out, NULL, NULL)),
                            out * out);
    host_matmul_backward_input(p.dx, p.y, p.packed, false, N, out, in);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < in; c++)
            input &= lawful(p.dx[i * I + c], act_rounded(law(order, NULL, p.y + i * O, 1, p.w + c, I, out, NULL, NULL)), out * out);
    for (int o = 0; o < out; o++) {
        double column = (double)db[o], size = 1;
        for (int i = 0; i < N; i++) { column += (double)p.y[i * O + o]; size += fabs((double)p.y[i * O + o]); }
        sums &= close_to((double)p.db[o], column, 0, 1e-6 * size);
        for (int c = 0; c < in; c++)
            weight &= lawful(p.dw[o * I + c], law(order, dw + o * I + c, p.y + o, O, p.x + c, I, N, NULL, NULL), N * in);
    }
    test_error("product, of the square root of its length", worst < 0 ? 0 : worst);
    test_check(forward && residual && input && weight && sums && worst < 1e-6, __FILE__, __LINE__,
               "N %d out %d in %d: forward %d residual %d input %d weight %d bias %d, error %g", N, out, in, forward,
                   residual, input, weight, sums, worst);
    free(y); free(dx); free(dw); free(db);
    product_close(&p);
}

/* A row gives its bits alone, in any batch and at any place of it. */
static void check_rows(int out, int in)
{
    struct product p;
    int N = 600;
    product_open(&p, N, out, in);
    size_t O = (size_t)out, I = (size_t)in;
    host_matmul_forward(p.y, p.x, p.packed, p.bias, NULL, N, out, in);
    float *x = array((size_t)N * I, 1), *y = array((size_t)N * O, 1);
    bool ok = true;
    for (int n = 1; n < N; n = n * 3 / 2 + 1) {
        for (int i = 0; i < n; i++) memcpy(x + i * I, p.x + (size_t)((i * 7 + n) % N) * I, I * sizeof *x);
        host_matmul_forward(y, x, p.packed, p.bias, NULL, n, out, in);
        for (int i = 0; i < n; i++) ok &= same(y + i * O, p.y + (size_t)((i * 7 + n) % N) * O, O);
    }
    test_check(ok || !rows_are_exact(), __FILE__, __LINE__, "out %d in %d: rows differ between batches", out, in);
    free(x); free(y);
    product_close(&p);
}

/* Rows whose neighbours are not finite. */
static void check_neighbours(void)
{
    struct product p;
    product_open(&p, 70, 40, 90);
    host_matmul_forward(p.y, p.x, p.packed, NULL, NULL, 70, 40, 90);
    float *y = array(70 * 40, 1);
    for (int k = 0; k < 90; k++) p.x[33 * 90 + k] = k % 2 ? NAN : INFINITY;
    host_matmul_forward(y, p.x, p.packed, NULL, NULL, 70, 40, 90);
    CHECK(same(y, p.y, 33 * 40) && same(y + 34 * 40, p.y + 34 * 40, 36 * 40) && isnan(y[33 * 40 + 5]));
    free(y);
    product_close(&p);
}

/* test_matmul N: only the first N shapes, for slow machines. */
int main(int argc, char **argv)
{
    struct product first[SHAPES];
    int most = argc > 1 ? int_min(atoi(argv[1]), SHAPES) : SHAPES;
    for (int threads = 1; threads <= 3; threads++) {
        threads_start(threads);
        struct memory memory = {0};
        struct error error;
        ops_open(&memory);
        if (memory_open(&memory, &error)) quit_error(&error);
        ops_open(&memory);
        for (int s = 0; s < most; s++) {
            struct product p;
            int N = shapes[s][0], out = shapes[s][1], in = shapes[s][2];
            product_open(&p, N, out, in);
            host_matmul_forward(p.y, p.x, p.packed, p.bias, p.residual, N, out, in);
            host_matmul_backward_input(p.dx, p.y, p.packed, false, N, out, in);
            host_matmul_backward_weight(p.dw, p.db, p.y, p.x, N, out, in);
            if (threads == 1) { first[s] = p; continue; }
            CHECK(same(p.y, first[s].y, (size_t)N * out) && same(p.dx, first[s].dx, (size_t)N * in));
            CHECK(same(p.dw, first[s].dw, (size_t)out * in) && same(p.db, first[s].db, (size_t)out));
            CHECK(memcmp(p.packed, first[s].packed, matmul_packed_elements(out, in) * sizeof(act_t)) == 0);
            if (threads == 3) product_close(&first[s]);
            product_close(&p);
        }
        if (threads == 2) {
            for (int s = 0; s < most; s++) check_shape(shapes[s][0], shapes[s][1], shapes[s][2]);
            if (most == SHAPES) check_rows(130, 300), check_rows(33, 1000);
            check_neighbours();
        }
        memory_close(&memory);
    }
    threads_stop();
    return test_end("test_matmul");
}
