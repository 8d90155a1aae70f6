/* test_run.c - the run folder: its lock, its records, going back, a disk that is full; and the wish to stop. */
#define _GNU_SOURCE
#include "common/train/run.h"
#include "common/base/signals.h"
#include "test/test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[] = "/tmp/quartet-run-XXXXXX";
static struct error error;

static char *read_all(const char *file)
{
    char path[128];
    struct bytes b = {0};
    snprintf(path, sizeof path, "%s/run/%s", folder, file);
    if (file_read(&b, path, 1 << 20, &error)) return host_text("%s", error.text);
    return b.data;
}

static struct run *open_run(const char *program)
{
    struct run *run = NULL;
    char *path = host_text("%s/run", folder);
    run_open(&run, path, program, &error);
    free(path);
    return run;
}

static void put(struct run *run, int64_t step, double loss)
{
    struct record r = {0};
    record_count(&r, "step", step);
    record_real(&r, "loss", loss);
    run_metrics(run, &r);
}

static void test_record(void)
{
    struct record r = {0};
    struct bytes b = {0};
    record_count(&r, "step", 9007199254740991);
    record_real(&r, "loss", 0.1);
    record_real(&r, "bad", NAN);
    record_real(&r, "loss", 0.2);                     /* a key again replaces */
    record_json(&b, &r);
    CHECK(strcmp(b.data, "{\"step\":9007199254740991,\"loss\":0.2,\"bad\":null}") == 0);
    CHECK(record_get(&r, "loss") == 0.2 && isnan(record_get(&r, "none")));
    bytes_free(&b);
}

/* A child that tries to open the folder after half a second, when the parent has it: what it then returns. */
static pid_t later(double time_limit, int (*verdict)(const struct run *run, double waited))
{
    pid_t child = fork();
    if (child != 0) return child;
    signals_install(time_limit);
    for (int i = 0; i < 5; i++) signals_nap();
    double start = seconds_now();
    struct run *run = open_run("pretrain");
    _exit(verdict(run, seconds_now() - start));
}

static int opened_late(const struct run *run, double waited) { return run && waited > 3.5 ? 0 : 1; }
static int stopped_early(const struct run *run, double waited)
{
    return !run && waited < 2.5 && error.exit_code == EXIT_STOPPED ? 0 : 1;
}

static bool succeeded(pid_t child)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A run that is ending is waited for, longer than any other; and who waits hears the wish to stop. */
static void test_waiting(void)
{
    pid_t patient = later(0, opened_late), limited = later(1.5, stopped_early);
    struct run *run = open_run("pretrain");
    CHECK(run != NULL);
    run_ending(run);
    for (double start = seconds_now(); seconds_now() - start < 5;) signals_nap();
    run_close(run);
    CHECK(succeeded(patient));
    CHECK(succeeded(limited));
}

static void test_lock(void)
{
    struct run *run = open_run("pretrain");
    CHECK(run != NULL);
    CHECK(open_run("pretrain") == NULL && error.exit_code == EXIT_UNAVAILABLE && strstr(error.text, "in use by pretrain"));
    run_close(run);
    run = open_run("sft");                            /* nothing has begun here: no claim is left */
    CHECK(run != NULL);
    run_close(run);
    run = open_run("pretrain");
    char *conf = host_text("%s/run/run.conf", folder);
    CHECK(run != NULL && file_replace(conf, "x", 1, &error) == 0);
    free(conf);
    run_close(run);
    CHECK(open_run("sft") == NULL && error.exit_code == EXIT_MISMATCH &&
          strstr(error.text, "holds a run of pretrain, not of sft"));
    run = open_run("pretrain");
    CHECK(run != NULL);
    run_close(run);
    char *path = host_text("%s/file/run", folder), *file = host_text("%s/file", folder);
    close(open(file, O_CREAT | O_WRONLY, 0666));
    CHECK(run_open(&run, path, "pretrain", &error) == -1 && error.exit_code == EXIT_IO &&
          strstr(error.text, "cannot be created"));
    CHECK(run_open(&run, file, "pretrain", &error) == -1 && error.exit_code == EXIT_IO);
    CHECK(run_open(&run, "/proc/nothing", "pretrain", &error) == -1 && error.exit_code == EXIT_IO);
    unlink(file);
    free(path);
    free(file);
}

static void append_raw(const char *file, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/run/%s", folder, file);
    FILE *f = fopen(path, "a");
    fputs(text, f);
    fclose(f);
}

static void test_rewind(void)
{
    struct run *run = open_run("pretrain");
    for (int i = 0; i <= 5; i++) put(run, i, i);
    append_raw("metrics.jsonl", "{\"step\":6,\"lo");
    append_raw("rollouts.jsonl", "{\"step\": 3, \"x\": 1}\n{\"step\": 3, \"x\": 2}\n{\"step\": 4, \"x\": 3}\n");
    append_raw("mine.jsonl", "[1]\n[2");
    CHECK(run_rewind_metrics(run, 5, false, &error) == 0);
    char *text = read_all("metrics.jsonl");
    CHECK(strstr(text, "{\"step\":5,\"loss\":5}\n") && !strstr(text, "{\"step\":6"));
    free(text);
    CHECK(run_rewind_metrics(run, 3, false, &error) == 0);
    put(run, 4, 44);
    text = read_all("metrics.jsonl");
    CHECK(strcmp(text,
                 "{\"step\":0,\"loss\":0}\n{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":3}\n"
                 "{\"step\":4,\"loss\":44}\n") == 0);
    free(text);
    text = read_all("rollouts.jsonl");
    CHECK(strcmp(text, "{\"step\": 3, \"x\": 1}\n{\"step\": 3, \"x\": 2}\n") == 0);
    free(text);
    text = read_all("mine.jsonl");
    CHECK(strcmp(text, "[1]\n[2") == 0);
    free(text);
    CHECK(run_rewind_metrics(run, 3, true, &error) == 0);         /* what was sampled before the evaluation of step 3 stays */
    text = read_all("metrics.jsonl");
    CHECK(strstr(text, "{\"step\":2,\"loss\":2}\n") && !strstr(text, "{\"step\":3"));
    free(text);
    text = read_all("rollouts.jsonl");
    CHECK(strstr(text, "{\"step\": 3, \"x\": 2}\n") != NULL);
    free(text);
    CHECK(run_rewind_metrics(run, -1, false, &error) == 0);
    text = read_all("metrics.jsonl");
    CHECK(strcmp(text, "") == 0);
    free(text);
    run_close(run);
}

/* A file may grow to `bytes` and no further, as on a full disk: the process lives, whole records stay, and later ones
 * follow. */
static void test_full(void)
{
    struct run *run = open_run("pretrain");
    struct rlimit old, small = {100, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &old);
    signals_install(0);
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < 8; i++) put(run, i, i);
    run_status(run, "running", 1, 2,
               "a text so long that the status cannot be written to a file of a hundred bytes, of course");
    setrlimit(RLIMIT_FSIZE, &old);
    put(run, 8, 8);
    char *text = read_all("metrics.jsonl");
    CHECK(strstr(text, "{\"step\":3,\"loss\":3}\n") && strstr(text, "}\n{\"step\":8,\"loss\":8}\n"));
    CHECK(strlen(text) < 130 && text[strlen(text) - 1] == '\n');
    free(text);
    run_status(run, "running", 1, 2, "say \"it\"");
    text = read_all("status.json");
    CHECK(strstr(text, "\"state\":\"running\",\"step\":1,\"steps\":2") && strstr(text, "\"text\":\"say \\\"it\\\"\"}"));
    free(text);
    run_log(run, "a line of %d", 7);
    text = read_all("log.txt");
    CHECK(strstr(text, "a line of 7\n") != NULL);
    free(text);
    run_failed(run, "rank 1 was lost");              /* by another thread; this one may not have heard of it */
    run_status(run, "running", 3, 3, "all is well");
    text = read_all("status.json");
    CHECK(strstr(text, "\"state\":\"failed\",\"step\":1,\"steps\":2") && strstr(text, "\"text\":\"rank 1 was lost\""));
    free(text);
    run_close(run);
}

/* What has come out of the terminal, up to `end`. */
static void read_terminal(int terminal, char *seen, size_t size, const char *end)
{
    struct pollfd arrives = {terminal, POLLIN, 0};
    size_t used = 0;
    for (ssize_t n; used + 1 < size && poll(&arrives, 1, 5000) > 0 && (n = read(terminal, seen + used, size - 1 - used)) > 0;) {
        seen[used += (size_t)n] = 0;
        if (strstr(seen, end)) return;
    }
}

/* A terminal of 40 columns and its other end, or -1 where there are none. */
static int open_terminal(int *slave)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    struct winsize size = {.ws_row = 10, .ws_col = 40};
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal) || ioctl(terminal, TIOCSWINSZ, &size)) {
        test_skip("no pseudo-terminal here");
        return -1;
    }
    *slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    return terminal;
}

/* On a terminal of 40 columns: one line, rewritten (ten times a second at most), cut to fit, and cleared before the next
 * message. */
static void test_terminal(void)
{
    char seen[2000] = "", line[200];
    int slave, terminal = open_terminal(&slave), own = dup(2);
    if (terminal < 0) return;
    snprintf(line, sizeof line, "step 1 é %0100d", 0);
    dup2(slave, 2);
    struct run *run = open_run("pretrain");
    double start = seconds_now();
    run_progress(run, line);
    run_progress(run, "too soon");
    bool late = seconds_now() - start >= 0.1;       /* on a machine that did something else meanwhile */
    run_log(run, "a message");
    run_close(run);
    dup2(own, 2);
    read_terminal(terminal, seen, sizeof seen, "message\r\n");
    char *expected = host_text("\rstep 1 é %030d\033[K\r\033[Ka message\r\n", 0);
    char *again = host_text("\rstep 1 é %030d\033[K\rtoo soon\033[K\r\033[Ka message\r\n", 0);
    CHECK(strcmp(seen, expected) == 0 || (late && strcmp(seen, again) == 0));
    free(expected);
    free(again);
    close(slave);
    close(terminal);
    close(own);
}

/* The first Ctrl-C is answered on the terminal by the handler itself. */
static void test_answer(void)
{
    char seen[500] = "";
    int slave, terminal = open_terminal(&slave), own = dup(2);
    if (terminal < 0) return;
    dup2(slave, 2);
    signals_install(0);
    raise(SIGINT);
    dup2(own, 2);
    read_terminal(terminal, seen, sizeof seen, "at once\r\n");
    CHECK(strcmp(seen, "\r\nstopping cleanly; Ctrl-C again to leave at once\r\n") == 0);
    signals_install(0);
    close(slave);
    close(terminal);
    close(own);
}

/* With its standard streams closed a process must not take its own files for them. */
static void test_closed_streams(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        for (int fd = 0; fd < 3; fd++) close(fd);
        program_begin("pretrain");
        struct run *run = open_run("pretrain");
        run_log(run, "said to nobody");
        int next = open("/dev/null", O_RDONLY);
        _exit(run && next > 2 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_signals(void)
{
    signals_install(0);
    CHECK(signals_stop() == NULL && isinf(signals_time_left()));
    static const struct {
        int signal;
        const char *name;
    } all[] = {{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGINT, "SIGINT"}};
    for (int i = 0; i < 3; i++) {
        signals_install(0);
        raise(all[i].signal);
        CHECK(signals_stop() && strcmp(signals_stop(), all[i].name) == 0);
    }
    signals_install(0);
    raise(SIGPIPE);
    raise(SIGXFSZ);
    CHECK(signals_stop() == NULL);
    int status;
    pid_t child = fork();
    if (child == 0) {
        signals_install(0);
        raise(SIGINT);
        if (!signals_stop()) _exit(1);
        raise(SIGINT);
        _exit(2);
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    signals_install(3600);
    double left = signals_time_left();
    CHECK(signals_stop() == NULL && left < 3600.1 && left > 3500);      /* the test is younger than 100 s */
    signals_install(1e-9);
    CHECK(signals_stop() && strstr(signals_stop(), "time limit"));
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    test_record();
    test_lock();
    test_waiting();
    test_rewind();
    test_full();
    test_terminal();
    test_answer();
    test_closed_streams();
    test_signals();
    char *command = host_text("rm -r '%s'", folder);
    CHECK(system(command) == 0);
    free(command);
    return test_end("test_run");
}
