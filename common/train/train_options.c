/* train_options.c - the rows that all four programs share, and what --plan says.  Names mean the same everywhere; only
 * the defaults are a program's own. */
#include "common/train/train.h"
#include "common/model/device.h"

#include <assert.h>

enum { CHANGES = OPTION_MAY_CHANGE };

int train_option_rows(struct option *rows, struct train_options *o, const struct train_defaults *d)
{
    const double most = 1e15;
    const struct option all[] = {
        {"Run", "out", OPTION_TEXT, &o->out, NULL, .flags = CHANGES, .help = "Run folder: checkpoints, metrics, log."},
        {NULL, "config", OPTION_TEXT, &o->config, NULL, .flags = OPTION_NOT_SAVED,
         .help = "File of \"name = value\" lines, such as the run.conf of another run; the command line beats it."},
        {NULL, "resume", OPTION_TEXT, &o->resume, "auto", .flags = OPTION_NOT_SAVED,
         .help = "auto: go on from the newest valid checkpoint in the run folder, if any; never: refuse a folder that "
                 "has one; "
                 "or the checkpoint to go on from."},
        {NULL, "plan", OPTION_FLAG, &o->plan, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Print parameters, memory, tokens, operations and time, and end."},
        {NULL, "time-limit", OPTION_SECONDS, &o->time_limit, "0", 0, 1e9, .flags = CHANGES,
         .help = "Save and end with code 75 before this much time since the start has passed; 0: none."},
        {NULL, "threads", OPTION_INT, &o->threads, "0", 0, 4096, .flags = CHANGES,
         .help = "Threads; 0: one a core. Results do not depend on it."},
        {NULL, "seed", OPTION_INT, &o->seed, "1", 0, 9e18, .help = "Seed of everything random."},

        {"Length", "steps", OPTION_INT, &o->steps, "0", 0, 4e9, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Steps; 0: from --tokens or --epochs."},
        {NULL, "tokens", OPTION_INT, &o->tokens, "0", 0, most, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Tokens to train on; 0: from --epochs."},
        {NULL, "epochs", OPTION_REAL, &o->epochs, d->epochs, 1e-6, 1e6, .flags = CHANGES | OPTION_ONE_OF,
         .help = "Passes over the data, where none of the above is given."},

        {"Batches", "batch-tokens", OPTION_INT, &o->batch_tokens, "auto", 1, most, .flags = OPTION_AUTO,
         .help = "Tokens per step, all micro-batches; auto: 0.58 D^0.571 for the D tokens of the run, down to a power "
                 "of two, at least 512."},
        {NULL, "micro-tokens", OPTION_INT, &o->micro_tokens, d->micro_tokens ? d->micro_tokens : "auto", 1, 1 << 24,
         .flags = OPTION_AUTO,
         .help = "Most tokens in one forward and backward: fewer take less memory; auto: --batch-tokens, at most "
                 "4096."},
        {NULL, "recompute", OPTION_CHOICE, &o->recompute, "none", .choices = "none|block", .flags = CHANGES,
         .help = "block: keep only each block's input and compute the rest again in backward: less memory, the same "
                 "results."},

        {"Optimizer", "lr", OPTION_REAL, &o->lr, d->lr, 0, 10, .flags = OPTION_AUTO,
         .help = "Highest learning rate; auto: 0.45 / channels, at most 0.004, of which sft takes 1/4, rm 1/8, rlhf "
                 "1/20."},
        {NULL, "min-lr", OPTION_REAL, &o->min_lr, "-1", -1, 10,
         .help = "Learning rate at the end of the schedule; negative: a tenth of --lr."},
        {NULL, "warmup", OPTION_INT, &o->warmup, "-1", -1, 1e12,
         .help = "Steps in which the learning rate rises from 0; negative: a share of the steps."},
        {NULL, "schedule", OPTION_CHOICE, &o->schedule, d->schedule, .choices = "constant|linear|cosine|wsd",
         .help = "Course of the learning rate after the warmup; wsd: constant, then linear over the last fifth."},
        {NULL, "weight-decay", OPTION_REAL, &o->weight_decay, d->weight_decay, 0, 10,
         .help = "AdamW's decay, of matrices alone."},
        {NULL, "beta1", OPTION_REAL, &o->beta1, "0.9", 0, 0.999999, .help = "AdamW's first beta."},
        {NULL, "beta2", OPTION_REAL, &o->beta2, d->beta2, 0, 0.999999999, .help = "AdamW's second beta."},
        {NULL, "eps", OPTION_REAL, &o->eps, d->eps, 1e-20, 1, .help = "AdamW's epsilon."},
        {NULL, "clip", OPTION_REAL, &o->clip, "1", 0, 1e9, .help = "Largest global gradient norm; 0: no clipping."},

        {"Guards", "skip-limit", OPTION_INT, &o->skip_limit, "3", 1, 1e6, .flags = CHANGES,
         .help = "Updates in a row with a loss or gradient norm that is not finite before the run ends with code 65."},
        {NULL, "spike-z", OPTION_REAL, &o->spike_z, "0", 0, 1e9,
         .help = "Skip an update whose gradient norm lies this many robust deviations above the median of the last "
                 "128; 0: off."},

        {"Reports and checkpoints", "eval-every", OPTION_INT, &o->eval_every, d->eval_every, 0, 1e12, .flags = CHANGES,
         .help = "Steps between evaluations; the first and last are always made."},
        {NULL, "sample-every", OPTION_INT, &o->sample_every, d->sample_every ? d->sample_every : "0", 0, 1e12,
         .flags = CHANGES, .help = "Steps between samples for reading; 0: none."},
        {NULL, "log-every", OPTION_INT, &o->log_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Steps between lines of progress; 0: by time. metrics.jsonl has every step."},
        {NULL, "save-every", OPTION_INT, &o->save_every, d->save_every, 0, 1e12, .flags = CHANGES,
         .help = "Steps between checkpoints; 0: only at the end, and when stopped."},
        {NULL, "keep", OPTION_INT, &o->keep, "3", 1, 1e6, .flags = CHANGES, .help = "Newest checkpoints to keep."},
        {NULL, "keep-every", OPTION_INT, &o->keep_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Also keep the checkpoints whose step is a multiple of this; 0: none."},
    };
    enum { COUNT = sizeof all / sizeof *all };
    static_assert((int)COUNT <= (int)TRAIN_ROWS, "TRAIN_ROWS is too small");
    for (int i = 0; i < COUNT; i++) rows[i] = all[i];
    return COUNT;
}

static void print_bytes(const char *name, size_t bytes)
{
    char a[16];
    printf("  %-9s %10s  %15zu\n", name, text_bytes(a, (double)bytes), bytes);
}

/* One side's phases and their sum. */
static void print_memory(const struct memory *memory, enum side side, uint64_t available)
{
    char a[16];
    printf("%s memory, %s available\n", side == SIDE_HOST ? "host" : "device", text_bytes(a, (double)available));
    for (int p = 0; p < MEMORY_PHASES; p++) {
        size_t bytes = memory_bytes(memory, (enum phase)p);
        if (bytes && memory_side((enum phase)p) == side) print_bytes(memory_phase_name((enum phase)p), bytes);
    }
    print_bytes("together", memory_total(memory, side));
}

/* At this share of the measured peak, which training of any but the smallest models reaches. */
static const double usual_share = 0.6;

static double plan_seconds(const struct task *task, double tokens)
{
    return tokens * task->flops_per_token / (usual_share * device_peak_flops());
}

int train_print_plan(const struct task *task, const struct memory *memory, const struct train_options *o)
{
    char a[16], b[16];
    struct error error;
    for (int i = 0; i < task->n_learners; i++) {
        const struct learner *l = &task->learner[i];
        char line[200];
        printf("model       %s%s\n", l->name, config_line(line, sizeof line, &l->model->config));
        printf("parameters  %s (%llu)\n", text_count(a, (double)config_parameters(&l->model->config)),
               (unsigned long long)config_parameters(&l->model->config));
    }
    print_memory(memory, SIDE_DEVICE, device_memory_available());
    print_memory(memory, SIDE_HOST, host_memory_available());
    if (device_shares_host())
        print_bytes("total", memory_total(memory, SIDE_DEVICE) + memory_total(memory, SIDE_HOST));
    printf("rate        %g at most\n", o->lr);
    printf("steps       %lld\n", (long long)o->steps);
    double tokens = task->tokens_per_step * (double)o->steps;
    if (tokens > 0) {
        printf("tokens      %s (%s per step)\n", text_count(a, tokens), text_count(b, task->tokens_per_step));
        printf("work        %.3g flop (%.3g per token)\n", tokens * task->flops_per_token, task->flops_per_token);
        printf("time        about %s at %.0f %% of the measured peak of %.0f GFLOP/s; evaluation, samples and saving "
               "come on top\n", text_duration(a, plan_seconds(task, tokens)), 100 * usual_share,
               device_peak_flops() / 1e9);
    }
    if (memory_fits(memory, &error) == 0) return EXIT_DONE;
    fprintf(stderr, "%s: %s\n", program_name(), error.text);
    return error.exit_code;
}

void train_log_plan(struct run *run, const struct task *task, const struct memory *memory,
                    const struct train_options *o)
{
    char line[200], a[16], b[16], c[16], d[16];
    double tokens = task->tokens_per_step * (double)o->steps, seconds = plan_seconds(task, tokens);
    for (int i = 0; i < task->n_learners; i++) {
        const struct learner *l = &task->learner[i];
        run_log(run, "%smodel: %s, %s parameters", l->name, config_line(line, sizeof line, &l->model->config),
                text_count(a, (double)config_parameters(&l->model->config)));
    }
    run_log(run, "plan: %lld steps of %s tokens, %s in all, about %s; learning rate %g; memory %s", (long long)o->steps,
            text_count(a, task->tokens_per_step), text_count(b, tokens), text_duration(c, seconds), o->lr,
            text_bytes(d, (double)(memory_total(memory, SIDE_DEVICE) + memory_total(memory, SIDE_HOST))));
    if (seconds > 86400)
        run_log(run, "warning: that is long for this machine: fewer tokens or a smaller model take less time (--plan "
                "shows how much)");
}
