/* comm.c - who the ranks are, and what they send each other: copies, which are exact everywhere. */
#define _GNU_SOURCE
#include "common/base/trace.h"
#include "common/comm/control.h"
#include "common/comm/parts.h"
#include "common/model/device.h"

#include <math.h>
#include <unistd.h>

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

int comm_members(const struct comm *c, enum group g, int *mine)
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

void comm_move(struct comm *c, enum group g, int r, enum way way, const void *data, size_t bytes)
{
    int me;
    comm_members(c, g, &me);
    if (r == me || bytes == 0) return;
    c->move = host_append(c->move, (size_t)c->moves, 1, sizeof *c->move);
    c->move[c->moves++] = (struct transfer){(void *)data, bytes, rank_of(c, g, r), way <= GIVE_HOST,
                                            way == GIVE || way == GET};
}

void comm_begin(struct comm *c, const char *name)
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

/* ---- device memory ---- */

void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me;
    comm_gather_range(c, g, all, mine, 0, (size_t)comm_members(c, g, &me) * bytes, bytes);
}

void comm_gather_range(struct comm *c, enum group g, void *x, const void *mine, size_t from, size_t to, size_t piece)
{
    int me, d = comm_members(c, g, &me);
    struct span all = {from, to}, own = in_piece(all, piece, me);
    const char *send = (const char *)mine + (own.from - (size_t)me * piece);
    char *base = x, *place = base + (own.from - from);
    if (own.from < own.to && send != place) device_copy(place, send, length_of(own));
    for (int r = 0; r < d; r++) {
        struct span theirs = in_piece(all, piece, r);
        comm_move(c, g, r, GET, base + (theirs.from - from), length_of(theirs));
        comm_move(c, g, r, GIVE, send, length_of(own));
    }
    comm_begin(c, "gather");
}

static void share(struct comm *c, enum group g, void *x, size_t bytes, int from, bool device)
{
    int me, size = comm_members(c, g, &me);
    for (int r = 0; r < size && me == from; r++) comm_move(c, g, r, device ? GIVE : GIVE_HOST, x, bytes);
    comm_move(c, g, from, device ? GET : GET_HOST, x, bytes);
    comm_begin(c, "share");
}

void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from) { share(c, g, x, bytes, from, true); }

void comm_exchange(struct comm *c, enum group g, const struct parcel *out, const struct parcel *in)
{
    if (out->bytes + in->bytes == 0) return;
    comm_move(c, g, in->peer, GET, in->data, in->bytes);
    comm_move(c, g, out->peer, GIVE, out->data, out->bytes);
    comm_begin(c, "exchange");
    comm_wait(c);
}

/* ---- host memory ---- */

void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes)
{
    int me, size = comm_members(c, g, &me);
    char *own = (char *)all + (size_t)me * bytes;
    memmove(own, mine, bytes);
    for (int r = 0; r < size; r++) {
        comm_move(c, g, r, GET_HOST, (char *)all + (size_t)r * bytes, bytes);
        comm_move(c, g, r, GIVE_HOST, own, bytes);
    }
    comm_begin(c, "gather");
    comm_wait(c);
}

void comm_share_host(struct comm *c, enum group g, void *x, size_t bytes, int from)
{
    share(c, g, x, bytes, from, false);
    comm_wait(c);
}

void comm_send_host(struct comm *c, const void *x, size_t bytes, int to)
{
    comm_move(c, GROUP_WORLD, to, GIVE_HOST, x, bytes);
    comm_begin(c, "send");
    comm_wait(c);
}

void comm_receive_host(struct comm *c, void *x, size_t bytes, int from)
{
    comm_move(c, GROUP_WORLD, from, GET_HOST, x, bytes);
    comm_begin(c, "receive");
    comm_wait(c);
}

void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima)
{
    int me, size = comm_members(c, g, &me), n = n_sums + n_maxima;
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
    int me, size = comm_members(c, GROUP_WORLD, &me), code = status ? error->exit_code : 0, first = -1;
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
