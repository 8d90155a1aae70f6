/* serve.c - chat --serve: this thread works the model, another one speaks HTTP.  The socket is made here and not by the
 * HTTP library, so that a message can say what is wrong. */
#include "common/base/signals.h"
#include "rlhf/chat/http.h"
#include "rlhf/chat/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_local(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* The address that the socket has got, and whether only this machine can reach it. */
static void describe(char at[80], bool *local, int fd)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    char host[48], port[8];
    if (getsockname(fd, (struct sockaddr *)&own, &length) != 0 ||
        getnameinfo((struct sockaddr *)&own, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        die("the address of a socket cannot be read");
    snprintf(at, 80, own.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    *local = is_local((struct sockaddr *)&own);
}

/* Returns a socket that listens at "ADDRESS:PORT" (IPv6 in brackets; port 0: a free one), or -1: EXIT_USAGE,
 * EXIT_UNAVAILABLE (in use). */
static int listen_at(const char *address, struct error *error)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    size_t n = colon ? (size_t)(colon - address) : 0;
    bool bracketed = n > 2 && address[0] == '[' && address[n - 1] == ']';
    if (n < 1 || n >= sizeof host || !colon[1])
        return fail(error, EXIT_USAGE, "--serve %s: expected ADDRESS:PORT, such as 127.0.0.1:8080",
                    text_shown(address).text);
    snprintf(host, sizeof host, "%.*s", (int)n - 2 * bracketed, address + bracketed);
    int code = getaddrinfo(host, colon + 1, &want, &found);
    if (code != 0)
        return fail(error, EXIT_USAGE, "--serve %s: %s", text_shown(address).text, gai_strerror(code));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0) {
        fail(error, EXIT_UNAVAILABLE, "--serve %s: %s", text_shown(address).text, strerror(errno));
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static bool asked_to_stop(void) { return signals_stop() != NULL; }

void session_serve(struct session *s)
{
    struct error error;
    char name[128], at[80];
    bool local;
    struct sample_settings how = session_sampling(s);
    struct service sv = {
        .model = {.name = path_name(name, s->model_path), .system = s->system, .tokenizer = s->parent.tokenizer,
                  .chat = s->raw ? NULL : &s->chat, .standard = how.sampling, .context = s->parent.config.context,
                  .max_new = (int)s->max_new, .most_choices = int_min(API_CHOICES, (int)(s->slots + s->queue))},
        .m = &s->model, .stop = how.stop, .n_stop = how.n_stop, .seed = how.seed, .slots = (int)s->slots,
        .queue = (int)s->queue, .seconds = s->max_time, .wake = http_wake};
    int socket = listen_at(s->serve, &error);
    if (socket < 0) quit_error(&error);
    describe(at, &local, socket);
    service_open(&sv);
    signals_install(0);
    struct http *http = http_start(&sv, socket, (size_t)s->max_body);
    if (!local)
        fprintf(stderr, "warning: %s can be reached from other machines, and there is no password: anyone there can "
                "use the model\n", at);
    fprintf(stderr, "%s is served at http://%s/v1: %d answers at a time, %d may wait\n", sv.model.name, at, sv.slots,
            sv.queue);
    service_run(&sv, asked_to_stop, s->grace);
    http_stop(http, 5);
    service_close(&sv);
    fprintf(stderr, "stopped by %s\n", signals_stop());
}
