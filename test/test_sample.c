/* Generation: the bits of the training forward, whatever the number of slots, their order and neighbours; stop
 * tokens, limits. */
#include "common/model/sample.h"
#include "test/on_device.h"
#include "test/test.h"
#include "test/tiny.h"

enum { REQUESTS = 7, NEW = 12, MOST = 160, PROMPT = 120 };

static const struct sampling warm = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 30};

struct outcome { struct sample_result result[REQUESTS]; int tokens[REQUESTS][NEW]; float logprobs[REQUESTS][NEW]; };

/* Prompts of 1 to 6 tokens, or of up to 120 where the context is long. */
static void prompts(int prompt[REQUESTS][PROMPT], struct sample_request request[REQUESTS], const struct config *c,
                    const struct sample_settings *s)
{
    static const int length[REQUESTS] = {3, 1, 6, 2, 5, 1, 4}, most[REQUESTS] = {12, 5, 12, 1, 9, 12, 12};
    for (int i = 0; i < REQUESTS; i++) {
        for (int k = 0; k < PROMPT; k++) prompt[i][k] = (i * 11 + k * k + k * 5 + 2) % c->vocab;
        request[i] = (struct sample_request){prompt[i], c->context > PROMPT ? 20 * length[i] : length[i], 42, (uint64_t)i, most[i], s};
    }
}

static void start(struct outcome *o, int n)
{
    memset(o, 0, sizeof *o);
    for (int i = 0; i < n; i++) o->result[i] = (struct sample_result){.tokens = o->tokens[i], .logprobs = o->logprobs[i]};
}

static bool same_result(const struct sample_result *a, const struct sample_result *b)
{
    return a->n == b->n && a->stopped == b->stopped && memcmp(a->tokens, b->tokens, (size_t)a->n * sizeof(int)) == 0 &&
           same_bits(a->logprobs, b->logprobs, (size_t)a->n);
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    for (int i = 0; i < REQUESTS; i++)
        if (!same_result(&a->result[i], &b->result[i])) return false;
    return true;
}

static void generate(struct outcome *o, const struct config *c, const struct sample_settings *s, int slots, int max_tokens, int logits_rows)
{
    int prompt[REQUESTS][PROMPT];
    struct sample_request request[REQUESTS];
    struct model_use use = {.max_tokens = max_tokens, .max_sequences = 1, .cache_slots = slots, .cache_capacity = c->context,
                            .logits_rows = logits_rows};
    struct tiny t;
    prompts(prompt, request, c, s);
    tiny_open(&t, c, &use, 4);
    start(o, REQUESTS);
    sample_run(&t.m, request, o->result, REQUESTS, NULL, NULL);
    tiny_close(&t);
}

/* Log-probabilities of prompt and answer read whole by the model as it is trained. */
static bool scores_agree(const struct config *c, const struct outcome *o, float temperature)
{
    int prompt[REQUESTS][PROMPT], tokens[MOST], targets[MOST];
    uint8_t mask[MOST];
    struct sample_request request[REQUESTS];
    struct model_use use = {.train = true, .max_tokens = MOST, .max_sequences = 1};
    struct tiny t;
    float logprobs[MOST];
    bool same = true;
    prompts(prompt, request, c, NULL);
    tiny_open(&t, c, &use, 4);
    for (int i = 0; i < REQUESTS; i++) {
        int p = request[i].n_prompt, n = o->result[i].n, N = p + n - 1;
        if (n == 0) continue;
        for (int k = 0; k < N; k++) {
            tokens[k] = k < p ? prompt[i][k] : o->tokens[i][k - p];
            targets[k] = k + 1 < p ? prompt[i][k + 1] : o->tokens[i][k + 1 - p];
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
    struct sample_settings s = {.sampling = warm, .stop = stop, .n_stop = 2, .stream = RNG_ROLLOUT, .step = 9};
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
        const struct sample_result *r = &one.result[i];
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

/* A request's result does not depend on which others there are, or on their order. */
static void test_neighbours(void)
{
    struct config c = tiny_config(1, NULL);
    int prompt[REQUESTS][PROMPT];
    struct sample_request request[REQUESTS], turned[REQUESTS];
    struct model_use use = {.max_tokens = 16, .max_sequences = 1, .cache_slots = 3, .cache_capacity = c.context, .logits_rows = 3};
    struct sample_settings s = {.sampling = warm, .stream = RNG_SAMPLE};
    struct outcome all, reversed, alone;
    struct tiny t;
    prompts(prompt, request, &c, &s);
    tiny_open(&t, &c, &use, 4);
    start(&all, REQUESTS);
    sample_run(&t.m, request, all.result, REQUESTS, NULL, NULL);
    for (int i = 0; i < REQUESTS; i++) turned[i] = request[REQUESTS - 1 - i];
    start(&reversed, REQUESTS);
    sample_run(&t.m, turned, reversed.result, REQUESTS, NULL, NULL);
    for (int i = 0; i < REQUESTS; i++) {
        start(&alone, 1);
        sample_run(&t.m, &request[i], alone.result, 1, NULL, NULL);
        CHECK(same_result(&all.result[i], &alone.result[0]) && same_result(&all.result[i], &reversed.result[REQUESTS - 1 - i]));
        CHECK(all.result[i].n == request[i].max_new && !all.result[i].stopped);
    }
    start(&alone, 0);
    sample_run(&t.m, request, alone.result, 0, NULL, NULL);
    for (int i = 0; i < REQUESTS; i++) request[i].seed++;
    start(&reversed, REQUESTS);
    sample_run(&t.m, request, reversed.result, REQUESTS, NULL, NULL);
    CHECK(!same_outcome(&all, &reversed));                /* another seed, another outcome */
    tiny_close(&t);
}

/* Requests with settings of their own join while others run, before the first is done and after the last: each has the
 * tokens it has by itself. */
static void test_joining(void)
{
    static const int joins[REQUESTS] = {0, 0, 2, 3, 3, 9, 60};           /* after so many steps */
    struct config c = tiny_config(1, NULL);
    int prompt[REQUESTS][PROMPT], stop[1], steps = 0, next = 0;
    struct sample_request request[REQUESTS];
    struct sample_settings how[REQUESTS];
    struct outcome together, alone;
    struct model_use use = {.max_tokens = 6, .max_sequences = 1, .cache_slots = 3, .cache_capacity = c.context, .logits_rows = 2};
    struct tiny t;
    prompts(prompt, request, &c, NULL);
    for (int i = 0; i < REQUESTS; i++) {
        how[i] = (struct sample_settings){.sampling = {0.4f * i, i % 2 ? 0.9f : 1, i % 3 ? 0 : 0.02f, 5 * i, c.vocab - i},
                                          .stream = RNG_SAMPLE, .step = (uint64_t)i};
        request[i].how = &how[i];
    }
    tiny_open(&t, &c, &use, 4);
    start(&alone, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) sample_run(&t.m, &request[i], &alone.result[i], 1, NULL, NULL);
    stop[0] = alone.tokens[2][4];                                        /* one that only its own request knows */
    how[2].stop = stop;
    how[2].n_stop = 1;
    sample_run(&t.m, &request[2], &alone.result[2], 1, NULL, NULL);
    CHECK(alone.result[2].stopped && alone.result[2].n <= 5);
    start(&together, REQUESTS);
    struct sampler *s = sample_open(&t.m, NULL, NULL);
    bool more = true;
    for (; more || next < REQUESTS; steps++) {
        for (; next < REQUESTS && joins[next] <= steps; next++) sample_add(s, &request[next], &together.result[next]);
        more = sample_step(s);
    }
    sample_close(s);
    for (int i = 0; i < REQUESTS; i++) CHECK(together.result[i].done);
    CHECK(same_outcome(&together, &alone));
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
    struct sample_request request[2] = {{tokens, 2, 1, 1, NEW, &s}, {tokens, 2, 99, 5, NEW, &s}};     /* a seed has no say */
    struct outcome o;
    start(&o, 2);
    sample_run(&t.m, request, o.result, 2, NULL, NULL);
    for (int i = 0; i < 2; i++) CHECK(o.result[i].n == NEW && memcmp(o.tokens[i], first, sizeof first) == 0);
    tiny_close(&t);
}

struct counter { struct sample_result *first; int count[4]; };

static bool three_tokens(void *self, struct sample_result *r, int token)
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
    struct sample_request request[4];
    struct sample_result result[4];
    struct counter counter = {.first = result};
    struct model_use use = {.max_tokens = 8, .max_sequences = 1, .cache_slots = 2, .cache_capacity = c.context, .logits_rows = 2};
    struct sample_settings s = {.sampling = warm, .stream = RNG_SAMPLE};
    struct tiny t;
    for (int i = 0; i < LONG; i++) prompt[i] = i;
    for (int i = 0; i < 4; i++) {
        request[i] = (struct sample_request){prompt, n_prompt[i], 7, (uint64_t)i, i == 3 ? 0 : 1000, &s};
        result[i] = (struct sample_result){tokens[i], logprobs[i], -1, true, false};
    }
    tiny_open(&t, &c, &use, 4);
    sample_run(&t.m, request, result, 4, NULL, NULL);
    for (int i = 0; i < 4; i++) CHECK(result[i].n == most[i] && !result[i].stopped && result[i].done);
    sample_run(&t.m, request, result, 4, three_tokens, &counter);
    for (int i = 0; i < 4; i++) CHECK(result[i].n == three[i] && counter.count[i] == result[i].n);
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
    test_joining();
    test_greedy();
    test_limits();
    return test_end("test_sample");
}
