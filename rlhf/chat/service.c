/* service.c - the model's thread.  Between two steps, under the lock, it lets go of clients that have left, gives free
 * rows to choices in the order of arrival, and hands out what the last step has drawn.  A step needs no lock. */
#define _GNU_SOURCE
#include "rlhf/chat/service.h"

#include <assert.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the text of a choice as its tokens come, up to a stop ---- */

/* Looks for stops from c->safe on: cuts the text at the first that is whole, or finds from where on the text may still
 * become one. */
static void find_stops(struct choice *c)
{
    const struct api_request *ask = &c->request->ask;
    size_t hold = c->text.size;
    for (size_t at = c->safe; at < c->text.size; at++)
        for (int i = 0; i < ask->n_stop; i++) {
            const struct bytes *stop = &ask->stop[i];
            size_t left = c->text.size - at, n = left < stop->size ? left : stop->size;
            if (memcmp(c->text.data + at, stop->data, n) != 0) continue;
            if (n == stop->size) {
                c->text.size = c->safe = at;
                c->cut = true;
                return;
            }
            if (at < hold) hold = at;
        }
    c->safe = hold;
}

/* The log-probabilities of the token and of the most likely ones, of equal ones the lowest ids first. */
static void note_token(struct choice *c, int token, int vocab)
{
    const float *z = c->sample.logits;
    struct noted *t = &c->noted[c->sample.n - 1];
    int top = c->request->ask.top, n = 0;
    double max = -INFINITY, sum = 0;
    for (int v = 0; v < vocab; v++) max = fmax(max, (double)z[v]);
    for (int v = 0; v < vocab; v++) sum += exp((double)z[v] - max);
    double norm = max + log(sum);
    t->id = token;
    t->logprob = (float)((double)z[token] - norm);
    for (int v = 0; v < vocab && top > 0; v++) {
        float logprob = (float)((double)z[v] - norm);
        if (n == top && !(logprob > t->top[n - 1].logprob)) continue;
        int at = n < top ? n++ : n - 1;
        for (; at > 0 && logprob > t->top[at - 1].logprob; at--) t->top[at] = t->top[at - 1];
        t->top[at].id = v;
        t->top[at].logprob = logprob;
    }
    for (; n < top; n++) t->top[n].id = -1;
}

static bool choice_take(struct choice *c, const struct tokenizer *t, int token, int vocab)
{
    tokenizer_stream(&c->text, &c->held, t, &token, 1);
    if (c->noted) {
        note_token(c, token, vocab);
        c->noted[c->sample.n - 1].end = c->text.size;
    }
    find_stops(c);
    return !c->cut;
}

static void choice_end(struct choice *c, const struct tokenizer *t)
{
    if (!c->cut) {
        tokenizer_stream(&c->text, &c->held, t, NULL, 0);
        find_stops(c);
        int n = c->sample.n - c->sample.stopped;
        if (c->noted && n > 0) c->noted[n - 1].end = c->text.size;
    }
    c->safe = c->text.size;
    c->ended = true;
}

const char *choice_reason(const struct choice *c)
{
    return !c->ended ? NULL : c->cut || c->sample.stopped ? "stop" : "length";
}

static bool take_token(void *self, const struct sample *s, int token)
{
    const struct service *sv = self;
    struct choice *c = (struct choice *)((char *)(uintptr_t)s - offsetof(struct choice, sample));
    return choice_take(c, sv->model.tokenizer, token, sv->model.standard.allowed);
}

void service_open(struct service *sv)
{
    sv->logits = host_alloc((size_t)sv->slots * (size_t)sv->m->config.vocab, sizeof *sv->logits);
    sv->sampler = sampler_open(sv->m, sv->logits, take_token, sv);
    pthread_mutex_init(&sv->lock, NULL);
    pthread_cond_init(&sv->more, NULL);
}

void service_close(struct service *sv)
{
    assert(!sv->first);
    sampler_close(sv->sampler);
    free(sv->logits);
    pthread_mutex_destroy(&sv->lock);
    pthread_cond_destroy(&sv->more);
}

/* ---- requests ---- */

static void make_choices(struct request *r, const struct service *sv)
{
    const struct api_request *ask = &r->ask;
    r->choices = r->open = (int)ask->end.count * ask->n;
    r->choice = host_alloc((size_t)r->choices, sizeof *r->choice);
    for (int i = 0; i < r->choices; i++) {
        struct choice *c = &r->choice[i];
        int prompt = i / ask->n, begin = prompt ? ask->end.id[prompt - 1] : 0, length = ask->end.id[prompt] - begin;
        int most = int_min(ask->most, sv->model.context - length);
        c->request = r;
        c->index = i;
        c->sample = (struct sample){.prompt = ask->ids.id + begin, .n_prompt = length, .index = (uint64_t)(i % ask->n),
                                    .most = most, .tokens = host_alloc((size_t)most, sizeof(int)),
                                    .watched = ask->logprobs};
        if (ask->logprobs) c->noted = host_alloc((size_t)most, sizeof *c->noted);
    }
}

static void request_free(struct request *r)
{
    for (int i = 0; i < r->choices; i++) {
        free(r->choice[i].sample.tokens);
        free(r->choice[i].noted);
        bytes_free(&r->choice[i].text);
    }
    free(r->choice);
    bytes_free(&r->out);
    api_free(&r->ask);
    free(r);
}

int service_submit(struct service *sv, struct request *r, struct api_error *error)
{
    int result = 0, more = (int)r->ask.end.count * r->ask.n;
    unsigned char random[12];
    random_bytes(random, sizeof random);
    pthread_mutex_lock(&sv->lock);
    if (sv->stopping) result = api_fail(error, 503, "", "The server is stopping");
    else if (sv->taken + more > sv->slots + sv->queue)
        result = api_fail(error, 429, "", "The server is busy: %d answers are under way or waiting; try again later",
                          sv->taken);
    else {
        int n = snprintf(r->id, sizeof r->id, r->ask.chat ? "chatcmpl-" : "cmpl-");
        for (size_t i = 0; i < sizeof random; i++) n += snprintf(r->id + n, 3, "%02x", random[i]);
        r->created = nanoseconds_utc() / 1000000000;
        r->deadline = seconds_now() + sv->seconds;
        r->how = (struct sample_settings){.sampling = r->ask.sampling, .stop = sv->stop, .n_stop = sv->n_stop,
                                          .stream = RNG_SAMPLE, .seed = r->ask.seeded ? r->ask.seed : sv->seed,
                                          .step = r->ask.seeded ? 0 : (uint32_t)++sv->arrived};
        make_choices(r, sv);
        struct request **last = &sv->first;
        while (*last) last = &(*last)->next;
        *last = r;
        sv->taken += more;
        pthread_cond_signal(&sv->more);
    }
    pthread_mutex_unlock(&sv->lock);
    return result;
}

void service_leave(struct service *sv, struct request *r)
{
    bool listed = false;
    pthread_mutex_lock(&sv->lock);
    for (const struct request *p = sv->first; p; p = p->next) listed = listed || p == r;
    r->gone = true;
    r->fd = -1;
    r->waits = NULL;
    pthread_cond_signal(&sv->more);
    pthread_mutex_unlock(&sv->lock);
    if (!listed) request_free(r);
}

/* ---- between two steps, under the lock ---- */

static void wake(struct service *sv, struct request *r)
{
    if (r->waits) sv->wake(r->waits);
    r->waits = NULL;
}

/* Takes the request off the list; with an error when it is not answered. */
static void finish(struct service *sv, struct request *r, const struct api_error *error)
{
    struct request **at = &sv->first;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    for (int i = 0; i < r->choices; i++) sampler_leave(sv->sampler, &r->choice[i].sample);
    sv->taken -= r->open;
    if (r->gone) {
        request_free(r);
        return;
    }
    r->status = 200;
    if (error) reply_failed(r, error);
    else if (r->ask.stream) reply_last_event(r, &sv->model);
    else reply_whole(r, &sv->model);
    r->done = true;
    wake(sv, r);
}

/* Clients close their side when they give up; nobody else looks at a socket while its answer is being made. */
static void look_for_left(struct service *sv)
{
    double now = seconds_now();
    if (now < sv->looked + 0.05) return;
    sv->looked = now;
    for (struct request *r = sv->first; r; r = r->next) {
        struct pollfd p = {.fd = r->fd, .events = POLLRDHUP};
        if (r->fd >= 0 && poll(&p, 1, 0) == 1) r->left = p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
    }
}

static void let_go(struct service *sv)
{
    double now = seconds_now();
    struct api_error late;
    if (sv->stopping) api_fail(&late, 503, "", "The server is stopping");
    else api_fail(&late, 503, "", "The answer took longer than %g seconds", sv->seconds);
    look_for_left(sv);
    for (struct request *r = sv->first, *next; r; r = next) {
        next = r->next;
        if (r->gone || r->left || now > r->deadline) finish(sv, r, &late);
    }
}

/* Gives free rows to the choices that wait.  Their prompt and one token fit the context (api_read): all are live. */
static void admit(struct service *sv)
{
    for (struct request *r = sv->first; r; r = r->next)
        for (int i = 0; i < r->choices && sampler_room(sv->sampler) > 0; i++) {
            struct choice *c = &r->choice[i];
            if (!c->ended && !c->sample.live) sampler_join(sv->sampler, &c->sample, &r->how);
        }
}

static void hand_out(struct service *sv)
{
    for (struct request *r = sv->first, *next; r; r = next) {
        next = r->next;
        for (int i = 0; i < r->choices; i++) {
            struct choice *c = &r->choice[i];
            bool joined = c->sample.live || c->sample.n > 0;
            if (c->ended || !joined) continue;
            if (!c->sample.live) {
                choice_end(c, sv->model.tokenizer);
                r->open--;
                sv->taken--;
            }
            if (r->ask.stream) reply_events(r, c, &sv->model);
        }
        if (r->open == 0) finish(sv, r, NULL);
        else if (r->out.size > 0) wake(sv, r);
    }
}

/* ---- the loop ---- */

static void nap(struct service *sv)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&sv->more, &sv->lock, &until);
}

void service_run(struct service *sv, bool (*stop)(void), double seconds)
{
    double end = INFINITY;
    pthread_mutex_lock(&sv->lock);
    while (!(sv->stopping && !sv->first)) {
        if (!sv->stopping && stop()) {
            sv->stopping = true;
            end = seconds_now() + seconds;
        }
        for (struct request *r = sv->first; r && seconds_now() > end; r = r->next) r->deadline = 0;
        let_go(sv);
        admit(sv);
        if (!sv->first) {
            if (!sv->stopping) nap(sv);
            continue;
        }
        pthread_mutex_unlock(&sv->lock);
        sampler_step(sv->sampler);
        pthread_mutex_lock(&sv->lock);
        hand_out(sv);
    }
    pthread_mutex_unlock(&sv->lock);
}
