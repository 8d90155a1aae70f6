/* engine_mpi.c - bytes by MPI, point to point.  Waiting polls and gives the core away, so that more ranks than cores
 * make progress.  Messages are cut to what MPI's int counts. */
#define _GNU_SOURCE
#include "common/comm/engine.h"

#include <mpi.h>
#include <sched.h>
#include <time.h>

enum { MESSAGE = 64 << 20, TAG = 1, SPINS = 2000 };

struct engine { MPI_Request *request; int count; };

const char *engine_name(void)
{
    static char name[96];
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    const char *mpich = strstr(version, "MPICH Version:"), *open = strstr(version, "Open MPI v");
    char number[64] = "";
    if (mpich) sscanf(mpich, "MPICH Version: %63[^\n]", number);
    else if (open) sscanf(open, "Open MPI v%63[^, \n]", number);
    snprintf(name, sizeof name, *number ? "MPI (%s %s)" : "MPI", mpich ? "MPICH" : "Open MPI", number);
    return name;
}

int engine_open(struct engine **out, struct crew *crew, struct error *error)
{
    int provided;
    MPI_Comm host;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED)
        return fail(error, EXIT_UNAVAILABLE, "%s cannot start", engine_name());
    MPI_Comm_rank(MPI_COMM_WORLD, &crew->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &crew->world);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    MPI_Comm_rank(host, &crew->local);
    MPI_Comm_size(host, &crew->locals);
    MPI_Comm_free(&host);
    *out = host_alloc(1, sizeof **out);
    return 0;
}

int engine_meet(struct engine *e, const char *path, void *x, size_t bytes, struct error *error)
{
    (void)e, (void)path, (void)error;
    MPI_Bcast(x, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
    return 0;
}

int engine_connect(struct engine *e, struct error *error)
{
    (void)e, (void)error;
    return 0;
}

void engine_close(struct engine *e)
{
    if (!e) return;
    MPI_Finalize();
    free(e->request);
    free(e);
}

/* Libraries move bytes within their calls, and the cores that would copy are those that compute. */
bool engine_overlaps(void) { return false; }

void engine_start(struct engine *e, const struct transfer *t, int n)
{
    for (int i = 0; i < n; i++) {
        char *data = t[i].data;
        for (size_t at = 0; at < t[i].bytes; at += MESSAGE) {
            int size = (int)(t[i].bytes - at < MESSAGE ? t[i].bytes - at : (size_t)MESSAGE);
            e->request = host_append(e->request, (size_t)e->count, 1, sizeof *e->request);
            MPI_Request *r = &e->request[e->count++];
            if (t[i].send) MPI_Isend(data + at, size, MPI_BYTE, t[i].peer, TAG, MPI_COMM_WORLD, r);
            else MPI_Irecv(data + at, size, MPI_BYTE, t[i].peer, TAG, MPI_COMM_WORLD, r);
        }
    }
}

void engine_wait(struct engine *e)
{
    int done = e->count == 0;
    for (int spins = 0; !done; spins++) {
        MPI_Testall(e->count, e->request, &done, MPI_STATUSES_IGNORE);
        if (spins > SPINS) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        else if (spins > 20) sched_yield();
    }
    e->count = 0;
}
