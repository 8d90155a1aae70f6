/* trace.h - what the process does when, for chrome://tracing and Perfetto: the ranks of a run write their events into
 * one file, which is complete JSON at any time.  Called by the main thread alone; nothing happens before trace_open. */
#pragma once

#include "common/base/base.h"

/* Rank 0 makes the file, or empties it; the others open it after that.  origin: seconds since 1970 at which the trace
 * begins, the same on all ranks.  Returns 0, or -1 (EXIT_IO). */
int trace_open(const char *path, int rank, double origin, struct error *error);
void trace_close(void);

double trace_now(void);                         /* seconds since 1970 */

/* Spans nest.  Events reach the file about once a second. */
void trace_begin(const char *name);
void trace_end(void);

/* A span beside those: bytes that were under way since `from` (trace_now). */
void trace_transfer(const char *name, double from, size_t bytes);
