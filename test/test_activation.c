/* Activations against libm in double, slopes against finite differences; bits alone, in place and on 1, 2 and 3
 * threads. */
#include "test/host_ops.h"
#include "test/numbers.h"
#include "test/test.h"

static double reference(enum activation kind, double x)
{
    switch (kind) {
    case ACTIVATION_GELU: return x / 2 * (1 + erf(x / sqrt(2)));
    case ACTIVATION_GELU_TANH: return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_RELU: return x > 0 ? x : 0;
    case ACTIVATION_SWIGLU: return x / (1 + exp(-x));
    }
    return NAN;
}

static double slope(enum activation kind, double x)
{
    double h = 1e-6;
    return (reference(kind, x + h) - reference(kind, x - h)) / (2 * h);
}

static void test_shape(enum activation kind, int N, int F, double size)
{
    int wide = kind == ACTIVATION_SWIGLU ? 2 : 1;
    size_t n = (size_t)N * (size_t)F, nx = n * (size_t)wide;
    float *x = numbers(nx, 1, size), *dy = numbers(n, 2, 1), *y = host_alloc(n, 4), *dx = host_alloc(nx, 4);
    double *want = host_alloc(n, 8), *want_dx = host_alloc(nx, 8);
    for (int i = 0; i < N; i++)
        for (int f = 0; f < F; f++) {
            size_t at = (size_t)i * (size_t)(F * wide) + (size_t)f, k = (size_t)(i * F + f);
            double g = (double)x[at], d = (double)dy[k], up = wide == 2 ? (double)x[at + (size_t)F] : 1;
            want[k] = reference(kind, g) * up;
            want_dx[at] = d * slope(kind, g) * up;
            if (wide == 2) want_dx[at + (size_t)F] = d * reference(kind, g);
        }
    host_activation_forward(y, x, kind, N, F);
    host_activation_backward(dx, dy, x, kind, N, F);
    test_error("activation", furthest(y, want, n));
    test_error("activation, gradient", furthest(dx, want_dx, nx));
    CHECK(furthest(y, want, n) < stored(5e-7));
    CHECK(furthest(dx, want_dx, nx) < stored(3e-6));
    float *y2 = host_alloc(n, 4), *dx2 = host_alloc(nx, 4);
    for (int threads = 2; threads <= 3; threads++) {
        threads_start(threads);
        host_activation_forward(y2, x, kind, N, F);
        host_activation_backward(dx2, dy, x, kind, N, F);
        threads_start(1);
        CHECK(same_bits(y, y2, n) && same_bits(dx, dx2, nx));
    }
    host_activation_forward(y2, x + nx - F * wide, kind, 1, F);
    host_activation_backward(dx2, dy + n - F, x + nx - F * wide, kind, 1, F);
    CHECK(same_bits(y + n - F, y2, (size_t)F) && same_bits(dx + nx - F * wide, dx2, (size_t)(F * wide)));
    if (wide == 1) {
        memcpy(dx2, dy, n * 4);
        host_activation_backward(dx2, dx2, x, kind, N, F);
        CHECK(same_bits(dx, dx2, nx));
    }
    free(x); free(dy); free(y); free(dx); free(want); free(want_dx); free(y2); free(dx2);
}

static void test_curve(enum activation kind)
{
    enum { POINTS = 4001 };
    static float x[2 * POINTS], y[POINTS], dx[2 * POINTS], one[POINTS];
    int wide = kind == ACTIVATION_SWIGLU ? 2 : 1;
    double worst = 0, worst_slope = 0;
    for (int i = 0; i < POINTS; i++) {
        x[i * wide] = act_rounded((float)(i - POINTS / 2) / 100);        /* -20 .. 20 */
        if (wide == 2) x[i * 2 + 1] = 1;
        one[i] = 1;
    }
    host_activation_forward(y, x, kind, POINTS, 1);
    host_activation_backward(dx, one, x, kind, POINTS, 1);
    for (int i = 0; i < POINTS; i++) {
        double v = (double)x[i * wide];
        worst = fmax(worst, fabs((double)y[i] - reference(kind, v)) / (1 + fabs(v)));
        if (v != 0) worst_slope = fmax(worst_slope, fabs((double)dx[i * wide] - slope(kind, v)));
    }
    CHECK(worst < stored(4e-7));
    CHECK(worst_slope < stored(2e-6));
}

static void test_ends(void)
{
    float x[6] = {1e30f, -1e30f, 200, -200, NAN, 0}, y[6], want[6] = {1e30f, 0, 200, 0, NAN, 0};
    for (int kind = 0; kind < 3; kind++) {
        host_activation_forward(y, x, (enum activation)kind, 1, 6);
        for (int i = 0; i < 6; i++) CHECK(i == 4 ? isnan(y[i]) : y[i] == act_rounded(want[i]));
    }
    float gate[2] = {-200, 3}, dgate[2], dy[1] = {1};
    host_activation_forward(y, gate, ACTIVATION_SWIGLU, 1, 1);
    host_activation_backward(dgate, dy, gate, ACTIVATION_SWIGLU, 1, 1);
    CHECK(y[0] == 0 && dgate[0] == 0 && dgate[1] == 0);
}

int main(void)
{
    static const int shapes[][2] = {{1, 1}, {3, 5}, {7, 17}, {64, 64}, {13, 1031}, {1, 20011}};
    for (int kind = 0; kind < 4; kind++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) test_shape((enum activation)kind, shapes[s][0], shapes[s][1], 2);
        test_curve((enum activation)kind);
    }
    test_ends();
    return test_end("test_activation");
}
