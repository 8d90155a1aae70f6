/* test_advantage.c - advantages against their definitions as plain sums, and worked numbers from double. */
#include "rlhf/estimates.h"
#include "common/base/rng.h"
#include "test/test.h"

static bool all_close(const float *x, const double *want, int n, double absolute)
{
    bool ok = true;
    for (int i = 0; i < n; i++) ok = ok && close_to((double)x[i], want[i], 0, absolute);
    return ok;
}

static const float logprobs[4] = {-1.0f, -0.5f, -2.0f, -0.3f}, ref[4] = {-1.2f, -0.4f, -2.5f, -0.3f};
static const float values[4] = {0.1f, 0.25f, 0.4f, 0.55f};
static const int one[2] = {0, 4};

static void test_rewards(void)
{
    float rewards[4], reward = 1;
    advantage_rewards(rewards, logprobs, ref, &reward, one, 1, 0.1);
    CHECK(all_close(rewards, (double[]){-0.02, 0.01, -0.05, 1}, 4, 1e-7));
    double sum = 0, kl = 0;
    for (int t = 0; t < 4; t++) {
        sum += (double)rewards[t];
        kl += (double)logprobs[t] - (double)ref[t];
    }
    CHECK(close_to(sum, 1 - 0.1 * kl, 0, 1e-7));
    advantage_rewards(rewards, logprobs, ref, &reward, one, 1, 0);
    CHECK(rewards[0] == 0 && rewards[1] == 0 && rewards[2] == 0 && rewards[3] == 1);
}

static void test_worked(void)
{
    static const struct { double gamma, lambda, advantages[4], returns[4]; } table[] = {
        {1, 0.95, {0.758068750, 0.661125, 0.5275, 0.45}, {0.858068750, 0.911125, 0.9275, 1}},
        {1, 1, {0.84, 0.71, 0.55, 0.45}, {0.94, 0.96, 0.95, 1}},
        {1, 0, {0.13, 0.16, 0.1, 0.45}, {0.23, 0.41, 0.5, 1}},
        {0.99, 0.9, {0.659824341, 0.597445950, 0.49545, 0.45}, {0.759824341, 0.847445950, 0.89545, 1}},
    };
    const float rewards[4] = {-0.02f, 0.01f, -0.05f, 1};
    float a[4], r[4];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        advantage_estimate(a, r, rewards, values, one, 1, table[i].gamma, table[i].lambda);
        CHECK(all_close(a, table[i].advantages, 4, 1e-6) && all_close(r, table[i].returns, 4, 1e-6));
    }
}

/* advantages[t] = sum over u >= t of (gamma lambda)^(u-t) delta[u], written as it stands, on ragged answers. */
static void test_definition(void)
{
    enum { S = 7, N = 28 };
    int offsets[S + 1];
    float rewards[N], v[N], a[N], r[N];
    struct rng random = rng_at(1, RNG_TEST, 0, 0);
    for (int s = 0; s <= S; s++) offsets[s] = s * (s + 1) / 2;
    for (int i = 0; i < N; i++) {
        rewards[i] = (float)(rng_uniform(&random) - 0.5);
        v[i] = (float)(2 * rng_uniform(&random) - 1);
    }
    static const double settings[3][2] = {{1, 0.95}, {0.97, 0.8}, {0.9, 1}};
    for (int k = 0; k < 3; k++) {
        double gamma = settings[k][0], lambda = settings[k][1];
        advantage_estimate(a, r, rewards, v, offsets, S, gamma, lambda);
        bool ok = true;
        for (int s = 0; s < S; s++)
            for (int t = offsets[s]; t < offsets[s + 1]; t++) {
                double want = 0, to_go = 0;
                for (int u = t; u < offsets[s + 1]; u++) {
                    double next = u + 1 < offsets[s + 1] ? (double)v[u + 1] : 0;
                    want += pow(gamma * lambda, u - t) * ((double)rewards[u] + gamma * next - (double)v[u]);
                    to_go += pow(gamma, u - t) * (double)rewards[u];
                }
                ok =
                    ok && close_to((double)a[t], want, 0, 1e-6) && close_to((double)r[t], want + (double)v[t], 0, 1e-6);
                if (lambda == 1) ok = ok && close_to((double)r[t], to_go, 0, 1e-6);     /* whatever the critic says */
            }
        CHECK(ok);
    }
    float zero[N] = {0}, perfect[N]; /* a critic that knows the future leaves nothing to reinforce */
    for (int s = 0; s < S; s++)
        for (int t = offsets[s + 1] - 1; t >= offsets[s]; t--)
            perfect[t] = rewards[t] + (t + 1 < offsets[s + 1] ? perfect[t + 1] : 0);
    advantage_estimate(a, r, rewards, perfect, offsets, S, 1, 0.95);
    CHECK(all_close(a, (double[N]){0}, N, 1e-6));
    advantage_estimate(a, r, rewards, zero, offsets, S, 1, 1);       /* no critic: the reward to go */
    bool ok = true;
    for (int i = 0; i < N; i++) ok = ok && close_to((double)a[i], (double)perfect[i], 0, 1e-6);
    CHECK(ok);
}

static void test_whiten(void)
{
    float x[5] = {1, 2, -1, 0.5f, 0};
    CHECK(close_to(advantage_whiten(x, 5), 0.5, 0, 1e-12));
    CHECK(all_close(x, (double[]){0.499999998, 1.499999993, -1.499999993, 0, -0.499999998}, 5, 1e-7));
    float lonely[1] = {3}, same[3] = {2, 2, 2}, big[64], scaled[64];
    CHECK(advantage_whiten(lonely, 1) == 3 && lonely[0] == 3);
    advantage_whiten(same, 3);
    CHECK(same[0] == 0 && same[2] == 0);
    float rounded[3] = {1e6f, 1e6f + 0.0625f, 1e6f};     /* apart in the last bit: nothing to reinforce */
    advantage_whiten(rounded, 3);
    CHECK(rounded[0] == 0 && rounded[1] == 0 && rounded[2] == 0);
    struct rng random = rng_at(2, RNG_TEST, 0, 0);
    float around[64], moved[64];
    double most = 0;
    for (int i = 0; i < 64; i++) {
        around[i] = (float)(2 * rng_uniform(&random) - 1);
        moved[i] = 8 * around[i] + 0.5f;
    }
    advantage_whiten(around, 64);
    advantage_whiten(moved, 64);
    for (int i = 0; i < 64; i++) most = fmax(most, fabs((double)(around[i] - moved[i])));
    CHECK(close_to(most, 0, 0, 1e-6));                   /* whatever the unit and zero of rewards */
    for (int i = 0; i < 64; i++) {
        big[i] = (float)(1000 + rng_uniform(&random));   /* a mean a thousand times the spread */
        scaled[i] = 3 * big[i] + 7;
    }
    advantage_whiten(big, 64);
    advantage_whiten(scaled, 64);
    double mean = 0, variance = 0, apart = 0;
    for (int i = 0; i < 64; i++) {
        mean += (double)big[i] / 64;
        variance += (double)big[i] * (double)big[i] / 64;
        apart = fmax(apart, fabs((double)(big[i] - scaled[i])));
    }
    CHECK(close_to(mean, 0, 0, 1e-6) && close_to(variance, 1, 0, 1e-5) && close_to(apart, 0, 0, 2e-3));
}

int main(void)
{
    test_rewards();
    test_worked();
    test_definition();
    test_whiten();
    return test_end("test_advantage");
}
