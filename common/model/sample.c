/* sample.c - generation.  Reading a prompt and drawing the next token are the same act: a slot feeds the tokens it
 * knows and the cache does not, and when none is left it draws one.  So prompts and single tokens share every call
 * of the model, and a slot takes the next request in the step after its sample ends.  Rows do not influence each
 * other's bits: the order in which slots are filled changes nothing but time. */
#include "common/model/sample.h"
#include "common/model/device.h"
#include "common/base/signals.h"

#include <assert.h>
#include <stdlib.h>

struct slot { int request /* or -1 */, fed, limit; struct rng rng; };

struct generator {
    struct model *m;
    const struct sample_settings *s;
    const struct sample_request *request;
    struct sample_result *result;
    bool (*token)(void *self, int request, int token);
    void *self;
    int n, next, slots, live;
    struct slot *slot;
    int *tokens, *row_slots, *positions;        /* (max_tokens): the rows of the next decode */
    int *ready, *rows;                  /* (slots): slots whose last known token is among these rows, and that row */
    int *drawn; float *logprobs; double *uniform;   /* (slots) */
};

/* New tokens a request may get: what it asks for, as far as context and cache reach. */
static int room(const struct model *m, const struct sample_request *r)
{
    int most = int_min(m->config.context, m->use.cache_capacity);
    if (r->n_prompt < 1 || r->n_prompt > most)
        die("a prompt of %d tokens does not fit the context of %d", r->n_prompt, most);
    return int_min(r->max_new, most - r->n_prompt);
}

/* Gives waiting requests to free slots. */
static void refill(struct generator *g)
{
    for (int i = 0; i < g->slots && g->next < g->n; i++) {
        if (g->slot[i].request >= 0) continue;
        for (; g->next < g->n; g->next++) {
            const struct sample_request *r = &g->request[g->next];
            int limit = room(g->m, r);
            g->result[g->next].n = 0;
            g->result[g->next].stopped = false;
            if (limit < 1) continue;
            g->slot[i] = (struct slot){g->next++, 0, limit, rng_at(r->seed, g->s->stream, g->s->step, r->index)};
            g->live++;
            break;
        }
    }
}

static int known_tokens(const struct generator *g, int request)
{
    return g->request[request].n_prompt + g->result[request].n;
}

static int token_at(const struct generator *g, int request, int position)
{
    int n_prompt = g->request[request].n_prompt;
    return position < n_prompt ? g->request[request].prompt[position] : g->result[request].tokens[position - n_prompt];
}

/* Lays out one decode: a row for each live slot, and what is left of max_tokens for the longer prompts, first slots
 * first. Returns the number of rows; *ready_count slots can draw after it. */
static int lay_rows(struct generator *g, int *ready_count)
{
    int n = 0, spare = g->m->use.max_tokens - g->live;
    *ready_count = 0;
    for (int i = 0; i < g->slots; i++) {
        struct slot *slot = &g->slot[i];
        if (slot->request < 0) continue;
        int known = known_tokens(g, slot->request), more = int_min(known - slot->fed - 1, spare);
        spare -= more;
        for (int k = 0; k <= more; k++, n++) {
            g->tokens[n] = token_at(g, slot->request, slot->fed);
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
static void accept(struct generator *g, int slot, int token, float logprob)
{
    struct slot *s = &g->slot[slot];
    int request = s->request;
    struct sample_result *r = &g->result[request];
    r->tokens[r->n] = token;
    r->logprobs[r->n++] = logprob;
    r->stopped = is_stop(g->s, token);
    bool wanted = r->stopped || !g->token || g->token(g->self, request, token);
    if (!r->stopped && wanted && r->n < s->limit) return;
    s->request = -1;
    g->live--;
}

static void draw(struct generator *g, int ready)
{
    struct model *m = g->m;
    for (int first = 0; first < ready; first += m->use.logits_rows) {
        int n = int_min(m->use.logits_rows, ready - first);
        for (int i = 0; i < n; i++) g->uniform[i] = rng_uniform(&g->slot[g->ready[first + i]].rng);
        model_logits(m, g->rows + first, n);
        sample_rows(g->drawn, g->logprobs, m->logits, g->uniform, &g->s->sampling, n, m->config.vocab, g->s->allowed);
        for (int i = 0; i < n; i++) accept(g, g->ready[first + i], g->drawn[i], g->logprobs[i]);
    }
}

void sample_run(struct model *m, const struct sample_settings *s, const struct sample_request *request,
                struct sample_result *result, int n, bool (*token)(void *self, int request, int token), void *self)
{
    assert(m->use.cache_slots > 0 && m->use.logits_rows > 0 && m->use.max_tokens > 0);
    assert(s->allowed > 0 && s->allowed <= m->config.vocab);
    int slots = int_min(m->use.cache_slots, m->use.max_tokens), ready;
    size_t rows = (size_t)m->use.max_tokens, wide = (size_t)slots;
    int *ints = host_alloc(3 * rows + 3 * wide, sizeof *ints);
    struct generator g = {
        .m = m, .s = s, .request = request, .result = result, .token = token, .self = self, .n = n, .slots = slots,
        .slot = host_alloc(wide, sizeof *g.slot), .tokens = ints, .row_slots = ints + rows,
        .positions = ints + 2 * rows, .ready = ints + 3 * rows, .rows = ints + 3 * rows + wide,
        .drawn = ints + 3 * rows + 2 * wide, .logprobs = host_alloc(wide, sizeof(float)),
        .uniform = host_alloc(wide, sizeof(double))};
    for (int i = 0; i < slots; i++) g.slot[i].request = -1;
    for (refill(&g); g.live > 0 && !signals_stop(); refill(&g)) {
        model_decode(m, g.tokens, g.row_slots, g.positions, lay_rows(&g, &ready));
        draw(&g, ready);
        device_wait();                              /* the arrays are laid out anew, also when nothing was drawn */
    }
    free(ints);
    free(g.slot);
    free(g.logprobs);
    free(g.uniform);
}
