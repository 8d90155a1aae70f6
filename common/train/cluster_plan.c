/* cluster_plan.c - --plan --cluster: tries every way to share the work that the options leave open, and prints what the
 * best takes.  Where each number comes from stands beside it. */
#include "common/train/cluster.h"

#include <math.h>

/* ---- search ---- */

struct search {
    const struct cluster_work *work;
    const struct cluster *cluster;
    struct layout best;
    double seconds;                 /* of the best; INFINITY before there is one */
    double least;                   /* memory of the layout that takes least */
    int64_t tried;
};

static double memory_limit(const struct cluster *c) { return c->memory - c->reserve; }

static int sequences_per_step(const struct cluster_work *w)
{
    return (int)fmin(1e9, ceil((double)w->batch_tokens / w->sequence));
}

static void try(struct search *s, const struct layout *l)
{
    struct step_time time;
    struct rank_memory memory;
    s->tried++;
    cluster_step(&time, l, &s->work->config, s->cluster);
    if (s->seconds < INFINITY && !(time.total < 0.999 * s->seconds)) return;      /* the simpler of equals */
    rank_memory(&memory, l, &s->work->config, s->cluster);
    s->least = fmin(s->least, memory.total);
    if (!(memory.total <= memory_limit(s->cluster))) return;
    s->best = *l;
    s->seconds = time.total;
}

/* ZeRO stages, sizes of a micro-batch, and with or without recomputing, for given t, p and d. */
static void try_replicas(struct search *s, struct layout l)
{
    const struct cluster_work *w = s->work;
    int B = sequences_per_step(w), rows = w->micro_tokens > 0 ? int_max(1, (int)(w->micro_tokens / w->sequence)) : 0;
    for (l.zero = w->zero >= 0 ? (int)w->zero : 0; l.zero <= (w->zero >= 0 ? (int)w->zero : 3); l.zero++) {
        if ((l.zero > 1 && l.p > 1) || (w->zero < 0 && l.zero > 0 && l.d == 1)) break;
        for (l.b = rows ? rows : 1; l.b <= (rows ? rows : 64); l.b *= 2) {
            if (l.b > 1 && (int64_t)l.b * l.d > B) break;
            l.m = (int)ceil((double)B / ((double)l.d * l.b));
            for (int again = 0; again < 2; again++) {
                l.recompute = again ? RECOMPUTE_BLOCK : RECOMPUTE_NONE;
                if (w->recompute < 0 || w->recompute == (int)l.recompute) try(s, &l);
            }
        }
    }
}

static bool may_split(const struct config *c, int64_t t) { return c->heads % t == 0 && c->kv_heads % t == 0; }

static int check_given(const struct cluster_work *w, const struct cluster *c, struct error *error)
{
    int64_t t = w->t > 0 ? w->t : 1, p = w->p > 0 ? w->p : 1, d = w->d > 0 ? w->d : 1;
    if (!may_split(&w->config, t))
        return fail(error, EXIT_USAGE, "--tensor-parallel %lld: %d heads and %d key/value heads cannot be shared "
                    "evenly", (long long)t, w->config.heads, w->config.kv_heads);
    if (p > w->config.layers)
        return fail(error, EXIT_USAGE, "--pipeline-parallel %lld: there are only %d layers", (long long)p,
                    w->config.layers);
    if (w->zero > 1 && w->p > 1)
        return fail(error, EXIT_USAGE, "--zero %lld goes with one pipeline stage only", (long long)w->zero);
    if (c->devices % (t * p * d) != 0 || (w->t > 0 && w->p > 0 && w->d > 0 && t * p * d != c->devices))
        return fail(error, EXIT_USAGE, "%lld tensor x %lld pipeline x %lld data ranks do not share %lld devices evenly",
                    (long long)t, (long long)p, (long long)d, (long long)c->devices);
    return 0;
}

/* Tensor ranks that do not lie within one host are tried only when asked for. */
static void try_all(struct search *s)
{
    const struct cluster_work *w = s->work;
    int64_t n = s->cluster->devices, widest = w->t > 0 ? w->t : s->cluster->host;
    int64_t longest = w->p > 0 ? w->p : w->config.layers;
    for (int64_t t = w->t > 0 ? w->t : 1; t <= widest; t++) {
        if (n % t != 0 || !may_split(&w->config, t) || (w->t < 0 && s->cluster->host % t != 0)) continue;
        for (int64_t p = w->p > 0 ? w->p : 1; p <= longest; p++) {
            if (n % (t * p) != 0 || (w->d > 0 && t * p * w->d != n)) continue;
            if ((w->config.layers + p - 1) / p * (p - 1) >= w->config.layers) continue;     /* a stage would be empty */
            try_replicas(s, (struct layout){.t = (int)t, .p = (int)p, .d = (int)(n / (t * p)), .s = w->sequence,
                                            .chunks = 1});
        }
    }
}

int cluster_search(struct layout *best, const struct cluster_work *w, const struct cluster *c, struct error *error)
{
    struct search s = {.work = w, .cluster = c, .seconds = INFINITY, .least = INFINITY};
    if (check_given(w, c, error) != 0) return -1;
    try_all(&s);
    *best = s.best;
    if (s.seconds < INFINITY) return 0;
    if (s.tried == 0)
        return fail(error, EXIT_USAGE, "no way to share %lld devices goes with these options", (long long)c->devices);
    return fail(error, EXIT_INTERNAL, "a rank needs at least %.1f GB, and %.1f GB are there after the reserve: more "
                "devices, fewer --micro-tokens, --recompute block or a higher --zero lower it", s.least / 1e9,
                memory_limit(c) / 1e9);
}

/* ---- printing ---- */

static void line(const char *name, double bytes, const char *note)
{
    printf("  %-11s %9.2f GB%s%s\n", name, bytes / 1e9, *note ? "  " : "", note);
}

static void print_memory(const struct layout *l, const struct cluster_work *w, const struct cluster *c)
{
    struct rank_memory m;
    const struct number_bytes *k = &c->bytes;
    char text[120];
    rank_memory(&m, l, &w->config, c);
    printf("memory of a rank (measured: what the model of this rank's shape takes, at %g bytes a number)\n",
           k->activation);
    snprintf(text, sizeof text, "%g weight + %g gradient + %g master and moments a parameter, ZeRO-%d", k->weight,
             k->gradient, k->optimizer, l->zero);
    line("state", m.state, text);
    snprintf(text, sizeof text, "%d of %d micro-batches at once; calculated by formula: %.2f GB", int_min(l->m, l->p),
             l->m, m.acts_formula / 1e9);
    line("activations", m.acts, text);
    line("work", m.work, "");
    line("reserve", c->reserve, "assumed: runtime and fragmentation");
    snprintf(text, sizeof text, "of %.0f GB", c->memory / 1e9);
    line("together", m.total + c->reserve, text);
}

static void print_traffic(const struct layout *l, const struct cluster_work *w, const struct cluster *c)
{
    const struct config *m = &w->config;
    printf("sent by a rank in a step (calculated)\n");
    line("tensor", tensor_sent(l, m, c->bytes.activation), "");
    line("pipeline", pipeline_sent(l, m, c->bytes.activation), "");
    line("data", state_sent(&c->bytes, l->zero, l->d, l->m, layout_parameters(l, m)), "");
}

static void print_time(const struct step_time *t)
{
    const struct { const char *name; double seconds; } part[] = {
        {"compute", t->compute}, {"tensor", t->tensor}, {"pipeline", t->pipeline}, {"bubble", t->bubble},
        {"data", t->data}, {"optimizer", t->optimizer}, {"together", t->total}};
    printf("time of a step (calculated)\n");
    for (int i = 0; i < 7; i++)
        printf("  %-11s %9.3f s   %5.1f %%\n", part[i].name, part[i].seconds, 100 * part[i].seconds / t->total);
}

static void print_run(const struct layout *l, const struct cluster_work *w, const struct cluster *c, double seconds)
{
    char a[16], b[16], d[16];
    double step_tokens = (double)sequences_per_step(w) * w->sequence, steps = ceil(w->tokens / step_tokens);
    double flop = config_train_flops(&w->config, w->sequence), devices = (double)c->devices;
    double rate = step_tokens * flop / (seconds * devices);
    double days = cluster_days(steps * step_tokens * flop, devices, rate), hours = 24 * days * devices;
    double save = 12 * (double)config_parameters(&w->config) / c->storage, failure = c->failure / devices;
    double best = save_cadence(save, failure), every = fmin(best, 1800);
    double share = goodput(every, save, failure, c->restart);
    printf("speed (calculated)   %s tokens/s, %s FLOP/s a device, MFU %.1f %%\n", text_count(a, step_tokens / seconds),
           text_count(b, rate), 100 * rate / c->flops);
    printf("run (calculated)     %.0f steps of %s tokens, %.3g flop: %.1f days, %s device hours", steps,
           text_count(a, step_tokens), steps * step_tokens * flop, days, text_count(b, hours));
    if (w->gpu_hour > 0) printf(", cost %s", text_count(d, hours * w->gpu_hour));
    printf("\nsaving (calculated)  %.1f GB in %.0f s; a failure every %s: save every %s", 12e-9 *
           (double)config_parameters(&w->config), save, text_duration(a, failure), text_duration(b, every));
    if (best > every) printf(" (%s would lose least)", text_duration(d, best));
    if (!(share > 0)) {
        printf("\nwarning: failures come so often that such a run never ends\n");
        return;
    }
    printf("\ngoodput (calculated) %.3f: %.1f days, %s device hours", share, days / share,
           text_count(b, hours / share));
    if (w->gpu_hour > 0) printf(", cost %s", text_count(d, hours / share * w->gpu_hour));
    printf("\n");
    int B = sequences_per_step(w);
    if (B % (l->d * l->b) != 0)
        printf("warning: %d sequences a step do not fill %d replicas x %d micro-batches of %d: some wait\n", B, l->d,
               l->m, l->b);
}

/* Shapes that run slower than the formulas know: 112 heads instead of 64 cost BLOOM 15 %. */
static void print_warnings(const struct layout *l, const struct config *m, const struct cluster *c)
{
    if (c->units > 0 && m->head_dim % 8 != 0)
        printf("warning: %d channels a head are not a multiple of 8: attention is slower than this plan\n",
               m->head_dim);
    if (c->units > 0 && m->channels % 128 != 0)
        printf("warning: %d channels are not a multiple of 128: products are slower than this plan\n", m->channels);
    if (c->units > 0 && (m->vocab % l->t != 0 || m->vocab / l->t % 128 != 0))
        printf("warning: a vocabulary of %d over %d rank%s is not a multiple of 128 each: the output is slower than "
               "this plan; %d would be\n", m->vocab, l->t, plural(l->t),
               (m->vocab + 128 * l->t - 1) / (128 * l->t) * 128 * l->t);
    if (l->t > c->host)
        printf("warning: %d tensor ranks do not lie within a host of %lld\n", l->t, (long long)c->host);
}

void cluster_plan(const struct layout *l, const struct cluster_work *w, const struct cluster *c)
{
    char text[200], a[16];
    struct step_time time;
    scoped_bytes struct bytes machines = {0};
    bool all = w->t > 0 && w->p > 0 && w->zero >= 0 && w->micro_tokens > 0 && w->recompute >= 0;
    cluster_print(&machines, c);
    cluster_step(&time, l, &w->config, c);
    printf("cluster     %s%s\n", machines.data, c->measured ? " (peak, memory and hbm measured here)" : "");
    printf("model       %s\n", config_line(text, sizeof text, &w->config));
    printf("parameters  %s (%llu)\n", text_count(a, (double)config_parameters(&w->config)),
           (unsigned long long)config_parameters(&w->config));
    printf("layout      tensor %d, pipeline %d, data %d, ZeRO-%d; %d micro-batch%s of %d x %d tokens a replica%s "
           "(%s)\n", l->t, l->p, l->d, l->zero, l->m, l->m == 1 ? "" : "es", l->b, l->s,
           l->recompute ? "; blocks recomputed" : "", all ? "given" : "the fastest that fits");
    print_memory(l, w, c);
    print_traffic(l, w, c);
    print_time(&time);
    print_run(l, w, c, time.total);
    print_warnings(l, &w->config, c);
}
