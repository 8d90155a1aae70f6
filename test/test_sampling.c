/* Drawing a token from a row of logits: worked numbers, a sorted reference in double, frequencies, ties, bits. */
#include "test/host_ops.h"
#include "test/numbers.h"
#include "test/test.h"

static const struct sampling plain = {.temperature = 1, .top_p = 1};

static int draw(const float *logits, int V, int allowed, const struct sampling *s, double uniform, float *logprob)
{
    float *z = copy_of(logits, (size_t)V), own;
    struct sampling row = *s;
    int token;
    row.allowed = allowed;
    host_sample_rows(&token, logprob ? logprob : &own, z, &uniform, &row, 1, V);
    free(z);
    return token;
}

/* ---- the numbers of one row of five ---- */

static const float five[5] = {2, 1, 0.5f, -1, -3};

/* The share of each token over an even grid of uniforms must be `want`, to the width of the grid. */
static void check_shares(const struct sampling *s, const double want[5])
{
    int grid = is_simulated() ? 100 : 2000;
    int count[5] = {0};
    for (int i = 0; i < grid; i++) count[draw(five, 5, 5, s, (i + 0.5) / grid, NULL)]++;
    for (int k = 0; k < 5; k++) CHECK(close_to(count[k], want[k] * grid, 0, 1.01));
}

static void test_five(void)
{
    static const double logp1[5] = {-0.499279999, -1.499279999, -1.999279999, -3.499279999, -5.499279999};
    static const double logp07[5] = {-0.315922880, -1.744494309, -2.458780023, -4.601637166, -7.458780023};
    static const double p[5] = {0.606967520, 0.223290872, 0.135432760, 0.030219133, 0.004089715};
    static const double top_p[5] = {0.628526, 0.231222, 0.140243, 0, 0}, two[5] = {0.731058579, 0.268941421, 0, 0, 0};
    struct sampling warm = {.temperature = 0.7f, .top_p = 1};
    for (int i = 0; i < 400; i++) {
        float logprob;
        int token = draw(five, 5, 5, &plain, i / 400.0, &logprob);
        CHECK(close_to((double)logprob, logp1[token], 0, 2e-7));
        token = draw(five, 5, 5, &warm, i / 400.0, &logprob);
        CHECK(close_to((double)logprob, logp07[token], 0, 1e-6));
    }
    check_shares(&plain, p);
    check_shares(&(struct sampling){.temperature = 1, .top_p = 0.9f}, top_p);
    check_shares(&(struct sampling){.temperature = 1, .top_p = 1, .top_k = 2}, two);
    check_shares(&(struct sampling){.temperature = 1, .top_p = 1, .min_p = 0.3f}, two);
    check_shares(&(struct sampling){.temperature = 1, .top_p = 0.85f}, top_p);
    /* each filter sees what the one before left: of the three best, the first two hold 0.86 */
    check_shares(&(struct sampling){.temperature = 1, .top_p = 0.85f, .top_k = 3}, two);
    check_shares(&(struct sampling){.temperature = 1, .top_p = 0.01f}, (double[5]){1});
    float logprob;      /* a filter does not change the log-probability */
    CHECK(draw(five, 5, 5, &(struct sampling){.temperature = 1, .top_p = 1, .top_k = 1}, 0.99, &logprob) == 0);
    CHECK(close_to((double)logprob, logp1[0], 0, 2e-7));
    static const float far[3] = {1000, 999, -1000};
    static const double far_logp[3] = {-0.313261688, -1.313261688, -2000.313261688};
    for (int k = 0; k < 2; k++) {
        CHECK(draw(far, 3, 3, &plain, k ? 0.9 : 0.1, &logprob) == k);
        CHECK(close_to((double)logprob, far_logp[k], 0, 1e-6));
    }
}

/* ---- any row against sorting in double ---- */

struct place { double p; int id; };

static int more_likely(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

/* Cumulative probabilities of the kept tokens, 0-width steps for the others. */
static void reference(double *cumulative, const float *logits, const struct sampling *s, int allowed)
{
    struct place *t = host_alloc((size_t)allowed, sizeof *t);
    double most = -INFINITY, sum = 0, mass = 0;
    for (int i = 0; i < allowed; i++) most = fmax(most, (double)(logits[i] / s->temperature));
    for (int i = 0; i < allowed; i++) t[i] = (struct place){exp((double)(logits[i] / s->temperature) - most), i};
    qsort(t, (size_t)allowed, sizeof *t, more_likely);
    int n = s->top_k > 0 && s->top_k < allowed ? s->top_k : allowed, kept = 0;
    for (int i = 0; i < n; i++) sum += t[i].p;
    if (s->top_p >= 1) kept = n;
    while (kept < n && mass < (double)s->top_p * sum) mass += t[kept++].p;
    while (kept > 1 && t[kept - 1].p < (double)s->min_p * t[0].p) kept--;
    for (int i = 0; i < allowed; i++) cumulative[i] = 0;
    sum = 0;
    for (int i = 0; i < kept; i++) sum += t[i].p;
    for (int i = 0; i < kept; i++) cumulative[t[i].id] = t[i].p / sum;
    for (int i = 1; i < allowed; i++) cumulative[i] += cumulative[i - 1];
    free(t);
}

static void test_random(int V, int allowed, double size, const struct sampling *s)
{
    float *logits = numbers((size_t)V, (uint64_t)V + 7, size);
    double *cumulative = host_alloc((size_t)V, sizeof *cumulative);
    int wrong = 0, draws = is_simulated() ? 20 : 300;
    reference(cumulative, logits, s, allowed);
    for (int i = 0; i < draws; i++) {
        double u = (i + 0.37) / draws;
        int token = draw(logits, V, allowed, s, u, NULL), want = 0;
        while (want < allowed - 1 && cumulative[want] <= u) want++;
        bool near = fabs(cumulative[want] - u) < 2e-6 || (want > 0 && fabs(cumulative[want - 1] - u) < 2e-6);
        if (token != want && !near) wrong++;
    }
    test_check(wrong == 0, __FILE__, __LINE__, "%d of %d draws differ: V %d allowed %d T %g k %d p %g m %g", wrong, draws, V, allowed,
               (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p);
    free(logits);
    free(cumulative);
}

static void test_reference(void)
{
    static const int sizes[][2] = {{1, 1}, {2, 2}, {7, 5}, {255, 255}, {257, 256}, {1000, 999}, {5003, 4000}};
    static const struct sampling settings[] = {
        {1, 1, 0, 0, 0}, {0.5f, 1, 0, 0, 0}, {1, 0.9f, 0, 0, 0}, {1, 0.5f, 0, 0, 0}, {1.3f, 0.99f, 0, 0, 0}, {1, 1, 0.05f, 0, 0},
        {1, 1, 0, 3, 0}, {1, 1, 0, 40, 0}, {0.8f, 0.95f, 0.02f, 50, 0}, {2, 0.7f, 0, 200, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
            test_random(sizes[i][0], sizes[i][1], 1, &settings[k]);
            test_random(sizes[i][0], sizes[i][1], 6, &settings[k]);
        }
}

/* ---- ties, ends, hostile rows ---- */

static void test_ties(void)
{
    float same[10] = {0}, best[6] = {1, 3, 2, 3, 3, 9}, logprob;
    bool seen[10] = {0};
    for (int i = 0; i < 100; i++)
        seen[draw(same, 10, 10, &(struct sampling){.temperature = 1, .top_p = 1, .top_k = 3}, i / 100.0, NULL)] = true;
    for (int k = 0; k < 10; k++) CHECK(seen[k] == (k < 3));
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 100; i++) seen[draw(same, 10, 10, &(struct sampling){.temperature = 1, .top_p = 0.5f}, i / 100.0, NULL)] = true;
    for (int k = 0; k < 10; k++) CHECK(seen[k] == (k < 5));
    struct sampling greedy = {.temperature = 0, .top_p = 1};
    CHECK(draw(best, 5, 5, &greedy, 0.999, &logprob) == 1);      /* lowest id of the equal ones */
    CHECK(logprob < 0);
    CHECK(draw(best, 6, 6, &greedy, 0, NULL) == 5 && draw(best, 6, 5, &greedy, 0, NULL) == 1);
    CHECK(draw(best, 6, 6, &(struct sampling){.temperature = 1e-3f, .top_p = 1}, 0.5, NULL) == 5);
    float high[3] = {0, 0, 500};           /* what may be drawn has next to no probability */
    CHECK(draw(high, 3, 2, &plain, 0.75, &logprob) == 1 && close_to((double)logprob, -500, 1e-6, 0));
    float bad[4] = {NAN, 1, NAN, 2};
    for (int i = 0; i < 4; i++) {
        struct sampling s = {.temperature = i < 2, .top_p = i & 1 ? 0.9f : 1, .top_k = i & 1 ? 2 : 0};
        int token = draw(bad, 4, 4, &s, 0.5, &logprob);
        CHECK(token >= 0 && token < 4 && isnan(logprob));
    }
    CHECK(draw(five, 5, 5, &plain, 0, NULL) == 0 && draw(five, 5, 5, &plain, 1 - 0x1p-53, NULL) == 4);
}

/* Pearson's statistic of 100000 draws over 50 tokens; 49 degrees of freedom pass 94.0 once in 10000 times. */
static void test_frequencies(void)
{
    enum { V = 50, ROWS = 100 };
    int draws = is_simulated() ? 5000 : 100000;
    float *logits = numbers(V, 21, 1.5), *z = host_alloc(ROWS * V, sizeof *z), logprobs[ROWS];
    double uniform[ROWS], sum = 0, statistic = 0, p[V];
    int count[V] = {0}, tokens[ROWS];
    struct sampling each[ROWS];
    struct rng r = rng_at(5, RNG_SAMPLE, 0, 0);
    for (int i = 0; i < draws; i += ROWS) {
        for (int k = 0; k < ROWS; k++) {
            memcpy(z + k * V, logits, V * sizeof *z);
            uniform[k] = rng_uniform(&r);
            each[k] = plain;
        }
        host_sample_rows(tokens, logprobs, z, uniform, each, ROWS, V);
        for (int k = 0; k < ROWS; k++) count[tokens[k]]++;
    }
    for (int k = 0; k < V; k++) sum += exp((double)logits[k]);
    for (int k = 0; k < V; k++) {
        p[k] = exp((double)logits[k]) / sum;
        statistic += pow(count[k] - draws * p[k], 2) / (draws * p[k]);
    }
    CHECK(statistic > 15 && statistic < 94);
    free(logits);
    free(z);
}

static double reference_logprob(const float *logits, int V, float temperature, int token)
{
    double most = -INFINITY, sum = 0;
    for (int k = 0; k < V; k++) most = fmax(most, (double)(logits[k] / temperature));
    for (int k = 0; k < V; k++) sum += exp((double)(logits[k] / temperature) - most);
    return (double)(logits[token] / temperature) - most - log(sum);
}

/* Rows in a batch, each with its own settings, on any number of threads, and filters that filter nothing: the same tokens
 * and bits. */
static void test_bits(void)
{
    enum { N = 37, V = 1003 };
    float *logits = numbers(N * V, 31, 3), *z = host_alloc(N * V, sizeof *z), logprobs[N], other[N], own;
    double uniform[N];
    int tokens[N], again[N], token;
    struct rng r = rng_at(6, RNG_SAMPLE, 0, 0);
    for (int i = 0; i < N; i++) uniform[i] = rng_uniform(&r);
    struct sampling s[N];
    for (int i = 0; i < N; i++)
        s[i] = (struct sampling){i % 5 == 4 ? 0 : 0.5f + 0.1f * i, i % 2 ? 0.9f : 1, i % 3 ? 0 : 0.01f, i % 4 ? 300 : 0, V - i};
    struct sampling none[3] = {{.temperature = 0.9f, .top_p = 1}, {.temperature = 0.9f, .top_p = 1, .top_k = V},
                               {.temperature = 0.9f, .top_p = 1, .top_k = 5000}};
    memcpy(z, logits, N * V * sizeof *z);
    host_sample_rows(tokens, logprobs, z, uniform, s, N, V);
    for (int threads = 2; threads <= 3; threads++) {
        threads_start(threads);
        memcpy(z, logits, N * V * sizeof *z);
        host_sample_rows(again, other, z, uniform, s, N, V);
        threads_start(1);
        CHECK(memcmp(tokens, again, sizeof tokens) == 0 && same_bits(logprobs, other, N));
    }
    for (int i = 0; i < N; i++) {
        token = draw(logits + i * V, V, V - i, &s[i], uniform[i], &own);
        double want = reference_logprob(logits + i * V, V, s[i].temperature > 0 ? s[i].temperature : 1, token);
        CHECK(token == tokens[i] && own == logprobs[i] && close_to((double)own, want, 1e-6, 1e-6));
        token = draw(logits + i * V, V, V, &none[0], uniform[i], NULL);
        CHECK(token == draw(logits + i * V, V, V, &none[1], uniform[i], NULL));
        CHECK(token == draw(logits + i * V, V, V, &none[2], uniform[i], NULL));
    }
    free(logits);
    free(z);
}

int main(void)
{
    threads_start(1);
    test_five();
    test_reference();
    test_ties();
    test_frequencies();
    test_bits();
    return test_end("test_sampling");
}
