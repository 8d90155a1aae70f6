/* cuda_runtime.h (simulator) - the device side of CUDA C++ for g++: thread indices, barriers, warp operations, shared
 * memory and launches.  Types and the prototypes of the host's calls come from the toolkit's own header. */
#ifndef CUDASIM_CUDA_RUNTIME_H
#define CUDASIM_CUDA_RUNTIME_H

#include_next <cuda_runtime.h>

#ifdef __cplusplus
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define CUDASIM 1
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace sim {

struct Place { const char *file; int line; };
#define SIM_PLACE sim::Place place = {__builtin_FILE(), __builtin_LINE()}

enum Barrier { BARRIER, BARRIER_COUNT, BARRIER_AND, BARRIER_OR };
enum Shuffle { SHUFFLE_TO, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };
int block_barrier(Barrier kind, int predicate, Place place);
void warp_barrier(unsigned mask, Place place);
unsigned ballot(unsigned mask, int predicate, Place place);
void shuffle(Shuffle kind, unsigned mask, void *value, int bytes, int argument, int width, Place place);


/* Work of a whole warp: the last of its 32 lanes to arrive does it, with what each has passed. */
typedef void Warp_work(void *const lane[]);
void warp_work(Warp_work *work, void *mine, SIM_PLACE);

/* Copies to shared memory that are done when they are waited for, as late as a device may; the destination is not a
 * number until then. */
void copy_later(void *to, const void *from, int bytes, bool there, SIM_PLACE);
void copies_close();
void copies_wait(int left);
void check_aligned(const void *p, int bytes, SIM_PLACE);

void *shared_memory(const void *key, size_t bytes);
void *dynamic_memory();
template <class T> T &shared(const void *key) { return *(T *)shared_memory(key, sizeof(T)); }

[[noreturn]] void stop(Place place, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_pointer(const void *p, const char *kernel, Place place);
void check_word(const void *p, const char *kernel, Place place);
void run_kernel(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                std::function<void()> body, Place place);

/* Pointers must be the device's; so must what looks like a pointer inside a struct. */
template <class T> void check_argument(const T &value, const char *kernel, Place place)
{
    if constexpr (std::is_pointer_v<T>) check_pointer((const void *)value, kernel, place);
    else if constexpr (std::is_class_v<T>) {
        T copy = value;
        __builtin_clear_padding(&copy);
        for (size_t i = 0; i + sizeof(void *) <= sizeof(T); i += sizeof(void *)) {
            const void *word;
            memcpy(&word, (const char *)&copy + i, sizeof word);
            check_word(word, kernel, place);
        }
    }
}

template <class... P> struct Launch {
    const char *name;
    void (*kernel)(P...);
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    Place place;

    template <class... A> void operator()(A &&...arguments) const
    {
        static_assert(sizeof...(A) == sizeof...(P), "a kernel with another number of arguments");
        std::tuple<std::decay_t<P>...> values(static_cast<std::decay_t<P>>(std::forward<A>(arguments))...);
        std::apply([&](auto &...value) { (check_argument(value, name, place), ...); }, values);
        auto call = kernel;
        run_kernel(name, (const void *)kernel, grid, block, shared, stream,
                   [call, values] { std::apply(call, values); }, place);
    }
};

template <class... P>
Launch<P...> launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    SIM_PLACE)
{
    return {name, kernel, grid, block, shared, stream, place};
}

template <class T>
T shuffled(Shuffle kind, unsigned mask, T value, int argument, int width, Place place)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    shuffle(kind, mask, &value, (int)sizeof value, argument, width, place);
    return value;
}

} // namespace sim

inline void __syncthreads(SIM_PLACE) { sim::block_barrier(sim::BARRIER, 0, place); }
inline int __syncthreads_count(int x, SIM_PLACE) { return sim::block_barrier(sim::BARRIER_COUNT, x != 0, place); }
inline int __syncthreads_and(int x, SIM_PLACE) { return sim::block_barrier(sim::BARRIER_AND, x != 0, place); }
inline int __syncthreads_or(int x, SIM_PLACE) { return sim::block_barrier(sim::BARRIER_OR, x != 0, place); }
inline void __syncwarp(unsigned mask = ~0u, SIM_PLACE) { sim::warp_barrier(mask, place); }
inline unsigned __ballot_sync(unsigned mask, int x, SIM_PLACE) { return sim::ballot(mask, x != 0, place); }
inline int __any_sync(unsigned mask, int x, SIM_PLACE) { return sim::ballot(mask, x != 0, place) != 0; }
inline int __all_sync(unsigned mask, int x, SIM_PLACE) { return sim::ballot(mask, x == 0, place) == 0; }

template <class T> T __shfl_sync(unsigned mask, T x, int lane, int width = 32, SIM_PLACE)
{
    return sim::shuffled(sim::SHUFFLE_TO, mask, x, lane, width, place);
}
template <class T> T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, SIM_PLACE)
{
    return sim::shuffled(sim::SHUFFLE_UP, mask, x, (int)by, width, place);
}
template <class T> T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32, SIM_PLACE)
{
    return sim::shuffled(sim::SHUFFLE_DOWN, mask, x, (int)by, width, place);
}
template <class T> T __shfl_xor_sync(unsigned mask, T x, int with, int width = 32, SIM_PLACE)
{
    return sim::shuffled(sim::SHUFFLE_XOR, mask, x, with, width, place);
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, sizeof bits); return bits; }
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, sizeof x); return x; }

/* Atomics: fibers of one operating-system thread cannot meet. */
template <class T> T atomicAdd(T *p, typename std::common_type<T>::type x) { T old = *p; *p = old + x; return old; }

#endif
#endif
