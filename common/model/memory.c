/* memory.c - arenas are plain bump pointers; measuring keeps only the highest mark.  One allocation a phase, so that
 * the numbers of --plan are the numbers of the run. */
#include "common/model/memory.h"
#include "common/model/device.h"

#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 64 };

static const char *const phase_name[MEMORY_PHASES] = {"params", "packed", "grads", "moments", "acts", "work", "cache",
                                                      "offloaded", "rollouts", "data"};
static const char *const phase_remedy[MEMORY_PHASES] = {
    "a smaller model", "a smaller model", "a smaller model", "a smaller model", "--micro-tokens or --recompute block",
    "--micro-tokens", "--max-new-tokens or --slots", "a smaller model", "--episodes or --max-new-tokens", "less data"};

const char *memory_phase_name(enum phase phase) { return phase_name[phase]; }

void *memory_take(struct memory *m, enum phase phase, size_t count, size_t size)
{
    struct arena *a = &m->arena[phase];
    uint64_t bytes, end;
    if (m->state == SEALED)
        die("%s: %zu x %zu bytes asked for after the memory was sealed", phase_name[phase], count, size);
    if (!size_mul(&bytes, count, size) || !size_add(&bytes, bytes, ALIGN - 1) ||
        !size_add(&end, a->used, bytes / ALIGN * ALIGN) || end > SIZE_MAX / 2)
        die("%s: a tensor of %zu x %zu bytes is too large", phase_name[phase], count, size);
    if (m->state == TAKING && end > a->capacity)
        die("%s: %zu x %zu bytes asked for, but only %zu of %zu measured are left", phase_name[phase], count, size,
            a->capacity - a->used, a->capacity);
    void *result = m->state == MEASURING ? NULL : a->base + a->used;
    a->used = end;
    if (a->used > a->peak) a->peak = a->used;
    return result;
}

size_t memory_mark(const struct memory *m, enum phase phase) { return m->arena[phase].used; }

void memory_release(struct memory *m, enum phase phase, size_t mark)
{
    assert(mark <= m->arena[phase].used);
    m->arena[phase].used = mark;
}

size_t memory_bytes(const struct memory *m, enum phase phase) { return m->arena[phase].peak; }

size_t memory_total(const struct memory *m, enum side side)
{
    size_t total = 0;
    for (int p = 0; p < MEMORY_PHASES; p++)
        if (memory_side((enum phase)p) == side) total += m->arena[p].peak;
    return total;
}

/* Whether the phases from `first` to before `end` fit; `what` memory they are to live in. */
static int part_fits(const struct memory *m, int first, int end, uint64_t available, const char *what,
                     struct error *error)
{
    uint64_t need = 0;
    int largest = first;
    for (int p = first; p < end; p++) {
        need += m->arena[p].peak;
        if (m->arena[p].peak > m->arena[largest].peak) largest = p;
    }
    if (need <= available) return 0;
    char a[16], b[16], c[16];
    bool apart = end < MEMORY_PHASES && (largest == MEMORY_PARAMS || largest == MEMORY_MOMENTS);
    return fail(error, EXIT_INTERNAL, "this run needs %s of %s, and %s are available; the largest part is %s with %s: "
                "%s would lower it (--plan shows all parts)", text_bytes(a, (double)need), what,
                text_bytes(b, (double)available), phase_name[largest], text_bytes(c, (double)m->arena[largest].peak),
                apart ? "--offload moments" : phase_remedy[largest]);
}

int memory_fits_in(const struct memory *m, uint64_t host, uint64_t device, bool shared, struct error *error)
{
    if (shared) return part_fits(m, 0, MEMORY_PHASES, host < device ? host : device, "memory", error);
    if (part_fits(m, 0, MEMORY_OFFLOADED, device, "device memory", error) != 0) return -1;
    return part_fits(m, MEMORY_OFFLOADED, MEMORY_PHASES, host, "host memory", error);
}

int memory_fits(const struct memory *m, struct error *error)
{
    uint64_t sharers = (uint64_t)int_max(m->sharers, 1), device = device_memory_available();
    bool shared = device_shares_host();
    return memory_fits_in(m, host_memory_available() / sharers, shared ? device / sharers : device, shared, error);
}

static void *host_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) die("no memory for %zu bytes", bytes);
    return p;
}

int memory_open(struct memory *m, struct error *error)
{
    assert(m->state == MEASURING);
    if (memory_fits(m, error) != 0) return -1;
    for (int p = 0; p < MEMORY_PHASES; p++) {
        struct arena *a = &m->arena[p];
        a->capacity = a->peak;
        if (a->capacity)
            a->base = p == MEMORY_OFFLOADED ? device_alloc_host(a->capacity)
                    : memory_side((enum phase)p) == SIDE_HOST ? host_map(a->capacity) : device_alloc(a->capacity);
        a->used = a->peak = 0;
    }
    m->state = TAKING;
    return 0;
}

/* Copies, and gives the pages of what has been copied back, so that both never take their memory at once: what a data
 * set takes is what --plan says. */
static void move(char *to, char *from, size_t bytes)
{
    enum { PIECE = 4 << 20 };
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        memcpy(to + at, from + at, n);
        char *first = from + at + (page - (uintptr_t)(from + at) % page) % page;
        char *end = from + at + n - (uintptr_t)(from + at + n) % page;
        if (end > first) madvise(first, (size_t)(end - first), MADV_DONTNEED);
    }
}

void *memory_settle(struct memory *m, void *heap, size_t count, size_t size)
{
    void *settled = memory_take(m, MEMORY_DATA, count, size);
    if (m->state == MEASURING) return heap;
    if (count > 0) move(settled, heap, count * size);
    free(heap);
    return settled;
}

void memory_seal(struct memory *m)
{
    for (int p = 0; p < MEMORY_PHASES; p++)
        if (m->arena[p].peak != m->arena[p].capacity)
            die("%s: %zu bytes measured, but %zu taken", phase_name[p], m->arena[p].capacity, m->arena[p].peak);
    m->state = SEALED;
}

void memory_close(struct memory *m)
{
    for (int p = 0; p < MEMORY_PHASES; p++) {
        struct arena *a = &m->arena[p];
        if (p == MEMORY_OFFLOADED) device_free_host(a->base, a->capacity);
        else if (a->base && memory_side((enum phase)p) == SIDE_HOST) munmap(a->base, a->capacity);
        else device_free(a->base, a->capacity);
    }
    memset(m, 0, sizeof *m);
}
