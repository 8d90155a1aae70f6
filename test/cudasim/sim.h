/* sim.h - what the parts of the simulator share.  One operating-system thread does everything.
 *
 * Settings, from the environment:
 *     CUDASIM_ORDER    forward (default), reverse, random: in which order threads, warps and blocks run
 *     CUDASIM_STREAMS  eager (default), lazy, random: when work is done, within what the order of its stream and events
 *                      allow
 *     CUDASIM_PRODUCTS what cuBLASLt offers.  shape (default): algorithms with one order of sums each, of which the shape
 *                      says which is best; fixed: one for all; late: before them come some whose order depends on the
 *                      number of columns of D (rows, to the backend) or on the place among them, and one that does not
 *                      take every number; bad: only those whose order depends on them; sly:
 *                      one whose order depends on it where the backend does not try it
 *     CUDASIM_SEED     of what is random
 *     CUDASIM_MEMORY   bytes of device memory
 *     CUDASIM_DEVICES  how many devices (0: none) */
#ifndef CUDASIM_SIM_H
#define CUDASIM_SIM_H

#include <cuda_runtime.h>
#include <functional>
#include <string>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace sim {

const char *setting(const char *name, const char *otherwise);
unsigned random_below(unsigned n);
const std::string &thread_order();

enum { STATIC_MOST = 48 << 10, DYNAMIC_MOST = 99 << 10, THREADS_MOST = 1024 };

/* The thread of a block that runs now; false between kernels.  say_thread prints it. */
bool in_kernel();
void say_thread();
void run_grid(const char *name, dim3 grid, dim3 block, size_t dynamic, const std::function<void()> &body, Place place);

/* Device memory may be touched while an Access lives. */
struct Access { Access(); ~Access(); };
bool on_device(const void *p, size_t bytes);        /* all of it lies in one allocation in use */
bool on_host(const void *p);
bool is_pinned(const void *p, size_t bytes);

/* Adds work to a stream.  late: even where streams are eager it is not done before its stream is waited for. */
void enqueue(cudaStream_t stream, std::function<void()> work, Place place, bool late = false);
void finish_all();
cudaError_t failed(cudaError_t code, const char *sentence);
cudaError_t last_error(bool clear);
int current_device();
cudaError_t launch_allowed(const void *kernel, dim3 grid, dim3 block, size_t dynamic);

} // namespace sim

#endif
