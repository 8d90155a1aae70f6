/* listen.c - the socket is made here and not by the HTTP library, so that a message can say what is wrong. */
#include "rlhf/chat/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_local(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* The address that the socket has got. */
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

int http_listen(const char *address, char at[80], bool *local, struct error *error)
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
    if (fd >= 0) describe(at, local, fd);
    return fd;
}
