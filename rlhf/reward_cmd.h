/* reward_cmd.h - rewards from an external program: one JSON object per line into its standard input, one number per
 * line out of its standard output, in the same order.  Its standard error is ours.
 *
 * It is started once, through /bin/sh -c, in a process group of its own, so that Ctrl-C ends an iteration cleanly. */
#ifndef QUARTET_REWARD_CMD_H
#define QUARTET_REWARD_CMD_H

#include "common/base/base.h"

struct reward_cmd;

/* timeout: seconds that may pass without a byte moving, > 0.  Returns 0, or -1 (EXIT_INTERNAL: no process). */
int reward_cmd_open(struct reward_cmd **out, const char *command, double timeout, struct error *error);

/* Sends n request lines (size bytes in all) and reads n numbers.  Writing and reading go on together, so neither side
 * can block the other.  Returns 0, or -1 (EXIT_DATA) when the program ends, stays silent past the timeout, or writes
 * anything but one finite number per line; it is then dead, and rewards are undefined. */
int reward_cmd_ask(struct reward_cmd *c, float *reward, int n, const char *requests, size_t size, struct error *error);

/* Closes its input, gives it two seconds to end, and kills its process group.  NULL is allowed. */
void reward_cmd_close(struct reward_cmd *c);

#endif
