/* engine_nccl.cu - bytes between GPUs by NCCL, one rank a GPU, on a stream of their own.  Sends and receives only: they
 * copy, and comm.c adds.  Host memory travels through a slot of device memory per transfer, a chunk at a time.
 *
 * The communicator never blocks: every wait here looks at the stream and at the communicator's own error in turn, so
 * that the watching thread (control.h), which ends all ranks when one is lost, is never behind a call that hangs. */
#include "common/cuda/kernel.h"
extern "C" {
#include "common/comm/engine.h"
}

#include <errno.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, MEETING_SECONDS = 60 };

struct engine {
    struct crew crew;
    ncclUniqueId id;
    char *left;                          /* rank 0: the file that the others have read when all are connected */
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t ready;                   /* what the backend's stream has been asked for before the transfers */
    char *slot;                          /* (2 world) of CHUNK bytes */
    struct transfer *host;               /* (2 world) that wait for engine_wait */
    int hosts;
    bool busy;
};

const char *engine_name(void)
{
    static char name[40];
    int version = 0;
    ncclGetVersion(&version);
    snprintf(name, sizeof name, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return name;
}

_Noreturn static void broken(ncclResult_t code)
{
    quit(EXIT_LOST, "NCCL: %s; the same command resumes from the last checkpoint", ncclGetErrorString(code));
}

static void nap(void)
{
    struct timespec short_while = {0, 20000};
    nanosleep(&short_while, NULL);
}

/* Until what was asked of the communicator is under way. */
static ncclResult_t settle(struct engine *e, ncclResult_t code)
{
    while (code == ncclInProgress) {
        nap();
        ncclResult_t asked = ncclCommGetAsyncError(e->comm, &code);
        if (asked != ncclSuccess) return asked;
    }
    return code;
}

static void check(struct engine *e, ncclResult_t code)
{
    if (code == ncclInProgress) code = settle(e, code);
    if (code != ncclSuccess) broken(code);
}

int engine_open(struct engine **out, struct crew *crew, struct error *error)
{
    (void)error;
    *out = (struct engine *)host_alloc(1, sizeof **out);
    (*out)->crew = *crew;
    (*out)->host = (struct transfer *)host_alloc(2 * (size_t)crew->world, sizeof(struct transfer));
    return 0;
}

/* Rank 0 leaves a file that says where it listens, and what NCCL's ranks find each other by. */
int engine_meet(struct engine *e, const char *path, void *x, size_t bytes, struct error *error)
{
    struct bytes file = {};
    if (!path)
        return fail(error, EXIT_USAGE, "the %d ranks meet beside the run folder: --out is needed", e->crew.world);
    if (e->crew.rank == 0) {
        char *folder = host_text("%s", path), *slash = strrchr(folder, '/');
        if (slash && slash > folder) *slash = 0;
        int failed = slash && slash > folder && folder_make(folder, error) != 0;
        free(folder);
        if (failed) return -1;
        ncclResult_t code = ncclGetUniqueId(&e->id);
        if (code != ncclSuccess) return fail(error, EXIT_UNAVAILABLE, "NCCL: %s", ncclGetErrorString(code));
        bytes_add(&file, &e->id, sizeof e->id);
        bytes_add(&file, x, bytes);
        failed = file_replace(path, file.data, file.size, error);
        e->left = host_text("%s", path);
        bytes_free(&file);
        return failed;
    }
    for (double until = seconds_now() + MEETING_SECONDS; ; nap()) {
        if (file_read(&file, path, sizeof e->id + bytes, NULL) == 0 && file.size == sizeof e->id + bytes) break;
        bytes_free(&file);
        if (seconds_now() > until)
            return fail(error, EXIT_UNAVAILABLE, "rank %d waited %d s for rank 0 to write %s", e->crew.rank,
                        MEETING_SECONDS, path);
    }
    memcpy(&e->id, file.data, sizeof e->id);
    memcpy(x, file.data + sizeof e->id, bytes);
    bytes_free(&file);
    return 0;
}

int engine_connect(struct engine *e, struct error *error)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (e->left) unlink(e->left);
    cuda_check(cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking), "a stream for other ranks");
    cuda_check(cudaEventCreateWithFlags(&e->ready, cudaEventDisableTiming), "an event for other ranks");
    e->slot = (char *)device_alloc(2 * (size_t)e->crew.world * CHUNK);
    device_wait();
    ncclResult_t code = ncclCommInitRankConfig(&e->comm, e->crew.world, e->id, e->crew.rank, &config);
    code = settle(e, code);
    if (code == ncclSuccess) return 0;
    return fail(error, EXIT_UNAVAILABLE, "NCCL cannot join the %d ranks: %s (NCCL_DEBUG=INFO says more; every rank "
                "needs a GPU of its own)", e->crew.world, ncclGetErrorString(code));
}

void engine_close(struct engine *e)
{
    if (e->comm) {
        check(e, ncclCommFinalize(e->comm));
        ncclCommDestroy(e->comm);
        device_free(e->slot, 2 * (size_t)e->crew.world * CHUNK);
        cudaEventDestroy(e->ready);
        cudaStreamDestroy(e->stream);
    }
    free(e->left);
    free(e->host);
    free(e);
}

bool engine_overlaps(void) { return true; }

static void move(struct engine *e, void *data, size_t bytes, const struct transfer *t)
{
    check(e, t->send ? ncclSend(data, bytes, ncclUint8, t->peer, e->comm, e->stream)
                     : ncclRecv(data, bytes, ncclUint8, t->peer, e->comm, e->stream));
}

void engine_start(struct engine *e, const struct transfer *t, int n)
{
    bool device = false;
    for (int i = 0; i < n; i++) {
        device |= t[i].device && t[i].bytes > 0;
        if (t[i].device) continue;
        if (e->hosts == 2 * e->crew.world) die("too many transfers of host memory at once");
        e->host[e->hosts++] = t[i];
    }
    if (!device) return;
    cuda_check(cudaEventRecord(e->ready, cuda_stream()), "marking what is to be sent");
    cuda_check(cudaStreamWaitEvent(e->stream, e->ready, 0), "waiting for what is to be sent");
    check(e, ncclGroupStart());
    for (int i = 0; i < n; i++)
        if (t[i].device && t[i].bytes > 0) move(e, t[i].data, t[i].bytes, &t[i]);
    check(e, ncclGroupEnd());
    e->busy = true;
}

static void finish(struct engine *e)
{
    for (cudaError_t state = cudaErrorNotReady; state == cudaErrorNotReady; nap()) {
        ncclResult_t code = ncclSuccess;
        state = cudaStreamQuery(e->stream);
        if (state != cudaErrorNotReady) cuda_check(state, "moving bytes between ranks");
        else if (ncclCommGetAsyncError(e->comm, &code) != ncclSuccess || code != ncclSuccess) broken(code);
    }
    e->busy = false;
}

static size_t chunk_of(const struct transfer *t, size_t at)
{
    return t->bytes <= at ? 0 : t->bytes - at < CHUNK ? t->bytes - at : (size_t)CHUNK;
}

static void copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (bytes > 0) cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying for other ranks");
}

/* The next chunk of every transfer of host memory. */
static void move_hosts(struct engine *e, size_t at)
{
    for (int i = 0; i < e->hosts; i++) {
        const struct transfer *t = &e->host[i];
        char *slot = e->slot + (size_t)i * CHUNK;
        if (t->send) copy(slot, (char *)t->data + at, chunk_of(t, at), cudaMemcpyHostToDevice, e->stream);
    }
    check(e, ncclGroupStart());
    for (int i = 0; i < e->hosts; i++)
        if (chunk_of(&e->host[i], at)) move(e, e->slot + (size_t)i * CHUNK, chunk_of(&e->host[i], at), &e->host[i]);
    check(e, ncclGroupEnd());
    /* No test sees it: the copies below would wait, too, but not look for a rank that is lost. */
    finish(e);
    for (int i = 0; i < e->hosts; i++) {
        const struct transfer *t = &e->host[i];
        char *slot = e->slot + (size_t)i * CHUNK;
        if (!t->send) copy((char *)t->data + at, slot, chunk_of(t, at), cudaMemcpyDeviceToHost, e->stream);
    }
    /* No test sees it: a copy to pageable memory is over when it returns. */
    finish(e);
}

void engine_wait(struct engine *e)
{
    size_t longest = 0;
    if (e->busy) finish(e);
    for (int i = 0; i < e->hosts; i++)
        if (e->host[i].bytes > longest) longest = e->host[i].bytes;
    for (size_t at = 0; at < longest; at += CHUNK) move_hosts(e, at);
    e->hosts = 0;
}
