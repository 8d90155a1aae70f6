/* serve.c - chat --serve on libmicrohttpd: /v1/chat/completions, /v1/completions, /v1/models, /health.  This thread works
 * the model, one of the library's moves bytes.
 *
 * An exchange is one request and its answer.  While the service works on it the connection is suspended; the service
 * resumes it (wake) when there is something to send.  Whoever looks at a request that the service has holds the
 * service's lock. */
#include "common/base/signals.h"
#include "common/text/show.h"
#include "rlhf/chat/service.h"
#include "rlhf/chat/session.h"

#ifdef HAVE_MICROHTTPD
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 512, IDLE_SECONDS = 120, LAST_SECONDS = 5, BODIES = 32 /* of the largest size, held at once */ };

struct http { struct service *service; struct MHD_Daemon *daemon; size_t most, held; atomic_int open; };

struct exchange {
    struct http *http;
    const struct route *route;
    struct bytes body;
    size_t length;                       /* of the body so far, kept or not */
    struct request *request;             /* the service has it, or it is done */
    struct api_error fault;              /* status 0: none */
    struct MHD_Connection *connection;
};

struct route {
    const char *path;
    bool post, prefix;                   /* POST, else GET; the path goes on */
    enum MHD_Result (*answer)(struct exchange *x, const char *rest);
};

/* ---- sending ---- */

static enum MHD_Result send_response(struct exchange *x, struct MHD_Response *response, unsigned status,
                                     const char *type)
{
    MHD_add_response_header(response, "Content-Type", type);
    if (status == 405) MHD_add_response_header(response, "Allow", x->route->post ? "POST" : "GET, HEAD");
    if (status == 429 || status == 503) MHD_add_response_header(response, "Retry-After", "1");
    if (status == 413) MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(x->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* The text is freed. */
static enum MHD_Result send_text(struct exchange *x, int status, struct bytes *text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(text->size, text->data, MHD_RESPMEM_MUST_COPY);
    bytes_free(text);
    return send_response(x, response, (unsigned)status, "application/json");
}

static enum MHD_Result send_fault(struct exchange *x)
{
    struct bytes text = {0};
    api_error_json(&text, &x->fault);
    bytes_text(&text, "\n");
    return send_text(x, x->fault.status, &text);
}

/* ---- completions ---- */

/* MHD asks for up to `most` more bytes of a stream of events. */
static ssize_t read_events(void *self, uint64_t at, char *data, size_t most)
{
    struct exchange *x = self;
    struct request *r = x->request;
    ssize_t result = 0;
    (void)at;
    pthread_mutex_lock(&x->http->service->lock);
    if (r->out.size > r->sent) {
        size_t left = r->out.size - r->sent, n = left < most ? left : most;
        memcpy(data, r->out.data + r->sent, n);
        r->sent += n;
        if (r->sent == r->out.size) r->out.size = r->sent = 0;
        result = (ssize_t)n;
    } else if (r->done) result = MHD_CONTENT_READER_END_OF_STREAM;
    else {
        r->waits = x->connection;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->http->service->lock);
    return result;
}

static enum MHD_Result answer_completion(struct exchange *x, const char *rest)
{
    struct service *sv = x->http->service;
    struct request *r = host_alloc(1, sizeof *r);
    bool chat = strstr(x->route->path, "chat") != NULL;
    (void)rest;
    r->fd = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (api_read(&r->ask, &sv->model, chat, x->body.data ? x->body.data : "", x->body.size, &x->fault) != 0) {
        free(r);
        return send_fault(x);
    }
    bool stream = r->ask.stream;
    if (!stream) {
        r->waits = x->connection;
        MHD_suspend_connection(x->connection);
    }
    if (service_submit(sv, r, &x->fault) != 0) {
        service_leave(sv, r);
        if (stream) return send_fault(x);
        MHD_resume_connection(x->connection);               /* comes back with the fault */
        return MHD_YES;
    }
    x->request = r;
    if (!stream) return MHD_YES;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_events, x, NULL);
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    return send_response(x, response, 200, "text/event-stream");
}

/* The service has woken an exchange whose answer comes as a whole. */
static enum MHD_Result answer_done(struct exchange *x)
{
    struct service *sv = x->http->service;
    pthread_mutex_lock(&sv->lock);
    bool done = x->request->done;
    if (!done) {
        x->request->waits = x->connection;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&sv->lock);
    if (!done) return MHD_YES;
    return send_text(x, x->request->status, &x->request->out);
}

/* ---- what is there ---- */

static enum MHD_Result answer_health(struct exchange *x, const char *rest)
{
    struct service *sv = x->http->service;
    struct bytes text = {0};
    (void)rest;
    pthread_mutex_lock(&sv->lock);
    if (sv->stopping) api_fail(&x->fault, 503, "", "The server is stopping");
    pthread_mutex_unlock(&sv->lock);
    if (x->fault.status) return send_fault(x);
    bytes_text(&text, "{\"status\":\"ok\"}\n");
    return send_text(x, 200, &text);
}

static enum MHD_Result answer_models(struct exchange *x, const char *rest)
{
    const struct api_model *m = &x->http->service->model;
    struct bytes text = {0};
    if (*rest && api_model_named(m, rest, &x->fault) != 0) return send_fault(x);
    json_t *model = json_pack("{s:s, s:s, s:i, s:s}", "id", m->name, "object", "model", "created", 0, "owned_by",
                              "quartet");
    show_json_value(&text, *rest ? model : json_pack("{s:s, s:[o]}", "object", "list", "data", model));
    bytes_text(&text, "\n");
    return send_text(x, 200, &text);
}

static const struct route routes[] = {
    {"/v1/chat/completions", true, false, answer_completion},
    {"/v1/completions", true, false, answer_completion},
    {"/v1/models/", false, true, answer_models},
    {"/v1/models", false, false, answer_models},
    {"/health", false, false, answer_health},
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* ---- an exchange ---- */

static const char *header(const struct exchange *x, const char *name)
{
    const char *value = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

static void too_large(struct exchange *x)
{
    api_fail(&x->fault, 413, "", "The body is larger than %zu bytes", x->http->most);
    x->http->held -= x->body.size;
    bytes_free(&x->body);
}

/* Finds the endpoint.  An error found here is answered after the body has been read, because many clients do not read
 * an answer earlier; at once if the body is very long or the client waits for permission to send it. */
static enum MHD_Result begin(struct exchange *x, const char *path, const char *method)
{
    unsigned long long length = strtoull(header(x, "Content-Length"), NULL, 10);
    for (int i = 0; i < ROUTES && !x->route; i++) {
        size_t n = strlen(routes[i].path);
        if (routes[i].prefix ? strncmp(path, routes[i].path, n) == 0 : strcmp(path, routes[i].path) == 0)
            x->route = &routes[i];
    }
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, post = strcmp(method, "POST") == 0;
    if (!x->route) api_fail(&x->fault, 404, "", "Nothing is at %s %s", text_shown(method).text, text_shown(path).text);
    else if (!(x->route->post ? post : get))
        api_fail(&x->fault, 405, "", "%s is not answered at %s", text_shown(method).text, x->route->path);
    else if (length > x->http->most) too_large(x);
    else if (post && strncasecmp(header(x, "Content-Type"), "application/json", 16) != 0)
        api_fail(&x->fault, 415, "", "Expected a body with 'Content-Type: application/json'");
    bool at_once = length > 16 * (unsigned long long)x->http->most || *header(x, "Expect");
    return x->fault.status && at_once ? send_fault(x) : MHD_YES;
}

/* Keeps, or reads past, a piece of the body; false when there is no end of it. */
static bool take_body(struct exchange *x, const char *data, size_t n)
{
    struct http *h = x->http;
    x->length += n;
    if (!x->fault.status && x->length > h->most) too_large(x);
    if (!x->fault.status && h->held + n > BODIES * h->most)
        api_fail(&x->fault, 429, "", "Too many large requests at a time");
    if (x->fault.status) return x->length <= 16 * h->most;
    bytes_add(&x->body, data, n);
    h->held += n;
    return true;
}

static enum MHD_Result handle(void *self, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *n, void **kept)
{
    struct http *h = self;
    struct exchange *x = *kept;
    (void)version;
    if (!x) {
        *kept = x = host_alloc(1, sizeof *x);
        *x = (struct exchange){.http = h, .connection = connection};
        h->open++;
        return begin(x, path, method);
    }
    if (*n > 0) {
        bool more = take_body(x, data, *n);
        *n = 0;
        return more ? MHD_YES : MHD_NO;
    }
    if (x->fault.status) return send_fault(x);
    if (x->request) return answer_done(x);
    return x->route->answer(x, path + strlen(x->route->path));
}

static void completed(void *self, struct MHD_Connection *connection, void **kept, enum MHD_RequestTerminationCode why)
{
    struct http *h = self;
    struct exchange *x = *kept;
    (void)connection, (void)why;
    if (!x) return;
    if (x->request) service_leave(h->service, x->request);
    h->held -= x->body.size;
    bytes_free(&x->body);
    free(x);
    *kept = NULL;
    h->open--;
}

/* ---- the server ---- */

static void start(struct http *h, int socket)
{
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle, h,
                                 MHD_OPTION_LISTEN_SOCKET, socket, MHD_OPTION_NOTIFY_COMPLETED, completed, h,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_END);
    if (!h->daemon) die("the HTTP server cannot be started");
}

/* Sends what is still to be sent, for a few seconds, and ends. */
static void stop(struct http *h)
{
    for (double end = seconds_now() + LAST_SECONDS; h->open > 0 && seconds_now() < end;) signals_nap();
    MHD_stop_daemon(h->daemon);
}

static void wake(void *connection) { MHD_resume_connection(connection); }

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

/* Made here and not by the library, so that a message can say what is wrong.  Returns a socket that listens at
 * "ADDRESS:PORT" (IPv6 in brackets; port 0: a free one), or -1: EXIT_USAGE, EXIT_UNAVAILABLE (in use). */
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
    if (strtoul(colon + 1, NULL, 10) > 65535)          /* getaddrinfo takes it modulo 65536 */
        return fail(error, EXIT_USAGE, "--serve %s: expected a port from 0 to 65535", text_shown(address).text);
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
        .queue = (int)s->queue, .seconds = s->max_time, .wake = wake};
    int socket = listen_at(s->serve, &error);
    if (socket < 0) quit_error(&error);
    describe(at, &local, socket);
    service_open(&sv);
    signals_install(0);
    struct http http = {.service = &sv, .most = (size_t)s->max_body};
    start(&http, socket);
    if (!local)
        fprintf(stderr, "warning: %s can be reached from other machines, and there is no password: anyone there can "
                "use the model\n", at);
    fprintf(stderr, "%s is served at http://%s/v1: %d answers at a time, %d may wait\n", sv.model.name, at, sv.slots,
            sv.queue);
    service_run(&sv, asked_to_stop, s->grace);
    stop(&http);
    service_close(&sv);
    fprintf(stderr, "stopped by %s\n", signals_stop());
}

bool session_serves(void) { return true; }

#else

bool session_serves(void) { return false; }
void session_serve(struct session *s) { (void)s; }

#endif
