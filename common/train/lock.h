/* lock.h - a run folder belongs to one process at a time, and to one program once its run has begun. */
#pragma once

#include "common/base/base.h"

/* waited: seconds for which another process was waited for. */
struct lock { int fd; const char *program; double waited; };

/* Takes the file lock in the folder for a program, whose name must stay.  Returns 0, or -1: it is in use
 * (EXIT_UNAVAILABLE), holds a run of another program (EXIT_MISMATCH), cannot be locked, or the wait was interrupted. */
int lock_take(struct lock *lock, const char *folder, const char *program, struct error *error);

/* Says in the file who has the folder; ending: it has been asked to stop, so that others keep waiting. */
bool lock_write(const struct lock *lock, bool ending);
