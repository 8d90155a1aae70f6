/* test_ppo.c - the policy loss on worked numbers, and the whole chain reward -> advantage -> loss against the exact
 * gradient of E[score] - beta KL, by enumerating every answer of a tiny policy.
 *
 * The output matrix is the identity, so that hidden states are logits and dh is the gradient by logits. */
#include "common/base/rng.h"
#include "rlhf/estimates.h"
#include "test/host_ops.h"
#include "test/test.h"

/* With bfloat16: of numbers computed from logits that it cannot hold exactly. */
#define INPUTS 0x1p-7

enum { V = 3, MOST = 64 };

static float identity[V * V] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, dweight[V * V];
static act_t *packed;

/* Losses, log-probabilities and gradients of n rows of logits; any output may be NULL. */
static void run(float *logprobs, float *entropy, float *losses, float *dlogits, const float *logits, const int *targets,
                const struct token_loss *loss, int n)
{
    float lp[MOST], ent[MOST], ls[MOST], d[MOST * V];
    bool backward = loss->kind != LOSS_LOGPROBS;
    host_token_loss(lp, ent, ls, backward ? d : NULL, backward ? dweight : NULL, logits, targets, packed, loss, n, V, V);
    for (int i = 0; i < n; i++) {
        if (logprobs) logprobs[i] = lp[i];
        if (entropy) entropy[i] = ent[i];
        if (losses) losses[i] = ls[i];
    }
    if (dlogits) memcpy(dlogits, d, sizeof(float) * (size_t)n * V);
}

static struct token_loss policy(float temperature, const float *old, const float *advantages)
{
    return (struct token_loss){.kind = LOSS_POLICY, .temperature = temperature, .scale = 1, .old_logprobs = old,
                               .advantages = advantages, .clip_low = 0.2f, .clip_high = 0.2f};
}

static void test_clipping(void)
{
    static const struct {
        float advantage, ratio;
        double loss, slope, dual;
    } row[] = {{1, 1, -1, -1, -1}, {1, 1.1f, -1.1, -1.1, -1.1}, {1, 1.5f, -1.2, 0, -1.2}, {1, 0.5f, -0.5, -0.5, -0.5},
               {-1, 1, 1, 1, 1},   {-1, 0.9f, 0.9, 0.9, 0.9},   {-1, 0.5f, 0.8, 0, 0.8},  {-1, 1.5f, 1.5, 1.5, 1.5},
               {-1, 4, 4, 4, 3}};
    const float logits[V] = {0.3f, -0.4f, 0.9f};
    const int target = 1;
    float logprob, loss, d[V];
    struct token_loss plain = {.kind = LOSS_LOGPROBS, .temperature = 1, .scale = 1};
    run(&logprob, NULL, NULL, NULL, logits, &target, &plain, 1);
    double p = exp((double)logprob);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        float old = (float)((double)logprob - log((double)row[i].ratio));
        struct token_loss l = policy(1, &old, &row[i].advantage);
        run(NULL, NULL, &loss, d, logits, &target, &l, 1);
        CHECK(close_to((double)loss, row[i].loss, 2e-6, 0));
        CHECK(close_to((double)d[target], row[i].slope * (1 - p), stored(5e-6), 1e-12));
        if (row[i].slope == 0) CHECK(d[0] == 0 && d[1] == 0 && d[2] == 0);
        l.dual_clip = 3;
        run(NULL, NULL, &loss, d, logits, &target, &l, 1);
        CHECK(close_to((double)loss, row[i].dual, 2e-6, 0));
        if (row[i].dual != row[i].loss) CHECK(d[0] == 0 && d[1] == 0 && d[2] == 0);
        l.dual_clip = 0;
        l.clip_low = l.clip_high = 1e6f;
        run(NULL, NULL, &loss, NULL, logits, &target, &l, 1);
        CHECK(close_to((double)loss, -(double)row[i].advantage * (double)row[i].ratio, 2e-6, 0) &&
              (double)loss <= row[i].loss + 1e-5);
    }
    const float zero = 0, far = logprob + 1;
    struct token_loss l = policy(1, &far, &zero);                /* no advantage, no gradient */
    run(NULL, NULL, &loss, d, logits, &target, &l, 1);
    CHECK(loss == 0 && d[0] == 0 && d[1] == 0 && d[2] == 0);
}

/* Logits to loss to gradient at temperature 0.7, two tokens. */
static void test_worked(void)
{
    const float logits[2 * V] = {1, 0.2f, -0.5f, 0, 0.7f, 0.3f}, old[2] = {-0.55f, -1.3f},
                           advantages[2] = {0.8f, -1.1f};
    const int targets[2] = {0, 2};
    float logprobs[2], entropy[2], losses[2], d[2 * V];
    struct token_loss l = policy(0.7f, old, advantages);
    l.scale = 0.5f;
    run(logprobs, entropy, losses, d, logits, targets, &l, 2);
    CHECK(close_to((double)logprobs[0], -0.362018647, 0, by_type(1e-6, INPUTS)) &&
          close_to((double)logprobs[1], -1.230293557, 0, by_type(1e-6, INPUTS)));
    CHECK(close_to((double)entropy[0], 0.790825095, 0, by_type(1e-6, INPUTS)) &&
          close_to((double)entropy[1], 1.016195205, 0, by_type(1e-6, INPUTS)));
    CHECK(close_to((double)losses[0], -0.96, 0, by_type(1e-6, INPUTS)) &&
          close_to((double)losses[1], 1.179412724, 0, by_type(2e-6, INPUTS)));
    CHECK(d[0] == 0 && d[1] == 0 && d[2] == 0);
    static const double want[V] = {-0.160362147, -0.435909511, 0.596271659};
    for (int j = 0; j < V; j++) CHECK(close_to((double)d[V + j], want[j], 0, by_type(1e-6, INPUTS)));
    const float zero = 0, one_old = -0.5f;
    const int target = 0;
    l = policy(1, &one_old, &zero);
    l.entropy_coef = 1;
    run(NULL, entropy, losses, d, logits, &target, &l, 1);
    static const double slope[V] = {-0.248169020, 0.103421387, 0.144747633};     /* of the entropy */
    CHECK(close_to((double)entropy[0], 0.929347615, 0, by_type(1e-6, INPUTS)) &&
          close_to((double)losses[0], -0.929347615, 0, by_type(1e-6, INPUTS)));
    for (int j = 0; j < V; j++) CHECK(close_to((double)d[j], -slope[j], 0, by_type(1e-6, INPUTS)));
}

/* ---- every answer of two tokens: state 0 is the prompt, state 1 + y the answer that began with y ---- */

enum { STATES = 4 };
static const float start_logits[STATES * V] = {0.2f, -0.1f, 0.4f, 0, 0.3f, -0.2f, 0.5f, 0, 0.1f, -0.3f, 0.2f, 0};
static const float ref_logits[STATES * V] = {0, 0, 0, 0.1f, 0, 0, 0, 0, 0.2f, 0, -0.1f, 0};
static const float baseline[STATES] = {0.37f, 0.11f, -0.2f, 0.9f};

static double score_of(int y0, int y1) { return (y0 == 0) + 0.5 * (y1 == 2) - 0.3 * (y0 == y1); }

static void softmax(double p[V], const float *z)
{
    double sum = 0;
    for (int j = 0; j < V; j++) sum += p[j] = exp((double)z[j]);
    for (int j = 0; j < V; j++) p[j] /= sum;
}

static double objective(const float *logits, double beta)
{
    double J = 0, p[STATES][V], q[STATES][V];
    for (int s = 0; s < STATES; s++) {
        softmax(p[s], logits + V * s);
        softmax(q[s], ref_logits + V * s);
    }
    for (int a = 0; a < V; a++)
        for (int b = 0; b < V; b++)
            J += p[0][a] * p[1 + a][b] *
                 (score_of(a, b) - beta * (log(p[0][a] / q[0][a]) + log(p[1 + a][b] / q[1 + a][b])));
    return J;
}

static void test_exact_gradient(void)
{
    const double beta = 0.2;
    double total[STATES * V] = {0}, kl = 0;
    struct token_loss plain = {.kind = LOSS_LOGPROBS, .temperature = 1, .scale = 1};
    for (int y = 0; y < V * V; y++) {
        int action[2] = {y / V, y % V}, state[2] = {0, 1 + y / V}, offsets[2] = {0, 2};
        float rows[2 * V], ref_rows[2 * V], logprobs[2], ref[2], rewards[2], values[2], advantages[2], returns[2],
            d[2 * V];
        float score = (float)score_of(action[0], action[1]);
        for (int t = 0; t < 2; t++) {
            memcpy(rows + V * t, start_logits + V * state[t], V * sizeof(float));
            memcpy(ref_rows + V * t, ref_logits + V * state[t], V * sizeof(float));
            values[t] = baseline[state[t]];
        }
        run(logprobs, NULL, NULL, NULL, rows, action, &plain, 2);
        run(ref, NULL, NULL, NULL, ref_rows, action, &plain, 2);
        advantage_rewards(rewards, logprobs, ref, &score, offsets, 1, beta);
        advantage_estimate(advantages, returns, rewards, values, offsets, 1, 1, 1);
        struct token_loss l = policy(1, logprobs, advantages);
        run(NULL, NULL, NULL, d, rows, action, &l, 2);
        double p = exp((double)logprobs[0] + (double)logprobs[1]),
               apart = (double)logprobs[0] + (double)logprobs[1] - (double)ref[0] - (double)ref[1];
        for (int t = 0; t < 2; t++)
            for (int j = 0; j < V; j++) total[V * state[t] + j] -= p * (double)d[V * t + j];
        kl += p * apart;
    }
    static const double printed[STATES * V] = {0.217112399,  -0.066689063, -0.150423336, -0.032559156,
                                               -0.012310911, 0.044870066,  -0.014197242, -0.021935301,
                                               0.036132543,  0.000228651,  -0.020024614, 0.019795963};
    CHECK(close_to(objective(start_logits, beta), 0.383976330169, 0, 1e-7));
    CHECK(close_to(kl, objective(start_logits, 0) - objective(start_logits, 1), 0, by_type(1e-6, INPUTS)));
    for (int i = 0; i < STATES * V; i++) {
        float up[STATES * V], down[STATES * V];
        memcpy(up, start_logits, sizeof up);
        memcpy(down, start_logits, sizeof down);
        up[i] += 1e-2f;
        down[i] -= 1e-2f;
        double slope = (objective(up, beta) - objective(down, beta)) / ((double)up[i] - (double)down[i]);
        CHECK(close_to(total[i], printed[i], 0, by_type(1e-6, INPUTS)) && close_to(total[i], slope, 0, by_type(2e-5, INPUTS)));
    }
}

/* Every answer of one token under p = (.5 .3 .2), reference q = (.4 .4 .2): the penalty of a token may have either sign,
 * its mean under p is the divergence. */
static void test_penalty(void)
{
    static const double p[V] = {0.5, 0.3, 0.2}, q[V] = {0.4, 0.4, 0.2},
                        k1[V] = {0.223143551314, -0.287682072452, 0};
    const int targets[V] = {0, 1, 2}, offsets[V + 1] = {0, 1, 2, 3};
    float rows[V * V], ref_rows[V * V], logprobs[V], ref[V], rewards[V], none[V] = {0};
    struct token_loss plain = {.kind = LOSS_LOGPROBS, .temperature = 1, .scale = 1};
    double kl = 0;
    for (int i = 0; i < V * V; i++) {
        rows[i] = (float)log(p[i % V]);
        ref_rows[i] = (float)log(q[i % V]);
    }
    run(logprobs, NULL, NULL, NULL, rows, targets, &plain, V);
    run(ref, NULL, NULL, NULL, ref_rows, targets, &plain, V);
    advantage_rewards(rewards, logprobs, ref, none, offsets, V, 1);
    for (int i = 0; i < V; i++) {
        CHECK(close_to(-(double)rewards[i], k1[i], 0, by_type(5e-7, INPUTS)));
        kl -= p[i] * (double)rewards[i];
    }
    CHECK(close_to(kl, 0.025267153922, 0, by_type(2e-7, INPUTS)));
}

/* At ratio 1 the clipped loss has the gradient of -A logprob, to the bit; an entropy bonus of 0 adds nothing. */
static void test_reinforce(void)
{
    struct rng random = rng_at(5, RNG_TEST, 0, 0);
    bool same = true, bonus = true;
    for (int i = 0; i < 200; i++) {
        float logits[V], d[V], reinforce[V], with_bonus[V], logprob;
        int target = i % V;
        for (int j = 0; j < V; j++) logits[j] = (float)(4 * rng_uniform(&random) - 2);
        float advantage = (float)(6 * rng_uniform(&random) - 3), temperature = i % 2 ? 1 : 0.7f;
        struct token_loss l = {.kind = LOSS_LOGPROBS, .temperature = temperature, .scale = 1};
        run(&logprob, NULL, NULL, NULL, logits, &target, &l, 1);
        l.kind = LOSS_CROSS_ENTROPY;
        l.scale = advantage;
        run(NULL, NULL, NULL, reinforce, logits, &target, &l, 1);
        l = policy(temperature, &logprob, &advantage);
        run(NULL, NULL, NULL, d, logits, &target, &l, 1);
        l.entropy_coef = 0.1f;
        run(NULL, NULL, NULL, with_bonus, logits, &target, &l, 1);
        same = same && memcmp(d, reinforce, sizeof d) == 0;
        bonus = bonus && memcmp(d, with_bonus, sizeof d) != 0;
    }
    CHECK(same);
    CHECK(bonus);
}

int main(void)
{
    struct memory memory = {0};
    ops_open(&memory);
    if (memory_open(&memory, NULL) != 0) die("no memory");
    ops_open(&memory);
    packed = host_alloc(matmul_packed_elements(V, V), sizeof *packed);
    host_matmul_pack(packed, identity, V, V);
    test_clipping();
    test_worked();
    test_exact_gradient();
    test_penalty();
    test_reinforce();
    return test_end("test_ppo");
}
