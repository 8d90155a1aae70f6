/* lock.c - the file lock of a run folder is held until the process ends, and says which program and process has it. */
#define _GNU_SOURCE
#include "common/train/lock.h"
#include "common/base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

enum { WAIT_OTHER = 3, WAIT_ENDING = 300 };      /* seconds for which a folder in use is waited for */

/* What the file says: "pretrain 1234", and "ending" behind it when that process has been asked to stop. */
struct owner { char program[64], ending[8]; int pid; };

static struct owner read_owner(const struct lock *lock)
{
    struct owner owner = {"another program", "", 0};
    char text[80];
    ssize_t got = pread(lock->fd, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    sscanf(text, "%60[a-z0-9-] %d %7s", owner.program, &owner.pid, owner.ending);
    return owner;
}

bool lock_write(const struct lock *lock, bool ending)
{
    char text[80];
    int size = snprintf(text, sizeof text, "%s %d%s\n", lock->program, (int)getpid(), ending ? " ending" : "");
    return pwrite(lock->fd, text, (size_t)size, 0) == size && ftruncate(lock->fd, size) == 0;
}

/* A job that is started again may come while the old process still saves: one that is ending gets WAIT_ENDING seconds,
 * any other WAIT_OTHER. */
static int wait_for(struct lock *lock, const char *folder, struct error *error)
{
    double start = seconds_now();
    bool told = false;
    while (flock(lock->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail(error, EXIT_IO, "%s/lock: cannot be locked: %s", folder, strerror(errno));
        struct owner owner = read_owner(lock);
        double waited = seconds_now() - start;
        if (waited > (*owner.ending ? WAIT_ENDING : WAIT_OTHER))
            return fail(error, EXIT_UNAVAILABLE, "%s is in use by %s (process %d): wait for it, stop it, or give "
                        "another --out", folder, owner.program, owner.pid);
        if (!told && *owner.ending) {
            fprintf(stderr, "%s: waiting for %s (process %d) to end\n", folder, owner.program, owner.pid);
            told = true;
        }
        if (signals_check(error, "waiting for %s, which is in use", folder)) return -1;
        signals_nap();
    }
    lock->waited = told ? seconds_now() - start : 0;
    return 0;
}

/* A program that ended before its run began has written no run.conf, and leaves no claim. */
int lock_take(struct lock *lock, const char *folder, const char *program, struct error *error)
{
    scoped char *path = host_text("%s/lock", folder), *conf = host_text("%s/run.conf", folder);
    *lock = (struct lock){open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666), program, 0};
    if (lock->fd < 0) return fail(error, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (wait_for(lock, folder, error) != 0) return -1;
    struct owner owner = read_owner(lock);
    if (access(conf, F_OK) == 0 && owner.pid && strcmp(owner.program, program) != 0)
        return fail(error, EXIT_MISMATCH, "%s holds a run of %s, not of %s: give another --out", folder, owner.program,
                    program);
    return 0;
}
