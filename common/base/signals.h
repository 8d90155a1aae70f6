/* signals.h - the wish to stop.  SIGINT, SIGTERM, SIGUSR1 and the time limit ask for a clean end; a second SIGINT
 * leaves at once.  Whatever may take seconds asks here again and again: once per micro-batch, block of a file, token
 * of a sample.  SIGPIPE and SIGXFSZ are ignored, so that writing fails with an error instead. */
#pragma once

#include "common/base/base.h"

void signals_install(double time_limit_seconds);     /* 0: none; counted from the start of the process */

/* NULL while nobody wants to stop; else why: "SIGTERM", "the time limit of 2h 00m". */
const char *signals_stop(void);

/* How often the two calls around this one were made: while it grows the process gets on.  For another thread. */
uint64_t signals_asked(void);

/* 0, or -1 (EXIT_STOPPED) "stopped by SIGTERM while DOING: the same command resumes". */
int signals_check(struct error *error, const char *doing, ...) __attribute__((format(printf, 2, 3)));

/* Seconds until the time limit (infinity without one); it counts as reached `seconds` earlier, which a save needs. */
double signals_time_left(void);
void signals_reserve(double seconds);

/* Waits until `fd` (path: its name) can be read without blocking.  Returns 0, or -1: asked to stop, or EXIT_IO. */
int signals_await(int fd, const char *path, struct error *error);

void signals_nap(void);                              /* a tenth of a second, less when a signal arrives */
