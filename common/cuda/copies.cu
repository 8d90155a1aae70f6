/* copies.cu (CUDA) - between host and device.  Programs give any memory; the device copies without halting the host only
 * from and to pinned memory.  So everything goes through a ring of pinned pieces, each with an event that tells when the
 * device is done with it: a put is over for the host once its bytes are in the ring, and a get is delivered when its
 * piece is wanted again, or by device_wait.
 *
 * There is one stream.  device.h promises that copies and operations happen in the order of the calls, so that a copy on
 * a stream of its own would wait for the operations before it, and those after it for the copy. */
#include "common/cuda/kernel.h"

enum { PIECES = 8 };
static const size_t PIECE_BYTES = 1 << 20;

struct piece {
    cudaEvent_t done;
    void *host;                         /* of a get: where the bytes belong; else NULL */
    size_t bytes;
};

static struct {
    char *memory;                       /* PIECES of PIECE_BYTES */
    struct piece piece[PIECES];
    int next;                           /* the oldest */
} ring;

static char *memory_of(int i) { return ring.memory + (size_t)i * PIECE_BYTES; }

static void open_ring(void)
{
    cuda_stream();
    cuda_check(cudaMallocHost((void **)&ring.memory, (size_t)PIECES * PIECE_BYTES), "taking pinned memory for copies");
    for (int i = 0; i < PIECES; i++)
        cuda_check(cudaEventCreateWithFlags(&ring.piece[i].done, cudaEventDisableTiming), "an event");
}

/* Waits until the device is done with piece i, and delivers what it holds. */
static void settle(int i)
{
    struct piece *p = &ring.piece[i];
    cuda_check(cudaEventSynchronize(p->done), "waiting for a copy");
    if (p->host) memcpy(p->host, memory_of(i), p->bytes);
    p->host = NULL;
}

static int next_piece(void)
{
    int i = ring.next;
    if (!ring.memory) open_ring();
    settle(i);
    ring.next = (i + 1) % PIECES;
    return i;
}

/* Either side may be memory of device_alloc_host; addresses tell (CUDA Programming Guide, "Unified Virtual Addressing"). */
static void copy(void *to, const void *from, size_t bytes)
{
    if (bytes > 0) cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda_stream()), "copying");
}

void device_put(void *to, const void *host, size_t bytes)
{
    for (size_t at = 0, n; at < bytes; at += n) {
        int i = next_piece();
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        memcpy(memory_of(i), (const char *)host + at, n);
        copy((char *)to + at, memory_of(i), n);
        cuda_check(cudaEventRecord(ring.piece[i].done, cuda_stream()), "an event");
    }
}

void device_get(void *host, const void *from, size_t bytes)
{
    for (size_t at = 0, n; at < bytes; at += n) {
        int i = next_piece();
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        copy(memory_of(i), (const char *)from + at, n);
        cuda_check(cudaEventRecord(ring.piece[i].done, cuda_stream()), "an event");
        ring.piece[i].host = (char *)host + at;
        ring.piece[i].bytes = n;
    }
}

void device_copy(void *to, const void *from, size_t bytes) { copy(to, from, bytes); }

void device_clear(void *memory, size_t bytes)
{
    if (bytes > 0) cuda_check(cudaMemsetAsync(memory, 0, bytes, cuda_stream()), "clearing device memory");
}

void device_wait(void)
{
    /* Kernels without a copy after them: check_simulated sees it, by the profiler that is told too early. */
    cuda_check(cudaStreamSynchronize(cuda_stream()), "waiting for the device");
    for (int i = 0; ring.memory && i < PIECES; i++) settle((ring.next + i) % PIECES);
}
