/* launch.c - who is started: by a launcher, whose variables say so, or by the program itself, one process a device.
 * Then the parent only waits, passes signals on, and exits with the code of its children, who end together. */
#define _GNU_SOURCE
#include "common/comm/engine.h"
#include "common/model/comm.h"
#include "common/model/device.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICES = 64, GRACE = 30 };

/* ---- by a launcher ---- */

/* The order matters: under mpirun within a Slurm job, Slurm's own variables count the daemons.  Of Slurm only a step
 * counts: a bare batch script is one process, however many tasks its job has. */
static const struct family { const char *size, *rank, *local, *only_if; } families[] = {
    {"QUARTET_WORLD", "QUARTET_RANK", "QUARTET_RANK", NULL},            /* children of --devices: all on this host */
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", NULL},
    {"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", NULL},
    {"WORLD_SIZE", "RANK", "LOCAL_RANK", NULL},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_ID"},
};

static int number(const char *name, long *out, struct error *error)
{
    const char *text = getenv(name);
    char *end;
    *out = strtol(text, &end, 10);
    if (end > text && !*end && *out >= 0 && *out <= 1 << 20) return 0;
    return fail(error, EXIT_USAGE, "the launcher's variable %s is '%s', expected a number", name,
                text_shown(text).text);
}

int launch_find(struct crew *crew, struct error *error)
{
    *crew = (struct crew){.world = 1, .locals = 1};
    const struct family *half = NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        bool size = getenv(f->size), rank = getenv(f->rank);
        if (f->only_if && !getenv(f->only_if)) continue;
        if (size != rank && !half) half = f;
        if (!size || !rank) continue;
        long of, this;
        if (number(f->size, &of, error) != 0 || number(f->rank, &this, error) != 0) return -1;
        if (of < 1 || this >= of)
            return fail(error, EXIT_USAGE, "the launcher says rank %ld of %ld (%s, %s)", this, of, f->rank, f->size);
        crew->world = (int)of;
        crew->rank = (int)this;
        crew->locals = 0;
        if (getenv(f->local)) {
            if (number(f->local, &this, error) != 0) return -1;
            crew->local = (int)this;
        }
        return 0;
    }
    if (!half) return 0;
    bool size = getenv(half->size);
    return fail(error, EXIT_USAGE, "%s is set, but %s is not: a launcher sets both; unset it to train on one rank",
                size ? half->size : half->rank, size ? half->rank : half->size);
}

char *launch_meeting(const char *folder)
{
    static const char *const own[] = {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE",
                                      "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"};
    const char *given = getenv("QUARTET_MEETING");
    struct bytes path = {0};
    if (given) return host_text("%s", given);
    if (!folder) return NULL;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    bytes_text(&path, "%.*s.meeting", (int)length, folder);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *value = getenv(own[i]);
        if (value) bytes_text(&path, "-%.*s", (int)strcspn(value, "/"), value);
    }
    return path.data;
}

/* ---- one process a device ---- */

/* How many devices the text names, or -1. */
static int devices_read(const char *text, int64_t device[DEVICES], struct error *error)
{
    int n = 0, there = device_count();
    if (there == 0) return device_open(0, error);               /* which says why */
    if (strcmp(text, "all") == 0) {
        for (; n < there && n < DEVICES; n++) device[n] = n;
        return n;
    }
    for (const char *p = text;; p++) {
        char *end;
        long number = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || *p == '+' || *p == '-' || *p == ' ' || n == DEVICES)
            return fail(error, EXIT_USAGE, "--devices: '%s' is neither all nor numbers with commas between them "
                        "(0,1,3)", text_shown(text).text);
        if (number >= there && device_shares_host())
            return fail(error, EXIT_USAGE, "--devices: this build computes on the CPU, its one device, 0; for GPUs "
                        "build with make CUDA=1, for ranks on CPUs with make MPI=1, started by mpirun");
        if (number >= there)
            return fail(error, EXIT_USAGE, "--devices: there is no device %ld here: there %s %d, counted from 0",
                        number, there == 1 ? "is" : "are", there);
        for (int i = 0; i < n; i++)
            if (device[i] == number) return fail(error, EXIT_USAGE, "--devices: %ld is named twice", number);
        device[n++] = number;
        p = end;
        if (!*end) return n;
    }
}

static _Noreturn void become(int rank, int world, const char *meeting, char **argv, const sigset_t *signals)
{
    char number[2][16];
    snprintf(number[0], sizeof number[0], "%d", rank);
    snprintf(number[1], sizeof number[1], "%d", world);
    setenv("QUARTET_RANK", number[0], 1);
    setenv("QUARTET_WORLD", number[1], 1);
    setenv("QUARTET_MEETING", meeting, 1);
    sigprocmask(SIG_SETMASK, signals, NULL);
    setpgid(0, 0);                                      /* a terminal's Ctrl-C reaches them through the parent, once */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execv("/proc/self/exe", argv);
    fprintf(stderr, "%s: a process for a device cannot be started: %s\n", program_name(), strerror(errno));
    _exit(EXIT_UNAVAILABLE);
}

static int wait_for(pid_t *child, int n, const sigset_t *signals)
{
    int code = 0, left = n, status;
    bool lost = false;
    while (left > 0) {
        int got = code || lost ? sigtimedwait(signals, NULL, &(struct timespec){.tv_sec = GRACE})
                               : sigwaitinfo(signals, NULL);
        if (got < 0 && errno == EAGAIN) got = SIGKILL;      /* one has ended badly, and the others have not followed */
        if (got < 0) continue;
        for (int i = 0; i < n && got != SIGCHLD; i++)
            if (child[i] > 0) kill(child[i], got);
        for (int i = 0; i < n; i++) {
            if (child[i] <= 0 || waitpid(child[i], &status, WNOHANG) != child[i]) continue;
            child[i] = 0;
            left--;
            lost |= WIFSIGNALED(status);
            if (WIFEXITED(status) && (i == 0 || !code) && WEXITSTATUS(status)) code = WEXITSTATUS(status);
        }
    }
    return code ? code : lost ? EXIT_LOST : 0;
}

int devices_start(const char *devices, int64_t *device, char **argv, struct error *error)
{
    int64_t chosen[DEVICES];
    const char *rank = getenv("QUARTET_RANK");
    char folder[] = "/tmp/quartet-XXXXXX", meeting[sizeof folder + 16];
    pid_t child[DEVICES];
    sigset_t signals, old;
    int n = devices_read(devices, chosen, error);
    if (n < 0) return -1;
    if (n == 1 || rank) {
        *device = chosen[rank ? atoi(rank) % n : 0];
        return 0;
    }
    if (!*engine_name())
        return fail(error, EXIT_UNAVAILABLE, "--devices: this build trains on one GPU, because NCCL was not there when "
                    "it was made: name one, or install NCCL (or set NCCL_HOME) and build again");
    if (!mkdtemp(folder)) return fail(error, EXIT_IO, "%s cannot be made: %s", folder, strerror(errno));
    snprintf(meeting, sizeof meeting, "%s/meeting", folder);
    sigemptyset(&signals);
    const int passed[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    for (int i = 0; i < 6; i++) sigaddset(&signals, passed[i]);
    sigprocmask(SIG_BLOCK, &signals, &old);
    for (int i = 0; i < n; i++) {
        child[i] = fork();
        if (child[i] == 0) become(i, n, meeting, argv, &old);
        if (child[i] > 0) continue;
        fprintf(stderr, "%s: no process for device %d: %s\n", program_name(), (int)chosen[i], strerror(errno));
        for (int k = 0; k < i; k++) kill(child[k], SIGKILL);
        exit(EXIT_UNAVAILABLE);
    }
    int code = wait_for(child, n, &signals);
    unlink(meeting);
    rmdir(folder);
    _exit(code);
}
