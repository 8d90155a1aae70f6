/* threads.h - the one thread pool.  Work is cut into numbered tasks whose results do not depend on who runs them, so
 * every result is the same for any number of threads. */
#pragma once

/* Starts n - 1 helpers beside the caller (n <= 0: one thread a core this process may use).  Called once, before any
 * threads_for; called again it stops the old helpers first.  Without it threads_for runs on the caller only. */
void threads_start(int n);
void threads_stop(void);
int threads_count(void);

/* Runs task(context, i, thread) for every i in [0, n), in any order, each exactly once; returns when all are done.
 *   thread is in [0, threads_count()): at most one task runs at a time with a given number, so it may index scratch.
 * Not to be called from within a task. */
void threads_for(int n, void (*task)(void *context, int i, int thread), void *context);
