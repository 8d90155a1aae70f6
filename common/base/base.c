/* base.c - the small things of base.h. */
#define _GNU_SOURCE
#include "common/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

static const char *name_of_program = "quartet", *build = "";

const char *program_name(void) { return name_of_program; }
const char *program_prefix(void)
{
    return strncmp(program_invocation_short_name, "quartet-", 8) == 0 ? "quartet-" : "";
}
void program_set_build(const char *text) { build = text; }
const char *program_build(void) { return build; }

static bool input_closed, message_said;

static void close_output(void)
{
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (!failed || message_said) return;
    fprintf(stderr, "%s: the output cannot be written: %s\n", name_of_program, strerror(errno));
    _exit(EXIT_IO);
}

void program_begin(const char *name)
{
    name_of_program = name;
    input_closed = fcntl(STDIN_FILENO, F_GETFD) < 0;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        int got = open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);   /* writing to stdout stays an error */
        if (got >= 0 && got != fd) close(got);
    }
    if (atexit(close_output) != 0) die("no room for a function at exit");
}

bool program_input_closed(void) { return input_closed; }

int fail(struct error *error, int exit_code, const char *format, ...)
{
    if (!error) return -1;
    va_list list;
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    error->exit_code = exit_code;
    return -1;
}

int fail_in(struct error *error, const char *format, ...)
{
    if (!error) return -1;
    char rest[sizeof error->text];
    memcpy(rest, error->text, sizeof rest);
    va_list list;
    va_start(list, format);
    int n = vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    int left = (int)sizeof error->text - n - 3;         /* beside ": " and the end */
    if (n >= 0 && left > 0) sprintf(error->text + n, ": %.*s", left, rest);
    return -1;
}

static struct { void (*leave)(void *self, int exit_code, const char *sentence); void *self; } at_quit;

void program_at_quit(void (*leave)(void *self, int exit_code, const char *sentence), void *self)
{
    at_quit.leave = leave;
    at_quit.self = self;
}

static _Noreturn void say_and_exit(int exit_code, const char *format, va_list list)
{
    char sentence[sizeof ((struct error *)0)->text];
    fflush(stdout);
    message_said = true;
    vsnprintf(sentence, sizeof sentence, format, list);
    for (size_t n = strlen(sentence); n > 0 && sentence[n - 1] == '\n'; n--) sentence[n - 1] = 0;   /* after a report */
    if (at_quit.leave) at_quit.leave(at_quit.self, exit_code, sentence);
    fprintf(stderr, "%s: %s\n", name_of_program, sentence);
    exit(exit_code);
}

void quit(int exit_code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say_and_exit(exit_code, format, list);
}

void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say_and_exit(EXIT_INTERNAL, format, list);
}

void quit_error(const struct error *error) { quit(error->exit_code, "%s", error->text); }

void *host_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p) die("no memory for %zu x %zu bytes", count, size);
    return p;
}

void *host_grow(void *old, size_t count, size_t size)
{
    void *p = reallocarray(old, count ? count : 1, size ? size : 1);
    if (!p) die("no memory for %zu x %zu bytes", count, size);
    return p;
}

static size_t power_of_two(size_t n)
{
    return n < 2 ? n : (size_t)1 << (64 - __builtin_clzll(n - 1));
}

void *host_append(void *old, size_t count, size_t more, size_t size)
{
    return count + more <= power_of_two(count) ? old : host_grow(old, power_of_two(count + more), size);
}

static char *format_text(int *length, const char *format, va_list list)
{
    char *text;
    *length = vasprintf(&text, format, list);
    if (*length < 0) die("no memory for a string");
    return text;
}

char *host_text(const char *format, ...)
{
    int length;
    va_list list;
    va_start(list, format);
    char *text = format_text(&length, format, list);
    va_end(list);
    return text;
}

void bytes_add(struct bytes *b, const void *data, size_t size)
{
    if (size >= SIZE_MAX / 2 - b->size) die("no memory for a string of %zu + %zu bytes", b->size, size);
    size_t need = b->size + size + 1;
    if (need > b->capacity) {
        b->capacity = b->capacity * 2 > need ? b->capacity * 2 : need + 64;
        b->data = host_grow(b->data, b->capacity, 1);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

void bytes_text(struct bytes *b, const char *format, ...)
{
    int length;
    va_list list;
    va_start(list, format);
    scoped char *text = format_text(&length, format, list);
    va_end(list);
    bytes_add(b, text, (size_t)length);
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

uint32_t crc32_of(uint32_t start, const void *data, size_t size)
{
    return (uint32_t)crc32_z(start, data, size);
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t nanoseconds_utc(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void random_bytes(void *out, size_t n)
{
    if (getentropy(out, n) != 0) die("the kernel gives no random bytes: %s", strerror(errno));
}

int file_read(struct bytes *out, const char *path, size_t limit, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(error, EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    struct bytes b = {0};
    char block[65536];
    ssize_t got;
    while ((got = read(fd, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 || b.size + (size_t)got > limit) break;
        bytes_add(&b, block, (size_t)got);
    }
    int why = errno;
    close(fd);
    if (got != 0) {
        bytes_free(&b);
        if (got < 0) return fail(error, EXIT_IO, "%s: cannot be read: %s", path, strerror(why));
        return fail(error, EXIT_DATA, "%s: larger than the %zu bytes expected here", path, limit);
    }
    bytes_add(&b, "", 0);
    *out = b;
    return 0;
}

int folder_make(const char *folder, struct error *error)
{
    scoped char *path = host_text("%s", folder);
    for (char *slash = path; slash;) {
        slash = strchr(slash + 1, '/');
        if (slash) *slash = 0;
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return fail(error, EXIT_IO, "%s: cannot be created: %s", path, strerror(errno));
        if (slash) *slash = '/';
    }
    return 0;
}

int file_read_at(int fd, void *data, uint64_t offset, size_t size)
{
    for (char *p = data; size;) {
        ssize_t got = pread(fd, p, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = 0;
        if (got <= 0) return -1;
        p += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

/* At `offset`, or, where that is -1, behind what was written last. */
static int write_all(int fd, const char *data, size_t size, off_t offset)
{
    while (size) {
        ssize_t put = offset < 0 ? write(fd, data, size) : pwrite(fd, data, size, offset);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return -1;
        data += put;
        size -= (size_t)put;
        if (offset >= 0) offset += put;
    }
    return 0;
}

int file_write_at(int fd, const void *data, uint64_t offset, size_t size)
{
    return write_all(fd, data, size, (off_t)offset);
}

bool path_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

/* Writes what is no file in place: a pipe, a terminal. */
static int write_special(const char *path, const char *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), status = fd < 0 ? -1 : write_all(fd, data, size, -1), why = errno;
    if (fd >= 0) close(fd);
    errno = why;
    return status;
}

int file_replace(const char *path, const void *data, size_t size, struct error *error)
{
    if (path_special(path)) {
        if (write_special(path, data, size) == 0) return 0;
        return fail(error, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    scoped char *real = realpath(path, NULL);       /* a link stays one */
    const char *target = real ? real : path, *doing = "created";
    scoped char *temporary = host_text("%s.tmp-%d", target, (int)getpid()), *beside = path_folder(target);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = fd >= 0;
    if (ok) { doing = "written"; ok = file_write_at(fd, data, 0, size) == 0 && fsync(fd) == 0; }
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) { ok = false; why = errno; }
    if (ok) { doing = "renamed"; ok = rename(temporary, target) == 0; why = errno; }
    if (ok) {
        int folder = open(beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        doing = "made durable";
        ok = folder >= 0 && fsync(folder) == 0;
        why = errno;
        if (folder >= 0) close(folder);
    } else if (fd >= 0) unlink(temporary);
    if (!ok) return fail(error, EXIT_IO, "%s: cannot be %s: %s", path, doing, strerror(why));
    return 0;
}

double standard_deviation(double squares, double count, double mean)
{
    double deviation = count > 0 ? sqrt(squares / count) : 0;
    return deviation > 1e-6 * fabs(mean) ? deviation : 0;
}
