/* test_rlhf_toy.c - the real sampling, scoring and PPO code on tiny transformers and scripted rewards whose optimum is
 * known exactly: per prompt, pi*(y) is proportional to pi_ref(y) exp(reward(y) / beta).
 *
 *   count   8 tokens of 8 kinds, uniform reference, reward = number of token 0:  p*(0) = e^(1/beta) / (e^(1/beta) + 7)
 *   length  two tokens {go on, end}, reference ends with 0.1, reward -|n - 5|, -8 when cut at 12
 *   sort    three digits, half of the demonstrations wrong, reward 1 when exactly sorted
 */
#include "common/train/program.h"
#include "common/train/train_state.h"
#include "rlhf/ppo.h"
#include "rlhf/reward.h"
#include "test/test.h"

#include "test/act_host.h"
#include "test/on_device.h"

struct toy {
    struct memory memory;
    struct config config, critic_config;
    struct model policy, reference, critic, reward;
    struct prompts prompts;
    struct ppo ppo;
    struct record record;                        /* of the last iteration */
    int64_t updates;
};

/* ---- a toy's life ---- */

static void build(void *self, struct memory *m)
{
    struct toy *t = self;
    int N = (int)t->ppo.o.micro_tokens, E = (int)t->ppo.o.episodes,
        longest = t->prompts.longest + (int)t->ppo.o.max_new;
    struct model_use trained = {.train = true, .max_tokens = N, .max_sequences = N},
                     scoring = {.max_tokens = N, .max_sequences = N};
    struct model_use sampling = trained;
    sampling.cache_slots = sampling.logits_rows = int_min(E, N);
    sampling.cache_capacity = longest;
    ops_open(m);
    model_open(&t->policy, &t->config, &sampling, m);
    model_open(&t->reference, &t->config, &scoring, m);
    model_open(&t->critic, &t->critic_config, &trained, m);
    model_open(&t->reward, &t->critic_config, &scoring, m);
    ppo_open(&t->ppo, longest, m);
}

/* vocab, context, layers and width of policy and critic; options and prompts must be set. */
static void toy_open(struct toy *t, int vocab, int context, int layers, int width)
{
    struct error error;
    if (config_preset(&t->config, "gpt2", &error) != 0) quit_error(&error);
    t->config.layers = layers;
    t->config.channels = width;
    t->config.heads = t->config.kv_heads = 2;
    t->config.head_dim = width / 2;
    t->config.ffn = 2 * width;
    t->config.vocab = vocab;
    t->config.context = context;
    t->config.tied = false;
    t->config.init_std = 0.1;
    t->critic_config = t->config;
    t->critic_config.head = HEAD_SCALAR;
    if (config_check(&t->config, &error) != 0 || config_check(&t->critic_config, &error) != 0) quit_error(&error);
    t->ppo.policy = &t->policy;
    t->ppo.reference = &t->reference;
    t->ppo.critic = &t->critic;
    t->ppo.prompts = &t->prompts;
    build(t, &t->memory);
    program_take(&t->memory, build, t);
    params_init(&t->policy.params, &t->config, t->ppo.o.seed);
    params_init(&t->critic.params, &t->critic_config, t->ppo.o.seed + 1);
    fill(t->critic.params.score, 0, (size_t)width);
    params_pack(&t->critic.params, &t->critic_config);
    params_init(&t->reward.params, &t->critic_config, t->ppo.o.seed + 2);
    params_pack(&t->reward.params, &t->critic_config);
}

/* The policy as it is now becomes the reference. */
static void set_reference(struct toy *t)
{
    device_copy(t->reference.params.all, t->policy.params.all, t->policy.params.count * sizeof(float));
    params_pack(&t->policy.params, &t->config);
    params_pack(&t->reference.params, &t->config);
}

static void toy_close(struct toy *t)
{
    model_close(&t->policy);
    model_close(&t->reference);
    model_close(&t->critic);
    model_close(&t->reward);
    prompts_free(&t->prompts);
    memory_close(&t->memory);
}

static void update(struct model *m, int64_t t, double lr)
{
    double norm = gradient_norm(m);
    adamw_step(m, &(struct adamw_options){0.9, 0.999, 1e-8, 0}, t, lr, norm > 1 ? 1 / norm : 1, 0);
}

/* Forward and backward of micro-batch i as the loop does it. */
static void micro_batch(struct toy *t, int i, double count)
{
    struct task task = {.self = &t->ppo, .learner = t->ppo.learner, .n_learners = 2, .batch = ppo_batch, .head = ppo_head};
    int rows;
    train_micro_batch(&task, i, false, 1 / count, &rows);
    CHECK(rows == t->ppo.rollouts.batch.N);
}

static void iterate(struct toy *t, int64_t step, double lr)
{
    struct error error;
    t->ppo.sums = (struct ppo_sums){0};
    int updates = ppo_begin(&t->ppo, step, &error);
    if (updates < 0) quit_error(&error);
    for (int u = 0; u < updates; u++) {
        double count;
        int n = ppo_prepare(&t->ppo, step, u, &count, &error);
        if (n == 0) break;
        for (int i = 0; i < n; i++) micro_batch(t, i, count);
        t->updates++;
        if (!t->ppo.learner[0].frozen) update(&t->policy, t->updates, lr);
        update(&t->critic, t->updates, 2 * lr);
    }
    t->record.count = 0;
    ppo_end(&t->ppo, step, &t->record);
}

/* All iterations, the learning rate falling to 0; says how it goes when asked to. */
static void run(struct toy *t, int iterations, double lr)
{
    for (int step = 0; step < iterations; step++) {
        iterate(t, step, lr * (1 - (double)step / iterations));
        if (getenv("VERBOSE") && step % 20 == 0)
            printf("%4d reward %.3f kl %.3f length %.2f eos %.3f explained %.3f clip %.3f k3 %.5f\n", step,
                   record_get(&t->record, "reward"), record_get(&t->record, "kl"), record_get(&t->record, "length"),
                   record_get(&t->record, "eos_rate"), record_get(&t->record, "explained_variance"),
                   record_get(&t->record, "clip_fraction"), record_get(&t->record, "approx_kl_k3"));
    }
}

static struct ppo_options standard(int max_new)
{
    return (struct ppo_options){
        .episodes = 64, .minibatches = 1, .epochs = 4, .max_new = max_new, .micro_tokens = 512, .gamma = 1,
        .lambda = 0.95, .clip = 0.2, .value_clip = 0.2, .temperature = 1, .seed = 1};
}

/* ---- count ---- */

static int count_zeros(void *self, struct rollouts *r, float *reward, struct error *error)
{
    (void)self, (void)error;
    for (int e = 0; e < r->episodes; e++) {
        reward[e] = 0;
        for (int t = 0; t < rollout_answer_length(r, e); t++) reward[e] += rollout_answer(r, e)[t] == 0;
    }
    return 0;
}

/* Mean probability of token 0 at each of the 8 places, over the prefixes of the rollouts there are, sampled anew. */
static void probability_of_zero(struct toy *t, double p[8])
{
    struct rollouts *r = &t->ppo.rollouts;
    struct sample_settings s = {.sampling = {.temperature = 1, .top_p = 1, .allowed = 8}, .stream = RNG_EVAL, .seed = 99};
    float logprobs[512];
    for (int i = 0; i < 8; i++) p[i] = 0;
    CHECK(rollout_sample(r, &t->policy, &t->prompts, &s, 0, NULL) == 0);
    for (int e = 0, n; e < r->episodes; e += n) {
        n = rollout_pack(r, NULL, e, r->episodes, -1);
        for (int i = 0; i < r->batch.N; i++) r->batch.targets[i] = 0;
        model_forward(&t->policy, &r->batch, false);
        int rows =
            model_token_loss(&t->policy, &r->batch, &(struct token_loss){.kind = LOSS_LOGPROBS, .temperature = 1},
                             logprobs, NULL, NULL, false);
        for (int i = 0; i < rows; i++) p[i % 8] += exp((double)logprobs[i]) / r->episodes;
    }
}

/* A critic that says something, so that old values matter. */
static void give_opinions(struct toy *t)
{
    float ramp[16];
    for (int i = 0; i < 16; i++) ramp[i] = 0.2f * (float)(i - 8);
    to_device(t->critic.params.score, ramp, sizeof ramp);
}

static void count_open(struct toy *t, double beta, int micro_tokens, uint64_t seed)
{
    t->ppo.o = standard(8);
    t->ppo.o.micro_tokens = micro_tokens;
    t->ppo.o.seed = seed;
    t->ppo.o.allowed = 8;
    t->ppo.kl.beta = beta;
    t->ppo.reward = count_zeros;
    prompts_add(&t->prompts, (int[]){7}, 1, NULL, NULL);
    toy_open(t, 8, 16, 1, 16);
    fill(t->policy.params.head.weight, 0, 8 * 16);             /* every token equally likely */
    set_reference(t);
}

static void test_count(double beta, uint64_t seed)
{
    struct toy t = {0};
    const double want = exp(1 / beta) / (exp(1 / beta) + 7),
                 kl = 8 * (want * log(8 * want) + (1 - want) * log(8 * (1 - want) / 7));
    count_open(&t, beta, 512, seed);
    run(&t, 200, 0.01);
    double p[8], mean = 0;
    probability_of_zero(&t, p);
    for (int i = 0; i < 8; i++) mean += p[i] / 8;
    test_check(close_to(mean, want, 0, 0.02), __FILE__, __LINE__, "count: p %.4f, expected %.4f", mean, want);
    for (int i = 0; i < 8; i++)
        test_check(close_to(p[i], want, 0, 0.04), __FILE__, __LINE__, "count: p[%d] %.4f, expected %.4f", i, p[i],
                   want);
    CHECK(close_to(record_get(&t.record, "objective"), 8 * want - beta * kl, 0, 0.4));
    /* Over-optimisation in closed form: the gold score c - max(0, c - 4)^2 peaks near beta 0.5, while the proxy c goes
     * on rising. */
    double gold = 0, gold_want = 0, ways = 1;
    for (int c = 0; c <= 8; c++) {
        double score = c - pow(fmax(0, c - 4), 2);
        gold += ways * pow(mean, c) * pow(1 - mean, 8 - c) * score;
        gold_want += ways * pow(want, c) * pow(1 - want, 8 - c) * score;
        ways = ways * (8 - c) / (c + 1);
    }
    double got_kl = 8 * (mean * log(8 * mean) + (1 - mean) * log(8 * (1 - mean) / 7));
    printf("count: beta %.2f  p(0) %.4f (exact %.4f)  KL %.3f (%.3f)  proxy %.3f (%.3f)  gold %.3f (%.3f)\n", beta,
           mean, want, got_kl, kl, 8 * mean, 8 * want, gold, gold_want);
    toy_close(&t);
}

/* What must hold for any task, on the bits. */
static void test_invariants(void)
{
    struct toy a = {0}, b = {0};
    struct error error;
    count_open(&a, 0.4, 512, 5);
    count_open(&b, 0.4, 72, 5);                                /* eight episodes a micro-batch, eight slots */
    give_opinions(&a);
    give_opinions(&b);
    a.ppo.o.minibatches = b.ppo.o.minibatches = 2;
    size_t n = 64 * 8, bytes = n * sizeof(float), weights = a.policy.params.count;
    float *kept = malloc(6 * bytes), *before = malloc(weights * sizeof(float)),
          *after = malloc(weights * sizeof(float));
    CHECK(ppo_begin(&a.ppo, 0, &error) == 8 && ppo_begin(&b.ppo, 0, &error) == 8);
    const float *of_a[] = {a.ppo.rollouts.old_logprobs, a.ppo.rollouts.ref_logprobs, a.ppo.rollouts.values,
                           a.ppo.rollouts.advantages,   a.ppo.rollouts.returns,      a.ppo.rollouts.rewards};
    const float *of_b[] = {b.ppo.rollouts.old_logprobs, b.ppo.rollouts.ref_logprobs, b.ppo.rollouts.values,
                           b.ppo.rollouts.advantages,   b.ppo.rollouts.returns,      b.ppo.rollouts.rewards};
    for (int i = 0; i < 6; i++) {
        CHECK(memcmp(of_a[i], of_b[i], bytes) == 0);           /* whatever the micro-batches and slots */
        memcpy(kept + (size_t)i * n, of_a[i], bytes);
    }
    CHECK(memcmp(a.ppo.rollouts.old_logprobs, a.ppo.rollouts.ref_logprobs, bytes) == 0);     /* KL 0, to the bit */
    from_device(before, a.reference.params.all, weights * sizeof(float));
    a.ppo.cursor = b.ppo.cursor = 0;
    iterate(&a, 0, 1e-2);
    iterate(&b, 0, 1e-2);
    for (int i = 0; i < 6; i++)
        CHECK(memcmp(kept + (size_t)i * n, of_a[i], bytes) == 0); /* constant while the policy moves */
    from_device(after, a.reference.params.all, weights * sizeof(float));
    CHECK(memcmp(before, after, weights * sizeof(float)) == 0);
    CHECK(record_get(&a.record, "ratio_max") > 1 && record_get(&a.record, "kl") == 0);
    CHECK(close_to(record_get(&a.record, "policy_loss"), record_get(&b.record, "policy_loss"), 1e-4, 1e-6));
    CHECK(close_to(record_get(&a.record, "value_loss"), record_get(&b.record, "value_loss"), 1e-4, 0));
    double clipped = record_get(&a.record, "value_clip_fraction");
    CHECK(clipped > 0 && close_to(record_get(&b.record, "value_clip_fraction"), clipped, 1e-2, 0));

    from_device(before, a.policy.params.all, weights * sizeof(float));
    a.ppo.o.critic_warmup = 2;
    iterate(&a, 1, 1e-2);
    from_device(after, a.policy.params.all, weights * sizeof(float));
    CHECK(memcmp(before, after, weights * sizeof(float)) == 0 && isnan(record_get(&a.record, "ratio_max")));
    CHECK(record_get(&a.record, "value_loss") > 0 && record_get(&a.record, "kl") != 0);
    a.ppo.o.target_kl = 1e-9; /* the second minibatch is past it: the third does not happen */
    int64_t updates = a.updates;
    iterate(&a, 2, 1e-2);
    CHECK(record_get(&a.record, "early_stops") == 1 && a.updates - updates == 2);
    free(kept);
    free(before);
    free(after);
    toy_close(&a);
    toy_close(&b);
}

/* Gradients of policy and critic after all micro-batches of an update of `count` tokens; to free(). */
static float *gradients(struct toy *t, double count)
{
    const struct params *g[2] = {&t->policy.grads, &t->critic.grads};
    float *all = host_alloc(g[0]->count + g[1]->count, sizeof *all);
    for (int i = 0; i < 2; i++) device_clear(g[i]->all, g[i]->count * sizeof(float));
    for (int i = 0; i < t->ppo.n_micro; i++) micro_batch(t, i, count);
    for (int i = 0; i < 2; i++) from_device(all + (i ? g[0]->count : 0), g[i]->all, g[i]->count * sizeof(float));
    return all;
}

/* The first update of an iteration has ratio 1 to the bit, so nothing is clipped and nothing has diverged; what is
 * recorded of the second one is what its log-probabilities say. */
static void test_ratios(void)
{
    enum { N = 64 * 8 };
    struct toy t = {0};
    struct error error;
    struct record record = {0};
    float now[N];
    double count, want_loss = 0, k1 = 0, k3 = 0, ratios = 0, most = 0, clipped = 0, whitened = 0;
    count_open(&t, 0.4, 1024, 7);
    give_opinions(&t);
    t.ppo.o.epochs = 2;
    struct rollouts *r = &t.ppo.rollouts;
    const struct ppo_sums *s = &t.ppo.sums;
    CHECK(ppo_begin(&t.ppo, 0, &error) == 2 && ppo_prepare(&t.ppo, 0, 0, &count, &error) == 1 && count == N);
    CHECK(t.ppo.cursor == 0 && t.ppo.seen.count == 0);          /* given up here, it would leave nothing behind */
    free(gradients(&t, count));
    for (int i = 0; i < N; i++) whitened -= (double)r->advantages[i];
    CHECK(s->ratio == N && s->ratio_max == 1 && s->k1 == 0 && s->k3 == 0 && s->clipped == 0 && s->value_clipped == 0);
    CHECK(close_to(s->policy_loss, whitened, 0, 1e-3) && close_to(whitened / N, 0, 0, 1e-6));
    update(&t.policy, 1, 0.05);
    CHECK(ppo_prepare(&t.ppo, 0, 1, &count, &error) == 1);
    rollout_logprobs(r, &t.policy, 1, now, NULL);
    for (int i = 0; i < N; i++) {
        double apart = (double)now[i] - (double)r->old_logprobs[i], ratio = exp(apart), A = (double)r->advantages[i];
        want_loss += fmax(-A * ratio, -A * fmin(fmax(ratio, 0.8), 1.2));
        clipped += -A * fmin(fmax(ratio, 0.8), 1.2) > -A * ratio;
        k1 -= apart;
        k3 += ratio - 1 - apart;
        ratios += ratio;
        most = fmax(most, ratio);
    }
    free(gradients(&t, count));
    ppo_end(&t.ppo, 0, &record);
    CHECK(t.ppo.cursor == (uint64_t)r->episodes && t.ppo.seen.count == r->episodes);
    CHECK(clipped > 50 && most > 1.2);
    CHECK(close_to(record_get(&record, "policy_loss"), (whitened + want_loss) / (2 * N), 1e-5, 1e-6));
    CHECK(close_to(record_get(&record, "approx_kl_k1"), k1 / (2 * N), 1e-9, 0));
    CHECK(close_to(record_get(&record, "approx_kl_k3"), k3 / (2 * N), 1e-9, 0));
    CHECK(close_to(record_get(&record, "ratio_mean"), (N + ratios) / (2 * N), 1e-9, 0));
    CHECK(record_get(&record, "ratio_max") == most && record_get(&record, "clip_fraction") == clipped / (2 * N));
    toy_close(&t);
}

/* A sampler whose log-probabilities are a little off. */
static int blur_sampling(void *self, struct rollouts *r, float *reward, struct error *error)
{
    (void)self, (void)error;
    for (int i = 0; i < r->episodes * r->max_new; i++) r->sampled_logprobs[i] -= 1e-6f;
    for (int e = 0; e < r->episodes; e++) reward[e] = (float)(e % 3);
    return 0;
}

/* A backend that promises equal bits is held to it; with one that does not, the ratio is that of the training forward,
 * and 1 in the first update all the same. */
static void test_inexact_sampling(void)
{
    enum { N = 64 * 8 };
    struct toy t = {0};
    struct error error;
    double count;
    count_open(&t, 0.4, 1024, 7);
    t.ppo.reward = blur_sampling;
    CHECK(t.ppo.exact == sampling_is_exact());
    t.ppo.exact = true;
    CHECK(ppo_begin(&t.ppo, 0, &error) == -1 && error.exit_code == EXIT_INTERNAL && strstr(error.text, "was sampled with"));
    t.ppo.exact = false;
    CHECK(ppo_begin(&t.ppo, 0, &error) > 0 && ppo_prepare(&t.ppo, 0, 0, &count, &error) == 1);
    free(gradients(&t, count));
    CHECK(t.ppo.sums.ratio == N && t.ppo.sums.ratio_max == 1 && t.ppo.sums.k3 == 0);
    toy_close(&t);
}

/* A minibatch that holds every episode twice has the loss and the gradients of one that holds it once. */
static void test_twice(void)
{
    enum { N = 64 * 8 };
    struct toy t = {0};
    struct error error;
    double count, loss;
    count_open(&t, 0.4, 1024, 8);
    give_opinions(&t);
    struct rollouts *r = &t.ppo.rollouts;
    float *number[] = {r->old_logprobs, r->values, r->advantages, r->returns};
    CHECK(ppo_begin(&t.ppo, 0, &error) == 4);
    for (int i = 0; i < N / 2; i++) r->old_logprobs[i] += 0.3f * (float)(i % 3 - 1);      /* ratios of all kinds */
    for (int i = 0; i < 4; i++) memcpy(number[i] + N / 2, number[i], N / 2 * sizeof(float));
    memcpy(r->tokens + 32 * r->length, r->tokens, 32 * (size_t)r->length * sizeof(int));
    CHECK(ppo_prepare(&t.ppo, 0, 0, &count, &error) == 1 && count == N);
    float *twice = gradients(&t, N);
    loss = t.ppo.sums.policy_loss;
    CHECK(t.ppo.sums.clipped > 0 && loss != 0);
    for (uint32_t e = 0; e < 32; e++) t.ppo.order[e] = e;
    t.ppo.cut[1] = 32;
    float *once = gradients(&t, N / 2.0);
    size_t parameters = t.policy.grads.count + t.critic.grads.count;
    double apart = 0, norm = 0;
    for (size_t i = 0; i < parameters; i++) {
        apart += pow((double)twice[i] - (double)once[i], 2);
        norm += pow((double)once[i], 2);
    }
    CHECK(norm > 0 && sqrt(apart / norm) < 1e-6);
    CHECK(close_to(t.ppo.sums.policy_loss - loss, loss / 2, 1e-6, 0));
    free(twice);
    free(once);
    toy_close(&t);
}

/* Policy and critic learn; reference and reward model stay as they are, and say the same bits of the same tokens. */
static void test_frozen(void)
{
    struct toy t = {0};
    int tokens[8] = {7, 0, 3, 0, 5, 6, 1, 0}, offsets[2] = {0, 8}, last = 7;
    uint8_t mask[8] = {1, 1, 1, 1, 1, 1, 1, 0};
    struct batch b = {8, 1, tokens, tokens, mask, offsets};
    float logprobs[2][8], reward[2];
    count_open(&t, 0.4, 512, 9);
    struct reward_source source = {.model = &t.reward};
    t.ppo.reward = reward_source_get;
    t.ppo.reward_self = &source;
    const struct params *params[4] = {&t.reference.params, &t.reward.params, &t.policy.params, &t.critic.params};
    float *before[4];
    for (int i = 0; i < 4; i++) {
        before[i] = host_alloc(params[i]->count, sizeof(float));
        from_device(before[i], params[i]->all, params[i]->count * sizeof(float));
    }
    for (int k = 0; k < 2; k++) {
        for (int step = 0; k == 1 && step < 2; step++) iterate(&t, step, 1e-2);
        model_forward(&t.reference, &b, false);
        model_token_loss(&t.reference, &b, &(struct token_loss){.kind = LOSS_LOGPROBS, .temperature = 1}, logprobs[k],
                         NULL, NULL, false);
        model_forward(&t.reward, &b, false);
        model_values(&t.reward, &reward[k], &last, 1);
    }
    CHECK(memcmp(logprobs[0], logprobs[1], 7 * sizeof(float)) == 0 && reward[0] == reward[1] && reward[0] != 0);
    for (int i = 0; i < 4; i++) {
        float *after = host_alloc(params[i]->count, sizeof(float));
        from_device(after, params[i]->all, params[i]->count * sizeof(float));
        CHECK((memcmp(before[i], after, params[i]->count * sizeof(float)) == 0) == (i < 2));
        free(after);
        free(before[i]);
    }
    toy_close(&t);
}

/* ---- length ---- */

enum { LONGEST = 12, GO_ON = 0, END = 1 };

static double length_score(int n, bool ended) { return ended ? -abs(n - 5) : -8; }

static int score_lengths(void *self, struct rollouts *r, float *reward, struct error *error)
{
    (void)self, (void)error;
    for (int e = 0; e < r->episodes; e++) reward[e] = (float)length_score(rollout_answer_length(r, e), r->ended[e]);
    return 0;
}

/* pi[n - 1]: probability of an answer of n tokens that ended; pi[LONGEST]: of one that did not.   end[t]: of END at
 * place t. */
static void lengths_from(double pi[LONGEST + 1], const double end[LONGEST])
{
    double going = 1;
    for (int t = 0; t < LONGEST; t++) {
        pi[t] = going * end[t];
        going *= 1 - end[t];
    }
    pi[LONGEST] = going;
}

static double mean_length(const double pi[LONGEST + 1])
{
    double mean = LONGEST * pi[LONGEST];
    for (int n = 1; n <= LONGEST; n++) mean += n * pi[n - 1];
    return mean;
}

/* The policy's own probabilities of END after each number of GO_ONs: one forward. */
static void length_policy(struct toy *t, double pi[LONGEST + 1])
{
    int tokens[LONGEST] = {0}, targets[LONGEST], offsets[2] = {0, LONGEST};
    uint8_t mask[LONGEST];
    float logprobs[LONGEST];
    double end[LONGEST];
    for (int i = 0; i < LONGEST; i++) {
        targets[i] = END;
        mask[i] = 1;
    }
    struct batch b = {LONGEST, 1, tokens, targets, mask, offsets};
    model_forward(&t->policy, &b, false);
    model_token_loss(&t->policy, &b, &(struct token_loss){.kind = LOSS_LOGPROBS, .temperature = 1}, logprobs, NULL,
                     NULL, false);
    for (int i = 0; i < LONGEST; i++) end[i] = exp((double)logprobs[i]);
    lengths_from(pi, end);
}

/* Channel 0 of the final norm is the constant 1, and carries the log of the odds of GO_ON. */
static void set_odds(struct model *policy, double odds)
{
    float head[2 * 16] = {(float)log(odds)}, gain[16] = {0}, bias[16] = {1};
    for (int i = 1; i < 16; i++) gain[i] = 1;
    to_device(policy->params.head.weight, head, sizeof head);
    to_device(policy->params.final_norm.weight, gain, sizeof gain);
    to_device(policy->params.final_norm.bias, bias, sizeof bias);
    params_pack(&policy->params, &policy->config);
}

static void length_open(struct toy *t, double beta)
{
    static const int stop = END;
    t->ppo.o = standard(LONGEST);
    t->ppo.o.stop = &stop;
    t->ppo.o.n_stop = 1;
    t->ppo.o.allowed = 2;
    t->ppo.o.micro_tokens = 300;                         /* several micro-batches of ragged episodes */
    t->ppo.kl.beta = beta;
    t->ppo.reward = score_lengths;
    prompts_add(&t->prompts, (int[]){GO_ON}, 1, NULL, NULL);
    toy_open(t, 2, 16, 1, 16);
    set_odds(&t->policy, 9);
    set_reference(t);
}

static void test_length(int iterations)
{
    struct toy t = {0};
    const double beta = 0.5;
    double ref[LONGEST + 1], best[LONGEST + 1], pi[LONGEST + 1], end[LONGEST], sum = 0, kl = 0, apart = 0;
    for (int i = 0; i < LONGEST; i++) end[i] = 0.1;
    lengths_from(ref, end);
    for (int n = 0; n <= LONGEST; n++) sum += best[n] = ref[n] * exp(length_score(n + 1, n < LONGEST) / beta);
    for (int n = 0; n <= LONGEST; n++) best[n] /= sum;
    CHECK(close_to(mean_length(best), 4.962064, 0, 1e-6) && close_to(beta * log(sum), -1.224870418, 0, 1e-9));

    length_open(&t, beta);
    length_policy(&t, pi);
    for (int n = 0; n <= LONGEST; n++) apart = fmax(apart, fabs(pi[n] - ref[n]));
    CHECK(close_to(apart, 0, 0, by_type(1e-6, 0x1p-8)));             /* the odds are a weight */

    run(&t, iterations, 0.01);
    length_policy(&t, pi);
    for (int n = 0; n <= LONGEST; n++) kl += pi[n] * log(pi[n] / best[n]);
    double mean = mean_length(pi);
    test_check(close_to(mean, 4.962064, 0, 0.15), __FILE__, __LINE__, "length: mean %.3f, expected 4.962", mean);
    test_check(pi[LONGEST] < 0.01, __FILE__, __LINE__, "length: %.3f never end", pi[LONGEST]);
    test_check(close_to(kl, 0, 0, 0.05), __FILE__, __LINE__, "length: %.4f nats from the optimum", kl);
    printf("length: mean %.3f (exact 4.962), eos rate %.4f, %.4f nats from the optimum\n", mean, 1 - pi[LONGEST], kl);
    toy_close(&t);
}

/* Episodes that end at every length and some that are cut: where they end, and what reward, penalty and divergence put
 * where.  The policy ends with 0.25, the reference with 0.1; b subtracts 3 from the reward of what was cut. */
static void test_episodes(void)
{
    struct toy a = {0}, b = {0};
    struct error error;
    const double beta = 0.5;
    bool ends = true, slots = true, sums = true, penalty = true, first_token = false, cut = false;
    length_open(&a, beta);
    length_open(&b, beta);
    set_odds(&a.policy, 3);
    set_odds(&b.policy, 3);
    b.ppo.o.shaping.missing_end_penalty = 3;
    CHECK(ppo_begin(&a.ppo, 1, &error) > 0 && ppo_begin(&b.ppo, 1, &error) > 0);         /* 0 asserts a divergence of 0 */
    const struct rollouts *x = &a.ppo.rollouts, *y = &b.ppo.rollouts;
    for (int e = 0; e < x->episodes; e++) {
        int first = x->first[e], last = x->first[e + 1] - 1, T = last - first + 1;
        const int *answer = rollout_answer(x, e);
        double sum = 0;
        for (int t = 0; t < T; t++) {
            double k1 = (double)x->old_logprobs[first + t] - (double)x->ref_logprobs[first + t], only = t == T - 1;
            ends = ends && (answer[t] == END) == (t == T - 1 && x->ended[e]);
            slots = slots && close_to((double)x->rewards[first + t], -beta * k1 + only * (double)x->reward[e], 0, 1e-6);
            sum += (double)x->rewards[first + t];
            double less = t == T - 1 && !x->ended[e] ? 3 : 0;
            penalty = penalty && close_to((double)y->rewards[first + t], (double)x->rewards[first + t] - less, 0, 1e-6);
        }
        ends = ends && (x->ended[e] || T == LONGEST);
        sums = sums && close_to(sum, (double)x->reward[e] - beta * ppo_episode_kl(x, e), 0, 5e-6);
        first_token = first_token || (T == 1 && x->ended[e]);
        cut = cut || !x->ended[e];
    }
    CHECK(ends && first_token && cut);
    CHECK(slots);
    CHECK(sums && ppo_kl(x) != 0);
    CHECK(penalty);
    toy_close(&a);
    toy_close(&b);
}

/* Whatever lies behind an answer's end reaches nothing: log-probabilities, values, rewards, gradients keep their bits. */
static void test_after_the_end(void)
{
    enum { NUMBERS = 64 * LONGEST };
    struct toy t = {0};
    struct error error;
    double count;
    float kept[4][NUMBERS] = {{0}}, *gradient[2];
    length_open(&t, 0.5);
    set_odds(&t.policy, 3);
    give_opinions(&t);
    struct reward_source source = {.model = &t.reward};
    t.ppo.reward = reward_source_get;
    t.ppo.reward_self = &source;
    struct rollouts *r = &t.ppo.rollouts;
    CHECK(ppo_begin(&t.ppo, 1, &error) > 0);
    size_t n = (size_t)r->first[r->episodes];
    float *const number[3] = {r->old_logprobs, r->ref_logprobs, r->values};
    for (int i = 0; i < 3; i++) memcpy(kept[i], number[i], n * sizeof(float));
    memcpy(kept[3], r->raw_reward, (size_t)r->episodes * sizeof(float));
    for (int k = 0; k < 2; k++) {
        for (int e = 0; k == 1 && e < r->episodes; e++)
            for (int i = r->n_prompt[e] + rollout_answer_length(r, e); i < r->length; i++)
                r->tokens[e * r->length + i] = i % 3 ? END : GO_ON;
        CHECK(ppo_prepare(&t.ppo, 1, 0, &count, &error) > 1);
        gradient[k] = gradients(&t, count);
    }
    rollout_logprobs(r, &t.policy, 1, r->old_logprobs, NULL);
    rollout_logprobs(r, &t.reference, 1, r->ref_logprobs, NULL);
    rollout_values(r, &t.critic);
    CHECK(reward_source_get(&source, r, r->raw_reward, &error) == 0);
    for (int i = 0; i < 3; i++) CHECK(memcmp(kept[i], number[i], n * sizeof(float)) == 0);
    CHECK(memcmp(kept[3], r->raw_reward, (size_t)r->episodes * sizeof(float)) == 0);
    CHECK(memcmp(gradient[0], gradient[1], (t.policy.grads.count + t.critic.grads.count) * sizeof(float)) == 0);
    free(gradient[0]);
    free(gradient[1]);
    toy_close(&t);
}

/* ---- sort ---- */

enum { DIGITS = 6, SORTS = DIGITS * DIGITS * DIGITS };

static int compare_int(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void sorted(int out[3], const int *in)
{
    memcpy(out, in, 3 * sizeof *out);
    qsort(out, 3, sizeof *out, compare_int);
}

static int score_sorted(void *self, struct rollouts *r, float *reward, struct error *error)
{
    (void)self, (void)error;
    for (int e = 0; e < r->episodes; e++) {
        int want[3];
        sorted(want, rollout_answer(r, e) - 4); /* a prompt is three digits and a sign that the answer begins */
        reward[e] = memcmp(want, rollout_answer(r, e), sizeof want) == 0;
    }
    return 0;
}

/* Rows of prompt and answer: a batch of n sequences of 7 tokens. */
struct sort_batch {
    struct batch b;
    int tokens[7 * SORTS], targets[7 * SORTS], offsets[SORTS + 1];
    uint8_t mask[7 * SORTS];
};

static void sort_clear(struct sort_batch *s)
{
    s->b = (struct batch){.tokens = s->tokens, .targets = s->targets, .mask = s->mask, .offsets = s->offsets};
    batch_clear(&s->b);
}

static void sort_add(struct sort_batch *s, const int *prompt, const int *answer)
{
    const uint8_t trained[7] = {0, 0, 0, 0, 1, 1, 1};
    int row[7];
    memcpy(row, prompt, 4 * sizeof *row);
    memcpy(row + 4, answer, 3 * sizeof *row);
    batch_add(&s->b, row, trained, 7);
}

/* Probability that an answer is exactly sorted, over all prompts. */
static double sort_exact(struct toy *t, struct sort_batch *s)
{
    float logprobs[3 * SORTS];
    double exact = 0;
    sort_clear(s);
    for (uint32_t i = 0; i < t->prompts.count; i++) {
        const int *prompt = t->prompts.ids.id + t->prompts.prompt[i].first;
        int answer[3];
        sorted(answer, prompt);
        sort_add(s, prompt, answer);
    }
    model_forward(&t->policy, &s->b, false);
    model_token_loss(&t->policy, &s->b, &(struct token_loss){.kind = LOSS_LOGPROBS, .temperature = 1}, logprobs, NULL,
                     NULL, false);
    for (int i = 0; i < SORTS; i++)
        exact += exp((double)logprobs[3 * i] + (double)logprobs[3 * i + 1] + (double)logprobs[3 * i + 2]) / SORTS;
    return exact;
}

/* Supervised steps on demonstrations of which half are a random order of the digits. */
static void sort_demonstrate(struct toy *t, struct sort_batch *s, int steps)
{
    float logprobs[3 * SORTS];
    for (int step = 0; step < steps; step++) {
        struct rng random = rng_at(t->ppo.o.seed, RNG_TEST, (uint64_t)step, 0);
        sort_clear(s);
        for (int i = 0; i < 64; i++) {
            const int *prompt = t->prompts.ids.id + t->prompts.prompt[rng_below(&random, SORTS)].first;
            uint32_t order[3] = {0, 1, 2};
            int answer[3];
            rng_shuffle(order, 3, &random);
            for (int k = 0; k < 3; k++) answer[k] = prompt[order[k]];
            if (rng_below(&random, 2)) sorted(answer, prompt);
            sort_add(s, prompt, answer);
        }
        struct token_loss loss = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1 / (3 * 64.0f)};
        model_forward(&t->policy, &s->b, true);
        model_token_loss(&t->policy, &s->b, &loss, logprobs, NULL, NULL, true);
        model_backward(&t->policy);
        update(&t->policy, step + 1, 5e-3 * (1 - (double)step / steps));
    }
    fill(t->policy.m, 0, t->policy.params.count);
    fill(t->policy.v, 0, t->policy.params.count);
}

static void test_sort(int demonstrations, int iterations, uint64_t seed)
{
    static struct sort_batch s;
    struct toy t = {0};
    t.ppo.o = standard(3);
    t.ppo.o.micro_tokens = 7 * SORTS;
    t.ppo.o.seed = seed;
    t.ppo.o.allowed = DIGITS;
    t.ppo.o.episodes = SORTS;                            /* every prompt once an iteration */
    t.ppo.kl.beta = 0.02;
    t.ppo.reward = score_sorted;
    for (int i = 0; i < SORTS; i++) prompts_add(&t.prompts, (int[]){i / 36, i / 6 % 6, i % 6, DIGITS}, 4, NULL, NULL);
    toy_open(&t, DIGITS + 1, 8, 2, 32);
    sort_demonstrate(&t, &s, demonstrations);
    double before = sort_exact(&t, &s);
    set_reference(&t);
    run(&t, iterations, 1e-3);
    double after = sort_exact(&t, &s);
    test_check(before > 0.3 && before < 0.7, __FILE__, __LINE__, "sort: %.3f exact before", before);
    test_check(after >= 0.9, __FILE__, __LINE__, "sort: %.3f exact, expected at least 0.9", after);
    printf("sort: exact %.3f after demonstrations, %.3f after PPO, kl %.2f\n", before, after,
           record_get(&t.record, "kl"));
    toy_close(&t);
}

int main(void)
{
    bool full = getenv("FULL") && *getenv("FULL");
    test_invariants();
    test_ratios();
    test_inexact_sampling();
    test_twice();
    test_frozen();
    test_episodes();
    test_after_the_end();
    test_count(0.4, 1);
    test_length(200);
    test_sort(300, full ? 120 : 60, 1);
    for (uint64_t seed = 2; full && seed <= 4; seed++) {
        test_count(0.4, seed);
        test_sort(300, 120, seed);
    }
    static const double betas[] = {2, 1, 0.7, 0.5, 0.3, 0.2};
    for (size_t i = 0; full && i < sizeof betas / sizeof *betas; i++) test_count(betas[i], 1);
    return test_end("test_rlhf_toy");
}
