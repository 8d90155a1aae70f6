/* toy_task.h - a task for the tests of the loop, over a tiny real model: sequences that count upwards, with a ragged
 * mask. Its fields break what can break, at chosen steps. */
#ifndef QUARTET_TEST_TOY_TASK_H
#define QUARTET_TEST_TOY_TASK_H

#include "common/model/device.h"
#include "common/base/rng.h"
#include "common/base/signals.h"
#include "common/train/train.h"
#include "test/test.h"

#include <signal.h>
#include <sys/resource.h>

enum { SEQUENCES = 6, LENGTH = 12, VOCAB = 24 };

struct toy {
    struct memory memory;
    struct model model, critic;
    struct learner learner[2];
    struct task task;
    struct batch batch;
    float losses[SEQUENCES * LENGTH], logprobs[SEQUENCES * LENGTH];
    int per_micro;                     /* sequences in a micro-batch */
    int updates;
    int64_t cursor;                    /* sequences drawn in all steps before this one */
    int64_t nan_from, nan_to;          /* steps whose loss is not finite */
    int64_t spike_from, spike_to;      /* steps whose gradient is a thousand times too large */
    int64_t grad_nan_at;               /* step whose gradient alone is not finite */
    int64_t empty_at, stop_at, raise_limit_at, cut_at, frozen_until;
    int wait_us, head_wait_us, ready_fd;
    bool evaluation_fails;
    bool stop_evaluating;              /* SIGTERM as the first evaluation begins */
    int64_t give_up_at;                /* SIGTERM in the first micro-batch of this step (from 1), update give_up_in (from 0) */
    int update, give_up_in;
    int64_t finished;
};

static struct config tiny(enum head head)
{
    struct config c;
    struct error error;
    if (config_preset(&c, "gpt2", &error)) quit_error(&error);
    c.layers = 1;
    c.channels = 16;
    c.heads = c.kv_heads = 2;
    c.head_dim = 8;
    c.ffn = 32;
    c.vocab = VOCAB;
    c.context = LENGTH;
    c.head = head;
    return c;
}

/* Sequence number i of the endless data: counts up from a random token; its mask has random holes. */
static void add_sequence(struct batch *b, int64_t number)
{
    struct rng r = rng_at(7, RNG_TEST, 0, (uint64_t)number);
    int start = (int)rng_below(&r, VOCAB), n = 2 + (int)rng_below(&r, LENGTH - 1);
    for (int t = 0; t < n; t++) {
        b->tokens[b->N + t] = (start + t) % VOCAB;
        b->targets[b->N + t] = (start + t + 1) % VOCAB;
        b->mask[b->N + t] = rng_below(&r, 3) > 0;
    }
    b->N += n;
    b->offsets[++b->S] = b->N;
}

static void fill_batch(struct toy *toy, int micro)
{
    struct batch *b = &toy->batch;
    b->N = b->S = b->offsets[0] = 0;
    for (int k = 0; k < toy->per_micro; k++) add_sequence(b, toy->cursor + micro * toy->per_micro + k);
}

static int toy_begin(void *self, int64_t step, struct error *error)
{
    struct toy *toy = self;
    (void)error;
    toy->cursor = step * SEQUENCES;
    toy->learner[1].frozen = step < toy->frozen_until;
    return toy->updates;
}

static int toy_prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct toy *toy = self;
    (void)error;
    toy->update = update;
    if (toy->cut_at == step && update == 1) return 0;
    int n = SEQUENCES / toy->per_micro;
    *count = 0;
    for (int i = 0; i < n; i++) {
        fill_batch(toy, i);
        for (int t = 0; t < toy->batch.N; t++) *count += toy->batch.mask[t];
    }
    if (step == toy->empty_at) *count = 0;
    return n;
}

static const struct batch *toy_batch(void *self, int i, int learner)
{
    struct toy *toy = self;
    (void)learner;
    fill_batch(toy, i);
    return &toy->batch;
}

static double toy_head(void *self, int i, int learner, double scale)
{
    struct toy *toy = self;
    int64_t step = toy->cursor / SEQUENCES;
    bool spike = step >= toy->spike_from && step <= toy->spike_to;
    struct token_loss loss = {
        .kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = (float)(spike ? 1000 * scale : scale)};
    double sum = 0;
    if (learner == 1) {
        int rows[2] = {0, 1};
        float values[2], dvalues[2];
        model_values(&toy->critic, values, rows, 2);
        for (int k = 0; k < 2; k++) dvalues[k] = (float)scale * (values[k] - 1);
        model_values_backward(&toy->critic, dvalues, rows, 2);
        return 0;
    }
    if (i == 0 && step + 1 == toy->give_up_at && toy->update == toy->give_up_in) raise(SIGTERM);
    if (toy->head_wait_us) usleep((useconds_t)toy->head_wait_us);
    int n = model_token_loss(&toy->model, &toy->batch, &loss, toy->logprobs, NULL, toy->losses, true);
    for (int k = 0; k < n; k++) sum += (double)toy->losses[k];
    if (step == toy->grad_nan_at) fill(toy->model.grads.embed, NAN, 1);
    return step >= toy->nan_from && step <= toy->nan_to ? NAN : sum;
}

static void toy_end(void *self, int64_t step, struct record *r)
{
    struct toy *toy = self;
    record_real(r, "epoch", (double)(step + 1) / 4);
    if (toy->wait_us) usleep((useconds_t)toy->wait_us);
    if (step + 1 == toy->stop_at) raise(SIGTERM);
    if (step == 2 && toy->ready_fd > 0 && write(toy->ready_fd, "x", 1) != 1) _exit(9);
    if (step + 1 == toy->raise_limit_at) {
        struct rlimit old;
        getrlimit(RLIMIT_FSIZE, &old);
        old.rlim_cur = old.rlim_max;
        setrlimit(RLIMIT_FSIZE, &old);
    }
}

static int toy_evaluate(void *self, struct record *r, struct error *e)
{
    struct toy *toy = self;
    if (toy->evaluation_fails) return fail(e, EXIT_DATA, "nothing to evaluate");
    if (toy->stop_evaluating) raise(SIGTERM);
    if (signals_check(e, "evaluating")) return -1;
    struct token_loss loss = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1};
    double sum = 0;
    int64_t cursor = toy->cursor;
    toy->cursor = 1000000;
    fill_batch(toy, 0);
    toy->cursor = cursor;
    model_forward(&toy->model, &toy->batch, false);
    int n = model_token_loss(&toy->model, &toy->batch, &loss, toy->logprobs, NULL, toy->losses, false);
    for (int k = 0; k < n; k++) sum += (double)toy->losses[k];
    record_real(r, "val_loss", sum / n);
    return 0;
}

static void toy_finish(void *self, struct run *run, struct record *r)
{
    (void)run;
    (void)r;
    ((struct toy *)self)->finished++;
}

static void toy_save(void *self, struct ckpt_meta *meta)
{
    struct toy *toy = self;
    config_write(&toy->model.config, &meta->conf);
    bytes_add(&meta->tokn, "tokens", 6);
    kv_set_i64(&meta->dcur, "sample", toy->cursor);
}

static int toy_load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    struct toy *toy = self;
    return kv_get_i64(&meta->dcur, "sample", &toy->cursor) == 1 ? 0 : fail(error, EXIT_DATA, "no cursor");
}

static void build(struct toy *toy, bool ema)
{
    struct config c = tiny(HEAD_VOCABULARY), scalar = tiny(HEAD_SCALAR);
    struct model_use use = {.train = true, .max_tokens = SEQUENCES * LENGTH, .max_sequences = SEQUENCES, .ema = ema,
                            .at_random = sizeof(act_t) < sizeof(float), .seed = 3};
    ops_open(&toy->memory);
    model_open(&toy->model, &c, &use, &toy->memory);
    use.ema = false;
    use.number = 1;
    model_open(&toy->critic, &scalar, &use, &toy->memory);
}

static struct toy *toy_open(bool ema, int learners)
{
    struct toy *toy = host_alloc(1, sizeof *toy);
    struct error error;
    build(toy, ema);
    if (memory_open(&toy->memory, &error)) quit_error(&error);
    build(toy, ema);
    memory_seal(&toy->memory);
    params_init(&toy->model.params, &toy->model.config, 1);
    params_init(&toy->critic.params, &toy->critic.config, 2);
    struct schedule_options schedule = {SCHEDULE_COSINE, 0.02, 0.002, 3, 20, 0.2};
    toy->learner[0] = (struct learner){"", &toy->model, schedule, ema ? 0.9 : 0, false};
    toy->learner[1] = (struct learner){"critic.", &toy->critic, schedule, 0, false};
    toy->task = (struct task){.program = "pretrain",
                              .stage = STAGE_PRETRAIN,
                              .self = toy,
                              .learner = toy->learner,
                              .n_learners = learners,
                              .begin = toy_begin,
                              .prepare = toy_prepare,
                              .batch = toy_batch,
                              .head = toy_head,
                              .end = toy_end,
                              .evaluate = toy_evaluate,
                              .finish = toy_finish,
                              .save = toy_save,
                              .load = toy_load,
                              .main_metric = "val_loss",
                              .tokens_per_step = 40,
                              .flops_per_token = 1e4};
    toy->per_micro = 2;
    toy->updates = 1;
    toy->nan_from = toy->grad_nan_at = toy->empty_at = toy->stop_at = toy->raise_limit_at = toy->cut_at = -1;
    toy->nan_to = toy->spike_from = toy->spike_to = -1;
    int size = SEQUENCES * LENGTH;
    toy->batch = (struct batch){.tokens = host_alloc((size_t)size, 4), .targets = host_alloc((size_t)size, 4),
                                .mask = host_alloc((size_t)size, 1), .offsets = host_alloc(SEQUENCES + 1, 4)};
    return toy;
}

__attribute__((unused)) static void toy_close(struct toy *toy)
{
    model_close(&toy->model);
    model_close(&toy->critic);
    memory_close(&toy->memory);
    free(toy->batch.tokens);
    free(toy->batch.targets);
    free(toy->batch.mask);
    free(toy->batch.offsets);
    free(toy);
}

/* ---- running it ---- */

static char base[] = "/tmp/quartet-train-XXXXXX";
static struct train_options options;
static struct option table[TRAIN_ROWS + 1];
static struct error error;

/* Sets the options from words such as "--steps=10". */
static void set_options(const char *words)
{
    static const struct train_defaults defaults = {.lr = "0.02",
                                                   .schedule = "cosine",
                                                   .micro_tokens = "64",
                                                   .beta2 = "0.95",
                                                   .eps = "1e-8",
                                                   .weight_decay = "0.1",
                                                   .epochs = "1",
                                                   .eval_every = "5",
                                                   .save_every = "0"};
    char copy[400], *argv[32] = {(char *)(uintptr_t)"test"}, *at = copy;
    int argc = 1;
    memset(table, 0, sizeof table);
    train_option_rows(table, &options, &defaults);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word; (word = strsep(&at, " "));)
        if (*word) argv[argc++] = word;
    if (options_parse(table, argc, argv, "test", "test", NULL, &error)) quit_error(&error);
}

static char *in_folder(const char *folder, const char *file) { return host_text("%s/%s/%s", base, folder, file); }

/* One process's life: opens the folder, trains, closes.  Returns train's code, or that of run_open. */
static int live(struct toy *toy, const char *folder, const char *words)
{
    struct run *run;
    char *path = in_folder(folder, "");
    path[strlen(path) - 1] = 0;
    set_options(words);
    signals_install(0);
    int code =
        run_open(&run, path, toy->task.program, &error) ? error.exit_code : train(&toy->task, run, &options, table);
    run_close(run);
    free(path);
    return code;
}

static int live_and_close(struct toy *toy, const char *folder, const char *words)
{
    int code = live(toy, folder, words);
    toy_close(toy);
    return code;
}

static char *text_of(const char *folder, const char *file)
{
    char *path = in_folder(folder, file);
    struct bytes b = {0};
    if (file_read(&b, path, 1 << 24, &error)) bytes_text(&b, "(none)");
    free(path);
    return b.data;
}

static bool contains(const char *folder, const char *file, const char *what)
{
    char *text = text_of(folder, file);
    bool found = strstr(text, what) != NULL;
    if (!found) fprintf(stderr, "\"%s\" is not in %s/%s:\n%s\n", what, folder, file, text);
    free(text);
    return found;
}

/* The number at `key` in the record of a step; NaN when it is null or missing. */
static double metric(const char *folder, int64_t step, const char *key)
{
    char *text = text_of(folder, "metrics.jsonl"), *at = text, *want = host_text("{\"step\":%lld,", (long long)step);
    char *quoted = host_text("\"%s\":", key);
    double value = NAN;
    for (char *line; (line = strsep(&at, "\n"));) {
        char *found = strncmp(line, want, strlen(want)) == 0 ? strstr(line, quoted) : NULL;
        if (found && strncmp(found + strlen(quoted), "null", 4) != 0) value = atof(found + strlen(quoted));
    }
    free(text);
    free(want);
    free(quoted);
    return value;
}

/* Records without what depends on the clock (docs/metrics.md). */
__attribute__((unused)) static char *timeless(const char *folder)
{
    static const char *const timing[] = {
        "\"seconds\":", "\"tokens_per_second\":", "\"peak_share\":", "\"host_bytes\":", "\"device_bytes\":"};
    char *text = text_of(folder, "metrics.jsonl");
    for (int i = 0; i < 5; i++)
        for (char *found; (found = strstr(text, timing[i]));) {
            char *end = found + strcspn(found, ",}");
            if (*end == ',') end++;
            memmove(found, end, strlen(end) + 1);
        }
    return text;
}

/* 0 when all tensors of two checkpoints have the same bits (CRC and shape), else the number that differ. */
__attribute__((unused)) static int differing(const char *a, const char *b, size_t *tensors)
{
    struct ckpt *x, *y;
    int different = 0;
    char *pa = host_text("%s/%s", base, a), *pb = host_text("%s/%s", base, b);
    if (ckpt_open(&x, pa, &error)) quit_error(&error);
    if (ckpt_open(&y, pb, &error)) quit_error(&error);
    *tensors = ckpt_tensor_count(x);
    different += ckpt_tensor_count(y) != *tensors;
    for (size_t i = 0; i < *tensors; i++) {
        const struct ckpt_tensor *t = ckpt_tensor_at(x, i);
        int64_t at = ckpt_find(y, t->name, t->role);
        different += at < 0 || ckpt_tensor_at(y, (size_t)at)->crc != t->crc;
    }
    ckpt_close(x);
    ckpt_close(y);
    free(pa);
    free(pb);
    return different;
}

__attribute__((unused)) static bool exists(const char *folder, const char *file)
{
    char *path = in_folder(folder, file);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static bool valid(const char *folder, const char *file)
{
    struct ckpt *c;
    char *path = in_folder(folder, file);
    bool ok = ckpt_open(&c, path, &error) == 0 && ckpt_verify(c, &error) == 0;
    if (c) ckpt_close(c);
    free(path);
    return ok;
}

#endif
