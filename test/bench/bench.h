/* bench.h - what the benchmarks share: a clock, medians, lines of results.
 *
 * Results are lines that begin with "* "; run.sh repeats them as a table at the end.  With BENCH_CLOCK=cpu the clock
 * counts processor seconds a thread instead of seconds: on a busy machine, with one thread, these still mean something. */
#ifndef QUARTET_BENCH_H
#define QUARTET_BENCH_H

#include "common/base/base.h"
#include "common/model/device.h"
#include "common/base/threads.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNUSED __attribute__((unused))

UNUSED static double bench_clock(void)
{
    const char *kind = getenv("BENCH_CLOCK");
    struct timespec t;
    if (!kind || strcmp(kind, "cpu") != 0) return seconds_now();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec) / threads_count();
}

static int bench_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts x. */
UNUSED static double bench_median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, bench_by_value);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

/* Median seconds of a run, after one that warms up: at least 3 runs, up to 9 as the budget of seconds allows. */
UNUSED static double bench_seconds(void (*run)(void *context), void *context, double budget)
{
    double time[9], begin = bench_clock();
    int n = 0;
    run(context);
    while (n < 9 && (n < 3 || bench_clock() - begin < budget)) {
        double start = bench_clock();
        run(context);
        time[n++] = bench_clock() - start;
    }
    return bench_median(time, n);
}

/* BENCH_CASE=TEXT: only the parts whose name holds the text. */
UNUSED static bool bench_wanted(const char *name)
{
    return !getenv("BENCH_CASE") || strstr(name, getenv("BENCH_CASE"));
}

/* A line of the final table; goal 0: none. */
UNUSED static void bench_result(const char *what, double value, const char *unit, double goal)
{
    printf("* %-44s %8.*f %-20s", what, value < 10 ? 2 : value < 100 ? 1 : 0, value, unit);
    if (goal > 0) printf(" (goal %g)", goal);
    printf("\n");
    fflush(stdout);
}

#endif
