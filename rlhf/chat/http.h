/* http.h - the endpoints: /v1/chat/completions, /v1/completions, /v1/models, /health, on libmicrohttpd.  One thread
 * moves bytes; the answers come from the service. */
#ifndef QUARTET_HTTP_H
#define QUARTET_HTTP_H

#include "rlhf/chat/service.h"

/* 0, or -1 (EXIT_UNAVAILABLE) in a build without libmicrohttpd. */
int http_available(struct error *error);

/* Serves the socket, which it then owns.  body: most bytes of a request's body, answered with 413 beyond. */
struct http *http_start(struct service *sv, int socket, size_t body);
void http_wake(void *connection);               /* service->wake */
/* Sends what is still to be sent, for at most `seconds`, and ends. */
void http_stop(struct http *h, double seconds);

#endif
