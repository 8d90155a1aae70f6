/* threads.c - helpers take numbered tasks from one counter that runs down.  A caller waits for tasks, never for
 * helpers. Between calls a helper spins for a moment, shorter after futile spins, then sleeps on a futex. */
#define _GNU_SOURCE
#include "common/base/threads.h"
#include "common/base/base.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_LEAST = 64, SPIN_MOST = 4096 };     /* looks at the counter, some 20 ns each */

static struct {
    int n_helpers;                  /* beside the caller */
    pthread_t *helpers;
    int spin_most;                  /* 0 with more threads than cores: a spin would keep the worker off its core */
    void (*task)(void *context, int i, int thread);
    void *context;
    int total;
    atomic_int left;                /* tasks not taken yet; whoever lowers it from r to r - 1 runs task total - r */
    atomic_int undone;              /* tasks not finished; the caller sleeps on it */
    atomic_int calls;               /* helpers sleep on it: it changes when they are woken */
    atomic_int sleepers, caller_sleeps, stopping;
} pool;

static void sleep_while(atomic_int *word, int value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_int *word, int n) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0); }

static void breathe(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Runs tasks until none is left.  The exchange that takes a task also makes the caller's writes visible; the number
 * taken belongs to whichever call is open then, so a late helper simply joins the next one. */
static void run_tasks(int thread)
{
    int done = 0, left = atomic_load(&pool.left);
    while (left > 0)
        if (atomic_compare_exchange_weak(&pool.left, &left, left - 1)) {
            pool.task(pool.context, pool.total - left, thread);
            done++;
            left = atomic_load(&pool.left);
        }
    if (done && atomic_fetch_sub(&pool.undone, done) == done && atomic_load(&pool.caller_sleeps)) wake(&pool.undone, 1);
}

/* Looks up to `spin` times whether *word has left (equal: reached) the value. */
static bool spin_until(atomic_int *word, int value, bool equal, int spin)
{
    for (int i = 0; i <= spin; i++) {
        if ((atomic_load(word) == value) == equal) return true;
        breathe();
    }
    return false;
}

static void *helper(void *number)
{
    int thread = (int)(intptr_t)number, spin = pool.spin_most;
    while (!atomic_load(&pool.stopping)) {
        if (spin_until(&pool.left, 0, false, spin)) {
            spin = int_min(2 * spin + 1, pool.spin_most);
        } else {
            spin = int_min(int_max(spin / 2, SPIN_LEAST), pool.spin_most);
            int calls = atomic_load(&pool.calls);
            atomic_fetch_add(&pool.sleepers, 1);
            if (atomic_load(&pool.left) == 0 && !atomic_load(&pool.stopping)) sleep_while(&pool.calls, calls);
            atomic_fetch_sub(&pool.sleepers, 1);
        }
        run_tasks(thread);
    }
    return NULL;
}

static void wake_helpers(void)
{
    if (atomic_load(&pool.sleepers) == 0) return;
    atomic_fetch_add(&pool.calls, 1);
    wake(&pool.calls, INT_MAX);
}

static int cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return int_max(CPU_COUNT(&set), 1);
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

void threads_start(int n)
{
    threads_stop();
    int available = cores(), most = int_max(4 * available, 16);
    if (n <= 0) n = available;
    if (n > most) {
        fprintf(stderr, "%s: %d threads on %d core%s would only wait for each other: %d are started\n",
                program_name(), n, available, plural(available), most);
        n = most;
    }
    pool.helpers = host_alloc((size_t)n, sizeof *pool.helpers);
    pool.spin_most = n <= available ? SPIN_MOST : 0;
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);                       /* a fault belongs to the thread that makes it */
    pthread_sigmask(SIG_SETMASK, &all, &old);       /* signals are the main thread's */
    for (int i = 1; i < n; i++) {
        int code = pthread_create(&pool.helpers[i], NULL, helper, (void *)(intptr_t)i);
        if (code) die("cannot start thread %d of %d: %s", i + 1, n, strerror(code));
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pool.n_helpers = n - 1;
}

void threads_stop(void)
{
    atomic_store(&pool.stopping, 1);
    wake_helpers();
    for (int i = 1; i <= pool.n_helpers; i++) pthread_join(pool.helpers[i], NULL);
    free(pool.helpers);
    pool.helpers = NULL;
    pool.n_helpers = 0;
    atomic_store(&pool.stopping, 0);
}

int threads_count(void) { return pool.n_helpers + 1; }

void threads_for(int n, void (*task)(void *context, int i, int thread), void *context)
{
    if (n <= 1 || pool.n_helpers == 0) {
        for (int i = 0; i < n; i++) task(context, i, 0);
        return;
    }
    assert(atomic_load(&pool.undone) == 0);         /* else: called from within a task */
    pool.task = task;
    pool.context = context;
    pool.total = n;
    atomic_store(&pool.undone, n);
    atomic_store(&pool.left, n);
    wake_helpers();
    run_tasks(0);
    while (!spin_until(&pool.undone, 0, true, pool.spin_most)) {
        atomic_store(&pool.caller_sleeps, 1);
        int undone = atomic_load(&pool.undone);
        if (undone) sleep_while(&pool.undone, undone);
        atomic_store(&pool.caller_sleeps, 0);
    }
}
