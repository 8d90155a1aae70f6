/* streams.cpp - streams, events, copies, launches and what the host may ask the device.  Only calls that the backend
 * uses exist: another does not link.  Work without a stream of its own is refused. */
#include "sim.h"

#include <cuda_profiler_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace sim {

struct Event { int stream = -1; long number = 0; };         /* recorded after that much work of the stream */
struct Work { std::vector<Event> after; std::function<void()> run; };
struct Stream { long added = 0, done = 0; std::deque<Work> queue; std::vector<Event> after; bool gone = false; };

static std::vector<std::unique_ptr<Stream>> streams;        /* stream handle i + 1 */
static std::map<const void *, size_t> dynamic_most;         /* shared memory a kernel was granted */
static cudaError_t last = cudaSuccess;

cudaError_t failed(cudaError_t code, const char *sentence)
{
    if (sentence) fprintf(stderr, "cudasim: %s\n", sentence);
    return last = code;
}

cudaError_t last_error(bool clear)
{
    cudaError_t code = last;
    if (clear) last = cudaSuccess;
    return code;
}

static int number_of(cudaStream_t stream, Place place)
{
    size_t handle = (size_t)stream;
    if (handle == 0) stop(place, "work without a stream: the default stream waits for others, and is not simulated");
    if (handle > streams.size() || streams[handle - 1]->gone) stop(place, "a stream that does not exist");
    return (int)handle - 1;
}

/* Runs the stream's work up to number `last`, and what that must wait for. */
static void run_until(int stream, long number)
{
    Stream &s = *streams[(size_t)stream];
    while (s.done < number) {
        Work work = std::move(s.queue.front());
        s.queue.pop_front();
        for (const Event &e : work.after) run_until(e.stream, e.number);
        work.run();
        s.done++;
    }
}

static bool is_ready(const Stream &s)
{
    if (s.queue.empty()) return false;
    for (const Event &e : s.queue.front().after)
        if (streams[(size_t)e.stream]->done < e.number) return false;
    return true;
}

static void run_some()
{
    for (int tries = (int)random_below(4); tries > 0; tries--) {
        int i = (int)random_below((unsigned)streams.size());
        if (is_ready(*streams[(size_t)i])) run_until(i, streams[(size_t)i]->done + 1);
    }
}

void enqueue(cudaStream_t stream, std::function<void()> work, Place place, bool late)
{
    static const std::string mode = setting("CUDASIM_STREAMS", "eager");
    int number = number_of(stream, place);
    Stream &s = *streams[(size_t)number];
    s.queue.push_back({std::move(s.after), std::move(work)});
    s.after.clear();
    s.added++;
    if (mode == "eager" && !late) run_until(number, s.added);
    else if (mode == "random") run_some();
}

void finish_all()
{
    for (size_t i = 0; i < streams.size(); i++) run_until((int)i, streams[i]->added);
}

/* ---- launches ---- */

cudaError_t launch_allowed(const void *kernel, dim3 grid, dim3 block, size_t dynamic)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads == 0 || threads > THREADS_MOST || block.z > 64)
        return failed(cudaErrorInvalidConfiguration, "a launch with no thread, or more than 1024 in a block");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        return failed(cudaErrorInvalidConfiguration, "a launch with no block, or too many");
    auto granted = dynamic_most.find(kernel);
    if (dynamic > (granted == dynamic_most.end() ? (size_t)STATIC_MOST : granted->second))
        return failed(cudaErrorInvalidValue, "a launch with more shared memory than the kernel was granted");
    return cudaSuccess;
}

void run_kernel(const char *name, const void *kernel, dim3 grid, dim3 block, size_t dynamic, cudaStream_t stream,
                std::function<void()> body, Place place)
{
    if (launch_allowed(kernel, grid, block, dynamic) != cudaSuccess) return;
    enqueue(stream, [=] { run_grid(name, grid, block, dynamic, body, place); }, place);
}

/* ---- copies ---- */

static bool side_fits(const void *p, size_t bytes, bool device) { return device ? on_device(p, bytes) : on_host(p); }

static const Place COPY = {"cudaMemcpyAsync", 0};

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyHostToHost) stop(COPY, "a copy that stays on the host");
    if (kind == cudaMemcpyDefault) {                        /* the addresses say it: of the device, or pinned */
        to_device = !is_pinned(to, bytes);
        from_device = !is_pinned(from, bytes);
    }
    if (bytes == 0) return cudaSuccess;
    if (!side_fits(to, bytes, to_device))
        return failed(cudaErrorInvalidValue, "a copy to outside its allocation, or its side");
    if (!side_fits(from, bytes, from_device))
        return failed(cudaErrorInvalidValue, "a copy from outside its allocation, or its side");
    if (!from_device && !is_pinned(from, bytes)) {          /* pageable memory may be read before the call returns */
        auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
        enqueue(stream, [=] { Access access; memcpy(to, staged->data(), bytes); }, COPY);
        return cudaSuccess;
    }
    enqueue(stream, [=] { Access access; memmove(to, from, bytes); }, COPY);
    if (!to_device && !is_pinned(to, bytes)) {              /* and is written when the call returns */
        int number = number_of(stream, COPY);
        run_until(number, streams[(size_t)number]->added);
    }
    return cudaSuccess;
}

static int current;

int current_device() { return current; }
static const char *device_count() { return setting("CUDASIM_DEVICES", "1"); }

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(to, from, bytes, kind, stream);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!on_device(to, bytes)) return failed(cudaErrorInvalidValue, "cudaMemsetAsync outside its allocation");
    enqueue(stream, [=] { Access access; memset(to, value, bytes); }, {"cudaMemsetAsync", 0});
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    streams.push_back(std::make_unique<Stream>());
    *out = (cudaStream_t)streams.size();
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    int number = number_of(stream, {"cudaStreamSynchronize", 0});
    run_until(number, streams[(size_t)number]->added);
    return last;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    int number = number_of(stream, {"cudaStreamQuery", 0});
    Stream &s = *streams[(size_t)number];
    if (s.done < s.added) run_until(number, s.done + 1);
    return s.done < s.added ? cudaErrorNotReady : last;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    streams[(size_t)stream - 1]->gone = true;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    finish_all();
    return last;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = (cudaEvent_t) new Event;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete (Event *)event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    int number = number_of(stream, {"cudaEventRecord", 0});
    *(Event *)event = {number, streams[(size_t)number]->added};
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    Event e = *(Event *)event;
    if (e.stream >= 0) streams[(size_t)number_of(stream, {"cudaStreamWaitEvent", 0})]->after.push_back(e);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    Event e = *(Event *)event;
    if (e.stream >= 0) run_until(e.stream, e.number);
    return last;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t)
{
    *milliseconds = 1;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) { return last_error(true); }
cudaError_t cudaPeekAtLastError(void) { return last_error(false); }
const char *cudaGetErrorString(cudaError_t code)
{
    return code == cudaSuccess ? "no error" : "an error of the simulator";
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > DYNAMIC_MOST)
        return failed(cudaErrorInvalidValue, "cudaFuncSetAttribute not simulated, or too much shared memory");
    dynamic_most[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    int devices = atoi(device_count());
    if (devices == 0) return cudaErrorInsufficientDriver;       /* and *n stays as it is, as without a driver */
    *n = devices;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= atoi(device_count())) return failed(cudaErrorInvalidDevice, nullptr);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "simulated GPU");
    p->major = 8;
    p->multiProcessorCount = 2;
    p->warpSize = 32;
    p->maxThreadsPerBlock = THREADS_MOST;
    p->sharedMemPerBlock = STATIC_MOST;
    p->sharedMemPerBlockOptin = DYNAMIC_MOST;
    size_t available;
    cudaMemGetInfo(&available, &p->totalGlobalMem);
    return cudaSuccess;
}

static cudaError_t record(const char *sentence)
{
    for (const auto &s : streams)
        if (s->done < s->added) return failed(cudaErrorUnknown, "a profiler told while work is under way");
    fprintf(stderr, "cudasim: %s\n", sentence);
    return cudaSuccess;
}

cudaError_t cudaProfilerStart(void) { return record("a profiler would record now"); }
cudaError_t cudaProfilerStop(void) { return record("a profiler would record no more"); }

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

} // extern "C"

} // namespace sim
