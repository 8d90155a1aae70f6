/* main.c - reinforcement learning from a reward: the policy answers prompts, the reward tells how well, PPO makes good
 * answers likelier without straying far from the policy it started from.
 *
 * Four models: the policy and its frozen copy, the reference; the reward model, and the critic, which begins as its
 * copy.  The algorithm is ppo.c and knows no files. */
#include "common/train/train_options.h"
#include "rlhf/rlhf.h"

#include <math.h>

enum { LEAST_ITERATIONS = 48, LONGEST_WARMUP = 50 };

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
    struct bytes report = {0};
    rlhf_report_prompts(&report, p);
    run_log(p->run, "prompts:\n%.*s", (int)report.size - 1, report.data);
    bytes_free(&report);
    long long warmup = p->ppo.o.critic_warmup, steps = p->ppo.learner[0].schedule.total;
    if (warmup >= steps)
        run_log(p->run, "warning: the policy learns nothing: --critic-warmup %lld covers all %lld iterations", warmup,
                steps);
    else if (warmup > 0) run_log(p->run, "the first %lld of %lld iterations train only the critic", warmup, steps);
}

static int learn(struct rlhf *p, const struct option *table, int64_t steps)
{
    struct train_options options = p->train;
    struct program_parts parts = {p, rlhf_build, say, rlhf_load_models};
    struct task task;
    options.steps = steps;
    set_schedules(p, options.steps);
    rlhf_task(&task, p);
    int code = program_run(&task, p->run, &options, table, &p->memory, &parts);
    if (code == EXIT_DONE && p->run) program_next(p->run, "talk to it", "chat", "--model", NULL);
    return code;
}

int main(int argc, char **argv)
{
    struct rlhf p = {0};
    struct option table[RLHF_ROWS];
    rlhf_option_rows(table, &p);
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
