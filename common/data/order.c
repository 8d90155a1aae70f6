/* order.c - a row is a window on the concatenated documents of its group, found through a small table (one number
 * every 512 documents) and read from the disk when it is needed: nothing grows with the corpus but that table.  The
 * order of an epoch is a keyed permutation evaluated at one point, so any row can be had at any time and a cursor is
 * one number. */
#include "common/base/rng.h"
#include "common/data/order_parts.h"

#include <assert.h>

uint64_t order_rows(const struct order *s, bool validation) { return s->rows[validation]; }
uint64_t order_tokens(const struct order *s, bool validation) { return s->tokens[validation]; }
uint64_t order_documents(const struct order *s, bool validation) { return s->documents[validation]; }
uint32_t order_identity(const struct order *s) { return s->identity; }

/* ---- order ---- */

/* A permutation of [0, n) evaluated at i, keyed by (seed, epoch, number): a balanced Feistel network on the next
 * even number of bits, walked until it falls into [0, n) (fewer than 4 times on average).
 * Source: Luby & Rackoff 1988; cycle walking: Black & Rogaway 2002. */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch, uint64_t number)
{
    enum { ROUNDS = 6 };
    int half = 1;
    while (half < 32 && n > 1ull << 2 * half) half++;
    uint64_t low = (1ull << half) - 1;
    do {
        uint64_t left = i >> half, right = i & low;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct rng r = rng_at(seed, RNG_SHUFFLE, epoch, number << 36 | round << 32 | right);
            uint64_t next = left ^ (rng_u32(&r) & low);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Group and row that training sample `index` shows. */
static const struct group *find_row(const struct order *s, uint64_t index, uint64_t *row)
{
    uint64_t epoch = index / s->rows[TRAINING];
    uint64_t at = permute(index % s->rows[TRAINING], s->rows[TRAINING], s->seed, epoch, 0);
    int g = 0;
    while (at >= s->group[g].times) at -= s->group[g++].times;
    /* an order of its own within the group, so that the fraction of a copy shows other rows in every epoch */
    *row = permute(at % s->group[g].rows, s->group[g].rows, s->seed, epoch, 1 + (uint64_t)g);
    return &s->group[g];
}

/* ---- rows ---- */

/* The last element of before[0..n) that is not above x (before[0] is 0). */
static uint64_t last_not_above(const uint64_t *before, uint64_t n, uint64_t x)
{
    uint64_t low = 0, high = n;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (before[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

/* Appends tokens [from, from + n) of a shard as one sequence; `more`: the document goes on behind them. */
static int append(struct batch *b, const struct shard *shard, uint64_t from, int n, bool more, struct error *error)
{
    int *tokens = b->tokens + b->N, *targets = b->targets + b->N;
    if (shard_tokens(shard, tokens, from, (size_t)n, error) != 0) return -1;
    memcpy(targets, tokens + 1, (size_t)(n - 1) * sizeof *targets);
    targets[n - 1] = tokens[n - 1];
    if (more && shard_tokens(shard, &targets[n - 1], from + (uint64_t)n, 1, error) != 0) return -1;
    memset(b->mask + b->N, 1, (size_t)n);
    b->mask[b->N + n - 1] = more;
    b->N += n;
    b->offsets[++b->S] = b->N;
    return 0;
}

/* Appends up to *left tokens of a shard, from position `at` of its split on. */
static int append_from(const struct order *s, struct batch *b, const struct placed *p, enum split split, uint64_t at,
                       int *left, struct error *error)
{
    const struct shard *shard = p->shard;
    uint64_t documents = shard->info.documents;
    if (documents == 0) return 0;
    uint64_t block = last_not_above(p->before[split], (documents + BLOCK - 1) / BLOCK, at);
    uint64_t seen = p->before[split][block];                /* tokens of the split before document i */
    struct shard_entry entry[BLOCK + 1] = {0};              /* entry[0]: the document before the block */
    if (block > 0) shard_entries(shard, entry, block * BLOCK - 1, 1);
    for (uint64_t i = block * BLOCK; i < documents && *left > 0; i++) {
        uint64_t begin, end, k = i % BLOCK;
        if (k == 0) {
            if (i > block * BLOCK) entry[0] = entry[BLOCK];
            shard_entries(shard, entry + 1, i, documents - i < BLOCK ? (size_t)(documents - i) : BLOCK);
        }
        order_part(s, split, entry[k].token_end, &entry[k + 1], &begin, &end);
        if (seen + (end - begin) > at) {
            begin += at - seen;
            int n = end - begin < (uint64_t)*left ? (int)(end - begin) : *left;
            if (append(b, shard, begin, n, begin + (uint64_t)n < end, error) != 0) return -1;
            *left -= n;
            at = seen = at + (uint64_t)n;                   /* the end of the document, or the row is full */
        } else {
            seen += end - begin;
        }
    }
    return 0;
}

int order_row(const struct order *s, bool validation, uint64_t index, struct batch *b, struct error *error)
{
    enum split split = validation ? VALIDATION : TRAINING;
    struct group all = {.end = s->n_placed};
    const struct group *g = &all;
    uint64_t row = index % (s->rows[split] ? s->rows[split] : 1);
    assert(s->rows[split] > 0);
    if (!validation) g = find_row(s, index, &row);
    uint64_t at = row * (uint64_t)s->row_tokens;
    int left = s->row_tokens, low = g->shard, high = g->end;
    while (high - low > 1) {                                /* the last shard that does not start behind `at` */
        int middle = low + (high - low) / 2;
        if (s->placed[middle].start[split] <= at) low = middle;
        else high = middle;
    }
    if (b->S == 0) b->offsets[0] = 0;
    for (int i = low; i < g->end && left > 0; i++) {
        uint64_t start = s->placed[i].start[split];
        if (append_from(s, b, &s->placed[i], split, at > start ? at - start : 0, &left, error) != 0) return -1;
    }
    return 0;
}
