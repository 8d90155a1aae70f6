/* test_ranking.c - the ranking loss and the calibration of its scores against worked numbers, closed forms and differences. */
#include "common/base/rng.h"
#include "rm/ranking.h"
#include "test/test.h"

static const struct ranking_options plain;

static double pair(double *d, double better, double worse, const struct ranking_options *o)
{
    return ranking_loss(d, (double[]){better, worse}, (double[]){1, 0}, 2, o, NULL);
}

/* Worked numbers in float64, twelve places. */
static void test_worked(void)
{
    double d[4];
    CHECK(close_to(pair(d, 1.3, 0.4, &plain), 0.341153874732, 0, 1e-12) && close_to(d[0], -0.289050497, 0, 1e-9) &&
          close_to(d[1], 0.289050497, 0, 1e-9));
    CHECK(close_to(pair(d, 0.4, 1.3, &plain), 1.241153874732, 0, 1e-12) && close_to(d[0], -0.710949503, 0, 1e-9));
    CHECK(close_to(pair(d, 0.7, 0.7, &plain), log(2), 1e-15, 0) && close_to(d[0], -0.5, 0, 0));
    CHECK(close_to(pair(d, -20, 20, &plain), 40.0, 1e-15, 0) && close_to(d[0], -1, 0, 1e-15));
    CHECK(close_to(pair(d, 20, -20, &plain), 4.248354255e-18, 1e-9, 0));
    CHECK(close_to(pair(d, 1.3, 0.4, &(struct ranking_options){.margin = 1.0 / 3}), 0.449426916281, 0, 1e-12));
    CHECK(close_to(pair(d, 1.3, 0.4, &(struct ranking_options){.margin = 1}), 0.744396660074, 0, 1e-12));
    CHECK(close_to(pair(d, 1.3, 0.4, &(struct ranking_options){.center = 0.01}), 0.370053874732, 0, 1e-12));

    double score[] = {2.0, 0.5, 0.3, -1.2}, quality[] = {4, 3, 2, 1};
    double want[] = {-0.062676085281, -0.070367623994, 0.070367623994, 0.062676085281};
    CHECK(close_to(ranking_loss(d, score, quality, 4, &plain, NULL), 0.229415136214, 0, 1e-12));
    for (int i = 0; i < 4; i++) CHECK(close_to(d[i], want[i], 0, 1e-12));
    CHECK(close_to(ranking_loss(d, (double[]){1, 1, 1, 1}, quality, 4, &plain, NULL), log(2), 1e-15, 0));
}

static void test_extremes(void)
{
    double d[2];
    for (double x = 1; x < 1e5; x *= 10) {
        CHECK(close_to(pair(d, -x, x, &plain), softplus(2 * x), 1e-15, 0) && isfinite(d[0]) && isfinite(d[1]));
        CHECK(isfinite(pair(d, x, -x, &plain)) && isfinite(d[0]));
    }
    CHECK(close_to(softplus(1e4), 1e4, 1e-15, 0) && softplus(-1e4) == 0 && sigmoid(1e4) == 1 && sigmoid(-1e4) == 0);
    CHECK(close_to(softplus(-40), 4.248354255e-18, 1e-9, 0));
}

/* Finite differences, sums, invariances, for random scores, ties and options. */
static void test_properties(void)
{
    struct rng r = rng_at(1, RNG_TEST, 0, 0);
    for (int round = 0; round < 200; round++) {
        int K = 2 + (int)rng_below(&r, 8);
        double s[9], q[9], d[9], shifted[9], d2[9], s2[9], q2[9];
        struct ranking_options o = {.margin = round % 3 * 0.3, .smoothing = round % 5 * 0.1, .center = round % 2 * 0.01};
        for (int i = 0; i < K; i++) s[i] = 4 * rng_uniform(&r) - 2, q[i] = (double)rng_below(&r, 5), shifted[i] = s[i] + 3.7;
        double loss = ranking_loss(d, s, q, K, &o, NULL), sum = 0;
        for (int i = 0; i < K; i++) {
            double keep = s[i], h = 1e-6, up, down;
            s[i] = keep + h; up = ranking_loss(NULL, s, q, K, &o, NULL);
            s[i] = keep - h; down = ranking_loss(NULL, s, q, K, &o, NULL);
            s[i] = keep;
            CHECK(close_to(d[i], (up - down) / (2 * h), 1e-6, 1e-8));
            sum += d[i];
        }
        if (o.center == 0) {
            CHECK(fabs(sum) < 1e-14);
            CHECK(close_to(ranking_loss(d2, shifted, q, K, &o, NULL), loss, 1e-12, 1e-15));
            for (int i = 0; i < K; i++) CHECK(close_to(d2[i], d[i], 0, 1e-14));
        }
        for (int i = 0; i < K; i++) s2[i] = s[(i + 3) % K], q2[i] = q[(i + 3) % K];       /* permuted together */
        CHECK(close_to(ranking_loss(NULL, s2, q2, K, &o, NULL), loss, 1e-12, 1e-15));
    }
    /* A ranking in order; scores in the same order; exchanging two neighbours' scores raises the loss. */
    double q[] = {5, 4, 3, 2, 1}, s[] = {1.5, 1, 0.2, -0.3, -2};
    double before = ranking_loss(NULL, s, q, 5, &plain, NULL);
    for (int i = 0; i < 4; i++) {
        double t = s[i]; s[i] = s[i + 1]; s[i + 1] = t;
        CHECK(ranking_loss(NULL, s, q, 5, &plain, NULL) > before);
        t = s[i]; s[i] = s[i + 1]; s[i + 1] = t;
    }
    /* Half smoothing: even odds are best. */
    struct ranking_options half = {.smoothing = 0.5};
    double even = pair(NULL, 0, 0, &half);
    for (double x = 0.1; x < 3; x += 0.1) CHECK(pair(NULL, x, 0, &half) > even && pair(NULL, 0, x, &half) > even);
}

static void test_ties(void)
{
    double d[3] = {9, 9, 9}, s[] = {0.5, -0.5, 2};
    struct ranking_stats stats = {0};
    CHECK(ranking_loss(d, s, (double[]){1, 1, 1}, 3, &plain, &stats) == 0 && d[0] == 0 && d[1] == 0 && d[2] == 0 && stats.pairs == 0);
    /* 2 > {0, 1}, which are tied: two pairs, and the mean is over two */
    double loss = ranking_loss(d, s, (double[]){1, 1, 2}, 3, &plain, &stats);
    CHECK(close_to(loss, (softplus(-1.5) + softplus(-2.5)) / 2, 1e-15, 0) && stats.pairs == 2 && stats.correct == 2);
    CHECK(close_to(stats.margin, 4.0, 1e-15, 0));
    ranking_loss(NULL, (double[]){1, 1}, (double[]){0, 1}, 2, &plain, &stats);
    CHECK(stats.pairs == 3 && stats.correct == 2.5);
    CHECK(ranking_pairs((double[]){1, 1, 2, 3}, 4) == 5);
}

static void test_calibration(void)
{
    struct calibration c = {0};
    double D[] = {2.0, 1.0, 0.5, 0.2, -0.3, -1.5, 0.1, 3.0};
    for (int i = 0; i < 8; i++) calibration_add(&c, D[i], (i < 5 ? 10 : 3) - (i == 4 ? 10 : 5));
    calibration_end(&c);
    CHECK(close_to(c.log_loss, 0.595144761, 0, 1e-9) && close_to(c.brier, 0.207253928, 0, 1e-9));
    CHECK(close_to(c.accuracy, 0.75, 0, 0) && close_to(c.ece, 0.217877977, 0, 1e-9));
    CHECK(close_to(c.longer_wins, 4.5 / 8, 0, 0) && close_to(c.margin, 5.0 / 8, 1e-15, 0));
    CHECK(c.by_margin[0].n == 2 && c.by_margin[1].n == 1 && c.by_margin[2].n == 1 && c.by_margin[3].n == 2 && c.by_margin[4].n == 2);
    c = (struct calibration){0};
    calibration_add(&c, 0, 5);
    calibration_end(&c);
    CHECK(c.accuracy == 0.5);
    c = (struct calibration){0};
    calibration_add(&c, 1e4, 5);
    calibration_end(&c);
    CHECK(c.bin[CALIBRATION_BINS - 1].n == 1 && c.brier == 0);
    CHECK(close_to(correlation((double[]){1, 2, 3}, (double[]){2, 4, 6}, 3), 1, 1e-12, 0));
    CHECK(close_to(correlation((double[]){1, 2, 3, 4}, (double[]){1, -1, -1, 1}, 4), 0, 0, 1e-12));
    CHECK(isnan(correlation((double[]){1, 2}, (double[]){5, 5}, 2)));
}

int main(void)
{
    test_worked();
    test_extremes();
    test_properties();
    test_ties();
    test_calibration();
    return test_end("ranking");
}
