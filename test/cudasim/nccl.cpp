/* nccl.cpp - what the backend uses of NCCL, between processes of one machine, over sockets: sends and receives in groups, by a
 * communicator that does not block.  Refused is what its manual does not promise: two ranks on one device, memory of
 * the host, a communicator used before it is ready, a send whose receive expects another size.  A rank whose peer has
 * died waits for ever: NCCL may do so, too.  What moves is there when its stream has been waited for, and
 * not before. */
#include "sim.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <nccl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

struct ncclComm {
    int rank, world, pending;           /* pending: how often it must still be asked before it is ready */
    std::vector<int> fd;                /* by rank */
};

namespace sim {

static const Place NCCL = {"NCCL", 0};

struct Id { char token[16]; int port; };
struct Hello { char token[16]; int rank, world, device, port; };
struct Move { bool send; char *data; size_t bytes; int peer; ncclComm *comm; cudaStream_t stream; };

static int listener = -1, depth;
static std::vector<Move> group;

static int listen_here(int *port)
{
    sockaddr_in a = {};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (sockaddr *)&a, sizeof a) || listen(fd, 64) || getsockname(fd, (sockaddr *)&a, &size))
        stop(NCCL, "no socket");
    *port = ntohs(a.sin_port);
    return fd;
}

static int connect_to(int port)
{
    sockaddr_in a = {};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (sockaddr *)&a, sizeof a)) stop(NCCL, "rank 0 or a peer cannot be reached");
    return fd;
}

static void wait_for_ever()
{
    for (;;) pause();
}

static void all(int fd, void *data, size_t bytes, bool send_it)
{
    for (char *p = (char *)data; bytes > 0;) {
        ssize_t n = send_it ? send(fd, p, bytes, MSG_NOSIGNAL) : recv(fd, p, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) wait_for_ever();
        p += n;
        bytes -= (size_t)n;
    }
}

/* Rank 0 hears all, and tells every rank where the others listen; the higher ranks call the lower ones. */
static ncclResult_t join(ncclComm *c, const Id &id)
{
    Hello mine = {};
    int own = listen_here(&mine.port);
    std::vector<Hello> who((size_t)c->world);
    memcpy(mine.token, id.token, sizeof mine.token);
    mine.rank = c->rank, mine.world = c->world, mine.device = current_device();
    who[(size_t)c->rank] = mine;
    for (int i = 1; c->rank == 0 && i < c->world; i++) {
        Hello h;
        int fd = accept(listener, nullptr, nullptr);
        all(fd, &h, sizeof h, false);
        if (memcmp(h.token, id.token, sizeof h.token) || h.world != c->world || h.rank < 1 || h.rank >= c->world ||
            c->fd[(size_t)h.rank] >= 0)
            stop(NCCL, "a rank of another id, or another number of ranks, or one that is there already");
        c->fd[(size_t)h.rank] = fd;
        who[(size_t)h.rank] = h;
    }
    if (c->rank > 0) {
        c->fd[0] = connect_to(id.port);
        all(c->fd[0], &mine, sizeof mine, true);
        all(c->fd[0], who.data(), who.size() * sizeof(Hello), false);
    }
    for (int r = 1; c->rank == 0 && r < c->world; r++) all(c->fd[(size_t)r], who.data(), who.size() * sizeof(Hello), true);
    for (size_t i = 0; i < who.size(); i++)
        for (size_t k = 0; k < i; k++)
            if (who[i].device == who[k].device) {
                fprintf(stderr, "cudasim: NCCL: ranks %zu and %zu are both on device %d\n", k, i, who[i].device);
                return ncclInvalidUsage;
            }
    for (int r = 1; r < c->rank; r++) {
        c->fd[(size_t)r] = connect_to(who[(size_t)r].port);
        all(c->fd[(size_t)r], &c->rank, sizeof c->rank, true);
    }
    for (int r = c->rank + 1; c->rank > 0 && r < c->world; r++) {
        int from, fd = accept(own, nullptr, nullptr);
        all(fd, &from, sizeof from, false);
        c->fd[(size_t)from] = fd;
    }
    close(own);
    for (int fd : c->fd)
        if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
    return ncclSuccess;
}

/* A message is its size, then its bytes. */
struct Progress { Move move; size_t done; uint64_t size; };

/* As far as it goes without waiting: true when all of it has gone. */
static bool advance(Progress &p, int fd)
{
    for (;;) {
        bool head = p.done < sizeof p.size;
        char *at = head ? (char *)&p.size + p.done : p.move.data + (p.done - sizeof p.size);
        size_t left = head ? sizeof p.size - p.done : sizeof p.size + p.move.bytes - p.done;
        if (left == 0) return true;
        ssize_t n = p.move.send ? send(fd, at, left, MSG_NOSIGNAL) : recv(fd, at, left, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
        if (n <= 0) wait_for_ever();
        p.done += (size_t)n;
        if (!p.move.send && p.done == sizeof p.size && p.size != p.move.bytes)
            stop(NCCL, "rank %d receives %zu bytes where rank %d sends %zu", p.move.comm->rank, p.move.bytes, p.move.peer,
                 (size_t)p.size);
    }
}

static void exchange(ncclComm *c, const std::vector<Move> &moves)
{
    Access access;
    std::vector<std::deque<Progress>> out((size_t)c->world), in((size_t)c->world);
    for (const Move &m : moves) (m.send ? out : in)[(size_t)m.peer].push_back({m, 0, m.bytes});
    for (;;) {
        std::vector<pollfd> fd;
        for (size_t r = 0; r < out.size(); r++) {
            while (!out[r].empty() && advance(out[r].front(), c->fd[r])) out[r].pop_front();
            while (!in[r].empty() && advance(in[r].front(), c->fd[r])) in[r].pop_front();
            short events = (short)((out[r].empty() ? 0 : POLLOUT) | (in[r].empty() ? 0 : POLLIN));
            if (events) fd.push_back({c->fd[r], events, 0});
        }
        if (fd.empty()) return;
        poll(fd.data(), fd.size(), -1);
    }
}

static ncclResult_t move(bool send, const void *data, size_t count, ncclDataType_t type, int peer, ncclComm *c,
                         cudaStream_t stream)
{
    if (c->pending) stop(NCCL, "a communicator is used before ncclCommGetAsyncError says that it is ready");
    if (type != ncclUint8 || peer < 0 || peer >= c->world || peer == c->rank) return ncclInvalidArgument;
    if (count > 0 && !on_device(data, count)) stop(NCCL, "rank %d moves %zu bytes that are not device memory", c->rank, count);
    ncclGroupStart();
    group.push_back({send, (char *)data, count, peer, c, stream});
    return ncclGroupEnd();
}

extern "C" {

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t code) { return code == ncclSuccess ? "no error" : "an error of the simulator"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
    Id id = {};
    listener = listen_here(&id.port);
    if (getrandom(id.token, sizeof id.token, 0) != sizeof id.token) stop(NCCL, "no random bytes");
    memset(out, 0, sizeof *out);
    memcpy(out, &id, sizeof id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int world, ncclUniqueId unique, int rank, ncclConfig_t *config)
{
    Id id;
    memcpy(&id, &unique, sizeof id);
    if (!config || config->blocking != 0) stop(NCCL, "only communicators that do not block are simulated");
    *out = new ncclComm{rank, world, 2, std::vector<int>((size_t)world, -1)};
    ncclResult_t code = join(*out, id);
    return code == ncclSuccess ? ncclInProgress : code;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state)
{
    *state = c->pending > 0 && --c->pending > 0 ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    c->pending = 2;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    for (int fd : c->fd)
        if (fd >= 0) close(fd);
    delete c;
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream)
{
    return move(true, data, count, type, peer, c, stream);
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream)
{
    return move(false, data, count, type, peer, c, stream);
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth == 0) return ncclInvalidUsage;
    if (--depth > 0 || group.empty()) return ncclSuccess;
    std::vector<Move> moves;
    moves.swap(group);
    ncclComm *c = moves[0].comm;
    for (const Move &m : moves)
        if (m.comm != c || m.stream != moves[0].stream) stop(NCCL, "only groups of one communicator and stream are simulated");
    enqueue(moves[0].stream, [=] { exchange(c, moves); }, NCCL, true);
    c->pending = 2;
    return ncclInProgress;
}

} // extern "C"

} // namespace sim
