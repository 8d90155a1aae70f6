/* The vectors of the CPU kernels: the exponential over its whole range, and lanes folded in the stated order. */
#include "common/cpu/vector.h"
#include "test/test.h"

static float exp_of(float x)
{
    float y[VW];
    v_store(y, v_exp(v_set(x)));
    for (int i = 1; i < VW; i++)
        if (memcmp(&y[0], &y[i], sizeof *y)) return -1;      /* no lane may differ */
    return y[0];
}

static void test_exp(void)
{
    double worst = 0;
    for (float x = -87.29f; x < 88.7f; x += 0.00737f) {
        double want = exp((double)x), off = fabs((double)exp_of(x) - want) / want;
        worst = off <= worst ? worst : off;
    }
    CHECK(worst < 1.2e-7);
    CHECK(exp_of(0) == 1 && exp_of(-88) == 0 && exp_of(-INFINITY) == 0 && exp_of(-1e30f) == 0);
    CHECK(isinf(exp_of(89)) && isinf(exp_of(1e30f)) && isinf(exp_of(INFINITY)) && isnan(exp_of(NAN)));
}

static void test_lanes(void)
{
    float x[VW], folded[VW], most = -INFINITY, y[VW] = {0};
    for (int i = 0; i < VW; i++) {
        x[i] = folded[i] = (float)((i * 7 % 5) - 2) * 1.37f + 0.1f / (float)(i + 1);
        most = x[i] > most ? x[i] : most;
    }
    for (int h = VW / 2; h; h /= 2)
        for (int i = 0; i < h; i++) folded[i] += folded[i + h];
    CHECK(v_sum(v_load(x)) == folded[0] && v_max_lane(v_load(x)) == most);
    for (int n = 0; n <= VW; n++) {
        v_store(y, v_set(9));
        v_store_part(y, v_load_part(x, n), n);
        for (int i = 0; i < VW; i++) CHECK(y[i] == (i < n ? x[i] : 9));
        v_store(y, v_load_part(x, n));
        for (int i = n; i < VW; i++) CHECK(y[i] == 0);
    }
    vf a = v_load(x), b = v_set(NAN), c = v_set(0.5f);
    v_store(y, v_max(a, c));
    for (int i = 0; i < VW; i++) CHECK(y[i] == (x[i] > 0.5f ? x[i] : 0.5f));
    v_store(y, v_min(a, c));
    for (int i = 0; i < VW; i++) CHECK(y[i] == (x[i] < 0.5f ? x[i] : 0.5f));
    v_store(y, v_max(a, b));
    CHECK(isnan(y[0]));
    v_store(y, v_min(b, a));
    CHECK(y[0] == x[0]);
    v_store(y, v_select(v_lanes() < 2, a, c));
    for (int i = 0; i < VW; i++) CHECK(y[i] == (i < 2 ? x[i] : 0.5f));
}

/* A stored activation is one that is nearest to the number, an even one of two; NaN stays NaN, in each lane alike. */
static bool rounds_well(uint32_t bits)
{
    float x, stored, sides[2], y[VW];
    act_t acts[VW];
    memcpy(&x, &bits, sizeof x);
    act_store(acts, v_set(x), VW);
    for (int i = 0; i < VW; i++) y[i] = act_get(acts[i]);
    act_t one = act_put(x);
    stored = act_get(one);
    bool same = memcmp(&acts[0], &one, sizeof one) == 0 && memcmp(&acts[VW - 1], &one, sizeof one) == 0;
    if (isnan(x)) return same && isnan(stored) && isnan(y[0]);
    if (sizeof(act_t) == sizeof(float) || isinf(x)) return same && memcmp(&x, &stored, sizeof x) == 0;
    for (uint32_t i = 0; i < 2; i++) {              /* the two bfloat16 around it, or it and the next */
        uint32_t side = (bits & 0xffff0000u) + (i << 16);
        memcpy(&sides[i], &side, sizeof side);
    }
    double wide[2] = {(double)sides[0], isinf(sides[1]) ? copysign(0x1p128, (double)x) : (double)sides[1]};
    double low = fabs((double)x - wide[0]), high = fabs((double)x - wide[1]);
    int want = low < high ? 0 : high < low ? 1 : bits >> 16 & 1;
    return same && memcmp(&stored, &sides[want], sizeof stored) == 0;
}

static void test_rounding(void)
{
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1234, 0xc001};
    bool all = true;
    for (uint32_t high = 0; high < 65536; high++)
        for (size_t i = 0; i < sizeof low / sizeof *low; i++) all = all && rounds_well(high << 16 | low[i]);
    CHECK(all);
}

int main(void)
{
    test_exp();
    test_lanes();
    test_rounding();
    return test_end("test_vector");
}
