/* test_resume.c - the one loop stopped, killed, out of room, and going on: the same bits.  LOUD=1 shows what the runs
 * say. */
#include "common/base/threads.h"
#include "test/toy_task.h"

#include <fcntl.h>
#include <sys/wait.h>

/* 10 steps at once, and 4 then 6: the same bits in weights, averages and moments of both learners, the same records. */
static void test_resume(void)
{
    static const char words[] = "--steps 10 --save-every 3 --eval-every 4 --spike-z 50 --keep 5";
    size_t tensors;
    struct toy *toy = toy_open(true, 2);
    toy->frozen_until = 2;
    toy->updates = 2;
    CHECK(live_and_close(toy, "whole", words) == EXIT_DONE);
    toy = toy_open(true, 2);
    toy->frozen_until = 2;
    toy->updates = 2;
    toy->stop_at = 4;
    CHECK(live_and_close(toy, "parts", words) == EXIT_STOPPED);
    CHECK(contains("parts", "status.json", "\"state\":\"stopped\",\"step\":4") &&
          contains("parts", "log.txt", "stopped at step 4 by SIGTERM"));
    CHECK(valid("parts", "step-00000004.ckpt") && !exists("parts", "final.ckpt"));
    toy = toy_open(true, 2);
    params_init(&toy->model.params, &toy->model.config, 99);        /* nothing of the start may shine through */
    toy->frozen_until = 2;
    toy->updates = 2;
    CHECK(live_and_close(toy, "parts", words) == EXIT_DONE);
    CHECK(contains("parts", "log.txt", "resumes from step 4 ("));
    CHECK(differing("whole/final.ckpt", "parts/final.ckpt", &tensors) == 0 && tensors > 100);
    CHECK(differing("whole/step-00000009.ckpt", "parts/step-00000009.ckpt", &tensors) == 0);
    char *a = timeless("whole"), *b = timeless("parts");
    CHECK(strcmp(a, b) == 0 && strstr(a, "{\"step\":10,"));
    CHECK(metric("whole", 10, "updates") == 20 && isnan(metric("whole", 2, "critic.lr")) &&
          isnan(metric("whole", 2, "critic.grad_norm")) && metric("whole", 3, "critic.lr") > 0 &&
          metric("whole", 3, "critic.grad_norm") > 0);
    free(a);
    free(b);
}

static struct toy *toy_of(int updates)
{
    struct toy *toy = toy_open(false, 1);
    toy->updates = updates;
    return toy;
}

/* A step that is given up before its first update, and evaluations that are: of step 0, of a step, of the last one.
 * After all the starts the bits and records are those of a run that nobody stopped. */
static void test_given_up(int updates)
{
    static const char words[] = "--steps 8 --save-every 100 --eval-every 4";
    char whole[32], parts[32], final_whole[48], final_parts[48];
    size_t tensors;
    snprintf(whole, sizeof whole, "unstopped%d", updates);
    snprintf(parts, sizeof parts, "stopped%d", updates);
    snprintf(final_whole, sizeof final_whole, "%s/final.ckpt", whole);
    snprintf(final_parts, sizeof final_parts, "%s/final.ckpt", parts);
    CHECK(live_and_close(toy_of(updates), whole, words) == EXIT_DONE);
    struct toy *toy = toy_of(updates);
    toy->stop_evaluating = true;
    CHECK(live_and_close(toy, parts, words) == EXIT_STOPPED);
    CHECK(contains(parts, "log.txt", "stopped at step 0 by SIGTERM") && isnan(metric(parts, 0, "step")));
    toy = toy_of(updates);
    toy->give_up_at = 3;
    CHECK(live_and_close(toy, parts, words) == EXIT_STOPPED);
    CHECK(contains(parts, "log.txt", "stopped at step 2 by SIGTERM") && metric(parts, 2, "updates") == 2 * updates);
    for (int step = 4; step <= 8; step += 4) {
        toy = toy_of(updates);
        toy->stop_at = step;
        CHECK(live_and_close(toy, parts, words) == EXIT_STOPPED);
        CHECK(isnan(metric(parts, step, "updates")));
        if (step == 8) break;
        toy = toy_of(updates);
        toy->give_up_at = 6;
        toy->give_up_in = updates - 1;              /* after an update the step is finished */
        CHECK(live_and_close(toy, parts, words) == EXIT_STOPPED);
        CHECK(contains(parts, "log.txt", updates == 1 ? "stopped at step 5 by" : "stopped at step 6 by"));
    }
    CHECK(!exists(parts, "final.ckpt"));
    toy = toy_of(updates);
    toy->stop_evaluating = true;
    CHECK(live_and_close(toy, parts, words) == EXIT_STOPPED);      /* again, with nothing new to save */
    CHECK(live_and_close(toy_of(updates), parts, words) == EXIT_DONE);
    CHECK(!contains(parts, "log.txt", "step 8 was reached already"));
    CHECK(differing(final_whole, final_parts, &tensors) == 0);
    char *a = timeless(whole), *b = timeless(parts);
    CHECK(strcmp(a, b) == 0 && strstr(a, "{\"step\":0,\"val_loss\""));
    free(a);
    free(b);
}

/* Lives until the metrics hold `until`, then is killed; NULL: lives to its end. */
static int live_until(const char *folder, const char *words, const char *until)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct toy *toy = toy_open(false, 1);
        toy->wait_us = 2000;
        _exit(live(toy, folder, words));
    }
    for (int i = 0; until && i < 5000; i++) {
        char *text = text_of(folder, "metrics.jsonl");
        bool there = strstr(text, until) != NULL;
        free(text);
        if (there) break;
        usleep(500);
    }
    if (until) kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What is killed before its first checkpoint begins anew; later it goes back to the newest one. */
static void test_killed(void)
{
    static const char words[] = "--steps 12 --save-every 4";
    size_t tensors;
    CHECK(live_until("killed", words, "{\"step\":2,") == -1);
    CHECK(live_until("killed", words, "{\"step\":10,") == -1);
    CHECK(live_until("killed", words, NULL) == EXIT_DONE);
    CHECK(live_until("unkilled", words, NULL) == EXIT_DONE);
    CHECK(contains("killed", "log.txt", "resumes from step 8"));
    char *a = timeless("unkilled"), *b = timeless("killed");
    CHECK(strcmp(a, b) == 0);
    CHECK(differing("unkilled/final.ckpt", "killed/final.ckpt", &tensors) == 0);
    free(a);
    free(b);
}

/* The window of norms is saved from the oldest to the newest, also after it went round. */
static void test_window(void)
{
    const double *norms;
    size_t count;
    struct ckpt *c;
    struct toy *toy = toy_open(false, 1);
    toy->stop_at = 100;
    CHECK(live_and_close(toy, "window", "--steps 140") == EXIT_STOPPED);
    CHECK(live_and_close(toy_open(false, 1), "window", "--steps 140") == EXIT_DONE);
    char *path = in_folder("window", "final.ckpt");
    CHECK(ckpt_open(&c, path, &error) == 0);
    CHECK(kv_get_array(&ckpt_meta_of(c)->trns, "optim.norms", KV_F64S, &norms, &count) == 1 && count == 128);
    CHECK(norms[127] == metric("window", 140, "grad_norm") && norms[0] == metric("window", 13, "grad_norm"));
    ckpt_close(c);
    free(path);
}

static void test_end_and_on(void)
{
    size_t tensors;
    CHECK(live_and_close(toy_open(false, 1), "end", "--steps 4") == EXIT_DONE);
    CHECK(live_and_close(toy_open(false, 1), "end", "--steps 4") == EXIT_DONE);
    CHECK(contains("end", "log.txt", "step 4 was reached already; a larger"));
    char *from = in_folder("end", "final.ckpt"), *to = in_folder("end", "step-00000004.ckpt");
    CHECK(rename(from, to) == 0);
    CHECK(live_and_close(toy_open(false, 1), "end", "--steps 4") == EXIT_DONE);
    CHECK(valid("end", "final.ckpt") && differing("end/final.ckpt", "end/step-00000004.ckpt", &tensors) == 0);
    CHECK(live_and_close(toy_open(false, 1), "end", "--steps 6") == EXIT_DONE);
    CHECK(contains("end", "log.txt", "resumes from step 4") && metric("end", 6, "updates") == 6);
    free(from);
    free(to);
}

static void test_mismatch(void)
{
    CHECK(live_and_close(toy_open(false, 1), "other", "--steps 4 --save-every 2") == EXIT_DONE);
    CHECK(live_and_close(toy_open(false, 1), "other", "--steps 6 --lr 0.01") == EXIT_MISMATCH);
    CHECK(!contains("other", "log.txt", "--lr is") && contains("other", "status.json", "\"done\""));
    CHECK(live_and_close(toy_open(false, 1), "other", "--steps 6 --resume never") == EXIT_MISMATCH);
    CHECK(!contains("other", "log.txt", "--resume never"));      /* refused: the folder is as it was */
    char *words = host_text("--steps 6 --resume %s/other/step-00000002.ckpt", base);
    CHECK(live_and_close(toy_open(false, 1), "other", words) == EXIT_MISMATCH);        /* later checkpoints are there */
    CHECK(live_and_close(toy_open(false, 1), "branch", words) == EXIT_DONE); /* in a folder of its own it goes on */
    CHECK(contains("branch", "log.txt", "resumes from step 2") && metric("branch", 6, "updates") == 6 &&
          isnan(metric("branch", 2, "loss")));
    struct toy *toy = toy_open(false, 1);
    toy->task.stage = STAGE_SFT;
    CHECK(live_and_close(toy, "staged", words) == EXIT_MISMATCH);
    CHECK(contains("staged", "log.txt", "a checkpoint of pretrain"));
    free(words);
    toy = toy_open(false, 1);
    toy->task.program = "sft";
    CHECK(live_and_close(toy, "other", "--steps 6") == EXIT_MISMATCH &&
          strstr(error.text, "holds a run of pretrain, not of sft"));
}

/* Files may not grow beyond `bytes` in a child: what a full disk does, and what happens when there is room again. */
static int live_in_little_room(const char *folder, const char *words, rlim_t bytes, int64_t room_again_at)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct toy *toy = toy_open(false, 1);
        struct rlimit limit = {bytes, RLIM_INFINITY};
        int silence = open("/dev/null", O_WRONLY);
        toy->raise_limit_at = room_again_at;
        dup2(silence, 2);
        signals_install(0);
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(live(toy, folder, words));
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_full_disk(void)
{
    CHECK(live_in_little_room("full", "--steps 8 --save-every 2", 8000, 5) == EXIT_DONE);
    CHECK(contains("full", "log.txt", "warning: step 4: the checkpoint could not be saved") &&
          valid("full", "final.ckpt"));
    CHECK(!exists("full", "step-00000004.ckpt") && valid("full", "step-00000006.ckpt"));
    CHECK(live_in_little_room("full", "--steps 20 --save-every 2", 8000, -1) == EXIT_IO);
    CHECK(contains("full", "log.txt", "3 checkpoints in a row could not be saved") && valid("full", "final.ckpt"));
    CHECK(metric("full", 14, "updates") == 14 && isnan(metric("full", 15, "updates")));
    CHECK(live_and_close(toy_open(false, 1), "full", "--steps 20 --save-every 2") == EXIT_DONE);
    CHECK(contains("full", "log.txt", "resumes from step 8") && metric("full", 20, "updates") == 20);
}

static void test_stopping(void)
{
    int status, pipes[2];
    CHECK(pipe(pipes) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct toy *toy = toy_open(false, 1);
        toy->ready_fd = pipes[1];
        toy->wait_us = 20000;
        _exit(live(toy, "signalled", "--steps 1000"));
    }
    char byte;
    CHECK(read(pipes[0], &byte, 1) == 1);
    double begun = seconds_now();
    kill(child, SIGUSR1);
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED && seconds_now() - begun < 5);
    CHECK(contains("signalled", "log.txt", "by SIGUSR1"));
    close(pipes[0]);
    close(pipes[1]);

    child = fork();
    if (child == 0) {
        struct toy *toy = toy_open(false, 1);
        struct run *run;
        char *path = in_folder("limited", "");
        toy->wait_us = 50000;
        set_options("--steps 1000");
        signals_install(1.5);
        if (run_open(&run, path, "pretrain", &error)) _exit(99);
        int code = train(&toy->task, run, &options, table);
        run_close(run);
        _exit(signals_time_left() < 0 ? 98 : code);      /* it must have ended before the limit */
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED);
    CHECK(contains("limited", "log.txt", "time limit"));

    child = fork();                  /* a limit that no step fits into */
    if (child == 0) {
        struct toy *toy = toy_open(false, 1);
        toy->head_wait_us = 300000;
        set_options("--steps 1000");
        toy->task.evaluate = NULL;
        signals_install(0.6);
        struct run *run;
        char *path = in_folder("hopeless", "");
        if (run_open(&run, path, "pretrain", &error)) _exit(99);
        _exit(train(&toy->task, run, &options, table));
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED);
    CHECK(contains("hopeless", "log.txt", "no step was finished: with this --time-limit"));

    struct ckpt *c;
    char *path = host_text("%s/limited", base);
    CHECK(ckpt_open(&c, path, &error) == 0 && ckpt_meta_of(c)->step > 2);
    if (c) ckpt_close(c);
    free(path);
}

int main(void)
{
    if (!mkdtemp(base)) return 1;
    if (!getenv("LOUD") && !freopen("/dev/null", "w", stderr)) return 1;
    threads_start(2);
    test_resume();
    test_given_up(1);
    test_given_up(3);
    test_window();
    test_end_and_on();
    test_mismatch();
    threads_stop();                  /* a child of fork has no pool */
    test_killed();
    test_full_disk();
    test_stopping();
    char *command = host_text("rm -r '%s'", base);
    CHECK(system(command) == 0);
    free(command);
    return test_end("test_resume");
}
