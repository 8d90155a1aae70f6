/* launch.h - who a launcher says this process is. */
#ifndef QUARTET_LAUNCH_H
#define QUARTET_LAUNCH_H

#include "common/comm/engine.h"

/* From the first complete set of variables: our own (devices_start), Open MPI's, PMI's (MPICH), RANK and WORLD_SIZE
 * (torchrun), a Slurm step's; else one rank.  local: 0 where the launcher does not say; locals: 0.  Returns 0, or -1
 * (EXIT_USAGE) when a set has only one of its two, or they make no sense. */
int launch_find(struct crew *crew, struct error *error);

/* Where ranks that no library brings together meet: beside the run folder, in a file named after what this launch
 * alone has.  To free(); NULL without a folder. */
char *launch_meeting(const char *folder);

#endif
