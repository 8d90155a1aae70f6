/* shards_units.c - thousands of small files would make thousands of shards, one shard for all would be made anew
 * when one file changes: small files share a unit, large ones have their own. */
#include "common/data/shards.h"

static const uint64_t small_files = 16 << 20;       /* a unit is full when its files have this size */

struct entry { char *path; double weight; uint64_t size; int at, rank; };

static int by_path(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : x->at - y->at;
}

static int by_rank(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->rank != y->rank ? x->rank - y->rank : x->at - y->at;
}

/* Adds the weights of equal paths into the first; sorted by path.  Returns how many are left. */
static int join_equal(struct entry *e, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept > 0 && strcmp(e[kept - 1].path, e[i].path) == 0) {
            e[kept - 1].weight += e[i].weight;
            free(e[i].path);
        } else {
            e[kept++] = e[i];
        }
    }
    return kept;
}

/* rank: the number of the weight, in order of first appearance.  There are few different weights. */
static void rank_weights(struct entry *e, int n)
{
    scoped double *weight = host_alloc((size_t)n + 1, sizeof *weight);
    int weights = 0;
    for (int i = 0; i < n; i++) {
        int w = 0;
        while (w < weights && weight[w] != e[i].weight) w++;
        if (w == weights) weight[weights++] = e[i].weight;
        e[i].rank = w;
    }
}

static void sort_paths(struct paths *p)
{
    scoped struct entry *e = host_alloc((size_t)p->count + 1, sizeof *e);
    for (int i = 0; i < p->count; i++) e[i] = (struct entry){p->path[i], p->weight[i], p->size[i], i, 0};
    qsort(e, (size_t)p->count, sizeof *e, by_path);
    p->count = join_equal(e, p->count);
    qsort(e, (size_t)p->count, sizeof *e, by_rank);          /* back to the given order: all ranks are still 0 */
    rank_weights(e, p->count);
    qsort(e, (size_t)p->count, sizeof *e, by_rank);
    for (int i = 0; i < p->count; i++) {
        p->path[i] = e[i].path;
        p->weight[i] = e[i].weight;
        p->size[i] = e[i].size;
    }
}

int shard_units(struct shard_unit **unit, struct paths *paths)
{
    int n = 0;
    sort_paths(paths);
    struct shard_unit *u = *unit = host_alloc((size_t)paths->count + 1, sizeof *u);
    for (int i = 0; i < paths->count; i++) {
        if (n == 0 || u[n - 1].weight != paths->weight[i] || u[n - 1].bytes + paths->size[i] > small_files)
            u[n++] = (struct shard_unit){.path = paths->path + i, .weight = paths->weight[i]};
        u[n - 1].n++;
        u[n - 1].bytes += paths->size[i];
    }
    return n;
}
