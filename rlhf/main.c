/* main.c - reinforcement learning from a reward: the policy answers prompts, the reward tells how well, PPO makes good
 * answers likelier without straying far from the policy it started from.
 *
 * Four models: the policy and its frozen copy, the reference; the reward model, and the critic, which begins as its
 * copy.  The algorithm is ppo.c and knows no files. */
#include "rlhf/rlhf.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LEAST_ITERATIONS = 48, LONGEST_WARMUP = 50, OWN_ROWS = 48 };

/* ---- options: defaults are those of the literature, scaled to small models (sources in docs/rlhf.md) ---- */

static int copy_rows(struct option *row, const struct option *rows, size_t bytes)
{
    memcpy(row, rows, bytes);
    return (int)(bytes / sizeof *rows);
}

static int data_rows(struct option *row, struct rlhf *p)
{
    struct ppo_options *o = &p->ppo.o;
    const struct option rows[] = {
        {"Models and prompts", "policy", OPTION_TEXT, &p->policy_path, NULL,
         .flags = OPTION_REQUIRED | OPTION_MAY_CHANGE,
         .help = "Checkpoint or run folder of sft or rlhf, or a Hugging Face folder or GGUF file: where the policy starts, "
                 "and the fixed reference."},
        {NULL, "reward", OPTION_TEXT, &p->reward_path, NULL, .flags = OPTION_COMMON | OPTION_MAY_CHANGE,
         .help = "Reward model: a checkpoint or run folder of rm, or a Hugging Face folder."},
        {NULL, "prompts", OPTION_LIST, &p->prompt_paths, NULL, .flags = OPTION_REQUIRED | OPTION_MAY_CHANGE,
         .help = "What is asked: JSON rows of strings, {prompt}, {messages} ..., or lines of text; also .gz; "
                 "files, folders, globs."},
        {NULL, "skip-bad-rows", OPTION_TEXT, &p->skip_bad_rows, "0", .flags = OPTION_MAY_CHANGE,
         .help = SKIP_BAD_ROWS_HELP},
        {NULL, "template", OPTION_CHOICE, &p->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .help = "Chat template; auto: the policy's own. Any other is refused."},
        {NULL, "max-prompt-tokens", OPTION_INT, &p->max_prompt, "0", 0, 1e9,
         .help = "Longer prompts are dropped; 0: what the context leaves beside --max-new-tokens."},
        {NULL, "validation", OPTION_REAL, &p->validation, "0.05", 0, 0.9,
         .help = "Share of the prompts held out and answered every --eval-every iterations, --episodes at most."},
        {NULL, "dry-run", OPTION_FLAG, &p->train.dry_run, NULL, .flags = OPTION_COMMON | OPTION_NOT_SAVED,
         .help = "Show the first prompts as tokens and what was read and dropped, then exit."},

        {"Rewards", "reward-cmd", OPTION_TEXT, &p->reward_command, NULL,


         .flags = OPTION_COMMON,
         .help = "Program that gives rewards, instead of or added to --reward: one JSON object per line in, one number "
                 "per line out."},
        {NULL, "reward-cmd-coef", OPTION_REAL, &p->reward_coef, "1", -1e6, 1e6,
         .help = "Weight of the program's rewards."},
        {NULL, "reward-timeout", OPTION_SECONDS, &p->reward_timeout, "60", 0.01, 1e6, .flags = OPTION_MAY_CHANGE,
         .help = "How long the program may stay silent."},
        {NULL, "reward-norm", OPTION_CHOICE, &p->norm, "none", .choices = REWARD_NORMS,
         .help = "scale: divide by the standard deviation of all rewards so far; whiten: subtract their mean too."},
        {NULL, "reward-clip", OPTION_REAL, &o->shaping.clip, "0", 0, 1e9,
         .help = "Clip rewards to this magnitude; 0: no limit."},
        {NULL, "missing-eos-penalty", OPTION_REAL, &o->shaping.missing_end_penalty, "1", 0, 1e9,
         .help = "Subtracted from the reward of an answer without the template's end token."},
    };
    return copy_rows(row, rows, sizeof rows);
}

static int ppo_rows(struct option *row, struct rlhf *p)
{
    struct ppo_options *o = &p->ppo.o;
    const struct option rows[] = {
        {"Divergence from the reference", "kl-coef", OPTION_REAL, &p->kl_coef, "auto", 0, 1e6,
         .flags = OPTION_COMMON | OPTION_AUTO,
         .help = "Weight of the KL penalty (its first value with --kl-target); auto: 0.02."},
        {NULL, "kl-target", OPTION_REAL, &p->kl_target, "0", 0, 1e6,
         .help = "Adapt the weight to reach this KL, in nats per answer; 0: keep it fixed."},
        {NULL, "kl-horizon", OPTION_REAL, &p->kl_horizon, "10000", 1, 1e12,
         .help = "Episodes over which the weight adapts; more than --episodes."},

        {"Sampling", "episodes", OPTION_INT, &o->episodes, "128", 1, 1e6, .flags = OPTION_COMMON,
         .help = "Answers per iteration."},
        {NULL, "max-new-tokens", OPTION_INT, &o->max_new, "0", 0, 1e6,
         .flags = OPTION_COMMON, .help = "Longest answer; 0: 128, or half the context where that is less."},
        {NULL, "temperature", OPTION_REAL, &o->temperature, "1", 0.01, 100,
         .help = "Temperature of sampling and of every log-probability."},
        {NULL, "slots", OPTION_INT, &p->slots, "64", 1, 1e5, .flags = OPTION_MAY_CHANGE,
         .help = "Answers sampled at once: more takes more memory. Results do not depend on it."},

        {"PPO", "minibatches", OPTION_INT, &o->minibatches, "4", 1, 1e6,
         .help = "Updates per pass over an iteration's answers."},
        {NULL, "ppo-epochs", OPTION_INT, &o->epochs, "1", 1, 1000, .help = "Passes over an iteration's answers."},
        {NULL, "clip-range", OPTION_REAL, &o->clip, "0.2", 1e-6, 1e6,
         .help = "Clip the probability ratio to 1 - X .. 1 + X."},
        {NULL, "dual-clip", OPTION_REAL, &o->dual_clip, "0", 0, 1e6,
         .help = "The most a token with a negative advantage may cost, in advantages (3 is usual); 0: no limit."},
        {NULL, "value-clip", OPTION_REAL, &o->value_clip, "0.2", 0, 1e6,
         .help = "How far a value may move per iteration, in units of reward; 0: no limit."},
        {NULL, "gamma", OPTION_REAL, &o->gamma, "1", 0, 1, .help = "Discount factor of later rewards."},
        {NULL, "lambda", OPTION_REAL, &o->lambda, "0.95", 0, 1, .help = "Lambda of generalised advantage estimation."},
        {NULL, "entropy-coef", OPTION_REAL, &o->entropy_coef, "0", 0, 1e3,
         .help = "Weight of a bonus for the policy's entropy."},
        {NULL, "target-kl", OPTION_REAL, &o->target_kl, "0.075", 0, 1e3,
         .help = "Skip an iteration's other updates once new and old policy are this far apart, in nats per token; "
                 "0: never."},
        {NULL, "critic-lr", OPTION_REAL, &p->critic_lr, "0", 0, 10,
         .help = "Peak learning rate of the critic; 0: five times --lr."},
        {NULL, "critic-warmup", OPTION_INT, &o->critic_warmup, "auto", 0, 1e9, .flags = OPTION_AUTO,
         .help = "Iterations at the start in which only the critic learns; auto: a tenth of the run, at most 50."},
        {NULL, "ema", OPTION_REAL, &p->ema, "0", 0, 0.999999,
         .help = "Decay of averaged weights of the policy, saved beside it (0.992 is usual); 0: none."},

        {"Pretraining mix", "ptx-data", OPTION_LIST, &p->ptx_paths, NULL, .flags = OPTION_MAY_CHANGE,
         .help = "Raw text whose cross-entropy joins each update of the policy."},
        {NULL, "ptx-allow-invalid-utf8", OPTION_FLAG, &p->ptx_allow_invalid, .flags = OPTION_MAY_CHANGE,
         .help = "Read text of which more than one byte in a hundred is not UTF-8; each becomes U+FFFD."},
        {NULL, "ptx-coef", OPTION_REAL, &p->ptx_coef, "1", 0, 1e6, .help = "Weight of that text; 0: as if not given."},
        {NULL, "ptx-tokens", OPTION_INT, &p->ptx_tokens, "4096", 1, 1e9, .help = "Tokens of that text per update."},
    };
    return copy_rows(row, rows, sizeof rows);
}

/* Shared rows that mean something of their own here, or (NULL) nothing: then the heading goes to the row after. */
static int change_rows(struct option *row, int n)
{
    static const char *const change[][2] = {
        {"tokens", NULL}, {"batch-tokens", NULL}, {"steps", "Iterations; 0: from --epochs."},
        {"micro-tokens", "Most tokens in one forward and backward: fewer take less memory."},
        {"epochs", "Passes over the prompts, where --steps is not given; auto: one, or as many as make 48 "
                   "iterations."}};
    for (size_t c = 0; c < sizeof change / sizeof *change; c++) {
        int i = 0;
        while (strcmp(row[i].name, change[c][0]) != 0) i++;
        row[i].help = change[c][1];
        if (row[i].help) continue;
        if (row[i].group && !row[i + 1].group) row[i + 1].group = row[i].group;
        memmove(row + i, row + i + 1, (size_t)(--n - i) * sizeof *row);
    }
    return n;
}

static void option_rows(struct option *row, struct rlhf *p)
{
    static const struct train_defaults defaults = {
        .lr = "auto", .schedule = "linear", .micro_tokens = "4096", .beta2 = "0.95", .eps = "1e-5", .weight_decay = "0",
        .epochs = "auto", .eval_every = "20", .save_every = "20", .sample_every = "1"};
    int n = data_rows(row, p);
    n += ppo_rows(row + n, p);
    assert(n <= OWN_ROWS);
    n += train_option_rows(row + n, &p->train, &defaults);
    n = change_rows(row, n);
    row[n++] = (struct option){NULL, "rollouts", OPTION_INT, &p->rollouts, "4", 0, 1e6, .flags = OPTION_MAY_CHANGE,
                               .help = "Answers written to rollouts.jsonl every --sample-every iterations."};
    row[n] = (struct option){0};
}

/* ---- what the training loop calls, beside ppo.c's callbacks ---- */

static int begin(void *self, int64_t step, struct error *error)
{
    struct rlhf *p = self;
    bool first = !p->ppo.on_policy, exact = p->ppo.exact;
    int updates = ppo_begin(&p->ppo, step, error);
    if (updates >= 0 && exact && !p->ppo.exact)
        run_log(p->run, "warning: %s; old log-probabilities come from the training forward", p->ppo.inexact.text);
    if (updates >= 0 && first)
        run_log(p->run, "first batch: %d answers of %d tokens: %s%s, to the last bit", p->ppo.rollouts.episodes,
                p->ppo.rollouts.first[p->ppo.rollouts.episodes],
                p->ppo.exact ? "sampled and trained log-probabilities are equal, ratio 1" :
                               "old log-probabilities come from the training forward, ratio 1",
                step == 0 ? ", and KL to the reference 0" : "");
    return updates;
}

/* Prompt, answer and reward of episode e, for TensorBoard. */
static void show_rollout(struct rlhf *p, int64_t steps, int e)
{
    const struct rollouts *r = &p->ppo.rollouts;
    const struct tokenizer *t = p->policy_parent.tokenizer;
    struct bytes text = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, t, r->tokens + (size_t)e * (size_t)r->length, (size_t)r->n_prompt[e]);
    tokenizer_stream(&text, &held, t, rollout_answer(r, e), (size_t)rollout_answer_length(r, e));
    tokenizer_stream(&text, &held, t, NULL, 0);
    bytes_text(&text, "\nreward %.4g, KL %.4g", (double)r->raw_reward[e], ppo_episode_kl(r, e));
    run_event_text(p->run, steps, "rollout", e + 1, text.data, text.size);
    bytes_free(&text);
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
        show_rollout(p, steps, e);
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
    program_describe(meta, &p->policy_config, p->policy_parent.tokenizer, &p->chat, &p->line,
                     p->policy_parent.meta);
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

/* ---- the run ---- */

/* Replaces every "auto"; returns the number of iterations. */
static int64_t fill_defaults(struct rlhf *p, const struct option *table)
{
    struct ppo_options *o = &p->ppo.o;
    double pass = (double)p->prompts.count / (double)o->episodes;
    defaults_fill(&p->train, table, p->run, STAGE_RLHF, p->policy_config.channels, 0, 0);
    struct train_options planned = p->train;
    if (planned.epochs < 0) planned.epochs = fmax(1, LEAST_ITERATIONS / pass);
    int64_t steps = program_steps(&planned, 1, pass);
    if (p->kl_coef < 0) p->kl_coef = 0.02;
    if (o->critic_warmup < 0)
        o->critic_warmup = (int64_t)fmin(fmin(ceil(0.1 * (double)steps), (double)steps - 1), LONGEST_WARMUP);
    return steps;
}

static void set_schedules(struct rlhf *p, int64_t steps)
{
    struct learner *policy = &p->ppo.learner[0], *critic = &p->ppo.learner[1];
    policy->schedule = critic->schedule = program_schedule(&p->train, steps, 0);
    policy->ema_decay = p->ema;
    critic->schedule.lr = p->critic_lr > 0 ? p->critic_lr : 5 * p->train.lr;
    critic->schedule.min_lr = p->train.min_lr < 0 ? critic->schedule.lr / 10
        : p->train.lr > 0 ? critic->schedule.lr * (p->train.min_lr / p->train.lr) : p->train.min_lr;
}

static void say(void *self)
{
    struct rlhf *p = self;
    run_log(p->run, "prompts:\n%.*s", (int)p->report.size - 1, p->report.data);
    long long warmup = p->ppo.o.critic_warmup, steps = p->ppo.learner[0].schedule.total;
    if (warmup >= steps)
        run_log(p->run, "warning: the policy learns nothing: --critic-warmup %lld covers all %lld iterations", warmup,
                steps);
    else if (warmup == 1) run_log(p->run, "the first of %lld iterations trains only the critic", steps);
    else if (warmup > 0) run_log(p->run, "the first %lld of %lld iterations train only the critic", warmup, steps);
}

static int learn(struct rlhf *p, const struct option *table, int64_t steps)
{
    struct train_options options = p->train;
    const struct ppo_options *o = &p->ppo.o;
    double length = (double)p->prompts.ids.count / p->prompts.count + (double)o->max_new;
    struct task task = {
        .program = "rlhf", .stage = STAGE_RLHF, .self = p, .learner = p->ppo.learner, .n_learners = 2,
        .build = rlhf_build, .say = say, .fill = rlhf_load_models,
        .begin = begin, .prepare = ppo_prepare, .batch = ppo_batch, .head = ppo_head, .mix = ppo_mix,
        .sums = (double *)&p->ppo.sums, .n_sums = PPO_SUMS, .n_maxima = 1, .end = end,
        .evaluate = p->held_out.count > 0 ? evaluate : NULL, .save = save, .load = load,
        .main_metric = "reward", .shown = {"reward", "kl", "length", "entropy"},
        .tokens_per_step = (double)(o->episodes * o->epochs) * length, .flops_per_token = flops(p, length)};
    options.steps = steps;
    set_schedules(p, options.steps);
    int code = program_run(&task, p->run, &options, table, &p->memory);
    if (code == EXIT_DONE && p->run) program_next(p->run, "talk to it", "chat", "--model", NULL);
    return code;
}

int main(int argc, char **argv)
{
    struct rlhf p = {.train.no_stages = true};
    struct option table[OWN_ROWS + TRAIN_ROWS + 2];         /* a further row, and the end */
    option_rows(table, &p);
    p.run =
        program_start("rlhf", table, &p.train, argc, argv, "rlhf --policy RUN --reward RUN --prompts FILES --out RUN",
                      "Trains a policy by PPO to answer prompts so that a reward model or program rates it higher.");
    if (!p.run && !p.train.plan && !p.train.dry_run)
        quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    rlhf_open_parents(&p, table);
    rlhf_read_prompts(&p);
    int code = EXIT_DONE;
    if (p.train.dry_run) {
        rlhf_show_prompts(&p);
    } else {
        int64_t steps = fill_defaults(&p, table);
        rlhf_open_text(&p);
        rlhf_start_ppo(&p);
        code = learn(&p, table, steps);
    }
    rlhf_close(&p);
    return code;
}
