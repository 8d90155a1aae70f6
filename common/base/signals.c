/* signals.c - a handler only notes the wish; the program looks at it wherever it can stop cleanly. */
#define _GNU_SOURCE
#include "common/base/signals.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t wish;       /* the first signal that asked to stop */
static bool terminal;                    /* stderr is one */
static double deadline = INFINITY;       /* on the clock of seconds_now */
static double reserve;                   /* seconds before the deadline at which it counts as reached */
static atomic_ulong asked;
static char limit_text[48];

static void note(int signal)
{
    static const char answer[] = "\nstopping cleanly; Ctrl-C again to leave at once\n";
    int keep = errno;
    if (signal == SIGINT && wish == SIGINT) {
        /* Leaves as if nobody had caught it, so that a shell's loop ends too.  Files are whole at any moment. */
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigset_t set;
        sigaction(SIGINT, &plain, NULL);
        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        raise(SIGINT);
    }
    if (!wish || signal == SIGINT) wish = signal;
    if (signal == SIGINT && terminal && write(STDERR_FILENO, answer, sizeof answer - 1) < 0) terminal = false;
    errno = keep;
}

/* Seconds since the process began: field 22 of its stat is the start in clock ticks since boot. */
static double process_age(void)
{
    scoped_bytes struct bytes stat = {0};
    struct timespec now;
    double age = 0;
    if (file_read(&stat, "/proc/self/stat", 1 << 16, NULL) == 0) {
        const char *at = strrchr(stat.data, ')');           /* the name may hold anything */
        for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
        if (at && clock_gettime(CLOCK_BOOTTIME, &now) == 0)
            age = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
    }
    return age > 0 ? age : 0;
}

void signals_install(double time_limit_seconds)
{
    struct sigaction ask = {.sa_handler = note, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
    terminal = isatty(STDERR_FILENO);
    wish = 0;
    sigaction(SIGINT, &ask, NULL);
    sigaction(SIGTERM, &ask, NULL);
    sigaction(SIGUSR1, &ask, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
    deadline = INFINITY;
    reserve = 0;
    if (time_limit_seconds > 0) {
        char text[16];
        deadline = seconds_now() - process_age() + time_limit_seconds;
        snprintf(limit_text, sizeof limit_text, "the time limit of %s", text_duration(text, time_limit_seconds));
    }
}

uint64_t signals_asked(void) { return asked; }

const char *signals_stop(void)
{
    asked++;
    switch (wish) {
    case 0: return signals_time_left() <= reserve ? limit_text : NULL;
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    default: return "SIGUSR1";
    }
}

int signals_check(struct error *error, const char *doing, ...)
{
    const char *why = signals_stop();
    if (!why) return 0;
    char text[300];
    va_list list;
    va_start(list, doing);
    vsnprintf(text, sizeof text, doing, list);
    va_end(list);
    return fail(error, EXIT_STOPPED, "stopped by %s while %s: the same command resumes", why, text);
}

double signals_time_left(void) { return deadline - seconds_now(); }

void signals_reserve(double seconds) { reserve = seconds; }

void signals_nap(void) { poll(NULL, 0, 100); }

int signals_await(int fd, const char *path, struct error *error)
{
    struct pollfd input = {fd, POLLIN, 0};
    for (;;) {
        if (signals_check(error, "reading %s", path)) return -1;
        int ready = poll(&input, 1, 100);
        if (ready > 0) return 0;
        if (ready < 0 && errno != EINTR) return fail(error, EXIT_IO, "cannot read %s: %s", path, strerror(errno));
    }
}
