/* The transformer against a float64 reference: logits, log-probabilities, and the gradient of every parameter along
 * random directions; then what must be equal to the bit: recomputed, packed, on 1, 2 and 3 threads. */
#include "common/train/optim.h"
#include "test/on_device.h"
#include "test/reference.h"
#include "test/test.h"
#include "test/tiny.h"

enum { S = 4, MOST = 240 };
static const int lengths[S] = {7, 1, 19, 12}, long_lengths[S] = {133, 2, 65, 39};      /* over several blocks of keys and rows */

/* With bfloat16: of hidden states and what follows from them, and of gradients along a direction, as a share of their norm. */
#define HIDDEN 0.05
#define GRADIENT 0.05
#define FLIPPED 0.4              /* with relu, where a unit near 0 may be off in one and on in the other */

static const struct model_use training = {.train = true, .max_tokens = MOST, .max_sequences = S, .logits_rows = MOST};
static const struct token_loss cross_entropy = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 0.25f};

static int counted(const struct batch *b)
{
    int n = 0;
    for (int i = 0; i < b->N; i++) n += b->mask[i];
    return n;
}

/* Numbers of the counted rows, and a fixed gradient for each: what the scalar head is tested with. */
static int value_rows(const struct batch *b, int rows[MOST], float slopes[MOST])
{
    int n = 0;
    for (int i = 0; i < b->N; i++) {
        if (!b->mask[i]) continue;
        slopes[n] = (float)((i * 5 % 7) - 3) / 4;
        rows[n++] = i;
    }
    return n;
}

/* Forward and backward of the batch; gradients are added to m->grads. */
static void differentiate(struct model *m, const struct batch *b)
{
    int rows[MOST];
    float slopes[MOST], values[MOST];
    model_forward(m, b, true);
    if (m->config.head == HEAD_SCALAR) {
        int n = value_rows(b, rows, slopes);
        model_values(m, values, rows, n);
        model_values_backward(m, slopes, rows, n);
    } else {
        model_token_loss(m, b, &cross_entropy, values, NULL, NULL, true);
    }
    model_backward(m);
}

/* The same loss in double. */
static double reference_loss(const struct reference *r, const struct batch *b)
{
    int rows[MOST];
    float slopes[MOST];
    double loss = 0;
    reference_forward(r, b);
    int n = value_rows(b, rows, slopes);
    for (int i = 0; i < n; i++)
        loss += r->m->config.head == HEAD_SCALAR ? (double)slopes[i] * reference_value(r, rows[i])
                                                 : -0.25 * reference_logprob(r, b, rows[i]);
    return loss;
}

static void check_forward(struct model *m, const struct reference *r, const struct batch *b, const char *name)
{
    int rows[MOST], n = 0, V = m->config.vocab;
    float numbers_found[MOST], slopes[MOST];
    double worst = 0;
    model_forward(m, b, false);
    reference_forward(r, b);
    float *hidden = host_acts(m->hidden, (size_t)(b->N * config_embed_width(&m->config)));
    worst = furthest(hidden, r->hidden, (size_t)(b->N * config_embed_width(&m->config)));
    free(hidden);
    test_check(worst < by_type(1e-5, HIDDEN), __FILE__, __LINE__, "%s: hidden off by %g", name, worst);
    n = value_rows(b, rows, slopes);
    if (m->config.head == HEAD_SCALAR) {
        model_values(m, numbers_found, rows, n);
        for (int i = 0; i < n; i++) CHECK(close_to((double)numbers_found[i], reference_value(r, rows[i]), 1e-5, by_type(1e-5, HIDDEN)));
        return;
    }
    double *z = host_alloc((size_t)V, sizeof *z);
    model_logits(m, rows, n);
    float *logits = host_copy(m->logits, (size_t)(n * V));
    worst = 0;
    for (int i = 0; i < n; i++) {
        reference_logits(r, z, rows[i]);
        worst = fmax(worst, furthest(logits + i * V, z, (size_t)V));
    }
    test_check(worst < by_type(1e-5, HIDDEN), __FILE__, __LINE__, "%s: logits off by %g", name, worst);
    struct token_loss l = {.kind = LOSS_LOGPROBS, .temperature = 1};
    CHECK(model_token_loss(m, b, &l, numbers_found, NULL, NULL, false) == n);
    for (int i = 0; i < n; i++) CHECK(close_to((double)numbers_found[i], reference_logprob(r, b, rows[i]), 1e-5, by_type(1e-5, HIDDEN)));
    free(logits);
    free(z);
}

struct direction { struct model *m; const struct reference *r; const struct batch *b; const char *name; uint64_t seed; };

/* Along a random direction u the loss must rise by gradient . u. */
static void check_gradient(void *context, const struct param *p)
{
    struct direction *d = context;
    size_t at = (size_t)(*p->data - d->m->params.all);
    float *gradient = host_copy(d->m->grads.all + at, p->count);
    double *x = d->r->p + at, found = 0, norm = 0, side[2], h = 1e-6;
    float *u = numbers(p->count, ++d->seed, 1);
    double *kept = host_alloc(p->count, sizeof *kept);
    memcpy(kept, x, p->count * sizeof *x);
    for (size_t i = 0; i < p->count; i++) {
        found += (double)gradient[i] * (double)u[i];
        norm += (double)gradient[i] * (double)gradient[i];
    }
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < p->count; i++) x[i] = kept[i] + (k ? h : -h) * (double)u[i];
        side[k] = reference_loss(d->r, d->b);
    }
    memcpy(x, kept, p->count * sizeof *x);
    double want = (side[1] - side[0]) / (2 * h), share = d->m->config.activation == ACTIVATION_RELU ? FLIPPED : GRADIENT;
    test_check(close_to(found, want, by_type(1e-5, 0), by_type(2e-5, share) * sqrt(norm) + 1e-7), __FILE__, __LINE__, "%s, %s: %.9g along u, expected %.9g",
               d->name, p->name, found, want);
    free(gradient);
    free(u);
    free(kept);
}

static void test_setting(int setting, const int *sequences, uint64_t seed)
{
    const char *name;
    struct config c = tiny_config(setting, &name);
    struct tiny t;
    struct batch b = tiny_batch(sequences, S, c.vocab, seed);
    c.context = int_max(c.context, sequences[0]);
    tiny_open(&t, &c, &training, seed);
    struct reference r = reference_open(&t.m, MOST);
    check_forward(&t.m, &r, &b, name);
    differentiate(&t.m, &b);
    params_each(&t.m.params, &c, check_gradient, &(struct direction){&t.m, &r, &b, name, 77 * seed});
    reference_close(&r);
    tiny_batch_free(&b);
    tiny_close(&t);
}

/* Gradients of a fresh model on `threads`, with or without recomputing; free() them. */
static float *gradients(const struct config *c, const struct batch *b, bool recompute, int threads, size_t *count)
{
    struct model_use use = training;
    struct tiny t;
    use.recompute = recompute;
    tiny_open(&t, c, &use, 1);
    threads_start(threads);
    differentiate(&t.m, b);
    threads_start(3);
    *count = t.m.grads.count;
    float *g = host_copy(t.m.grads.all, t.m.grads.count);
    tiny_close(&t);
    return g;
}

static void test_same_bits(int setting)
{
    const char *name;
    struct config c = tiny_config(setting, &name);
    struct batch b = tiny_batch(lengths, S, c.vocab, 4);
    size_t count;
    float *plain = gradients(&c, &b, false, 1, &count);
    for (int kind = 0; kind < 5; kind++) {
        float *other = gradients(&c, &b, kind % 2, 1 + kind / 2, &count);
        test_check(same_bits(plain, other, count), __FILE__, __LINE__, "%s: other bits when recompute %d, threads %d", name, kind % 2,
                   1 + kind / 2);
        free(other);
    }
    free(plain);
    tiny_batch_free(&b);
}

/* One sequence of a batch as a batch of its own; points into b but for offsets. */
static struct batch sequence_of(const struct batch *b, int s, int offsets[2])
{
    int first = b->offsets[s];
    offsets[0] = 0;
    offsets[1] = b->offsets[s + 1] - first;
    return (struct batch){offsets[1], 1, b->tokens + first, b->targets + first, b->mask + first, offsets};
}

static void test_packing(int setting)
{
    const char *name;
    struct config c = tiny_config(setting, &name);
    struct batch b = tiny_batch(lengths, S, c.vocab, 5);
    struct tiny t;
    int C = config_embed_width(&c), offsets[2], n = 0;
    struct token_loss l = {.kind = LOSS_LOGPROBS, .temperature = 0.8f};
    float logprobs[MOST], alone[MOST];
    bool vocabulary = c.head == HEAD_VOCABULARY;
    tiny_open(&t, &c, &training, 2);
    model_forward(&t.m, &b, false);
    float *packed = host_acts(t.m.hidden, (size_t)(b.N * C));
    if (vocabulary) model_token_loss(&t.m, &b, &l, logprobs, NULL, NULL, false);
    model_forward(&t.m, &b, true);
    CHECK(same_acts(packed, t.m.hidden, (size_t)(b.N * C)));
    bool same = true;
    for (int s = 0; s < S; s++) {
        struct batch one = sequence_of(&b, s, offsets);
        model_forward(&t.m, &one, false);
        same = same && same_acts(packed + b.offsets[s] * C, t.m.hidden, (size_t)(one.N * C));
        if (vocabulary && counted(&one)) {
            model_token_loss(&t.m, &one, &l, alone, NULL, NULL, false);
            same = same && same_bits(logprobs + n, alone, (size_t)counted(&one));
        }
        n += counted(&one);
    }
    test_check(same || !rows_are_exact(), __FILE__, __LINE__, "%s: a sequence alone has other bits", name);
    b.tokens[b.offsets[2] + 3] = (b.tokens[b.offsets[2] + 3] + 1) % c.vocab;      /* disturbs the rows after it in sequence 2 alone */
    model_forward(&t.m, &b, false);
    int from = (b.offsets[2] + 3) * C, to = b.offsets[3] * C;
    CHECK(same_acts(packed, t.m.hidden, (size_t)from) && same_acts(packed + to, t.m.hidden + to, (size_t)(b.N * C - to)));
    bool far = c.window && !c.full_layers;          /* the last row is further away than two layers of windows reach */
    CHECK(!same_acts(packed + from, t.m.hidden + from, (size_t)C) && same_acts(packed + to - C, t.m.hidden + to - C, (size_t)C) == far);
    free(packed);
    tiny_batch_free(&b);
    tiny_close(&t);
}

/* The same sequences as one micro-batch or as one each: gradients differ by rounding alone. */
static void test_split(int setting)
{
    struct config c = tiny_config(setting, NULL);
    if (c.head == HEAD_SCALAR) return;      /* its slopes go by the row's number in the batch */
    struct batch b = tiny_batch(lengths, S, c.vocab, 6);
    size_t count;
    int offsets[2];
    struct tiny t;
    double difference = 0, norm = 0;
    float *whole = gradients(&c, &b, false, 1, &count);
    tiny_open(&t, &c, &training, 1);
    for (int s = 0; s < S; s++) {
        struct batch one = sequence_of(&b, s, offsets);
        differentiate(&t.m, &one);
    }
    float *parts = host_copy(t.m.grads.all, count);
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)whole[i] - (double)parts[i], 2);
        norm += pow((double)whole[i], 2);
    }
    free(parts);
    CHECK(norm > 0 && sqrt(difference / norm) < by_type(1e-6, 0x1p-6));
    free(whole);
    tiny_batch_free(&b);
    tiny_close(&t);
}

/* Rows that do not count have no say: other targets there leave every bit of losses and gradients, and a batch without
 * counted rows has no gradient.  Equal logits cost log V, whichever rows count. */
static void test_mask(int setting)
{
    struct config c = tiny_config(setting, NULL);
    if (c.head == HEAD_SCALAR) return;
    struct batch b = tiny_batch(lengths, S, c.vocab, 7);
    struct tiny t;
    float losses[2][MOST], logprobs[MOST];
    float *gradient[2] = {0};
    int n = counted(&b);
    tiny_open(&t, &c, &training, 3);
    size_t bytes = t.m.grads.count * sizeof(float);
    CHECK(n < b.N);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < b.N; i++)
            if (k == 1 && !b.mask[i]) b.targets[i] = (b.targets[i] + 1) % c.vocab;
        device_clear(t.m.grads.all, bytes);
        model_forward(&t.m, &b, true);
        CHECK(model_token_loss(&t.m, &b, &cross_entropy, logprobs, NULL, losses[k], true) == n);
        model_backward(&t.m);
        gradient[k] = host_copy(t.m.grads.all, t.m.grads.count);
    }
    CHECK(same_bits(losses[0], losses[1], (size_t)n) && same_bits(gradient[0], gradient[1], t.m.grads.count));
    if (!c.tied) {
        if (c.head_bias) fill(t.m.params.head.bias, 0, (size_t)c.vocab);
        fill(t.m.params.head.weight, 0, (size_t)(c.vocab * config_embed_width(&c)));
        params_pack(&t.m.params, &c);
        model_forward(&t.m, &b, false);
        model_token_loss(&t.m, &b, &cross_entropy, logprobs, NULL, losses[0], false);
        for (int i = 0; i < n; i++) CHECK(close_to((double)losses[0][i], log(c.vocab), 2e-7, 0));
    }
    memset(b.mask, 0, (size_t)b.N);
    device_clear(t.m.grads.all, bytes);
    model_forward(&t.m, &b, true);
    CHECK(model_token_loss(&t.m, &b, &cross_entropy, logprobs, NULL, losses[0], true) == 0);
    model_backward(&t.m);
    CHECK(gradient_norm(&t.m) == 0);
    free(gradient[0]);
    free(gradient[1]);
    tiny_batch_free(&b);
    tiny_close(&t);
}

int main(void)
{
    bool full = getenv("FULL") && strcmp(getenv("FULL"), "1") == 0;
    threads_start(3);       /* so that ops_open takes scratch for all three */
    for (int i = 0; i < TINY_SETTINGS; i++) {
        test_setting(i, lengths, 1);
        if (full || i == 1 || i == 2) test_setting(i, long_lengths, 2);
        for (uint64_t seed = 3; full && seed < 8; seed++) test_setting(i, lengths, seed);
        test_same_bits(i);
        test_packing(i);
        test_split(i);
        test_mask(i);
    }
    return test_end("test_model");
}
