/* sample.c - reading a prompt and drawing the next token are the same act: a slot feeds the tokens it knows and the
 * cache does not, and when none is left it draws one.  Rows do not influence each other's bits: which slot a sample
 * gets, and when, changes nothing but time. */
#include "common/model/sample.h"
#include "common/model/device.h"
#include "common/base/signals.h"

#include <assert.h>

struct slot {
    struct sample *sample;                      /* NULL: free */
    const struct sample_settings *how;
    int fed, limit;
    struct rng rng;
};

struct sampler {
    struct model *m;
    bool (*token)(void *self, const struct sample *s, int token);
    void *self;
    int longest, slots, live;
    struct slot *slot;
    int *tokens, *row_slots, *positions;        /* (max_tokens): the rows of the next decode */
    int *ready, *rows;                          /* (slots): slots whose last known token is among these rows, and that
                                                   row; then what is drawn there, and how */
    int *drawn;
    float *logprobs, *logits;                   /* (slots); (logits_rows, V), the caller's, or NULL */
    double *uniform;
    struct sampling *sampling;
};

/* Lays out one decode: a row for each live slot, and what is left of max_tokens for the longer prompts, first slots
 * first. Returns the number of rows; *ready_count slots can draw after it. */
static int lay_rows(struct sampler *g, int *ready_count)
{
    int n = 0, spare = g->m->use.max_tokens - g->live;
    *ready_count = 0;
    for (int i = 0; i < g->slots; i++) {
        struct slot *slot = &g->slot[i];
        const struct sample *s = slot->sample;
        if (!s) continue;
        int known = s->n_prompt + s->n, more = int_min(known - slot->fed - 1, spare);
        spare -= more;
        for (int k = 0; k <= more; k++, n++) {
            int at = slot->fed++;
            g->tokens[n] = at < s->n_prompt ? s->prompt[at] : s->tokens[at - s->n_prompt];
            g->row_slots[n] = i;
            g->positions[n] = at;
        }
        if (slot->fed < known) continue;
        g->ready[*ready_count] = i;
        g->rows[(*ready_count)++] = n - 1;
    }
    return n;
}

static bool is_stop(const struct sample_settings *s, int token)
{
    for (int i = 0; i < s->n_stop; i++)
        if (s->stop[i] == token) return true;
    return false;
}

static void leave(struct sampler *g, struct slot *slot)
{
    slot->sample->live = false;
    slot->sample = NULL;
    g->live--;
}

/* Takes a drawn token into its sample; the slot is free again when that was the last. */
static void accept(struct sampler *g, struct slot *slot, int token, float logprob)
{
    struct sample *s = slot->sample;
    s->tokens[s->n] = token;
    if (s->logprobs) s->logprobs[s->n] = logprob;
    s->n++;
    s->stopped = is_stop(slot->how, token);
    bool wanted = s->stopped || !g->token || g->token(g->self, s, token);
    s->logits = NULL;
    if (s->stopped || !wanted || s->n >= slot->limit) leave(g, slot);
}

static void draw(struct sampler *g, int ready)
{
    size_t V = (size_t)g->m->config.vocab;
    for (int first = 0; first < ready; first += g->m->use.logits_rows) {
        int n = int_min(g->m->use.logits_rows, ready - first);
        bool watched = false;
        for (int i = 0; i < n; i++) {
            struct slot *slot = &g->slot[g->ready[first + i]];
            g->uniform[i] = rng_uniform(&slot->rng);
            g->sampling[i] = slot->how->sampling;
            watched = watched || slot->sample->watched;
        }
        model_sample(g->m, g->drawn, g->logprobs, watched ? g->logits : NULL, g->rows + first, g->uniform,
                     g->sampling, n);
        for (int i = 0; i < n; i++) {
            struct slot *slot = &g->slot[g->ready[first + i]];
            if (slot->sample->watched) slot->sample->logits = g->logits + (size_t)i * V;
            accept(g, slot, g->drawn[i], g->logprobs[i]);
        }
    }
}

struct sampler *sampler_open(struct model *m, float *logits,
                             bool (*token)(void *self, const struct sample *s, int token), void *self)
{
    assert(m->use.cache_slots > 0 && m->use.logits_rows > 0 && m->use.max_tokens > 0);
    size_t rows = (size_t)m->use.max_tokens, wide = (size_t)int_min(m->use.cache_slots, m->use.max_tokens);
    int *ints = host_alloc(3 * rows + 3 * wide, sizeof *ints);
    struct sampler *g = host_alloc(1, sizeof *g);
    *g = (struct sampler){
        .m = m, .token = token, .self = self, .longest = int_min(m->config.context, m->use.cache_capacity),
        .slots = (int)wide, .slot = host_alloc(wide, sizeof *g->slot), .tokens = ints, .row_slots = ints + rows,
        .positions = ints + 2 * rows, .ready = ints + 3 * rows, .rows = ints + 3 * rows + wide,
        .drawn = ints + 3 * rows + 2 * wide, .logprobs = host_alloc(wide, sizeof *g->logprobs), .logits = logits,
        .uniform = host_alloc(wide, sizeof *g->uniform), .sampling = host_alloc(wide, sizeof *g->sampling)};
    return g;
}

void sampler_close(struct sampler *g)
{
    free(g->slot);
    free(g->tokens);
    free(g->logprobs);
    free(g->uniform);
    free(g->sampling);
    free(g);
}

int sampler_room(const struct sampler *g) { return g->slots - g->live; }

void sampler_join(struct sampler *g, struct sample *s, const struct sample_settings *how)
{
    int limit = int_min(s->most, g->longest - s->n_prompt);
    assert(sampler_room(g) > 0 && how->sampling.allowed <= g->m->config.vocab && (!s->watched || g->logits));
    if (s->n_prompt < 1 || s->n_prompt > g->longest)
        die("a prompt of %d tokens does not fit the context of %d", s->n_prompt, g->longest);
    s->n = 0;
    s->stopped = s->live = false;
    s->logits = NULL;
    if (limit < 1) return;
    struct slot *slot = g->slot;
    while (slot->sample) slot++;
    *slot = (struct slot){s, how, 0, limit, rng_at(how->seed, how->stream, how->step, s->index)};
    s->live = true;
    g->live++;
}

void sampler_leave(struct sampler *g, struct sample *s)
{
    for (int i = 0; i < g->slots; i++)
        if (g->slot[i].sample == s) leave(g, &g->slot[i]);
}

bool sampler_step(struct sampler *g)
{
    int ready;
    if (g->live == 0) return false;
    model_decode(g->m, g->tokens, g->row_slots, g->positions, lay_rows(g, &ready));
    draw(g, ready);
    device_wait();                                  /* the arrays are laid out anew, also when nothing was drawn */
    return true;
}

void sample_run(struct model *m, struct sample *samples, int n, const struct sample_settings *how,
                bool (*token)(void *self, const struct sample *s, int token), void *self)
{
    struct sampler *g = sampler_open(m, NULL, token, self);
    int next = 0;
    for (int i = 0; i < n; i++) {
        samples[i].n = 0;
        samples[i].stopped = false;
    }
    for (;;) {
        while (next < n && sampler_room(g) > 0) sampler_join(g, &samples[next++], how);
        bool mine = g->live > 0 && !(model_alone(m) && signals_stop());
        if (!model_any(m, mine)) break;
        if (mine) sampler_step(g);
        else model_idle(m, false);
    }
    sampler_close(g);
}
