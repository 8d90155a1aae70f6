/* test.h - the whole test framework.  A test is a program: CHECKs, then `return test_end("name");`. */
#ifndef QUARTET_TEST_H
#define QUARTET_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int test_passed, test_failed, test_skipped;

#define CHECK(condition) test_check((condition), __FILE__, __LINE__, "%s", #condition)

/* As CHECK, with a sentence of its own. */
__attribute__((format(printf, 4, 5), unused))
static bool test_check(bool ok, const char *file, int line, const char *format, ...)
{
    if (ok) { test_passed++; return true; }
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    test_failed++;
    return false;
}

/* |a - b| <= absolute + relative * |b|; false for anything not finite. */
__attribute__((unused))
static bool close_to(double a, double b, double relative, double absolute)
{
    return fabs(a - b) <= absolute + relative * fabs(b);
}

/* The largest error of each operation beside its reference; run.sh shows them where ERRORS=1. */
static struct { const char *what; double most; } error_of[16];

__attribute__((unused))
static void test_error(const char *what, double error)
{
    int i = 0;
    while (error_of[i].what && strcmp(error_of[i].what, what) != 0) i++;
    error_of[i].what = what;
    if (!(error <= error_of[i].most)) error_of[i].most = error;       /* what is not a number stays */
}

__attribute__((unused))
static void test_skip(const char *why)
{
    test_skipped++;
    printf("skipped: %s\n", why);
}

/* A file of the optional data collection beside the project (SHARED=/path, default ../shared), or NULL when it is not there. */
__attribute__((unused))
static const char *test_shared(char *out, size_t size, const char *file)
{
    const char *shared = getenv("SHARED");
    snprintf(out, size, "%s/%s", shared && *shared ? shared : "../shared", file);
    return access(out, R_OK) == 0 ? out : NULL;
}

__attribute__((unused))
static int test_end(const char *name)
{
    for (int i = 0; error_of[i].what; i++)
        printf("error: %-44s %.2g\n", error_of[i].what, error_of[i].most);
    printf("%s: %d passed, %d failed, %d skipped\n", name, test_passed, test_failed, test_skipped);
    return test_failed ? 1 : 0;
}

#endif
