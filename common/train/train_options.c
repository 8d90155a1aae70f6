/* train_options.c - the rows that all four programs share, their values in a checkpoint, and what "auto" stands for.
 * Options are saved and compared as text, so that a type or unit may change without a new format.  A resumed run keeps
 * what it began with, even when a longer --tokens would now give another batch. */
#include "common/base/options.h"
#include "common/model/device.h"
#include "common/train/program.h"

#include <assert.h>
#include <math.h>

enum { CHANGES = OPTION_MAY_CHANGE, BATCH_LEAST = 512, MICRO_MOST = 4096 };

int train_option_rows(struct option *rows, struct train_options *o, const struct train_defaults *d)
{
    const double most = 1e15;
    const int ranks = OPTION_AUTO | OPTION_NOT_SAVED;
    const struct option all[] = {
        {"Run", "out", OPTION_TEXT, &o->out, NULL, .flags = OPTION_COMMON | CHANGES,
         .help = "Run folder: checkpoints, metrics, log."},
        {NULL, "config", OPTION_TEXT, &o->config, NULL, .flags = OPTION_COMMON | OPTION_NOT_SAVED,
         .help = "File of \"name = value\" lines, such as the run.conf of another run; the command line beats it."},
        {NULL, "resume", OPTION_TEXT, &o->resume, "auto", .flags = OPTION_COMMON | OPTION_NOT_SAVED,
         .help = "auto: resume from the newest valid checkpoint in the run folder, if any; never: refuse a folder that "
                 "has one; or the checkpoint to resume from."},
        {NULL, "plan", OPTION_FLAG, &o->plan, NULL, .flags = OPTION_COMMON | OPTION_NOT_SAVED,
         .help = "Print parameters, memory, tokens, operations and time, then exit."},
        {NULL, "time-limit", OPTION_SECONDS, &o->time_limit, "0", 0, 1e9, .flags = CHANGES,
         .help = "Save and exit with code 75 before this much time has passed; 0: no limit."},
        {NULL, "threads", OPTION_INT, &o->threads, "0", 0, 4096, .flags = CHANGES,
         .help = "Number of threads; 0: one per core. Results do not depend on it."},
        {NULL, "device", OPTION_INT, &o->device, "0", 0, 4096, .flags = CHANGES,
         .help = "Number of the GPU, in a build for CUDA; the CPU is device 0."},
        {NULL, "devices", OPTION_TEXT, &o->devices, NULL, .flags = CHANGES,
         .help = "Several GPUs of this machine, as all or 0,1,3: one rank is started on each."},
        {NULL, "trace", OPTION_TEXT, &o->trace, NULL, .flags = CHANGES | OPTION_NOT_SAVED,
         .help = "Write what every rank does when to this file, for chrome://tracing or ui.perfetto.dev."},
        {NULL, "seed", OPTION_INT, &o->seed, "1", 0, 9e18, .flags = OPTION_COMMON, .help = "Random seed."},

        {"Length", "steps", OPTION_INT, &o->steps, "0", 0, 4e9, .flags = OPTION_COMMON | CHANGES | OPTION_ONE_OF,
         .help = "Number of steps; 0: from --tokens or --epochs."},
        {NULL, "tokens", OPTION_INT, &o->tokens, "0", 0, most, .flags = OPTION_COMMON | CHANGES | OPTION_ONE_OF,
         .help = "Tokens to train on; 0: from --epochs."},
        {NULL, "epochs", OPTION_REAL, &o->epochs, d->epochs, 1e-6, 1e6,
         .flags = OPTION_COMMON | CHANGES | OPTION_ONE_OF | (strcmp(d->epochs, "auto") == 0 ? OPTION_AUTO : 0),
         .help = "Passes over the data, if neither --steps nor --tokens is given."},

        {"Batches", "batch-tokens", OPTION_INT, &o->batch_tokens, "auto", 1, most, .flags = OPTION_COMMON | OPTION_AUTO,
         .help = "Tokens per step, all micro-batches; auto: 0.58 D^0.571 for the D tokens of the run, down to a power "
                 "of two, at least 512."},
        {NULL, "micro-tokens", OPTION_INT, &o->micro_tokens, d->micro_tokens ? d->micro_tokens : "auto", 1, 1 << 24,
         .flags = OPTION_AUTO,
         .help = "Most tokens in one forward and backward: fewer take less memory; auto: those of a slice, at "
                 "most 4096."},
        {NULL, "recompute", OPTION_CHOICE, &o->recompute, "none", .choices = "none|block", .flags = CHANGES,
         .help = "block: keep only each block's input and compute the rest again in backward: less memory, the same "
                 "results."},

        {NULL, "offload", OPTION_CHOICE, &o->offload, "none", .choices = "none|moments", .flags = CHANGES,
         .help = "On a GPU: moments: float32 weights and moments lie in the host's memory, and its processor updates "
                 "them: less device memory, slower updates."},

        {"Optimizer", "lr", OPTION_REAL, &o->lr, d->lr, 0, 10, .flags = OPTION_COMMON | OPTION_AUTO,
         .help = "Peak learning rate; auto: 0.45 / channels, at most 0.004; sft takes 1/4 of that, rm 1/8, rlhf 1/20."},
        {NULL, "min-lr", OPTION_REAL, &o->min_lr, "-1", -1, 10,
         .help = "Learning rate at the end of the schedule; negative: a tenth of --lr."},
        {NULL, "warmup", OPTION_INT, &o->warmup, "-1", -1, 1e12,
         .help = "Steps over which the learning rate rises from 0; negative: a share of the steps."},
        {NULL, "schedule", OPTION_CHOICE, &o->schedule, d->schedule, .choices = "constant|linear|cosine|wsd",
         .help = "Shape of the learning rate after the warmup; wsd: constant, then linear over the last fifth."},
        {NULL, "weight-decay", OPTION_REAL, &o->weight_decay, d->weight_decay, 0, 10,
         .help = "AdamW's weight decay, on matrices only."},
        {NULL, "beta1", OPTION_REAL, &o->beta1, "0.9", 0, 0.999999, .help = "AdamW's first beta."},
        {NULL, "beta2", OPTION_REAL, &o->beta2, d->beta2, 0, 0.999999999, .help = "AdamW's second beta."},
        {NULL, "eps", OPTION_REAL, &o->eps, d->eps, 1e-20, 1, .help = "AdamW's epsilon."},
        {NULL, "clip", OPTION_REAL, &o->clip, "1", 0, 1e9, .help = "Largest global gradient norm; 0: no clipping."},

        {NULL, "stochastic-rounding", OPTION_FLAG, &o->stochastic_rounding, NULL,
         .help = "In a bfloat16 build: after an update, matrices are rounded up or down at random, so that small steps "
                 "are not lost on average (docs/precision.md)."},

        {"Guards", "skip-limit", OPTION_INT, &o->skip_limit, "3", 1, 1e6, .flags = CHANGES,
         .help = "Updates in a row with a loss or gradient norm that is not finite before the run ends with code 65."},
        {NULL, "spike-z", OPTION_REAL, &o->spike_z, "0", 0, 1e9,
         .help = "Skip an update whose gradient norm lies this many robust standard deviations above the median of "
                 "the last 128; 0: off."},

        {"Several ranks", "cluster", OPTION_TEXT, &o->parallel.cluster, NULL, .flags = OPTION_NOT_SAVED,
         .help = "With --plan: the machines to plan for, such as \"a100-80 x 384, network 50GB/s\"."},
        {NULL, "tensor-parallel", OPTION_INT, &o->parallel.tensor, "auto", 1, 4096, .flags = ranks,
         .help = "Ranks that split every layer; auto: 1, or what is best for --cluster."},
        {NULL, "pipeline-parallel", OPTION_INT, &o->parallel.pipeline, "auto", 1, 4096, .flags = ranks,
         .help = "Stages that split the row of layers; auto: 1, or what is best for --cluster."},
        {NULL, "data-parallel", OPTION_INT, &o->parallel.data, "auto", 1, 1 << 24, .flags = ranks,
         .help = "Replicas of the model, each with its share of the data; auto: all ranks divided by the two above."},
        {NULL, "zero", OPTION_INT, &o->parallel.zero, "auto", 0, 3, .flags = ranks,
         .help = "What replicas hold only a share of: 1: moments and averaged weights, 2: gradients too, 3: weights "
                 "too; auto: 1, or what is best for --cluster. With equal --slices results do not depend on it."},
        {NULL, "slices", OPTION_INT, &o->parallel.slices, "auto", 1, 4096, .flags = OPTION_AUTO | CHANGES,
         .help = "Parts of an update whose gradients are added up apart, a multiple of the replicas. Equal slices give "
                 "equal results on any number of ranks; auto: the replicas of the first start."},
        {NULL, "gpu-hour", OPTION_REAL, &o->parallel.gpu_hour, "0", 0, 1e6, .flags = OPTION_NOT_SAVED,
         .help = "With --cluster: price of an hour of one device."},

        {NULL, "stall-limit", OPTION_SECONDS, &o->stall_limit, "600", 0, 1e9, .flags = CHANGES,
         .help = "How long a rank may neither get on nor wait for another before all end with code 72; 0: for ever."},

        {"Reports and checkpoints", "eval-every", OPTION_INT, &o->eval_every, d->eval_every, 0, 1e12,
         .flags = OPTION_COMMON | CHANGES,
         .help = "Steps between evaluations; the first and last are always made."},
        {NULL, "sample-every", OPTION_INT, &o->sample_every, d->sample_every ? d->sample_every : "0", 0, 1e12,
         .flags = CHANGES, .help = "Steps between sample texts; 0: none."},
        {NULL, "log-every", OPTION_INT, &o->log_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Steps between progress lines; 0: by time. metrics.jsonl has every step."},
        {NULL, "tensorboard", OPTION_FLAG, &o->tensorboard, NULL, .flags = CHANGES,
         .help = "Also write metrics and samples for TensorBoard into the run folder."},
        {NULL, "profile-steps", OPTION_TEXT, &o->profile_steps, NULL, .flags = OPTION_NOT_SAVED,
         .help = "With a build for CUDA: the first and last step, a:b, that a profiler records when it waits to be "
                 "told (docs/cuda.md)."},
        {NULL, "save-every", OPTION_INT, &o->save_every, d->save_every, 0, 1e12, .flags = OPTION_COMMON | CHANGES,
         .help = "Steps between checkpoints; 0: only at the end, and when stopped."},
        {NULL, "keep", OPTION_INT, &o->keep, "3", 1, 1e6, .flags = CHANGES,
         .help = "Number of newest checkpoints to keep."},
        {NULL, "keep-every", OPTION_INT, &o->keep_every, "0", 0, 1e12, .flags = CHANGES,
         .help = "Also keep the checkpoints whose step is a multiple of this; 0: none."},
    };
    enum { COUNT = sizeof all / sizeof *all };
    static_assert((int)COUNT <= (int)TRAIN_ROWS, "TRAIN_ROWS is too small");
    memcpy(rows, all, sizeof all);
    return COUNT;
}

int parallel_check(const struct option *table, const struct train_options *o, struct error *error)
{
    const struct parallel_options *p = &o->parallel;
    int world = comm_place(o->comm).world;
    if (o->stochastic_rounding && sizeof(act_t) == sizeof(float))
        return fail(error, EXIT_USAGE, "--stochastic-rounding is about rounding weights to bfloat16, and this build "
                    "computes in float32: use one of make PRECISION=bf16");
    if (o->offload && device_shares_host())
        return fail(error, EXIT_USAGE, "--offload takes memory off a device, and this build has none: it computes on "
                    "the CPU");
    if (o->offload && p->cluster)
        return fail(error, EXIT_USAGE, "--offload is not in the formulas of --cluster: give one of them");
    if (p->cluster && !o->plan)
        return fail(error, EXIT_USAGE, "--cluster describes machines to plan for: it needs --plan");
    if (p->cluster) return option_needs(table, "gpu-hour", "cluster", error);
    int t = int_max((int)p->tensor, 1), stages = int_max((int)p->pipeline, 1), split = t * stages;
    if (stages > 1 && o->offload)
        return fail(error, EXIT_USAGE, "--offload with --pipeline-parallel %d: only ranks that hold all layers offload "
                    "them (1)", stages);
    if (stages > 1 && p->zero > 1)
        return fail(error, EXIT_USAGE, "--zero %lld with --pipeline-parallel %d: stages share out moments only (0 or "
                    "1)", (long long)p->zero, stages);
    if (stages > 1 && world % split)
        return fail(error, EXIT_USAGE, "--pipeline-parallel %d%s, but %d rank%s started: start a multiple of %d",
                    stages, t > 1 ? host_text(" with --tensor-parallel %d", t) : "", world,
                    world == 1 ? " was" : "s were", split);
    if (world % t)
        return fail(error, EXIT_USAGE, "--tensor-parallel %d, but %d rank%s started: start a multiple of it", t, world,
                    world == 1 ? " was" : "s were");
    if (p->data >= 0 && p->data * split != world)
        return fail(error, EXIT_USAGE, "--data-parallel %lld, but %d rank%s started (mpirun -n %lld, srun -n %lld)",
                    (long long)p->data, world, world == 1 ? " was" : "s were", (long long)p->data * split,
                    (long long)p->data * split);
    return option_needs(table, "gpu-hour", "cluster", error);
}

int profile_steps(int64_t *first, int64_t *last, const struct train_options *o, struct error *error)
{
    long long a = 0, b = 0;
    int end = 0;
    const char *text = o->profile_steps;
    if (text && (sscanf(text, "%lld:%lld%n", &a, &b, &end) != 2 || text[end] || a < 1 || b < a))
        return fail(error, EXIT_USAGE, "--profile-steps: '%s', expected a:b, the first and the last step to record, "
                    "with 1 <= a <= b", text);
    *first = a;
    *last = b;
    return 0;
}

/* ---- in checkpoints ---- */

/* The name in a checkpoint: dashes as underscores. */
static void key_of(char key[160], const struct option *o)
{
    snprintf(key, 160, "option.%s", o->name);
    for (char *p = key; *p; p++)
        if (*p == '-') *p = '_';
}

void options_save(struct kv *kv, const struct option *table)
{
    char key[160];
    for (const struct option *o = table; o->name; o++) {
        if (o->flags & OPTION_NOT_SAVED || option_unset(o)) continue;
        scoped char *value = option_text(o);
        key_of(key, o);
        kv_set_text(kv, key, value);
    }
}

void options_adopt(const struct option *table, const struct kv *saved)
{
    char key[160];
    for (const struct option *o = table; o->name; o++) {
        struct error none;
        const char *old = NULL;
        key_of(key, o);
        bool asked = o->flags & OPTION_MAY_CHANGE && option_given(table, o->name);
        if (option_auto(o) && !asked && kv_get_text(saved, key, &old) == 1) option_set(o, old, &none);
    }
}

int options_compare(const struct option *table, const struct kv *saved, struct error *error)
{
    char key[160];
    for (const struct option *o = table; o->name; o++) {
        if (o->flags & (OPTION_NOT_SAVED | OPTION_MAY_CHANGE)) continue;
        const char *old = NULL;
        key_of(key, o);
        if (kv_get_text(saved, key, &old) < 0) return fail(error, EXIT_DATA, "%s: not a text", key);
        scoped char *standard = old ? NULL : option_default_text(o), *now = option_text(o);
        if (!old) old = standard;
        if (strcmp(old, now) != 0)
            return fail(error, EXIT_MISMATCH, "--%s is %s now, but the run was started with %s: give the same value, "
                        "or another --out for a new run", o->name, *now ? text_shown(now).text : "not set",
                        *old ? text_shown(old).text : "none");
    }
    return 0;
}

/* ---- auto ---- */

double default_lr(enum stage stage, int channels)
{
    static const double share[] = {[STAGE_PRETRAIN] = 1, [STAGE_SFT] = 0.25, [STAGE_RM] = 0.125, [STAGE_RLHF] = 0.05};
    char text[16];
    snprintf(text, sizeof text, "%.1e", share[stage] * fmin(0.45 / channels, 0.004));
    return strtod(text, NULL);
}

int64_t default_batch_tokens(double tokens)
{
    double batch = 0.58 * pow(fmax(tokens, 1), 0.571);
    return (int64_t)fmax(BATCH_LEAST, exp2(floor(log2(batch))));
}

/* Slices are the run's: any number of ranks that divides it may go on with it. */
static void fill_ranks(struct train_options *o)
{
    struct place place = comm_place(o->comm);
    int d = place.d;
    o->parallel.slices_auto = o->parallel.slices < 0;
    if (o->parallel.slices < 0) o->parallel.slices = d;
    if (o->parallel.zero < 0) o->parallel.zero = d > 1;
    if (o->parallel.slices % d == 0) return;
    struct bytes list = {0};
    for (int i = 1; i <= o->parallel.slices; i++)
        if (o->parallel.slices % i == 0) bytes_text(&list, "%s%d", i > 1 ? ", " : "", i);
    quit(EXIT_USAGE, "%d %s cannot share out %lld slices: start one of %s, or give --slices a multiple of %d, which "
         "changes the results in the last digits", d, place.t * place.p > 1 ? "replicas" : "ranks",
         (long long)o->parallel.slices, list.data, d);
}

void parallel_fit(struct train_options *o, const struct config *c, int n)
{
    int d = comm_place(o->comm).d, t = comm_place(o->comm).t;
    if (!config_splits(c, t))
        quit(EXIT_USAGE, "--tensor-parallel %d: %d heads, %d key/value heads, %d hidden units and %d tokens cannot all "
             "be split evenly", t, c->heads, c->kv_heads, c->ffn, c->vocab);
    if (comm_place(o->comm).p > c->layers)
        quit(EXIT_USAGE, "--pipeline-parallel %d: each stage takes a layer at least, and the model has %d",
             comm_place(o->comm).p, c->layers);
    o->parallel.micro = (n + o->parallel.slices - 1) / o->parallel.slices;
    if (o->parallel.zero < 2 || d == 1) return;
    if (o->parallel.slices_auto) o->parallel.slices = (n + d - 1) / d * d;
    if (n <= o->parallel.slices) return;
    quit(EXIT_USAGE, "--zero %lld adds gradients up after every micro-batch, and an update has %d of them, but %lld "
         "slices: give --zero 1, or --slices %d, which changes the results in the last digits",
         (long long)o->parallel.zero, n, (long long)o->parallel.slices,
         (n + d - 1) / d * d);
}

void train_use(struct model_use *use, const struct train_options *o)
{
    use->comm = o->comm;
    use->train = true;
    use->offload = o->offload != 0;
    use->at_random = o->stochastic_rounding;
    use->seed = (uint64_t)o->seed;
    use->recompute = o->recompute != 0;
    use->slices = (int)o->parallel.slices;
    use->zero = comm_place(o->comm).d > 1 ? (int)o->parallel.zero : 0;
    use->flights = int_min((int)o->parallel.micro, comm_place(o->comm).p - comm_place(o->comm).pipe);
}

void defaults_fill(struct train_options *o, const struct option *table, struct run *run, enum stage stage, int channels,
                   double epoch_tokens, double least)
{
    struct ckpt *c = program_resumed(run, o->resume);
    if (c) options_adopt(table, &ckpt_meta_of(c)->trns);
    ckpt_close(c);
    if (o->lr < 0) o->lr = default_lr(stage, channels);
    if (o->batch_tokens < 0) {
        o->batch_tokens = default_batch_tokens(o->tokens > 0 ? (double)o->tokens : o->epochs * epoch_tokens);
        while ((double)o->batch_tokens < least) o->batch_tokens *= 2;
    }
    fill_ranks(o);
    if (o->micro_tokens < 0) {
        int64_t slice = (o->batch_tokens + o->parallel.slices - 1) / o->parallel.slices;
        o->micro_tokens = slice < MICRO_MOST ? slice : MICRO_MOST;
    }
}
