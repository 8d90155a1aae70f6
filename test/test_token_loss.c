/* test_token_loss.c - the vocabulary head and its losses: worked numbers, the definition in double on ragged shapes,
 * finite differences, and bits.  With an identity matrix for weights h is the logits and dh their gradient. */
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "test/host_ops.h"
#include "test/test.h"

/* With bfloat16: of numbers computed from inputs that it cannot hold exactly. */
#define INPUTS 0x1p-6

struct vocabulary {
    int n, C, V;
    float *h, *weight;
    act_t *packed;
    float *old, *advantages, *logprobs, *entropy, *losses, *dh, *dweight;
    int *targets;
};

static float *array(size_t n, uint64_t index, double size)
{
    float *p = host_alloc(n + 1, sizeof *p);
    struct rng r = rng_at(7, RNG_TEST, 0, index);
    for (size_t i = 0; i < n; i++) p[i] = act_rounded((float)(size * (2 * rng_uniform(&r) - 1)));
    return p;
}

static void vocabulary_open(struct vocabulary *t, int n, int C, int V)
{
    size_t rows = (size_t)n;
    *t = (struct vocabulary){n, C, V, array(rows * C, 1, 2), array((size_t)V * C, 2, 1),
                             host_alloc(matmul_packed_elements(V, C), sizeof(act_t)),
                       array(rows, 4, 0.3), array(rows, 5, 2), array(rows, 6, 1), array(rows, 6, 1), array(rows, 6, 1),
                       array(rows * C, 6, 1), array((size_t)V * C, 6, 0),
                       host_alloc(rows + 1, sizeof(int))};
    struct rng r = rng_at(7, RNG_TEST, 1, 0);
    for (int i = 0; i < n; i++) t->targets[i] = (int)rng_below(&r, (uint64_t)V);
    host_matmul_pack(t->packed, t->weight, V, C);
}

/* Weights are the identity, h the given logits. */
static void logits_open(struct vocabulary *t, int n, int V, const float *logits)
{
    vocabulary_open(t, n, V, V);
    for (int i = 0; i < V * V; i++) t->weight[i] = i / V == i % V;
    memcpy(t->h, logits, (size_t)n * V * sizeof(float));
    host_matmul_pack(t->packed, t->weight, V, V);
}

static void vocabulary_close(struct vocabulary *t)
{
    void *all[] = {t->h, t->weight, t->packed, t->old, t->advantages, t->logprobs, t->entropy, t->losses, t->dh,
                   t->dweight};
    for (int i = 0; i < 10; i++) free(all[i]);
    free(t->targets);
}

static void run(struct vocabulary *t, struct token_loss l)
{
    l.old_logprobs = t->old;
    l.advantages = t->advantages;
    bool gradient = l.kind != LOSS_LOGPROBS;
    memset(t->dweight, 0, (size_t)t->V * t->C * sizeof(float));
    host_token_loss(t->logprobs, t->entropy, t->losses, gradient ? t->dh : NULL, gradient ? t->dweight : NULL, t->h,
                    t->targets, t->packed, &l, t->n, t->C, t->V);
}

static const struct token_loss plain = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1};

static bool all_close(const float *a, const double *b, int n, double relative, double absolute)
{
    bool ok = true;
    for (int i = 0; i < n; i++) ok &= close_to((double)a[i], b[i], relative, absolute);
    return ok;
}

/* Supervised fine-tuning: six target tokens of two rows. */
static void check_cross_entropy(void)
{
    static const float logits[] = {0.1f, 0.9f, -0.3f, 0.4f, -1, 0.2f, 0.3f, 2, 0, 1.5f, 0.2f, -0.7f,
                                   0.3f, 0.3f, 0.3f, 0.3f, -0.5f, 0, 1.2f, 0.1f, 2, -1, 0, 0.5f};
    static const int targets[] = {1, 3, 1, 3, 2, 3};
    static const double nll[] = {0.857412464, 0.334877738, 0.474036182, 1.386294361, 0.597048541, 1.842349582};
    static const double dlogits[] = {0.031771935, -0.095956925, 0.021297365, 0.042887626};
    struct vocabulary t;
    logits_open(&t, 6, 4, logits);
    memcpy(t.targets, targets, sizeof targets);
    struct token_loss l = plain;
    l.scale = 1.0f / 6;
    run(&t, l);
    CHECK(all_close(t.losses, nll, 6, by_type(1e-6, INPUTS), 1e-7));
    double sum = 0;
    for (int i = 0; i < 6; i++) sum += (double)t.losses[i];
    CHECK(close_to(sum / 6, 0.915336478, by_type(1e-6, INPUTS), 0));
    CHECK(close_to((double)t.losses[3], log(4), 1e-7, 0));          /* uniform logits: ln V */
    CHECK(all_close(t.dh, dlogits, 4, by_type(1e-5, INPUTS), 1e-8));
    for (int i = 0; i < 6; i++) {                                   /* a row of gradients sums to 0 */
        double row = 0;
        for (int c = 0; c < 4; c++) row += (double)t.dh[4 * i + c];
        CHECK(fabs(row) < by_type(1e-7, 0x1p-9));
    }
    vocabulary_close(&t);
}

static void check_softmax(void)
{
    static const float logits[] = {2, 1, 0.5f, -1, -3};
    static const double one[] = {-0.499279999, -1.499279999, -1.999279999, -3.499279999, -5.499279999};
    static const double cool[] = {-0.315922880, -1.744494309, -2.458780023, -4.601637166, -7.458780023};
    static const double far[] = {-0.313261688, -1.313261688, -2000.313261688};
    float rows[25], extreme[9], shifted[25];
    for (int i = 0; i < 25; i++) rows[i] = logits[i % 5], shifted[i] = rows[i] + 64;
    for (int i = 0; i < 9; i++) extreme[i] = (float[]){1000, 999, -1000}[i % 3];
    struct vocabulary t;
    struct token_loss l = {.kind = LOSS_LOGPROBS, .temperature = 1};
    logits_open(&t, 5, 5, rows);
    for (int i = 0; i < 5; i++) t.targets[i] = i;
    run(&t, l);
    CHECK(all_close(t.logprobs, one, 5, 3e-7, 0) && close_to((double)t.entropy[2], 1.036825986, 3e-7, 0));
    double mass = 0;
    for (int i = 0; i < 5; i++) {
        CHECK(t.logprobs[i] <= 0);
        mass += exp((double)t.logprobs[i]);
    }
    CHECK(close_to(mass, 1, 1e-6, 0));
    l.temperature = 0.7f;
    run(&t, l);
    CHECK(all_close(t.logprobs, cool, 5, 5e-7, 0) && close_to((double)t.entropy[0], 0.795965973, 5e-7, 0));
    if (ACT_IS_FLOAT) memcpy(t.h, shifted, sizeof shifted);         /* a constant added to a row changes nothing */
    l.temperature = 1;
    run(&t, l);
    CHECK(all_close(t.logprobs, one, 5, 3e-7, 0));
    vocabulary_close(&t);
    if (!ACT_IS_FLOAT) return;                                      /* bfloat16 cannot tell 999 from 1000 */
    logits_open(&t, 3, 3, extreme);
    for (int i = 0; i < 3; i++) t.targets[i] = i;
    run(&t, l);
    CHECK(all_close(t.logprobs, far, 3, 3e-7, 0));
    vocabulary_close(&t);
}

/* The clipped loss row by row: two logits whose log-probability is set by their difference. */
static void check_policy_table(void)
{
    static const struct { double advantage, ratio, loss, slope, dual; } row[] = {
        {1, 1, -1, -1, -1}, {1, 1.1, -1.1, -1.1, -1.1}, {1, 1.5, -1.2, 0, -1.2}, {1, 0.5, -0.5, -0.5, -0.5},
        {-1, 1, 1, 1, 1}, {-1, 0.9, 0.9, 0.9, 0.9}, {-1, 0.5, 0.8, 0, 0.8}, {-1, 1.5, 1.5, 1.5, 1.5},
        {-1, 4, 4, 4, 3}, {0, 1.3, 0, 0, 0},
    };
    enum { ROWS = sizeof row / sizeof row[0] };
    /* log-probability -ln 2, d logprob / d logit = 1/2 */
    float logits[2 * ROWS] = {0};
    struct vocabulary t;
    logits_open(&t, ROWS, 2, logits);
    for (int i = 0; i < ROWS; i++) {
        t.targets[i] = 0;
        t.advantages[i] = (float)row[i].advantage;
        t.old[i] = (float)(-log(2) - log(row[i].ratio));
    }
    struct token_loss l = {.kind = LOSS_POLICY, .temperature = 1, .scale = 1, .clip_low = 0.2f, .clip_high = 0.2f};
    run(&t, l);
    for (int i = 0; i < ROWS; i++) {
        CHECK(close_to((double)t.losses[i], row[i].loss, 1e-6, 1e-7));
        CHECK(close_to((double)t.dh[2 * i], row[i].slope / 2, stored(1e-6), 0) && t.dh[2 * i] == -t.dh[2 * i + 1]);
    }
    l.dual_clip = 3;
    run(&t, l);
    for (int i = 0; i < ROWS; i++) CHECK(close_to((double)t.losses[i], row[i].dual, 1e-6, 1e-7));
    /* ratio 4 is cut at 3 |advantage|, ratio 1.5 is not */
    CHECK(t.dh[2 * 8] == 0 && t.dh[2 * 7] > 0);
    l.dual_clip = 0;
    t.old[0] = t.logprobs[0];                                       /* the very bits: the ratio is exactly 1 */
    /* e^199 would overflow: held at e^20, without gradient */
    t.old[7] = -200;
    run(&t, l);
    CHECK(t.losses[0] == -1 && close_to((double)t.losses[7], exp(20), 1e-6, 0) && t.dh[2 * 7] == 0);
    vocabulary_close(&t);
}

/* One sequence from logits to their gradient at temperature 0.7, mean over two tokens. */
static void check_policy_sequence(void)
{
    static const float logits[] = {1, 0.2f, -0.5f, 0, 0.7f, 0.3f};
    static const double logprobs[] = {-0.362018647, -1.230293557}, losses[] = {-0.96, 1.179412724};
    static const double entropy[] = {0.790825095, 1.016195205};
    static const double dlogits[] = {0, 0, 0, -0.160362147, -0.435909511, 0.596271659};
    struct vocabulary t;
    logits_open(&t, 2, 3, logits);
    t.targets[0] = 0, t.targets[1] = 2;
    t.old[0] = -0.55f, t.old[1] = -1.3f;
    t.advantages[0] = 0.8f, t.advantages[1] = -1.1f;
    struct token_loss l = {.kind = LOSS_POLICY, .temperature = 0.7f, .scale = 0.5f, .clip_low = 0.2f,
                           .clip_high = 0.2f};
    run(&t, l);
    CHECK(all_close(t.logprobs, logprobs, 2, by_type(1e-6, INPUTS), 0) && all_close(t.losses, losses, 2, by_type(1e-6, INPUTS), 0));
    CHECK(all_close(t.entropy, entropy, 2, by_type(1e-6, INPUTS), 0) && all_close(t.dh, dlogits, 6, by_type(2e-6, INPUTS), 1e-9));
    static const double dentropy[] = {-0.248169020, 0.103421387, 0.144747633};
    t.advantages[0] = t.advantages[1] = 0;                          /* what is left is the bonus */
    l.temperature = 1, l.scale = 1, l.entropy_coef = -1;
    run(&t, l);
    CHECK(all_close(t.dh, dentropy, 3, by_type(2e-6, 2 * INPUTS), 1e-9));
    l.entropy_coef = 0;
    run(&t, l);
    for (int i = 0; i < 6; i++) CHECK(t.dh[i] == 0);                /* advantage 0: exactly nothing */
    vocabulary_close(&t);
}

/* Definition in double of one row; dz is the gradient with respect to the logits before the temperature. */
static double reference_row(const struct vocabulary *t, const struct token_loss *l, int i, double *logprob,
                            double *entropy, double *dz)
{
    int V = t->V;
    double temperature = (double)l->temperature, max = -1e300, sum = 0, mean = 0;
    for (int v = 0; v < V; v++) {
        dz[v] = 0;
        for (int c = 0; c < t->C; c++)
            dz[v] += (double)t->h[(size_t)i * t->C + c] * (double)t->weight[(size_t)v * t->C + c];
        dz[v] /= temperature;
        max = fmax(max, dz[v]);
    }
    for (int v = 0; v < V; v++) sum += exp(dz[v] - max);
    double lse = max + log(sum);
    for (int v = 0; v < V; v++) mean += exp(dz[v] - lse) * dz[v];
    *logprob = dz[t->targets[i]] - lse;
    *entropy = lse - mean;
    double loss = -*logprob, slope = -1, bonus = 0;
    if (l->kind == LOSS_POLICY) {
        double A = (double)t->advantages[i], ratio = exp(*logprob - (double)t->old[i]);
        double low = 1 - (double)l->clip_low, high = 1 + (double)l->clip_high;
        bool cut = (A > 0 && ratio > high) || (A < 0 && ratio < low);
        loss = cut ? -A * (A > 0 ? high : low) : -A * ratio;
        slope = cut ? 0 : loss;
        if (l->dual_clip > 0 && A < 0 && loss > -(double)l->dual_clip * A) {
            loss = -(double)l->dual_clip * A;
            slope = 0;
        }
        bonus = (double)l->entropy_coef;
        loss -= bonus * *entropy;
    }
    for (int v = 0; v < V; v++) {
        double logp = dz[v] - lse, p = exp(logp);
        dz[v] = (double)l->scale / temperature * (slope * ((v == t->targets[i]) - p) + bonus * p * (logp + *entropy));
    }
    return loss;
}

static void check_reference(int n, int C, int V, struct token_loss l)
{
    struct vocabulary t;
    vocabulary_open(&t, n, C, V);
    if (l.kind == LOSS_POLICY) {                                    /* ratios around the clip borders */
        struct token_loss look = {.kind = LOSS_LOGPROBS, .temperature = l.temperature};
        run(&t, look);
        for (int i = 0; i < n; i++) t.old[i] = t.logprobs[i] + 3 * t.old[i];
    }
    run(&t, l);
    double *dz = host_alloc((size_t)V, sizeof *dz), *dh = host_alloc((size_t)C, sizeof *dh), worst[5] = {0};
    double *dweight = host_alloc((size_t)V * C, sizeof *dweight);
    for (int i = 0; i < n; i++) {
        double logprob, entropy, loss = reference_row(&t, &l, i, &logprob, &entropy, dz), size = 0;
        memset(dh, 0, (size_t)C * sizeof *dh);
        for (int v = 0; v < V; v++)
            for (int c = 0; c < C; c++) {
                dh[c] += dz[v] * (double)t.weight[(size_t)v * C + c];
                dweight[(size_t)v * C + c] += dz[v] * (double)t.h[(size_t)i * C + c];
            }
        worst[0] = fmax(worst[0], fabs((double)t.logprobs[i] - logprob) / (1 + fabs(logprob)));
        worst[1] = fmax(worst[1], fabs((double)t.entropy[i] - entropy) / (1 + fabs(entropy)));
        worst[2] = fmax(worst[2], fabs((double)t.losses[i] - loss) / (1 + fabs(loss)));
        for (int c = 0; c < C; c++) size = fmax(size, fabs(dh[c]));
        for (int c = 0; c < C; c++)
            worst[3] = fmax(worst[3], fabs((double)t.dh[(size_t)i * C + c] - dh[c]) / (size + 1e-3));
    }
    for (int j = 0; j < V * C; j++)
        worst[4] = fmax(worst[4], fabs((double)t.dweight[j] - dweight[j]) / (1 + fabs(dweight[j])));
    test_error("log-probability", worst[0]);
    test_error("entropy", worst[1]);
    test_error("loss", worst[2]);
    test_error("loss, gradient of the hidden states", worst[3]);
    test_error("loss, gradient of the matrix", worst[4]);
    test_check(worst[0] < 1e-6 && worst[1] < 1e-6 && worst[2] < 2e-6 && worst[3] < 2 * stored(5e-6) && worst[4] < 2 * stored(5e-6), __FILE__,
               __LINE__,
               "kind %d n %d C %d V %d: off by %g logprob, %g entropy, %g loss, %g dh, %g dweight", l.kind, n, C, V,
                   worst[0], worst[1], worst[2], worst[3], worst[4]);
    free(dz); free(dh); free(dweight);
    vocabulary_close(&t);
}

static double total(struct vocabulary *t, struct token_loss l)
{
    run(t, l);
    double sum = 0;
    for (int i = 0; i < t->n; i++) sum += (double)t->losses[i];
    return sum;
}

static void check_differences(struct token_loss l)
{
    struct vocabulary t;
    vocabulary_open(&t, 5, 4, 9);
    for (int i = 0; i < 5; i++) t.old[i] -= 2;
    run(&t, l);
    float dh[20], dweight[36];
    memcpy(dh, t.dh, sizeof dh);
    memcpy(dweight, t.dweight, sizeof dweight);
    for (int i = 0; i < 20 + 36; i++) {
        float *x = i < 20 ? t.h + i : t.weight + i - 20, keep = *x, step = ACT_IS_FLOAT ? 4e-3f : 0x1p-5f;
        float at[2] = {act_rounded(keep + step), act_rounded(keep - step)};
        double side[2];
        for (int s = 0; s < 2; s++) {
            *x = at[s];
            host_matmul_pack(t.packed, t.weight, 9, 4);
            side[s] = total(&t, l);
        }
        *x = keep;
        host_matmul_pack(t.packed, t.weight, 9, 4);
        CHECK(close_to((side[0] - side[1]) / ((double)at[0] - (double)at[1]), (double)(i < 20 ? dh[i] : dweight[i - 20]),
                       by_type(2e-3, INPUTS), by_type(1e-3, INPUTS)));
    }
    vocabulary_close(&t);
}

static bool same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* A drawn token's log-probability has the bits that the loss gives it.   logits (n,V) of t's rows */
static void check_sampling(struct vocabulary *t, float *logits, struct token_loss l)
{
    float *drawn = array((size_t)t->n, 0, 1);
    double *uniform = host_alloc((size_t)t->n, sizeof *uniform);
    struct sampling *how = host_alloc((size_t)t->n, sizeof *how);
    struct rng r = rng_at(7, RNG_TEST, 2, 0);
    for (int i = 0; i < t->n; i++) {
        uniform[i] = rng_uniform(&r);
        how[i] = (struct sampling){.temperature = l.temperature, .top_p = 1};
    }
    host_sample_rows(t->targets, drawn, logits, uniform, how, t->n, t->V);
    run(t, l);
    CHECK(same(drawn, t->logprobs, (size_t)t->n) || !rows_are_exact());
    free(drawn); free(uniform); free(how);
}

/* Rows in another order, or one alone, give their bits; a masked-out neighbour's logits change nothing; and a row of
 * logits gives through the routine of sampling what the loss gives. */
static void check_bits(void)
{
    enum { N = 700, C = 24, V = 301 };
    struct vocabulary t, a;
    vocabulary_open(&t, N, C, V);
    vocabulary_open(&a, N, C, V);
    struct token_loss l = plain;
    l.temperature = 0.9f;
    run(&t, l);
    for (int i = 0; i < N; i++) {
        memcpy(a.h + (size_t)i * C, t.h + (size_t)(N - 1 - i) * C, C * sizeof(float));
        a.targets[i] = t.targets[N - 1 - i];
    }
    run(&a, l);
    bool order = true, alone = true;
    for (int i = 0; i < N; i++)
        order &= same(a.logprobs + i, t.logprobs + N - 1 - i, 1) && same(a.entropy + i, t.entropy + N - 1 - i, 1) &&
                 same(a.dh + (size_t)i * C, t.dh + (size_t)(N - 1 - i) * C, C);
    float *logits = array((size_t)N * V, 0, 1);
    host_logits_forward(logits, t.h, t.packed, NULL, N, V, C);
    for (int i = 0; i < N; i += 13) {
        struct vocabulary one = a;
        one.n = 1;
        memcpy(one.h, t.h + (size_t)i * C, C * sizeof(float));
        one.targets[0] = t.targets[i];
        run(&one, l);
        alone &= same(one.logprobs, t.logprobs + i, 1) && same(one.dh, t.dh + (size_t)i * C, C);
    }
    CHECK(order);
    CHECK(alone || !rows_are_exact());
    check_sampling(&t, logits, l);
    free(logits);
    vocabulary_close(&t);
    vocabulary_close(&a);
}

/* The same bits for any number of threads, also of dweight, over several chunks. */
static void check_threads(int threads, struct vocabulary *first)
{
    struct vocabulary t;
    vocabulary_open(&t, 1300, 10, 77);
    run(&t, plain);
    if (threads == 1) { *first = t; return; }
    CHECK(same(t.dweight, first->dweight, 770) && same(t.dh, first->dh, 13000) &&
          same(t.logprobs, first->logprobs, 1300));
    vocabulary_close(&t);
}

int main(void)
{
    struct vocabulary first = {0};
    for (int threads = 1; threads <= 3; threads++) {
        threads_start(threads);
        struct memory memory = {0};
        struct error error;
        ops_open(&memory);
        if (memory_open(&memory, &error)) quit_error(&error);
        ops_open(&memory);
        check_threads(threads, &first);
        if (threads == 2) {
            struct token_loss policy = {.kind = LOSS_POLICY, .temperature = 0.8f, .scale = 0.1f, .clip_low = 0.2f,
                                        .clip_high = 0.3f, .dual_clip = 3, .entropy_coef = 0.05f};
            struct token_loss smooth = {.kind = LOSS_POLICY, .temperature = 1.3f, .scale = 1, .clip_low = 0.99f,
                                        .clip_high = 1e6f, .entropy_coef = 0.3f};
            check_cross_entropy();
            check_softmax();
            check_policy_table();
            check_policy_sequence();
            check_reference(1, 1, 1, plain);
            check_reference(3, 5, 2, plain);
            check_reference(37, 16, 1031, plain);
            check_reference(513, 8, 33, plain);
            check_reference(2, 8, 50257, plain);
            check_reference(301, 12, 97, policy);
            check_reference(17, 33, 2053, policy);
            check_differences(plain);
            check_differences(smooth);
            check_bits();
        }
        memory_close(&memory);
    }
    vocabulary_close(&first);
    threads_stop();
    return test_end("test_token_loss");
}
