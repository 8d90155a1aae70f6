/* ppo.c - an iteration as the one training loop sees it: begin() makes the data, prepare() deals a minibatch, head()
 * learns from one micro-batch of it.  What begin() computes stays constant while the policy moves; only the order of
 * episodes changes between epochs, keyed by (seed, iteration, epoch), so nothing of it needs saving. */
#include "rlhf/ppo.h"
#include "common/base/signals.h"
#include "common/model/device.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void ppo_open(struct ppo *p, int length, struct memory *memory)
{
    int E = (int)p->o.episodes, N = (int)p->o.micro_tokens;
    rollout_open(&p->rollouts, E, length, (int)p->o.max_new, N, memory);
    p->rollouts.comm = p->o.comm;
    p->order = memory_take(memory, MEMORY_ROLLOUTS, (size_t)E, sizeof *p->order);
    p->cut = memory_take(memory, MEMORY_ROLLOUTS, (size_t)(E + int_max(p->o.slices, 1)) + 1, sizeof *p->cut);
    float **number[] = {&p->old, &p->logprobs, &p->advantages, &p->losses, &p->old_values, &p->values, &p->returns,
                        &p->dvalues};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        *number[i] = memory_take(memory, MEMORY_ROLLOUTS, (size_t)N, sizeof(float));
    p->exact = sampling_is_exact();
    p->learner[0].name = "";
    p->learner[0].model = p->policy;
    p->learner[1].name = LEARNER_CRITIC;
    p->learner[1].model = p->critic;
}

/* ---- the data of an iteration ---- */

double ppo_episode_kl(const struct rollouts *r, int e)
{
    double kl = 0;
    for (int i = r->first[e]; i < r->first[e + 1]; i++) kl += (double)r->old_logprobs[i] - (double)r->ref_logprobs[i];
    return kl;
}

double ppo_kl(const struct rollouts *r)
{
    double kl = 0;
    for (int e = 0; e < r->episodes; e++) kl += ppo_episode_kl(r, e);
    return kl / r->episodes;
}

/* Copies the numbers of the n episodes order[0], order[1], ... one after the other; returns how many. */
static int gather(float *to, const float *from, const struct rollouts *r, const uint32_t *order, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        int e = (int)order[i], T = rollout_answer_length(r, e);
        memcpy(to + count, from + r->first[e], (size_t)T * sizeof *to);
        count += T;
    }
    return count;
}

static int check_numbers(const struct ppo *p, int64_t step, struct error *error)
{
    const struct rollouts *r = &p->rollouts;
    int from, to;
    rollout_mine(r, &from, &to);
    for (int e = from; e < to; e++)
        for (int i = r->first[e]; i < r->first[e + 1]; i++) {
            float sampled = r->sampled_logprobs[(size_t)e * (size_t)r->max_new + (size_t)(i - r->first[e])];
            if ((p->exact && sampled != r->old_logprobs[i]) || !(r->old_logprobs[i] <= 0))
                return fail(error, EXIT_INTERNAL, "token %d of answer %d was sampled with log-probability %.9g, but "
                            "the training forward gives %.9g: the kernels are not row-invariant", i - r->first[e], e,
                            (double)sampled, (double)r->old_logprobs[i]);
            if (step == 0 && r->old_logprobs[i] != r->ref_logprobs[i])
                return fail(error, EXIT_INTERNAL, "token %d of answer %d has log-probability %.9g under the policy and "
                            "%.9g under the reference, which should be its equal", i - r->first[e], e,
                            (double)r->old_logprobs[i], (double)r->ref_logprobs[i]);
        }
    return 0;
}

/* Checked on the first batch: one forward pass serves sampling, scoring, reference and training, so their
 * log-probabilities are equal to the last bit, however the episodes are packed. */
static int check_on_policy(struct ppo *p, int64_t step, struct error *error)
{
    struct rollouts *r = &p->rollouts;
    struct token_loss loss = {.kind = LOSS_LOGPROBS, .temperature = (float)p->o.temperature};
    int from, to, at = 0, bad = check_numbers(p, step, error);
    rollout_mine(r, &from, &to);
    if (p->exact && from == to) model_idle(p->policy, false);
    if (!p->exact || from == to) return bad;
    for (int e = from; e < to; e++) p->order[e - from] = (uint32_t)(to - 1 - (e - from));   /* another layout: back to front */
    int n = rollout_pack(r, p->order, 0, to - from, -1);
    model_forward(p->policy, &r->batch, true);
    int count = model_token_loss(p->policy, &r->batch, &loss, p->logprobs, NULL, NULL, false);
    gather(p->old, r->old_logprobs, r, p->order, n);
    while (at < count && p->logprobs[at] == p->old[at]) at++;
    if (at < count && !bad)
        return fail(error, EXIT_INTERNAL,
                    "the first ratio is %.9g, not 1: a log-probability is %.9g in one packing and %.9g in another",
                    exp((double)p->logprobs[at] - (double)p->old[at]), (double)p->old[at], (double)p->logprobs[at]);
    return bad;
}

/* Bits that model_settle has promised and that are not there end no run: the promise is dropped. */
static int check_bits(struct ppo *p, int64_t step, struct error *error)
{
    struct comm *comm = p->rollouts.comm;
    bool settled = p->exact && !sampling_is_exact();
    if (p->on_policy && !settled) return 0;
    int status = p->on_policy ? check_numbers(p, step, error) : check_on_policy(p, step, error);
    status = comm_agree(comm, status, error);
    if (status == 0 || !settled) return status;
    p->exact = false;
    p->inexact = *error;
    return comm_agree(comm, check_numbers(p, step, error), error);
}

int ppo_answer(struct ppo *p, struct prompts *prompts, enum rng_stream stream, int64_t iteration, uint64_t first_index,
               struct error *error)
{
    struct rollouts *r = &p->rollouts;
    float temperature = (float)p->o.temperature;
    struct sample_settings how = {
        .sampling = {.temperature = temperature, .top_p = 1, .allowed = p->o.allowed}, .stop = p->o.stop,
        .n_stop = p->o.n_stop, .stream = stream, .seed = p->o.seed, .step = (uint64_t)iteration};
    double start = seconds_now();
    device_range("sample");
    int status = rollout_sample(r, p->policy, prompts, &how, first_index, error);
    device_range_end();
    if (status != 0) return -1;
    double sampled = seconds_now();
    device_range("score");
    rollout_logprobs(r, p->policy, temperature, r->old_logprobs, r->entropy);
    rollout_logprobs(r, p->reference, temperature, r->ref_logprobs, NULL);
    device_range_end();
    double scored = seconds_now();
    int from, to;
    status = signals_check(error, "scoring answers");
    rollout_mine(r, &from, &to);
    device_range("reward");
    if (status == 0) status = p->reward(p->reward_self, r, r->raw_reward, error);
    device_range_end();
    for (int e = from; e < to && status == 0; e++)
        if (!isfinite(r->raw_reward[e])) status = fail(error, EXIT_DATA, "the reward of answer %d is not finite", e);
    if (comm_agree(r->comm, status, error) != 0) return -1;
    comm_share_host(r->comm, GROUP_TENSOR, r->raw_reward + from, (size_t)(to - from) * sizeof(float), 0);
    rollout_share(r, r->old_logprobs, sizeof(float), true);
    rollout_share(r, r->ref_logprobs, sizeof(float), true);
    rollout_share(r, r->entropy, sizeof(float), true);
    rollout_share(r, r->raw_reward, sizeof(float), false);
    p->seconds_sample = sampled - start;
    p->seconds_score = scored - sampled;
    p->seconds_reward = seconds_now() - scored;
    return 0;
}

int ppo_begin(void *self, int64_t step, struct error *error)
{
    struct ppo *p = self;
    struct rollouts *r = &p->rollouts;
    int E = r->episodes;
    p->updates = (struct ppo_updates){0};
    p->learner[0].frozen = step < p->o.critic_warmup;
    if (ppo_answer(p, p->prompts, RNG_ROLLOUT, step, p->cursor, error) != 0) return -1;
    if (check_bits(p, step, error) != 0) return -1;
    p->on_policy = true;
    double start = seconds_now();
    rollout_values(r, p->critic);
    rollout_share(r, r->values, sizeof(float), true);
    p->seconds_score += seconds_now() - start;
    memcpy(r->reward, r->raw_reward, (size_t)E * sizeof *r->reward);
    p->seen_next = p->seen;
    p->rewards_clipped = reward_shape(r->reward, r->ended, E, &p->o.shaping, &p->seen_next);
    advantage_rewards(r->rewards, r->old_logprobs, r->ref_logprobs, r->reward, r->first, E, p->kl.beta);
    advantage_estimate(r->advantages, r->returns, r->rewards, r->values, r->first, E, p->o.gamma, p->o.lambda);
    p->advantage_mean = advantage_whiten(r->advantages, r->first[E]);
    return (int)(p->o.epochs * p->o.minibatches);
}

/* ---- updates ---- */

static void shuffle(struct ppo *p, int64_t step, int epoch)
{
    struct rng random = rng_at(p->o.seed, RNG_MINIBATCH, (uint64_t)step, (uint64_t)epoch);
    rng_shuffle(p->order, (uint32_t)p->o.episodes, &random);
}

/* Cuts episodes order[from .. to - 1] into one run a slice, each into micro-batches, as many for every run: the last of
 * a run may be empty.  With cut NULL only counts them. */
static int cut_runs(struct ppo *p, int from, int to, int each, int *cut)
{
    int slices = int_max(p->o.slices, 1), most = 0;
    for (int s = 0; s < slices; s++) {
        int at = from + (int)((int64_t)(to - from) * s / slices), n = 0,
            end = from + (int)((int64_t)(to - from) * (s + 1) / slices);
        for (; at < end || (cut && n < each); n++) {
            if (cut) cut[s * each + n] = at;
            if (at < end) at += rollout_pack(&p->rollouts, p->order, at, end, -1);
        }
        most = int_max(most, n);
    }
    return most;
}

int ppo_prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct ppo *p = self;
    struct ppo_sums *s = &p->sums;
    struct rollouts *r = &p->rollouts;
    int64_t minibatch = update % p->o.minibatches;
    (void)error;
    if (p->o.target_kl > 0 && s->minibatch_k3 > p->o.target_kl * s->minibatch_tokens) {
        p->updates.early_stops++;
        return 0;
    }
    if (minibatch == 0) shuffle(p, step, (int)(update / p->o.minibatches));
    int from = (int)(minibatch * p->o.episodes / p->o.minibatches),
        to = (int)((minibatch + 1) * p->o.episodes / p->o.minibatches);
    *count = 0;
    for (int i = from; i < to; i++) *count += rollout_answer_length(r, (int)p->order[i]);
    int each = cut_runs(p, from, to, 0, NULL);
    cut_runs(p, from, to, each, p->cut);
    p->n_micro = int_max(p->o.slices, 1) * each;
    p->cut[p->n_micro] = to;
    s->minibatch_k3 = s->minibatch_tokens = 0;
    p->updates.begun++;
    return p->n_micro;
}

/* What the ratio did, from new and old log-probabilities of n tokens. */
static void count_ratios(struct ppo *p, int n)
{
    struct ppo_sums *s = &p->sums;
    for (int i = 0; i < n; i++) {
        double apart = (double)p->logprobs[i] - (double)p->old[i], ratio = exp(fmin(fmax(apart, -20), 20));
        double k3 = ratio - 1 - apart;
        s->k1 -= apart;
        s->k3 += k3;
        s->minibatch_k3 += k3;
        s->ratio += ratio;
        s->ratio_max = fmax(s->ratio_max, ratio);
        s->clipped += p->advantages[i] > 0 ? ratio > 1 + p->o.clip : p->advantages[i] < 0 && ratio < 1 - p->o.clip;
    }
    s->policy_tokens += n;
    s->minibatch_tokens += n;
}

static double policy_loss(struct ppo *p, const uint32_t *order, int n_episodes, double scale)
{
    struct rollouts *r = &p->rollouts;
    struct token_loss loss = {
        .kind = LOSS_POLICY, .temperature = (float)p->o.temperature, .scale = (float)scale, .old_logprobs = p->old,
        .advantages = p->advantages, .clip_low = (float)p->o.clip, .clip_high = (float)p->o.clip,
        .dual_clip = (float)p->o.dual_clip, .entropy_coef = (float)p->o.entropy_coef};
    double sum = 0;
    gather(p->old, r->old_logprobs, r, order, n_episodes);
    gather(p->advantages, r->advantages, r, order, n_episodes);
    int n = model_token_loss(p->policy, &r->batch, &loss, p->logprobs, NULL, p->losses, true);
    count_ratios(p, n);
    for (int i = 0; i < n; i++) sum += (double)p->losses[i];
    p->sums.policy_loss += sum;
    return sum;
}

static double critic_loss(struct ppo *p, const uint32_t *order, int n_episodes, double scale)
{
    struct rollouts *r = &p->rollouts;
    gather(p->old_values, r->values, r, order, n_episodes);
    int n = gather(p->returns, r->returns, r, order, n_episodes), rows = rollout_counted_rows(r), clipped = 0;
    assert(rows == n);
    model_values(p->critic, p->values, r->rows, n);
    double sum = value_loss(p->dvalues, &clipped, p->values, p->old_values, p->returns, p->o.value_clip, scale, n);
    model_values_backward(p->critic, p->dvalues, r->rows, n);
    p->sums.value_clipped += clipped;
    p->sums.value_loss += sum;
    p->sums.value_tokens += n;
    return sum;
}

const struct batch *ppo_batch(void *self, int i, int learner)
{
    struct ppo *p = self;
    (void)learner;                          /* both read the same rows */
    if (p->cut[i] == p->cut[i + 1]) return NULL;
    int n = rollout_pack(&p->rollouts, p->order, p->cut[i], p->cut[i + 1], -1);
    assert(n == p->cut[i + 1] - p->cut[i]);
    return &p->rollouts.batch;
}

double ppo_head(void *self, int i, int learner, double scale)
{
    struct ppo *p = self;
    int n = p->cut[i + 1] - p->cut[i];
    return (learner == 0 ? policy_loss : critic_loss)(p, p->order + p->cut[i], n, scale);
}

/* The pretraining mix joins when the PPO gradient is whole and its norm can be taken. */
void ppo_mix(void *self)
{
    struct ppo *p = self;
    struct ppo_updates *u = &p->updates;
    double norm;
    if (p->learner[0].frozen || !p->ptx) return;
    u->ppo_norm += gradient_norm(p->policy);
    double loss = ptx_add(p->ptx, p->policy, &norm);
    if (isnan(loss)) return;                    /* an epoch's last row may hold one end mark only */
    u->ptx_loss += loss;
    u->ptx_norm += norm;
    u->mixed++;
}

/* ---- what survives a restart ---- */

void ppo_save(const struct ppo *p, struct ckpt_meta *meta)
{
    kv_set_f64(&meta->trns, "kl.coef", p->kl.beta);
    kv_set_f64(&meta->trns, "reward.count", p->seen.count);
    kv_set_f64(&meta->trns, "reward.mean", p->seen.mean);
    kv_set_f64(&meta->trns, "reward.squares", p->seen.squares);
    kv_set_u64(&meta->dcur, "episodes", p->cursor);
    if (p->ptx) kv_set_u64(&meta->dcur, "ptx.rows", p->ptx->cursor);
}

int ppo_load(struct ppo *p, const struct ckpt_meta *meta, struct error *error)
{
    const struct { const char *key; double *value; } number[] = {
        {"kl.coef", &p->kl.beta}, {"reward.count", &p->seen.count},
        {"reward.mean", &p->seen.mean}, {"reward.squares", &p->seen.squares}};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        if (kv_get_f64(&meta->trns, number[i].key, number[i].value) != 1)
            return fail(error, EXIT_DATA, "TRNS: the key %s is missing or not a number", number[i].key);
    if (kv_get_u64(&meta->dcur, "episodes", &p->cursor) != 1)
        return fail(error, EXIT_DATA, "DCUR: the key episodes is missing or not a count");
    if (p->ptx && kv_get_u64(&meta->dcur, "ptx.rows", &p->ptx->cursor) != 1)
        return fail(error, EXIT_DATA, "DCUR: the key ptx.rows is missing or not a count");
    return 0;
}
