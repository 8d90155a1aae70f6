/* comm.c - sums in rank order out of copies.  Engines add in orders of their own choosing, which may change with the
 * size of a message; copies are exact everywhere.  So every rank sends every other its piece, and the owner adds: d
 * ranks have the bits of one that adds d times. */
#define _GNU_SOURCE
#include "common/base/trace.h"
#include "common/comm/control.h"
#include "common/model/comm.h"
#include "common/model/device.h"
#include "common/model/ops.h"

#include <math.h>
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
    struct transfer *move;               /* to be begun next */
    int moves;
    const char *under_way;               /* what was begun and is not waited for yet, since when, bytes sent */
    double begun;
    size_t sent;
};

int comm_open(struct comm **out, const char *folder, int t, int p, struct error *error)
{
    struct crew launched;
    struct engine *engine;
    struct control *control;
    *out = NULL;
    if (launch_find(&launched, error) != 0) return -1;
    if (launched.world == 1) return 0;
    struct crew crew = launched;
    if (engine_open(&engine, &crew, error) != 0) return -1;
    if (crew.world != launched.world) {
        engine_close(engine);
        return fail(error, EXIT_UNAVAILABLE, "started as one of %d processes, but %s finds %d: start them with the "
                    "launcher of that library (with srun: --mpi=pmix)", launched.world, engine_name(), crew.world);
    }
    scoped char *path = launch_meeting(folder);
    if (control_open(&control, engine, &crew, path, error) != 0) return -1;
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
    char mine[64] = {0};
    scoped char (*all)[64] = host_alloc((size_t)c->place.world, sizeof *all);
    gethostname(mine, sizeof mine - 1);
    comm_gather_host(c, GROUP_WORLD, all, mine, sizeof mine);
    for (int r = 0; r < c->place.world; r++) c->place.locals += memcmp(all[r], mine, sizeof mine) == 0;
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
    free(c->move);
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

/* ---- transfers ---- */

enum way { GIVE, GIVE_HOST, GET, GET_HOST };

/* Bytes to or from member r of the group, when the next begin starts them; none with itself. */
static void move(struct comm *c, enum group g, int r, enum way way, const void *data, size_t bytes)
{
    int me;
    members(c, g, &me);
    if (r == me || bytes == 0) return;
    c->move = host_append(c->move, (size_t)c->moves, 1, sizeof *c->move);
    c->move[c->moves++] = (struct transfer){(void *)data, bytes, rank_of(c, g, r), way <= GIVE_HOST,
                                            way == GIVE || way == GET};
}

/* For a trace: what was begun first since the last wait names all of it. */
static void begin(struct comm *c, const char *name)
{
    if (!c || c->moves == 0) return;
    if (!c->under_way) c->begun = trace_now();
    if (!c->under_way) c->under_way = name;
    for (int i = 0; i < c->moves; i++) c->sent += c->move[i].send ? c->move[i].bytes : 0;
    engine_start(c->engine, c->move, c->moves);
    c->moves = 0;
}

void comm_wait(struct comm *c)
{
    if (!c) return;
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

/* ---- pieces ---- */

struct span { size_t from, to; };

static struct span overlap(struct span a, struct span b)
{
    size_t from = a.from > b.from ? a.from : b.from, to = a.to < b.to ? a.to : b.to;
    return (struct span){from, to > from ? to : from};
}

static size_t length_of(struct span s) { return s.to - s.from; }

/* What lies in piece r of what is in pieces of this size. */
static struct span in_piece(struct span all, size_t piece, int r)
{
    return overlap(all, (struct span){(size_t)r * piece, ((size_t)r + 1) * piece});
}

/* Each rank sends the others their pieces of the n things of `size` bytes at x, and gets what they have of its own:
 * that of rank r to room, behind r times `stride` things.  Returns this rank's piece. */
static struct span exchange_pieces(struct comm *c, enum group g, const char *name, const void *x, size_t n,
                                   size_t piece, size_t size, void *room, size_t stride)
{
    int me, ranks = members(c, g, &me);
    struct span mine = in_piece((struct span){0, n}, piece, me);
    for (int r = 0; r < ranks; r++) {
        struct span theirs = in_piece((struct span){0, n}, piece, r);
        move(c, g, r, GET, (char *)room + (size_t)r * stride * size, length_of(mine) * size);
        move(c, g, r, GIVE, (const char *)x + theirs.from * size, length_of(theirs) * size);
    }
    begin(c, name);
    return mine;
}

/* ---- device memory ---- */

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
        move(c, group, r, GET, strip_at(c, r, turn), mine * sizeof *data);
        move(c, group, r, GIVE, data, theirs * sizeof *data);
    }
    begin(c, "sum_scatter");
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
    int me, d = members(c, g, &me);
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
    int me, ranks = members(c, g, &me);
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

/* ---- buckets ---- */

bool comm_overlaps(const struct comm *c) { return c && engine_overlaps(); }

void comm_bucket(struct comm *c, enum group g, float *x, size_t n, float *room)
{
    int me;
    size_t part = comm_part(n, members(c, g, &me));
    comm_bucket_end(c);
    exchange_pieces(c, g, "bucket", x, n, part, sizeof *x, room, part);
    c->bucket = (struct sum){g, x, room, n};
}

void comm_bucket_end(struct comm *c)
{
    struct sum b = c->bucket;
    if (!b.x) return;
    int me, d = members(c, b.g, &me);
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
    int me, d = members(c, g, &me);
    for (int b = 0; b < n; b++)
        for (int r = 0; r < d; r++)                             /* has summed */
            for (int k = 0; k < d; k++) {                       /* is to have */
                if (r != me && k != me) continue;
                struct span s = in_piece((struct span){0, bucket[b].n}, comm_part(bucket[b].n, d), r);
                s = in_piece((struct span){bucket[b].from + s.from, bucket[b].from + s.to}, piece, k);
                if (r == me) move(c, g, k, GIVE, x + s.from, length_of(s) * sizeof *x);
                else move(c, g, r, GET, x + s.from, length_of(s) * sizeof *x);
            }
    begin(c, "bucket_home");
    comm_wait(c);
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
        comm_wait(c);
    }
}

void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me;
    comm_gather_range(c, g, all, mine, 0, (size_t)members(c, g, &me) * bytes, bytes);
}

void comm_gather_range(struct comm *c, enum group g, void *x, const void *mine, size_t from, size_t to, size_t piece)
{
    int me, d = members(c, g, &me);
    struct span all = {from, to}, own = in_piece(all, piece, me);
    const char *send = (const char *)mine + (own.from - (size_t)me * piece);
    char *base = x, *place = base + (own.from - from);
    if (own.from < own.to && send != place) device_copy(place, send, length_of(own));
    for (int r = 0; r < d; r++) {
        struct span theirs = in_piece(all, piece, r);
        move(c, g, r, GET, base + (theirs.from - from), length_of(theirs));
        move(c, g, r, GIVE, send, length_of(own));
    }
    begin(c, "gather");
}

static void share(struct comm *c, enum group g, void *x, size_t bytes, int from, bool device)
{
    int me, size = members(c, g, &me);
    for (int r = 0; r < size && me == from; r++) move(c, g, r, device ? GIVE : GIVE_HOST, x, bytes);
    move(c, g, from, device ? GET : GET_HOST, x, bytes);
    begin(c, "share");
}

void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from) { share(c, g, x, bytes, from, true); }

void comm_exchange(struct comm *c, enum group g, const struct parcel *out, const struct parcel *in)
{
    if (out->bytes + in->bytes == 0) return;
    move(c, g, in->peer, GET, in->data, in->bytes);
    move(c, g, out->peer, GIVE, out->data, out->bytes);
    begin(c, "exchange");
    comm_wait(c);
}

/* ---- host memory ---- */

void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me, size = members(c, g, &me);
    char *own = (char *)all + (size_t)me * bytes;
    memmove(own, mine, bytes);
    for (int r = 0; r < size; r++) {
        move(c, g, r, GET_HOST, (char *)all + (size_t)r * bytes, bytes);
        move(c, g, r, GIVE_HOST, own, bytes);
    }
    begin(c, "gather");
    comm_wait(c);
}

void comm_share_host(struct comm *c, enum group g, void *x, size_t bytes, int from)
{
    share(c, g, x, bytes, from, false);
    comm_wait(c);
}

void comm_send_host(struct comm *c, const void *x, size_t bytes, int to)
{
    move(c, GROUP_WORLD, to, GIVE_HOST, x, bytes);
    begin(c, "send");
    comm_wait(c);
}

void comm_receive_host(struct comm *c, void *x, size_t bytes, int from)
{
    move(c, GROUP_WORLD, from, GET_HOST, x, bytes);
    begin(c, "receive");
    comm_wait(c);
}

void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima)
{
    int me, size = members(c, g, &me), n = n_sums + n_maxima;
    if (size == 1 || n == 0) return;
    scoped double *all = host_alloc((size_t)(size * n), sizeof *all);
    comm_gather_host(c, g, all, x, (size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) x[i] = all[i];
    for (int r = 1; r < size; r++)
        for (int i = 0; i < n; i++) x[i] = i < n_sums ? x[i] + all[r * n + i] : fmax(x[i], all[r * n + i]);
}

/* ---- ends ---- */

int comm_agree(struct comm *c, int status, struct error *error)
{
    int me, size = members(c, GROUP_WORLD, &me), code = status ? error->exit_code : 0, first = -1;
    if (size == 1) return status;
    scoped int *all = host_alloc((size_t)size, sizeof *all);
    comm_gather_host(c, GROUP_WORLD, all, &code, sizeof code);
    for (int r = 0; r < size; r++)
        if (all[r] && (first < 0 || (all[first] == EXIT_STOPPED && all[r] != EXIT_STOPPED))) first = r;
    if (first < 0) return 0;
    comm_share_host(c, GROUP_WORLD, error, sizeof *error, first);
    if (first > 0 && error->exit_code != EXIT_STOPPED) fail_in(error, "rank %d", first);
    return -1;
}

static void barrier(struct comm *c) { comm_add(c, GROUP_WORLD, &(double){0}, 1, 0); }

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
