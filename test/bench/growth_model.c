/* growth_model.c - how the cost of a training step grows: parameters, context, vocabulary, sequences, threads.  A row a
 * case: speed as tokens and as operations a second, that as a share of the best of its table, and the memory that was
 * planned beside what is resident.  Part of `make bench-growth`.     growth_model [threads] */
#include "test/bench/train_step.h"

#include <unistd.h>

enum { STEPS_LEAST = 3, STEPS_MOST = 9, SPARE = 3 };    /* SPARE: GiB that a case leaves to others */

struct growth_case { int layers, channels, vocab, S, T, threads; };
struct outcome { char name[80]; double rate, flops, planned, resident, parameters; };

static struct config llama(const struct growth_case *t)
{
    struct config c;
    struct error error;
    if (config_preset(&c, "llama", &error)) quit_error(&error);
    c.layers = t->layers, c.channels = t->channels, c.heads = c.kv_heads = t->channels / 64, c.head_dim = 64;
    c.ffn = (t->channels * 8 / 3 + 63) / 64 * 64, c.vocab = t->vocab, c.context = t->T;
    return c;
}

/* Bytes of this process in memory now. */
static double resident(void)
{
    long all, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &all, &here) != 2) here = 0;
    if (f) fclose(f);
    return (double)here * (double)sysconf(_SC_PAGESIZE);
}

static void measure(struct outcome *o, struct subject *s, const struct growth_case *t)
{
    double mark[PHASES], time[STEPS_MOST], all = 0;
    int n = 0;
    struct batch b;
    batch_make(&b, t->S, t->T, t->vocab);
    for (int step = 0; step <= STEPS_MOST && (n < STEPS_LEAST || all < 0.5); step++) {
        train_step(&s->m, &b, step, mark);
        if (step == 0) continue;                        /* memory is touched for the first time */
        all += time[n++] = mark[STEP] - mark[FORWARD];
    }
    batch_close(&b);
    o->rate = t->S * t->T / bench_median(time, n);
    o->flops = o->rate * config_train_flops(&s->m.config, t->T);
}

/* False: not enough memory is free. */
static bool run(struct outcome *o, const struct growth_case *t)
{
    struct config c = llama(t);
    struct model_use use = {.train = true, .max_tokens = t->S * t->T, .max_sequences = t->S};
    struct memory need = {0};
    struct model measured;
    struct subject s;
    char count[16];
    threads_start(t->threads);
    ops_open(&need);
    model_open(&measured, &c, &use, &need);
    model_close(&measured);
    o->planned = (double)(memory_total(&need, SIDE_DEVICE) + memory_total(&need, SIDE_HOST));
    o->parameters = (double)config_parameters(&c);
    snprintf(o->name, sizeof o->name, "%s: %d x %d, V %d, %d x %d, %d thread%s", text_count(count, o->parameters),
             t->layers, t->channels, t->vocab, t->S, t->T, threads_count(), threads_count() > 1 ? "s" : "");
    if (o->planned + SPARE * 0x1p30 > (double)host_memory_available()) return false;
    double before = resident();
    subject_open(&s, &c, &use);
    measure(o, &s, t);
    o->resident = resident() - before;
    subject_close(&s);
    return true;
}

static void table(const char *what, const struct growth_case *t, int n)
{
    struct outcome o[16];
    double best = 0;
    bool ran[16];
    for (int i = 0; i < n; i++) {
        ran[i] = run(&o[i], &t[i]);
        if (ran[i] && o[i].flops > best) best = o[i].flops;
    }
    printf("\n| %s | tokens/s | tokens/s x parameters, 1e9 | GFLOP/s | of the best | memory planned | resident |\n"
           "|---|---|---|---|---|---|---|\n", what);
    for (int i = 0; i < n; i++) {
        if (ran[i])
            printf("| %s | %.0f | %.1f | %.0f | %.0f %% | %.0f MB | %.0f MB |\n", o[i].name, o[i].rate,
                   1e-9 * o[i].rate * o[i].parameters, 1e-9 * o[i].flops, 100 * o[i].flops / best, 1e-6 * o[i].planned,
                   1e-6 * o[i].resident);
        else printf("| %s | skipped: %.0f MB and %d GiB for others are not free | | | | | |\n", o[i].name,
                    1e-6 * o[i].planned, SPARE);
    }
    fflush(stdout);
}

/* GROWTH="parameters context" selects tables. */
static bool wanted(const char *name)
{
    const char *list = getenv("GROWTH");
    return !list || !*list || strstr(list, name);
}

static void threads_table(const struct growth_case *model)
{
    struct growth_case t[16];
    int n = 0, most;
    threads_start(0);
    most = threads_count();
    for (int k = 1; k < most && n < 15; k *= 2) t[n] = *model, t[n++].threads = k;
    t[n] = *model, t[n++].threads = most;
    table("threads", t, n);
}

int main(int argc, char **argv)
{
    int all = argc > 1 ? atoi(argv[1]) : 0;
    struct growth_case parameters[] = {{4, 192, 8192, 2, 256, all}, {6, 384, 8192, 2, 256, all},
                                       {10, 512, 8192, 2, 256, all},
                                       {12, 768, 8192, 2, 256, all}, {24, 1024, 8192, 2, 256, all},
                                       {40, 1280, 8192, 2, 256, all}};
    struct growth_case context[] = {{4, 256, 4096, 64, 256, all}, {4, 256, 4096, 16, 1024, all},
                                    {4, 256, 4096, 4, 4096, all}, {4, 256, 4096, 1, 16384, all}};
    struct growth_case vocabulary[] = {{6, 384, 512, 4, 256, all}, {6, 384, 8192, 4, 256, all},
                                       {6, 384, 32768, 4, 256, all}, {6, 384, 150000, 4, 256, all}};
    struct growth_case batch[] = {{6, 256, 4096, 1, 64, all}, {6, 256, 4096, 4, 64, all}, {6, 256, 4096, 16, 64, all},
                                  {6, 256, 4096, 64, 64, all}, {6, 256, 4096, 256, 64, all}};
    printf("%s, seconds of %s\n", device_name(), getenv("BENCH_CLOCK") && !strcmp(getenv("BENCH_CLOCK"), "cpu") ?
           "the processor, a thread" : "the clock");
    if (wanted("parameters")) table("parameters", parameters, 6);
    if (wanted("context")) table("context", context, 4);
    if (wanted("vocabulary")) table("vocabulary", vocabulary, 4);
    if (wanted("batch")) table("sequences of a batch", batch, 5);
    if (wanted("threads")) threads_table(&parameters[3]);
    threads_stop();
    return 0;
}
