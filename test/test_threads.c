/* test_threads.c - every task runs exactly once, with thread numbers that may index scratch, in any order and number of
 * calls. */
#include "common/base/base.h"
#include "common/base/threads.h"
#include "test/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { TASKS = 10000, MOST = 8 };

struct count { atomic_int runs[TASKS]; atomic_int working[MOST]; atomic_int bad; int n; };

static void count_task(void *context, int i, int thread)
{
    struct count *c = context;
    if (i < 0 || i >= c->n || thread < 0 || thread >= threads_count()) { atomic_fetch_add(&c->bad, 1); return; }
    if (atomic_fetch_add(&c->working[thread], 1) != 0) atomic_fetch_add(&c->bad, 1);    /* two tasks with one number */
    atomic_fetch_add(&c->runs[i], 1);
    atomic_fetch_sub(&c->working[thread], 1);
}

static bool all_once(struct count *c, int n)
{
    memset(c, 0, sizeof *c);
    c->n = n;
    threads_for(n, count_task, c);
    bool ok = atomic_load(&c->bad) == 0;
    for (int i = 0; i < TASKS; i++) ok &= atomic_load(&c->runs[i]) == (i < n);
    return ok;
}

/* Plain memory, written by the caller before and by tasks during the call, read by the caller after it. */
static void square_task(void *context, int i, int thread)
{
    (void)thread;
    long *x = context;
    x[i] = x[i] * x[i];
}

static void check_visible(int rounds)
{
    long x[64];
    bool ok = true;
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < 64; i++) x[i] = r + i;
        threads_for(64, square_task, x);
        for (int i = 0; i < 64; i++) ok &= x[i] == (long)(r + i) * (r + i);
        if (r % 500 == 0) usleep(3000);             /* long enough for the helpers to fall asleep */
    }
    CHECK(ok);
}

static atomic_int signalled_elsewhere;
static pthread_t main_thread;
static void on_signal(int number)
{
    (void)number;
    if (!pthread_equal(pthread_self(), main_thread)) atomic_store(&signalled_elsewhere, 1);
}

int main(void)
{
    static struct count c;
    main_thread = pthread_self();
    CHECK(threads_count() == 1);
    CHECK(all_once(&c, 5));                         /* without threads_start: on the caller alone */
    signal(SIGUSR1, on_signal);
    for (int n = 1; n <= MOST; n++) {
        threads_start(n);                           /* again and again: stops the helpers before */
        CHECK(threads_count() == n);
        CHECK(all_once(&c, 0));
        CHECK(all_once(&c, 1));
        CHECK(all_once(&c, n - 1));
        CHECK(all_once(&c, 7));
        CHECK(all_once(&c, TASKS));
        kill(getpid(), SIGUSR1);
        check_visible(n <= 3 ? 3000 : 300);
    }
    CHECK(!atomic_load(&signalled_elsewhere));
    threads_start(0);
    CHECK(threads_count() >= 1);
    int cores = threads_count();
    threads_start(100 * cores);                     /* capped, with a sentence */
    CHECK(threads_count() == (4 * cores > 16 ? 4 * cores : 16));
    threads_stop();
    threads_stop();
    CHECK(threads_count() == 1);
    CHECK(all_once(&c, 3));
    return test_end("test_threads");
}
