/* Norms against float64 and against finite differences of it; bits alone, in a batch and on 1, 2 and 3 threads. */
#include "test/host_ops.h"
#include "test/numbers.h"
#include "test/test.h"

/* y of one row in double: centred (layernorm) or not (rmsnorm). */
static void reference(double *y, const double *x, const double *w, const double *b, double eps, bool centred, int C)
{
    double mean = 0, squares = 0;
    for (int c = 0; c < C && centred; c++) mean += x[c] / C;
    for (int c = 0; c < C; c++) squares += (x[c] - mean) * (x[c] - mean) / C;
    for (int c = 0; c < C; c++) y[c] = (x[c] - mean) / sqrt(squares + eps) * w[c] + (b ? b[c] : 0);
}

/* d(sum y dy)/d(x[at]) of one row by central difference in double. */
static double difference(double *x, const double *w, const double *dy, double eps, bool centred, int C, int at)
{
    double y[4096], side[2], kept = x[at], h = 1e-5;
    for (int k = 0; k < 2; k++) {
        x[at] = kept + (k ? h : -h);
        reference(y, x, w, NULL, eps, centred, C);
        side[k] = 0;
        for (int c = 0; c < C; c++) side[k] += y[c] * dy[c];
    }
    x[at] = kept;
    return (side[1] - side[0]) / (2 * h);
}

static void widen(double *to, const float *from, int n) { for (int i = 0; i < n; i++) to[i] = (double)from[i]; }

struct arrays { float *y, *mean, *rstd, *dx, *dw, *db; };

static struct arrays arrays(int N, int C)
{
    size_t n = (size_t)N * (size_t)C;
    struct arrays a = {host_alloc(n, 4), host_alloc((size_t)N, 4), host_alloc((size_t)N, 4), numbers(n, 9, 1),
                       numbers((size_t)C, 10, 1), numbers((size_t)C, 11, 1)};
    return a;
}

static void arrays_free(struct arrays *a)
{
    free(a->y); free(a->mean); free(a->rstd); free(a->dx); free(a->dw); free(a->db);
}

static void run(struct arrays *a, const float *x, const float *w, const float *b, const float *dy, bool centred, bool add,
                int N, int C)
{
    if (centred) {
        host_layernorm_forward(a->y, a->mean, a->rstd, x, w, b, 1e-5f, N, C);
        host_layernorm_backward(a->dx, a->dw, b ? a->db : NULL, dy, x, w, a->mean, a->rstd, add, N, C);
    } else {
        host_rmsnorm_forward(a->y, a->rstd, x, w, 1e-5f, N, C);
        host_rmsnorm_backward(a->dx, a->dw, dy, x, w, a->rstd, add, N, C);
    }
}

static void check_values(const struct arrays *a, const float *x, const float *w, const float *b, const float *dy, bool centred,
                         bool add, int N, int C)
{
    static double xd[4096], wd[4096], bd[4096], dyd[4096], y[4096], ones[4096], dw[4096], db[4096];
    struct arrays before = arrays(N, C);
    double worst = 0, worst_dx = 0;
    widen(wd, w, C);
    if (b) widen(bd, b, C);
    for (int c = 0; c < C; c++) { ones[c] = 1; dw[c] = (double)before.dw[c]; db[c] = (double)before.db[c]; }
    for (int i = 0; i < N; i++) {
        widen(xd, x + i * C, C);
        widen(dyd, dy + i * C, C);
        reference(y, xd, wd, b ? bd : NULL, 1e-5, centred, C);
        worst = fmax(worst, furthest(a->y + i * C, y, (size_t)C));
        for (int k = 0; k < 3; k++) {
            int at = (i * 7 + k * 5) % C;
            double want = difference(xd, wd, dyd, 1e-5, centred, C, at) + (add ? (double)before.dx[i * C + at] : 0);
            worst_dx = fmax(worst_dx, furthest(&a->dx[i * C + at], &want, 1));
        }
        reference(y, xd, ones, NULL, 1e-5, centred, C);
        for (int c = 0; c < C; c++) { dw[c] += y[c] * dyd[c]; db[c] += dyd[c]; }
    }
    test_error("norm", worst);
    test_error("norm, gradient", worst_dx);
    CHECK(worst < stored(2e-6));
    test_check(worst_dx < stored(C < 3 ? 1e-3 : 2e-5), __FILE__, __LINE__, "dx off by %g, N %d C %d centred %d", worst_dx, N, C, centred);
    CHECK(furthest(a->dw, dw, (size_t)C) < 1e-5);
    if (centred && b) CHECK(furthest(a->db, db, (size_t)C) < 1e-5);
    else CHECK(same_bits(a->db, before.db, (size_t)C));
    arrays_free(&before);
}

static void test_shape(int N, int C, bool centred, bool with_bias, bool add)
{
    size_t n = (size_t)N * (size_t)C;
    float *x = numbers(n, 1, 2), *w = numbers((size_t)C, 2, 1), *b = with_bias ? numbers((size_t)C, 3, 1) : NULL, *dy = numbers(n, 4, 1);
    for (size_t i = 0; i < n; i++) x[i] = act_rounded(x[i] + 0.5f);
    struct arrays a = arrays(N, C);
    run(&a, x, w, b, dy, centred, add, N, C);
    check_values(&a, x, w, b, dy, centred, add, N, C);
    for (int threads = 2; threads <= 3; threads++) {
        struct arrays t = arrays(N, C);
        threads_start(threads);
        run(&t, x, w, b, dy, centred, add, N, C);
        threads_start(1);
        CHECK(same_bits(a.y, t.y, n) && same_bits(a.dx, t.dx, n) && same_bits(a.dw, t.dw, (size_t)C) && same_bits(a.db, t.db, (size_t)C));
        arrays_free(&t);
    }
    struct arrays one = arrays(N, C);        /* the last row alone */
    float *dx = one.dx;
    one.dx += n - (size_t)C;
    run(&one, x + n - C, w, b, dy + n - C, centred, add, 1, C);
    CHECK(same_bits(a.y + n - C, one.y, (size_t)C) && same_bits(a.dx + n - C, one.dx, (size_t)C));
    one.dx = dx;
    if (!add) {                              /* dx over dy */
        memcpy(one.dx, dy, n * sizeof(float));
        if (centred) host_layernorm_backward(one.dx, one.dw, NULL, one.dx, x, w, a.mean, a.rstd, false, N, C);
        else host_rmsnorm_backward(one.dx, one.dw, one.dx, x, w, a.rstd, false, N, C);
        CHECK(same_bits(a.dx, one.dx, n));
    }
    arrays_free(&one);
    arrays_free(&a);
    free(x); free(w); free(b); free(dy);
}

/* Each head must be what rmsnorm makes of that head as a row, gradients summed over rows and heads. */
static void test_qk(int N, int H, int G, int D)
{
    size_t width = (size_t)((H + 2 * G) * D), n = (size_t)N * width;
    float *x = numbers(n, 5, 1), *dy = numbers(n, 6, 1), *wq = numbers((size_t)D, 7, 1), *wk = numbers((size_t)D, 8, 1);
    float *y = copy_of(x, n), *dx = copy_of(dy, n), *rstd = host_alloc((size_t)(N * (H + G)), 4);
    float *dwq = host_alloc((size_t)D, 4), *dwk = host_alloc((size_t)D, 4), *head = host_alloc((size_t)D, 4), r;
    double *want_q = host_alloc((size_t)D, 8), *want_k = host_alloc((size_t)D, 8);
    host_qk_forward(y, rstd, y, wq, wk, 1e-6f, NULL, N, H, G, D);
    host_qk_backward(dx, dwq, dwk, dx, x, wq, wk, rstd, NULL, N, H, G, D);
    bool heads = true, gradients = true, values = true;
    for (int i = 0; i < N; i++)
        for (int h = 0; h < H + 2 * G; h++) {
            size_t at = (size_t)i * width + (size_t)(h * D);
            if (h >= H + G) {
                values = values && same_bits(y + at, x + at, (size_t)D) && same_bits(dx + at, dy + at, (size_t)D);
                continue;
            }
            const float *w = h < H ? wq : wk;
            float *dw = host_alloc((size_t)D, 4);
            host_rmsnorm_forward(head, &r, x + at, w, 1e-6f, 1, D);
            heads = heads && same_bits(head, y + at, (size_t)D) && r == rstd[i * (H + G) + h];
            host_rmsnorm_backward(head, dw, dy + at, x + at, w, &r, false, 1, D);
            gradients = gradients && same_bits(head, dx + at, (size_t)D);
            for (int d = 0; d < D; d++) (h < H ? want_q : want_k)[d] += (double)dw[d];
            free(dw);
        }
    CHECK(heads && gradients && values);
    CHECK(furthest(dwq, want_q, (size_t)D) < 1e-5 && furthest(dwk, want_k, (size_t)D) < 1e-5);
    for (int threads = 2; threads <= 3; threads++) {
        float *tq = host_alloc((size_t)D, 4), *tk = host_alloc((size_t)D, 4);
        threads_start(threads);
        host_qk_backward(dx, tq, tk, dy, x, wq, wk, rstd, NULL, N, H, G, D);
        threads_start(1);
        CHECK(same_bits(tq, dwq, (size_t)D) && same_bits(tk, dwk, (size_t)D));
        free(tq); free(tk);
    }
    free(x); free(dy); free(wq); free(wk); free(y); free(dx); free(rstd); free(dwq); free(dwk); free(head); free(want_q); free(want_k);
}

/* In one pass: the bits of the norm, and then of the turn; backward the other way. */
static void test_qk_turned(int N, int H, int G, int D, int R, enum rope_layout layout)
{
    size_t n = (size_t)N * (size_t)((H + 2 * G) * D), heads = (size_t)(N * (H + G)), d = (size_t)D;
    float *x = numbers(n, 5, 1), *dy = numbers(n, 6, 1), *wq = numbers(d, 7, 1), *wk = numbers(d, 8, 1);
    float *y = host_alloc(n, 4), *want = host_alloc(n, 4), *rstd = host_alloc(heads, 4), *want_rstd = host_alloc(heads, 4);
    float *dw[4];
    double frequency[64];
    int *positions = host_alloc((size_t)N, sizeof *positions);
    struct rope rope = {positions, frequency, R, 1.25, layout};
    for (int k = 0; k < 4; k++) dw[k] = numbers(d, 9, 1);
    for (int i = 0; i < N; i++) positions[i] = i % 97;
    for (int i = 0; i < R / 2; i++) frequency[i] = pow(100, -2.0 * i / R);
    host_qk_forward(y, rstd, x, wq, wk, 1e-6f, &rope, N, H, G, D);
    host_qk_forward(want, want_rstd, x, wq, wk, 1e-6f, NULL, N, H, G, D);
    host_qk_forward(want, NULL, want, NULL, NULL, 0, &rope, N, H, G, D);
    CHECK(same_bits(y, want, n) && same_bits(rstd, want_rstd, heads));
    for (int in_place = 0; in_place < 2; in_place++) {
        float *dx = copy_of(dy, n), *given = in_place ? dx : dy;
        memcpy(want, dy, n * sizeof *want);
        memcpy(dw[0], dw[2], d * sizeof **dw);
        memcpy(dw[1], dw[3], d * sizeof **dw);
        host_qk_backward(dx, dw[0], dw[1], given, x, wq, wk, rstd, &rope, N, H, G, D);
        host_qk_backward(want, NULL, NULL, want, NULL, NULL, NULL, NULL, &rope, N, H, G, D);
        host_qk_backward(want, dw[2], dw[3], want, x, wq, wk, rstd, NULL, N, H, G, D);
        CHECK(same_bits(dx, want, n) && same_bits(dw[0], dw[2], d) && same_bits(dw[1], dw[3], d));
        free(dx);
    }
    for (int k = 0; k < 4; k++) free(dw[k]);
    free(x); free(dy); free(wq); free(wk); free(y); free(want); free(rstd); free(want_rstd); free(positions);
}

int main(void)
{
    struct memory memory = {0};
    static const int shapes[][2] = {{1, 1}, {1, 2}, {3, 7}, {2, 16}, {5, 61}, {129, 17}, {130, 64}, {257, 67}, {300, 131}, {7, 1027}};
    ops_ready(&memory);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < 6; kind++)
            test_shape(shapes[s][0], shapes[s][1], kind < 4, kind < 2, kind % 2);
    test_qk(1, 1, 1, 2);
    test_qk(5, 3, 1, 7);
    test_qk(131, 4, 2, 64);
    test_qk(140, 2, 2, 33);
    test_qk_turned(5, 3, 1, 7, 6, ROPE_HALF);
    test_qk_turned(131, 4, 2, 64, 64, ROPE_HALF);
    test_qk_turned(33, 2, 1, 80, 32, ROPE_PAIRS);
    test_qk_turned(300, 1, 2, 128, 128, ROPE_PAIRS);
    memory_close(&memory);
    return test_end("test_norm");
}
