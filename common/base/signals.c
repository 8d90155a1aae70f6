/* signals.c - a handler only notes the wish; the loop looks at it where it can stop cleanly. */
#define _GNU_SOURCE
#include "common/base/signals.h"
#include "common/base/base.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t wish;       /* the first signal that asked to stop */
static double deadline = INFINITY;       /* on the clock of seconds_now */
static char limit_text[48];

static void note(int signal)
{
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
}

/* Seconds since the process began: field 22 of its stat is the start in clock ticks since boot. */
static double process_age(void)
{
    struct bytes stat = {0};
    struct timespec now;
    double age = 0;
    if (file_read(&stat, "/proc/self/stat", 1 << 16, NULL) == 0) {
        const char *at = strrchr(stat.data, ')');           /* the name may hold anything */
        for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
        if (at && clock_gettime(CLOCK_BOOTTIME, &now) == 0)
            age = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
    }
    bytes_free(&stat);
    return age > 0 ? age : 0;
}

/* A closed standard stream would hand its number to the next file opened, and messages would be written into that. */
static void fill_streams(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = dup(fd)) {
        if (fd <= STDERR_FILENO) continue;
        close(fd);
        break;
    }
}

void signals_install(double time_limit_seconds)
{
    fill_streams();
    struct sigaction ask = {.sa_handler = note, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &ask, NULL);
    sigaction(SIGTERM, &ask, NULL);
    sigaction(SIGUSR1, &ask, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
    wish = 0;
    deadline = INFINITY;
    if (time_limit_seconds > 0) {
        char text[16];
        deadline = seconds_now() - process_age() + time_limit_seconds;
        snprintf(limit_text, sizeof limit_text, "time limit of %s", text_duration(text, time_limit_seconds));
    }
}

const char *signals_stop(void)
{
    switch (wish) {
    case 0: return signals_time_left() <= 0 ? limit_text : NULL;
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    default: return "SIGUSR1";
    }
}

double signals_time_left(void) { return deadline - seconds_now(); }
