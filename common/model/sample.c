/* sample.c - generation.  Reading a prompt and drawing the next token are the same act: a slot feeds the tokens it
 * knows and the cache does not, and when none is left it draws one.  So prompts and single tokens share every call
 * of the model, and a slot takes the next sample in the step after its own ends.  Rows do not influence each other's
 * bits: which slot a sample gets, and when, changes nothing but time. */
#include "common/model/sample.h"
#include "common/model/device.h"
#include "common/base/signals.h"

#include <assert.h>
#include <stdlib.h>

struct slot { struct sample *sample; /* NULL: free */ int fed, limit; struct rng rng; };

struct sampler {
    struct model *m;
    const struct sample_settings *how;
    bool (*token)(void *self, const struct sample *s, int token);
    void *self;
    struct sample *next, *end;                  /* those that wait */
    int longest, slots, live;
    struct slot *slot;
    int *tokens, *row_slots, *positions;        /* (max_tokens): the rows of the next decode */
    int *ready, *rows;                          /* (slots): slots whose last known token is among these rows, and that
                                                   row; then what is drawn there, and how */
    int *drawn;
    float *logprobs;
    double *uniform;
    struct sampling *sampling;
};

/* Gives waiting samples to free slots. */
static void refill(struct sampler *g)
{
    for (int i = 0; i < g->slots; i++) {
        while (!g->slot[i].sample && g->next < g->end) {
            struct sample *s = g->next++;
            int limit = int_min(s->most, g->longest - s->n_prompt);
            if (limit < 1) continue;
            g->slot[i] = (struct slot){s, 0, limit, rng_at(g->how->seed, g->how->stream, g->how->step, s->index)};
            g->live++;
        }
    }
}

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

/* Takes a drawn token into its sample; the slot is free again when that was the last. */
static void accept(struct sampler *g, struct slot *slot, int token, float logprob)
{
    struct sample *s = slot->sample;
    s->tokens[s->n] = token;
    if (s->logprobs) s->logprobs[s->n] = logprob;
    s->n++;
    s->stopped = is_stop(g->how, token);
    bool wanted = s->stopped || !g->token || g->token(g->self, s, token);
    if (!s->stopped && wanted && s->n < slot->limit) return;
    slot->sample = NULL;
    g->live--;
}

static void draw(struct sampler *g, int ready)
{
    for (int first = 0; first < ready; first += g->m->use.logits_rows) {
        int n = int_min(g->m->use.logits_rows, ready - first);
        for (int i = 0; i < n; i++) g->uniform[i] = rng_uniform(&g->slot[g->ready[first + i]].rng);
        model_sample(g->m, g->drawn, g->logprobs, g->rows + first, g->uniform, g->sampling, n);
        for (int i = 0; i < n; i++) accept(g, &g->slot[g->ready[first + i]], g->drawn[i], g->logprobs[i]);
    }
}

/* One decode: up to max_tokens rows of prompts, and a new token for every sample whose prompt is read.  False when no
 * sample is left. */
static bool step(struct sampler *g)
{
    int ready;
    refill(g);
    if (g->live == 0) return false;
    model_decode(g->m, g->tokens, g->row_slots, g->positions, lay_rows(g, &ready));
    draw(g, ready);
    device_wait();                                  /* the arrays are laid out anew, also when nothing was drawn */
    return true;
}

void sample_run(struct model *m, struct sample *samples, int n, const struct sample_settings *how,
                bool (*token)(void *self, const struct sample *s, int token), void *self)
{
    assert(m->use.cache_slots > 0 && m->use.logits_rows > 0 && m->use.max_tokens > 0);
    assert(how->sampling.allowed <= m->config.vocab);
    size_t rows = (size_t)m->use.max_tokens, wide = (size_t)int_min(m->use.cache_slots, m->use.max_tokens);
    int *ints = host_alloc(3 * rows + 3 * wide, sizeof *ints);
    struct sampler g = {
        .m = m, .how = how, .token = token, .self = self, .next = samples, .end = samples + n,
        .longest = int_min(m->config.context, m->use.cache_capacity), .slots = (int)wide,
        .slot = host_alloc(wide, sizeof *g.slot), .tokens = ints, .row_slots = ints + rows,
        .positions = ints + 2 * rows, .ready = ints + 3 * rows, .rows = ints + 3 * rows + wide,
        .drawn = ints + 3 * rows + 2 * wide, .logprobs = host_alloc(wide, sizeof *g.logprobs),
        .uniform = host_alloc(wide, sizeof *g.uniform), .sampling = host_alloc(wide, sizeof *g.sampling)};
    for (int i = 0; i < n; i++) {
        if (samples[i].n_prompt < 1 || samples[i].n_prompt > g.longest)
            die("a prompt of %d tokens does not fit the context of %d", samples[i].n_prompt, g.longest);
        samples[i].n = 0;
        samples[i].stopped = false;
    }
    for (size_t i = 0; i < wide; i++) g.sampling[i] = how->sampling;
    while (!signals_stop() && step(&g)) {}
    free(g.slot);
    free(ints);
    free(g.logprobs);
    free(g.uniform);
    free(g.sampling);
}
