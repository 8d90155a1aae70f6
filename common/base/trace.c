/* trace.c - Chrome's trace format: an array of events with microseconds, where pid is the rank, tid 0 its main thread
 * and tid 1 what is under way between ranks.  Ranks append in turn, under a lock: each puts its events over the closing
 * bracket, and the bracket behind them, in one write. */
#define _GNU_SOURCE
#include "common/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 16, ENOUGH = 1 << 16, NAME = 31, TAIL = 4096 };

struct span { char name[NAME + 1]; double from; };

static struct {
    bool on;
    int fd, rank, depth;
    double origin, written;
    struct span span[DEPTH];
    struct bytes text;
} trace;

static const char end[] = "\n]\n";

double trace_now(void) { return 1e-9 * (double)nanoseconds_utc(); }

/* Where the next event goes: over the closing bracket, or over what a rank that was killed has left half-written. */
static off_t place(void)
{
    char tail[TAIL];
    off_t size = lseek(trace.fd, 0, SEEK_END), from = size > TAIL ? size - TAIL : 0;
    ssize_t n = pread(trace.fd, tail, TAIL, from), k = n - 3;
    if (n < 3) return -1;
    if (memcmp(tail + k, end, 3) == 0) return from + k;
    while (k > 0 && memcmp(tail + k, ",\n", 2) != 0) k--;
    return k > 0 ? from + k : -1;
}

static bool put(const char *text, size_t size, off_t at)
{
    ssize_t n = pwrite(trace.fd, text, size, at);
    if (n >= 0 && (size_t)n < size) errno = ENOSPC;
    return n == (ssize_t)size;
}

/* A disk that is full ends the trace, not the run. */
static void flush(void)
{
    if (trace.text.size == 0) return;
    size_t events = trace.text.size;
    bytes_add(&trace.text, end, 3);
    while (flock(trace.fd, LOCK_EX) != 0 && errno == EINTR) {}
    off_t at = place();
    bool ok = at >= 0 && put(trace.text.data, trace.text.size, at);
    int why = errno;
    if (ok) ok = ftruncate(trace.fd, at + (off_t)events + 3) == 0;
    else if (at >= 0 && ftruncate(trace.fd, at) == 0 && !put(end, 3, at)) why = errno;
    flock(trace.fd, LOCK_UN);
    trace.text.size = 0;
    trace.written = trace_now();
    if (ok) return;
    fprintf(stderr, "%s: warning: --trace: %s; the trace ends here\n", program_name(), strerror(why));
    trace.on = false;
}

static void name_row(const char *what, int row, const char *name)
{
    bytes_text(&trace.text, ",\n{\"name\":\"%s\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", what,
               trace.rank, row, name);
}

int trace_open(const char *path, int rank, double origin, struct error *error)
{
    char who[160], host[64] = {0};
    static const char start[] = "[\n{\"name\":\"clock\",\"ph\":\"M\",\"pid\":0,\"tid\":0,\"args\":{}}\n]\n";
    struct stat s;
    trace.fd = open(path, O_RDWR | O_CLOEXEC | (rank == 0 ? O_CREAT | O_NONBLOCK : 0), 0666);
    if (trace.fd < 0) return fail(error, EXIT_IO, "--trace %s: cannot be opened: %s", path, strerror(errno));
    if (fstat(trace.fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        close(trace.fd);
        return fail(error, EXIT_IO, "--trace %s: is no file", path);
    }
    if (rank == 0 && (ftruncate(trace.fd, 0) != 0 || !put(start, sizeof start - 1, 0))) {
        int why = errno;
        close(trace.fd);
        return fail(error, EXIT_IO, "--trace %s: cannot be written: %s", path, strerror(why));
    }
    trace.rank = rank;
    trace.origin = origin;
    trace.on = true;
    gethostname(host, sizeof host - 1);
    snprintf(who, sizeof who, "rank %d (process %d on %s)", rank, (int)getpid(), host);
    name_row("process_name", 0, who);
    name_row("thread_name", 0, "computing");
    name_row("thread_name", 1, "between ranks");
    flush();
    return 0;
}

void trace_close(void)
{
    if (!trace.on) return;
    flush();
    close(trace.fd);
    bytes_free(&trace.text);
    trace.on = false;
}

static void event(const char *name, int row, double from, double to)
{
    bytes_text(&trace.text, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f", name,
               trace.rank, row, 1e6 * (from - trace.origin), 1e6 * (to - from));
}

void trace_begin(const char *name)
{
    if (!trace.on) return;
    if (trace.depth < DEPTH) {
        struct span *s = &trace.span[trace.depth];
        snprintf(s->name, sizeof s->name, "%s", name);
        s->from = trace_now();
    }
    trace.depth++;
}

void trace_end(void)
{
    if (!trace.on) return;
    trace.depth--;
    if (trace.depth >= DEPTH) return;
    double now = trace_now();
    event(trace.span[trace.depth].name, 0, trace.span[trace.depth].from, now);
    bytes_add(&trace.text, "}", 1);
    if (trace.text.size > ENOUGH || now - trace.written > 1) flush();
}

void trace_transfer(const char *name, double from, size_t bytes)
{
    if (!trace.on) return;
    event(name, 1, from, trace_now());
    bytes_text(&trace.text, ",\"args\":{\"bytes\":%zu}}", bytes);
}
