/* device.cu (CUDA) - one GPU and one stream: whatever is asked for happens in the order of the calls. */
#include "common/cuda/products.h"
extern "C" {
#include "common/base/trace.h"
}

#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

static struct {
    cudaStream_t stream;
    int multiprocessors;
    uint64_t held, peak;
    char name[300];
} device;

void cuda_check(cudaError_t code, const char *what)
{
    if (code != cudaSuccess) die("%s: %s", what, cudaGetErrorString(code));
}

static int cannot_use(int index, struct error *error)
{
    return fail(error, EXIT_UNAVAILABLE, "GPU %d cannot be used: %s", index, cudaGetErrorString(cudaGetLastError()));
}

/* Whether the program can use GPU `index`.  The first call of all: without a driver everything else fails too. */
static int usable(int index, cudaDeviceProp *properties, struct error *error)
{
    int n = 0;
    cudaError_t code = cudaGetDeviceCount(&n);
    if (code != cudaSuccess)
        return fail(error, EXIT_UNAVAILABLE, "this build computes on an NVIDIA GPU, and none can be used here: %s",
                    cudaGetErrorString(code));
    if (n < 1) return fail(error, EXIT_UNAVAILABLE, "this build computes on an NVIDIA GPU, and there is none here");
    if (index < 0 || index >= n)
        return fail(error, EXIT_USAGE, "there is no GPU %d: this machine's are 0 to %d", index, n - 1);
    if (cudaSetDevice(index) != cudaSuccess || cudaGetDeviceProperties(properties, index) != cudaSuccess)
        return cannot_use(index, error);
    if (properties->major < 8)
        return fail(error, EXIT_UNAVAILABLE, "GPU %d, %s, has compute capability %d.%d, and 8.0 (Ampere) is the least",
                    index, properties->name, properties->major, properties->minor);
    return 0;
}

int device_count(void)
{
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

int device_open(int index, struct error *error)
{
    cudaDeviceProp properties;
    if (usable(index, &properties, error) != 0) return -1;
    if (device.stream) die("a second device was chosen");
    if (cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking) != cudaSuccess)
        return cannot_use(index, error);
    device.multiprocessors = properties.multiProcessorCount;
    char memory[16];
    snprintf(device.name, sizeof device.name, "GPU %d: %s, %s", index, properties.name,
             text_bytes(memory, (double)properties.totalGlobalMem));
    return 0;
}

cudaStream_t cuda_stream(void)
{
    struct error error;
    if (!device.stream && device_open(0, &error) != 0) quit_error(&error);
    return device.stream;
}

int cuda_multiprocessors(void)
{
    cuda_stream();
    return device.multiprocessors;
}

unsigned cuda_blocks(size_t n)
{
    size_t most = (size_t)cuda_multiprocessors() * 16, blocks = (n + BLOCK - 1) / BLOCK;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

void *device_alloc(size_t bytes)
{
    void *p;
    cudaStream_t stream = cuda_stream();
    if (cudaMalloc(&p, bytes > 0 ? bytes : 1) != cudaSuccess) {
        char text[16];
        die("no device memory for %s: %s", text_bytes(text, (double)bytes), cudaGetErrorString(cudaGetLastError()));
    }
    if (bytes > 0) cuda_check(cudaMemsetAsync(p, 0, bytes, stream), "clearing new device memory");
    device.held += bytes;
    if (device.held > device.peak) device.peak = device.held;
    return p;
}

void device_free(void *memory, size_t bytes)
{
    if (!memory) return;
    cuda_check(cudaFree(memory), "freeing device memory");
    device.held -= bytes;
}

uint64_t device_memory_available(void)
{
    size_t available, total;
    cuda_stream();
    cuda_check(cudaMemGetInfo(&available, &total), "asking for the device's free memory");
    return available;
}

uint64_t device_memory_peak(void) { return device.peak; }
bool device_shares_host(void) { return false; }

/* Without a profiler NVTX does nothing, and the calls of the profiler may fail. */
void device_range(const char *name)
{
    nvtxRangePushA(name);
    trace_begin(name);
}

void device_range_end(void)
{
    trace_end();
    nvtxRangePop();
}

void device_record(bool on)
{
    device_wait();
    if ((on ? cudaProfilerStart() : cudaProfilerStop()) != cudaSuccess) cudaGetLastError();
}

const char *device_build(void)
{
    static char build[100];
    int runtime = 0;
    unsigned products = (unsigned)cuda_products_version();
    cuda_check(cudaRuntimeGetVersion(&runtime), "asking for the version of CUDA");
    snprintf(build, sizeof build, "CUDA %d.%d, cuBLAS %u.%u, %s", runtime / 1000, runtime % 1000 / 10, products / 10000,
             products / 100 % 100, sizeof(act_t) == sizeof(float) ? "float32" : "bfloat16");
    return build;
}

const char *device_name(void)
{
    cuda_stream();
    return device.name;
}
