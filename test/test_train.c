/* test_train.c - the one loop: learning, the cut into micro-batches, the guards, loading.  LOUD=1 shows what the runs
 * say. */
#include "common/base/threads.h"
#include "common/train/train_state.h"
#include "test/on_device.h"
#include "test/toy_task.h"

static void test_learns(void)
{
    struct toy *toy = toy_open(false, 1);
    CHECK(live(toy, "learn", "--steps 60 --save-every 20 --keep 2") == EXIT_DONE);
    CHECK(toy->finished == 1);
    CHECK(metric("learn", 0, "val_loss") > 3);                              /* about log 24 = 3.18 */
    CHECK(metric("learn", 60, "val_loss") < 0.6 * metric("learn", 0, "val_loss"));
    CHECK(metric("learn", 60, "loss") < 0.6 * metric("learn", 1, "loss"));
    CHECK(close_to(metric("learn", 1, "lr"), 0.02 / 3, 1e-9, 0));           /* the first of three warmup steps */
    CHECK(metric("learn", 60, "updates") == 60 && metric("learn", 60, "skipped") == 0 &&
          metric("learn", 60, "epoch") == 15);
    CHECK(metric("learn", 5, "val_loss") > 0 && isnan(metric("learn", 6, "val_loss")));
    CHECK(valid("learn", "final.ckpt") && valid("learn", "step-00000040.ckpt") &&
          !exists("learn", "step-00000060.ckpt"));
    CHECK(contains("learn", "status.json", "\"state\":\"done\",\"step\":60,\"steps\":60"));
    CHECK(contains("learn", "run.conf", "steps = 60\n") && contains("learn", "log.txt", "done: 60 steps"));
    int64_t rows = 0;
    for (int s = 0; s < 60; s++) {
        toy->cursor = s * SEQUENCES;
        for (int i = 0; i < 3; i++) { fill_batch(toy, i); rows += toy->batch.N; }
    }
    CHECK(metric("learn", 60, "tokens") == (double)rows);
    toy_close(toy);
}

/* How micro-batches are cut changes nothing beyond rounding. */
static void test_split(void)
{
    static const int per_micro[] = {1, 2, 3, 6};
    float whole[2000], part[2000];
    size_t count = 0;
    for (int k = 3; k >= 0; k--) {
        struct toy *toy = toy_open(false, 1);
        toy->per_micro = per_micro[k];
        char *folder = host_text("split%d", k);
        CHECK(live(toy, folder, "--steps 1 --clip 0") == EXIT_DONE);
        /* After one step Adam's first moment is (1 - beta1) * gradient. */
        count = toy->model.params.count < 2000 ? toy->model.params.count : 2000;
        from_device(k == 3 ? whole : part, toy->model.m, count * sizeof(float));
        double worst = 0, largest = 0;
        for (size_t i = 0; k < 3 && i < count; i++) {
            worst = fmax(worst, fabs((double)part[i] - (double)whole[i]));
            largest = fmax(largest, fabs((double)whole[i]));
        }
        CHECK(k == 3 || (largest > 0 && worst < 2e-6 * largest));
        CHECK(close_to(metric(folder, 1, "loss"), metric("split3", 1, "loss"), 1e-6, 0));
        free(folder);
        toy_close(toy);
    }
}

/* Six counted tokens in two rows, as one micro-batch or two. */
static const double w1[2] = {0.857412464 + 0.334877738, 0.474036182 + 1.386294361 + 0.597048541 + 1.842349582};

static int w1_prepare(void *self, int64_t step, int update, double *count, struct error *e)
{
    (void)step; (void)update; (void)e;
    *count = 6;
    return ((struct toy *)self)->per_micro;
}

static double w1_head(void *self, int i, int learner, double scale)
{
    struct toy *toy = self;
    (void)learner, (void)scale;
    device_clear(toy->model.dhidden, (size_t)toy->model.N * 16 * sizeof(act_t));
    device_wait();                      /* as every head must that returns numbers: the batch may change now */
    return toy->per_micro == 2 ? w1[i] : w1[0] + w1[1];
}

static void test_worked_example(void)
{
    for (int n = 1; n <= 2; n++) {
        struct toy *toy = toy_open(false, 1);
        toy->task.prepare = w1_prepare;
        toy->task.head = w1_head;
        toy->per_micro = n;
        char *folder = host_text("w1-%d", n);
        toy->task.evaluate = NULL;
        CHECK(live_and_close(toy, folder, "--steps 1") == EXIT_DONE);
        CHECK(close_to(metric(folder, 1, "loss"), 0.915336478, 0, 1e-8));       /* a mean of means would be 0.8355 */
        free(folder);
    }
}

/* First moments after one update, (1 - beta1) times the clipped gradient; free() them. */
static float *clipped_gradient(const char *folder, const char *words, size_t *count)
{
    struct toy *toy = toy_open(false, 1);
    CHECK(live(toy, folder, words) == EXIT_DONE);
    *count = toy->model.params.count;
    float *m = host_alloc(*count, sizeof *m);
    from_device(m, toy->model.m, *count * sizeof *m);
    toy_close(toy);
    return m;
}

/* --clip: the norm is held at the limit; a gradient below it keeps its bits. */
static void test_clip(void)
{
    size_t count;
    float *whole = clipped_gradient("clip0", "--steps 1 --clip 0 --beta1 0.5", &count);
    double norm = metric("clip0", 1, "grad_norm"), squares = 0;
    char *below = host_text("--steps 1 --clip %.9g --beta1 0.5", norm / 1.25);
    char *above = host_text("--steps 1 --clip %.9g --beta1 0.5", norm * 1.001);
    float *cut = clipped_gradient("clip1", below, &count), *kept = clipped_gradient("clip2", above, &count);
    for (size_t i = 0; i < count; i++) squares += (double)cut[i] * (double)cut[i];
    CHECK(norm > 0 && close_to(2 * sqrt(squares), norm / 1.25, 1e-6, 0) && metric("clip1", 1, "grad_norm") == norm);
    CHECK(memcmp(whole, kept, count * sizeof *whole) == 0);
    free(whole);
    free(cut);
    free(kept);
    free(below);
    free(above);
}

static void test_guards(void)
{
    struct toy *toy = toy_open(false, 1);
    toy->nan_from = 3;
    toy->nan_to = 4;
    toy->grad_nan_at = 6;
    CHECK(live_and_close(toy, "nan", "--steps 8") == EXIT_DONE);
    CHECK(isnan(metric("nan", 4, "loss")) && metric("nan", 3, "loss") > 0 && metric("nan", 6, "loss") > 0);
    CHECK(metric("nan", 8, "updates") == 5 && metric("nan", 8, "skipped") == 3 &&
          isfinite(metric("nan", 8, "val_loss")));
    CHECK(contains("nan", "log.txt", "step 4: skipped, the loss is nan; data position: sample 18"));
    CHECK(contains("nan", "log.txt", "step 7: skipped, the gradient norm is nan"));

    toy = toy_open(false, 1);
    toy->nan_from = 6;
    toy->nan_to = 100;
    CHECK(live_and_close(toy, "diverged", "--steps 20 --save-every 5") == EXIT_DATA);
    CHECK(contains("diverged", "status.json", "\"state\":\"failed\"") &&
          contains("diverged", "log.txt", "not finite in 3 updates in a row"));
    CHECK(valid("diverged", "step-00000005.ckpt") && !exists("diverged", "final.ckpt") &&
          !exists("diverged", "step-00000008.ckpt"));

    /* an evaluation that fails ends the run like anything else that fails */
    toy = toy_open(false, 1);
    toy->evaluation_fails = true;
    CHECK(live_and_close(toy, "blind", "--steps 2") == EXIT_DATA);
    CHECK(contains("blind", "status.json", "\"state\":\"failed\"") &&
          contains("blind", "log.txt", "the evaluation after step 0: nothing to evaluate"));

    /* a step where nothing counts, and one whose later updates are cut off */
    toy = toy_open(false, 1);
    toy->empty_at = 0;
    CHECK(live_and_close(toy, "empty", "--steps 2") == EXIT_DONE);
    CHECK(isnan(metric("empty", 1, "loss")) && metric("empty", 1, "updates") == 0 &&
          metric("empty", 2, "updates") == 1);
    CHECK(metric("empty", 1, "skipped") == 0 && metric("empty", 2, "loss") > 0);
    toy = toy_open(false, 1);
    toy->updates = 3;
    toy->cut_at = 1;
    CHECK(live_and_close(toy, "cut", "--steps 3") == EXIT_DONE);
    CHECK(metric("cut", 1, "updates") == 3 && metric("cut", 2, "updates") == 4 && metric("cut", 3, "updates") == 7);
}

static void test_spikes(void)
{
    struct norms n = {0};
    for (int i = 0; i < 15; i++) norms_add(&n, 1 + 0.01 * (i % 5));
    CHECK(norms_deviation(&n, 1e9) == 0);                         /* too few to judge */
    norms_add(&n, 1.02);
    /* median 1.02, deviations of 0, 0.01 and 0.02: their median 0.01 */
    CHECK(close_to(norms_deviation(&n, 1.02 + 0.014826 * 3), 3, 1e-6, 0));
    for (int i = 0; i < 300; i++) norms_add(&n, 5);
    CHECK(n.count == NORMS_MAX && close_to(norms_deviation(&n, 5.01), 2, 1e-6, 0));      /* the floor of 0.001 median */

    struct toy *toy = toy_open(false, 1);
    toy->spike_from = 20;
    toy->spike_to = 21;
    CHECK(live_and_close(toy, "spike", "--steps 24 --spike-z 30 --clip 0") == EXIT_DONE);
    CHECK(metric("spike", 24, "updates") == 22 && metric("spike", 24, "skipped") == 2 &&
          metric("spike", 24, "loss") < 2.5);
    CHECK(contains("spike", "log.txt", "step 21: skipped, a spike: the gradient norm is "));
    toy = toy_open(false, 1);
    toy->spike_from = 20;
    toy->spike_to = 100;                /* after three in a row it is no spike any more */
    CHECK(live_and_close(toy, "level", "--steps 26 --spike-z 30") == EXIT_DONE);
    CHECK(metric("level", 26, "updates") == 23 && contains("level", "log.txt", "taken as the new level"));
}

/* Where a checkpoint does not fit a model, the tensor is named. */
static void test_model_load(void)
{
    struct toy *toy = toy_open(false, 1);
    CHECK(live(toy, "load", "--steps 1") == EXIT_DONE);
    struct ckpt *c;
    char *path = host_text("%s/load", base);
    CHECK(ckpt_open(&c, path, &error) == 0);
    const struct ckpt_meta *meta = ckpt_meta_of(c);
    const char *text;
    double value;
    CHECK(meta->flags == (CKPT_FINAL | CKPT_RESUMABLE | CKPT_TRAINING_STATE) && meta->step == 1 &&
          meta->stage == STAGE_PRETRAIN);
    CHECK(kv_get_text(&meta->meta, "name", &text) == 1 && strcmp(text, "load") == 0);
    CHECK(kv_get_text(&meta->eval, "main_metric", &text) == 1 && strcmp(text, "val_loss") == 0);
    CHECK(kv_get_f64(&meta->eval, "val_loss", &value) == 1 && value == metric("load", 1, "val_loss"));
    CHECK(kv_get_text(&meta->trns, "option.lr", &text) == 1 && strcmp(text, "0.02") == 0);
    float before, after;
    from_device(&before, toy->model.params.embed, sizeof before);
    params_init(&toy->model.params, &toy->model.config, 3);
    CHECK(model_load(&toy->model, c, "", ROLE_WEIGHT, false, 0, &error) == 0);
    from_device(&after, toy->model.params.embed, sizeof after);
    CHECK(before == after);
    CHECK(model_load(&toy->critic, c, "", ROLE_WEIGHT, false, 0, &error) == -1 && error.exit_code == EXIT_MISMATCH);
    CHECK(strstr(error.text, "score.weight") && strstr(error.text, "missing"));
    CHECK(model_load(&toy->critic, c, "", ROLE_WEIGHT, true, 5, &error) ==
          0); /* the head starts anew, the rest is read */
    from_device(&after, toy->critic.params.embed, sizeof after);
    CHECK(before == after);
    from_device(&after, toy->critic.params.score, sizeof after);
    CHECK(after != 0);
    CHECK(model_load(&toy->model, c, "", ROLE_EMA, false, 0, &error) == -1 && strstr(error.text, "missing"));
    toy->model.config.ffn = 16;      /* shapes differ, and the smaller memory is not overrun */
    CHECK(model_load(&toy->model, c, "", ROLE_WEIGHT, false, 0, &error) == -1);
    CHECK(strstr(error.text, "blk.0.ffn_up.weight") && strstr(error.text, "(32, 16)") &&
          strstr(error.text, "(16, 16)"));
    toy->model.config.ffn = 32;
    toy->model.config.mlp_bias = false;
    CHECK(model_load(&toy->model, c, "", ROLE_WEIGHT, false, 0, &error) == -1 &&
          strstr(error.text, "ffn_up.bias is not part of this model"));
    ckpt_close(c);
    free(path);
    toy_close(toy);
}

/* What a stage is waiting for before turn number `turn`: what its last turn has made goes out, and what this one needs
 * comes in, both at once.  1: activations, 3: gradients of a micro-batch; 0: nothing. */
struct traffic { int out, out_to, in, in_from, micro_out, micro_in; };

static struct traffic traffic_at(int stage, int p, int m, int turn)
{
    struct traffic t = {0};
    if (turn > 0) {
        struct turn last = pipeline_turn(stage, p, m, turn - 1);
        t.out_to = stage + (last.backward ? -1 : 1);
        t.out = t.out_to >= 0 && t.out_to < p ? 1 + 2 * last.backward : 0;
        t.micro_out = last.micro;
    }
    if (turn < 2 * m) {
        struct turn next = pipeline_turn(stage, p, m, turn);
        t.in_from = stage + (next.backward ? 1 : -1);
        t.in = t.in_from >= 0 && t.in_from < p ? 1 + 2 * next.backward : 0;
        t.micro_in = next.micro;
    }
    return t;
}

/* Turns with sends that wait for their receivers: all stages reach their ends, each micro-batch goes back after it went
 * forward, in order, and no more are under way than are promised. */
static void check_pipeline(int p, int m)
{
    int turn[8] = {0}, forwards[8] = {0}, backwards[8] = {0}, most[8] = {0};
    bool sent[8] = {false}, got[8] = {false}, moved = true;
    while (moved) {
        moved = false;
        for (int s = 0; s < p; s++) {
            struct traffic t = traffic_at(s, p, m, turn[s]);
            for (int other = 0; turn[s] <= 2 * m && t.out && !sent[s] && other < p; other++) {
                struct traffic u = traffic_at(other, p, m, turn[other]);
                if (other != t.out_to || turn[other] > 2 * m || got[other] || u.in != t.out || u.in_from != s) continue;
                CHECK(u.micro_in == t.micro_out);
                sent[s] = got[other] = moved = true;
            }
        }
        for (int s = 0; s < p; s++) {
            struct traffic t = traffic_at(s, p, m, turn[s]);
            if (turn[s] > 2 * m || (t.out && !sent[s]) || (t.in && !got[s])) continue;
            struct turn now = pipeline_turn(s, p, m, turn[s]);
            if (turn[s] < 2 * m) CHECK(now.micro == (now.backward ? backwards[s]++ : forwards[s]++));
            CHECK(backwards[s] <= forwards[s]);
            if (forwards[s] - backwards[s] > most[s]) most[s] = forwards[s] - backwards[s];
            sent[s] = got[s] = false;
            turn[s]++;
            moved = true;
        }
    }
    for (int s = 0; s < p; s++)
        CHECK(turn[s] == 2 * m + 1 && forwards[s] == m && backwards[s] == m && most[s] == int_min(m, p - s));
}

static void test_pipeline(void)
{
    for (int p = 1; p <= 8; p++)
        for (int m = 1; m <= 20; m++) check_pipeline(p, m);
}

int main(void)
{
    if (!mkdtemp(base)) return 1;
    if (!getenv("LOUD") && !freopen("/dev/null", "w", stderr)) return 1;
    threads_start(2);
    test_learns();
    test_split();
    test_worked_example();
    test_clip();
    test_guards();
    test_spikes();
    test_model_load();
    test_pipeline();
    char *command = host_text("rm -r '%s'", base);
    CHECK(system(command) == 0);
    free(command);
    return test_end("test_train");
}
