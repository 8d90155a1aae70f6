/* comm.c - sums in rank order out of copies.  Engines add in orders of their own choosing, which may change with the
 * size of a message; copies are exact everywhere.  So every rank sends every other its piece, and the owner adds: d
 * ranks have the bits of one that adds d times. */
#define _GNU_SOURCE
#include "common/base/trace.h"
#include "common/comm/control.h"
#include "common/comm/launch.h"
#include "common/model/comm.h"
#include "common/model/device.h"
#include "common/model/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STRIP = 1 << 18 };                /* floats of a sum that are under way at once, per peer, at most */

struct sum { enum group g; float *x, *room; size_t n; };

struct comm {
    struct place place;
    struct engine *engine;
    struct control *control;
    float *strip, *sum;                  /* device: 2 strips per rank, by turns; and a strip's sum */
    struct sum bucket;                   /* under way; x NULL: none */
    char *parts;                         /* device: what comm_sum gets */
    size_t strip_floats, parts_bytes;
    const char *under_way;               /* what was begun and is not waited for yet, since when, bytes sent */
    double begun;
    size_t sent;
};

int comm_open(struct comm **out, const char *folder, int t, int p, struct error *error)
{
    struct crew crew, launched;
    struct engine *engine;
    struct control *control;
    *out = NULL;
    if (launch_find(&launched, error) != 0) return -1;
    if (launched.world == 1) return 0;
    crew = launched;
    if (engine_open(&engine, &crew, error) != 0) return -1;
    if (crew.world != launched.world) {
        engine_close(engine);
        return fail(error, EXIT_UNAVAILABLE, "started as one of %d processes, but %s finds %d: start them with the "
                    "launcher of that library (with srun: --mpi=pmix)", launched.world, engine_name(), crew.world);
    }
    char *path = launch_meeting(folder);
    int failed = control_open(&control, engine, &crew, path, error);
    free(path);
    if (failed) return -1;
    struct comm *c = *out = host_alloc(1, sizeof *c);
    c->engine = engine;
    c->control = control;
    c->place = (struct place){.rank = crew.rank, .world = crew.world, .tensor = crew.rank % t, .t = t,
                              .data = crew.rank / t % int_max(crew.world / (t * p), 1), .d = crew.world / (t * p),
                              .pipe = crew.rank / int_max(crew.world / p, 1), .p = p,
                              .local = crew.local, .locals = crew.locals};
    return 0;
}

/* Ranks of one host have its name. */
int comm_connect(struct comm *c, struct error *error)
{
    if (!c) return 0;
    if (engine_connect(c->engine, error) != 0) return -1;
    if (c->place.locals > 0) return 0;
    char mine[64] = {0}, (*all)[64] = host_alloc((size_t)c->place.world, sizeof *all);
    gethostname(mine, sizeof mine - 1);
    comm_gather_host(c, GROUP_WORLD, all, mine, sizeof mine);
    for (int r = 0; r < c->place.world; r++) c->place.locals += memcmp(all[r], mine, sizeof mine) == 0;
    free(all);
    return 0;
}

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

void comm_close(struct comm *c)
{
    if (!c) return;
    control_close(c->control);
    engine_close(c->engine);
    free(c);
}

struct place comm_place(const struct comm *c)
{
    return c ? c->place : (struct place){.world = 1, .t = 1, .d = 1, .p = 1, .locals = 1};
}

const char *comm_engine(void) { return engine_name(); }

/* How many ranks the group has, and which of them this one is. */
static int members(const struct comm *c, enum group g, int *mine)
{
    struct place p = comm_place(c);
    const int place[] = {p.rank, p.tensor, p.data, p.pipe, p.pipe > 0};
    const int ranks[] = {p.world, p.t, p.d, p.p, int_min(p.p, 2)};
    *mine = place[g];
    return ranks[g];
}

static int rank_at(const struct place *p, int tensor, int data, int pipe)
{
    return tensor + p->t * (data + p->d * pipe);
}

/* The rank that is number i of the group. */
static int rank_of(const struct comm *c, enum group g, int i)
{
    const struct place *p = &c->place;
    switch (g) {
    case GROUP_WORLD: break;
    case GROUP_TENSOR: return rank_at(p, i, p->data, p->pipe);
    case GROUP_DATA: return rank_at(p, p->tensor, i, p->pipe);
    case GROUP_PIPE: return rank_at(p, p->tensor, p->data, i);
    case GROUP_ENDS: return rank_at(p, p->tensor, p->data, i ? p->p - 1 : 0);
    }
    return i;
}

int comm_rank_of(const struct comm *c, int data, int pipe) { return rank_at(&c->place, c->place.tensor, data, pipe); }

void comm_watch(struct comm *c, double stall, void (*tell)(void *self, const char *sentence), void *self)
{
    if (c) control_watch(c->control, stall, tell, self);
}

/* For a trace: what was begun first since the last wait names all of it. */
static void begin(struct comm *c, const char *name, const struct transfer *t, int n)
{
    if (!c->under_way) c->begun = trace_now();
    if (!c->under_way) c->under_way = name;
    for (int i = 0; i < n; i++) c->sent += t[i].send ? t[i].bytes : 0;
    engine_start(c->engine, t, n);
}

static void wait(struct comm *c)
{
    if (c->under_way) trace_begin("wait");
    control_waiting(c->control, true);
    engine_wait(c->engine);
    control_waiting(c->control, false);
    if (!c->under_way) return;
    trace_end();
    trace_transfer(c->under_way, c->begun, c->sent);
    c->under_way = NULL;
    c->sent = 0;
}

/* ---- device memory ---- */

/* Elements from..to of an array in pieces, at x. */
struct range { const float *x; size_t from, to, piece; };

/* Those of rank r's piece, from `at` on and at most a strip: their number, and *data, where the first of them is. */
static size_t strip_of(const struct comm *c, const struct range *g, int r, size_t at, const float **data)
{
    size_t from = (size_t)r * g->piece, to = from + g->piece;
    if (from < g->from) from = g->from;
    if (to > g->to) to = g->to;
    from += at;
    *data = g->x + (from - g->from);
    return from >= to ? 0 : to - from < c->strip_floats ? to - from : c->strip_floats;
}

/* Asks for every peer's part of the strip at `at` of my piece, and sends mine of theirs. */
static void exchange_strip(struct comm *c, enum group group, const struct range *g, size_t at, int turn)
{
    int d = c->place.d, me = c->place.data, n = 0;
    const float *data;
    size_t mine = strip_of(c, g, me, at, &data);
    struct transfer *t = host_alloc(2 * (size_t)d, sizeof *t);
    for (int r = 0; r < d && mine > 0; r++)
        if (r != me) t[n++] = (struct transfer){c->strip + (size_t)(2 * r + turn) * c->strip_floats, mine * sizeof(float),
                                              rank_of(c, group, r), false, true};
    for (int r = 0; r < d; r++) {
        size_t length = strip_of(c, g, r, at, &data);
        if (r == me || length == 0) continue;
        t[n++] = (struct transfer){(void *)data, length * sizeof(float), rank_of(c, group, r), true, true};
    }
    if (n) begin(c, "sum_scatter", t, n);
    free(t);
}

static void add_strip(struct comm *c, float *sum, const float *x, size_t length, int turn, bool add_to)
{
    if (add_to) device_copy(c->sum, sum, length * sizeof *sum);
    else fill(c->sum, 0, length);
    for (int r = 0; r < c->place.d; r++)
        add(c->sum, r == c->place.data ? x : c->strip + (size_t)(2 * r + turn) * c->strip_floats, length);
    device_copy(sum, c->sum, length * sizeof *sum);
}

void comm_sum_scatter(struct comm *c, enum group g, float *sum, const float *x, size_t from, size_t to, size_t piece,
                      bool add_to)
{
    int me, d = members(c, g, &me);
    struct range range = {x, from, to, piece};
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
        wait(c);
        exchange_strip(c, g, &range, at + c->strip_floats, (int)turn ^ 1);
        size_t in_piece = from + (size_t)(mine - x) - (size_t)me * piece;
        if (length > 0) add_strip(c, sum + in_piece, mine, length, (int)turn, add_to);
    }
    wait(c);
}

/* Where piece r of n things begins, and how many it has. */
static size_t piece_of(size_t n, size_t piece, int r, size_t *from)
{
    *from = (size_t)r * piece < n ? (size_t)r * piece : n;
    return n - *from < piece ? n - *from : piece;
}

void comm_sum_piece(struct comm *c, enum group g, void *x, size_t n, size_t piece, enum number k)
{
    int me, ranks = members(c, g, &me), moves = 0;
    size_t size = k == NUMBER_FLOAT ? sizeof(float) : sizeof(act_t), first, mine = piece_of(n, piece, me, &first);
    if (ranks == 1) return;
    if (c->parts_bytes < (size_t)ranks * mine * size)
        die("a sum of %zu bytes over ranks, but comm_take has taken scratch for %zu", n * size, c->parts_bytes);
    struct transfer *move = host_alloc(2 * (size_t)ranks, sizeof *move);
    for (int r = 0; r < ranks; r++) {
        size_t at, length = piece_of(n, piece, r, &at);
        int peer = rank_of(c, g, r);
        if (r == me) continue;
        if (mine > 0)
            move[moves++] = (struct transfer){c->parts + (size_t)r * mine * size, mine * size, peer, false, true};
        if (length > 0) move[moves++] = (struct transfer){(char *)x + at * size, length * size, peer, true, true};
    }
    if (mine > 0) device_copy(c->parts + (size_t)me * mine * size, (char *)x + first * size, mine * size);
    if (moves > 0) begin(c, "sum", move, moves);
    free(move);
    wait(c);
    if (mine > 0 && k == NUMBER_ACT) acts_sum((act_t *)x + first, (act_t *)(void *)c->parts, ranks, mine);
    if (mine > 0 && k == NUMBER_FLOAT) {
        device_copy((float *)x + first, c->parts, mine * size);
        for (int r = 1; r < ranks; r++) add((float *)x + first, (float *)(void *)c->parts + (size_t)r * mine, mine);
    }
}

/* ---- buckets ---- */

bool comm_overlaps(const struct comm *c) { return c && engine_overlaps(); }

/* How much of n floats part r has. */
static size_t part_length(size_t n, int ranks, int r)
{
    size_t part = comm_part(n, ranks), from = (size_t)r * part;
    return from >= n ? 0 : n - from < part ? n - from : part;
}

void comm_bucket(struct comm *c, enum group g, float *x, size_t n, float *room)
{
    int me, d = members(c, g, &me), moves = 0;
    size_t part = comm_part(n, d), mine = part_length(n, d, me) * sizeof *x;
    comm_bucket_end(c);
    struct transfer *t = host_alloc(2 * (size_t)d, sizeof *t);
    for (int r = 0; r < d; r++) {
        size_t theirs = part_length(n, d, r) * sizeof *x, at = (size_t)r * part;
        if (r == me) continue;
        if (mine > 0) t[moves++] = (struct transfer){room + at, mine, rank_of(c, g, r), false, true};
        if (theirs > 0) t[moves++] = (struct transfer){x + at, theirs, rank_of(c, g, r), true, true};
    }
    begin(c, "bucket", t, moves);
    free(t);
    c->bucket = (struct sum){g, x, room, n};
}

void comm_bucket_end(struct comm *c)
{
    if (!c->bucket.x) return;
    int me, d = members(c, c->bucket.g, &me);
    size_t part = comm_part(c->bucket.n, d), mine = part_length(c->bucket.n, d, me);
    float *sum = c->bucket.room + (size_t)me * part, *own = c->bucket.x + (size_t)me * part;
    wait(c);
    c->bucket.x = NULL;
    if (mine == 0) return;
    fill(sum, 0, mine);
    for (int r = 0; r < d; r++) add(sum, r == me ? own : c->bucket.room + (size_t)r * part, mine);
    device_copy(own, sum, mine * sizeof *own);
}

/* All in one go, so that every rank sends and receives at the same time. */
void comm_bucket_home(struct comm *c, enum group g, float *x, const struct bucket *bucket, int n, size_t piece)
{
    int me, d = members(c, g, &me), moves = 0;
    struct transfer *t = host_alloc(2 * (size_t)(n * d), sizeof *t);
    for (int b = 0; b < n; b++)
        for (int r = 0; r < d; r++)                             /* has summed */
            for (int k = 0; k < d; k++) {                       /* is to have */
                size_t from = bucket[b].from + (size_t)r * comm_part(bucket[b].n, d);
                size_t to = from + part_length(bucket[b].n, d, r), first = (size_t)k * piece, end = first + piece;
                if (from < first) from = first;
                if (to > end) to = end;
                if (r == k || (r != me && k != me) || from >= to) continue;
                t[moves++] = (struct transfer){x + from, (to - from) * sizeof *x, rank_of(c, g, r == me ? k : r), r == me,
                                               true};
            }
    if (moves) begin(c, "bucket_home", t, moves);
    free(t);
    wait(c);
}

/* Every rank adds up a piece, and gives it to the others; as much at once as there is scratch for. */
void comm_sum(struct comm *c, enum group g, float *x, size_t n)
{
    int me;
    size_t ranks = (size_t)members(c, g, &me);
    if (ranks == 1) return;
    for (size_t most = c->parts_bytes / sizeof *x / ranks * ranks, left; n > 0; n -= left, x += left) {
        left = n < most ? n : most;
        size_t piece = (left + ranks - 1) / ranks, bytes = piece * sizeof *x;
        comm_sum_piece(c, g, x, left, piece, NUMBER_FLOAT);
        comm_gather_range(c, g, x, x + (size_t)me * piece, 0, left * sizeof *x, bytes);
        wait(c);
    }
}

/* Every rank's piece to every other. */
static void gather(struct comm *c, enum group g, char *all, const void *mine, size_t bytes, bool device)
{
    int me, size = members(c, g, &me), n = 0;
    struct transfer *t = host_alloc(2 * (size_t)size, sizeof *t);
    for (int r = 0; r < size; r++)
        if (r != me) t[n++] = (struct transfer){all + (size_t)r * bytes, bytes, rank_of(c, g, r), false, device};
    for (int r = 0; r < size; r++)
        if (r != me) t[n++] = (struct transfer){(void *)mine, bytes, rank_of(c, g, r), true, device};
    if (n) begin(c, "gather", t, n);
    free(t);
}

void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me;
    members(c, g, &me);
    if ((char *)all + (size_t)me * bytes != mine) device_copy((char *)all + (size_t)me * bytes, mine, bytes);
    gather(c, g, all, mine, bytes, true);
}

void comm_gather_range(struct comm *c, enum group g, void *x, const void *mine, size_t from, size_t to, size_t piece)
{
    int me, d = members(c, g, &me), n = 0;
    struct transfer *t = host_alloc(2 * (size_t)d, sizeof *t);
    size_t own = (size_t)me * piece, lo = from > own ? from : own, hi = to < own + piece ? to : own + piece;
    const char *send = (const char *)mine + (lo - own);
    char *all = x;
    if (lo < hi && send != all + (lo - from)) device_copy(all + (lo - from), send, hi - lo);
    for (int r = 0; r < d; r++) {
        size_t first = (size_t)r * piece, a = from > first ? from : first, b = to < first + piece ? to : first + piece;
        int peer = rank_of(c, g, r);
        if (r != me && a < b) t[n++] = (struct transfer){all + (a - from), b - a, peer, false, true};
        if (r != me && lo < hi) t[n++] = (struct transfer){(void *)send, hi - lo, peer, true, true};
    }
    if (n) begin(c, "gather", t, n);
    free(t);
}

static void share(struct comm *c, enum group g, void *x, size_t bytes, int from, bool device)
{
    int me, size = members(c, g, &me);
    for (int r = 0; r < size; r++) {
        if ((me == from) == (r == from)) continue;                  /* neither is `from`, or both */
        int peer = me == from ? r : from;
        begin(c, "share", &(struct transfer){x, bytes, rank_of(c, g, peer), me == from, device}, 1);
    }
}

void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from) { share(c, g, x, bytes, from, true); }

void comm_wait(struct comm *c)
{
    if (c) wait(c);
}

void comm_exchange(struct comm *c, enum group g, const struct parcel *out, const struct parcel *in)
{
    struct transfer t[2];
    int n = 0;
    if (in->bytes) t[n++] = (struct transfer){in->data, in->bytes, rank_of(c, g, in->peer), false, true};
    if (out->bytes) t[n++] = (struct transfer){out->data, out->bytes, rank_of(c, g, out->peer), true, true};
    if (n == 0) return;
    begin(c, "exchange", t, n);
    wait(c);
}

/* ---- host memory ---- */

void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me;
    members(c, g, &me);
    memmove((char *)all + (size_t)me * bytes, mine, bytes);
    gather(c, g, all, (char *)all + (size_t)me * bytes, bytes, false);
    comm_wait(c);
}

void comm_share_host(struct comm *c, enum group g, void *x, size_t bytes, int from)
{
    share(c, g, x, bytes, from, false);
    comm_wait(c);
}

void comm_send_host(struct comm *c, const void *x, size_t bytes, int to)
{
    begin(c, "send", &(struct transfer){(void *)x, bytes, to, true, false}, 1);
    wait(c);
}

void comm_receive_host(struct comm *c, void *x, size_t bytes, int from)
{
    begin(c, "receive", &(struct transfer){x, bytes, from, false, false}, 1);
    wait(c);
}

void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima)
{
    int me, size = members(c, g, &me), n = n_sums + n_maxima;
    if (size == 1 || n == 0) return;
    double *all = host_alloc((size_t)(size * n), sizeof *all);
    comm_gather_host(c, g, all, x, (size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) x[i] = all[i];
    for (int r = 1; r < size; r++)
        for (int i = 0; i < n; i++) x[i] = i < n_sums ? x[i] + all[r * n + i] : fmax(x[i], all[r * n + i]);
    free(all);
}

/* ---- ends ---- */

int comm_agree(struct comm *c, int status, struct error *error)
{
    int me, size = members(c, GROUP_WORLD, &me), code = status ? error->exit_code : 0, first = -1;
    if (size == 1) return status;
    int *all = host_alloc((size_t)size, sizeof *all);
    comm_gather_host(c, GROUP_WORLD, all, &code, sizeof code);
    for (int r = 0; r < size; r++)
        if (all[r] && (first < 0 || (all[first] == EXIT_STOPPED && all[r] != EXIT_STOPPED))) first = r;
    free(all);
    if (first < 0) return 0;
    comm_share_host(c, GROUP_WORLD, error, sizeof *error, first);
    if (first > 0 && error->exit_code != EXIT_STOPPED) fail_in(error, "rank %d", first);
    return -1;
}

static void barrier(struct comm *c)
{
    double all[1 << 12], mine = 0;
    if (c->place.world > 1 << 12) die("%d ranks", c->place.world);
    comm_gather_host(c, GROUP_WORLD, all, &mine, sizeof mine);
}

void comm_turn_begin(struct comm *c)
{
    if (c && c->place.rank > 0) barrier(c);
}

void comm_turn_end(struct comm *c)
{
    if (c && c->place.rank == 0) barrier(c);
}

/* What all ranks find alike rank 0 says: the others give it the time to end them. */
void comm_leave(void *self, int exit_code, const char *sentence)
{
    struct comm *c = self;
    if (!c) return;
    if (c->place.rank > 0) usleep(300000);
    control_leave(c->control, exit_code, sentence);
}
