/* engine_none.c - the engine of a build that trains on one rank.  Processes that a launcher started together are meant
 * to share one model; each would train the whole of it, in the same folder, so that is refused. */
#include "common/comm/engine.h"

int engine_open(struct engine **out, struct crew *crew, struct error *error)
{
    *out = NULL;
    return fail(error, EXIT_UNAVAILABLE, "started as one of %d processes: this build trains on one, so start one "
                "(mpirun -n 1, srun -n 1), or make MPI=1 and start the programs of bin-mpi/", crew->world);
}

int engine_meet(struct engine *e, const char *path, void *x, size_t bytes, struct error *error)
{
    (void)e, (void)path, (void)x, (void)bytes, (void)error;
    return -1;
}

int engine_connect(struct engine *e, struct error *error)
{
    (void)e, (void)error;
    return -1;
}

void engine_close(struct engine *e) { (void)e; }
const char *engine_name(void) { return ""; }
bool engine_overlaps(void) { return false; }
void engine_start(struct engine *e, const struct transfer *t, int n) { (void)e, (void)t, (void)n; }
void engine_wait(struct engine *e) { (void)e; }
