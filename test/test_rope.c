/* Rotation against libm in double, for both layouts and part of a head; inverse, bits, relative positions. */
#include "test/host_ops.h"
#include "test/numbers.h"
#include "test/test.h"

struct shape { int N, H, G, D, R; double theta; enum rope_layout layout; double factor; };

static double factor_of(const struct shape *s) { return s->factor > 0 ? s->factor : 1; }

static void reference(double *want, const float *x, const int *positions, const struct shape *s)
{
    int width = (s->H + 2 * s->G) * s->D;
    for (int i = 0; i < s->N * width; i++) want[i] = (double)x[i];
    for (int i = 0; i < s->N; i++)
        for (int h = 0; h < s->H + s->G; h++)
            for (int k = 0; k < s->R / 2; k++) {
                int base = i * width + h * s->D;
                int a = base + (s->layout == ROPE_HALF ? k : 2 * k), b = base + (s->layout == ROPE_HALF ? k + s->R / 2 : 2 * k + 1);
                double angle = positions[i] * pow(s->theta, -2.0 * k / s->R), p = want[a], q = want[b];
                want[a] = factor_of(s) * (p * cos(angle) - q * sin(angle));
                want[b] = factor_of(s) * (p * sin(angle) + q * cos(angle));
            }
}

static void rotate(float *y, const float *x, const int *positions, int N, const struct shape *s, bool back)
{
    double frequency[129];
    struct rope rope = {positions, frequency, s->R, factor_of(s), s->layout};
    for (int i = 0; i < s->R / 2; i++) frequency[i] = pow(s->theta, -2.0 * i / s->R);
    if (back) host_qk_backward(y, NULL, NULL, x, NULL, NULL, NULL, NULL, &rope, N, s->H, s->G, s->D);
    else host_qk_forward(y, NULL, x, NULL, NULL, 0, &rope, N, s->H, s->G, s->D);
}

static void test_shape(const struct shape *s, int first_position)
{
    size_t width = (size_t)((s->H + 2 * s->G) * s->D), n = (size_t)s->N * width;
    float *x = numbers(n, 3, 1), *y = copy_of(x, n), *z = copy_of(x, n);
    double *want = host_alloc(n, sizeof *want), *back = host_alloc(n, sizeof *back);
    int *positions = host_alloc((size_t)s->N, sizeof *positions);
    for (int i = 0; i < s->N; i++) positions[i] = first_position + i * 7 % 1000;
    reference(want, x, positions, s);
    rotate(y, y, positions, s->N, s, false);
    test_error("rope", furthest(y, want, n));
    CHECK(furthest(y, want, n) < stored(3e-7));
    rotate(z, y, positions, s->N, s, true);
    for (size_t i = 0; i < n; i++) {
        size_t channel = i % width, d = channel % (size_t)s->D;
        bool turned = channel < (size_t)((s->H + s->G) * s->D) && d < (size_t)s->R;
        back[i] = (double)x[i] * (turned ? factor_of(s) * factor_of(s) : 1);
    }
    CHECK(furthest(z, back, n) < by_type(1e-6, 0x1p-6));
    for (int threads = 2; threads <= 3; threads++) {
        threads_start(threads);
        rotate(z, x, positions, s->N, s, false);
        threads_start(1);
        CHECK(same_bits(y, z, n));
    }
    memcpy(z, x + n - width, width * sizeof *z);
    rotate(z, z, positions + s->N - 1, 1, s, false);
    CHECK(same_bits(y + n - width, z, width));
    free(x); free(y); free(z); free(want); free(back); free(positions);
}

/* Position 0 changes nothing, to the bit. */
static void test_origin(void)
{
    float x[12], y[12];
    int position = 0;
    for (int i = 0; i < 12; i++) x[i] = y[i] = act_rounded((float)(i + 1) * 0.37f);
    rotate(y, x, &position, 1, &(struct shape){1, 1, 1, 4, 4, 10000, ROPE_HALF}, false);
    CHECK(same_bits(x, y, 12));
}

int main(void)
{
    static const struct shape shapes[] = {
        {1, 1, 1, 2, 2, 10000, ROPE_HALF}, {5, 3, 1, 6, 4, 10000, ROPE_HALF}, {5, 3, 1, 6, 4, 10000, ROPE_PAIRS},
        {17, 4, 2, 64, 64, 10000, ROPE_HALF}, {17, 4, 2, 64, 64, 1e6, ROPE_PAIRS}, {33, 2, 2, 128, 32, 500000, ROPE_HALF},
        {67, 5, 1, 10, 10, 10000, ROPE_PAIRS}, {3, 1, 1, 258, 258, 100, ROPE_HALF}, {2, 2, 1, 7, 0, 10000, ROPE_HALF}, {9, 2, 1, 8, 4, 200, ROPE_PAIRS, 1.25}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int first = 0; first < 3; first++) test_shape(&shapes[i], first == 0 ? 0 : first == 1 ? 4093 : 1000003);
    test_origin();
    return test_end("test_rope");
}
