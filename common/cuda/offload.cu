/* offload.cu (CUDA) - AdamW of masters and moments in the host's memory: gradients come in pieces through pinned memory,
 * and the host updates one while the next is on its way. */
#include "common/cuda/kernel.h"
extern "C" {
#include "common/model/adamw.h"
}

enum { SLOTS = 2, PIECE_FLOATS = 1 << 20 };

static struct {
    float *memory;                      /* SLOTS of PIECE_FLOATS */
    cudaEvent_t arrived[SLOTS];
} stage;

static void open_stage(void)
{
    if (stage.memory) return;
    cuda_check(cudaMallocHost((void **)&stage.memory, (size_t)SLOTS * PIECE_FLOATS * sizeof(float)),
               "taking pinned memory for gradients");
    for (int i = 0; i < SLOTS; i++)
        cuda_check(cudaEventCreateWithFlags(&stage.arrived[i], cudaEventDisableTiming), "an event");
}

static float *slot_of(size_t piece) { return stage.memory + piece % SLOTS * PIECE_FLOATS; }

static size_t length_of(size_t piece, size_t n)
{
    size_t from = piece * PIECE_FLOATS;
    return from >= n ? 0 : n - from < PIECE_FLOATS ? n - from : (size_t)PIECE_FLOATS;
}

/* The slot's last piece has been used by now. */
static void send_for(float *grad, size_t piece, size_t n)
{
    size_t bytes = length_of(piece, n) * sizeof *grad;
    if (bytes == 0) return;
    cuda_check(cudaMemcpyAsync(slot_of(piece), grad + piece * PIECE_FLOATS, bytes, cudaMemcpyDeviceToHost,
                               cuda_stream()), "getting gradients");
    cuda_check(cudaEventRecord(stage.arrived[piece % SLOTS], cuda_stream()), "an event");
    device_clear(grad + piece * PIECE_FLOATS, bytes);
}

void adamw_offloaded(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    open_stage();
    send_for(grad, 0, n);
    for (size_t piece = 0; length_of(piece, n) > 0; piece++) {
        size_t at = piece * PIECE_FLOATS;
        send_for(grad, piece + 1, n);
        cuda_check(cudaEventSynchronize(stage.arrived[piece % SLOTS]), "waiting for gradients");
        adamw_host(param + at, slot_of(piece), m + at, v + at, length_of(piece, n), a);
    }
}

void *device_alloc_host(size_t bytes)
{
    void *p;
    cuda_stream();
    if (cudaMallocHost(&p, bytes > 0 ? bytes : 1) != cudaSuccess) {
        char text[16];
        die("no pinned host memory for %s: %s", text_bytes(text, (double)bytes), cudaGetErrorString(cudaGetLastError()));
    }
    memset(p, 0, bytes);
    return p;
}

void device_free_host(void *memory, size_t bytes)
{
    (void)bytes;
    if (memory) cuda_check(cudaFreeHost(memory), "freeing pinned memory");
}
