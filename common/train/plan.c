/* plan.c - what a run will take: to stdout for --plan; otherwise in two lines of the log before it begins. */
#include "common/train/cluster.h"
#include "common/train/train.h"
#include "common/model/device.h"

#include <math.h>

static void print_bytes(const char *name, size_t bytes)
{
    char a[16];
    printf("  %-9s %10s  %15zu\n", name, text_bytes(a, (double)bytes), bytes);
}

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

/* What the stages that split the row of layers take, a line each; returns the memory of the one that takes most. */
static struct memory print_stages(const struct model *m, const struct memory *memory)
{
    scoped struct memory *all = host_alloc((size_t)m->place.p, sizeof *all);
    struct memory most = {0};
    comm_gather_host(m->use.comm, GROUP_PIPE, all, memory, sizeof *memory);
    for (int s = 0; s < m->place.p; s++) {
        char a[16];
        size_t bytes = memory_total(&all[s], SIDE_DEVICE);
        if (s == 0 || bytes > memory_total(&most, SIDE_DEVICE)) most = all[s];
        if (m->place.p > 1)
            printf("stage       %d: layers %d to %d, %s\n", s, m->first_layer[s], m->first_layer[s + 1] - 1,
                   text_bytes(a, (double)bytes));
    }
    if (m->place.p > 1) printf("memory below is that of the largest stage\n");
    return most;
}

/* ---- for a cluster ---- */

int train_plan_cluster(const struct config *c, int sequence, double tokens, const struct train_options *o,
                       const struct option *table)
{
    const struct parallel_options *p = &o->parallel;
    struct cluster cluster;
    struct layout layout;
    struct error error;
    struct cluster_work work = {.config = *c, .sequence = sequence, .tokens = tokens, .batch_tokens = o->batch_tokens,
                                .micro_tokens = option_given(table, "micro-tokens") ? o->micro_tokens : -1,
                                .t = p->tensor, .p = p->pipeline, .d = p->data, .zero = p->zero,
                                .recompute = -1, .gpu_hour = p->gpu_hour};
    if (option_given(table, "recompute")) work.recompute = o->recompute ? RECOMPUTE_BLOCK : RECOMPUTE_NONE;
    if (work.batch_tokens < 0) work.batch_tokens = default_batch_tokens(tokens);
    if (cluster_read(&cluster, p->cluster, &error) != 0 || cluster_search(&layout, &work, &cluster, &error) != 0)
        quit_error(&error);
    cluster_plan(&layout, &work, &cluster);
    return EXIT_DONE;
}

/* The models of rlhf on replicas: how long it takes is decided by sampling, for which there are no formulas here. */
static int plan_models(const struct task *task, const struct memory *memory, const char *text)
{
    struct cluster c;
    struct error error;
    double N[2] = {0}, all = (double)memory_bytes(memory, MEMORY_PARAMS) / sizeof(float);
    if (cluster_read(&c, text, &error) != 0) quit_error(&error);
    for (int i = 0; i < 2 && i < task->n_learners; i++)
        N[i] = (double)config_parameters(&task->learner[i].model->config);
    double frozen = fmax(all - N[0] - N[1], 0);
    printf("weights, gradients and moments of a rank's models, of %.2f GB (calculated; activations and the cache of "
           "sampling come on top)\n", c.memory / 1e9);
    for (int zero = 0; zero <= 3; zero++)
        printf("  ZeRO-%d %10.3f GB\n", zero, rlhf_held(&c.bytes, zero, (int)c.devices, N[0], N[1], frozen, 0) / 1e9);
    return EXIT_DONE;
}

/* ---- for this machine ---- */

int train_print_plan(const struct task *task, const struct memory *own, const struct train_options *o,
                     const struct option *table)
{
    char a[16], b[16];
    struct error error;
    const struct config *c = &task->learner[0].model->config;
    double tokens = task->tokens_per_step * (double)o->steps;
    if (o->parallel.cluster && task->stage == STAGE_RLHF) return plan_models(task, own, o->parallel.cluster);
    if (o->parallel.cluster)
        return train_plan_cluster(c, int_min(c->context, (int)fmin(task->tokens_per_step, 1e9)), tokens, o, table);
    for (int i = 0; i < task->n_learners; i++) {
        const struct learner *l = &task->learner[i];
        char line[200];
        printf("model       %s%s\n", l->name, config_line(line, sizeof line, &l->model->config));
        printf("parameters  %s (%llu)\n", text_count(a, (double)config_parameters(&l->model->config)),
               (unsigned long long)config_parameters(&l->model->config));
    }
    struct memory largest = print_stages(task->learner[0].model, own), *memory = &largest;
    print_memory(memory, SIDE_DEVICE, device_memory_available());
    print_memory(memory, SIDE_HOST, host_memory_available());
    if (device_shares_host())
        print_bytes("total", memory_total(memory, SIDE_DEVICE) + memory_total(memory, SIDE_HOST));
    printf("rate        %g at most\n", o->lr);
    printf("steps       %lld\n", (long long)o->steps);
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

static void log_stages(struct run *run, const struct model *m)
{
    int p = comm_place(m->use.comm).p;
    scoped_bytes struct bytes text = {0};
    for (int s = 0; s < p; s++)
        bytes_text(&text, "%s%d to %d", s ? ", " : "", m->first_layer[s], m->first_layer[s + 1] - 1);
    if (p > 1) run_log(run, "stages: layers %s", text.data);
}

void train_log_plan(struct run *run, const struct task *task, const struct memory *memory,
                    const struct train_options *o, const struct option *table)
{
    enum { UPDATES_FEW = 100 };
    char line[200], a[16], b[16], c[16], d[16];
    double tokens = task->tokens_per_step * (double)o->steps, seconds = plan_seconds(task, tokens);
    for (int i = 0; i < task->n_learners; i++) {
        const struct learner *l = &task->learner[i];
        run_log(run, "%smodel: %s, %s parameters", l->name, config_line(line, sizeof line, &l->model->config),
                text_count(a, (double)config_parameters(&l->model->config)));
    }
    log_stages(run, task->learner[0].model);
    run_log(run, "plan: %lld step%s of %s tokens, %s in all, about %s; learning rate %g; memory %s",
            (long long)o->steps, plural(o->steps), text_count(a, task->tokens_per_step), text_count(b, tokens),
            text_duration(c, seconds), o->lr,
            text_bytes(d, (double)(memory_total(memory, SIDE_DEVICE) + memory_total(memory, SIDE_HOST))));
    if (seconds > 86400)
        run_log(run, "warning: that is long for this machine: fewer tokens or a smaller model take less time (--plan "
                "shows how much)");
    if (o->steps < UPDATES_FEW && task->stage != STAGE_RLHF && !option_changed(table, "steps"))
        run_log(run, "warning: only %lld update%s: the model cannot learn much from so few; give more data, more "
                "--epochs, or a smaller --batch-tokens (now %lld)", (long long)o->steps, plural(o->steps),
                (long long)o->batch_tokens);
}
