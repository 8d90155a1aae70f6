/* peak.cu (CUDA) - what the device reaches in products of large square matrices of act_t: the scale of a run's
 * share of the peak. */
#include "common/cuda/products.h"

enum { EDGE_MOST = 8192, EDGE_STEP = 64, ROUNDS = 10 };

/* Numbers between -1 and 1 without a pattern: a device computes zeros with less power, and faster. */
static __global__ void numbers(act_t *x, size_t n)
{
    for (size_t i = thread_of_grid(); i < n; i += threads_of_grid())
        set(x + i, (float)((unsigned)i * 2654435761u >> 8) * 0x1p-23f - 1);
}

static double measure(const act_t *x, act_t *to, void *workspace, int edge)
{
    struct product p = {};
    size_t ld = (size_t)edge;
    cudaEvent_t start, end;
    float milliseconds = 0;
    p.to = to; p.type = ACT_TYPE; p.ld = ld;
    p.x = {x, ld, false};
    p.y = {x, ld, true};
    p.rows = p.columns = p.inner = edge;
    p.workspace = workspace;
    cuda_check(cudaEventCreate(&start), "an event");
    cuda_check(cudaEventCreate(&end), "an event");
    cuda_product(&p);
    cuda_check(cudaEventRecord(start, cuda_stream()), "an event");
    for (int i = 0; i < ROUNDS; i++) cuda_product(&p);
    cuda_check(cudaEventRecord(end, cuda_stream()), "an event");
    cuda_check(cudaEventSynchronize(end), "measuring the device's peak");
    cuda_check(cudaEventElapsedTime(&milliseconds, start, end), "measuring the device's peak");
    cuda_check(cudaEventDestroy(start), "an event");
    cuda_check(cudaEventDestroy(end), "an event");
    return ROUNDS * 2.0 * edge * edge * edge / ((double)milliseconds * 1e-3);
}

/* On memory that is free now: a smaller square where there is little. */
double device_peak_flops(void)
{
    static double peak;
    if (peak > 0) return peak;
    int edge = int_min(EDGE_MOST, cuda_multiprocessors() * EDGE_STEP);
    char *memory = NULL;
    size_t bytes = 0;
    for (; edge >= EDGE_STEP; edge /= 2) {
        bytes = (size_t)edge * (size_t)edge * sizeof(act_t);
        if (cudaMalloc((void **)&memory, WORKSPACE_BYTES + 2 * bytes) == cudaSuccess) break;
        cudaGetLastError();
    }
    if (edge < EDGE_STEP) die("no device memory left to measure the device's peak");
    act_t *x = (act_t *)(memory + WORKSPACE_BYTES), *to = (act_t *)(memory + WORKSPACE_BYTES + bytes);
    numbers<<<cuda_blocks((size_t)edge * (size_t)edge), BLOCK, 0, cuda_stream()>>>(x, (size_t)edge * (size_t)edge);
    cuda_launched("numbers");
    peak = measure(x, to, memory, edge);
    cuda_check(cudaFree(memory), "freeing device memory");
    return peak;
}
