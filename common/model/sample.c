/* sample.c - generation.  Reading a prompt and drawing the next token are the same act: a slot feeds the tokens it
 * knows and the cache does not, and when none is left it draws one.  So prompts and single tokens share every call
 * of the model, and a slot takes the next request in the step after its sample ends.  Rows do not influence each
 * other's bits: when a request comes and which slot it gets changes nothing but time. */
#include "common/model/sample.h"
#include "common/model/device.h"
#include "common/base/signals.h"

#include <assert.h>
#include <stdlib.h>

struct job { const struct sample_request *request; struct sample_result *result; };

struct slot { struct job job; /* request NULL: free */ int fed, limit; struct rng rng; };

struct sampler {
    struct model *m;
    bool (*token)(void *self, struct sample_result *r, int token);
    void *self;
    struct job *waiting;                        /* from next on; grows */
    int next, n;
    int slots, live;
    struct slot *slot;
    int *tokens, *row_slots, *positions;        /* (max_tokens): the rows of the next decode */
    int *ready, *rows;                          /* (slots): slots whose last known token is among these rows, and that
                                                   row; then what is drawn there, and how */
    int *drawn;
    float *logprobs;
    double *uniform;
    struct sampling *sampling;
};

struct sampler *sample_open(struct model *m, bool (*token)(void *self, struct sample_result *r, int token), void *self)
{
    assert(m->use.cache_slots > 0 && m->use.logits_rows > 0 && m->use.max_tokens > 0);
    struct sampler *g = host_alloc(1, sizeof *g);
    size_t rows = (size_t)m->use.max_tokens, wide = (size_t)int_min(m->use.cache_slots, m->use.max_tokens);
    int *ints = host_alloc(3 * rows + 3 * wide, sizeof *ints);
    *g = (struct sampler){
        .m = m, .token = token, .self = self, .slots = (int)wide, .slot = host_alloc(wide, sizeof *g->slot),
        .tokens = ints, .row_slots = ints + rows, .positions = ints + 2 * rows, .ready = ints + 3 * rows,
        .rows = ints + 3 * rows + wide, .drawn = ints + 3 * rows + 2 * wide,
        .logprobs = host_alloc(wide, sizeof *g->logprobs), .uniform = host_alloc(wide, sizeof *g->uniform),
        .sampling = host_alloc(wide, sizeof *g->sampling)};
    return g;
}

void sample_close(struct sampler *g)
{
    free(g->waiting);
    free(g->slot);
    free(g->tokens);
    free(g->logprobs);
    free(g->uniform);
    free(g->sampling);
    free(g);
}

void sample_add(struct sampler *g, const struct sample_request *request, struct sample_result *result)
{
    int most = int_min(g->m->config.context, g->m->use.cache_capacity);
    if (request->n_prompt < 1 || request->n_prompt > most)
        die("a prompt of %d tokens does not fit the context of %d", request->n_prompt, most);
    assert(request->how->sampling.allowed <= g->m->config.vocab);
    result->n = 0;
    result->stopped = false;
    result->done = int_min(request->max_new, most - request->n_prompt) < 1;
    if (result->done) return;
    if (g->next == g->n) g->next = g->n = 0;
    g->waiting = host_grow(g->waiting, (size_t)g->n + 1, sizeof *g->waiting);
    g->waiting[g->n++] = (struct job){request, result};
}

/* Gives waiting requests to free slots. */
static void refill(struct sampler *g)
{
    int most = int_min(g->m->config.context, g->m->use.cache_capacity);
    for (int i = 0; i < g->slots && g->next < g->n; i++) {
        if (g->slot[i].job.request) continue;
        struct job job = g->waiting[g->next++];
        const struct sample_request *r = job.request;
        g->slot[i] = (struct slot){job, 0, int_min(r->max_new, most - r->n_prompt),
                                   rng_at(r->seed, r->how->stream, r->how->step, r->index)};
        g->live++;
    }
}

static int token_at(const struct job *job, int position)
{
    int n_prompt = job->request->n_prompt;
    return position < n_prompt ? job->request->prompt[position] : job->result->tokens[position - n_prompt];
}

/* Lays out one decode: a row for each live slot, and what is left of max_tokens for the longer prompts, first slots
 * first. Returns the number of rows; *ready_count slots can draw after it. */
static int lay_rows(struct sampler *g, int *ready_count)
{
    int n = 0, spare = g->m->use.max_tokens - g->live;
    *ready_count = 0;
    for (int i = 0; i < g->slots; i++) {
        struct slot *slot = &g->slot[i];
        if (!slot->job.request) continue;
        int known = slot->job.request->n_prompt + slot->job.result->n, more = int_min(known - slot->fed - 1, spare);
        spare -= more;
        for (int k = 0; k <= more; k++, n++) {
            g->tokens[n] = token_at(&slot->job, slot->fed);
            g->row_slots[n] = i;
            g->positions[n] = slot->fed++;
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
static void accept(struct sampler *g, struct slot *s, int token, float logprob)
{
    struct sample_result *r = s->job.result;
    r->tokens[r->n] = token;
    if (r->logprobs) r->logprobs[r->n] = logprob;
    r->n++;
    r->stopped = is_stop(s->job.request->how, token);
    bool wanted = r->stopped || !g->token || g->token(g->self, r, token);
    r->done = r->stopped || !wanted || r->n == s->limit;
    if (!r->done) return;
    s->job.request = NULL;
    g->live--;
}

static void draw(struct sampler *g, int ready)
{
    for (int first = 0; first < ready; first += g->m->use.logits_rows) {
        int n = int_min(g->m->use.logits_rows, ready - first);
        for (int i = 0; i < n; i++) {
            struct slot *s = &g->slot[g->ready[first + i]];
            g->uniform[i] = rng_uniform(&s->rng);
            g->sampling[i] = s->job.request->how->sampling;
        }
        model_sample(g->m, g->drawn, g->logprobs, g->rows + first, g->uniform, g->sampling, n);
        for (int i = 0; i < n; i++) accept(g, &g->slot[g->ready[first + i]], g->drawn[i], g->logprobs[i]);
    }
}

bool sample_step(struct sampler *g)
{
    int ready;
    refill(g);
    if (g->live == 0) return false;
    model_decode(g->m, g->tokens, g->row_slots, g->positions, lay_rows(g, &ready));
    draw(g, ready);
    device_wait();                                  /* the arrays are laid out anew, also when nothing was drawn */
    return true;
}

void sample_run(struct model *m, const struct sample_request *request, struct sample_result *result, int n,
                bool (*token)(void *self, struct sample_result *r, int token), void *self)
{
    struct sampler *g = sample_open(m, token, self);
    for (int i = 0; i < n; i++) sample_add(g, &request[i], &result[i]);
    while (!signals_stop() && sample_step(g)) {}
    sample_close(g);
}
