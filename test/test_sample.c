/* Generation: the bits of the training forward, whatever the number of slots, their order and neighbours; stop
 * tokens, limits. */
#include "common/model/sample.h"
#include "test/on_device.h"
#include "test/test.h"
#include "test/tiny.h"

enum { REQUESTS = 7, NEW = 12, MOST = 160, PROMPT = 120 };

static const struct sampling warm = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 30};

struct outcome { struct sample sample[REQUESTS]; int tokens[REQUESTS][NEW]; float logprobs[REQUESTS][NEW]; };

/* Prompts of 1 to 6 tokens, or of up to 120 where the context is long. */
static void start(struct outcome *o, int prompt[REQUESTS][PROMPT], const struct config *c)
{
    static const int length[REQUESTS] = {3, 1, 6, 2, 5, 1, 4}, most[REQUESTS] = {12, 5, 12, 1, 9, 12, 12};
    memset(o, 0, sizeof *o);
    for (int i = 0; i < REQUESTS; i++) {
        for (int k = 0; k < PROMPT; k++) prompt[i][k] = (i * 11 + k * k + k * 5 + 2) % c->vocab;
        o->sample[i] = (struct sample){
            .prompt = prompt[i], .n_prompt = c->context > PROMPT ? 20 * length[i] : length[i], .index = (uint64_t)i,
            .most = most[i], .tokens = o->tokens[i], .logprobs = o->logprobs[i]};
    }
}

static bool same_result(const struct sample *a, const struct sample *b)
{
    return a->n == b->n && a->stopped == b->stopped && memcmp(a->tokens, b->tokens, (size_t)a->n * sizeof(int)) == 0 &&
           same_bits(a->logprobs, b->logprobs, (size_t)a->n);
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    for (int i = 0; i < REQUESTS; i++)
        if (!same_result(&a->sample[i], &b->sample[i])) return false;
    return true;
}

static void generate(struct outcome *o, const struct config *c, const struct sample_settings *s, int slots, int max_tokens, int logits_rows)
{
    static int prompt[REQUESTS][PROMPT];
    struct model_use use = {.max_tokens = max_tokens, .max_sequences = 1, .cache_slots = slots, .cache_capacity = c->context,
                            .logits_rows = logits_rows};
    struct tiny t;
    tiny_open(&t, c, &use, 4);
    start(o, prompt, c);
    sample_run(&t.m, o->sample, REQUESTS, s, NULL, NULL);
    tiny_close(&t);
}

/* Log-probabilities of prompt and answer read whole by the model as it is trained. */
static bool scores_agree(const struct config *c, const struct outcome *o, float temperature)
{
    int tokens[MOST], targets[MOST];
    uint8_t mask[MOST];
    struct model_use use = {.train = true, .max_tokens = MOST, .max_sequences = 1};
    struct tiny t;
    float logprobs[MOST];
    bool same = true;
    tiny_open(&t, c, &use, 4);
    for (int i = 0; i < REQUESTS; i++) {
        const int *prompt = o->sample[i].prompt;
        int p = o->sample[i].n_prompt, n = o->sample[i].n, N = p + n - 1;
        if (n == 0) continue;
        for (int k = 0; k < N; k++) {
            tokens[k] = k < p ? prompt[k] : o->tokens[i][k - p];
            targets[k] = k + 1 < p ? prompt[k + 1] : o->tokens[i][k + 1 - p];
            mask[k] = k + 1 >= p;
        }
        struct batch b = {N, 1, tokens, targets, mask, (int[]){0, N}};
        struct token_loss l = {.kind = LOSS_LOGPROBS, .temperature = temperature};
        model_forward(&t.m, &b, true);
        same = same && model_token_loss(&t.m, &b, &l, logprobs, NULL, NULL, false) == n &&
               same_bits(logprobs, o->logprobs[i], (size_t)n);
    }
    tiny_close(&t);
    return same;
}

static void test_setting(int setting, int context)
{
    static const int ways[][3] = {{2, 64, 2}, {5, 64, 5}, {5, 5, 5}, {5, 7, 2}, {2, 3, 1}, {7, 64, 3}};
    const char *name;
    struct config c = tiny_config(setting, &name);
    c.context = context;
    int stop[2] = {3, 17};
    struct sample_settings s = {.sampling = warm, .stop = stop, .n_stop = 2, .stream = RNG_ROLLOUT, .seed = 42, .step = 9};
    s.sampling.allowed = c.vocab - 2;
    struct outcome one, other;
    if (c.head == HEAD_SCALAR) return;
    generate(&one, &c, &s, 1, 64, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        generate(&other, &c, &s, ways[i][0], ways[i][1], ways[i][2]);
        test_check(same_outcome(&one, &other), __FILE__, __LINE__, "%s: %d slots, %d rows, %d of logits give another outcome", name,
                   ways[i][0], ways[i][1], ways[i][2]);
    }
    for (int threads = 1; threads <= 2; threads++) {
        threads_start(threads);
        generate(&other, &c, &s, 3, 16, 3);
        threads_start(3);
        CHECK(same_outcome(&one, &other));
    }
    test_check(scores_agree(&c, &one, warm.temperature), __FILE__, __LINE__, "%s: sampling and scoring have other bits", name);
    for (int i = 0; i < REQUESTS; i++) {
        const struct sample *r = &one.sample[i];
        CHECK(r->n >= 1);
        for (int k = 0; k < r->n; k++) {
            bool is_stop = r->tokens[k] == 3 || r->tokens[k] == 17;
            CHECK(r->tokens[k] >= 0 && r->tokens[k] < s.sampling.allowed && r->logprobs[k] < 0 && is_stop == (k == r->n - 1 && r->stopped));
        }
    }
    s.step = 10;
    generate(&other, &c, &s, 1, 64, 1);
    CHECK(!same_outcome(&one, &other));
}

/* A sample does not depend on which others there are, or on their order. */
static void test_neighbours(void)
{
    struct config c = tiny_config(1, NULL);
    int prompt[REQUESTS][PROMPT];
    struct model_use use = {.max_tokens = 16, .max_sequences = 1, .cache_slots = 3, .cache_capacity = c.context, .logits_rows = 3};
    struct sample_settings s = {.sampling = warm, .stream = RNG_SAMPLE, .seed = 42};
    struct outcome all, reversed, alone;
    struct tiny t;
    tiny_open(&t, &c, &use, 4);
    start(&all, prompt, &c);
    sample_run(&t.m, all.sample, REQUESTS, &s, NULL, NULL);
    start(&reversed, prompt, &c);
    for (int i = 0; i < REQUESTS / 2; i++) {
        struct sample first = reversed.sample[i];
        reversed.sample[i] = reversed.sample[REQUESTS - 1 - i];
        reversed.sample[REQUESTS - 1 - i] = first;
    }
    sample_run(&t.m, reversed.sample, REQUESTS, &s, NULL, NULL);
    start(&alone, prompt, &c);
    for (int i = 0; i < REQUESTS; i++) {
        sample_run(&t.m, &alone.sample[i], 1, &s, NULL, NULL);
        CHECK(same_result(&all.sample[i], &alone.sample[i]) && same_result(&all.sample[i], &reversed.sample[REQUESTS - 1 - i]));
        CHECK(all.sample[i].n == all.sample[i].most && !all.sample[i].stopped);
    }
    sample_run(&t.m, alone.sample, 0, &s, NULL, NULL);
    s.seed++;
    sample_run(&t.m, alone.sample, REQUESTS, &s, NULL, NULL);
    CHECK(!same_outcome(&all, &alone));                /* another seed, another outcome */
    tiny_close(&t);
}

/* One stops while others run and others wait: each has the tokens it has by itself. */
static void test_stopping(void)
{
    struct config c = tiny_config(1, NULL);
    int prompt[REQUESTS][PROMPT];
    struct outcome together, alone;
    struct model_use use = {.max_tokens = 6, .max_sequences = 1, .cache_slots = 3, .cache_capacity = c.context, .logits_rows = 2};
    struct tiny t;
    tiny_open(&t, &c, &use, 4);
    for (int way = 0; way < REQUESTS; way++) {
        struct sample_settings s = {.sampling = {0.4f * way, way % 2 ? 0.9f : 1, way % 3 ? 0 : 0.02f, 5 * way, c.vocab - way},
                                    .stream = RNG_SAMPLE, .seed = 42, .step = (uint64_t)way};
        start(&alone, prompt, &c);
        for (int i = 0; i < REQUESTS; i++) sample_run(&t.m, &alone.sample[i], 1, &s, NULL, NULL);
        int stop = alone.tokens[2][4];
        s.stop = &stop;
        s.n_stop = 1;
        for (int i = 0; i < REQUESTS; i++) sample_run(&t.m, &alone.sample[i], 1, &s, NULL, NULL);
        CHECK(alone.sample[2].stopped && alone.sample[2].n <= 5);
        start(&together, prompt, &c);
        sample_run(&t.m, together.sample, REQUESTS, &s, NULL, NULL);
        CHECK(same_outcome(&together, &alone));
    }
    tiny_close(&t);
}

/* The model's own most likely continuation by scoring every prefix anew. */
static void test_greedy(void)
{
    struct config c = tiny_config(0, NULL);
    int tokens[19] = {5, 9}, first[NEW], n = 2;
    struct model_use use = {.max_tokens = 32, .max_sequences = 1, .cache_slots = 2, .cache_capacity = c.context, .logits_rows = 2};
    struct sample_settings s = {.sampling = {.temperature = 0, .top_p = 1}, .stream = RNG_SAMPLE};
    struct tiny t;
    tiny_open(&t, &c, &use, 4);
    for (int k = 0; k < NEW; k++, n++) {
        int row = n - 1, best = 0;
        model_forward(&t.m, &(struct batch){n, 1, tokens, NULL, NULL, (int[]){0, n}}, false);
        model_logits(&t.m, &row, 1);
        float *logits = host_copy(t.m.logits, (size_t)c.vocab);
        for (int v = 1; v < c.vocab; v++) if (logits[v] > logits[best]) best = v;
        free(logits);
        first[k] = tokens[n] = best;
    }
    struct outcome o = {0};
    for (int i = 0; i < 2; i++) {                                         /* a seed has no say */
        o.sample[i] = (struct sample){.prompt = tokens, .n_prompt = 2, .index = (uint64_t)i, .most = NEW, .tokens = o.tokens[i]};
        s.seed = i ? 99 : 1;
        sample_run(&t.m, &o.sample[i], 1, &s, NULL, NULL);
    }
    for (int i = 0; i < 2; i++) CHECK(o.sample[i].n == NEW && memcmp(o.tokens[i], first, sizeof first) == 0);
    tiny_close(&t);
}

struct counter { const struct sample *first; int count[4]; };

static bool three_tokens(void *self, const struct sample *r, int token)
{
    struct counter *c = self;
    CHECK(token >= 0 && r->tokens[r->n - 1] == token);
    return ++c->count[r - c->first] < 3;
}

/* The context ends a sample; a prompt that fills it gets none; the callback sees every token and may end a sample. */
static void test_limits(void)
{
    enum { LONG = 19 };
    struct config c = tiny_config(1, NULL);
    static const int n_prompt[4] = {1, LONG, LONG - 2, 4}, most[4] = {LONG - 1, 0, 2, 0}, three[4] = {3, 0, 2, 0};
    int prompt[LONG], tokens[4][LONG];
    float logprobs[4][LONG];
    struct sample sample[4];
    struct counter counter = {.first = sample};
    struct model_use use = {.max_tokens = 8, .max_sequences = 1, .cache_slots = 2, .cache_capacity = c.context, .logits_rows = 2};
    struct sample_settings s = {.sampling = warm, .stream = RNG_SAMPLE, .seed = 7};
    struct tiny t;
    for (int i = 0; i < LONG; i++) prompt[i] = i;
    for (int i = 0; i < 4; i++)
        sample[i] = (struct sample){prompt, n_prompt[i], (uint64_t)i, i == 3 ? 0 : 1000, tokens[i], logprobs[i], -1, true};
    tiny_open(&t, &c, &use, 4);
    sample_run(&t.m, sample, 4, &s, NULL, NULL);
    for (int i = 0; i < 4; i++) CHECK(sample[i].n == most[i] && !sample[i].stopped);
    sample_run(&t.m, sample, 4, &s, three_tokens, &counter);
    for (int i = 0; i < 4; i++) CHECK(sample[i].n == three[i] && counter.count[i] == sample[i].n);
    tiny_close(&t);
}

struct watch { int V, seen; };

/* What a token of a greedy sample was drawn from has its maximum there, and its log-probability. */
static bool look(void *self, const struct sample *s, int token)
{
    struct watch *w = self;
    double sum = 0;
    CHECK(s->watched == (s->logits != NULL));
    if (!s->logits) return true;
    for (int v = 0; v < w->V; v++) {
        sum += exp((double)s->logits[v] - (double)s->logits[token]);
        CHECK(s->logits[v] <= s->logits[token]);
    }
    CHECK(close_to(s->logprobs[s->n - 1], -log(sum), 1e-5, 1e-5));
    w->seen++;
    return true;
}

/* Samples with settings of their own join a running batch one by one, and one leaves it: the others do not notice. */
static void test_joining(void)
{
    struct config c = tiny_config(1, NULL);
    int prompt[REQUESTS][PROMPT], next = 0;
    struct model_use use = {.max_tokens = 8, .max_sequences = 1, .cache_slots = 3, .cache_capacity = c.context, .logits_rows = 2};
    struct sample_settings how[REQUESTS];
    struct outcome alone, joined;
    struct watch watch = {.V = c.vocab};
    float *logits = host_alloc(2 * (size_t)c.vocab, sizeof *logits);
    struct tiny t;
    tiny_open(&t, &c, &use, 4);
    start(&alone, prompt, &c);
    start(&joined, prompt, &c);
    for (int i = 0; i < REQUESTS; i++) {
        how[i] = (struct sample_settings){.sampling = {0.3f * (float)i, 1 - 0.1f * (float)(i % 2), 0, 3 * i, c.vocab - i},
                                          .stream = RNG_SAMPLE, .seed = (uint64_t)(40 + i)};
        sample_run(&t.m, &alone.sample[i], 1, &how[i], NULL, NULL);
    }
    joined.sample[0].watched = true;
    struct sampler *g = sampler_open(&t.m, logits, look, &watch);
    CHECK(!sampler_step(g) && sampler_room(g) == 3);
    for (int step = 0; next < REQUESTS || sampler_room(g) < 3; step++) {
        if (next < REQUESTS && sampler_room(g) > 0 && (step % 2 == 0 || sampler_room(g) == 3))
            sampler_join(g, &joined.sample[next], &how[next]), next++;
        if (step == 3) {
            CHECK(joined.sample[0].live);
            sampler_leave(g, &joined.sample[0]);
            CHECK(!joined.sample[0].live && joined.sample[0].n < alone.sample[0].n);
        }
        CHECK(sampler_step(g));
    }
    sampler_leave(g, &joined.sample[0]);                                  /* once more: nothing */
    CHECK(sampler_room(g) == 3 && !sampler_step(g));
    for (int i = 1; i < REQUESTS; i++) CHECK(same_result(&alone.sample[i], &joined.sample[i]));
    CHECK(memcmp(alone.tokens[0], joined.tokens[0], (size_t)joined.sample[0].n * sizeof(int)) == 0);
    CHECK(watch.seen == joined.sample[0].n && watch.seen > 0);
    sampler_close(g);
    free(logits);
    tiny_close(&t);
}

int main(void)
{
    threads_start(3);
    for (int i = 0; i < TINY_SETTINGS; i++) {
        test_setting(i, 19);
        test_setting(i, 140);
    }
    test_neighbours();
    test_stopping();
    test_greedy();
    test_limits();
    test_joining();
    return test_end("test_sample");
}
