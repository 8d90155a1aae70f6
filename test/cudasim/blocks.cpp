/* blocks.cpp - the threads of a block are fibers.  One runs until it waits at a barrier or a warp operation, or
 * returns; then another.  What waits is looked at as a whole: threads at different places, missing ones, and ones that
 * have returned stop the program. */
#include "race.h"
#include "sim.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sim {

#if defined(__SANITIZE_ADDRESS__) || defined(CUDASIM_TSAN)
enum { STACK = 256 << 10 };
#else
enum { STACK = 64 << 10 };
#endif
enum { PAGE = 4096, ROUND = 1024 };

enum State { READY, AT_BARRIER, AT_WARP, RETURNED };
enum Operation { WARP_BARRIER, BALLOT, SHUFFLE, WORK };

struct Copy { void *to; const void *from; int bytes; bool there; };

struct Fiber {
    void *stack_pointer;
    char *stack;
    State state = RETURNED;
    int index;
    uint3 id;
    Place place;                    /* where it waits */
    Barrier barrier;
    Operation operation;
    unsigned mask;
    Shuffle kind;
    void *value;
    Warp_work *work;
    int bytes, argument, width;
    int predicate, result;
    std::vector<Copy> open;                         /* asynchronous copies since the last group */
    std::deque<std::vector<Copy>> group;
    void *race;
};

struct Warp { unsigned live, arrived, barriers; char order[2]; };     /* order: of the barriers, in turn */
struct Part { char *at; size_t bytes; };    /* of shared memory */

/* The fibers of a block, and what orders them; blocks take the sets in turn. */
struct Set { Fiber *fiber; Warp warp[THREADS_MOST / 32]; unsigned barriers; char order[2], end; };

static Set sets[race::SETS];
static char launch_order;

static struct {
    Set *set;
    Fiber *fiber;                   /* of the set: THREADS_MOST */
    Fiber *current;                 /* NULL: the scheduler runs */
    void *scheduler;                /* its stack pointer */
    void *race;
    const void *bottom;             /* of its stack, and its size: for AddressSanitizer */
    size_t bottom_size;
    const std::function<void()> *body;
    const char *kernel;
    int threads, returned, waiting;
    Warp *warp;
    std::map<const void *, Part> part;
    char *dynamic;
    size_t shared_bytes;
} block;

bool in_kernel() { return block.current != nullptr; }

void say_thread()
{
    fprintf(stderr, "; kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", block.kernel, blockIdx.x, blockIdx.y,
            blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
}

void stop(Place place, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fprintf(stderr, "%s:%d: cudasim: ", place.file, place.line);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    if (in_kernel()) say_thread();
    fputc('\n', stderr);
    _exit(99);
}

/* ---- switching ---- */

extern "C" void cudasim_switch(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n.globl cudasim_switch\n.type cudasim_switch,@function\ncudasim_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
    ".size cudasim_switch,.-cudasim_switch\n");
enum { SAVED = 6 };
#else
#error "the simulator's switch of stacks is written for x86-64 only"
#endif

static void leave_fiber()
{
    Fiber *f = block.current;
    race::enter(block.race);
#ifdef __SANITIZE_ADDRESS__
    void *fake;
    __sanitizer_start_switch_fiber(&fake, block.bottom, block.bottom_size);
    cudasim_switch(&f->stack_pointer, block.scheduler);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    cudasim_switch(&f->stack_pointer, block.scheduler);
#endif
}

/* A thread that ends with copies under way: those of empty groups do not matter, others are a mistake. */
static void copies_left_over()
{
    Fiber *f = block.current;
    size_t n = f->open.size();
    for (const std::vector<Copy> &g : f->group) n += g.size();
    if (n > 0) stop(f->place, "a thread ends with %zu asynchronous copies that it has not waited for", n);
    f->group.clear();
}

static void fiber_main()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &block.bottom, &block.bottom_size);
#endif
    for (;;) {
        race::after(&launch_order);
        (*block.body)();
        race::before(&block.set->end);
        block.current->state = RETURNED;
        if (block.current->open.size() + block.current->group.size() > 0) copies_left_over();
        leave_fiber();
    }
}

static void enter_fiber(Fiber *f)
{
    block.current = f;
    threadIdx = f->id;
    race::enter(f->race);
#ifdef __SANITIZE_ADDRESS__
    void *fake;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
    cudasim_switch(&block.scheduler, f->stack_pointer);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    cudasim_switch(&block.scheduler, f->stack_pointer);
#endif
    block.current = nullptr;
}

/* Stacks begin at different offsets: equal ones would fight for the same sets of the cache. */
static void make_stack(Fiber *f, int i)
{
    char *memory = (char *)mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) stop({"stack of a thread", i}, "no memory");
    mprotect(memory, PAGE, PROT_NONE);
    f->stack = memory + PAGE;
    void **top = (void **)(f->stack + STACK - i * 832 % 8192 / 64 * 64) - 2;
    *top = (void *)fiber_main;
    for (int k = 0; k < SAVED; k++) *--top = nullptr;
    f->stack_pointer = top;
    f->race = race::new_fiber();
}

/* ---- barriers of the block ---- */

static Fiber *caller(Place place)
{
    if (!in_kernel()) stop(place, "a function of the device called on the host");
    return block.current;
}

static void release_barrier()
{
    Fiber *first = nullptr, *end = block.fiber + block.threads;
    int sum = 0;
    for (Fiber *f = block.fiber; f < end; f++) {
        if (f->state != AT_BARRIER) continue;
        if (!first) first = f;
        block.current = f;
        threadIdx = f->id;
        if (block.returned) stop(f->place, "a barrier after %d threads of the block have returned", block.returned);
        if (f->place.line != first->place.line || strcmp(f->place.file, first->place.file) != 0 ||
            f->barrier != first->barrier)
            stop(f->place, "divergent barrier: thread %d waits at line %d", first->index, first->place.line);
        sum += f->predicate;
    }
    block.current = nullptr;
    for (Fiber *f = block.fiber; f < end; f++) {
        if (f->state != AT_BARRIER) continue;
        f->result = f->barrier == BARRIER_AND ? sum == block.waiting : f->barrier == BARRIER_OR ? sum > 0 : sum;
        f->state = READY;
    }
    block.waiting = 0;
    block.set->barriers++;
}

int block_barrier(Barrier kind, int predicate, Place place)
{
    Fiber *f = caller(place);
    f->barrier = kind;
    f->place = place;
    f->predicate = predicate;
    f->state = AT_BARRIER;
    block.waiting++;
    char *order = &block.set->order[block.set->barriers % 2];   /* who wakes late must not see the next arrivals */
    race::before(order);
    leave_fiber();
    race::after(order);
    return f->result;
}

/* ---- operations of a warp: the last lane to arrive does the work of all ---- */

static int source_lane(const Fiber *f, int lane)
{
    int base = lane / f->width * f->width, other;
    switch (f->kind) {
    case SHUFFLE_TO: return base + (f->argument & (f->width - 1));
    case SHUFFLE_UP: other = lane - f->argument; return other < base ? lane : other;
    case SHUFFLE_DOWN: other = lane + f->argument; return other >= base + f->width ? lane : other;
    default: other = lane ^ f->argument; return other >= base + f->width ? lane : other;
    }
}

static void finish_warp(Warp *w, Fiber *lane, unsigned mask)
{
    race::Quiet quiet;
    Fiber *me = block.current;
    unsigned votes = 0;
    char values[32][8];
    auto named = [mask](int i) { return mask >> i & 1; };
    for (int i = 0; i < 32; i++) {
        if (!named(i)) continue;
        Fiber *f = lane + i;
        if (f->operation != me->operation || f->place.line != me->place.line || strcmp(f->place.file, me->place.file))
            stop(me->place, "divergent warp operation: lane %d is at line %d", i, f->place.line);
        if (f->mask != me->mask) stop(me->place, "lane %d passes mask %08x, this one %08x", i, f->mask, me->mask);
        votes |= (unsigned)(f->predicate != 0) << i;
        if (f->operation == SHUFFLE) memcpy(values[i], f->value, (size_t)f->bytes);
    }
    for (int i = 0; i < 32; i++) {
        if (!named(i)) continue;
        Fiber *f = lane + i;
        f->result = (int)votes;
        f->state = READY;
        if (f->operation != SHUFFLE) continue;
        int from = source_lane(f, i);
        if (!named(from)) stop(me->place, "lane %d reads lane %d, which mask %08x leaves out", i, from, mask);
        memcpy(f->value, values[from], (size_t)f->bytes);
    }
    w->arrived &= ~mask;
    w->barriers += me->operation == WARP_BARRIER;
}

static void finish_work(Warp *w, Fiber *lane, Warp_work *work)
{
    race::Quiet quiet;
    void *data[32];
    for (int i = 0; i < 32; i++) {
        if (lane[i].operation != WORK || lane[i].work != work)
            stop(block.current->place, "divergent warp operation: lane %d is at line %d", i, lane[i].place.line);
        data[i] = lane[i].value;
        lane[i].state = READY;
    }
    work(data);
    w->arrived = 0;
}

static int warp_operation(Operation operation, unsigned mask, Place place)
{
    Fiber *f = block.current;
    int number = f->index / 32, lane = f->index % 32, lanes = std::min(32, block.threads - number * 32);
    Warp *w = &block.warp[number];
    unsigned all = lanes == 32 ? ~0u : (1u << lanes) - 1;
    if (!(mask >> lane & 1)) stop(place, "mask %08x leaves out the calling lane %d", mask, lane);
    if (mask & all & ~w->live) stop(place, "mask %08x names lanes that have returned (live: %08x)", mask, w->live);
    f->operation = operation;
    f->mask = mask;
    f->place = place;
    f->state = AT_WARP;
    w->arrived |= 1u << lane;
    char *order = &w->order[w->barriers % 2];
    if (operation == WARP_BARRIER) race::before(order);         /* the others order nothing */
    if ((w->arrived & mask & all) != (mask & all)) leave_fiber();
    else if (operation == WORK) finish_work(w, block.fiber + number * 32, f->work);
    else finish_warp(w, block.fiber + number * 32, mask & all);
    if (operation == WARP_BARRIER) race::after(order);
    return f->result;
}

void warp_work(Warp_work *work, void *mine, Place place)
{
    Fiber *f = caller(place);
    if (block.threads % 32) stop(place, "an operation of whole warps in a block of %d threads", block.threads);
    f->work = work;
    f->value = mine;
    warp_operation(WORK, ~0u, place);
}

void warp_barrier(unsigned mask, Place place)
{
    caller(place)->predicate = 0;
    warp_operation(WARP_BARRIER, mask, place);
}

unsigned ballot(unsigned mask, int predicate, Place place)
{
    caller(place)->predicate = predicate;
    return (unsigned)warp_operation(BALLOT, mask, place);
}

void shuffle(Shuffle kind, unsigned mask, void *value, int bytes, int argument, int width, Place place)
{
    if (width < 1 || width > 32 || (width & (width - 1))) stop(place, "a shuffle of width %d", width);
    Fiber *f = caller(place);
    f->kind = kind;
    f->value = value;
    f->bytes = bytes;
    f->argument = argument;
    f->width = width;
    f->predicate = 0;
    warp_operation(SHUFFLE, mask, place);
}

/* ---- asynchronous copies ---- */

void check_aligned(const void *p, int bytes, Place place)
{
    if ((uintptr_t)p % (unsigned)bytes) stop(place, "an address that is not a multiple of %d bytes", bytes);
}

void copy_later(void *to, const void *from, int bytes, bool there, Place place)
{
    check_aligned(to, bytes, place);
    check_aligned(from, bytes, place);
    if (!on_device(from, there ? (size_t)bytes : 1)) stop(place, "a copy from outside device memory");
    memset(to, 0xFF, (size_t)bytes);
    caller(place)->open.push_back({to, from, bytes, there});
}

void copies_close()
{
    block.current->group.push_back(std::move(block.current->open));
    block.current->open.clear();
}

void copies_wait(int left)
{
    auto &group = block.current->group;
    for (; (int)group.size() > left; group.pop_front())
        for (const Copy &c : group.front()) {
            if (c.there) memcpy(c.to, c.from, (size_t)c.bytes);
            else memset(c.to, 0, (size_t)c.bytes);
        }
}

/* ---- shared memory: a piece a variable and block, filled with NaN, and nothing usable beyond its end ---- */

static Part take_part(size_t bytes)
{
    size_t room = (bytes + ROUND) / ROUND * ROUND;
    Part p = {(char *)aligned_alloc(ROUND, room), bytes};
    if (!p.at) stop({block.kernel, 0}, "no memory");
    memset(p.at, 0xFF, room);
    ASAN_POISON_MEMORY_REGION(p.at + bytes, room - bytes);
    return p;
}

static void give_part(Part p)
{
    ASAN_UNPOISON_MEMORY_REGION(p.at, (p.bytes + ROUND) / ROUND * ROUND);
    free(p.at);
}

void *shared_memory(const void *key, size_t bytes)
{
    race::Quiet quiet;
    auto found = block.part.find(key);
    if (found != block.part.end()) return found->second.at;
    block.shared_bytes += bytes;
    if (block.shared_bytes > STATIC_MOST)
        stop({block.kernel, 0}, "%zu bytes of static shared memory, and %d are the most", block.shared_bytes,
             STATIC_MOST);
    return (block.part[key] = take_part(bytes)).at;
}

void *dynamic_memory() { return block.dynamic; }

/* ---- a grid: block after block, each warp after warp ---- */

static int in_order(int i, int n, unsigned turn)
{
    if (thread_order() == "reverse") return n - 1 - i;
    return thread_order() == "random" ? (int)((unsigned)i + turn) % n : i;
}

/* Until every lane waits for the block, or has returned.  At random, other warps are let in earlier. */
static bool run_warp(int number)
{
    Fiber *lane = block.fiber + number * 32;
    int lanes = std::min(32, block.threads - number * 32);
    bool any = false, random = thread_order() == "random";
    for (bool again = true; again;) {
        unsigned turn = random ? random_below(32) : 0;
        again = false;
        for (int i = 0; i < lanes; i++) {
            Fiber *f = lane + in_order(i, lanes, turn);
            if (f->state != READY) continue;
            enter_fiber(f);
            again = any = true;
            if (f->state != RETURNED) continue;
            block.returned++;
            block.warp[number].live &= ~(1u << f->index % 32);
        }
        if (any && random && random_below(3) == 0) return true;
    }
    return any;
}

static void say_deadlock(Place place)
{
    int line = 0;
    fprintf(stderr, "%s:%d: cudasim: deadlock in kernel %s\n", place.file, place.line, block.kernel);
    for (int i = 0; i < block.threads; i++) {
        const Fiber *f = block.fiber + i;
        if (f->state == RETURNED || f->place.line == line) continue;
        line = f->place.line;
        fprintf(stderr, "  thread %d waits at %s:%d\n", i, f->place.file, line);
    }
    _exit(99);
}

static void open_block(dim3 size, Part dynamic)
{
    block.returned = block.waiting = 0;
    block.shared_bytes = 0;
    block.dynamic = dynamic.at;
    block.fiber = block.set->fiber;
    block.warp = block.set->warp;
    for (int i = 0; i < block.threads; i++) {
        Fiber *f = block.fiber + i;
        if (!f->stack) make_stack(f, i);
        unsigned u = (unsigned)i;
        f->state = READY;
        f->index = i;
        f->id = {u % size.x, u / size.x % size.y, u / (size.x * size.y)};
    }
    for (int w = 0; w * 32 < block.threads; w++) {
        int lanes = std::min(32, block.threads - w * 32);
        block.warp[w].live = lanes == 32 ? ~0u : (1u << lanes) - 1;
        block.warp[w].arrived = 0;
    }
}

static void run_block(dim3 size, size_t dynamic, Place place)
{
    race::Quiet quiet;
    int warps = (block.threads + 31) / 32;
    Part part = take_part(dynamic);
    open_block(size, part);
    while (block.returned < block.threads) {
        unsigned turn = random_below(1024);
        bool any = false;
        for (int w = 0; w < warps; w++) any |= run_warp(in_order(w, warps, turn));
        if (block.waiting && block.waiting + block.returned == block.threads) release_barrier();
        else if (!any) say_deadlock(place);
    }
    for (auto &p : block.part) give_part(p.second);
    block.part.clear();
    give_part(part);
}

void run_grid(const char *name, dim3 grid, dim3 size, size_t dynamic, const std::function<void()> &body, Place place)
{
    Access access;
    for (Set &s : sets)
        if (!s.fiber) s.fiber = new Fiber[THREADS_MOST]();
    block.race = race::this_fiber();
    block.kernel = name;
    block.body = &body;
    block.threads = (int)(size.x * size.y * size.z);
    gridDim = grid;
    blockDim = size;
    long total = (long)grid.x * grid.y * grid.z, turn = (long)random_below(1 << 20);
    race::before(&launch_order);
    for (long i = 0; i < total; i++) {
        block.set = &sets[i % race::SETS];
        long k = thread_order() == "reverse" ? total - 1 - i : thread_order() == "random" ? (i + turn) % total : i;
        blockIdx = {(unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y), (unsigned)(k / ((long)grid.x * grid.y))};
        run_block(size, dynamic, place);
    }
    for (Set &s : sets) race::after(&s.end);
}

} // namespace sim
