/* signals.h - the wish to stop.  SIGINT, SIGTERM, SIGUSR1 and the time limit ask for a clean end at the next step; a
 * second SIGINT leaves at once.  SIGPIPE and SIGXFSZ are ignored, so that writing fails with an error instead, and
 * standard streams that are closed are opened on /dev/null. */
#ifndef QUARTET_SIGNALS_H
#define QUARTET_SIGNALS_H


void signals_install(double time_limit_seconds);     /* 0: none; counted from the start of the process */

/* NULL while nobody wants to stop; else why: "SIGTERM", "time limit of 2h 00m". */
const char *signals_stop(void);

/* Seconds until the time limit (infinity without one): a loop stops early when a step would not fit. */
double signals_time_left(void);

#endif
