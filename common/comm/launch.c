/* launch.c - the order matters: under mpirun within a Slurm job, Slurm's own variables count the daemons.  Of Slurm only
 * a step counts: a bare batch script is one process, however many tasks its job has. */
#include "common/comm/launch.h"

#include <stdlib.h>
#include <string.h>

struct family { const char *size, *rank, *local, *only_if; };

static const struct family families[] = {
    {"QUARTET_WORLD", "QUARTET_RANK", "QUARTET_RANK", NULL},            /* children of --devices: all on this host */
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", NULL},
    {"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", NULL},
    {"WORLD_SIZE", "RANK", "LOCAL_RANK", NULL},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_ID"},
};

static int number(const char *name, long *out, struct error *error)
{
    const char *text = getenv(name);
    char *end;
    *out = strtol(text, &end, 10);
    if (end > text && !*end && *out >= 0 && *out <= 1 << 20) return 0;
    return fail(error, EXIT_USAGE, "the launcher's variable %s is '%s', expected a number", name, text_shown(text).text);
}

int launch_find(struct crew *crew, struct error *error)
{
    *crew = (struct crew){.world = 1, .locals = 1};
    const struct family *half = NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        bool size = getenv(f->size), rank = getenv(f->rank);
        if (f->only_if && !getenv(f->only_if)) continue;
        if (size != rank && !half) half = f;
        if (!size || !rank) continue;
        long of, this;
        if (number(f->size, &of, error) != 0 || number(f->rank, &this, error) != 0) return -1;
        if (of < 1 || this >= of)
            return fail(error, EXIT_USAGE, "the launcher says rank %ld of %ld (%s, %s)", this, of, f->rank, f->size);
        crew->world = (int)of;
        crew->rank = (int)this;
        crew->locals = 0;
        if (getenv(f->local)) {
            if (number(f->local, &this, error) != 0) return -1;
            crew->local = (int)this;
        }
        return 0;
    }
    if (!half) return 0;
    bool size = getenv(half->size);
    return fail(error, EXIT_USAGE, "%s is set, but %s is not: a launcher sets both; unset it to train on one rank",
                size ? half->size : half->rank, size ? half->rank : half->size);
}

char *launch_meeting(const char *folder)
{
    static const char *const own[] = {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE",
                                      "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"};
    const char *given = getenv("QUARTET_MEETING");
    struct bytes path = {0};
    if (given) return host_text("%s", given);
    if (!folder) return NULL;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    bytes_text(&path, "%.*s.meeting", (int)length, folder);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *value = getenv(own[i]);
        if (value) bytes_text(&path, "-%.*s", (int)strcspn(value, "/"), value);
    }
    return path.data;
}
