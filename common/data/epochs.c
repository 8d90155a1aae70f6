/* epochs.c - one epoch is packed at a time; the next when a bin beyond it is asked for. */
#include "common/data/epochs.h"
#include "common/data/packing.h"
#include "common/base/rng.h"

#include <assert.h>
#include <stdlib.h>

/* Best fit looks at this many items at once: enough to fill bins well, few enough that long and short items stay
 * mixed. */
enum { WINDOW = 1024 };

static uint32_t *shuffled(uint32_t n, uint64_t seed, uint64_t epoch, uint64_t which)
{
    uint32_t *order = host_alloc(n, sizeof *order);
    struct rng r = rng_at(seed, RNG_SHUFFLE, epoch, which);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
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
    uint32_t *order = shuffled(e->n, e->seed, e->epoch, 0);
    drop(e);
    e->bins = pack_best_fit(&e->bin_start, &e->item, e->length, order, e->n, e->capacity, WINDOW);
    e->order = shuffled(e->bins, e->seed, e->epoch, 1);
    free(order);
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
