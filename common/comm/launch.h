/* launch.h - who a launcher says this process is. */
#ifndef QUARTET_LAUNCH_H
#define QUARTET_LAUNCH_H

#include "common/comm/engine.h"

/* From the first complete set of variables: Open MPI's, PMI's (MPICH), RANK and WORLD_SIZE (torchrun), a Slurm step's;
 * else one rank.  Returns 0, or -1 (EXIT_USAGE) when a set has only one of its two, or they make no sense. */
int launch_find(struct crew *crew, struct error *error);

#endif
