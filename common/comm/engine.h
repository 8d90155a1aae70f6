/* engine.h - what moves bytes between ranks: open, start, wait, close.  Only the main thread calls it. */
#ifndef QUARTET_ENGINE_H
#define QUARTET_ENGINE_H

#include "common/base/base.h"

struct engine;
struct transfer { void *data; size_t bytes; int peer; bool send; };

/* The rank and number of ranks, of all and of this host.  Returns 0, or -1 with *error. */
struct crew { int rank, world, local, locals; };
int engine_open(struct engine **out, struct crew *crew, struct error *error);
void engine_close(struct engine *e);
/* "MPI (Open MPI 4.1.4)"; "" for the engine that can join no ranks. */
const char *engine_name(void);

/* Starts n transfers, which may be under way together; between two ranks those of one direction stay in order.
 * engine_wait returns when all that were started are done. */
void engine_start(struct engine *e, const struct transfer *t, int n);
void engine_wait(struct engine *e);

#endif
