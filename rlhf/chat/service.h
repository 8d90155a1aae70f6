/* service.h - the running batch.  Requests come from any thread; one thread, that of service_run, works the model.
 * Each choice of a request is a row of the batch: it joins when there is room, in the order of arrival, and leaves when
 * it ends.  What a choice says depends on its request alone (sample.h).
 *
 * serve.c owns a request until service_submit takes it and after it is done; in between both may look at what is below
 * the line, under the lock. */
#ifndef QUARTET_SERVICE_H
#define QUARTET_SERVICE_H

#include "rlhf/chat/api.h"

#include <pthread.h>

/* What is known of a token for "logprobs": where its text ends within the choice's, log p before temperature and
 * filters, and the most likely tokens there. */
struct noted { int id; size_t end; float logprob; struct { int id; float logprob; } top[API_TOP_LOGPROBS]; };

/* One answer.  text: what it says so far; `given` bytes of it, and `told` tokens, have been written for the client; the
 * bytes from `safe` on may still become a stop.  A choice that met a stop string is cut there. */
struct choice {
    struct request *request;
    int index;
    struct sample sample;
    struct utf8_held held;
    struct bytes text;
    size_t given, safe;
    int told;
    struct noted *noted;                  /* (most), or NULL */
    bool cut, started, ended;
};

struct request {
    struct api_request ask;
    struct sample_settings how;
    struct choice *choice;
    int choices, open;                    /* of which `open` have not ended */
    char id[40];
    int64_t created;
    int fd;                               /* the client's socket, -1 without */
    double deadline;
    bool left;                            /* the client has closed its side */
    struct request *next;                 /* the order of arrival */
    /* ---- both sides, under the lock ---- */
    struct bytes out; size_t sent;        /* written for the client (events, or the whole answer), and sent of it */
    int status;                           /* of the answer, once done */
    bool done, gone;                      /* nothing more will be written; serve.c has let go of it */
    void *waits;                          /* serve.c: its suspended connection, or NULL */
};

struct service {
    struct api_model model;
    struct model *m;
    const int *stop; int n_stop;
    uint64_t seed;
    int slots, queue;                     /* rows at once, and choices that may wait for one */
    double seconds;                       /* longest time from submit to the end */
    void (*wake)(void *connection);       /* tells serve.c that there is more in out; under the lock */

    pthread_mutex_t lock;
    pthread_cond_t more;
    struct request *first;                /* submitted and not done, in the order of arrival */
    int taken;                            /* their choices that have not ended */
    uint64_t arrived;
    bool stopping;
    struct sampler *sampler;              /* the rest is service_run's alone */
    float *logits;                        /* (slots, V) */
    double looked;                        /* when it last looked for clients that have left */
};

/* m is opened with cache_slots = logits_rows = sv->slots. */
void service_open(struct service *sv);
void service_close(struct service *sv);

/* 0, or -1 with *error: 429 when the queue is full, 503 when the server is stopping.  request->ask is filled and the
 * caller's *request zeroed otherwise; it is the caller's again, to service_free, when it is done or was not taken. */
int service_submit(struct service *sv, struct request *request, struct api_error *error);
/* Under no lock: the client of a request that is not done has left: the service frees it then.  Else frees it. */
void service_leave(struct service *sv, struct request *request);

/* Answers requests until stop() says so, then those it has for at most `seconds` more.  Those that are left get 503. */
void service_run(struct service *sv, bool (*stop)(void), double seconds);

const char *choice_reason(const struct choice *c);      /* "stop", "length", or NULL while it runs */

/* reply.c: appends to request->out what has become known of a choice (events), or of all (the whole answer); an event
 * with the error and the end of events. */
void reply_events(struct request *r, struct choice *c, const struct api_model *m);
void reply_whole(struct request *r, const struct api_model *m);
void reply_last_event(struct request *r, const struct api_model *m);
void reply_failed(struct request *r, const struct api_error *error);

#endif
