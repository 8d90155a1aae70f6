/* bench_ops.c - speed of products, attention and the loss head, each as a ratio to what this machine can do in the same
 * run: multiply-adds from registers, bytes from memory, and OpenBLAS where it is installed.  Medians of a few runs; on
 * a shared machine ratios mean something, seconds do not.     bench_ops [threads] */
#include "common/device.h"
#include "common/ops.h"
#include "common/threads.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUNS = 9, LEAST_RUNS = 3 };
static const double budget = 0.4;           /* seconds for one line, unless LEAST_RUNS take longer */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a run, after one that warms up. */
static double seconds_of(void (*run)(void *context), void *context)
{
    double time[RUNS], begin = seconds_now();
    int n = 0;
    run(context);
    while (n < RUNS && (n < LEAST_RUNS || seconds_now() - begin < budget)) {
        double start = seconds_now();
        run(context);
        time[n++] = seconds_now() - start;
    }
    qsort(time, (size_t)n, sizeof *time, by_value);
    return time[n / 2];
}

static float *numbers(size_t n)
{
    float *p = device_alloc(n * sizeof *p);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        p[i] = (float)(state >> 8) * 0x1p-23f - 1;
    }
    return p;
}

/* ---- memory ---- */

enum { PIECES = 64 };
struct stream { float *a, *b, *c; size_t n; bool triad; float sum[PIECES]; };

static void stream_task(void *context, int i, int thread)
{
    struct stream *s = context;
    size_t from = s->n / PIECES * (size_t)i, to = from + s->n / PIECES;
    (void)thread;
    if (s->triad) {
        for (size_t k = from; k < to; k++) s->a[k] = s->b[k] + 3 * s->c[k];
        return;
    }
    float sum[64] = {0};
    for (size_t k = from; k < to; k += 64)
        for (int j = 0; j < 64; j++) sum[j] += s->a[k + (size_t)j];
    for (int j = 1; j < 64; j++) sum[0] += sum[j];
    s->sum[i] = sum[0];
}

static void stream_run(void *context) { threads_for(PIECES, stream_task, context); }

/* Bytes a second: reading one array, or a = b + 3 c with 12 bytes counted an element. */
static double bandwidth(bool triad)
{
    struct stream s = {.n = (size_t)24 << 20, .triad = triad};
    s.a = numbers(s.n), s.b = numbers(s.n), s.c = numbers(s.n);
    double seconds = seconds_of(stream_run, &s);
    device_free(s.a, s.n * 4), device_free(s.b, s.n * 4), device_free(s.c, s.n * 4);
    return (triad ? 12 : 4) * (double)s.n / seconds;
}

/* ---- products ---- */

typedef void sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                   int lda, const float *b, int ldb, float beta, float *c, int ldc);
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

struct product {
    enum { FORWARD, INPUT, WEIGHT } kind;
    int N, out, in;
    float *x, *w, *packed, *y, *dw;
    sgemm *blas;
};

static void product_run(void *context)
{
    struct product *p = context;
    if (p->kind == FORWARD) matmul_forward(p->y, p->x, p->packed, NULL, NULL, p->N, p->out, p->in);
    else if (p->kind == INPUT) matmul_backward_input(p->x, p->y, p->w, false, p->N, p->out, p->in);
    else matmul_backward_weight(p->dw, NULL, p->y, p->x, p->N, p->out, p->in);
}

static void blas_run(void *context)
{
    struct product *p = context;
    int N = p->N, O = p->out, I = p->in;
    if (p->kind == FORWARD) p->blas(ROW_MAJOR, PLAIN, TRANSPOSED, N, O, I, 1, p->x, I, p->w, I, 0, p->y, O);
    else if (p->kind == INPUT) p->blas(ROW_MAJOR, PLAIN, PLAIN, N, I, O, 1, p->y, O, p->w, I, 0, p->x, I);
    else p->blas(ROW_MAJOR, TRANSPOSED, PLAIN, O, I, N, 1, p->y, O, p->x, I, 1, p->dw, I);
}

static sgemm *open_blas(void)
{
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library) return NULL;
    void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
    if (set_threads) set_threads(threads_count());
    return (sgemm *)dlsym(library, "cblas_sgemm");
}

/* out, in: GPT-2 124M */
static const int shapes[][2] = {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}, {50257, 768}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static struct product product_open(int N, int out, int in, sgemm *blas)
{
    size_t n = (size_t)N, o = (size_t)out, i = (size_t)in;
    struct product p = {FORWARD, N, out, in, numbers(n * i), numbers(o * i),
                        device_alloc(matmul_packed_elements(out, in) * 4),
                        numbers(n * o), numbers(o * i), blas};
    matmul_pack(p.packed, p.w, out, in);
    return p;
}

static void product_close(struct product *p)
{
    size_t n = (size_t)p->N, o = (size_t)p->out, i = (size_t)p->in;
    device_free(p->x, n * i * 4), device_free(p->w, o * i * 4), device_free(p->y, n * o * 4),
        device_free(p->dw, o * i * 4);
    device_free(p->packed, matmul_packed_elements(p->out, p->in) * 4);
}

/* Ours and, turn by turn, OpenBLAS's seconds.  Its threads go on spinning for a while: wait until they sleep. */
static double compare(struct product *p, double *blas)
{
    double ours = seconds_of(product_run, p);
    *blas = p->blas ? seconds_of(blas_run, p) : 0;
    if (p->blas) usleep(60000);
    return ours;
}

static void print_blas(double ours, double blas)
{
    if (blas > 0) printf("   %.2f x OpenBLAS", blas / ours);
    printf("\n");
}

static void bench_training(double peak, sgemm *blas)
{
    static const char *const name[] = {"forward", "dx", "dweight"};
    printf("\nproducts in training (GF; share of the multiply-add peak)\n");
    for (int N = 256; N <= 1024; N *= 4)
        for (int kind = 0; kind < 3; kind++) {
            double ours = 0, theirs = 0, flops = 0;
            for (int s = 0; s < SHAPES; s++) {
                struct product p = product_open(s == SHAPES - 1 ? N / 2 : N, shapes[s][0], shapes[s][1], blas);
                double other, work = 2.0 * p.N * p.out * p.in;
                p.kind = kind;
                double seconds = compare(&p, &other);
                printf("  %-8s N %4d %5d -> %5d: %6.1f GF %3.0f %%", name[kind], p.N, p.in, p.out,
                       1e-9 * work / seconds, 100 * work / seconds / peak);
                print_blas(seconds, other);
                ours += seconds, theirs += other, flops += work;
                product_close(&p);
            }
            printf("  %-8s N %4d together     : %6.1f GF %3.0f %%", name[kind], N, 1e-9 * flops / ours,
                   100 * flops / ours / peak);
            print_blas(ours, theirs);
        }
}

/* All matrices of the model one after another, as decoding reads them: 500 MB, far more than the caches. */
struct decode { struct product p[12 * 4 + 1]; bool blas; };

static void decode_run(void *context)
{
    struct decode *d = context;
    for (int i = 0; i < 12 * 4 + 1; i++) (d->blas ? blas_run : product_run)(&d->p[i]);
}

static void bench_decode(double peak, double read, sgemm *blas)
{
    static const int rows[] = {1, 4, 8, 16, 32, 64};
    struct decode d;
    printf("\nproducts in decoding, all matrices of GPT-2 124M (weights read a second; share of the nearer limit)\n");
    for (int i = 0; i < 12 * 4 + 1; i++) {
        const int *shape = shapes[i < 48 ? i % 4 : 4];
        d.p[i] = product_open(64, shape[0], shape[1], blas);
    }
    for (int r = 0; r < 6; r++) {
        double weights = 0;
        for (int i = 0; i < 12 * 4 + 1; i++) d.p[i].N = rows[r], weights += (double)d.p[i].out * d.p[i].in;
        d.blas = false;
        double seconds = seconds_of(decode_run, &d), other = 0;
        d.blas = true;
        if (blas) other = seconds_of(decode_run, &d), usleep(60000);
        double bytes = 4 * weights / read, work = 2 * weights * rows[r] / peak;
        printf("  %2d rows: %5.1f GB/s %6.1f GF %4.0f rows/s, %3.0f %% of %s", rows[r], 4e-9 * weights / seconds,
               2e-9 * weights * rows[r] / seconds, rows[r] / seconds, 100 * (bytes > work ? bytes : work) / seconds,
               bytes > work ? "bandwidth" : "peak");
        print_blas(seconds, other);
    }
    for (int i = 0; i < 12 * 4 + 1; i++) {
        d.p[i].N = 64;
        product_close(&d.p[i]);
    }
}

static void pack_run(void *context)
{
    struct product *p = context;
    matmul_pack(p->packed, p->w, p->out, p->in);
}

static void bench_pack(double triad)
{
    struct product p = product_open(1, 50257, 768, NULL);
    double rate = 8.0 * p.out * p.in / seconds_of(pack_run, &p);
    printf("\npacking 50257 x 768: %.1f GB/s, %.0f %% of triad\n", 1e-9 * rate, 100 * rate / triad);
    product_close(&p);
}

/* ---- attention ---- */

struct attention { float *y, *lse, *qkv, *dy, *dqkv, *work; int *offsets; int S, N, H, G, D; bool backward; };

static void attention_run(void *context)
{
    struct attention *a = context;
    if (!a->backward) attention_forward(a->y, a->lse, a->qkv, a->offsets, NULL, a->S, a->N, a->H, a->G, a->D);
    else attention_backward(a->dqkv, a->dy, a->y, a->lse, a->qkv, a->offsets, NULL, a->work, a->S, a->N, a->H, a->G,
                            a->D);
}

static void attention_line(int T, int S, int H, int G, int D, double peak)
{
    size_t N = (size_t)T * (size_t)S, wide = N * (size_t)(H + 2 * G) * D, narrow = N * (size_t)H * D;
    size_t work = attention_backward_work((int)N, H, G, D);
    struct attention a = {numbers(narrow), numbers(N * H), numbers(wide), numbers(narrow), numbers(wide), numbers(work),
                          host_alloc((size_t)S + 1, sizeof(int)), S, (int)N, H, G, D, false};
    for (int s = 0; s <= S; s++) a.offsets[s] = s * T;
    /* two products over the pairs that are not masked */
    double flops = 4.0 * D * H * S * ((double)T * (T + 1) / 2);
    double forward = seconds_of(attention_run, &a);
    a.backward = true;
    double backward = seconds_of(attention_run, &a);
    printf("  %4d x T %4d, %2d/%2d heads x %3d: forward %6.1f GF %3.0f %%   ", S, T, H, G, D, 1e-9 * flops / forward,
           100 * flops / forward / peak);
    printf("backward %6.1f GF %3.0f %%, %.2f x forward\n", 2.5e-9 * flops / backward,
           250 * flops / backward / peak, backward / forward);
    device_free(a.y, narrow * 4), device_free(a.lse, N * H * 4), device_free(a.qkv, wide * 4),
        device_free(a.dy, narrow * 4);
    device_free(a.dqkv, wide * 4), device_free(a.work, work * 4), free(a.offsets);
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

struct loss { float *logprobs, *dh, *dweight, *h, *weight, *packed, *work; int *targets; int n, C, V; };

static void loss_run(void *context)
{
    struct loss *t = context;
    struct token_loss l = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1};
    token_loss(t->logprobs, NULL, NULL, t->dh, t->dweight, t->h, t->targets, t->packed, t->weight, &l, t->work, t->n,
               t->C, t->V);
}

static void bench_loss(double peak)
{
    int n = 1024, C = 768, V = 50257;
    size_t work = token_loss_work(n, C, V), matrix = (size_t)V * C, rows = (size_t)n * C;
    struct loss t = {numbers((size_t)n), numbers(rows), numbers(matrix), numbers(rows), numbers(matrix),
                     device_alloc(matmul_packed_elements(V, C) * 4), numbers(work), host_alloc((size_t)n, sizeof(int)),
                         n, C, V};
    matmul_pack(t.packed, t.weight, V, C);
    double flops = 6.0 * n * C * V, seconds = seconds_of(loss_run, &t);
    printf("\nloss head, %d rows of %d: %.1f GF, %.0f %% of peak\n", n, V, 1e-9 * flops / seconds,
           100 * flops / seconds / peak);
    device_free(t.logprobs, (size_t)n * 4), device_free(t.dh, rows * 4), device_free(t.dweight, matrix * 4);
    device_free(t.h, rows * 4), device_free(t.weight, matrix * 4),
        device_free(t.packed, matmul_packed_elements(V, C) * 4);
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
    double peak = device_peak_flops(), read = bandwidth(false), triad = bandwidth(true);
    printf("%s: multiply-adds %.1f GF (one thread %.1f), read %.1f GB/s, triad %.1f GB/s\n", device_name(), 1e-9 * peak,
           1e-9 * peak_one, 1e-9 * read, 1e-9 * triad);
    sgemm *blas = open_blas();
    if (!blas) printf("OpenBLAS is not installed: no comparison with it\n");
    bench_training(peak, blas);
    bench_decode(peak, read, blas);
    bench_pack(triad);
    bench_attention(peak);
    bench_loss(peak);
    memory_close(&memory);
    threads_stop();
    return 0;
}
