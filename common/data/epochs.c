/* epochs.c - one epoch is packed at a time; the next when a bin beyond it is asked for. */
#include "common/data/epochs.h"
#include "common/base/rng.h"

#include <assert.h>

/* ---- packing ---- */

/* Best fit needs the bin with the least room that is still enough for each sequence.  Bins hang in lists by their room,
 * and a bitmap says which rooms occur, so that the search is a scan of a few words, not of all open bins. */
enum { NONE = UINT32_MAX };

struct bins {
    uint32_t capacity;
    uint32_t *first;        /* (capacity+1) newest open bin with that room, or NONE */
    uint64_t *occurs;       /* bit r: first[r] is not NONE */
    uint32_t *next;         /* (bins) the open bin of the same room that came before, or NONE */
    uint32_t *count;        /* (bins) sequences in it */
    uint32_t n;
};

/* Smallest room >= length of an open bin, or NONE. */
static uint32_t bins_find(const struct bins *b, uint32_t length)
{
    uint32_t word = length / 64, words = b->capacity / 64 + 1;
    uint64_t bits = b->occurs[word] & ~0ull << length % 64;
    while (!bits && ++word < words) bits = b->occurs[word];
    return bits ? word * 64 + (uint32_t)__builtin_ctzll(bits) : NONE;
}

/* Puts a sequence into its bin and returns the bin's number. */
static uint32_t bins_place(struct bins *b, uint32_t length)
{
    uint32_t room = bins_find(b, length), bin;
    if (room == NONE) {
        bin = b->n++;
        room = b->capacity;
    } else {
        bin = b->first[room];
        b->first[room] = b->next[bin];
        if (b->first[room] == NONE) b->occurs[room / 64] &= ~(1ull << room % 64);
    }
    b->count[bin]++;
    room -= length;
    if (room == 0) return bin;
    b->next[bin] = b->first[room];
    b->first[room] = bin;
    b->occurs[room / 64] |= 1ull << room % 64;
    return bin;
}

/* Stable counting sort of a window by falling length. */
static void sort_window(uint32_t *sorted, const uint32_t *item, uint32_t n, const uint32_t *length,
                        uint32_t *slot, uint32_t capacity)
{
    memset(slot, 0, ((size_t)capacity + 2) * sizeof *slot);
    for (uint32_t i = 0; i < n; i++) slot[capacity - length[item[i]] + 1]++;
    for (uint32_t l = 0; l <= capacity; l++) slot[l + 1] += slot[l];
    for (uint32_t i = 0; i < n; i++) sorted[slot[capacity - length[item[i]]]++] = item[i];
}

uint32_t pack_best_fit(uint32_t **bin_start, uint32_t **item, const uint32_t *length, const uint32_t *order, uint32_t n,
                       uint32_t capacity, uint32_t window)
{
    assert(capacity > 0 && window > 0);
    scoped uint32_t *first = host_alloc((size_t)capacity + 1, sizeof *first);
    scoped uint64_t *occurs = host_alloc(capacity / 64 + 1, sizeof *occurs);
    scoped uint32_t *next = host_alloc((size_t)n + 1, sizeof *next), *count = host_alloc((size_t)n + 1, sizeof *count);
    scoped uint32_t *slot = host_alloc((size_t)capacity + 2, sizeof *slot);
    scoped uint32_t *sorted = host_alloc((size_t)n + 1, sizeof *sorted), *bin = host_alloc((size_t)n + 1, sizeof *bin);
    struct bins b = {capacity, first, occurs, next, count, 0};
    memset(first, 0xFF, ((size_t)capacity + 1) * sizeof *first);
    for (uint32_t start = 0, end; start < n; start = end) {
        end = n - start < window ? n : start + window;
        for (uint32_t i = start; i < end; i++) assert(length[order[i]] > 0 && length[order[i]] <= capacity);
        sort_window(sorted + start, order + start, end - start, length, slot, capacity);
        for (uint32_t i = start; i < end; i++) bin[i] = bins_place(&b, length[sorted[i]]);
    }

    /* group by bin, in the order of placing */
    *bin_start = host_alloc((size_t)b.n + 2, sizeof **bin_start);
    *item = host_alloc((size_t)n + 1, sizeof **item);
    for (uint32_t k = 0; k < b.n; k++) (*bin_start)[k + 2] = (*bin_start)[k + 1] + count[k];
    for (uint32_t i = 0; i < n; i++) (*item)[(*bin_start)[bin[i] + 1]++] = sorted[i];
    return b.n;
}

/* ---- epochs ---- */

/* Best fit looks at this many items at once: enough to fill bins well, few enough that long and short items stay
 * mixed. */
enum { WINDOW = 1024 };

static uint32_t *shuffled(uint32_t n, uint64_t seed, uint64_t epoch, uint64_t which)
{
    uint32_t *order = host_alloc(n, sizeof *order);
    struct rng r = rng_at(seed, RNG_SHUFFLE, epoch, which);
    rng_shuffle(order, n, &r);
    return order;
}

static void drop(struct epochs *e)
{
    free(e->bin_start);
    free(e->item);
    free(e->order);
    e->bin_start = e->item = e->order = NULL;
}

static void pack(struct epochs *e)
{
    scoped uint32_t *order = shuffled(e->n, e->seed, e->epoch, 0);
    drop(e);
    e->bins = pack_best_fit(&e->bin_start, &e->item, e->length, order, e->n, e->capacity, WINDOW);
    e->order = shuffled(e->bins, e->seed, e->epoch, 1);
}

void epochs_open(struct epochs *e, const uint32_t *length, uint32_t n, uint32_t capacity, uint64_t seed)
{
    assert(n > 0);
    *e = (struct epochs){.length = length, .n = n, .capacity = capacity, .seed = seed};
    pack(e);
}

void epochs_close(struct epochs *e)
{
    drop(e);
    *e = (struct epochs){0};
}

uint32_t epochs_bin(struct epochs *e, const uint32_t **item, uint64_t index)
{
    if (index < e->first) {
        e->epoch = e->first = 0;
        pack(e);
    }
    while (index - e->first >= e->bins) {
        e->first += e->bins;
        e->epoch++;
        pack(e);
    }
    uint32_t bin = e->order[index - e->first];
    *item = e->item + e->bin_start[bin];
    return e->bin_start[bin + 1] - e->bin_start[bin];
}
