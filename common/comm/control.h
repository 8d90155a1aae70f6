/* control.h - what ranks know of each other's lives.  Every rank has one connection to rank 0, served by a thread that
 * never calls the engine: it tells of errors, sees a rank that dies at once, and one that is silent or hangs after a
 * while.  Whatever happens, all ranks leave with one exit code, and rank 0 says which rank was at fault. */
#pragma once

#include "common/comm/engine.h"

struct control;

/* Rank 0 listens, its address travels by engine_meet (path), the others connect.  Returns 0, or -1 (EXIT_UNAVAILABLE)
 * naming the ranks that did not come. */
int control_open(struct control **out, struct engine *e, const struct crew *crew, const char *path,
                 struct error *error);
void control_close(struct control *c);          /* all ranks end well: waits for their word */

/* tell(self, sentence): called on rank 0 before all leave, by whichever thread learns of it, instead of stderr; on
 * rank 1 when it is rank 0 that was lost. stall: seconds for which a rank may neither get on (signals.h) nor wait
 * for another; 0: no limit. */
void control_watch(struct control *c, double stall, void (*tell)(void *self, const char *sentence), void *self);

/* Around every wait for other ranks. */
void control_waiting(struct control *c, bool waiting);

/* All ranks leave with this code because of this one. */
_Noreturn void control_leave(struct control *c, int exit_code, const char *sentence);
