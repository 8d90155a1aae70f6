/* run.h - a run folder: step-NNNNNNNN.ckpt, final.ckpt, latest, metrics.jsonl, run.conf, status.json, log.txt, lock. */
#pragma once

#include "common/base/options.h"
#include "common/train/record.h"
#include "format/checkpoint.h"

struct run;

/* Opens or creates the folder and locks it, waiting for a process in it that is ending.  Returns 0 and *out, or -1:
 * EXIT_UNAVAILABLE another process is in it, EXIT_IO unwritable, EXIT_MISMATCH it holds another program's run,
 * EXIT_STOPPED. */
int run_open(struct run **out, const char *folder, const char *program, struct error *error);
/* For the ranks beside the one that has opened the folder: everything is done there, and every call here does
 * nothing. */
struct run *run_follow(const char *folder, const char *program);
/* What comm_watch calls: the sentence to the log, and status.json says failed from now on.  self is the run. */
void run_failed(void *self, const char *sentence);
void run_close(struct run *run);                       /* NULL is allowed */
void run_ending(struct run *run);                      /* tells a process that waits for the folder to keep waiting */
/* Whether somebody has left a file named stop in the folder; looked for once a second. */
bool run_asked_to_stop(struct run *run);
const char *run_folder(const struct run *run);

/* From here on a folder that holds checkpoints is written to: nothing can be refused any more.  0, or -1 (EXIT_IO). */
int run_begin(struct run *run, struct error *error);

/* Writes run.conf from the table. */
int run_write_conf(struct run *run, const struct option *table, struct error *error);

/* One line to the log (log.txt and stderr; without a run, NULL, to stderr).  On a terminal the progress line is cleared
 * first. */
void run_log(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends a record to metrics.jsonl, and to the file for TensorBoard where run_events was called.  On resume
 * run_rewind_metrics first drops records of steps > step and a torn last line, there, in the files for TensorBoard,
 * and in every other .jsonl file of the folder whose lines begin with {"step":N (rollouts.jsonl); again: that of
 * `step` too, which this start writes once more.  run_sync makes the metrics durable: before a checkpoint that comes
 * after them. */
void run_metrics(struct run *run, const struct record *r);
int run_rewind_metrics(struct run *run, int64_t step, bool again, struct error *error);
void run_sync(struct run *run);

/* From now on records and samples also go to a new file for TensorBoard; the first is of this step or a later one. */
void run_events(struct run *run, int64_t step);

/* One updating line on a terminal; otherwise a plain line every few seconds (then every minute). */
void run_progress(struct run *run, const char *line);

/* status.json: {"program", "state": running|stopped|done|failed, "step", "steps", "time", "text"}, replaced whole. */
void run_status(struct run *run, const char *state, int64_t step, int64_t steps, const char *text);

/* A text of the model for a person, to samples.txt and TensorBoard.  index: which of those of this step, from 1.
 * run_event_text: to TensorBoard only, as name/index. */
void run_sample(struct run *run, int64_t step, int index, const char *text, size_t size);
void run_event_text(struct run *run, int64_t step, const char *name, int index, const char *text, size_t size);

/* Appends text to a further file of the run folder ("rollouts.jsonl"). */
void run_append(struct run *run, const char *file, const void *data, size_t size);
