/* bench_ops.c - speed of products, attention and the loss head, each as a ratio to what this machine can do in the same
 * run: multiply-adds from registers, bytes from memory, and the products of OpenBLAS, BLIS and oneDNN where these are
 * installed.     bench_ops [threads] */
#include "common/model/ops.h"
#include "test/bench/limits.h"

#include <dlfcn.h>
#include <unistd.h>

static const double budget = 0.4;           /* seconds for one line, unless the fewest runs take longer */

/* ---- products ---- */

/* c (M,N) = beta c + op(a) op(b), row after row, op: as it lies or transposed */
enum { OPENBLAS, BLIS, ONEDNN, LIBRARIES };
static const char *const library_name[] = {"OpenBLAS", "BLIS", "oneDNN"};
static void *library_sgemm[LIBRARIES];      /* NULL: not installed */

typedef void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);
typedef int dnnl_sgemm(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                       const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

static void open_libraries(void)
{
    static const char *const file[] = {"libopenblas.so.0", "libblis.so.4", "libdnnl.so.2"};
    char threads[16];
    snprintf(threads, sizeof threads, "%d", threads_count());
    setenv("OMP_NUM_THREADS", threads, 1), setenv("OPENBLAS_NUM_THREADS", threads, 1), setenv("BLIS_NUM_THREADS", threads, 1);
    setenv("OMP_WAIT_POLICY", "passive", 1);        /* none of them spins into the next measurement */
    for (int l = 0; l < LIBRARIES; l++) {
        void *library = dlopen(file[l], RTLD_NOW | RTLD_LOCAL);
        library_sgemm[l] = library ? dlsym(library, l == ONEDNN ? "dnnl_sgemm" : "cblas_sgemm") : NULL;
        if (!library_sgemm[l]) printf("%s (%s) is not installed: no comparison with it\n", library_name[l], file[l]);
    }
}

struct product {
    enum { FORWARD, INPUT, WEIGHT } kind;
    int N, out, in;
    act_t *x, *y, *packed;
    float *w, *dw;
    float *float_x, *float_y;       /* of the libraries */
    int library;
};

static void product_run(void *context)
{
    struct product *p = context;
    if (p->kind == FORWARD) matmul_forward(p->y, p->x, p->packed, NULL, NULL, p->N, p->out, p->in);
    else if (p->kind == INPUT) matmul_backward_input(p->x, p->y, p->packed, false, p->N, p->out, p->in);
    else matmul_backward_weight(p->dw, NULL, p->y, p->x, p->N, p->out, p->in);
}

static void sgemm(int library, bool transpose_a, bool transpose_b, int m, int n, int k, const float *a, int lda, const float *b,
                  int ldb, float beta, float *c)
{
    if (library == ONEDNN)
        ((dnnl_sgemm *)library_sgemm[library])(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1, a, lda, b, ldb, beta, c, n);
    else
        ((cblas_sgemm *)library_sgemm[library])(ROW_MAJOR, transpose_a ? TRANSPOSED : PLAIN, transpose_b ? TRANSPOSED : PLAIN, m, n, k,
                                                1, a, lda, b, ldb, beta, c, n);
}

static void library_run(void *context)
{
    struct product *p = context;
    int N = p->N, O = p->out, I = p->in;
    if (p->kind == FORWARD) sgemm(p->library, false, true, N, O, I, p->float_x, I, p->w, I, 0, p->float_y);
    else if (p->kind == INPUT) sgemm(p->library, false, false, N, I, O, p->float_y, O, p->w, I, 0, p->float_x);
    else sgemm(p->library, true, false, O, I, N, p->float_y, O, p->float_x, I, 1, p->dw);
}

/* out, in: GPT-2 124M */
static const int shapes[][2] = {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}, {50257, 768}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static struct product product_open(int N, int out, int in)
{
    size_t n = (size_t)N, o = (size_t)out, i = (size_t)in;
    struct product p = {.N = N, .out = out, .in = in, .x = bench_acts(n * i), .y = bench_acts(n * o),
                        .packed = device_alloc(matmul_packed_elements(out, in) * sizeof(act_t)),
                        .w = bench_numbers(o * i), .dw = bench_numbers(o * i)};
    p.float_x = act_floats(p.x) ? act_floats(p.x) : bench_numbers(n * i);
    p.float_y = act_floats(p.y) ? act_floats(p.y) : bench_numbers(n * o);
    matmul_pack(p.packed, p.w, NULL, out, in);
    return p;
}

static void product_close(struct product *p)
{
    size_t n = (size_t)p->N, o = (size_t)p->out, i = (size_t)p->in;
    if (!act_floats(p->x)) device_free(p->float_x, n * i * 4), device_free(p->float_y, n * o * 4);
    device_free(p->x, n * i * sizeof *p->x), device_free(p->y, n * o * sizeof *p->y);
    device_free(p->w, o * i * 4), device_free(p->dw, o * i * 4);
    device_free(p->packed, matmul_packed_elements(p->out, p->in) * sizeof *p->packed);
}

/* seconds[0]: ours, seconds[1 + l]: library l's, 0 where it is not installed */
enum { OURS, THEIRS, RIVALS = THEIRS + LIBRARIES };

/* Prints how many times faster than each library ours is. */
static void print_rivals(const double *seconds)
{
    for (int l = 0; l < LIBRARIES; l++)
        if (seconds[THEIRS + l] > 0) printf("   %.2f x %s", seconds[THEIRS + l] / seconds[OURS], library_name[l]);
    printf("\n");
}

static void result_rivals(const char *what, const double *seconds)
{
    double best = 0;
    for (int l = 0; l < LIBRARIES; l++)
        if (seconds[THEIRS + l] > 0 && (best == 0 || seconds[THEIRS + l] < best)) best = seconds[THEIRS + l];
    if (best > 0) bench_result(what, best / seconds[OURS], "of the best library", 1);
}

static void bench_training(double peak)
{
    static const char *const name[] = {"forward", "dx", "dweight"};
    printf("\nproducts in training (GF; share of the multiply-add peak)\n");
    for (int N = 256; N <= 1024; N *= 4)
        for (int kind = 0; kind < 3; kind++) {
            double total[RIVALS] = {0}, flops = 0;
            for (int s = 0; s < SHAPES; s++) {
                struct product p = product_open(s == SHAPES - 1 ? N / 2 : N, shapes[s][0], shapes[s][1]);
                double seconds[RIVALS] = {0}, work = 2.0 * p.N * p.out * p.in;
                p.kind = kind;
                seconds[OURS] = bench_seconds(product_run, &p, budget);
                for (p.library = 0; p.library < LIBRARIES; p.library++)
                    if (library_sgemm[p.library]) seconds[THEIRS + p.library] = bench_seconds(library_run, &p, budget), usleep(60000);
                printf("  %-8s N %4d %5d -> %5d: %6.1f GF %3.0f %%", name[kind], p.N, p.in, p.out,
                       1e-9 * work / seconds[OURS], 100 * work / seconds[OURS] / peak);
                print_rivals(seconds);
                for (int r = 0; r < RIVALS; r++) total[r] += seconds[r];
                flops += work;
                product_close(&p);
            }
            printf("  %-8s N %4d together     : %6.1f GF %3.0f %%", name[kind], N, 1e-9 * flops / total[OURS],
                   100 * flops / total[OURS] / peak);
            print_rivals(total);
            char what[64];
            snprintf(what, sizeof what, "product %s, %d rows", name[kind], N);
            result_rivals(what, total);
        }
}

/* All matrices of the model one after another, as decoding reads them: 500 MB, far more than the caches. */
struct decode { struct product p[12 * 4 + 1]; int library; };       /* library -1: ours */

static void decode_run(void *context)
{
    struct decode *d = context;
    for (int i = 0; i < 12 * 4 + 1; i++) {
        d->p[i].library = d->library;
        (d->library < 0 ? product_run : library_run)(&d->p[i]);
    }
}

static void bench_decode(double peak, double read)
{
    static const int rows[] = {1, 4, 8, 16, 32, 64};
    struct decode d;
    printf("\nproducts in decoding, all matrices of GPT-2 124M (weights read a second; share of the nearer limit)\n");
    for (int i = 0; i < 12 * 4 + 1; i++) {
        const int *shape = shapes[i < 48 ? i % 4 : 4];
        d.p[i] = product_open(64, shape[0], shape[1]);
    }
    for (int r = 0; r < 6; r++) {
        double weights = 0, seconds[RIVALS] = {0};
        for (int i = 0; i < 12 * 4 + 1; i++) d.p[i].N = rows[r], weights += (double)d.p[i].out * d.p[i].in;
        for (d.library = -1; d.library < LIBRARIES; d.library++)
            if (d.library < 0 || library_sgemm[d.library]) {
                seconds[THEIRS + d.library] = bench_seconds(decode_run, &d, budget);
                if (d.library >= 0) usleep(60000);
            }
        double bytes = sizeof(act_t) * weights / read, work = 2 * weights * rows[r] / peak;
        printf("  %2d rows: %5.1f GB/s %6.1f GF %4.0f rows/s, %3.0f %% of %s", rows[r], 1e-9 * sizeof(act_t) * weights / seconds[OURS],
               2e-9 * weights * rows[r] / seconds[OURS], rows[r] / seconds[OURS],
               100 * (bytes > work ? bytes : work) / seconds[OURS], bytes > work ? "bandwidth" : "peak");
        print_rivals(seconds);
    }
    for (int i = 0; i < 12 * 4 + 1; i++) {
        d.p[i].N = 64;
        product_close(&d.p[i]);
    }
}

static void pack_run(void *context)
{
    struct product *p = context;
    matmul_pack(p->packed, p->w, NULL, p->out, p->in);
}

static void bench_pack(double copy)
{
    struct product p = product_open(1, 50257, 768);
    double rate = (double)(4 + sizeof(act_t)) * p.out * p.in / bench_seconds(pack_run, &p, budget);
    printf("\npacking 50257 x 768: %.1f GB/s, %.0f %% of copying past the caches\n", 1e-9 * rate, 100 * rate / copy);
    product_close(&p);
}

/* ---- attention ---- */

struct attention { act_t *y, *qkv, *dy, *dqkv; float *lse, *work; int *offsets; int S, N, H, G, D; bool backward; };

static void attention_run(void *context)
{
    struct attention *a = context;
    if (!a->backward) attention_forward(a->y, a->lse, a->qkv, a->offsets, &(struct sight){NULL}, a->S, a->N, a->H, a->G, a->D);
    else attention_backward(a->dqkv, a->dy, a->y, a->lse, a->qkv, a->offsets, &(struct sight){NULL}, a->work, a->S, a->N, a->H, a->G,
                            a->D);
}

static void attention_line(int T, int S, int H, int G, int D, double peak)
{
    size_t N = (size_t)T * (size_t)S, wide = N * (size_t)(H + 2 * G) * D, narrow = N * (size_t)H * D;
    size_t work = attention_backward_work((int)N, H, G, D);
    struct attention a = {bench_acts(narrow), bench_acts(wide), bench_acts(narrow), bench_acts(wide),
                          bench_numbers(N * H), bench_numbers(work),
                          host_alloc((size_t)S + 1, sizeof(int)), S, (int)N, H, G, D, false};
    for (int s = 0; s <= S; s++) a.offsets[s] = s * T;
    /* two products over the pairs that are not masked */
    double flops = 4.0 * D * H * S * ((double)T * (T + 1) / 2);
    double forward = bench_seconds(attention_run, &a, budget);
    a.backward = true;
    double backward = bench_seconds(attention_run, &a, budget);
    printf("  %4d x T %4d, %2d/%2d heads x %3d: forward %6.1f GF %3.0f %%   ", S, T, H, G, D, 1e-9 * flops / forward,
           100 * flops / forward / peak);
    printf("backward %6.1f GF %3.0f %%, %.2f x forward\n", 2.5e-9 * flops / backward,
           250 * flops / backward / peak, backward / forward);
    size_t act = sizeof(act_t);
    device_free(a.y, narrow * act), device_free(a.dy, narrow * act), device_free(a.qkv, wide * act);
    device_free(a.dqkv, wide * act), device_free(a.lse, N * H * 4), device_free(a.work, work * 4), free(a.offsets);
}

static void bench_attention(double peak)
{
    printf("\nattention, causal (useful GF; share of the multiply-add peak)\n");
    for (int T = 256; T <= 4096; T *= 2) attention_line(T, 4096 / T > 4 ? 4 : 4096 / T, 12, 12, 64, peak);
    attention_line(1024, 1, 12, 4, 64, peak);
    attention_line(1024, 1, 8, 8, 128, peak);
    attention_line(64, 64, 12, 12, 64, peak);
    attention_line(20, 200, 12, 12, 64, peak);
}

/* ---- the loss head ---- */

struct loss { float *logprobs, *dweight, *weight, *work; act_t *dh, *h, *packed; int *targets; int n, C, V; };

static void loss_run(void *context)
{
    struct loss *t = context;
    struct token_loss l = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1};
    token_loss(t->logprobs, NULL, NULL, t->dh, t->dweight, t->h, t->targets, t->packed, &l, t->work, t->n,
               t->C, t->V);
}

static void bench_loss(double peak)
{
    int n = 1024, C = 768, V = 50257;
    size_t work = token_loss_work(n, C, V), matrix = (size_t)V * C, rows = (size_t)n * C;
    size_t packed = matmul_packed_elements(V, C) * sizeof(act_t);
    struct loss t = {bench_numbers((size_t)n), bench_numbers(matrix), bench_numbers(matrix), bench_numbers(work),
                     bench_acts(rows), bench_acts(rows), device_alloc(packed), host_alloc((size_t)n, sizeof(int)),
                     n, C, V};
    matmul_pack(t.packed, t.weight, NULL, V, C);
    double flops = 6.0 * n * C * V, seconds = bench_seconds(loss_run, &t, budget);
    printf("\nloss head, %d rows of %d: %.1f GF, %.0f %% of peak\n", n, V, 1e-9 * flops / seconds,
           100 * flops / seconds / peak);
    device_free(t.logprobs, (size_t)n * 4), device_free(t.dweight, matrix * 4), device_free(t.weight, matrix * 4);
    device_free(t.dh, rows * sizeof *t.dh), device_free(t.h, rows * sizeof *t.h), device_free(t.packed, packed);
    device_free(t.work, work * 4), free(t.targets);
}

int main(int argc, char **argv)
{
    struct memory memory = {0};
    struct error error;
    threads_start(1);
    double peak_one = device_peak_flops();
    threads_start(argc > 1 ? atoi(argv[1]) : 0);
    ops_open(&memory);
    if (memory_open(&memory, &error)) quit_error(&error);
    ops_open(&memory);
    struct bench_limits limits = bench_limits();
    printf("one thread: multiply-adds %.1f GF\n", 1e-9 * peak_one);
    open_libraries();
    if (bench_wanted("training")) bench_training(limits.peak);
    if (bench_wanted("decoding")) bench_decode(limits.peak, limits.rate[BENCH_READ]);
    if (bench_wanted("packing")) bench_pack(limits.rate[BENCH_COPY]);
    if (bench_wanted("attention")) bench_attention(limits.peak);
    if (bench_wanted("loss head")) bench_loss(limits.peak);
    memory_close(&memory);
    threads_stop();
    return 0;
}
