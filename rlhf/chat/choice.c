/* choice.c - the text of one answer as its tokens come, up to a stop. */
#include "rlhf/chat/service.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

bool choice_take(struct choice *c, const struct tokenizer *t, int token, int vocab)
{
    tokenizer_stream(&c->text, &c->held, t, &token, 1);
    if (c->noted) {
        note_token(c, token, vocab);
        c->noted[c->sample.n - 1].end = c->text.size;
    }
    find_stops(c);
    return !c->cut;
}

void choice_end(struct choice *c, const struct tokenizer *t)
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
