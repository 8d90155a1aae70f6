/* ppo_metrics.c - what an iteration records; every key is explained in docs/rlhf.md.  Numbers about answers come from the
 * rollouts, before any update; numbers about the updates are means over all tokens they visited.  What was not measured
 * (the ratio while the policy is frozen) is null, so keys stay the same. */
#include "rlhf/ppo.h"

#include <math.h>

static void record_rewards(const struct ppo *p, struct record *r, double kl)
{
    const struct rollouts *x = &p->rollouts;
    int E = x->episodes;
    double low = INFINITY, high = -INFINITY, raw = mean_of(x->raw_reward, E), reward = mean_of(x->reward, E);
    for (int e = 0; e < E; e++) {
        low = fmin(low, (double)x->raw_reward[e]);
        high = fmax(high, (double)x->raw_reward[e]);
    }
    record_real(r, "reward", raw);
    record_real(r, "reward_std", sqrt(squares_of(x->raw_reward, E, raw) / E));
    record_real(r, "reward_min", low);
    record_real(r, "reward_max", high);
    record_real(r, "reward_shaped", reward);
    record_real(r, "reward_clipped", (double)p->rewards_clipped / E);
    record_real(r, "kl", kl);
    record_real(r, "kl_token", kl * E / x->first[E]);
    record_real(r, "kl_coef", p->kl.beta);
    record_real(r, "objective", reward - p->kl.beta * kl);
}

static void record_answers(struct ppo *p, struct record *r)
{
    struct rollouts *x = &p->rollouts;
    int E = x->episodes, n = x->first[E], ended = 0;
    for (int e = 0; e < E; e++) ended += x->ended[e];
    record_count(r, "episodes", E);
    record_count(r, "answer_tokens", n);
    record_real(r, "length", (double)n / E);
    record_real(r, "eos_rate", (double)ended / E);
    record_real(r, "entropy", mean_of(x->entropy, n));
    record_real(r, "neg_logprob", -mean_of(x->old_logprobs, n));
    record_real(r, "distinct_2", rollout_distinct_2(x));
    record_real(r, "identical", rollout_identical(x));
    record_real(r, "value", mean_of(x->values, n));
    record_real(r, "explained_variance", explained_variance(x->values, x->returns, n));
    record_real(r, "advantage", p->advantage_mean);
}

static void record_updates(const struct ppo *p, struct record *r)
{
    const struct ppo_sums *s = &p->sums;
    const struct ppo_updates *u = &p->updates;
    double policy = s->policy_tokens > 0 ? s->policy_tokens : NAN, value = s->value_tokens > 0 ? s->value_tokens : NAN;
    record_real(r, "policy_loss", s->policy_loss / policy);
    record_real(r, "approx_kl_k1", s->k1 / policy);
    record_real(r, "approx_kl_k3", s->k3 / policy);
    record_real(r, "clip_fraction", s->clipped / policy);
    record_real(r, "ratio_mean", s->ratio / policy);
    record_real(r, "ratio_max", s->policy_tokens > 0 ? s->ratio_max : NAN);
    record_real(r, "value_loss", s->value_loss / value);
    record_real(r, "value_clip_fraction", s->value_clipped / value);
    record_count(r, "early_stops", u->early_stops);
    if (!p->ptx) return;
    double updates = s->policy_tokens > 0 ? (double)u->begun : NAN, mixed = u->mixed > 0 ? (double)u->mixed : NAN;
    record_real(r, "grad_norm_ppo", u->ppo_norm / updates);
    record_real(r, "grad_norm_ptx", u->ptx_norm / mixed);
    record_real(r, "ptx_loss", u->ptx_loss / mixed);
}

void ppo_end(void *self, int64_t step, struct record *r)
{
    struct ppo *p = self;
    double kl = ppo_kl(&p->rollouts);
    (void)step;
    record_rewards(p, r, kl);
    record_answers(p, r);
    record_updates(p, r);
    record_real(r, "seconds_sample", p->seconds_sample);
    record_real(r, "seconds_score", p->seconds_score);
    record_real(r, "seconds_reward", p->seconds_reward);
    record_real(r, "seconds_update",
                record_get(r, "seconds") - p->seconds_sample - p->seconds_score - p->seconds_reward);
    kl_controller_update(&p->kl, kl, p->rollouts.episodes);
    p->seen = p->seen_next;
    p->cursor += (uint64_t)p->rollouts.episodes;
}
