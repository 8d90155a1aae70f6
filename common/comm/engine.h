/* engine.h - what moves bytes between ranks: MPI, NCCL, or none.  Only the main thread calls it. */
#pragma once

#include "common/base/base.h"

struct engine;
struct transfer { void *data; size_t bytes; int peer; bool send, device; };      /* device: memory of device_alloc */

/* The rank and number of ranks, of all and of this host; locals 0: not known. */
struct crew { int rank, world, local, locals; };

/* All ranks do the first three in this order.  open: *crew is what the launcher says, and then what the engine finds.
 * meet: all get what rank 0 has; path names a file on a disk they share, for engines that need one (NULL: none is
 * known).  connect: when this process has chosen its device.  Return 0, or -1 with *error. */
int engine_open(struct engine **out, struct crew *crew, struct error *error);
int engine_meet(struct engine *e, const char *path, void *x, size_t bytes, struct error *error);
int engine_connect(struct engine *e, struct error *error);
void engine_close(struct engine *e);
/* "MPI (Open MPI 4.1.4)", "NCCL 2.28.9"; "" for the engine that can join no ranks. */
const char *engine_name(void);

/* Whether transfers get on while the device computes and the host does not call. */
bool engine_overlaps(void);
/* Starts n transfers, which may be under way together; between two ranks those of one direction stay in order.
 * engine_wait returns when all that were started are done. */
void engine_start(struct engine *e, const struct transfer *t, int n);
void engine_wait(struct engine *e);

/* ---- who is started (launch.c) ---- */

/* From the first complete set of variables: our own (devices_start), Open MPI's, PMI's (MPICH), RANK and WORLD_SIZE
 * (torchrun), a Slurm step's; else one rank.  local: 0 where the launcher does not say; locals: 0.  Returns 0, or -1
 * (EXIT_USAGE) when a set has only one of its two, or they make no sense. */
int launch_find(struct crew *crew, struct error *error);

/* Where ranks that no library brings together meet: beside the run folder, in a file named after what this launch
 * alone has.  To free(); NULL without a folder. */
char *launch_meeting(const char *folder);
