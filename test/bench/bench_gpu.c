/* bench_gpu.c - training steps, attention, the passes over all parameters and decoding on one GPU, each beside what the
 * same GPU reaches in the same run: in its largest products, and in copies of its memory.  Without a usable GPU it ends
 * with one sentence and code 69.
 *     bench_gpu [tiny]      tiny: shapes for the simulator, which only show that it runs */
#include "common/model/sample.h"
#include "test/act_host.h"
#include "test/bench/train_step.h"

struct machine { double products, copies; bool tiny; };     /* flop/s, bytes/s */

static void say(const char *what, const char *unit, double value) { bench_result(what, value, unit, 0); }

/* Median seconds of one of `repeats` runs that follow one another. */
static double seconds_of(void (*run)(void *), void *context, int repeats)
{
    double time[3];
    run(context);
    device_wait();
    for (int i = 0; i < 3; i++) {
        double start = bench_clock();
        for (int k = 0; k < repeats; k++) run(context);
        device_wait();
        time[i] = (bench_clock() - start) / repeats;
    }
    return bench_median(time, 3);
}

/* What the data sheets say of dense bfloat16 products; 0: of a GPU that is not listed. */
static double sheet_flops(const char *device)
{
    static const struct { const char *name; double flops; } sheet[] = {
        {"A100", 312e12}, {"H100", 989e12}, {"H200", 989e12}, {"A10", 125e12}, {"L40", 181e12}, {"4090", 165e12}};
    for (size_t i = 0; i < sizeof sheet / sizeof *sheet; i++)
        if (strstr(device, sheet[i].name)) return sheet[i].flops;
    return 0;
}

struct copying { char *to, *from; size_t bytes; };

static void copy_once(void *context)
{
    struct copying *c = context;
    device_copy(c->to, c->from, c->bytes);
}

static struct machine machine_open(bool tiny)
{
    struct copying c = {.bytes = tiny ? 1 << 16 : (size_t)1 << 30};
    struct machine m = {.products = device_peak_flops(), .tiny = tiny};
    c.to = device_alloc(c.bytes), c.from = device_alloc(c.bytes);
    m.copies = 2 * (double)c.bytes / seconds_of(copy_once, &c, 5);
    device_free(c.to, c.bytes), device_free(c.from, c.bytes);
    printf("%s; %s\n", device_name(), device_build());
    say("largest products", "TFLOP/s", 1e-12 * m.products);
    say("copies of memory, read and written", "GB/s", 1e-9 * m.copies);
    return m;
}

/* ---- training ---- */

static struct config gpt2(int layers, int channels, bool tiny)
{
    struct config c;
    struct error error;
    if (config_preset(&c, "gpt2", &error)) quit_error(&error);
    c.layers = tiny ? 2 : layers, c.channels = tiny ? 64 : channels, c.heads = c.kv_heads = c.channels / 64;
    c.head_dim = 64, c.ffn = 4 * c.channels, c.vocab = tiny ? 100 : 50304;
    if (tiny) c.context = 16;
    return c;
}

struct stepping { struct subject s; struct batch b; int step; };

static void step_once(void *context)
{
    struct stepping *t = context;
    double mark[PHASES];
    train_step(&t->s.m, &t->b, t->step++, mark);
}

/* As many sequences of the context at once as memory holds; 0: not one. */
static int sequences_that_fit(const struct config *c)
{
    for (int S = 32; S > 0; S /= 2) {
        struct subject s = {0};
        struct model_use use = {.train = true, .max_tokens = S * c->context, .max_sequences = S};
        ops_open(&s.memory);
        model_open(&s.m, c, &use, &s.memory);
        size_t bytes = memory_total(&s.memory, SIDE_DEVICE);
        model_close(&s.m);
        memory_close(&s.memory);
        if ((double)bytes < 0.95 * (double)device_memory_available()) return S;
    }
    return 0;
}

static void bench_training(const struct machine *machine)
{
    static const struct { const char *name; int layers, channels; } models[] = {
        {"124M", 12, 768}, {"350M", 24, 1024}, {"1.5B", 48, 1600}};
    double sheet = sheet_flops(device_name());
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct stepping t = {0};
        struct config c = gpt2(models[i].layers, models[i].channels, machine->tiny);
        int S = machine->tiny ? 1 : sequences_that_fit(&c);
        char text[100];
        if (S == 0) {
            printf("skipped: training of %s does not fit this GPU\n", models[i].name);
            continue;
        }
        subject_open(&t.s, &c, &(struct model_use){.train = true, .max_tokens = S * c.context, .max_sequences = S});
        batch_make(&t.b, S, c.context, c.vocab);
        double rate = t.b.N / seconds_of(step_once, &t, machine->tiny ? 1 : 5);
        double flops = config_train_flops(&c, c.context) * rate;
        snprintf(text, sizeof text, "training GPT-2 %s, %d x %d", models[i].name, S, c.context);
        say(text, "tokens/s", rate);
        say(text, "% of its products", 100 * flops / machine->products);
        if (sheet > 0) say(text, "% MFU (data sheet)", 100 * flops / sheet);
        batch_close(&t.b);
        subject_close(&t.s);
    }
}

/* ---- attention ---- */

struct attending {
    act_t *qkv, *y, *dy, *dqkv;
    float *lse, *work;
    int *offsets, S, N, H, D;
};

static void attend_forward(void *context)
{
    struct attending *a = context;
    attention_forward(a->y, a->lse, a->qkv, a->offsets, &(struct sight){0}, a->S, a->N, a->H, a->H, a->D);
}

static void attend_backward(void *context)
{
    struct attending *a = context;
    struct sight all = {0};
    attention_backward(a->dqkv, a->dy, a->y, a->lse, a->qkv, a->offsets, &all, a->work, a->S, a->N, a->H, a->H, a->D);
}

static act_t *random_acts(size_t n)
{
    act_t *host = host_alloc(n, sizeof *host), *device = device_alloc(n * sizeof *host);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        host[i] = act_of((float)(state >> 8) * 0x1p-23f - 1);
    }
    device_put(device, host, n * sizeof *host);
    device_wait();
    free(host);
    return device;
}

static void bench_attention(const struct machine *machine, int D)
{
    int T = machine->tiny ? 20 : 1024, S = machine->tiny ? 2 : 16, H = machine->tiny ? 2 : 1024 / D;
    struct attending a = {.S = S, .N = S * T, .H = H, .D = D};
    size_t out = (size_t)(a.N * H * D), width = 3 * out, rows = (size_t)(a.N * H) * sizeof(float);
    size_t work = attention_backward_work(a.N, H, H, D) * sizeof(float);
    int *offsets = host_alloc((size_t)S + 1, sizeof *offsets);
    for (int s = 0; s <= S; s++) offsets[s] = s * T;
    a.qkv = random_acts(width), a.y = random_acts(out), a.dy = random_acts(out), a.dqkv = random_acts(width);
    a.lse = device_alloc(rows), a.work = device_alloc(work);
    a.offsets = device_alloc(((size_t)S + 1) * sizeof *offsets);
    device_put(a.offsets, offsets, ((size_t)S + 1) * sizeof *offsets);
    double flops = 2.0 * T * T * H * D * S;                     /* causal: half of two products */
    double forward = seconds_of(attend_forward, &a, machine->tiny ? 1 : 20);
    double backward = seconds_of(attend_backward, &a, machine->tiny ? 1 : 10);
    char text[100];
    snprintf(text, sizeof text, "attention forward, %d channels", D);
    say(text, "TFLOP/s", 1e-12 * flops / forward);
    say(text, "% of the products", 100 * flops / forward / machine->products);
    snprintf(text, sizeof text, "attention backward, %d channels", D);
    say(text, "TFLOP/s", 2.5e-12 * flops / backward);
    device_free(a.qkv, width * sizeof(act_t)), device_free(a.y, out * sizeof(act_t));
    device_free(a.dy, out * sizeof(act_t)), device_free(a.dqkv, width * sizeof(act_t));
    device_free(a.lse, rows), device_free(a.work, work);
    device_free(a.offsets, ((size_t)S + 1) * sizeof *offsets);
    free(offsets);
}

/* ---- passes ---- */

struct passing { float *p, *g, *m, *v; double *sums; size_t n; act_t *x, *y; float *rstd, *weight; int N, C; };

static void update_once(void *context)
{
    struct passing *p = context;
    struct adamw a = {1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.5f, 1};
    adamw_update(p->p, p->g, p->m, p->v, p->n, &a);
}

static void squares_once(void *context)
{
    struct passing *p = context;
    sum_squares(p->sums, p->p, p->n);
}

static void norm_once(void *context)
{
    struct passing *p = context;
    rmsnorm_forward(p->y, p->rstd, p->x, p->weight, 1e-5f, p->N, p->C);
}

static void bench_passes(const struct machine *machine)
{
    bool tiny = machine->tiny;
    struct passing p = {.n = tiny ? 5000 : 300000000, .N = tiny ? 8 : 65536, .C = tiny ? 64 : 1024};
    size_t bytes = p.n * sizeof(float), cells = (size_t)p.N * (size_t)p.C;
    p.p = device_alloc(bytes), p.g = device_alloc(bytes), p.m = device_alloc(bytes), p.v = device_alloc(bytes);
    p.sums = host_alloc(squares_blocks(p.n), sizeof *p.sums);
    double update = seconds_of(update_once, &p, tiny ? 1 : 5), squares = seconds_of(squares_once, &p, tiny ? 1 : 5);
    say("AdamW, 32 bytes a parameter", "% of copies", 100 * 32 * (double)p.n / update / machine->copies);
    say("gradient norm, 4 bytes a parameter", "% of copies", 100 * 4 * (double)p.n / squares / machine->copies);
    device_free(p.p, bytes), device_free(p.g, bytes), device_free(p.m, bytes), device_free(p.v, bytes);
    free(p.sums);
    p.x = random_acts(cells), p.y = random_acts(cells);
    p.rstd = device_alloc((size_t)p.N * sizeof(float)), p.weight = device_alloc((size_t)p.C * sizeof(float));
    double norm = seconds_of(norm_once, &p, tiny ? 1 : 20);
    say("rmsnorm forward", "% of copies", 100 * 2.0 * (double)(cells * sizeof(act_t)) / norm / machine->copies);
    device_free(p.x, cells * sizeof(act_t)), device_free(p.y, cells * sizeof(act_t));
    device_free(p.rstd, (size_t)p.N * sizeof(float)), device_free(p.weight, (size_t)p.C * sizeof(float));
}

/* ---- decoding ---- */

enum { SLOTS = 256, LENGTH = 128 };

static void bench_decoding(const struct machine *machine)
{
    static const int batch[] = {1, 32, SLOTS};
    static int tokens[SLOTS][LENGTH];
    struct sample sample[SLOTS];
    struct sample_settings settings = {.sampling = {.temperature = 1, .top_p = 1}, .stream = RNG_SAMPLE, .seed = 1};
    struct config c = gpt2(24, 1024, machine->tiny);
    struct subject s;
    int prompt = 11, length = machine->tiny ? 3 : LENGTH - 1, most = machine->tiny ? 4 : SLOTS;
    subject_open(&s, &c, &(struct model_use){.max_tokens = most, .max_sequences = 1, .cache_slots = most,
                                             .cache_capacity = length + 1, .logits_rows = most});
    for (int k = 0; k < 3; k++) {
        int n = int_min(batch[k], most);
        double start = 0;
        for (int warm = 1; warm >= 0; warm--) {
            for (int i = 0; i < n; i++)
                sample[i] = (struct sample){.prompt = &prompt, .n_prompt = 1, .index = (uint64_t)i, .most = length,
                                            .tokens = tokens[i]};
            start = bench_clock();
            sample_run(&s.m, sample, n, &settings, NULL, NULL);
        }
        double token = (bench_clock() - start) / length, bytes = sizeof(act_t) * (double)config_matmul_parameters(&c);
        char text[100];
        snprintf(text, sizeof text, "decoding GPT-2 350M, %d at once", n);
        say(text, "tokens/s", n / token);
        if (n == 1) say(text, "% of copies", 100 * bytes / token / machine->copies);
    }
    subject_close(&s);
}

int main(int argc, char **argv)
{
    struct error error;
    if (device_open(0, &error) != 0) quit_error(&error);
    threads_start(0);
    struct machine machine = machine_open(argc > 1 && strcmp(argv[1], "tiny") == 0);
    struct memory memory = {0};
    for (int pass = 0; pass < 2; pass++) {
        ops_open(&memory);
        if (pass == 0 && memory_open(&memory, &error) != 0) quit_error(&error);
    }
    bench_attention(&machine, 64);
    bench_attention(&machine, 128);
    bench_passes(&machine);
    memory_close(&memory);
    bench_training(&machine);
    bench_decoding(&machine);
    threads_stop();
    return 0;
}
