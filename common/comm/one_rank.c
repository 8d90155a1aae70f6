/* one_rank.c - the engine of a process that trains by itself.  Where a launcher started several, they are meant to
 * share one model; each would train the whole of it, in the same folder, so that is refused. */
#include "common/model/comm.h"
#include "common/model/device.h"
#include "common/model/ops.h"

#include <stdlib.h>
#include <string.h>

int comm_open(struct comm **out, struct error *error)
{
    /* Slurm counts the tasks of a step: a bare batch script is one process, however many tasks its job has. */
    static const char *const size[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"};
    *out = NULL;
    for (int i = 0; i < 4; i++) {
        const char *n = i < 3 || getenv("SLURM_STEP_ID") ? getenv(size[i]) : NULL;
        if (!n) continue;
        if (atoi(n) <= 1) break;                        /* the first launcher that says how many decides */
        return fail(error, EXIT_UNAVAILABLE, "started as one of %s processes (%s): this build trains on one, so start "
                    "one (mpirun -n 1, srun -n 1)", n, size[i]);
    }
    return 0;
}

struct place comm_place(const struct comm *c)
{
    (void)c;
    return (struct place){.world = 1, .t = 1, .d = 1, .p = 1, .locals = 1};
}

void comm_sum_scatter(struct comm *c, enum group g, void *shard, const void *x, size_t n, enum number k)
{
    comm_gather(c, g, shard, x, n * (k == NUMBER_ACT ? sizeof(act_t) : sizeof(float)));
}

void comm_sum(struct comm *c, enum group g, void *x, size_t n, enum number k)
{
    (void)c, (void)g, (void)x, (void)n, (void)k;
}

void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    (void)c, (void)g;
    if (all != mine) device_copy(all, mine, bytes);
}

void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from)
{
    (void)c, (void)g, (void)x, (void)bytes, (void)from;
}

void comm_wait(struct comm *c) { (void)c; }

void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    (void)c, (void)g;
    memcpy(all, mine, bytes);
}

void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima)
{
    (void)c, (void)g, (void)x, (void)n_sums, (void)n_maxima;
}

void comm_leave(void *self, int exit_code, const char *sentence)
{
    (void)self, (void)sentence;
    exit(exit_code);
}
