/* run.c - the run folder.  Training must not end because a log cannot be written: a failure only warns, once until
 * writing works again, except when opening and rewinding.  A record is one write(), so a killed process leaves whole
 * lines; what a full disk cuts short is taken back.  A command may still be refused after it has opened the folder:
 * until run_begin, lines of the log are held back. */
#define _GNU_SOURCE
#include "common/train/run.h"
#include "common/train/lock.h"
#include "format/reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct run {
    char *folder, *program;
    struct lock lock;
    char *events;                        /* the file for TensorBoard, or NULL */
    int folder_fd;
    bool mute;                           /* of a rank that does not write: another does */
    bool begun;                          /* the folder may be written to */
    struct bytes held;                   /* lines for log.txt from before */
    bool terminal, line_shown;           /* stderr is a terminal; a progress line stands on it */
    bool warned;                         /* a write failed, and none has worked since */
    int plain_lines;
    int64_t step, steps;                 /* of the last status */
    double line_last, plain_last, plain_interval, stop_looked;
    pthread_mutex_t saying;              /* status.json, which another thread writes when the ranks are to leave */
    bool failed;                         /* it has, and that stands */
};

/* ---- the folder ---- */

void run_ending(struct run *run)
{
    if (!run->mute) lock_write(&run->lock, true);
}

/* The next name in an open folder that matches the pattern, or NULL after the last. */
static const char *next_name(DIR *dir, const char *pattern)
{
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (fnmatch(pattern, entry->d_name, 0) == 0) return entry->d_name;
    return NULL;
}

static bool holds_checkpoint(const struct run *run)
{
    DIR *dir = opendir(run->folder);
    bool holds = next_name(dir, "?*.ckpt") != NULL;
    if (dir) closedir(dir);
    return holds;
}

int run_begin(struct run *run, struct error *error)
{
    if (run->begun) return 0;
    if (!lock_write(&run->lock, false))
        return fail(error, EXIT_IO, "%s/lock: cannot be written: %s", run->folder, strerror(errno));
    run->begun = true;
    folder_sweep(run->folder, "");               /* what a killed process left half-written */
    if (run->held.size) run_append(run, "log.txt", run->held.data, run->held.size);
    bytes_free(&run->held);
    return 0;
}

/* Of a rank that does not write. */
struct run *run_follow(const char *folder, const char *program)
{
    struct run *run = host_alloc(1, sizeof *run);
    *run = (struct run){.folder = host_text("%s", folder), .program = host_text("%s", program), .folder_fd = -1,
                        .lock = {.fd = -1}, .mute = true, .begun = true,
                        .saying = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP};      /* writing may itself fail */
    return run;
}

int run_open(struct run **out, const char *folder, const char *program, struct error *error)
{
    *out = NULL;
    if (!*folder) return fail(error, EXIT_USAGE, "--out: the name of the run folder is empty");
    if (folder_make(folder, error) != 0) return -1;
    struct run *run = run_follow(folder, program);
    run->mute = run->begun = false;
    run->terminal = isatty(STDERR_FILENO);
    run->plain_interval = 10;
    run->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = run->folder_fd < 0 ? fail(error, EXIT_IO, "%s: cannot be opened: %s", folder, strerror(errno))
                                    : lock_take(&run->lock, folder, run->program, error);
    if (run->lock.waited > 0)
        run_log(run, "waited %.0f s for another process to leave this folder", run->lock.waited);
    if (status == 0 && !holds_checkpoint(run)) status = run_begin(run, error);
    if (status) {
        run_close(run);
        return -1;
    }
    *out = run;
    return 0;
}

void run_close(struct run *run)
{
    if (!run) return;
    if (run->line_shown) fputc('\n', stderr);
    if (run->lock.fd >= 0) close(run->lock.fd);
    if (run->folder_fd >= 0) close(run->folder_fd);
    bytes_free(&run->held);
    free(run->folder);
    free(run->program);
    free(run->events);
    free(run);
}

bool run_asked_to_stop(struct run *run)
{
    double now = seconds_now();
    if (run->stop_looked > 0 && now - run->stop_looked < 1) return false;
    run->stop_looked = now;
    return faccessat(run->folder_fd, "stop", F_OK, 0) == 0;
}

const char *run_folder(const struct run *run) { return run->folder; }

/* ---- writing ---- */

static void clear_line(struct run *run)
{
    if (run->line_shown) fputs("\r\033[K", stderr);
    run->line_shown = false;
}

/* Says once that a file cannot be written, and again only after one could. */
static void note_result(struct run *run, bool ok, const char *file, int why)
{
    if (!ok && !run->warned) {
        clear_line(run);
        fprintf(stderr, "warning: %s/%s: cannot be written: %s (the run continues)\n", run->folder, file,
                strerror(why));
    }
    run->warned = !ok;
}

void run_append(struct run *run, const char *file, const void *data, size_t size)
{
    if (run->mute) return;
    int fd = openat(run->folder_fd, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    struct stat before;
    bool ok = fd >= 0 && fstat(fd, &before) == 0;
    if (ok) {
        ssize_t put;
        do put = write(fd, data, size); while (put < 0 && errno == EINTR);
        ok = put == (ssize_t)size;
        if (put >= 0 && !ok) errno = ENOSPC;
    }
    int why = errno;
    if (!ok && fd >= 0 && ftruncate(fd, before.st_size) != 0) why = errno;
    if (fd >= 0) close(fd);
    note_result(run, ok, file, why);
}

static void time_text(char out[32], const char *format, struct tm *(*split)(const time_t *, struct tm *))
{
    time_t now = time(NULL);
    struct tm tm;
    strftime(out, 32, format, split(&now, &tm));
}

static void append_log(struct run *run, const char *text)
{
    char stamp[32];
    time_text(stamp, "%Y-%m-%d %H:%M:%S", localtime_r);
    scoped_bytes struct bytes line = {0};
    bytes_text(run->begun ? &line : &run->held, "%s  %s\n", stamp, text);
    if (run->begun) run_append(run, "log.txt", line.data, line.size);
}

void run_log(struct run *run, const char *format, ...)
{
    if (run && run->mute) return;
    scoped char *text = NULL;
    va_list list;
    va_start(list, format);
    if (vasprintf(&text, format, list) < 0) die("no memory for a line of the log");
    va_end(list);
    if (run) clear_line(run);
    fprintf(stderr, "%s\n", text);
    if (run) append_log(run, text);
}

void run_metrics(struct run *run, const struct record *r)
{
    scoped_bytes struct bytes line = {0};
    record_json(&line, r);
    bytes_add(&line, "\n", 1);
    run_append(run, "metrics.jsonl", line.data, line.size);
    if (!run->events) return;
    scoped_bytes struct bytes events = {0};
    events_numbers(&events, r);
    run_append(run, run->events, events.data, events.size);
}

void run_event_text(struct run *run, int64_t step, const char *name, int index, const char *text, size_t size)
{
    scoped_bytes struct bytes events = {0};
    char tag[64];
    if (!run->events) return;
    snprintf(tag, sizeof tag, "%s/%d", name, index);
    events_text(&events, step, tag, text, size);
    run_append(run, run->events, events.data, events.size);
}

void run_sample(struct run *run, int64_t step, int index, const char *text, size_t size)
{
    scoped_bytes struct bytes file = {0};
    bytes_text(&file, "--- step %lld\n", (long long)step);
    bytes_add(&file, text, size);
    run_append(run, "samples.txt", file.data, file.size);
    run_event_text(run, step, "sample", index, text, size);
}

static int fitting(const char *text, int width)
{
    int bytes = 0;
    for (int columns = 0; text[bytes]; bytes++)
        if ((text[bytes] & 0xC0) != 0x80 && columns++ == width - 1) break;
    return bytes;
}

void run_progress(struct run *run, const char *line)
{
    if (run->mute) return;
    double now = seconds_now();
    bool due = run->plain_lines < 3 || now - run->plain_last >= run->plain_interval;
    if (run->terminal && (!run->line_shown || now - run->line_last >= 0.1)) {
        run->line_last = now;
        struct winsize size;
        int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
        fprintf(stderr, "\r%.*s\033[K", fitting(line, width), line);
        run->line_shown = true;
    }
    if (!due) return;
    if (!run->terminal) fprintf(stderr, "%s\n", line);
    append_log(run, line);
    if (run->plain_lines >= 3 && run->plain_interval < 60) run->plain_interval = fmin(60, 1.5 * run->plain_interval);
    run->plain_lines++;
    run->plain_last = now;
}

static int replace(struct run *run, const char *file, const struct bytes *content, struct error *error)
{
    scoped char *path = host_text("%s/%s", run->folder, file);
    return file_replace(path, content->data, content->size, error);
}

static void write_status(struct run *run, const char *state, int64_t step, int64_t steps, const char *text)
{
    scoped_bytes struct bytes line = {0};
    struct error error;
    run->step = step;
    run->steps = steps;
    if (run->mute || !run->begun) return;
    char stamp[32], clean[2 * sizeof error.text];
    time_text(stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r);
    json_auto_t *json = json_pack("{ss ss sI sI ss ss}", "program", run->program, "state", state, "step",
                                  (json_int_t)step, "steps", (json_int_t)steps, "time", stamp, "text",
                                  text_escape(clean, sizeof clean, text, strlen(text)));
    scoped char *dump = json_dumps(json, JSON_COMPACT);
    if (!dump) die("no memory for status.json");
    bytes_text(&line, "%s\n", dump);
    note_result(run, replace(run, "status.json", &line, &error) == 0, "status.json", errno);
}

void run_status(struct run *run, const char *state, int64_t step, int64_t steps, const char *text)
{
    pthread_mutex_lock(&run->saying);
    if (!run->failed) write_status(run, state, step, steps, text);
    pthread_mutex_unlock(&run->saying);
}

/* A disk that does not answer keeps nobody from leaving. */
void run_failed(void *self, const char *sentence)
{
    struct run *run = self;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    bool locked = pthread_mutex_timedlock(&run->saying, &until) == 0;
    if (run->mute) {                             /* the rank that writes is gone */
        run->folder_fd = open(run->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        run->mute = false;
    }
    run_log(run, "%s: %s", run->program, sentence);
    write_status(run, "failed", run->step, run->steps, sentence);
    run->failed = true;
    if (locked) pthread_mutex_unlock(&run->saying);
}

int run_write_conf(struct run *run, const struct option *table, struct error *error)
{
    if (run->mute) return 0;
    scoped_bytes struct bytes text = {0};
    bytes_text(&text, "# %s %s: every option as used; --config %s/run.conf repeats the run\n", run->program,
               QUARTET_VERSION, run->folder);
    options_print(&text, table);
    return replace(run, "run.conf", &text, error);
}

/* ---- going back to a step ---- */

/* Steps ascend in a file, so going back is one truncation: at the first record of a later step, or at a last line that
 * has no end or no closing brace.  A file of the user's own stays.  Returns 0, or -1 with errno. */
static int lines_rewind(const char *path, int64_t step)
{
    FILE *f = fopen(path, "r+e");
    scoped char *line = NULL;
    size_t capacity = 0;
    off_t keep = 0, end = 0;
    bool records = true;
    if (!f) return errno == ENOENT ? 0 : -1;
    for (ssize_t n; records && (n = getline(&line, &capacity, f)) > 0;) {
        long long at = -1;
        records = end > 0 || strncmp(line, "{\"step\":", 8) == 0;
        end += n;
        if (sscanf(line, "{\"step\":%lld", &at) == 1 && at > step) break;
        if (n >= 2 && line[n - 1] == '\n' && line[n - 2] == '}') keep = end;
    }
    bool ok = !records || (!ferror(f) && ftruncate(fileno(f), keep) == 0 && fsync(fileno(f)) == 0);
    int why = errno;
    fclose(f);
    errno = why;
    return ok ? 0 : -1;
}

int run_rewind_metrics(struct run *run, int64_t step, bool again, struct error *error)
{
    if (run->mute) return 0;
    DIR *dir = opendir(run->folder);
    int status = 0;
    for (const char *name; status == 0 && (name = next_name(dir, "*"));) {
        bool lines = text_ends(name, ".jsonl"), events = fnmatch(EVENTS_BEGIN "*" EVENTS_END, name, 0) == 0;
        int64_t last = again && (events || strcmp(name, "metrics.jsonl") == 0) ? step - 1 : step;
        scoped char *path = host_text("%s/%s", run->folder, name);
        if ((lines && lines_rewind(path, last) != 0) || (events && events_rewind(path, last) != 0))
            status = fail(error, EXIT_IO, "%s: cannot be cut back to step %lld: %s", path, (long long)step,
                          strerror(errno));
    }
    if (dir) closedir(dir);
    return status;
}

void run_events(struct run *run, int64_t step)
{
    if (run->mute) return;
    scoped_bytes struct bytes events = {0};
    DIR *dir = opendir(run->folder);
    long long at = (long long)time(NULL), other;
    for (const char *name; (name = next_name(dir, EVENTS_BEGIN "*" EVENTS_END));)
        if (sscanf(name, EVENTS_BEGIN "%lld", &other) == 1 && other >= at) at = other + 1;
    if (dir) closedir(dir);
    run->events = host_text(EVENTS_BEGIN "%010lld" EVENTS_END, at);
    events_start(&events, step);
    run_append(run, run->events, events.data, events.size);
}

static void sync_file(struct run *run, const char *file)
{
    int fd = openat(run->folder_fd, file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    note_result(run, fdatasync(fd) == 0, file, errno);
    close(fd);
}

void run_sync(struct run *run)
{
    if (run->mute) return;
    sync_file(run, "metrics.jsonl");
    if (run->events) sync_file(run, run->events);
}
