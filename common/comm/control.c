/* control.c - a star of TCP connections around rank 0, and frames of one size over them.
 *
 *     who notices                          what                                     exit code
 *     the rank itself                      an error, with its sentence              its own
 *     rank 0: the connection closes        the rank has died                        EXIT_LOST
 *     either end: silence for 20 s         host or network is lost, or stopped      EXIT_LOST
 *     rank 0: counters stand still         a rank hangs, or all wait                EXIT_HANG
 *
 * Leaving is _exit on every rank: an engine that is asked to end beside a dead peer may hang itself. */
#define _GNU_SOURCE
#include "common/comm/control.h"
#include "common/base/signals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESSES = 8, SILENCE = 20, FRESH = 3, STILL = 2, MEETING = 60, TICK_MS = 200 };
enum kind { FRAME_HELLO, FRAME_BEAT, FRAME_LEAVE, FRAME_BYE };

/* How far a rank has got, as it tells once a second. */
struct state { uint64_t progress; int32_t waiting, pid; };
struct frame { uint8_t token[16]; int32_t kind, rank, code; struct state state; char host[64], text[1400]; };

struct address { uint8_t token[16]; char host[64]; struct in_addr ip[ADDRESSES]; in_port_t port; int32_t count; };

struct peer {
    int fd;
    bool bye;
    size_t got;                          /* bytes of the frame under way */
    struct frame in;
    struct state state;
    char host[64];
    double heard, moved;                 /* when: any frame; a change of its state */
};

struct control {
    int rank, world;
    struct peer *peer;                   /* (world) on rank 0; else the one to rank 0 */
    int peers;
    double woke;                         /* when this process itself had stood still: others may have left meanwhile */
    uint8_t token[16];
    pthread_t thread;
    pthread_mutex_t sending;
    atomic_bool closing, leaving, waiting;
    _Atomic double stall;
    atomic_ulong waits;                  /* waits begun and ended: progress too */
    void (*tell)(void *self, const char *sentence);
    void *self;
};

/* ---- frames ---- */

static bool put(struct control *c, int to, const struct frame *f)
{
    const char *data = (const char *)f;
    size_t left = sizeof *f;
    pthread_mutex_lock(&c->sending);
    while (left > 0) {
        ssize_t n = send(c->peer[to].fd, data, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        data += n;
        left -= (size_t)n;
    }
    pthread_mutex_unlock(&c->sending);
    return left == 0;
}

static struct frame frame_of(struct control *c, enum kind kind, int code, const char *text)
{
    struct frame f = {.kind = kind, .rank = c->rank, .code = code,
                      .state = {signals_asked() + c->waits, c->waiting, (int32_t)getpid()}};
    memcpy(f.token, c->token, sizeof f.token);
    gethostname(f.host, sizeof f.host - 1);
    snprintf(f.text, sizeof f.text, "%s", text);
    return f;
}

/* The next whole frame of a connection: 1, 0 when there is none yet, -1 when it is closed. */
static int take(struct control *c, struct peer *p)
{
    ssize_t n = recv(p->fd, (char *)&p->in + p->got, sizeof p->in - p->got, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) return -1;
    p->got += (size_t)n;
    if (p->got < sizeof p->in) return 0;
    p->got = 0;
    return memcmp(p->in.token, c->token, sizeof c->token) == 0 ? 1 : -1;
}

/* Waits for it: as take, 0 when the time is over. */
static int await(struct control *c, struct peer *p, double seconds)
{
    struct pollfd ready = {p->fd, POLLIN, 0};
    int got = 0;
    for (double until = seconds_now() + seconds; got == 0 && seconds_now() < until; got = take(c, p))
        poll(&ready, 1, TICK_MS);
    return got;
}

/* ---- leaving ---- */

static void say(struct control *c, const char *sentence)
{
    if (c->tell) c->tell(c->self, sentence);
    else fprintf(stderr, "%s: %s\n", program_name(), sentence);
}

/* Rank 0 has learnt why: it tells the others and waits until they are gone.  Whoever comes second waits for the end. */
static _Noreturn void leave_all(struct control *c, int code, const char *sentence)
{
    if (atomic_exchange(&c->leaving, true)) for (;;) pause();
    struct frame f = frame_of(c, FRAME_LEAVE, code, sentence);
    say(c, sentence);                            /* first: a launcher may end us as soon as another rank is gone */
    fflush(NULL);
    for (int r = 1; r < c->world; r++)
        if (!c->peer[r].bye) put(c, r, &f);
    for (int r = 1; r < c->world; r++) {
        struct pollfd fd = {c->peer[r].fd, POLLRDHUP, 0};
        poll(&fd, 1, 300);
    }
    _exit(code);
}

_Noreturn void control_leave(struct control *c, int exit_code, const char *sentence)
{
    char text[1400];
    if (c->rank == 0) leave_all(c, exit_code, sentence);
    snprintf(text, sizeof text, "rank %d: %s", c->rank, sentence);
    struct frame f = frame_of(c, FRAME_LEAVE, exit_code, text);
    if (put(c, 0, &f)) poll(NULL, 0, 5000);          /* the thread is told to leave */
    fprintf(stderr, "%s: %s\n", program_name(), text);
    _exit(exit_code);
}

static _Noreturn void lost(struct control *c, int rank, const char *how)
{
    char text[400];
    const struct peer *p = &c->peer[c->rank == 0 ? rank : 0];
    if (seconds_now() - c->woke < FRESH) _exit(EXIT_LOST);
    snprintf(text, sizeof text, "rank %d (process %d on %s) %s; the same command resumes from the last checkpoint",
             rank, p->state.pid, p->host, how);
    if (c->rank == 0) leave_all(c, EXIT_LOST, text);
    if (c->rank == 1) say(c, text);                     /* for rank 0, which cannot */
    _exit(EXIT_LOST);
}

/* ---- the thread ---- */

/* A lower --stall-limit lowers this one, too. */
static double silence(const struct control *c)
{
    double stall = c->stall;
    return stall <= 0 || stall > SILENCE ? SILENCE : stall > FRESH + 1 ? stall : FRESH + 1;
}

/* A rank hangs that neither gets on nor waits for another; when all wait, none will ever get on. */
static void find_hang(struct control *c, double now)
{
    double stall = c->stall, since = 1e300;
    char text[300];
    bool all_wait = true;
    struct peer *own = &c->peer[0];
    struct state mine = frame_of(c, FRAME_BEAT, 0, "").state;
    if (memcmp(&mine, &own->state, sizeof mine) != 0) own->moved = now;
    own->state = mine;
    for (int r = 0; r < c->world; r++) {
        const struct peer *p = &c->peer[r];
        if (p->bye || (r > 0 && now - p->heard > FRESH)) return;          /* what it said last is of no use */
        all_wait &= p->state.waiting != 0;
        since = now - p->moved < since ? now - p->moved : since;
        if (stall <= 0 || p->state.waiting || now - p->moved < stall) continue;
        snprintf(text, sizeof text, "rank %d (process %d on %s) has not got on for %.0f s (--stall-limit); the same "
                 "command resumes from the last checkpoint", r, p->state.pid, p->host, now - p->moved);
        leave_all(c, EXIT_HANG, text);
    }
    if (stall <= 0 || !all_wait || since < stall) return;
    snprintf(text, sizeof text, "all ranks have waited for each other for %.0f s (--stall-limit); the same command "
             "resumes from the last checkpoint", since);
    leave_all(c, EXIT_HANG, text);
}

static void hear(struct control *c, int from, double now)
{
    struct peer *p = &c->peer[from];
    int got = take(c, p);
    if (got == 0) return;
    if (got < 0) {
        if (c->closing || p->bye) p->bye = true;
        else lost(c, from, "was lost: it has died or was killed");
        return;
    }
    if (p->in.kind == FRAME_LEAVE) {
        if (c->rank == 0) leave_all(c, p->in.code, p->in.text);
        _exit(p->in.code);
    }
    p->bye |= p->in.kind == FRAME_BYE;
    p->heard = now;
    if (memcmp(&p->in.state, &p->state, sizeof p->state) != 0) p->moved = now;
    p->state = p->in.state;
}

static void *serve(void *self)
{
    struct control *c = self;
    int first = c->rank == 0;
    scoped struct pollfd *fd = host_alloc((size_t)c->peers, sizeof *fd);
    for (double beat = 0, now, last = seconds_now(); ; last = now) {
        bool open = c->rank == 0 && !c->closing;
        for (int i = first; i < c->peers; i++) {
            fd[i] = (struct pollfd){c->peer[i].bye ? -1 : c->peer[i].fd, POLLIN, 0};
            open |= !c->peer[i].bye;
        }
        if (!open) break;
        poll(fd + first, (nfds_t)(c->peers - first), TICK_MS);
        now = seconds_now();
        if (now - last > STILL) c->woke = now;
        for (int i = first; i < c->peers; i++) {
            if (fd[i].revents) hear(c, i, now);
            else if (!c->peer[i].bye && now - c->peer[i].heard > silence(c))
                lost(c, i, "is silent: its host or the network is lost, or it was stopped");
        }
        if (now - beat < 1) continue;
        beat = now;
        struct frame f = frame_of(c, FRAME_BEAT, 0, "");
        for (int i = first; i < c->peers; i++) put(c, i, &f);       /* also to those that wait for the end */
        if (c->rank == 0 && !c->closing) find_hang(c, now);
    }
    return NULL;
}

/* ---- meeting ---- */

static int listen_at(struct address *a, struct error *error)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof any;
    struct ifaddrs *list = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&any, &size) != 0)
        return fail(error, EXIT_UNAVAILABLE, "rank 0 cannot listen for the others: %s", strerror(errno));
    random_bytes(a->token, sizeof a->token);
    gethostname(a->host, sizeof a->host - 1);
    a->port = any.sin_port;
    if (getifaddrs(&list) != 0) list = NULL;
    for (struct ifaddrs *i = list; i && a->count < ADDRESSES; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
        struct in_addr ip = ((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr;
        if (ntohl(ip.s_addr) >> 24 != 127) a->ip[a->count++] = ip;
    }
    if (list) freeifaddrs(list);
    return fd;
}

static int connect_to(struct in_addr ip, in_port_t port, int wait_ms)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = port, .sin_addr = ip};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failed = 0;
    socklen_t size = sizeof failed;
    struct pollfd ready = {fd, POLLOUT, 0};
    if (fd < 0) return -1;
    bool now = connect(fd, (struct sockaddr *)&there, sizeof there) == 0;
    if (now || (errno == EINPROGRESS && poll(&ready, 1, wait_ms) == 1 &&
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && failed == 0)) {
        fcntl(fd, F_SETFL, 0);
        return fd;
    }
    close(fd);
    return -1;
}

static int join(struct control *c, const struct address *a, struct error *error)
{
    char host[64] = {0};
    int fd = -1;
    gethostname(host, sizeof host - 1);
    for (double until = seconds_now() + MEETING / 2; fd < 0 && seconds_now() < until;) {
        if (strcmp(host, a->host) == 0) fd = connect_to((struct in_addr){htonl(INADDR_LOOPBACK)}, a->port, 1000);
        for (int i = 0; fd < 0 && i < a->count; i++) fd = connect_to(a->ip[i], a->port, 3000);
    }
    if (fd < 0)
        return fail(error, EXIT_UNAVAILABLE, "rank %d on %s cannot reach rank 0 on %s: a firewall, or no network "
                    "between them", c->rank, host, a->host);
    c->peer[0] = (struct peer){.fd = fd, .heard = seconds_now()};
    snprintf(c->peer[0].host, sizeof c->peer[0].host, "%s", a->host);
    struct frame f = frame_of(c, FRAME_HELLO, 0, "");
    int got = put(c, 0, &f) ? await(c, &c->peer[0], MEETING) : -1;
    c->peer[0].state = c->peer[0].in.state;
    if (got == 1) return 0;
    return fail(error, EXIT_UNAVAILABLE, "rank 0 has not answered rank %d: other ranks did not come, or it has died",
                c->rank);
}

/* One who has connected and says who it is, or not. */
static void welcome(struct control *c, int fd)
{
    struct peer p = {.fd = fd};
    int got = await(c, &p, 2), r = p.in.rank;
    if (got != 1 || p.in.kind != FRAME_HELLO || r < 1 || r >= c->world || c->peer[r].fd > 0) {
        close(fd);
        return;
    }
    p.heard = p.moved = seconds_now();
    p.state = p.in.state;
    p.in.host[sizeof p.in.host - 1] = 0;
    memcpy(p.host, p.in.host, sizeof p.host);
    c->peer[r] = p;
}

static int meet(struct control *c, int fd, struct error *error)
{
    int here = 1;
    double until = seconds_now() + MEETING;
    while (here < c->world && seconds_now() < until) {
        struct pollfd ready = {fd, POLLIN, 0};
        if (poll(&ready, 1, TICK_MS) == 1) {
            int from = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            if (from >= 0) welcome(c, from);
        }
        for (here = 1; here < c->world && c->peer[here].fd > 0;) here++;
    }
    close(fd);
    c->peer[0].moved = seconds_now();
    gethostname(c->peer[0].host, sizeof c->peer[0].host - 1);
    struct frame f = frame_of(c, FRAME_BEAT, 0, "");
    for (int r = 1; here == c->world && r < c->world; r++) put(c, r, &f);
    if (here == c->world) return 0;
    scoped_bytes struct bytes missing = {0};
    for (int r = 1; r < c->world; r++)
        if (c->peer[r].fd <= 0) bytes_text(&missing, "%s%d", missing.size ? ", " : "", r);
    fail(error, EXIT_UNAVAILABLE, "rank %s of %d did not connect within %d s", missing.data, c->world, MEETING);
    return -1;
}

int control_open(struct control **out, struct engine *e, const struct crew *crew, const char *path, struct error *error)
{
    struct control *c = host_alloc(1, sizeof *c);
    struct address address = {{0}, {0}, {{0}}, 0, 0};
    c->rank = crew->rank;
    c->world = crew->world;
    c->peers = c->rank == 0 ? c->world : 1;
    c->peer = host_alloc((size_t)c->peers, sizeof *c->peer);
    pthread_mutex_init(&c->sending, NULL);
    int fd = c->rank == 0 ? listen_at(&address, error) : 0;
    if (fd < 0) address.count = -1;
    if (engine_meet(e, path, &address, sizeof address, error) != 0) return -1;
    if (address.count < 0) return c->rank == 0 ? -1 : fail(error, EXIT_UNAVAILABLE, "rank 0 cannot listen");
    memcpy(c->token, address.token, sizeof c->token);
    if (c->rank == 0 ? meet(c, fd, error) : join(c, &address, error)) return -1;
    for (int i = c->rank == 0; i < c->peers; i++)
        setsockopt(c->peer[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (pthread_create(&c->thread, NULL, serve, c) != 0) return fail(error, EXIT_INTERNAL, "no thread for the ranks");
    *out = c;
    return 0;
}

void control_watch(struct control *c, double stall, void (*tell)(void *self, const char *sentence), void *self)
{
    c->self = self;
    c->tell = tell;
    c->stall = stall;
}

void control_waiting(struct control *c, bool waiting)
{
    c->waiting = waiting;
    c->waits++;
}

void control_close(struct control *c)
{
    struct frame f = frame_of(c, FRAME_BYE, 0, "");
    c->closing = true;
    for (int i = c->rank == 0; i < c->peers; i++) put(c, i, &f);
    pthread_join(c->thread, NULL);
    for (int i = c->rank == 0; i < c->peers; i++) close(c->peer[i].fd);
    pthread_mutex_destroy(&c->sending);
    free(c->peer);
    free(c);
}
