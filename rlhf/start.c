/* start.c - everything rlhf opens before its first step, in the order in which each can be checked: parents that belong
 * together, prompts that fit, text, memory, weights. */
#include "common/model/device.h"
#include "common/text/show.h"
#include "rlhf/rlhf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- parents ---- */

static int bind_template(struct rlhf *p, struct error *error)
{
    const struct parent *a = &p->policy_parent;
    if (chat_read(&p->chat, &a->meta->chat, a->tokenizer, error) != 0) return fail_in(error, "%s", ckpt_path(a->ckpt));
    if (p->template && (int)p->chat.template != p->template)
        return fail(error, EXIT_MISMATCH, "--template %s: the policy %s was fine-tuned with the template %s",
                    chat_template_name((enum chat_template)p->template), ckpt_path(a->ckpt),
                    chat_template_name(p->chat.template));
    p->stops = stops_of(&p->chat, a->tokenizer, &a->meta->meta);
    p->ppo.o.stop = p->stops.id;
    p->ppo.o.n_stop = p->stops.count;
    p->ppo.o.allowed = tokenizer_vocab(a->tokenizer);
    return 0;
}

/* The reward model must read what the policy writes: the same ids, laid out by the same template. */
static int open_reward(struct rlhf *p, struct error *error)
{
    struct parent *a = &p->policy_parent, *b = &p->reward_parent;
    struct chat chat;
    char name[128];
    if (parent_open(b, p->reward_path, p->run, 1u << STAGE_RM, "reward", error) != 0) return -1;
    if (parent_same_tokenizer(a, b, error) != 0) return -1;
    if (chat_read(&chat, &b->meta->chat, b->tokenizer, error) != 0) return fail_in(error, "%s", ckpt_path(b->ckpt));
    if (chat.template != p->chat.template)
        return fail(error, EXIT_MISMATCH, "the policy %s speaks in the chat template %s, the reward model %s in %s: "
                    "train the reward model from this policy's sft run", ckpt_path(a->ckpt),
                    chat_template_name(p->chat.template), ckpt_path(b->ckpt), chat_template_name(chat.template));
    if (b->config.head != HEAD_SCALAR) return fail(error, EXIT_MISMATCH, "%s has no scalar head", ckpt_path(b->ckpt));
    lineage_add(&p->line, b->meta, "reward", path_name(name, p->reward_path));
    p->reward_config = p->critic_config = b->config;
    p->critic_config.score_mean = 0;
    p->critic_config.score_std = 1;
    return 0;
}

/* Options that would be read and then do nothing, or harm. */
static void check_options(const struct rlhf *p, const struct option *table)
{
    static const char *const pair[][2] = {{"reward-cmd-coef", "reward-cmd"}, {"reward-timeout", "reward-cmd"},
                                          {"ptx-coef", "ptx-data"}, {"ptx-tokens", "ptx-data"},
                                          {"kl-horizon", "kl-target"}};
    struct error error;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        if (option_needs(table, pair[i][0], pair[i][1], &error) != 0) quit_error(&error);
    if (p->kl_target > 0 && p->kl_coef == 0)
        quit(EXIT_USAGE, "--kl-target multiplies --kl-coef, which is 0 and would stay so: give a --kl-coef above 0");
    if (p->kl_target > 0 && (double)p->ppo.o.episodes >= p->kl_horizon)
        quit(EXIT_USAGE, "--episodes %lld / --kl-horizon %g must be below 1, or one iteration would change the weight "
             "of the divergence too much: raise --kl-horizon", (long long)p->ppo.o.episodes, p->kl_horizon);
}

void rlhf_open_parents(struct rlhf *p, const struct option *table)
{
    check_options(p, table);
    struct error error;
    unsigned stages = 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    if (!p->reward_path && !p->reward_command)
        quit(EXIT_USAGE, "no reward: give a reward model (--reward), a program (--reward-cmd), or both");
    if (parent_open(&p->policy_parent, p->policy_path, p->run, stages, "policy", &error) != 0) quit_error(&error);
    p->policy_config = p->critic_config = p->policy_parent.config;
    p->critic_config.head = HEAD_SCALAR;
    kv_copy(&p->line, &p->policy_parent.line);
    if (bind_template(p, &error) != 0 || (p->reward_path && open_reward(p, &error) != 0)) quit_error(&error);
}

/* ---- prompts and text ---- */

void rlhf_read_prompts(struct rlhf *p)
{
    struct error error;
    struct ppo_options *o = &p->ppo.o;
    int64_t context = int_min(p->policy_config.context, p->critic_config.context);
    if (o->max_new == 0) o->max_new = int_min(128, (int)context / 2);
    int64_t most = context - o->max_new;
    if (most < 1)
        quit(EXIT_USAGE, "--max-new-tokens %lld leaves no room for a prompt in a context of %lld tokens",
             (long long)o->max_new, (long long)context);
    if (p->max_prompt > 0 && p->max_prompt < most) most = p->max_prompt;
    p->prompts.ledger.skip = program_skip_rows(p->skip_bad_rows);
    if (prompts_read(&p->prompts, &p->held_out, p->validation, &p->prompt_paths, &p->chat, (int)most,
                     (uint64_t)p->train.seed, &error) != 0)
        quit_error(&error);
    ledger_report(&p->report, &p->prompts.ledger);
    bytes_text(&p->report, "%8u  to train on, of up to %d tokens\n%8u  held out\n", p->prompts.count,
               p->prompts.longest, p->held_out.count);
    int longest = int_max(p->prompts.longest, p->held_out.longest);
    p->longest = int_min(longest + (int)o->max_new + 1, p->critic_config.context);
    if (p->longest > p->train.micro_tokens)
        quit(EXIT_USAGE, "--micro-tokens %lld is less than the longest episode, %d tokens (a prompt of %d, "
             "--max-new-tokens %lld, and an end token): raise it, or lower --max-prompt-tokens",
             (long long)p->train.micro_tokens, p->longest, longest, (long long)o->max_new);
    if (o->minibatches > o->episodes)
        quit(EXIT_USAGE, "--minibatches %lld is more than --episodes %lld", (long long)o->minibatches,
             (long long)o->episodes);
}

void rlhf_show_prompts(const struct rlhf *p)
{
    struct bytes out = {0};
    for (uint32_t i = 0; i < p->prompts.count && i < 4; i++) {
        const struct prompt *q = &p->prompts.prompt[i];
        bytes_text(&out, "---- prompt %u: %d tokens\n", i + 1, q->count);
        show_tokens(&out, p->policy_parent.tokenizer, p->prompts.ids.id + q->first, NULL, (size_t)q->count,
                    isatty(STDOUT_FILENO));
    }
    bytes_text(&out, "----\n%s", p->report.data);
    fwrite(out.data, 1, out.size, stdout);
    bytes_free(&out);
}

void rlhf_open_text(struct rlhf *p)
{
    struct error error;
    if (p->ptx_paths.count == 0 || p->ptx_coef == 0) return;
    int row = int_min(p->policy_config.context, (int)p->train.micro_tokens);
    char *folder = p->train.out ? host_text("%s/shards", p->train.out) : NULL;
    if (!folder) quit(EXIT_USAGE, "--ptx-data needs --out: its tokens are kept in the run folder");
    struct order_options how = {.shards = {.data = &p->ptx_paths, .text_key = "text", .folder = folder,
                                           .allow_invalid = p->ptx_allow_invalid},
                                .seed = (uint64_t)p->train.seed, .row_tokens = row};
    struct ckpt *resumed = program_resumed(p->run, p->train.resume);
    uint64_t identity = 0;
    if (resumed) kv_get_u64(&ckpt_meta_of(resumed)->dcur, "ptx.identity", &identity);
    how.expected = (uint32_t)identity;
    ckpt_close(resumed);
    comm_turn_begin(p->train.comm);
    if (order_open(&p->order, p->policy_parent.tokenizer, &how, program_say, p->run, &error) != 0) quit_error(&error);
    comm_turn_end(p->train.comm);
    free(folder);
    p->ptx = (struct ptx){.order = p->order, .coef = p->ptx_coef, .row_tokens = row,
                          .rows = (int)((p->ptx_tokens + row - 1) / row),
                          .max_tokens = (int)p->train.micro_tokens};
    p->ppo.ptx = &p->ptx;
}

/* ---- models ---- */

void rlhf_build(void *self, struct memory *m)
{
    struct rlhf *p = self;
    int N = (int)p->train.micro_tokens;
    struct model_use scoring = {.max_tokens = N, .max_sequences = N, .comm = p->train.comm}, trained = scoring;
    train_use(&trained, &p->train);
    scoring.zero = trained.zero == 3 ? 3 : 0;
    struct model_use sampling = trained;
    sampling.ema = p->ema > 0;
    sampling.cache_slots = sampling.logits_rows = int_min(int_min((int)p->slots, (int)p->ppo.o.episodes), N);
    sampling.cache_capacity = p->longest;
    ops_open(m);
    model_open(&p->policy, &p->policy_config, &sampling, m);
    model_open(&p->reference, &p->policy_config, &scoring, m);
    if (p->reward_path) model_open(&p->reward, &p->reward_config, &scoring, m);
    trained.number = 1;
    model_open(&p->critic, &p->critic_config, &trained, m);
    if (p->ppo.ptx) ptx_open(&p->ptx, &p->policy, m);
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
    device_wait();
    for (size_t i = 0; i < C; i++) weight[i] = (float)((double)weight[i] / c->score_std);
    bias = (float)(((double)bias - c->score_mean) / c->score_std);
    device_put(p->critic.params.score, weight, C * sizeof *weight);
    device_put(p->critic.params.score_bias, &bias, sizeof bias);
    device_wait();
    free(weight);
}

/* On a backend whose rows may depend on their number, they perhaps need not. */
static void settle(struct rlhf *p)
{
    struct error why;
    if (p->ppo.exact) return;
    p->ppo.exact = model_settle(&p->policy, &why) == 0;
    if (!p->ppo.exact) run_log(p->run, "%s: old log-probabilities come from the training forward", why.text);
}

int rlhf_load_models(void *self, struct error *error)
{
    struct rlhf *p = self;
    uint64_t seed = (uint64_t)p->train.seed;
    struct ckpt *policy = p->policy_parent.ckpt, *critic = p->reward_path ? p->reward_parent.ckpt : policy;
    if (model_load(&p->policy, policy, "", ROLE_WEIGHT, false, seed, error) != 0 ||
        model_load(&p->reference, policy, "", ROLE_WEIGHT, false, seed, error) != 0 ||
        (p->reward_path && model_load(&p->reward, p->reward_parent.ckpt, "", ROLE_WEIGHT, false, seed, error) != 0) ||
        model_load(&p->critic, critic, "", ROLE_WEIGHT, true, seed, error) != 0) return -1;
    if (p->reward_path) {
        fold_normalisation(p);
    } else {                                 /* no reward model: a critic that begins by expecting nothing */
        fill(p->critic.params.score, 0, (size_t)p->critic_config.channels);
        fill(p->critic.params.score_bias, 0, 1);
    }
    weights_keep_ends(&p->critic);
    settle(p);
    return 0;
}

/* How many slices make one micro-batch each, whatever the lengths of an update's answers. */
static int micro_batches(const struct rlhf *p)
{
    const struct ppo_options *o = &p->ppo.o;
    int64_t fit = p->train.micro_tokens / p->longest, episodes = (o->episodes + o->minibatches - 1) / o->minibatches;
    int64_t n = (episodes + fit - 1) / fit, rows = p->ppo.ptx ? p->ptx.max_tokens / p->ptx.row_tokens : 0;
    return (int)(rows && (p->ptx.rows + rows - 1) / rows > n ? (p->ptx.rows + rows - 1) / rows : n);
}

void rlhf_start_ppo(struct rlhf *p)
{
    struct ppo *q = &p->ppo;
    struct error error;
    q->policy = &p->policy;
    q->reference = &p->reference;
    q->critic = &p->critic;
    q->prompts = &p->prompts;
    q->o.micro_tokens = p->train.micro_tokens;
    q->o.seed = (uint64_t)p->train.seed;
    const struct config *split[] = {&p->policy_config, &p->critic_config, &p->reward_config};
    for (int i = 0; i < (p->reward_path ? 3 : 2); i++) parallel_fit(&p->train, split[i], micro_batches(p));
    q->o.slices = (int)p->train.parallel.slices;
    q->o.comm = p->train.comm;
    q->o.shaping.norm = (enum reward_norm)p->norm;
    q->kl = (struct kl_controller){p->kl_coef, p->kl_target, p->kl_horizon};
    q->reward = reward_source_get;
    q->reward_self = &p->source;
    p->source = (struct reward_source){.model = p->reward_path ? &p->reward : NULL, .end = p->chat.end,
                                       .coef = p->reward_coef, .tokenizer = p->policy_parent.tokenizer};
    if (p->reward_command && !p->train.plan && comm_place(p->train.comm).tensor == 0 &&
        reward_cmd_open(&p->source.program, p->reward_command, p->reward_timeout, &error) != 0)
        quit_error(&error);
}

void rlhf_close(struct rlhf *p)
{
    struct model *model[] = {&p->policy, &p->reference, &p->reward, &p->critic};
    reward_cmd_close(p->source.program);
    for (size_t i = 0; i < sizeof model / sizeof *model; i++) model_close(model[i]);
    if (p->ppo.ptx) ptx_close(&p->ptx);
    if (p->order) order_close(p->order);
    memory_close(&p->memory);
    prompts_free(&p->prompts);
    prompts_free(&p->held_out);
    parent_close(&p->policy_parent);
    parent_close(&p->reward_parent);
    kv_free(&p->line);
    bytes_free(&p->report);
    program_end(p->run, &p->train);
}
