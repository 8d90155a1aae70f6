/* main.c - reinforcement learning from a reward: the policy answers prompts, the reward says how well, PPO makes good answers
 * likelier without straying far from the policy it began as.
 *
 * Four models: the policy and its frozen copy, the reference; the reward model, and the critic, which begins as its copy.  The
 * algorithm is ppo.c and knows no files; here are options, checkpoints and what is written down. */
#include "common/device.h"
#include "common/program.h"
#include "common/show.h"
#include "rlhf/ppo.h"
#include "rlhf/reward_source.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rlhf {
    struct train_options train;
    const char *policy_path, *reward_path, *reward_command;
    struct option_list prompt_paths, ptx_paths;
    int template, norm;
    int64_t max_prompt, slots, rollouts, ptx_tokens;
    int longest;                             /* tokens of the longest episode */
    double validation, kl_coef, kl_target, kl_horizon, critic_lr, ema, ptx_coef, reward_coef, reward_timeout;

    struct parent policy_parent, reward_parent;
    struct kv line;                          /* section LINE: both parents */
    struct chat chat;
    int stop[2];
    struct config policy_config, reward_config, critic_config;
    struct model policy, reference, reward, critic;
    struct prompts prompts, held_out;
    struct shards *shards;
    struct ptx ptx;
    struct reward_source source;
    struct ppo ppo;
    struct memory memory;
    struct run *run;
};

enum { OWN_ROWS = 48, SHOWN = 4 };

/* ---- options ---- */

static int own_rows(struct option *row, struct rlhf *p)
{
    struct ppo_options *o = &p->ppo.o;
    const double most = 1e9;
    const struct option own[] = {
        {"Models and prompts", "policy", OPTION_TEXT, &p->policy_path, NULL, .flags = OPTION_REQUIRED | OPTION_MAY_CHANGE,
         .help = "Checkpoint or run folder the policy begins as, and the reference stays: of sft or rlhf."},
        {NULL, "reward", OPTION_TEXT, &p->reward_path, NULL, .flags = OPTION_MAY_CHANGE,
         .help = "Reward model: a checkpoint or run folder of rm."},
        {NULL, "prompts", OPTION_LIST, &p->prompt_paths, NULL, .flags = OPTION_REQUIRED,
         .help = "What is asked: JSON lines or arrays of strings, {prompt}, {messages} ..., or lines of text; also .gz, folders, globs."},
        {NULL, "template", OPTION_CHOICE, &p->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .help = "Chat template; auto: the policy's own. Another one is refused."},
        {NULL, "max-prompt-tokens", OPTION_INT, &p->max_prompt, "0", 0, most,
         .help = "Longer prompts are dropped; 0: what the context leaves beside --max-new-tokens."},
        {NULL, "validation", OPTION_REAL, &p->validation, "0.05", 0, 0.9,
         .help = "Share of the prompts held out, and answered every --eval-every iterations (at most --episodes of them)."},
        {NULL, "dry-run", OPTION_FLAG, &p->train.dry_run, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Show the first prompts as tokens and what was read and dropped, and end."},

        {"Rewards", "reward-cmd", OPTION_TEXT, &p->reward_command, NULL,
         .help = "Program that gives rewards, instead of or added to --reward: one JSON object a line in, one number a line out."},
        {NULL, "reward-cmd-coef", OPTION_REAL, &p->reward_coef, "1", -1e6, 1e6, .help = "Weight of the program's numbers."},
        {NULL, "reward-timeout", OPTION_SECONDS, &p->reward_timeout, "60", 0.01, 1e6, .flags = OPTION_MAY_CHANGE,
         .help = "How long the program may stay silent."},
        {NULL, "reward-norm", OPTION_CHOICE, &p->norm, "none", .choices = REWARD_NORMS,
         .help = "By mean and deviation of all rewards so far. scale: divide; whiten: also subtract the mean."},
        {NULL, "reward-clip", OPTION_REAL, &o->shaping.clip, "0", 0, 1e9, .help = "Largest size of a reward; 0: any."},
        {NULL, "missing-eos-penalty", OPTION_REAL, &o->shaping.missing_end_penalty, "1", 0, 1e9,
         .help = "Subtracted from the reward of an answer that does not end by itself."},

        {"Divergence from the reference", "kl-coef", OPTION_REAL, &p->kl_coef, "0.05", 0, 1e6, .help = "Weight of the divergence; where it starts with --kl-target."},
        {NULL, "kl-target", OPTION_REAL, &p->kl_target, "0", 0, 1e6, .help = "Nats an answer that the weight is adapted to; 0: the weight is fixed."},
        {NULL, "kl-horizon", OPTION_REAL, &p->kl_horizon, "10000", 1, 1e12, .help = "Episodes over which it adapts."},

        {"Sampling", "episodes", OPTION_INT, &o->episodes, "128", 1, 1e6, .help = "Answers an iteration."},
        {NULL, "max-new-tokens", OPTION_INT, &o->max_new, "128", 1, 1e6, .help = "Longest answer."},
        {NULL, "temperature", OPTION_REAL, &o->temperature, "1", 0.01, 100, .help = "Of sampling and of every log-probability."},
        {NULL, "slots", OPTION_INT, &p->slots, "64", 1, 1e5, .flags = OPTION_MAY_CHANGE, .help = "Answers sampled side by side: more takes more memory. Results do not depend on it."},

        {"PPO", "minibatches", OPTION_INT, &o->minibatches, "4", 1, 1e6, .help = "Parts of an iteration's answers, each one update."},
        {NULL, "ppo-epochs", OPTION_INT, &o->epochs, "1", 1, 1000, .help = "Passes over an iteration's answers."},
        {NULL, "clip-range", OPTION_REAL, &o->clip, "0.2", 1e-6, 1e6, .help = "The ratio counts from 1 - this to 1 + this."},
        {NULL, "dual-clip", OPTION_REAL, &o->dual_clip, "0", 0, 1e6, .help = "Most a token with a negative advantage may cost, in advantages (3 is usual); 0: no limit."},
        {NULL, "value-clip", OPTION_REAL, &o->value_clip, "0.2", 0, 1e6, .help = "A value may move this far an iteration, in units of reward; 0: any."},
        {NULL, "gamma", OPTION_REAL, &o->gamma, "1", 0, 1, .help = "Discount of later rewards."},
        {NULL, "lambda", OPTION_REAL, &o->lambda, "0.95", 0, 1, .help = "Of the generalised advantage estimate."},
        {NULL, "entropy-coef", OPTION_REAL, &o->entropy_coef, "0", 0, 1e3, .help = "Bonus for the entropy of the policy."},
        {NULL, "target-kl", OPTION_REAL, &o->target_kl, "0.075", 0, 1e3,
         .help = "Skip the rest of an iteration's updates once new and old policy are this far apart, in nats a token; 0: never."},
        {NULL, "critic-lr", OPTION_REAL, &p->critic_lr, "0", 0, 10, .help = "Highest learning rate of the critic; 0: five times --lr."},
        {NULL, "critic-warmup", OPTION_INT, &o->critic_warmup, "5", 0, 1e9, .help = "First iterations, in which only the critic learns."},
        {NULL, "ema", OPTION_REAL, &p->ema, "0", 0, 0.999999, .help = "Decay of averaged weights of the policy, saved beside it (0.992 is usual); 0: none."},

        {"Pretraining mix", "ptx-data", OPTION_LIST, &p->ptx_paths, NULL, .help = "Raw text whose cross-entropy joins each update of the policy."},
        {NULL, "ptx-coef", OPTION_REAL, &p->ptx_coef, "1", 0, 1e6, .help = "Weight of that text; 0: as without it."},
        {NULL, "ptx-tokens", OPTION_INT, &p->ptx_tokens, "4096", 1, 1e9, .help = "Tokens of it an update."},
    };
    static_assert(sizeof own / sizeof *own <= OWN_ROWS, "OWN_ROWS is too small");
    memcpy(row, own, sizeof own);
    return sizeof own / sizeof *own;
}

/* Removes a shared row that means nothing here; its heading goes to the row after it. */
static int drop_row(struct option *row, int n, const char *name)
{
    int i = 0;
    while (strcmp(row[i].name, name) != 0) i++;
    if (row[i].group && i + 1 < n && !row[i + 1].group) row[i + 1].group = row[i].group;
    memmove(row + i, row + i + 1, (size_t)(n - i - 1) * sizeof *row);
    return n - 1;
}

static void option_rows(struct option *row, struct rlhf *p)
{
    static const struct train_defaults defaults = {
        .lr = "2e-5", .min_lr = "-1", .warmup = "-1", .schedule = "linear", .batch_tokens = "1", .micro_tokens = "4096", .beta2 = "0.95",
        .eps = "1e-5", .weight_decay = "0", .epochs = "1", .eval_every = "20", .save_every = "20", .sample_every = "1"};
    static const char *const without[] = {"tokens", "batch-tokens"};
    int n = own_rows(row, p);
    n += train_option_rows(row + n, &p->train, &defaults);
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) n = drop_row(row, n, without[i]);
    row[n++] = (struct option){NULL, "rollouts", OPTION_INT, &p->rollouts, "4", 0, 1e6, .flags = OPTION_MAY_CHANGE,
                               .help = "Answers written to rollouts.jsonl every --sample-every iterations."};
    row[n] = (struct option){0};
}

/* ---- parents ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static int bind_template(struct rlhf *p, struct error *error)
{
    const struct parent *a = &p->policy_parent;
    if (chat_read(&p->chat, &a->meta->chat, a->tokenizer, error) != 0) return fail_in(error, "%s", ckpt_path(a->ckpt));
    if (p->template && (int)p->chat.template != p->template)
        return fail(error, EXIT_MISMATCH, "--template %s: the policy %s was fine-tuned with the template %s",
                    chat_template_name((enum chat_template)p->template), ckpt_path(a->ckpt), chat_template_name(p->chat.template));
    p->stop[0] = p->chat.end;
    p->stop[1] = p->chat.bos;
    p->ppo.o.stop = p->stop;
    p->ppo.o.n_stop = p->chat.bos >= 0 && p->chat.bos != p->chat.end ? 2 : 1;
    p->ppo.o.allowed = tokenizer_vocab(a->tokenizer);
    return 0;
}

/* The reward model must read what the policy writes: the same ids, laid out by the same template. */
static int open_reward(struct rlhf *p, struct error *error)
{
    struct parent *a = &p->policy_parent, *b = &p->reward_parent;
    struct chat chat;
    if (parent_open(b, p->reward_path, 1u << STAGE_RM, "reward", error) != 0) return -1;
    if (parent_same_tokenizer(a, b, error) != 0) return -1;
    if (chat_read(&chat, &b->meta->chat, b->tokenizer, error) != 0) return fail_in(error, "%s", ckpt_path(b->ckpt));
    if (chat.template != p->chat.template)
        return fail(error, EXIT_MISMATCH, "the policy %s speaks in the chat template %s, the reward model %s in %s: train the reward "
                    "model from this policy's sft run", ckpt_path(a->ckpt), chat_template_name(p->chat.template), ckpt_path(b->ckpt),
                    chat_template_name(chat.template));
    if (b->config.head != HEAD_SCALAR) return fail(error, EXIT_MISMATCH, "%s has no scalar head", ckpt_path(b->ckpt));
    lineage_add(&p->line, b->meta, "reward", last_part(p->reward_path));
    p->reward_config = p->critic_config = b->config;
    p->critic_config.score_mean = 0;
    p->critic_config.score_std = 1;
    return 0;
}

static void open_parents(struct rlhf *p)
{
    struct error error;
    unsigned stages = 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    if (!p->reward_path && !p->reward_command) quit(EXIT_USAGE, "no reward: give a reward model (--reward), a program (--reward-cmd), or both");
    if (parent_open(&p->policy_parent, p->policy_path, stages, "policy", &error) != 0) quit_error(&error);
    p->policy_config = p->critic_config = p->policy_parent.config;
    p->critic_config.head = HEAD_SCALAR;
    kv_copy(&p->line, &p->policy_parent.line);
    if (bind_template(p, &error) != 0 || (p->reward_path && open_reward(p, &error) != 0)) quit_error(&error);
}

/* ---- prompts and text ---- */

static void read_prompts(struct rlhf *p)
{
    struct error error;
    const struct ppo_options *o = &p->ppo.o;
    int64_t context = int_min(p->policy_config.context, p->critic_config.context), most = context - o->max_new;
    if (most < 1)
        quit(EXIT_USAGE, "--max-new-tokens %lld leaves no room for a prompt in a context of %lld tokens", (long long)o->max_new, (long long)context);
    if (p->max_prompt > 0 && p->max_prompt < most) most = p->max_prompt;
    if (prompts_read(&p->prompts, &p->prompt_paths, &p->chat, (int)most, (uint64_t)p->train.seed, &error) != 0) quit_error(&error);
    p->longest = p->prompts.longest + (int)o->max_new;
    if (p->longest > p->train.micro_tokens)
        quit(EXIT_USAGE, "--micro-tokens %lld is less than the longest episode, %d tokens (a prompt of %d and --max-new-tokens %lld): raise "
             "it, or lower --max-prompt-tokens", (long long)p->train.micro_tokens, p->longest, p->prompts.longest, (long long)o->max_new);
    prompts_hold_out(&p->prompts, &p->held_out, p->validation);
    if (p->prompts.count == 0) quit(EXIT_DATA, "--validation %g holds out all %u prompts", p->validation, p->held_out.count);
    if (o->minibatches > o->episodes)
        quit(EXIT_USAGE, "--minibatches %lld is more than --episodes %lld", (long long)o->minibatches, (long long)o->episodes);
}

static void report_prompts(struct bytes *out, const struct rlhf *p)
{
    const struct prompts *q = &p->prompts;
    bytes_text(out, "%8llu  prompts read\n%8llu  dropped: longer than the context and --max-new-tokens, or --max-prompt-tokens, allow\n"
               "%8llu  dropped: nothing is asked\n%8u  to train on, of up to %d tokens\n%8u  held out\n", (unsigned long long)q->read,
               (unsigned long long)q->too_long, (unsigned long long)q->unusable, q->count, q->longest, p->held_out.count);
}

static void show_prompts(struct rlhf *p)
{
    struct bytes out = {0};
    for (uint32_t i = 0; i < p->prompts.count && i < SHOWN; i++) {
        const struct prompt *q = &p->prompts.prompt[i];
        bytes_text(&out, "---- prompt %u: %d tokens\n", i + 1, q->count);
        show_tokens(&out, p->policy_parent.tokenizer, p->prompts.ids.id + q->first, NULL, (size_t)q->count, isatty(STDOUT_FILENO));
    }
    bytes_text(&out, "----\n");
    report_prompts(&out, p);
    fwrite(out.data, 1, out.size, stdout);
    bytes_free(&out);
}

static void say_line(void *self, const char *line)
{
    struct rlhf *p = self;
    if (p->run) run_log(p->run, "%s", line);
}

static void open_text(struct rlhf *p)
{
    struct error error;
    if (p->ptx_paths.count == 0 || p->ptx_coef == 0) return;
    int row = int_min(p->policy_config.context, (int)p->train.micro_tokens);
    char *folder = p->train.out ? host_text("%s/shards", p->train.out) : NULL;
    if (!folder) quit(EXIT_USAGE, "--ptx-data needs --out: its tokens are kept in the run folder");
    struct shards_options how = {.data = &p->ptx_paths, .text_key = "text", .folder = folder, .seed = (uint64_t)p->train.seed, .row_tokens = row};
    if (shards_open(&p->shards, p->policy_parent.tokenizer, &how, say_line, p, &error) != 0) quit_error(&error);
    free(folder);
    p->ptx = (struct ptx){.shards = p->shards, .coef = p->ptx_coef, .rows = (int)((p->ptx_tokens + row - 1) / row), .row_tokens = row,
                          .max_tokens = (int)p->train.micro_tokens};
    p->ppo.ptx = &p->ptx;
}

/* ---- models ---- */

static void build(void *self, struct memory *m)
{
    struct rlhf *p = self;
    int N = (int)p->train.micro_tokens;
    bool recompute = p->train.recompute != 0;
    struct model_use scoring = {.max_tokens = N, .max_sequences = N}, trained = {.train = true, .recompute = recompute, .max_tokens = N, .max_sequences = N};
    struct model_use sampling = trained;
    sampling.ema = p->ema > 0;
    sampling.cache_slots = sampling.logits_rows = int_min(int_min((int)p->slots, (int)p->ppo.o.episodes), N);
    sampling.cache_capacity = p->longest;
    ops_open(m);
    model_open(&p->policy, &p->policy_config, &sampling, m);
    model_open(&p->reference, &p->policy_config, &scoring, m);
    if (p->reward_path) model_open(&p->reward, &p->reward_config, &scoring, m);
    model_open(&p->critic, &p->critic_config, &trained, m);
    if (p->ppo.ptx) ptx_open(&p->ptx, &p->policy_config, m);
    ppo_open(&p->ppo, p->longest, m);
}

/* The critic speaks in units of reward: (h w + b - mean) / std is a head of its own. */
static void fold_normalisation(struct rlhf *p)
{
    const struct config *c = &p->reward_config;
    size_t C = (size_t)c->channels;
    float *weight = host_alloc(C, sizeof *weight), bias;
    device_get(weight, p->critic.params.score, C * sizeof *weight);
    device_get(&bias, p->critic.params.score_bias, sizeof bias);
    for (size_t i = 0; i < C; i++) weight[i] = (float)((double)weight[i] / c->score_std);
    bias = (float)(((double)bias - c->score_mean) / c->score_std);
    device_put(p->critic.params.score, weight, C * sizeof *weight);
    device_put(p->critic.params.score_bias, &bias, sizeof bias);
    free(weight);
}

static void load_models(struct rlhf *p)
{
    struct error error;
    uint64_t seed = (uint64_t)p->train.seed;
    struct ckpt *policy = p->policy_parent.ckpt, *critic = p->reward_path ? p->reward_parent.ckpt : policy;
    if (model_load(&p->policy, policy, "", ROLE_WEIGHT, false, seed, &error) != 0 ||
        model_load(&p->reference, policy, "", ROLE_WEIGHT, false, seed, &error) != 0 ||
        (p->reward_path && model_load(&p->reward, p->reward_parent.ckpt, "", ROLE_WEIGHT, false, seed, &error) != 0) ||
        model_load(&p->critic, critic, "", ROLE_WEIGHT, true, seed, &error) != 0) quit_error(&error);
    if (p->reward_path) {
        fold_normalisation(p);
    } else {                                 /* no reward model: a critic that begins by expecting nothing */
        fill(p->critic.params.score, 0, (size_t)p->critic_config.channels);
        fill(p->critic.params.score_bias, 0, 1);
    }
}

/* ---- the task: ppo.c's callbacks, and what a program adds ---- */

static int begin(void *self, int64_t step, struct error *error)
{
    struct rlhf *p = self;
    bool first = !p->ppo.on_policy;
    int updates = ppo_begin(&p->ppo, step, error);
    if (updates >= 0 && first)
        run_log(p->run, "first batch: %d answers of %d tokens: sampled and trained log-probabilities are equal, ratio 1%s, to the last bit",
                p->ppo.rollouts.episodes, p->ppo.rollouts.first[p->ppo.rollouts.episodes],
                step == 0 ? ", and KL to the reference 0" : "");
    return updates;
}

static int prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    return ppo_prepare(&((struct rlhf *)self)->ppo, step, update, count, error);
}

static double loss(void *self, int i, double scale) { return ppo_loss(&((struct rlhf *)self)->ppo, i, scale); }

/* rollouts.jsonl: the first few answers of this iteration. */
static void write_rollouts(struct rlhf *p, int64_t steps)
{
    const struct rollouts *r = &p->ppo.rollouts;
    struct bytes out = {0};
    for (int e = 0; e < r->episodes && e < p->rollouts; e++) {
        bytes_text(&out, "{\"step\":%lld,", (long long)steps);
        answer_json(&out, r, e, p->policy_parent.tokenizer);
        bytes_text(&out, ",\"reward\":%.9g,\"reward_shaped\":%.9g,\"kl\":%.9g,\"tokens\":%d}\n", (double)r->raw_reward[e],
                   (double)r->reward[e], ppo_episode_kl(r, e), rollout_answer_length(r, e));
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
static void evaluate(void *self, struct record *record)
{
    struct rlhf *p = self;
    struct rollouts *r = &p->ppo.rollouts;
    struct error error;
    int episodes = r->episodes, ended = 0;
    double reward = 0;
    r->episodes = int_min(episodes, (int)p->held_out.count);
    if (ppo_answer(&p->ppo, &p->held_out, RNG_EVAL, 0, 0, &error) != 0) quit_error(&error);
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
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct rlhf *p = self;
    program_describe(meta, &p->policy_config, p->policy_parent.tokenizer);
    chat_write(&p->chat, &meta->chat);
    kv_copy(&meta->line, &p->line);
    ppo_save(&p->ppo, meta);
    kv_set_u64(&meta->dcur, "prompts", p->prompts.count);
    if (p->shards) kv_set_u64(&meta->dcur, "ptx.identity", shards_identity(p->shards));
}

/* The reference and the reward model are not saved again, so a resumed run must find the very ones it began with. */
static int check_parents(struct rlhf *p, const struct kv *line, struct error *error)
{
    static const char *const given[] = {"--policy", "--reward"};
    for (int i = 0; i < 2; i++) {
        char key[64];
        const void *then = NULL, *now = NULL;
        size_t a = 0, b = 0;
        snprintf(key, sizeof key, "parent.%d.weights_id", i);
        kv_get_bytes(line, key, &then, &a);
        kv_get_bytes(&p->line, key, &now, &b);
        if (a != b || (a && memcmp(then, now, a) != 0))
            return fail(error, EXIT_MISMATCH, "%s holds other weights than those this run began with: give the same checkpoint "
                        "(a file rather than a run folder that goes on training), or another --out", given[i]);
    }
    return 0;
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    struct rlhf *p = self;
    uint64_t prompts = 0, identity = 0;
    if (check_parents(p, &meta->line, error) != 0) return -1;
    kv_get_u64(&meta->dcur, "prompts", &prompts);
    kv_get_u64(&meta->dcur, "ptx.identity", &identity);
    if (prompts != p->prompts.count)
        return fail(error, EXIT_MISMATCH, "the run was started with %llu prompts, now there are %u: use the same files, or another --out",
                    (unsigned long long)prompts, p->prompts.count);
    if (p->shards && identity != shards_identity(p->shards))
        return fail(error, EXIT_MISMATCH, "--ptx-data holds other text than the run was started with: use the same files, or another --out");
    return ppo_load(&p->ppo, meta, error);
}

/* ---- the run ---- */

/* Operations of one trained position: all forwards and backwards of an iteration over the positions its updates visit. */
static double flops(const struct rlhf *p, double length)
{
    double policy = config_train_flops(&p->policy_config, length), critic = config_train_flops(&p->critic_config, length);
    double reward = p->reward_path ? config_train_flops(&p->reward_config, length) : 0;
    return policy + critic + (3 * policy + critic + reward) / 3 / (double)p->ppo.o.epochs;
}

static int learn(struct rlhf *p, const struct option *table)
{
    struct train_options options = p->train;
    struct ppo_options *o = &p->ppo.o;
    double length = (double)p->prompts.ids.count / p->prompts.count + (double)o->max_new;
    options.steps = program_steps(&p->train, 1, (double)p->prompts.count / (double)o->episodes);
    p->ppo.learner[0].schedule = p->ppo.learner[1].schedule = program_schedule(&p->train, options.steps, 0);
    p->ppo.learner[0].ema_decay = p->ema;
    double factor = p->critic_lr > 0 ? p->critic_lr / p->train.lr : 5;
    p->ppo.learner[1].schedule.lr *= factor;
    p->ppo.learner[1].schedule.min_lr *= factor;
    struct task task = {
        .program = "rlhf", .stage = STAGE_RLHF, .self = p, .learner = p->ppo.learner, .n_learners = 2, .begin = begin, .prepare = prepare,
        .loss = loss, .end = end, .evaluate = p->held_out.count > 0 ? evaluate : NULL, .save = save, .load = load, .unit = "answer tokens", .main_metric = "reward",
        .tokens_per_step = (double)(o->episodes * o->epochs) * length, .flops_per_token = flops(p, length)};
    build(p, &p->memory);
    if (p->train.plan) {
        train_print_plan(&task, &p->memory, &options);
        return EXIT_DONE;
    }
    struct bytes report = {0};
    report_prompts(&report, p);
    run_log(p->run, "prompts:\n%.*s", (int)report.size - 1, report.data);
    bytes_free(&report);
    program_take(&p->memory, build, p);
    load_models(p);
    return train(&task, p->run, &options, table);
}

static void set_up_ppo(struct rlhf *p)
{
    struct ppo *q = &p->ppo;
    struct error error;
    q->policy = &p->policy;
    q->reference = &p->reference;
    q->critic = &p->critic;
    q->prompts = &p->prompts;
    q->o.micro_tokens = p->train.micro_tokens;
    q->o.seed = (uint64_t)p->train.seed;
    q->o.shaping.norm = (enum reward_norm)p->norm;
    q->kl = (struct kl_controller){p->kl_coef, p->kl_target, p->kl_horizon};
    q->reward = reward_source_get;
    q->reward_self = &p->source;
    p->source = (struct reward_source){.model = p->reward_path ? &p->reward : NULL, .coef = p->reward_coef, .tokenizer = p->policy_parent.tokenizer};
    if (p->reward_command && !p->train.plan && reward_cmd_open(&p->source.program, p->reward_command, p->reward_timeout, &error) != 0)
        quit_error(&error);
}

int main(int argc, char **argv)
{
    struct rlhf p = {0};
    struct option table[OWN_ROWS + TRAIN_ROWS + 2];
    option_rows(table, &p);
    p.run = program_start("rlhf", table, &p.train, argc, argv, "rlhf --policy RUN --reward RUN --prompts FILES --out RUN",
                          "Trains a policy by PPO to answer prompts so that a reward model, or a program, is content.");
    if (!p.run && !p.train.plan && !p.train.dry_run) quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    open_parents(&p);
    read_prompts(&p);
    if (p.train.dry_run) {
        show_prompts(&p);
        return EXIT_DONE;
    }
    open_text(&p);
    set_up_ppo(&p);
    int code = learn(&p, table);
    reward_cmd_close(p.source.program);
    if (p.run) run_close(p.run);
    return code;
}
