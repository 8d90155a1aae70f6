/* Rounding at random: each element on one of its two neighbours, by the bits that rng.h gives for its place; their mean
 * is the number itself; parts of a matrix have the bits of the whole; threads change nothing. */
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "test/host_ops.h"
#include "test/test.h"

enum { OUT = 37, IN = 83, ROUNDS = 2000 };

static struct rounding of_update(int update)
{
    struct rounding r = {.update = (uint32_t)update, .number = 5, .width = IN, .end = {OUT}};
    rng_key(r.key, 77, RNG_ROUNDING);
    return r;
}

/* got (in,out): what the products read, by a product with 1. */
static void rounded(float *got, const float *weight, const struct rounding *r, int out, int in)
{
    size_t n = (size_t)in * (size_t)in, packed = matmul_packed_elements(out, in);
    struct copies c = {0};
    float *one = host_alloc(n, sizeof *one);
    for (int i = 0; i < in; i++) one[i * in + i] = 1;
    act_t *p = device_alloc(packed * sizeof *p);
    matmul_pack(p, given(&c, weight, (size_t)out * (size_t)in), r, out, in);
    matmul_forward(made_act(&c, got, (size_t)in * (size_t)out), given_act(&c, one, n), p, NULL, NULL, in, out, in);
    copies_end(&c);
    device_free(p, packed * sizeof *p);
    free(one);
}

/* The same by rng.h: 16 bits an element, 8 elements a place of the stream. */
static float expected(float x, int update, uint64_t number, uint64_t place)
{
    struct rng r = rng_at(77, RNG_ROUNDING, (uint64_t)update, number << 40 | place / 8);
    uint32_t u, word = 0;
    for (uint64_t k = 0; k <= place % 8 / 2; k++) word = rng_u32(&r);
    memcpy(&u, &x, sizeof u);
    u = (u + (place % 2 ? word >> 16 : word & 0xffff)) >> 16 << 16;
    memcpy(&x, &u, sizeof u);
    return x;
}

static void test_bits(const float *weight)
{
    float *got = host_alloc(OUT * IN, sizeof *got), *part = host_alloc(OUT * IN, sizeof *part);
    struct rounding r = of_update(3);
    int wrong = 0, up = 0;
    for (int threads = 1; threads <= 3; threads++) {
        threads_start(threads);
        rounded(got, weight, &r, OUT, IN);
        for (int i = 0; i < OUT; i++)
            for (int k = 0; k < IN; k++) {
                float want = expected(weight[i * IN + k], 3, 5, (uint64_t)(i * IN + k));
                wrong += memcmp(&want, &got[k * OUT + i], sizeof want) != 0;
                up += fabsf(want) > fabsf(weight[i * IN + k]);
            }
    }
    threads_start(1);
    CHECK(wrong == 0 && up > OUT * IN && up < 2 * OUT * IN);      /* of three times as many */

    /* Rows 4..8 and 20..29, columns 11..42, as a rank may hold them. */
    enum { ROWS = 15, COLUMNS = 32 };
    float *mine = host_alloc(ROWS * COLUMNS, sizeof *mine);
    for (int i = 0; i < ROWS; i++)
        memcpy(mine + i * COLUMNS, weight + (i < 5 ? i + 4 : i + 15) * IN + 11, COLUMNS * sizeof *mine);
    r.column = 11;
    r.end[0] = 5;
    r.shift[0] = 4;
    r.end[1] = ROWS;
    r.shift[1] = 15;
    rounded(part, mine, &r, ROWS, COLUMNS);
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < COLUMNS; k++)
            wrong += part[k * ROWS + i] != got[(k + 11) * OUT + (i < 5 ? i + 4 : i + 15)];
    CHECK(wrong == 0);
    free(got); free(part); free(mine);
}

/* x between a and b, of which b has the share p: the mean of n has the variance p (1 - p) (b - a)^2 / n. */
static void test_mean(const float *weight)
{
    float *got = host_alloc(OUT * IN, sizeof *got);
    double *sum = host_alloc(OUT * IN, sizeof *sum), squares = 0, furthest = 0;
    int outside = 0, moved = 0;
    for (int t = 1; t <= ROUNDS; t++) {
        struct rounding r = of_update(t);
        rounded(got, weight, &r, OUT, IN);
        for (int i = 0; i < OUT; i++)
            for (int k = 0; k < IN; k++) {
                float x = weight[i * IN + k], y = got[k * OUT + i];
                outside += !(fabsf(y - x) < ldexpf(fabsf(x), -7));
                sum[i * IN + k] += (double)y - (double)x;
            }
    }
    for (int i = 0; i < OUT * IN; i++) {
        uint32_t u;
        memcpy(&u, &weight[i], sizeof u);
        double share = (u & 0xffff) / 65536.0, unit;
        float below, above;
        u &= 0xffff0000;
        memcpy(&below, &u, sizeof u);
        u += 0x10000;
        memcpy(&above, &u, sizeof u);
        unit = (double)above - (double)below;
        if (share == 0) {
            outside += sum[i] != 0;
            continue;
        }
        double z = sum[i] / sqrt(ROUNDS * share * (1 - share) * unit * unit);
        squares += z * z;
        furthest = fmax(furthest, fabs(z));
        moved++;
    }
    CHECK(outside == 0 && moved > OUT * IN - 3);
    test_check(furthest < 5.5, __FILE__, __LINE__, "a mean is %g standard errors off", furthest);
    double spread = (squares - moved) / sqrt(2.0 * moved);         /* a sum of squares of normal numbers */
    test_check(fabs(spread) < 5, __FILE__, __LINE__, "the means spread %g standard errors too far", spread);
    free(got); free(sum);
}

/* What is not finite stays so, what bfloat16 can hold stays as it is, and the sign is kept. */
static void test_special(void)
{
    float weight[8] = {INFINITY, -INFINITY, NAN, 0, -0.0f, 1, -0x1p-126f, 0x1p-140f}, got[8];
    for (int t = 1; t < 50; t++) {
        struct rounding r = of_update(t);
        rounded(got, weight, &r, 8, 1);
        CHECK(got[0] == INFINITY && got[1] == -INFINITY && isnan(got[2]) && got[3] == 0 && got[4] == 0 && got[5] == 1 &&
              (got[6] == -0x1p-126f || got[6] == 0) && got[7] >= 0 && got[7] <= 0x1p-126f);
    }
}

int main(void)
{
    struct memory memory = {0};
    if (ACT_IS_FLOAT) {
        test_skip("this build rounds nothing");
        return test_end("test_rounding");
    }
    threads_start(1);
    ops_ready(&memory);
    float weight[OUT * IN];
    struct rng random = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < OUT * IN; i++) weight[i] = (float)(2 * rng_uniform(&random) - 1);
    test_bits(weight);
    test_mean(weight);
    test_special();
    memory_close(&memory);
    return test_end("test_rounding");
}
