/* reward.c - a reward model reads answers packed, each up to its end token; a program gets all of an iteration at once,
 * so that it may work on them side by side.
 *
 * A program may answer each line at once, or read everything before it answers: both pipes are non-blocking and
 * whichever is ready is served, so that every order works and no buffer size matters. */
#define _GNU_SOURCE
#include "rlhf/reward.h"
#include "common/base/signals.h"
#include "common/text/show.h"
#include "rm/score.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LONGEST_ANSWER = 4096 };

struct reward_cmd {
    char *command;
    double timeout;
    pid_t pid;
    int to, from;               /* our ends of its standard input and output; -1 when closed */
    struct bytes said;          /* bytes of answers not yet parsed as numbers */
    char how[64];               /* the way it ended by itself; else "" */
};

/* ---- the process ---- */

static int spawn_shell(struct reward_cmd *c, int in, int out, struct error *error)
{
    char *argv[] = {"sh", "-c", c->command, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t standard;
    sigemptyset(&standard);
    sigaddset(&standard, SIGPIPE);
    sigaddset(&standard, SIGXFSZ);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawnattr_init(&how);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setsigdefault(&how, &standard);
    int failed = posix_spawn(&c->pid, "/bin/sh", &files, &how, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    if (failed == 0) return 0;
    return fail(error, EXIT_INTERNAL, "the reward program '%s' cannot be started: %s", c->command, strerror(failed));
}

int reward_cmd_open(struct reward_cmd **out, const char *command, double timeout, struct error *error)
{
    int down[2], up[2];
    if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0)
        return fail(error, EXIT_INTERNAL, "no pipe to the reward program: %s", strerror(errno));
    struct reward_cmd *c = host_alloc(1, sizeof *c);
    *c = (struct reward_cmd){.command = host_text("%s", command), .timeout = timeout, .pid = -1, .to = down[1],
                             .from = up[0]};
    int bad = spawn_shell(c, down[0], up[1], error);
    close(down[0]);
    close(up[1]);
    if (bad) {
        reward_cmd_close(c);
        return -1;
    }
    fcntl(c->to, F_SETFL, O_NONBLOCK);
    fcntl(c->from, F_SETFL, O_NONBLOCK);
    *out = c;
    return 0;
}

/* Waits at most `seconds` for its end; returns true with its status when it has ended. */
static bool ended_within(struct reward_cmd *c, double seconds, int *status)
{
    for (double until = seconds_now() + seconds;;) {
        if (c->pid > 0 && waitpid(c->pid, status, WNOHANG) == c->pid) return true;
        if (seconds_now() >= until) return false;
        poll(NULL, 0, 5);
    }
}

/* Ends the process in any case: it is killed after `patience` seconds. */
static void end_process(struct reward_cmd *c, double patience)
{
    int status;
    if (c->to >= 0) close(c->to);
    c->to = -1;
    if (c->pid <= 0) return;
    if (ended_within(c, patience, &status)) {
        if (WIFEXITED(status)) snprintf(c->how, sizeof c->how, "ended with exit code %d", WEXITSTATUS(status));
        else snprintf(c->how, sizeof c->how, "was killed by signal %d", WTERMSIG(status));
        kill(-c->pid, SIGKILL);                     /* what it may have left in its group */
    } else {
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, &status, 0);
    }
    c->pid = -1;
}

void reward_cmd_close(struct reward_cmd *c)
{
    if (!c) return;
    end_process(c, 2);
    if (c->from >= 0) close(c->from);
    bytes_free(&c->said);
    free(c->command);
    free(c);
}

/* ---- asking ---- */

/* closed: the end of the pipes that is gone. */
static int program_ended(struct reward_cmd *c, const char *closed, int have, int n, struct error *error)
{
    end_process(c, 1);
    return fail(error, EXIT_DATA, "the reward program '%s' %s%s after %d of %d rewards: it must keep reading one JSON "
                "object per line and writing one number per line", c->command, *c->how ? c->how : "closed its ",
                *c->how ? "" : closed, have, n);
}

static int rubbish(struct reward_cmd *c, const char *line, size_t length, int have, int n, struct error *error)
{
    char shown[80];
    end_process(c, 0);
    text_escape(shown, sizeof shown, line, length);
    if (n == 0)
        return fail(error, EXIT_DATA, "the reward program '%s' wrote \"%s\" without being asked", c->command, shown);
    return fail(error, EXIT_DATA, "the reward program '%s' wrote \"%s\" as reward %d of %d: expected one finite number "
                "on a line of its own", c->command, shown, have + 1, n);
}

/* Takes whole lines out of c->said as numbers.  Returns the new count, or -1. */
static int take_numbers(struct reward_cmd *c, float *reward, int have, int n, struct error *error)
{
    char *line = c->said.data, *end = line + c->said.size, *newline;
    while (line < end && (newline = memchr(line, '\n', (size_t)(end - line)))) {
        char *rest;
        *newline = 0;
        double value = strtod(line, &rest);
        rest += strspn(rest, " \t\r");
        if (have >= n || rest == line || rest != newline || !isfinite((float)value))
            return rubbish(c, line, (size_t)(newline - line), have, n, error);
        reward[have++] = (float)value;
        line = newline + 1;
    }
    size_t left = (size_t)(end - line);
    if (left > LONGEST_ANSWER || (left > 0 && have >= n)) return rubbish(c, line, left, have, n, error);
    if (left > 0) memmove(c->said.data, line, left);
    c->said.size = left;
    return have;
}

/* Returns bytes moved, 0 when it would block, -1 at the end of the other side. */
static ssize_t moved(ssize_t result)
{
    if (result > 0) return result;
    return result < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Unrequested output would be taken for answers, and every later reward would go to the wrong answer. */
static int check_silence(struct reward_cmd *c, int n, struct error *error)
{
    char data[256];
    ssize_t k = moved(read(c->from, data, sizeof data));
    if (k < 0) return program_ended(c, "output", 0, n, error);
    if (k == 0) return 0;
    bytes_add(&c->said, data, (size_t)k);
    return take_numbers(c, NULL, 0, 0, error) < 0 ? -1 : 0;
}

int reward_cmd_ask(struct reward_cmd *c, float *reward, int n, const char *requests, size_t size, struct error *error)
{
    size_t sent = 0;
    int have = 0;
    if (check_silence(c, n, error) != 0) return -1;
    double last = seconds_now();
    while (have < n || sent < size) {
        struct pollfd fd[2] = {{.fd = c->from, .events = POLLIN}, {.fd = sent < size ? c->to : -1, .events = POLLOUT}};
        double left = last + c->timeout - seconds_now();
        if (left <= 0) {
            end_process(c, 0);
            return fail(error, EXIT_DATA, "the reward program '%s' was silent for %g seconds after %d of %d rewards "
                        "(--reward-timeout)", c->command, c->timeout, have, n);
        }
        if (signals_check(error, "waiting for the reward program") != 0) return -1;
        if (poll(fd, 2, (int)fmin(ceil(left * 1000), 100)) <= 0) continue;
        if (fd[1].revents) {
            ssize_t k = moved(write(c->to, requests + sent, size - sent));
            if (k < 0) return program_ended(c, "input", have, n, error);
            sent += (size_t)k;
            if (k > 0) last = seconds_now();
        }
        if (fd[0].revents) {
            char data[1 << 14];
            ssize_t k = moved(read(c->from, data, sizeof data));
            if (k < 0) return program_ended(c, "output", have, n, error);
            bytes_add(&c->said, data, (size_t)k);
            if (k > 0) last = seconds_now();
            if ((have = take_numbers(c, reward, have, n, error)) < 0) return -1;
        }
    }
    return 0;
}

/* ---- rewards of an iteration ---- */

static void score_by_model(const struct reward_source *w, struct rollouts *r, float *reward)
{
    int e, to;
    for (rollout_mine(r, &e, &to); model_any(w->model, e < to);) {
        if (e == to) {
            model_idle(w->model, false);
            continue;
        }
        int n = rollout_pack(r, NULL, e, to, w->end);
        score_rewards(reward + e, w->model, &r->batch);
        e += n;
    }
}

void answer_json(struct bytes *out, const struct rollouts *r, int e, const struct tokenizer *t)
{
    bytes_text(out, "%s,\"row\":%s,\"response\":", r->prompt[e]->dialogue, r->prompt[e]->row);
    show_json(out, t, rollout_answer(r, e), (size_t)r->spoken[e]);
    bytes_text(out, ",\"stopped\":%s", r->ended[e] ? "true" : "false");
}

static int ask_program(const struct reward_source *w, struct rollouts *r, float *reward, struct error *error)
{
    struct bytes requests = {0};
    float *answer = host_alloc((size_t)r->episodes, sizeof *answer);
    int from, to;
    rollout_mine(r, &from, &to);
    for (int e = from; e < to; e++) {
        bytes_text(&requests, "{");
        answer_json(&requests, r, e, w->tokenizer);
        bytes_text(&requests, "}\n");
    }
    int bad = reward_cmd_ask(w->program, answer, to - from, requests.data, requests.size, error);
    for (int e = from; e < to && !bad; e++) reward[e] += (float)(w->coef * (double)answer[e - from]);
    bytes_free(&requests);
    free(answer);
    return bad;
}

int reward_source_get(void *self, struct rollouts *r, float *reward, struct error *error)
{
    const struct reward_source *w = self;
    for (int e = 0; e < r->episodes; e++) reward[e] = 0;
    if (w->model) score_by_model(w, r, reward);
    return w->program && comm_place(r->comm).tensor == 0 ? ask_program(w, r, reward, error) : 0;
}
