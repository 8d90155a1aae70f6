/* bench_model.c - the whole model: training steps by phase, prompts, decoding and the passes over all parameters, each as
 * a share of this machine's limit in the same run.  Rounds go through all cases in turn and medians are taken over the
 * rounds, so that a slow minute of a shared machine falls on all alike.
 *     bench_model [THREADS [ROUNDS]]     bench_model THREADS beside CASE */
#include "common/model/sample.h"
#include "test/bench/limits.h"
#include "test/bench/train_step.h"

#include <math.h>

enum { MOST_ROUNDS = 9, CASES = 7 };
static const char *const phase_name[] = {"forward", "loss head", "backward", "norm", "update"};

/* ---- models ---- */

static struct config gpt2(int layers, int channels, int heads)
{
    struct config c;
    struct error error;
    if (config_preset(&c, "gpt2", &error)) quit_error(&error);
    c.layers = layers, c.channels = channels, c.heads = c.kv_heads = heads, c.head_dim = 64, c.ffn = 4 * channels;
    return c;
}

/* ---- training ---- */

struct training {
    int subject;                                    /* which of the models */
    const char *name;
    int S, T;
    double goal;
    double time[PHASES][MOST_ROUNDS], share[MOST_ROUNDS];
    int rounds;
};

static void train_round(struct training *t, struct subject *s, int step)
{
    double mark[PHASES], peak = bench_peak_now();
    struct batch b;
    batch_make(&b, t->S, t->T, s->m.config.vocab);
    double sum[PHASES] = {0};
    int steps = 0;
    do {                                            /* a tenth of a second at least */
        train_step(&s->m, &b, step, mark);
        for (int p = 0; p < STEP; p++) sum[p] += mark[p + 1] - mark[p];
        sum[STEP] += mark[STEP] - mark[FORWARD];
        steps++;
    } while (sum[STEP] < 0.1);
    batch_close(&b);
    if (step == 0) return;                          /* the first one also touches memory for the first time */
    for (int p = 0; p < PHASES; p++) t->time[p][t->rounds] = sum[p] / steps;
    t->share[t->rounds++] = b.N * config_train_flops(&s->m.config, t->T) * steps / sum[STEP] / peak;
}

static void train_line(struct training *t)
{
    char text[100];
    double step = bench_median(t->time[STEP], t->rounds);
    printf("  %-16s %6.1f ms a step:", t->name, 1e3 * step);
    for (int p = 0; p < STEP; p++) {
        double seconds = bench_median(t->time[p], t->rounds);
        printf("  %s %.1f (%.0f %%)", phase_name[p], 1e3 * seconds, 100 * seconds / step);
    }
    printf("\n");
    snprintf(text, sizeof text, "training %s, tokens/s", t->name);
    bench_result(text, t->S * t->T / step, "", 0);
    snprintf(text, sizeof text, "training %s", t->name);
    bench_result(text, 100 * bench_median(t->share, t->rounds), "% of FMA peak", t->goal);
}

/* The model of `make demo`. */
static struct config demo(void)
{
    struct config c;
    struct error error;
    if (config_preset(&c, "llama", &error)) quit_error(&error);
    c.layers = 4, c.channels = 128, c.heads = c.kv_heads = 4, c.head_dim = 32, c.ffn = 384, c.vocab = 512;
    return c;
}

static struct training cases[CASES] = {
    {0, "124M 4 x 64", 4, 64, 68}, {0, "124M 4 x 256", 4, 256, 75}, {0, "124M 1 x 1024", 1, 1024, 0},
    {1, "6 x 384 4 x 64", 4, 64, 0}, {1, "6 x 384 4 x 256", 4, 256, 70},
    {2, "4 x 128 32 x 64", 32, 64, 0}, {2, "4 x 128 2 x 64", 2, 64, 0}};

static void open_model(struct subject *s, int which)
{
    struct config c = which == 0 ? gpt2(12, 768, 12) : which == 1 ? gpt2(6, 384, 6) : demo();
    bool tiny = which == 2;
    subject_open(s, &c, &(struct model_use){.train = true, .max_tokens = tiny ? 2048 : 1024,
                                            .max_sequences = tiny ? 32 : 4});
}

static void bench_training(int rounds)
{
    struct subject subject[3] = {0};
    for (int i = 0; i < CASES; i++) {
        struct subject *s = &subject[cases[i].subject];
        if (!s->m.acts && bench_wanted(cases[i].name)) open_model(s, cases[i].subject);
    }
    printf("\ntraining steps\n");
    for (int r = 0; r <= rounds; r++)
        for (int i = 0; i < CASES; i++)
            if (bench_wanted(cases[i].name)) train_round(&cases[i], &subject[cases[i].subject], r);
    for (int i = 0; i < CASES; i++)
        if (cases[i].rounds) train_line(&cases[i]);
    for (int i = 0; i < 3; i++) subject_close(&subject[i]);
}

/* For bench_torch.sh: for each line of the input a round of the case of that name, and its tokens/s as a line. */
static void bench_beside(const char *name)
{
    struct training *t = cases;
    struct subject subject;
    char line[8];
    while (t < cases + CASES && strcmp(t->name, name) != 0) t++;
    if (t == cases + CASES) die("no training step is named \"%s\"", name);
    open_model(&subject, t->subject);
    for (int r = 0; fgets(line, sizeof line, stdin); r++) {
        t->rounds = 0;
        train_round(t, &subject, r + 1);
        printf("%.1f\n", t->S * t->T / t->time[STEP][0]);
        fflush(stdout);
    }
    subject_close(&subject);
}

/* ---- passes over all parameters ---- */

struct passes { struct model *m; struct adamw_options adamw; };

static void update_pass(void *context)
{
    struct model *m = ((struct passes *)context)->m;
    struct adamw a = {1e-4f, 0.9f, 0.95f, 1e-8f, 0, 0.1f, 0.05f, 1};
    adamw_update(m->params.all, m->grads.all, m->m, m->v, m->params.count, &a);
}
static void norm_pass(void *context) { gradient_norm(((struct passes *)context)->m); }
static void pack_pass(void *context)
{
    struct model *m = ((struct passes *)context)->m;
    params_pack(&m->params, &m->config);
}
static void ema_pass(void *context)
{
    struct model *m = ((struct passes *)context)->m;
    ema_update(m->m, m->params.all, 0.99f, m->params.count);
}
static void clear_pass(void *context)
{
    struct model *m = ((struct passes *)context)->m;
    fill(m->grads.all, 0, m->grads.count);
}

static void bench_passes(const struct bench_limits *limits)
{
    /* each beside the plain loop that moves memory in the same way */
    static const struct { const char *name; void (*run)(void *); double bytes; enum bench_stream like; } pass[] = {
        {"AdamW", update_pass, 32, BENCH_UPDATE}, {"gradient norm", norm_pass, 4, BENCH_READ},
        {"packing", pack_pass, 4 + sizeof(act_t), BENCH_COPY}, {"average (EMA)", ema_pass, 12, BENCH_UPDATE},
        {"filling", clear_pass, 4, BENCH_WRITE}};
    struct subject s;
    struct config c = gpt2(12, 768, 12);
    subject_open(&s, &c, &(struct model_use){.train = true, .max_tokens = 1, .max_sequences = 1});
    struct passes p = {.m = &s.m};
    printf("\npasses over %.0f M parameters\n", 1e-6 * (double)s.m.params.count);
    for (size_t i = 0; i < sizeof pass / sizeof *pass; i++) {
        double seconds = bench_seconds(pass[i].run, &p, 0.6), rate = pass[i].bytes * (double)s.m.params.count / seconds;
        char text[100];
        printf("  %-14s %6.1f ms, %5.1f GB/s\n", pass[i].name, 1e3 * seconds, 1e-9 * rate);
        snprintf(text, sizeof text, "%s, %.0f bytes a parameter", pass[i].name, pass[i].bytes);
        bench_result(text, 100 * rate / limits->rate[pass[i].like], "% of bandwidth", 90);
    }
    subject_close(&s);
}

/* ---- generation ---- */

enum { SLOTS = 32, CAPACITY = 128, PROMPT = 512 };

static void prompt_pass(void *context)
{
    struct model *m = context;
    int tokens[PROMPT], slots[PROMPT], positions[PROMPT], last[4];
    for (int i = 0; i < PROMPT; i++) {
        tokens[i] = i * 97 % m->config.vocab;
        slots[i] = i / CAPACITY;
        positions[i] = i % CAPACITY;
        last[slots[i]] = i;
    }
    model_decode(m, tokens, slots, positions, PROMPT);
    model_logits(m, last, PROMPT / CAPACITY);
}

/* Seconds a token of each of n samples, whose prompts have one token. */
static double decode_seconds(struct model *m, int n, int length)
{
    enum { LONGEST = 64 };
    static int tokens[SLOTS][LONGEST];
    static float logprobs[SLOTS][LONGEST];
    struct sample sample[SLOTS];
    struct sample_settings settings = {.sampling = {.temperature = 1, .top_p = 1}, .stream = RNG_SAMPLE, .seed = 1};
    int prompt = 11;
    for (int i = 0; i < n; i++)
        sample[i] = (struct sample){.prompt = &prompt, .n_prompt = 1, .index = (uint64_t)i, .most = length,
                                    .tokens = tokens[i], .logprobs = logprobs[i]};
    double start = bench_clock();
    sample_run(m, sample, n, &settings, NULL, NULL);
    return (bench_clock() - start) / length;
}

static void bench_generation(const struct bench_limits *limits, int rounds)
{
    static const int batch[] = {1, 8, 32};
    static const double goal[] = {0, 330, 500};
    struct subject s;
    struct config c = gpt2(12, 768, 12);
    subject_open(&s, &c, &(struct model_use){.max_tokens = PROMPT, .max_sequences = 1, .cache_slots = SLOTS,
                                             .cache_capacity = CAPACITY, .logits_rows = SLOTS});
    double body = (double)(config_matmul_parameters(&c) - (uint64_t)c.vocab * (uint64_t)c.channels);
    double seconds = bench_seconds(prompt_pass, &s.m, 4);
    printf("\ngeneration with 124M parameters\n");
    bench_result("prompt of 4 x 128, tokens/s", PROMPT / seconds, "", 0);
    bench_result("prompt of 4 x 128", 100 * 2 * body * PROMPT / seconds / limits->peak, "% of FMA peak", 0);
    double time[3][MOST_ROUNDS];
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < 3; i++) time[i][r] = decode_seconds(&s.m, batch[i], 24);
    for (int i = 0; i < 3; i++) {
        char text[100];
        double token = bench_median(time[i], rounds), weights = (double)config_matmul_parameters(&c);
        double bytes = sizeof(act_t) * weights / limits->rate[BENCH_READ], work = 2 * weights * batch[i] / limits->peak;
        snprintf(text, sizeof text, "decoding %d at once, tokens/s", batch[i]);
        bench_result(text, batch[i] / token, "", goal[i]);
        snprintf(text, sizeof text, "decoding %d at once", batch[i]);
        bench_result(text, 100 * fmax(bytes, work) / token, bytes > work ? "% of read bandwidth" : "% of FMA peak",
                     i == 0 ? 85 : 0);
    }
    subject_close(&s);
}

int main(int argc, char **argv)
{
    bool beside = argc == 4 && strcmp(argv[2], "beside") == 0;
    int rounds = argc == 3 ? atoi(argv[2]) : 5;
    if (rounds < 1 || rounds > MOST_ROUNDS) die("rounds: 1 to %d", MOST_ROUNDS);
    threads_start(argc > 1 ? atoi(argv[1]) : 0);
    if (beside) {
        bench_beside(argv[3]);
        threads_stop();
        return 0;
    }
    if (bench_wanted("passes") || bench_wanted("generation")) {
        struct bench_limits limits = bench_limits();
        if (bench_wanted("passes")) bench_passes(&limits);
        if (bench_wanted("generation")) bench_generation(&limits, rounds);
    }
    bench_training(rounds);
    threads_stop();
    return 0;
}
