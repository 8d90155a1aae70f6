/* memory.cpp - device memory: one reserved range, without access while host code runs, handed out in ascending pieces
 * that are filled with NaN and never used again after they are freed. */
#include "sim.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace sim {

static const uintptr_t LOWEST = (uintptr_t)1 << 45;     /* programs, heaps and stacks lie above, sanitizers' shadows below */
static const size_t PAGE = 4096, HUGE = 2 << 20, RANGE = (size_t)256 << 30;

struct Piece { size_t bytes; int number; bool freed; };

static struct {
    char *start, *top, *limit;              /* limit: what is opened and closed, in huge pages so that it is cheap */
    std::map<const char *, Piece> piece;        /* by their first byte */
    std::map<const char *, size_t> pinned;
    size_t held;
    int open, number;
} memory;

const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

unsigned random_below(unsigned n)
{
    static unsigned long state = strtoul(setting("CUDASIM_SEED", "1"), nullptr, 10) * 0x9E3779B97F4A7C15ul + 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 33) % n);
}

const std::string &thread_order()
{
    static const std::string order = setting("CUDASIM_ORDER", "forward");
    return order;
}

static size_t room_of(size_t bytes) { return (bytes + 2 * PAGE - 1) / PAGE * PAGE; }
static bool in_range(const char *p) { return memory.start && p >= memory.start && p < memory.start + RANGE; }

/* The piece that begins at or before p. */
static const std::pair<const char *const, Piece> *piece_before(const void *p)
{
    auto after = memory.piece.upper_bound((const char *)p);
    return after == memory.piece.begin() ? nullptr : &*--after;
}

bool on_device(const void *p, size_t bytes)
{
    auto found = piece_before(p);
    return found && !found->second.freed && (const char *)p + bytes <= found->first + found->second.bytes;
}

bool on_host(const void *p) { return !in_range((const char *)p); }

bool is_pinned(const void *p, size_t bytes)
{
    auto after = memory.pinned.upper_bound((const char *)p);
    if (after == memory.pinned.begin()) return false;
    --after;
    return (const char *)p + bytes <= after->first + after->second;
}

void check_pointer(const void *p, const char *kernel, Place place)
{
    if (!p || on_device(p, 0) || is_pinned(p, 0)) return;
    auto found = piece_before(p);
    if (in_range((const char *)p) && found && found->second.freed)
        stop(place, "kernel %s is given %p, inside freed device memory (allocation %d)", kernel, p,
             found->second.number);
    stop(place, "kernel %s is given %p, which is not device memory", kernel, p);
}

/* A word inside a struct: wrong when it is the address of something on the host, or of freed memory.  Two numbers side
 * by side rarely look like that. */
void check_word(const void *p, const char *kernel, Place place)
{
    unsigned char there;
    auto found = piece_before(p);
    uintptr_t word = (uintptr_t)p;
    if (word >> 47 || word < LOWEST || (uint32_t)word < 1 << 16 || is_pinned(p, 0)) return;
    if (in_range((const char *)p)) {
        if (found && found->second.freed && (const char *)p < found->first + found->second.bytes)
            check_pointer(p, kernel, place);
    } else if (mincore((void *)((uintptr_t)p / PAGE * PAGE), PAGE, &there) == 0) {
        stop(place, "a struct given to kernel %s holds %p, which is not device memory", kernel, p);
    }
}

static void protect(int how)
{
    if (memory.limit > memory.start && mprotect(memory.start, (size_t)(memory.limit - memory.start), how) != 0)
        stop({"device memory", 0}, "mprotect failed");
}

Access::Access()
{
    if (memory.open++ == 0) protect(PROT_READ | PROT_WRITE);
}

Access::~Access()
{
    if (--memory.open == 0) protect(PROT_NONE);
}

static void touched(int number, siginfo_t *info, void *)
{
    const char *at = (const char *)info->si_addr;
    char line[200];
    if (!in_range(at)) {
        signal(number, SIG_DFL);            /* some other fault: again, without us */
        return;
    }
    auto found = piece_before(at);
    int n = snprintf(line, sizeof line, "cudasim: %s touches device memory, byte %ld of allocation %d of %zu bytes\n",
                     in_kernel() ? "a kernel" : "host code", found ? (long)(at - found->first) : -1L,
                     found ? found->second.number : -1, found ? found->second.bytes : 0);
    if (write(2, line, (size_t)n) < 0) _exit(97);
    _exit(98);
}

static void reserve()
{
    static char alternative[65536];
    stack_t stack = {};
    struct sigaction action = {};
    char *range = (char *)mmap(nullptr, RANGE + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) stop({"device memory", 0}, "no address space");
    memory.start = memory.top = memory.limit = (char *)(((uintptr_t)range + HUGE - 1) / HUGE * HUGE);
    madvise(memory.start, RANGE, MADV_HUGEPAGE);
    stack.ss_sp = alternative;
    stack.ss_size = sizeof alternative;
    sigaltstack(&stack, nullptr);
    action.sa_sigaction = touched;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

static size_t memory_size() { return strtoull(setting("CUDASIM_MEMORY", "8589934592"), nullptr, 10); }

extern "C" {

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (!memory.start) reserve();
    size_t room = room_of(bytes);
    *out = nullptr;
    if (memory.held + bytes > memory_size()) return failed(cudaErrorMemoryAllocation, nullptr);
    if (room > (size_t)(memory.start + RANGE - memory.top)) stop({"cudaMalloc", 0}, "the reserved range is used up");
    char *p = memory.top;
    memory.top += room;
    if (memory.top > memory.limit)
        memory.limit = memory.start + ((size_t)(memory.top - memory.start) + HUGE - 1) / HUGE * HUGE;
    Access access;
    if (memory.open > 1) protect(PROT_READ | PROT_WRITE);
    ASAN_UNPOISON_MEMORY_REGION(p, room);
    memset(p, 0xFF, bytes);
    ASAN_POISON_MEMORY_REGION(p + bytes, room - bytes);
    memory.piece[p] = {bytes, memory.number++, false};
    memory.held += bytes;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    finish_all();
    auto found = memory.piece.find((const char *)p);
    if (found == memory.piece.end() || found->second.freed)
        return failed(cudaErrorInvalidValue, "cudaFree of what cudaMalloc did not return, or a second time");
    found->second.freed = true;
    memory.held -= found->second.bytes;
    ASAN_POISON_MEMORY_REGION(p, room_of(found->second.bytes));
    madvise(p, room_of(found->second.bytes), MADV_DONTNEED);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    *out = malloc(bytes);
    if (!*out) return failed(cudaErrorMemoryAllocation, nullptr);
    memory.pinned[(const char *)*out] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    finish_all();
    if (!memory.pinned.erase((const char *)p))
        return failed(cudaErrorInvalidValue, "cudaFreeHost of what cudaMallocHost did not return");
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = memory_size();
    *available = *total - memory.held;
    return cudaSuccess;
}

} // extern "C"

} // namespace sim
