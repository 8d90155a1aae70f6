/* test_controllers.c - value loss, controllers and reward shaping on worked numbers computed apart in double. */
#include "rlhf/estimates.h"
#include "common/base/rng.h"
#include "test/test.h"

static void test_value_loss(void)
{
    static const float value[] = {0.5f, 0.9f, 0.3f, 0.1f, 0.6f, 1.4f, 0.5f}, target[] = {1, 1, 1, 1, 1, 1, 0.5f};
    static const double loss[] = {0.125, 0.045, 0.245, 0.405, 0.08, 0.08, 0},
                        gradient[] = {-0.5, 0, -0.7, -0.9, -0.4, 0.4, 0};
    static const int is_clipped[] = {0, 1, 0, 0, 0, 0, 0};
    const float old = 0.5f;
    double sum = 0;
    for (int i = 0; i < 7; i++) {
        float d;
        int clipped = 0;
        double l = value_loss(&d, &clipped, &value[i], &old, &target[i], 0.2, 1, 1);
        CHECK(close_to(l, loss[i], 0, 1e-7) && close_to((double)d, gradient[i], 0, 1e-7) && clipped == is_clipped[i]);
        CHECK(l >= 0.5 * pow((double)value[i] - (double)target[i], 2) - 1e-12);
        sum += l;
    }
    CHECK(close_to(sum / 7, 0.14, 0, 1e-7));
    float d[7], olds[7];
    for (int i = 0; i < 7; i++) olds[i] = old;
    int clipped = 0;
    CHECK(close_to(value_loss(d, &clipped, value, olds, target, 0.2, 0.25, 7), sum, 0, 1e-6) && clipped == 1);
    CHECK(close_to((double)d[3], -0.225, 0, 1e-7));      /* the scale reaches the gradient, not the sum */
    clipped = 0;
    CHECK(close_to(value_loss(d, &clipped, value, olds, target, 0, 1, 7), sum - 0.045 + 0.005, 0, 1e-6));
    CHECK(clipped == 0 && close_to((double)d[1], -0.1, 0, 1e-7));
}

/* The gradient is the derivative of the loss, away from the borders. */
static void test_value_gradient(void)
{
    struct rng random = rng_at(3, RNG_TEST, 0, 0);
    bool ok = true;
    for (int i = 0; i < 300; i++) {
        float v = (float)(2 * rng_uniform(&random)), old = (float)(2 * rng_uniform(&random)),
              r = (float)(2 * rng_uniform(&random));
        float d, ignored, up = v + 1e-3f, down = v - 1e-3f;
        int clipped = 0;
        value_loss(&d, &clipped, &v, &old, &r, 0.2, 1, 1);
        double difference = value_loss(&ignored, &clipped, &up, &old, &r, 0.2, 1, 1)
                          - value_loss(&ignored, &clipped, &down, &old, &r, 0.2, 1, 1);
        double slope = difference / ((double)up - (double)down);
        double moved = fabs((double)v - (double)old),
               midway = fabs((double)r - (double)(v > old ? old + v + 0.2f : old + v - 0.2f) / 2);
        bool near_border = fabs(moved - 0.2) < 5e-3 || (moved > 0.2 && midway < 5e-3);
        if (!near_border) ok = ok && close_to((double)d, slope, 0, 2e-3);
    }
    CHECK(ok);
}

static void test_explained_variance(void)
{
    const float returns[4] = {1, 2, 3, 6}, mean[4] = {3, 3, 3, 3}, half[4] = {2, 2.5f, 3, 4.5f};
    CHECK(explained_variance(returns, returns, 4) == 1);
    CHECK(close_to(explained_variance(mean, returns, 4), 0, 0, 1e-12));
    CHECK(close_to(explained_variance(half, returns, 4), 0.75, 0, 1e-12));
    CHECK(isnan(explained_variance(returns, mean, 4)));
    const float tenth[7] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f};
    CHECK(isnan(explained_variance(tenth, tenth, 7)));
}

static void test_kl_controller(void)
{
    static const double kl[] = {0, 3, 6, 6.6, 9, 30};
    static const double beta[] = {0.148464,       0.146943728640, 0.146943728640,
                                  0.147696080531, 0.149208488395, 0.150736383316};
    struct kl_controller c = {.beta = 0.15, .target = 6, .horizon = 10000}, fixed = {.beta = 0.05, .horizon = 10000};
    for (int i = 0; i < 6; i++) {
        kl_controller_update(&c, kl[i], 512);
        CHECK(close_to(c.beta, beta[i], 0, 1e-12));
        kl_controller_update(&fixed, kl[i], 512);
        CHECK(fixed.beta == 0.05);
    }
    struct kl_controller fast = {.beta = 1, .target = 6, .horizon = 129};
    kl_controller_update(&fast, -100, 128);
    CHECK(fast.beta > 0.8 && fast.beta < 0.81);
    kl_controller_update(&fast, 1e6, 128);
    CHECK(fast.beta > 0.8 * 1.19 && fast.beta < 0.81 * 1.2);
}

static void test_running(void)
{
    struct running m = {0}, split = {0}, whole = {0};
    CHECK(running_std(&m) == 0);
    running_add(&m, (float[]){7}, 1);
    CHECK(m.mean == 7 && running_std(&m) == 0);          /* one number has no spread */
    m = (struct running){0};
    running_add(&m, (float[]){1, 2, 3}, 3);
    CHECK(close_to(m.mean, 2, 0, 1e-12) && close_to(running_std(&m), 1, 0, 1e-12));
    running_add(&m, (float[]){10}, 1);
    CHECK(close_to(m.mean, 4, 0, 1e-12) && close_to(m.squares / m.count, 12.5, 0, 1e-12));
    running_add(&m, (float[]){4, 4}, 2);
    CHECK(m.count == 6 && close_to(m.mean, 4, 0, 1e-12) && close_to(running_std(&m), 3.162277660, 0, 1e-9));
    running_add(&m, NULL, 0);
    CHECK(m.count == 6);
    struct running equal = {0};
    const float tenth[5] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f};              /* 0.1f / 5 * 5 is not 0.1f */
    for (int i = 0; i < 7; i++) running_add(&equal, tenth, 3 + i % 3);
    CHECK(running_std(&equal) == 0);                                    /* rounding is no spread */
    struct rng random = rng_at(4, RNG_TEST, 0, 0);
    float x[97];
    for (int i = 0; i < 97; i++) x[i] = (float)(1e4 + rng_uniform(&random));
    running_add(&whole, x, 97);
    for (int i = 0; i < 97; i += 7) running_add(&split, x + i, i + 7 < 97 ? 7 : 97 - i);
    CHECK(close_to(split.mean, whole.mean, 1e-14, 0) && close_to(split.squares, whole.squares, 1e-9, 0));
}

static void test_reward_shape(void)
{
    const unsigned char ended[4] = {1, 1, 0, 1}, all[4] = {1, 1, 1, 1};
    struct running seen = {0};
    float r[4] = {1, -3, 2, 8};
    CHECK(reward_shape(r, ended, 4, &(struct reward_shaping){.clip = 2.5, .missing_end_penalty = 1.5}, &seen) == 2);
    CHECK(r[0] == 1 && r[1] == -2.5f && r[2] == 0.5f && r[3] == 2.5f);
    CHECK(seen.count == 4 && close_to(seen.mean, 2, 0, 1e-12));         /* statistics of what came in */
    float plain[4] = {1, -3, 2, 8};
    CHECK(reward_shape(plain, all, 4, &(struct reward_shaping){.missing_end_penalty = 9}, &seen) == 0);
    CHECK(plain[0] == 1 && plain[3] == 8);                              /* no answer was cut: nothing changes */
    double std = sqrt((1 + 25 + 0 + 36) / 3.0);
    float scaled[4] = {1, -3, 2, 8}, whitened[4] = {1, -3, 2, 8};
    struct running a = {0}, b = {0};
    reward_shape(scaled, all, 4, &(struct reward_shaping){.norm = REWARD_NORM_SCALE}, &a);
    reward_shape(whitened, all, 4, &(struct reward_shaping){.norm = REWARD_NORM_WHITEN}, &b);
    CHECK(close_to((double)scaled[3], 8 / std, 1e-6, 0) && close_to((double)whitened[3], 6 / std, 1e-6, 0));
    float same[2] = {5, 5};
    struct running c = {0};
    reward_shape(same, all, 2, &(struct reward_shaping){.norm = REWARD_NORM_WHITEN}, &c);
    CHECK(same[0] == 5 && same[1] == 5);                                /* no spread, no division */
    for (int norm = REWARD_NORM_SCALE; norm <= REWARD_NORM_WHITEN; norm++) {
        const unsigned char ten_ended[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        struct running d = {0};
        for (int iteration = 0; iteration < 3; iteration++) {
            float ones[10], third[10];
            for (int i = 0; i < 10; i++) ones[i] = 1, third[i] = 1.0f / 3;
            struct running e = {0};
            reward_shape(ones, ten_ended, 10, &(struct reward_shaping){.norm = (enum reward_norm)norm}, &d);
            reward_shape(third, ten_ended, 10, &(struct reward_shaping){.norm = (enum reward_norm)norm}, &e);
            CHECK(ones[0] == 1 && ones[9] == 1 && third[0] == 1.0f / 3 && third[9] == 1.0f / 3);
        }
    }
}

int main(void)
{
    test_value_loss();
    test_value_gradient();
    test_explained_variance();
    test_kl_controller();
    test_running();
    test_reward_shape();
    return test_end("test_controllers");
}
