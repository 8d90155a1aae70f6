/* test_rm_data.c - every shape of a ranking, what is dropped and why, cuts, groups, the split; and scores at the last token. */
#include "rm/data.h"
#include "rm/ranking.h"
#include "rm/score.h"
#include "rlhf/reward.h"
#include "test/tiny.h"
#include "test/words.h"

/* ---- shapes ---- */

struct shown { char text[4000]; int n; };

static void show(void *self, struct ranking *r)
{
    static const char letter[] = "suat";
    struct shown *s = self;
    char *out = s->text;
    size_t size = sizeof s->text;
    for (int i = 0; i < r->prompt.count; i++)
        s->n += snprintf(out + s->n, size - (size_t)s->n, "%c:%s|", letter[r->prompt.message[i].role], r->prompt.message[i].content);
    for (int i = 0; i < r->answers.count; i++)
        s->n += snprintf(out + s->n, size - (size_t)s->n, " %g=%s", r->quality[i], r->answers.message[i].content);
    s->n += snprintf(out + s->n, size - (size_t)s->n, "%s%s;", r->fault ? " !" : "", r->fault ? r->fault : "");
}

static void expect(int line, const char *json, bool ranked, const char *want)
{
    struct shown s = {0};
    struct error error = {0};
    json_t *row = json_loads(json, JSON_DECODE_ANY, NULL);
    int status = rankings_from_json(row, ranked, NULL, show, &s, &error);
    test_check(status == 0 && strcmp(s.text, want) == 0, __FILE__, line, "%s gives {%s} %s, expected {%s}", json, s.text, error.text, want);
    json_decref(row);
}

static void refuse(int line, const char *json, const char *part)
{
    struct shown s = {0};
    struct error error = {0};
    json_t *row = json_loads(json, JSON_DECODE_ANY, NULL);
    int status = rankings_from_json(row, true, NULL, show, &s, &error);
    test_check(status == -1 && error.exit_code == EXIT_DATA && strstr(error.text, part), __FILE__, line,
               "%s: %d {%s}, expected {%s}", json, status, error.text, part);
    json_decref(row);
}

#define MESSAGE(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"

static void test_shapes(void)
{
    expect(__LINE__, "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}", true, "u:p| 1=a 0=b;");
    expect(__LINE__, "{\"prompt\":[" MESSAGE("system", "s") "," MESSAGE("user", "p") "],"
                     "\"chosen\":[" MESSAGE("assistant", "a") "],\"rejected\":" MESSAGE("assistant", "b") "}",
           true, "s:s|u:p| 1=a 0=b;");
    expect(__LINE__, "{\"prompt\":\"p\",\"chosen\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "a") "],"
                     "\"rejected\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "b") "]}",
           true, "u:p| 1=a 0=b;");
    expect(__LINE__, "{\"chosen\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "a") "],"
                     "\"rejected\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "b") "]}",
           true, "u:p| 1=a 0=b;");
    expect(__LINE__, "{\"chosen\":\"\\n\\nHuman: p\\n\\nAssistant: a\\n\\nHuman: q\\n\\nAssistant: c\","
                     "\"rejected\":\"\\n\\nHuman: p\\n\\nAssistant: a\\n\\nHuman: q\\n\\nAssistant:\"}",
           true, "u:p|a:a|u:q| 1=c 0=;");
    expect(__LINE__, "{\"chosen\":\"\\n\\nHuman: p\\n\\nAssistant: a\",\"rejected\":\"\\n\\nHuman: q\\n\\nAssistant: b\"}", true,
           "u:p| 1=a 0=b !the answers' prompts differ;");
    expect(__LINE__, "{\"chosen\":\"\\n\\nHuman: p\",\"rejected\":\"\\n\\nHuman: p\\n\\nAssistant: b\"}", true,
           "u:p| 0=b !a dialogue that does not end with an answer;");
    expect(__LINE__, "{\"chosen_messages\":[" MESSAGE("system", "s") "," MESSAGE("user", "p") "," MESSAGE("assistant", "a") "],"
                     "\"rejected_messages\":[" MESSAGE("system", "s") "," MESSAGE("user", "p") "," MESSAGE("assistant", "b") "]}",
           true, "s:s|u:p| 1=a 0=b;");
    expect(__LINE__, "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"p\"}],"
                     "\"chosen\":{\"from\":\"gpt\",\"value\":\"a\"},\"rejected\":\"b\"}",
           true, "s:s|u:p| 1=a 0=b;");
    expect(__LINE__, "{\"instruction\":\"p\",\"input\":\"i\",\"output\":\"o\",\"chosen\":\"a\",\"rejected\":\"b\"}", true,
           "u:p\n\ni| 1=a 0=b;");
    expect(__LINE__, "{\"question\":\"p\",\"response_j\":\"a\",\"response_k\":\"b\"}", true, "u:p| 1=a 0=b;");
    expect(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\",\"c\"],\"ranks\":[2,1,2]}", true, "u:p| -2=a -1=b -2=c;");
    expect(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\"," MESSAGE("assistant", "b") "],\"scores\":[0.5,-1]}", true,
           "u:p| 0.5=a -1=b;");

    const char *tree = "{\"prompt\":{\"text\":\"p\",\"role\":\"prompter\",\"replies\":["
        "{\"text\":\"a\",\"role\":\"assistant\",\"rank\":1,\"replies\":[{\"text\":\"q\",\"role\":\"prompter\",\"replies\":["
            "{\"text\":\"c\",\"role\":\"assistant\",\"rank\":0,\"replies\":[]},"
            "{\"text\":\"d\",\"role\":\"assistant\",\"rank\":1,\"replies\":[]}]}]},"
        "{\"text\":\"b\",\"role\":\"assistant\",\"rank\":0,\"replies\":[{\"text\":\"r\",\"role\":\"prompter\",\"replies\":["
            "{\"text\":\"e\",\"role\":\"assistant\",\"rank\":0}]}]},"
        "{\"text\":\"x\",\"role\":\"assistant\",\"rank\":2,\"deleted\":true},{\"text\":\"y\",\"role\":\"assistant\"}]}}";
    expect(__LINE__, tree, true, "u:p| -1=a -0=b;u:p|a:a|u:q| -0=c -1=d;");

    expect(__LINE__, "{\"prompt\":\"p\",\"response\":\"a\"}", false, "u:p| 0=a;");
    expect(__LINE__, "{\"messages\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "a") "]}", false, "u:p| 0=a;");
    expect(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\"]}", false, "u:p| 0=a 0=b;");
    expect(__LINE__, "{\"prompt\":\"q\",\"messages\":[" MESSAGE("system", "s") "," MESSAGE("user", "q") "],\"row\":{\"prompt\":\"q\"},"
                     "\"response\":\"a\",\"stopped\":true,\"reward\":1}", false, "s:s|u:q| 0=a;");
    expect(__LINE__, "{\"messages\":[" MESSAGE("user", "p") "],\"response\":\"\"}", false, "u:p| 0=;");
    expect(__LINE__, "{\"messages\":[" MESSAGE("user", "p") "],\"response\":null}", false,
           " !a dialogue that does not end with an answer;");
    expect(__LINE__, "{\"messages\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "a") "],\"response\":\"b\"}", false, "u:p| 0=a;");
    expect(__LINE__, "{\"prompt\":\"p\"}", false, " !a dialogue that does not end with an answer;");

    /* a prompt that is one text with markers is turns; so is what follows it */
    expect(__LINE__, "{\"prompt\":\"\\n\\nHuman: p\\n\\nAssistant: a\\n\\nHuman: q\\n\\nAssistant:\",\"chosen\":\" c.\",\"rejected\":\" d\\n\"}",
           true, "u:p|a:a|u:q| 1=c. 0=d;");
    expect(__LINE__, "{\"prompt\":\"Human: p\\n\\nAssistant:\",\"responses\":[\" c\",\"d \"],\"ranks\":[0,1]}", true, "u:p| -0=c -1=d;");
    expect(__LINE__, "{\"prompt\":\"Why Human: p?\",\"chosen\":\" c\",\"rejected\":\" d\"}", true, "u:Why Human: p?| 1= c 0= d;");
    refuse(__LINE__, "{\"prompt\":\"p\",\"chosen\":\"a\"}", "rejected");
    refuse(__LINE__, "{\"prompt\":\"p\",\"response\":\"a\"}", "not a ranking");
    refuse(__LINE__, "{\"prompt\":\"p\",\"chosen\":3,\"rejected\":\"b\"}", "chosen");
    refuse(__LINE__, "{\"prompt\":\"p\",\"chosen\":[" MESSAGE("user", "q") "],\"rejected\":\"b\"}", "chosen");
    refuse(__LINE__, "{\"chosen\":\"a\",\"rejected\":\"b\"}", "Human");
    refuse(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\"]}", "ranks");
    refuse(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\"],\"ranks\":[1]}", "2 responses, but 1 ranks");
    refuse(__LINE__, "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\"],\"ranks\":[1,\"x\"]}", "ranks[1]");
    refuse(__LINE__, "{\"prompt\":\"p\",\"responses\":\"a\",\"ranks\":[1]}", "responses");
    refuse(__LINE__, "{\"responses\":[\"a\",\"b\"],\"ranks\":[1,2]}", "expected one of the keys");
    refuse(__LINE__, "{\"prompt\":{\"replies\":[]}}", "text");
    refuse(__LINE__, "[]", "object");
}

/* ---- reading ---- */

static int read_text(struct dataset *d, const char *text, const struct chat *c, double share, int limit, struct error *error)
{
    char *path = words_file("rankings.jsonl", text, strlen(text));
    int status = rm_data_read(d, &path, 1, c, share, limit, 0, error);
    free(path);
    return status;
}

static void test_reading(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(read_text(&d, "{\"prompt\":\"p\",\"responses\":[\"one\",\"two\",\"three\",\"\"],\"ranks\":[1,2,2,0]}\n"     /* 2 pairs, 1 tie */
                        "{\"prompt\":\"p\",\"chosen\":\"x\",\"rejected\":\"y</s>\"}\n"
                        "{\"prompt\":\"p\",\"chosen\":\"x\",\"rejected\":\"x\"}\n"
                        "{\"prompt\":\"p\",\"chosen\":\"x\",\"rejected\":\" \"}\n"
                        "{\"prompt\":\"p\",\"responses\":[\"a\",\"b\"],\"scores\":[1,1]}\n"
                        "{\"chosen\":\"\\n\\nHuman: p\\n\\nAssistant: a\",\"rejected\":\"\\n\\nHuman: q\\n\\nAssistant: b\"}\n"
                        "{\"prompt\":\"\",\"chosen\":\"x\",\"rejected\":\"y\"}\n"
                        "{\"prompt\":[" MESSAGE("user", "p") "," MESSAGE("assistant", "a") "],\"chosen\":\"x\",\"rejected\":\"y\"}\n",
                    &c, 0, 60, &error) == 0);
    const struct sequences *k = &d.train;
    CHECK(k->items == 2 && k->count == 5 && rm_data_pairs(k) == 3 && tally_get(&d.ledger.read, "rankings read") == 8);
    CHECK(tally_get(&d.ledger.dropped, "fewer than two different answers") == 2 && tally_get(&d.ledger.dropped, "all answers are tied") == 1 &&
          tally_get(&d.ledger.dropped, "the answers' prompts differ") == 1 && tally_get(&d.ledger.dropped, "an empty user message") == 1 &&
          tally_get(&d.ledger.dropped, "a prompt that ends with an answer") == 1);
    CHECK(tally_get(&d.ledger.changed, "empty answers left out") == 2 &&
          tally_get(&d.ledger.changed, "answers left out: equal to another of the same prompt") == 1);
    CHECK(k->first[0] == 0 && k->first[1] == 3 && k->first[2] == 5 && k->quality[0] == -1 && k->quality[2] == -2);
    uint64_t tokens = 0;
    for (uint32_t a = 0; a < k->count; a++) {          /* bos, user, p, end, assistant: 5; the answer and its end token */
        static const uint32_t spoken[] = {4, 4, 6, 2, 2};
        CHECK(k->spoken[a] == spoken[a] && k->length[a] == 5 + spoken[a] && k->start[a] == tokens &&
              k->id[tokens + k->length[a] - 1] == c.end);
        tokens += k->length[a];
    }
    CHECK(tokens == k->tokens && k->item_tokens[0] == 29 && k->item_tokens[1] == 14 && d.longest == 29);
    dataset_free(&d);

    CHECK(read_text(&d, "{\"prompt\":\"p\",\"chosen\":\"x\",\"rejected\":\"x\"}\n", &c, 0, 60, &error) == -1 &&
          error.exit_code == EXIT_DATA && strstr(error.text, "no ranking to train on") &&
          strstr(error.text, "fewer than two different answers"));
    CHECK(read_text(&d, "{\"prompt\":\"p\",\"chosen\":\"x\",\"rejected\":\"y\"}\n{\"prompt\":\"p\"}\n", &c, 0, 60, &error) == -1 &&
          strstr(error.text, "rankings.jsonl:2: not a ranking"));
    tokenizer_free(t);
}

/* Answers that are equal only once they are cut say nothing: the worse one goes, and is counted. */
static void test_equal_once_cut(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    const char *rows = "{\"prompt\":\"p\",\"chosen\":\"abcdefghijk\",\"rejected\":\"abcdefghxyz\"}\n"
                       "{\"prompt\":\"q\",\"responses\":[\"abcdefghijk\",\"abcdefghxyz\",\"z\"],\"ranks\":[2,1,3]}\n";
    CHECK(read_text(&d, rows, &c, 0, 12, &error) == 0);              /* bos user p end assistant: 5, 6 of the answer, end */
    CHECK(d.train.items == 1 && d.train.count == 2 && rm_data_pairs(&d.train) == 1 && d.train.quality[0] == -1 && d.train.quality[1] == -3);
    CHECK(tally_get(&d.ledger.changed, "answers left out: once cut, equal to another of the same prompt") == 2 &&
          tally_get(&d.ledger.dropped, "fewer than two different answers") == 1);
    dataset_free(&d);
    CHECK(read_text(&d, rows, &c, 0, 40, &error) == 0 && d.train.items == 2 && d.train.count == 5 && d.ledger.changed.count == 0);
    dataset_free(&d);
    tokenizer_free(t);
}

/* A prompt loses its first turns, never the system message or the last question; an answer is cut and keeps its end token. */
static void test_cutting(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    const char *row = "{\"prompt\":[" MESSAGE("system", "S") "," MESSAGE("user", "1") "," MESSAGE("assistant", "2") ","
                      MESSAGE("user", "3") "," MESSAGE("assistant", "4") "," MESSAGE("user", "5") "],"
                      "\"chosen\":\"abc\",\"rejected\":\"defghijklm\"}\n";
    /* bos + 6 messages of 3 + header = 20; without one turn 14, without two 8; answers 4 and 11 */
    for (int limit = 8; limit <= 32; limit++) {
        int status = read_text(&d, row, &c, 0, limit, &error);
        if (limit < 10) { CHECK(status == -1 && strstr(error.text, "too long")); continue; }     /* 8 + limit / 4 > limit */
        uint32_t prompt = limit >= 31 ? 20 : limit >= 25 ? 14 : 8;
        CHECK(status == 0 && d.train.items == 1);
        CHECK(d.train.length[0] == (uint32_t)int_min(limit, (int)prompt + 4) &&
              d.train.length[1] == (uint32_t)int_min(limit, (int)prompt + 11));
        CHECK(tally_get(&d.ledger.changed, "answers cut: too long") == (uint64_t)((limit < 12) + (limit < 19)));
        CHECK(tally_get(&d.ledger.changed, "prompts that lost their earliest turns: too long") == (prompt < 20));
        struct bytes b = {0};
        tokenizer_decode(&b, t, d.train.id, d.train.length[0]);
        CHECK(strncmp(b.data, "<|endoftext|><|system|>S<|end|><|user|>", 38) == 0 && strstr(b.data, "<|user|>5<|end|><|assistant|>a"));
        CHECK(d.train.id[d.train.length[0] - 1] == c.end && d.train.id[d.train.tokens - 1] == c.end);
        bytes_free(&b);
        dataset_free(&d);
    }
    tokenizer_free(t);
}

/* In every template a ranking's tokens are those of its prompt and each answer as one dialogue. */
static void test_templates(void)
{
    static const char *const said[] = {"yes", " no way\n", "<think>\nhm\n</think>\n\nso", "</think>"};
    for (enum chat_template k = TEMPLATE_QUARTET; k <= TEMPLATE_GLM4; k++) {
        struct tokenizer *t = words_tokenizer();
        struct chat c;
        struct ranking r = {0};
        struct ids ids = {0}, ends = {0}, one = {0}, header = {0};
        struct tally changed = {0};
        int prompt;
        chat_open(&c, k, t);
        dialogue_add(&r.prompt, ROLE_USER, "p", 1);
        dialogue_add(&r.prompt, ROLE_ASSISTANT, "a", 1);
        dialogue_add(&r.prompt, ROLE_USER, "q", 1);
        for (int i = 0; i < 4; i++) dialogue_add(&r.answers, ROLE_ASSISTANT, said[i], strlen(said[i]));
        r.quality = host_alloc(4, sizeof *r.quality);
        for (int i = 0; i < 4; i++) r.quality[i] = i;
        CHECK(ranking_tokens(&ids, &ends, &prompt, &r, &c, 2000, true, &changed) == NULL && ends.count == 4);
        chat_render(&c, &r.prompt, CHAT_TRAIN_ASSISTANT, true, &header, NULL, NULL);
        for (int i = 0; i < 4; i++) {
            int from = i ? ends.id[i - 1] : 0;
            one.count = 0;
            dialogue_add(&r.prompt, ROLE_ASSISTANT, said[i], strlen(said[i]));
            chat_render(&c, &r.prompt, CHAT_TRAIN_ASSISTANT, false, &one, NULL, NULL);
            dialogue_pop(&r.prompt);
            CHECK(prompt == (int)header.count && ends.id[i] - from == (int)one.count &&
                  memcmp(ids.id + from, one.id, one.count * sizeof(int)) == 0);
        }
        dialogue_free(&r.prompt), dialogue_free(&r.answers);
        free(r.quality), free(ids.id), free(ends.id), free(one.id), free(header.id);
        tokenizer_free(t);
    }
}

static void test_split(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    struct bytes text = {0};
    chat_open(&c, TEMPLATE_QUARTET, t);
    for (int i = 0; i < 2000; i++)
        bytes_text(&text, "{\"prompt\":[" MESSAGE("user", "question %d") "," MESSAGE("assistant", "%d") "," MESSAGE("user", "more") "],"
                         "\"chosen\":\"x%d\",\"rejected\":\"y\"}\n",
                   i % 500, i, i);
    CHECK(read_text(&d, text.data, &c, 0.1, 200, &error) == 0 && d.train.items + d.validation.items == 2000);
    CHECK(fabs((double)d.validation.items / 2000 - 0.1) < 4 * sqrt(0.09 / 500));
    CHECK(!words_overlap(t, &d.train, &d.validation) && words_overlap(t, &d.train, &d.train));
    dataset_free(&d);
    bytes_free(&text);
    tokenizer_free(t);
}

/* ---- scores ---- */

/* A sequence's score is read at its last token: the same bits alone and packed, whatever its neighbours; constants applied. */
static void test_scores(void)
{
    struct config c = tiny_config(7, NULL);
    struct tiny t;
    int lengths[] = {5, 11, 1, 8};
    c.score_mean = 0.3;
    c.score_std = 2.5;
    tiny_open(&t, &c, &(struct model_use){.train = true, .max_tokens = 32, .max_sequences = 8}, 3);
    struct batch all = tiny_batch(lengths, 4, c.vocab, 1);
    float together[4], alone, rewards[4];
    score_raw(together, &t.m, &all);
    score_rewards(rewards, &t.m, &all);
    for (int s = 0; s < 4; s++) {
        struct batch one = tiny_batch(&lengths[s], 1, c.vocab, 2);
        memcpy(one.tokens, all.tokens + all.offsets[s], (size_t)lengths[s] * sizeof(int));
        score_raw(&alone, &t.m, &one);
        CHECK(alone == together[s]);
        CHECK(close_to((double)rewards[s], ((double)alone - 0.3) / 2.5, 1e-6, 1e-7));
        tiny_batch_free(&one);
    }

    /* What is read is the head on the last row, and no other. */
    float *head = host_alloc((size_t)c.channels, sizeof *head), head_bias;
    score_raw(together, &t.m, &all);
    from_device(head, t.m.params.score, (size_t)c.channels * sizeof *head);
    from_device(&head_bias, t.m.params.score_bias, sizeof head_bias);
    float *hidden = host_acts(t.m.hidden, (size_t)(all.N * c.channels));
    for (int s = 0; s < 4; s++) {
        double value = (double)head_bias;
        for (int k = 0; k < c.channels; k++) value += (double)head[k] * (double)hidden[(all.offsets[s + 1] - 1) * c.channels + k];
        CHECK(close_to((double)together[s], value, 1e-6, 1e-7));
    }
    free(head);
    free(hidden);

    /* It is the last token that is read: another one there changes that score alone. */
    float changed[4];
    int last = all.offsets[2] - 1, kept = all.tokens[last];
    all.tokens[last] = (kept + 1) % c.vocab;
    score_raw(changed, &t.m, &all);
    all.tokens[last] = kept;
    for (int s = 0; s < 4; s++) CHECK((changed[s] == together[s]) == (s != 1));

    /* The gradient of a ranking's loss, all the way down: finite differences in a few weights; the bias's is 0. */
    double quality[] = {1, 3, 2, 2}, scores[4], d[4];
    float dscores[4];
    struct ranking_options plain = {0};
    model_forward(&t.m, &all, true);
    score_read(together, &t.m, &all);
    for (int s = 0; s < 4; s++) scores[s] = (double)together[s];
    double loss = ranking_loss(d, scores, quality, 4, &plain, NULL);
    for (int s = 0; s < 4; s++) dscores[s] = (float)d[s];
    score_backward(&t.m, &all, dscores);
    model_backward(&t.m);
    CHECK(loss > 0);
    float bias, *weights = t.m.params.all, *grads = host_alloc(t.m.params.count, sizeof *grads);
    from_device(&bias, t.m.grads.score_bias, sizeof bias);
    from_device(grads, t.m.grads.all, t.m.params.count * sizeof *grads);
    CHECK(fabs((double)bias) < 1e-7);
    double step = by_type(1e-2, 0.125);                  /* with bfloat16 less would be lost in rounding */
    int bad = 0, probes = 0;
    for (size_t i = 3; i < t.m.params.count; i += t.m.params.count / 60) {
        float keep, moved;
        double two[2];
        from_device(&keep, weights + i, sizeof keep);
        if (keep == 0) continue;                     /* the gaps between parameters */
        for (int side = 0; side < 2; side++) {
            moved = keep + (float)(side ? -step : step);
            to_device(weights + i, &moved, sizeof moved);
            params_pack(&t.m.params, &c);
            score_raw(together, &t.m, &all);
            for (int s = 0; s < 4; s++) scores[s] = (double)together[s];
            two[side] = ranking_loss(NULL, scores, quality, 4, &plain, NULL);
        }
        to_device(weights + i, &keep, sizeof keep);
        probes++;
        bad += !close_to((double)grads[i], (two[0] - two[1]) / (2 * step), by_type(2e-2, 0.3), by_type(3e-4, 0.05));
    }
    CHECK(probes > 20 && bad == 0);
    free(grads);
    tiny_batch_free(&all);
    tiny_close(&t);
}

/* The head starts with deviation 1 / sqrt(C + 1). */
static void test_head(void)
{
    struct config c = tiny_config(7, NULL);
    struct tiny t;
    c.channels = 768;
    c.layers = 1;
    tiny_open(&t, &c, &(struct model_use){.max_tokens = 4, .max_sequences = 1}, 3);
    params_init(&t.m.params, &c, 11);
    float w[768], bias;
    double squares = 0;
    from_device(w, t.m.params.score, sizeof w);
    from_device(&bias, t.m.params.score_bias, sizeof bias);
    for (int i = 0; i < 768; i++) squares += (double)w[i] * (double)w[i];
    CHECK(close_to(sqrt(squares / 768), 1 / sqrt(769.0), 0.1, 0) && bias == 0);
    tiny_close(&t);
}

/* Mean loss and accuracy of n random pairs of answers of eight tokens. */
static double random_pairs(struct tiny *t, int n, double *accuracy)
{
    enum { PAIRS = 50, LENGTH = 8 };
    int lengths[2 * PAIRS];
    float score[2 * PAIRS];
    double loss = 0;
    struct ranking_options plain = {0};
    struct ranking_stats stats = {0};
    for (int i = 0; i < 2 * PAIRS; i++) lengths[i] = LENGTH;
    for (int from = 0; from < n; from += PAIRS) {
        struct batch b = tiny_batch(lengths, 2 * PAIRS, t->m.config.vocab, 100 + (uint64_t)from);
        score_raw(score, &t->m, &b);
        for (int i = 0; i < PAIRS; i++)
            loss += ranking_loss(NULL, (double[]){(double)score[2 * i], (double)score[2 * i + 1]}, (double[]){1, 0}, 2, &plain, &stats);
        tiny_batch_free(&b);
    }
    *accuracy = stats.correct / stats.pairs;
    return loss / n;
}

/* Before any training a reward model guesses: half of the pairs, at a loss of log 2 with a head of zeros, and not below it. */
static void test_untrained(void)
{
    enum { N = 2000 };
    struct config c = tiny_config(7, NULL);
    struct tiny t;
    double accuracy;
    tiny_open(&t, &c, &(struct model_use){.max_tokens = 800, .max_sequences = 100}, 3);
    params_init(&t.m.params, &c, 12);
    params_pack(&t.m.params, &c);
    double loss = random_pairs(&t, N, &accuracy);
    CHECK(loss > log(2) - 0.02 && loss < 1.2 && fabs(accuracy - 0.5) < 3 / sqrt(4.0 * N));
    fill(t.m.params.score, 0, (size_t)c.channels);
    params_pack(&t.m.params, &c);
    CHECK(close_to(random_pairs(&t, N, &accuracy), log(2), 1e-12, 0) && accuracy == 0.5);
    tiny_close(&t);
}

/* ---- scores of rollouts ---- */

enum { ROLLOUTS = 4, SCORE_CONTEXT = 17 };

struct scored { struct tiny *model; const struct chat *chat; float reward[ROLLOUTS]; };

static void score_as_rm(void *self, struct ranking *r)
{
    struct scored *s = self;
    struct ids ids = {0}, ends = {0};
    struct tally changed = {0};
    int prompt;
    CHECK(ranking_tokens(&ids, &ends, &prompt, r, s->chat, SCORE_CONTEXT, false, &changed) == NULL && ends.count == ROLLOUTS);
    int lengths[ROLLOUTS];
    for (int i = 0; i < ROLLOUTS; i++) lengths[i] = ends.id[i] - (i ? ends.id[i - 1] : 0);
    struct batch b = tiny_batch(lengths, ROLLOUTS, s->model->m.config.vocab, 1);
    memcpy(b.tokens, ids.id, ids.count * sizeof(int));
    score_rewards(s->reward, &s->model->m, &b);
    tiny_batch_free(&b);
    free(ids.id);
    free(ends.id);
}

/* Answers that ended, were cut, were cut where the context is full, and ended with another stop token: rlhf gives them the rewards
 * that rm --score gives their text. */
static void test_rollouts(void)
{
    static const char *const answer[ROLLOUTS] = {"yes", "no way", "the longe", "well"};
    struct tokenizer *t = words_tokenizer();
    struct chat chat;
    struct config c = tiny_config(7, NULL);
    struct tiny model;
    struct memory memory = {0};
    struct rollouts r = {0};
    struct error error;
    chat_open(&chat, TEMPLATE_QUARTET, t);
    c.vocab = tokenizer_vocab(t);
    c.context = SCORE_CONTEXT;
    c.score_mean = 0.3;
    c.score_std = 2.5;
    tiny_open(&model, &c, &(struct model_use){.max_tokens = 80, .max_sequences = 8}, 5);
    for (int pass = 0; pass < 2; pass++) {
        rollout_open(&r, ROLLOUTS, SCORE_CONTEXT, 9, 40, &memory);      /* 40: they do not fit one micro-batch */
        if (pass == 0) CHECK(memory_open(&memory, &error) == 0);
    }
    memory_seal(&memory);
    struct dialogue d = {0};
    dialogue_add(&d, ROLE_USER, "Why?", 4);
    r.first[0] = 0;
    for (int e = 0; e < ROLLOUTS; e++) {
        struct ids ids = {0};
        chat_render(&chat, &d, CHAT_TRAIN_ASSISTANT, true, &ids, NULL, NULL);
        r.n_prompt[e] = (int)ids.count;
        tokenizer_encode(&ids, t, answer[e], strlen(answer[e]));
        r.spoken[e] = (int)ids.count - r.n_prompt[e];
        r.ended[e] = e == 0;
        if (e == 0 || e == 3) ids_add(&ids, e == 0 ? chat.end : chat.bos);
        CHECK(ids.count <= SCORE_CONTEXT);
        memcpy(r.tokens + e * r.length, ids.id, ids.count * sizeof(int));
        r.first[e + 1] = r.first[e] + (int)ids.count - r.n_prompt[e];
        free(ids.id);
    }
    CHECK(r.n_prompt[2] + r.spoken[2] == SCORE_CONTEXT);
    struct scored rm = {.model = &model, .chat = &chat};
    json_t *row = json_loads("{\"prompt\":\"Why?\",\"responses\":[\"yes\",\"no way\",\"the longe\",\"well\"]}", 0, NULL);
    CHECK(rankings_from_json(row, false, NULL, score_as_rm, &rm, &error) == 0);
    json_decref(row);
    struct reward_source source = {.model = &model.m, .end = chat.end};
    float reward[ROLLOUTS];
    CHECK(reward_source_get(&source, &r, reward, &error) == 0);
    for (int e = 0; e < ROLLOUTS; e++) CHECK(reward[e] == rm.reward[e] && reward[e] != 0);
    dialogue_free(&d);
    memory_close(&memory);
    tiny_close(&model);
    tokenizer_free(t);
}

int main(void)
{
    test_shapes();
    test_reading();
    test_equal_once_cut();
    test_cutting();
    test_templates();
    test_split();
    test_scores();
    test_rollouts();
    test_head();
    test_untrained();
    words_clean();
    return test_end("rm_data");
}
