/* base.h - what every file may use: errors, exit codes, checked sizes, host memory, growing byte strings; and the
 * headers of C that nearly all need.
 *
 * One rule of errors: bytes from outside can be wrong, so functions that read them return 0, or -1 with one sentence in
 * the caller's struct error.  Everything else is ours: it works, or the process dies saying what it was doing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUARTET_VERSION "0.1.0"

/* How a program ends.  The one table is in docs/exit-codes.md. */
enum {
    EXIT_DONE = 0,       /* all of it done */
    EXIT_USAGE = 64,     /* unknown option, bad number, range or unit */
    EXIT_DATA = 65,      /* bad data, corrupt file, non-finite loss */
    EXIT_NOINPUT = 66,   /* an input file is missing or cannot be read */
    EXIT_UNAVAILABLE = 69, /* a resource is in use or not there now; trying again later may work */
    EXIT_INTERNAL = 70,  /* a bug of ours, or no memory */
    EXIT_LOST = 71,      /* of several ranks one has died, or its host or network is lost */
    EXIT_HANG = 72,      /* of several ranks one has not got on for --stall-limit, or all wait for each other */
    EXIT_IO = 74,        /* reading or writing failed: disk full, unwritable folder, broken pipe */
    EXIT_STOPPED = 75,   /* stopped by a signal or a time limit; the same command resumes */
    EXIT_MISMATCH = 78,  /* parts that do not belong together: stage, tokenizer, options of another run */
};

struct error {
    int exit_code;       /* what the program should exit with: one of the above */
    char text[2000];     /* one sentence: what, where, expected, found, what to do */
};

/* Fills *error (may be NULL) and returns -1, so that `return fail(error, EXIT_DATA, "...")` is the usual way out. */
int fail(struct error *error, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text of *error (may be NULL), keeps its exit code and returns -1. */
int fail_in(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints "program: sentence" to stderr and exits with exit_code; quit_error with what *error says. */
_Noreturn void quit(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void quit_error(const struct error *error);

/* quit(EXIT_INTERNAL, ...): for what only a bug of ours, memory or the device can break. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Has quit and die tell `leave` before they print and exit: ranks that train together end together, and one of them
 * speaks for all. */
void program_at_quit(void (*leave)(void *self, int exit_code, const char *sentence), void *self);

/* First in every main, with the name that starts every message on stderr (default "quartet").  Closed standard streams
 * get a placeholder, so that no file opened later receives messages; a failed write to stdout ends with EXIT_IO. */
void program_begin(const char *name);
const char *program_name(void);
/* "quartet-" for a program that was started by its installed name, else "": what precedes the commands in messages. */
const char *program_prefix(void);
/* What --version tells of the build, "cpu, float32"; "" until it is set.  The text is not copied. */
void program_set_build(const char *text);
const char *program_build(void);
bool program_input_closed(void);        /* stdin was closed at program_begin */

/* *result = a * b, or a + b.  Return false when it does not fit; *result is then of no use. */
static inline bool size_mul(uint64_t *result, uint64_t a, uint64_t b) { return !__builtin_mul_overflow(a, b, result); }
static inline bool size_add(uint64_t *result, uint64_t a, uint64_t b) { return !__builtin_add_overflow(a, b, result); }

/* Host memory for bookkeeping.  count * size bytes, zeroed; dies when there is none.  The caller frees with free(). */
void *host_alloc(size_t count, size_t size);
void *host_grow(void *old, size_t count, size_t size);          /* realloc; new bytes are not zeroed */
/* Room for `more` behind the `count` elements of an array that only this grows (NULL before the first): always the next
 * power of two, so that its capacity need not be kept. */
void *host_append(void *old, size_t count, size_t more, size_t size);
char *host_text(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* a formatted string to free() */

/* A local variable of this kind is freed when its block ends: scoped char *path = host_text(...); */
static inline void scoped_free(void *pointer) { free(*(void **)pointer); }
#define scoped __attribute__((cleanup(scoped_free)))
#define scoped_bytes __attribute__((cleanup(bytes_free)))

/* A growing byte string.  Starts as {0}; add and text append, and keep an uncounted NUL behind the end. */
struct bytes { char *data; size_t size, capacity; };
void bytes_add(struct bytes *b, const void *data, size_t size);
void bytes_text(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bytes_quoted(struct bytes *b, const char *word);           /* as a shell, or a config file, takes it back */
void bytes_free(struct bytes *b);

/* CRC-32 (zlib's polynomial) of `size` bytes, continued from `start`, which is 0 for the first ones. */
uint32_t crc32_of(uint32_t start, const void *data, size_t size);

/* Writes `text` for a terminal into out (at most size bytes with the NUL): control characters, bidi controls and
 * invalid UTF-8 become \xNN, and a cut is shown by "...".  Returns out. */
char *text_escape(char *out, size_t size, const char *text, size_t length);

/* The same as a value for a message: text_shown(name).text is good until its statement ends. */
struct shown_text { char text[300]; };
struct shown_text text_shown(const char *text);

/* Bytes of the valid UTF-8 character at text (1..4), or 0 without one; and of all valid UTF-8 that text starts with. */
int utf8_length(const char *text, size_t length);
size_t utf8_prefix(const char *text, size_t length);

/* "12.3M", "1.20 GiB", "1h 02m", written into out; return out. */
char *text_count(char out[16], double count);
char *text_bytes(char out[16], double bytes);
char *text_duration(char out[16], double seconds);

/* The shortest decimal of at least `digits` significant ones that reads back as x; returns out. */
char *text_real(char out[32], double x, int digits);

/* The last part of a path, as text_escape writes it: "rm" of "runs/rm/"; returns out. */
char *path_name(char out[128], const char *path);

/* The folder of a file, to free(); and whether a folder holds a file or folder of this name. */
char *path_folder(const char *path);
bool path_holds(const char *folder, const char *name);

/* Words in one text, "a|b|c": number n with its length, or NULL; the number of a word, or -1; whether a text, or a path
 * before .gz or .zst, ends with one of them. */
const char *word_at(const char *words, int n, size_t *length);
int word_number(const char *words, const char *word);
bool text_ends(const char *text, const char *words);
bool path_named(const char *path, const char *words);

/* Seconds since some fixed moment, never going back.  Nanoseconds since 1970, UTC. */
double seconds_now(void);
int64_t nanoseconds_utc(void);

/* n (at most 256) bytes from the kernel's random source, for names that must be unique; never for computing. */
void random_bytes(void *out, size_t n);

/* Bytes of host memory that can still be taken: the least of what the machine, every control group above the process,
 * RLIMIT_AS and RLIMIT_DATA leave.  cgroup_memory_left: the groups' part, with /proc and /sys under root ("" but in
 * tests); UINT64_MAX without a limit. */
uint64_t host_memory_available(void);
uint64_t cgroup_memory_left(const char *root);

/* Reads a whole small file.  Returns 0, or -1 with *error (missing: EXIT_NOINPUT; unreadable: EXIT_IO; larger than
 * limit: EXIT_DATA) and *out untouched. */
int file_read(struct bytes *out, const char *path, size_t limit, struct error *error);

/* Writes `path` so that a reader sees the old or the new content whole, also after power loss; what a link points to,
 * and a device or pipe as it is.  Returns 0, or -1 (EXIT_IO) with the old content in place (or the new, when only the
 * folder's fsync failed). */
int file_replace(const char *path, const void *data, size_t size, struct error *error);

/* There is something of this name that is no file: a file must not take its place. */
bool path_special(const char *path);

/* Exactly `size` bytes at `offset`.  Return 0, or -1 with errno (reading: 0 when the file ends before). */
int file_read_at(int fd, void *data, uint64_t offset, size_t size);
int file_write_at(int fd, const void *data, uint64_t offset, size_t size);

/* mkdir -p: creates a folder and those above it.  Returns 0, or -1 (EXIT_IO). */
int folder_make(const char *folder, struct error *error);

/* sqrt(squares / count), squares being the summed squared deviations from this mean; 0 where that is within the
 * rounding of float32 (a millionth of |mean|), or count is not above 0: one that data may be divided by, or none. */
double standard_deviation(double squares, double count, double mean);

static inline int int_min(int a, int b) { return a < b ? a : b; }
static inline int int_max(int a, int b) { return a > b ? a : b; }
static inline const char *plural(int64_t n) { return n == 1 ? "" : "s"; }       /* "%d step%s" */
