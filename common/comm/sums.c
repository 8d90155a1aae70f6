/* sums.c - sums in rank order out of copies.  Engines add in orders of their own choosing, which may change with the
 * size of a message; copies are exact everywhere.  So every rank sends every other its piece, and the owner adds: d
 * ranks have the bits of one that adds d times. */
#include "common/comm/engine.h"
#include "common/comm/parts.h"
#include "common/model/device.h"
#include "common/model/ops.h"

enum { STRIP = 1 << 18 };                /* floats of a sum that are under way at once, per peer, at most */

/* Of several models the largest serves all: what lies there does not outlive a call. */
void comm_take(struct comm *c, struct memory *memory, size_t piece, size_t bytes)
{
    if (!c) return;
    size_t d = (size_t)c->place.d, floats = d == 1 ? 0 : piece < STRIP ? piece : STRIP;
    float *strip = memory_take(memory, MEMORY_WORK, (2 * d + 1) * floats, sizeof *strip);
    if (c->place.t == 1 && c->place.p == 1) bytes = 0;
    char *parts = memory_take(memory, MEMORY_WORK, bytes, 1);
    if (floats >= c->strip_floats) {
        c->strip = strip;
        c->sum = strip ? strip + 2 * d * floats : NULL;
        c->strip_floats = floats;
    }
    if (bytes >= c->parts_bytes) {
        c->parts = parts;
        c->parts_bytes = bytes;
    }
}

/* Each rank sends the others their pieces of the n things of `size` bytes at x, and gets what they have of its own:
 * that of rank r to room, behind r times `stride` things.  Returns this rank's piece. */
static struct span exchange_pieces(struct comm *c, enum group g, const char *name, const void *x, size_t n,
                                   size_t piece, size_t size, void *room, size_t stride)
{
    int me, ranks = comm_members(c, g, &me);
    struct span mine = in_piece((struct span){0, n}, piece, me);
    for (int r = 0; r < ranks; r++) {
        struct span theirs = in_piece((struct span){0, n}, piece, r);
        comm_move(c, g, r, GET, (char *)room + (size_t)r * stride * size, length_of(mine) * size);
        comm_move(c, g, r, GIVE, (const char *)x + theirs.from * size, length_of(theirs) * size);
    }
    comm_begin(c, name);
    return mine;
}

/* ---- in pieces ---- */

/* Elements of an array in pieces, at x. */
struct range { const float *x; struct span all; size_t piece; };

/* Those of rank r's piece, from `at` on and at most a strip: their number, and *data, where the first of them is. */
static size_t strip_of(const struct comm *c, const struct range *g, int r, size_t at, const float **data)
{
    struct span s = in_piece(g->all, g->piece, r);
    s.from += at;
    *data = g->x + (s.from - g->all.from);
    return s.from >= s.to ? 0 : length_of(s) < c->strip_floats ? length_of(s) : c->strip_floats;
}

static float *strip_at(const struct comm *c, int r, int turn)
{
    return c->strip + (size_t)(2 * r + turn) * c->strip_floats;
}

/* Asks for every peer's part of the strip at `at` of my piece, and sends mine of theirs. */
static void exchange_strip(struct comm *c, enum group group, const struct range *g, size_t at, int turn)
{
    const float *data;
    size_t mine = strip_of(c, g, c->place.data, at, &data);
    for (int r = 0; r < c->place.d; r++) {
        size_t theirs = strip_of(c, g, r, at, &data);
        comm_move(c, group, r, GET, strip_at(c, r, turn), mine * sizeof *data);
        comm_move(c, group, r, GIVE, data, theirs * sizeof *data);
    }
    comm_begin(c, "sum_scatter");
}

static void add_strip(struct comm *c, float *sum, const float *x, size_t length, int turn, bool add_to)
{
    if (add_to) device_copy(c->sum, sum, length * sizeof *sum);
    else fill(c->sum, 0, length);
    for (int r = 0; r < c->place.d; r++) add(c->sum, r == c->place.data ? x : strip_at(c, r, turn), length);
    device_copy(sum, c->sum, length * sizeof *sum);
}

void comm_sum_scatter(struct comm *c, enum group g, float *sum, const float *x, size_t from, size_t to, size_t piece,
                      bool add_to)
{
    int me, d = comm_members(c, g, &me);
    struct range range = {x, {from, to}, piece};
    if (d == 1) {
        if (add_to) add(sum + from, x, to - from);
        else if (sum + from != x) device_copy(sum + from, x, (to - from) * sizeof *x);
        return;
    }
    if (!c->strip) die("a sum over ranks needs scratch before comm_take has taken it");
    exchange_strip(c, g, &range, 0, 0);
    for (size_t at = 0, turn = 0; at < piece && at < to - from; at += c->strip_floats, turn ^= 1) {
        const float *mine;
        size_t length = strip_of(c, &range, me, at, &mine);
        comm_wait(c);
        exchange_strip(c, g, &range, at + c->strip_floats, (int)turn ^ 1);
        size_t within = from + (size_t)(mine - x) - (size_t)me * piece;
        if (length > 0) add_strip(c, sum + within, mine, length, (int)turn, add_to);
    }
}

void comm_sum_piece(struct comm *c, enum group g, void *x, size_t n, size_t piece, enum number k)
{
    int me, ranks = comm_members(c, g, &me);
    size_t size = k == NUMBER_FLOAT ? sizeof(float) : sizeof(act_t);
    size_t count = length_of(in_piece((struct span){0, n}, piece, me));
    if (ranks == 1) return;
    if (c->parts_bytes < (size_t)ranks * count * size)
        die("a sum of %zu bytes over ranks, but comm_take has taken scratch for %zu", n * size, c->parts_bytes);
    struct span mine = exchange_pieces(c, g, "sum", x, n, piece, size, c->parts, count);
    char *own = (char *)x + mine.from * size;
    if (count > 0) device_copy(c->parts + (size_t)me * count * size, own, count * size);
    comm_wait(c);
    if (count > 0 && k == NUMBER_ACT) acts_sum((act_t *)(void *)own, (act_t *)(void *)c->parts, ranks, count);
    if (count > 0 && k == NUMBER_FLOAT) {
        device_copy(own, c->parts, count * size);
        for (int r = 1; r < ranks; r++) add((float *)(void *)own, (float *)(void *)c->parts + (size_t)r * count, count);
    }
}

/* Every rank adds up a piece, and gives it to the others; as much at once as there is scratch for. */
void comm_sum(struct comm *c, enum group g, float *x, size_t n)
{
    int me;
    size_t ranks = (size_t)comm_members(c, g, &me);
    if (ranks == 1) return;
    for (size_t most = c->parts_bytes / sizeof *x / ranks * ranks, left; n > 0; n -= left, x += left) {
        left = n < most ? n : most;
        size_t piece = (left + ranks - 1) / ranks, bytes = piece * sizeof *x;
        comm_sum_piece(c, g, x, left, piece, NUMBER_FLOAT);
        comm_gather_range(c, g, x, x + (size_t)me * piece, 0, left * sizeof *x, bytes);
        comm_wait(c);
    }
}

/* ---- buckets ---- */

bool comm_overlaps(const struct comm *c) { return c && engine_overlaps(); }

void comm_bucket(struct comm *c, enum group g, float *x, size_t n, float *room)
{
    int me;
    size_t part = comm_part(n, comm_members(c, g, &me));
    comm_bucket_end(c);
    exchange_pieces(c, g, "bucket", x, n, part, sizeof *x, room, part);
    c->bucket = (struct sum){g, x, room, n};
}

void comm_bucket_end(struct comm *c)
{
    struct sum b = c->bucket;
    if (!b.x) return;
    int me, d = comm_members(c, b.g, &me);
    size_t part = comm_part(b.n, d), mine = length_of(in_piece((struct span){0, b.n}, part, me));
    float *sum = b.room + (size_t)me * part, *own = b.x + (size_t)me * part;
    comm_wait(c);
    c->bucket.x = NULL;
    if (mine == 0) return;
    fill(sum, 0, mine);
    for (int r = 0; r < d; r++) add(sum, r == me ? own : b.room + (size_t)r * part, mine);
    device_copy(own, sum, mine * sizeof *own);
}

/* All in one go, so that every rank sends and receives at the same time. */
void comm_bucket_home(struct comm *c, enum group g, float *x, const struct bucket *bucket, int n, size_t piece)
{
    int me, d = comm_members(c, g, &me);
    for (int b = 0; b < n; b++)
        for (int r = 0; r < d; r++)                             /* has summed */
            for (int k = 0; k < d; k++) {                       /* is to have */
                if (r != me && k != me) continue;
                struct span s = in_piece((struct span){0, bucket[b].n}, comm_part(bucket[b].n, d), r);
                s = in_piece((struct span){bucket[b].from + s.from, bucket[b].from + s.to}, piece, k);
                if (r == me) comm_move(c, g, k, GIVE, x + s.from, length_of(s) * sizeof *x);
                else comm_move(c, g, r, GET, x + s.from, length_of(s) * sizeof *x);
            }
    comm_begin(c, "bucket_home");
    comm_wait(c);
}
