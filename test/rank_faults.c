/* rank_faults.c - what befalls one rank of a program that is linked with this file: FAULT="KIND PLACE NUMBER RANK".
 * KIND: kill, segv, exit, freeze, loop, nan, late, full (disk).  PLACE: a function that is entered for the NUMBERth time,
 * or `call`, a system call or a transfer between ranks that is the NUMBERth made within saves; it is named on stderr. */
#define _GNU_SOURCE
#include "common/train/train_state.h"
#include "rlhf/rollout.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct engine;
struct transfer;

/* What FAULT says is counted in one place: [0] how often its place was met, [1] how deep in a save the rank is. */
static long *counters(void)
{
    static long counter[2];
    return counter;
}

static _Noreturn void loop(void)
{
    for (volatile long i = 0; ; i++) {}
}

static bool strike(const char *kind)
{
    if (strcmp(kind, "kill") == 0) raise(SIGKILL);
    if (strcmp(kind, "segv") == 0) raise(SIGSEGV);
    if (strcmp(kind, "freeze") == 0) raise(SIGSTOP);
    if (strcmp(kind, "exit") == 0) exit(3);
    if (strcmp(kind, "loop") == 0) loop();
    if (strcmp(kind, "full") == 0) setrlimit(RLIMIT_FSIZE, &(struct rlimit){20480, 20480});
    if (strcmp(kind, "late") == 0) sleep(2);
    return strcmp(kind, "nan") == 0;
}

/* True from the number of times on that a nan is asked for. */
static bool at(const char *place, const char *name)
{
    char kind[16], where[16];
    long number, rank;
    const char *fault = getenv("FAULT"), *mine = getenv("OMPI_COMM_WORLD_RANK");
    if (!mine) mine = getenv("PMI_RANK");
    if (!fault || !mine || sscanf(fault, "%15s %15s %ld %ld", kind, where, &number, &rank) != 4) return false;
    if (strtol(mine, NULL, 10) != rank || strcmp(where, place) != 0) return false;
    if (++counters()[0] < number) return false;
    if (counters()[0] == number) dprintf(2, "fault: %s in %s\n", kind, name);
    else if (strcmp(kind, "nan") != 0) return false;
    return strike(kind);
}

static void call(const char *name)
{
    if (counters()[1] > 0) at("call", name);
}

#define WRAP(type, name, ...) type __real_##name(__VA_ARGS__); type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

WRAP(int, engine_meet, struct engine *e, const char *path, void *x, size_t bytes, struct error *error)
{
    at("rendezvous", "rendezvous");
    return __real_engine_meet(e, path, x, bytes, error);
}

WRAP(void, model_forward, struct model *m, const struct batch *b, bool keep)
{
    if (keep) at("forward", "forward");
    __real_model_forward(m, b, keep);
}

WRAP(void, gradient_sum, struct model *m, bool first, bool last)
{
    if (at("reduce", "reduce")) m->grads.embed[0] = NAN;
    __real_gradient_sum(m, first, last);
}

WRAP(int, evaluation_next, const struct model *m, int64_t i, struct error *error)
{
    at("evaluate", "evaluate");
    return __real_evaluation_next(m, i, error);
}

WRAP(int, rollout_sample, struct rollouts *r, struct model *policy, struct prompts *prompts,
     const struct sample_settings *how, uint64_t first_index, struct error *error)
{
    at("sample", "sample");
    return __real_rollout_sample(r, policy, prompts, how, first_index, error);
}

WRAP(int, train_save, struct train_state *s, const char *name, uint32_t flags, struct error *error)
{
    at("save", "save");
    counters()[1]++;
    int status = __real_train_save(s, name, flags, error);
    counters()[1]--;
    return status;
}

WRAP(void, engine_start, struct engine *e, const struct transfer *t, int n)
{
    call("engine_start");
    __real_engine_start(e, t, n);
}

WRAP(void, engine_wait, struct engine *e)
{
    call("engine_wait");
    __real_engine_wait(e);
}

WRAP(ssize_t, pwrite, int fd, const void *data, size_t bytes, off_t place)
{
    call("pwrite");
    return __real_pwrite(fd, data, bytes, place);
}

WRAP(int, fsync, int fd)
{
    call("fsync");
    return __real_fsync(fd);
}

WRAP(int, fallocate, int fd, int mode, off_t from, off_t bytes)
{
    call("fallocate");
    return __real_fallocate(fd, mode, from, bytes);
}

WRAP(int, renameat, int from, const char *old, int to, const char *new)
{
    call("renameat");
    return __real_renameat(from, old, to, new);
}

WRAP(int, rename, const char *old, const char *new)
{
    call("rename");
    return __real_rename(old, new);
}

WRAP(int, close, int fd)
{
    call("close");
    return __real_close(fd);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    call("openat");
    return __real_openat(folder, path, flags, mode);
}
