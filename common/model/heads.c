/* heads.c - what is read off the hidden rows: losses and samples of the next token, or one number.  Only the rows that
 * count go through a head. */
#include "common/model/model.h"
#include "common/model/device.h"

#include <assert.h>

void heads_open(struct model *m, struct memory *memory)
{
    struct head_acts *h = &m->head;
    size_t N = (size_t)m->use.max_tokens, NC = N * (size_t)config_embed_width(&m->config);
    size_t n = (size_t)m->use.logits_rows;
    float **vocabulary[] = {&h->logprobs, &h->entropy, &h->losses, &h->old_logprobs, &h->advantages},
          **scalar[] = {&h->values, &h->dvalues};
    if (!h->counted) h->counted = host_alloc(2 * N, sizeof *h->counted);
    if (!h->own_tokens) h->own_tokens = host_alloc(N, sizeof *h->own_tokens);
    if (!h->host_logprobs) h->host_logprobs = host_alloc(N, sizeof *h->host_logprobs);
    if (n > 0) {
        h->tokens = memory_take(memory, MEMORY_CACHE, n, sizeof *h->tokens);
        h->drawn_logprobs = memory_take(memory, MEMORY_CACHE, n, sizeof *h->drawn_logprobs);
    }
    if (!model_last(m)) return;
    h->hidden = memory_take(memory, MEMORY_ACTS, NC, sizeof *h->hidden);
    if (m->use.train) h->dhidden = memory_take(memory, MEMORY_ACTS, NC, sizeof *h->dhidden);
    h->rows = memory_take(memory, MEMORY_ACTS, N, sizeof *h->rows);
    h->targets = memory_take(memory, MEMORY_ACTS, N, sizeof *h->targets);
    for (int i = 0; i < (m->config.head == HEAD_SCALAR ? 2 : 5); i++)
        *(m->config.head == HEAD_SCALAR ? scalar : vocabulary)[i] = memory_take(memory, MEMORY_ACTS, N, sizeof(float));
    size_t t = (size_t)m->place.t;
    if (t > 1 && m->config.head == HEAD_VOCABULARY)
        h->parts = memory_take(memory, MEMORY_ACTS, t * N, sizeof *h->parts);
    if (n == 0) return;
    if (t > 1)
        h->part_logits = memory_take(memory, MEMORY_CACHE, t * n * (size_t)m->local.vocab, sizeof *h->part_logits);
    m->logits = memory_take(memory, MEMORY_CACHE, n * (size_t)m->config.vocab, sizeof *m->logits);
    h->uniform = memory_take(memory, MEMORY_CACHE, n, sizeof *h->uniform);
    h->sampling = memory_take(memory, MEMORY_CACHE, n, sizeof *h->sampling);
}

/* Rows of the last forward as the head's input: the hidden rows themselves, or, when not all are wanted, a copy. */
static const act_t *head_rows(struct model *m, const int *rows, int n)
{
    if (n == m->N) return m->hidden;
    device_put(m->head.rows, rows, (size_t)n * sizeof(int));
    rows_gather(m->head.hidden, m->hidden, m->head.rows, n, config_embed_width(&m->config));
    return m->head.hidden;
}

/* Brings the gradient of those rows to dhidden: 0 in all other rows. */
static void head_scatter(struct model *m, int n)
{
    if (n == m->N) return;
    device_clear(m->dhidden, (size_t)m->N * (size_t)config_embed_width(&m->config) * sizeof(act_t));
    if (n > 0) rows_scatter(m->dhidden, m->head.dhidden, m->head.rows, n, config_embed_width(&m->config));
}

static act_t *head_gradient(struct model *m, int n) { return n == m->N ? m->dhidden : m->head.dhidden; }

/* Numbers of the counted rows into rows, and their targets onto the device; returns how many. */
static int counted_rows(struct model *m, const struct batch *b, int *rows, int *targets)
{
    int n = 0;
    for (int i = 0; i < b->N; i++) {
        if (!b->mask[i]) continue;
        rows[n] = i;
        targets[n++] = b->targets[i];
    }
    device_put(m->head.targets, model_own_tokens(m, targets, n), (size_t)n * sizeof(int));
    return n;
}

static void gather_parts(void *self, size_t bytes)
{
    struct model *m = self;
    char *all = (char *)m->head.parts;
    comm_gather(m->use.comm, GROUP_TENSOR, all, all + (size_t)m->place.tensor * bytes, bytes);
    comm_wait(m->use.comm);
}

static struct token_parts parts_of(struct model *m)
{
    int own = m->local.vocab, rank = m->place.tensor;
    return (struct token_parts){rank, m->place.t, int_min(own, m->config.vocab - rank * own),
                                m->head.parts, gather_parts, m};
}

int model_token_loss(struct model *m, const struct batch *b, const struct token_loss *loss, float *logprobs,
                     float *entropy, float *losses, bool backward)
{
    struct head_acts *a = &m->head;
    const struct config *c = &m->local;
    struct token_parts parts = parts_of(m);
    float *dweight = c->tied ? m->grads.embed : m->grads.head.weight;
    assert(b->N == m->N && c->head == HEAD_VOCABULARY && (!backward || m->use.train));
    int *rows = a->counted, n = counted_rows(m, b, rows, rows + b->N);
    size_t bytes = (size_t)n * sizeof(float);
    if (n > 0) {
        struct token_loss l = *loss;
        l.bias = m->params.head.bias;
        l.dbias = m->grads.head.bias;
        l.parts = parts.ranks > 1 ? &parts : NULL;
        if (l.kind == LOSS_POLICY) {
            device_put(a->old_logprobs, loss->old_logprobs, bytes);
            device_put(a->advantages, loss->advantages, bytes);
            l.old_logprobs = a->old_logprobs;
            l.advantages = a->advantages;
        }
        const act_t *h = head_rows(m, rows, n);
        token_loss(a->logprobs, entropy ? a->entropy : NULL, losses ? a->losses : NULL,
                   backward ? head_gradient(m, n) : NULL, backward ? dweight : NULL, h, a->targets,
                   m->params.head.packed, &l, m->work, n, config_embed_width(c), c->vocab);
        if (logprobs) device_get(logprobs, a->logprobs, bytes);
        if (entropy) device_get(entropy, a->entropy, bytes);
        if (losses) device_get(losses, a->losses, bytes);
    }
    device_wait();
    if (backward) head_scatter(m, n);
    return n;
}

double model_cross_entropy(struct model *m, const struct batch *b, double scale, bool backward)
{
    struct token_loss how = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = (float)scale};
    double sum = 0;
    if (!model_last(m)) return 0;
    int n = model_token_loss(m, b, &how, m->head.host_logprobs, NULL, NULL, backward);
    for (int i = 0; i < n; i++) sum -= (double)m->head.host_logprobs[i];
    return sum;
}

void model_values(struct model *m, float *values, const int *rows, int n)
{
    assert(m->config.head == HEAD_SCALAR && n <= m->N);
    if (n > 0 && model_last(m)) {
        const act_t *h = head_rows(m, rows, n);
        value_forward(m->head.values, h, m->params.score, m->params.score_bias, n, config_embed_width(&m->config));
        device_get(values, m->head.values, (size_t)n * sizeof(float));
    }
    device_wait();
    if (!model_kept(m)) comm_share_host(m->use.comm, GROUP_PIPE, values, (size_t)n * sizeof(float), m->place.p - 1);
}

void model_values_backward(struct model *m, const float *dvalues, const int *rows, int n)
{
    assert(m->config.head == HEAD_SCALAR && m->use.train && n <= m->N);
    if (n > 0) {
        const act_t *h = head_rows(m, rows, n);
        device_put(m->head.dvalues, dvalues, (size_t)n * sizeof(float));
        value_backward(head_gradient(m, n), m->grads.score, m->grads.score_bias, m->head.dvalues, h, m->params.score, n,
                       config_embed_width(&m->config));
    }
    head_scatter(m, n);
    device_wait();
}

void model_logits(struct model *m, const int *rows, int n)
{
    assert(n <= m->use.logits_rows && n <= m->N && m->config.head == HEAD_VOCABULARY);
    int V = m->config.vocab, own = m->local.vocab;
    size_t count = (size_t)n * (size_t)own;
    float *all = m->head.part_logits, *to = m->place.t == 1 ? m->logits : all + (size_t)m->place.tensor * count;
    if (n == 0) return;
    logits_forward(to, head_rows(m, rows, n), m->params.head.packed, m->params.head.bias, n, own,
                   config_embed_width(&m->config));
    if (m->place.t == 1) return;
    comm_gather(m->use.comm, GROUP_TENSOR, all, to, count * sizeof *to);
    comm_wait(m->use.comm);
    logits_join(m->logits, all, n, V, own);
}

static void draw(struct model *m, float *logits, const int *rows, const double *uniform,
                 const struct sampling *sampling, int n)
{
    struct head_acts *h = &m->head;
    size_t count = (size_t)n;
    model_logits(m, rows, n);
    if (logits) device_get(logits, m->logits, count * (size_t)m->config.vocab * sizeof *logits);
    device_put(h->uniform, uniform, count * sizeof *uniform);
    device_put(h->sampling, sampling, count * sizeof *sampling);
    sample_rows(h->tokens, h->drawn_logprobs, m->logits, h->uniform, h->sampling, n, m->config.vocab, m->local.vocab);
    comm_share(m->use.comm, GROUP_TENSOR, h->tokens, count * sizeof(int), 0);     /* they go on alike */
    /* No test sees it: they have drawn alike, too. */
    comm_wait(m->use.comm);
}

void model_sample(struct model *m, int *tokens, float *logprobs, float *logits, const int *rows, const double *uniform,
                  const struct sampling *sampling, int n)
{
    struct head_acts *h = &m->head;
    struct comm *comm = m->use.comm;
    size_t count = (size_t)n;
    int last = m->place.p - 1;
    if (model_last(m)) draw(m, logits, rows, uniform, sampling, n);
    comm_share(comm, GROUP_PIPE, h->tokens, count * sizeof *tokens, last);
    comm_share(comm, GROUP_PIPE, h->drawn_logprobs, count * sizeof *logprobs, last);
    comm_wait(comm);
    device_get(tokens, h->tokens, count * sizeof *tokens);
    device_get(logprobs, h->drawn_logprobs, count * sizeof *logprobs);
    device_wait();
}
