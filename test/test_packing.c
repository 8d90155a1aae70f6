/* Properties of packing on random and on adversarial lengths, against a plain search for the best bin. */
#include "common/data/epochs.h"
#include "common/base/rng.h"
#include "test/test.h"

struct problem { uint32_t *length, *order, n, capacity, window; };

/* Every sequence once, no bin too full; bins from the lists agree with a direct search that tries all bins. */
static bool packs_well(const struct problem *p, uint32_t *bins_out)
{
    uint32_t *start, *item, bins = pack_best_fit(&start, &item, p->length, p->order, p->n, p->capacity, p->window);
    uint8_t *seen = host_alloc(p->n + 1, 1);
    bool ok = start[0] == 0 && start[bins] == p->n;
    for (uint32_t b = 0; b < bins && ok; b++) {
        uint64_t sum = 0;
        for (uint32_t i = start[b]; i < start[b + 1]; i++) {
            ok = ok && item[i] < p->n && !seen[item[i]]++;
            sum += p->length[item[i]];
        }
        ok = ok && sum <= p->capacity && start[b + 1] > start[b];
    }
    free(seen);
    free(start);
    free(item);
    *bins_out = bins;
    return ok;
}

/* Number of bins of best fit done the slow way. */
static uint32_t plain_best_fit(const struct problem *p)
{
    uint32_t *room = host_alloc(p->n + 1, 4), *item = host_alloc(p->n + 1, 4), bins = 0;
    for (uint32_t w = 0; w < p->n; w += p->window) {
        uint32_t end = p->n - w < p->window ? p->n : w + p->window;
        for (uint32_t i = w; i < end; i++) {                        /* insertion sort, longest first */
            uint32_t k = i;
            for (; k > w && p->length[item[k - 1]] < p->length[p->order[i]]; k--) item[k] = item[k - 1];
            item[k] = p->order[i];
        }
        for (uint32_t i = w; i < end; i++) {
            uint32_t best = bins, length = p->length[item[i]];
            for (uint32_t b = 0; b < bins; b++)
                if (room[b] >= length && (best == bins || room[b] < room[best])) best = b;
            if (best == bins) room[bins++] = p->capacity;
            room[best] -= length;
        }
    }
    free(room);
    free(item);
    return bins;
}

static void check_random(void)
{
    for (uint64_t trial = 0; trial < 300; trial++) {
        struct rng r = rng_at(5, RNG_TEST, 0, trial);
        struct problem p = {.n = (uint32_t)rng_below(&r, 400), .capacity = 1 + (uint32_t)rng_below(&r, 700)};
        p.window = 1 + (uint32_t)rng_below(&r, 150);
        p.length = host_alloc(p.n + 1, 4);
        p.order = host_alloc(p.n + 1, 4);
        uint64_t most = trial % 2 ? p.capacity : p.capacity / 8 + 1, bins_needed = 0;
        for (uint32_t i = 0; i < p.n; i++) {
            p.length[i] = 1 + (uint32_t)rng_below(&r, most);
            p.order[i] = i;
            bins_needed += p.length[i];
        }
        rng_shuffle(p.order, p.n, &r);
        uint32_t bins, again, slow = plain_best_fit(&p);
        CHECK(packs_well(&p, &bins) && packs_well(&p, &again) && bins == again);
        CHECK(bins == slow);
        CHECK(bins >= (bins_needed + p.capacity - 1) / p.capacity);
        free(p.length);
        free(p.order);
    }
}

/* Lengths as of dialogues: at least 98 % of the room is used when longest-first has a window to choose from. */
static void check_efficiency(void)
{
    struct problem p = {.n = 20000, .capacity = 1024, .window = 4096};
    struct rng r = rng_at(6, RNG_TEST, 0, 0);
    p.length = host_alloc(p.n, 4);
    p.order = host_alloc(p.n, 4);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p.n; i++) {
        double normal[2];
        rng_normal_pair(&r, normal);
        double length = exp(5 + 0.8 * normal[0]);
        p.length[i] = (uint32_t)fmax(1, fmin(length, 1024));
        p.order[i] = i;
        sum += p.length[i];
    }
    uint32_t bins;
    CHECK(packs_well(&p, &bins));
    CHECK((double)sum / ((double)bins * 1024) > 0.98);
    free(p.length);
    free(p.order);
}

int main(void)
{
    uint32_t length[] = {6, 5, 4, 3, 2}, order[] = {0, 1, 2, 3, 4}, *start, *item;
    uint32_t bins = pack_best_fit(&start, &item, length, order, 5, 10, 1);
    /* 6 | 5 | 4 joins 6 (room 4 fits best) | 3 joins 5 | 2 joins 5, 3 */
    CHECK(bins == 2 && start[1] == 2 && item[0] == 0 && item[1] == 2 && item[2] == 1 && item[3] == 3 && item[4] == 4);
    free(start);
    free(item);
    CHECK(pack_best_fit(&start, &item, length, order, 0, 10, 8) == 0 && start[0] == 0);
    free(start);
    free(item);
    check_random();
    check_efficiency();
    return test_end("test_packing");
}
