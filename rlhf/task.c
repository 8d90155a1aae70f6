/* task.c - what the training loop calls: ppo.c's callbacks, and what a program adds to them: the log, rollouts.jsonl,
 * evaluation on held-out prompts, checkpoints. */
#include "rlhf/rlhf.h"

static int begin(void *self, int64_t step, struct error *error)
{
    struct rlhf *p = self;
    bool first = !p->ppo.on_policy;
    int updates = ppo_begin(&p->ppo, step, error);
    if (updates >= 0 && first)
        run_log(p->run, "first batch: %d answers of %d tokens: %s%s, to the last bit", p->ppo.rollouts.episodes,
                p->ppo.rollouts.first[p->ppo.rollouts.episodes],
                p->ppo.exact ? "sampled and trained log-probabilities are equal, ratio 1" : "ratio 1 in training",
                step == 0 ? ", and KL to the reference 0" : "");
    return updates;
}

/* rollouts.jsonl: the first few answers of this iteration. */
static void write_rollouts(struct rlhf *p, int64_t steps)
{
    const struct rollouts *r = &p->ppo.rollouts;
    struct bytes out = {0};
    for (int e = 0; e < r->episodes && e < p->rollouts; e++) {
        bytes_text(&out, "{\"step\":%lld,", (long long)steps);
        answer_json(&out, r, e, p->policy_parent.tokenizer);
        bytes_text(&out, ",\"reward\":%.9g,\"reward_shaped\":%.9g,\"kl\":%.9g,\"tokens\":%d}\n",
                   (double)r->raw_reward[e], (double)r->reward[e], ppo_episode_kl(r, e), rollout_answer_length(r, e));
    }
    if (out.size) run_append(p->run, "rollouts.jsonl", out.data, out.size);
    bytes_free(&out);
}

static void end(void *self, int64_t step, struct record *r)
{
    struct rlhf *p = self;
    ppo_end(&p->ppo, step, r);
    if (p->train.sample_every > 0 && (step + 1) % p->train.sample_every == 0) write_rollouts(p, step + 1);
}

/* The held-out prompts, always with the same draws, in the place of the iteration's rollouts, which are done with. */
static int evaluate(void *self, struct record *record, struct error *error)
{
    struct rlhf *p = self;
    struct rollouts *r = &p->ppo.rollouts;
    int episodes = r->episodes, ended = 0;
    double reward = 0;
    r->episodes = int_min(episodes, (int)p->held_out.count);
    if (ppo_answer(&p->ppo, &p->held_out, RNG_EVAL, 0, 0, error) != 0) return -1;
    for (int e = 0; e < r->episodes; e++) {
        reward += (double)r->raw_reward[e] / r->episodes;
        ended += r->ended[e];
    }
    record_real(record, "val_reward", reward);
    record_real(record, "val_kl", ppo_kl(r));
    record_real(record, "val_length", (double)r->first[r->episodes] / r->episodes);
    record_real(record, "val_eos_rate", (double)ended / r->episodes);
    record_real(record, "val_distinct_2", rollout_distinct_2(r));
    r->episodes = episodes;
    return 0;
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct rlhf *p = self;
    program_describe(meta, &p->policy_config, p->policy_parent.tokenizer, &p->chat, &p->line);
    ppo_save(&p->ppo, meta);
    kv_set_u64(&meta->dcur, "prompts", p->prompts.count);
    kv_set_u64(&meta->dcur, "prompts.crc", prompts_identity(&p->prompts));
    if (p->order) kv_set_u64(&meta->dcur, "ptx.identity", order_identity(p->order));
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    static const char *const parents[] = {"--policy", "--reward"};          /* they are not saved again */
    struct rlhf *p = self;
    uint64_t prompts = 0, crc = 0, identity = 0;
    uint32_t found = prompts_identity(&p->prompts);
    if (parents_unchanged(&meta->line, &p->line, parents, 2, error) != 0) return -1;
    kv_get_u64(&meta->dcur, "prompts", &prompts);
    kv_get_u64(&meta->dcur, "prompts.crc", &crc);
    kv_get_u64(&meta->dcur, "ptx.identity", &identity);
    if (prompts != p->prompts.count || crc != found)
        return fail(error, EXIT_MISMATCH,
                    "the run was started on other prompts: %llu (CRC %08llx), now %u (CRC %08x); use the same files "
                    "and the build it was started with, or another --out", (unsigned long long)prompts,
                    (unsigned long long)crc, p->prompts.count, found);
    if (identity != (p->order ? order_identity(p->order) : 0))
        return fail(error, EXIT_MISMATCH,
                    "--ptx-data holds other text than the run was started with: use the same files, or another --out");
    return ppo_load(&p->ppo, meta, error);
}

/* Operations of one trained position: all forwards and backwards of an iteration / positions its updates visit. */
static double flops(const struct rlhf *p, double length)
{
    double policy = config_train_flops(&p->policy_config, length),
           critic = config_train_flops(&p->critic_config, length);
    double reward = p->reward_path ? config_train_flops(&p->reward_config, length) : 0;
    return policy + critic + (3 * policy + critic + reward) / 3 / (double)p->ppo.o.epochs;
}

void rlhf_task(struct task *task, struct rlhf *p)
{
    const struct ppo_options *o = &p->ppo.o;
    double length = (double)p->prompts.ids.count / p->prompts.count + (double)o->max_new;
    *task = (struct task){
        .program = "rlhf", .stage = STAGE_RLHF, .self = p, .learner = p->ppo.learner, .n_learners = 2,
        .begin = begin, .prepare = ppo_prepare, .batch = ppo_batch, .head = ppo_head, .mix = ppo_mix,
        .sums = (double *)&p->ppo.sums, .n_sums = PPO_SUMS, .n_maxima = 1, .end = end,
        .evaluate = p->held_out.count > 0 ? evaluate : NULL, .save = save, .load = load,
        .main_metric = "reward", .shown = {"reward", "kl", "length", "entropy"},
        .tokens_per_step = (double)(o->episodes * o->epochs) * length, .flops_per_token = flops(p, length)};
}
