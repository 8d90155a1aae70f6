/* test_sft_data.c - files of dialogues become sequences: what is kept, cut, dropped and counted; the split; the order of epochs;
 * the picture of --dry-run; rows of new tokens. */
#include "common/data/epochs.h"
#include "common/train/program.h"
#include "common/text/show.h"
#include "sft/data.h"
#include "test/on_device.h"
#include "test/tiny.h"
#include "test/words.h"

static const struct sft_options usual = {.limit = 200};

static int read_text(struct dataset *d, const char *text, const struct chat *c, const struct sft_options *o, struct error *error)
{
    char *path = words_file("rows.jsonl", text, strlen(text));
    int status = sft_data_read(d, &path, 1, c, o, 2, error);
    free(path);
    return status;
}

static uint64_t all(const struct tally *t)
{
    uint64_t sum = 0;
    for (int i = 0; i < t->count; i++) sum += t->line[i].n;
    return sum;
}

static void test_reading(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(read_text(&d, "{\"prompt\":\"q\",\"response\":\"abc\"}\n"
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"de\"},"
                        "{\"role\":\"user\",\"content\":\"more\"}]}\n"
                        "{\"instruction\":\"q\",\"output\":\"f<|endoftext|>\"}\n"
                        "{\"prompt\":\"q\",\"response\":\" \"}\n"
                        "{\"prompt\":\"q\"}\n"
                        "{\"prompt\":\"\",\"response\":\"x\"}\n"
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}]}\n"
                        "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"hi\"},{\"from\":\"human\",\"value\":\"q\"},"
                        "{\"from\":\"gpt\",\"value\":\"g\"},{\"from\":\"gpt\",\"value\":\"h\"}]}\n",
                    &c, &usual, &error) == 0);
    CHECK(d.train.count == 4 && d.validation.count == 0 && tally_get(&d.ledger.read, "rows read") == 8);
    /* every answer and its end token: abc+1, de+1, f+1, "g\n\nh"+1 */
    CHECK(d.train.targets == 4 + 3 + 2 + 5);
    CHECK(all(&d.ledger.dropped) == 4 && tally_get(&d.ledger.dropped, "an empty answer") == 1 && tally_get(&d.ledger.dropped, "no answer") == 1 &&
          tally_get(&d.ledger.dropped, "an empty user message") == 1 && tally_get(&d.ledger.dropped, "a system message after the first place") == 1);
    CHECK(all(&d.ledger.changed) == 5);      /* last question, and that of the row with none; end mark; merged; skipped */
    /* bos user q end assistant a b c end */
    int want[] = {c.bos, c.control[1], 'q', c.end, c.control[2], 'a', 'b', 'c', c.end};
    CHECK(d.train.length[0] == 9);
    for (int i = 0; i < 9; i++) {
        size_t length;
        const char *bytes = tokenizer_bytes(t, d.train.id[i], &length);
        CHECK(want[i] < 128 ? length == 1 && *bytes == want[i] : d.train.id[i] == want[i]);
        CHECK(d.train.trained[i] == (i >= 5));
    }
    CHECK(d.prompts == 1 && d.prompt[0].count == 5 && d.prompt[0].id[4] == c.control[2]);

    struct bytes picture = {0}, report = {0};
    show_tokens(&picture, t, d.train.id, d.train.trained, 9, false);
    CHECK(strcmp(picture.data, "<|endoftext|>|<|user|>|q|<|end|>|<|assistant|>[a][b][c][<|end|>]\n") == 0);
    picture.size = 0;
    show_tokens(&picture, t, d.train.id, d.train.trained, 6, true);
    CHECK(strcmp(picture.data, "<|endoftext|>|<|user|>|q|<|end|>|<|assistant|>|\033[32ma\033[0m\n") == 0);
    sft_data_report(&report, &d);
    CHECK(strstr(report.data, "       8  rows read\n") && strstr(report.data, "       1  an empty answer\n"));
    bytes_free(&picture);
    bytes_free(&report);

    /* the same numbers after they have moved into the measured memory */
    struct memory m = {0};
    uint32_t crc = crc32_of(0, d.train.id, d.train.tokens * sizeof(int));
    dataset_settle(&d, &m);
    CHECK(memory_open(&m, &error) == 0);
    dataset_settle(&d, &m);
    memory_seal(&m);
    CHECK(crc == crc32_of(0, d.train.id, d.train.tokens * sizeof(int)) && memory_bytes(&m, MEMORY_DATA) > 0);
    dataset_free(&d);
    memory_close(&m);
    tokenizer_free(t);
}

/* What rows say about themselves: muted turns, answers nobody wanted, parts that are used, keys that are not; bad rows. */
static void test_marks(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(read_text(&d, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"ab\",\"weight\":0},"
                        "{\"role\":\"user\",\"content\":\"r\",\"id\":7},{\"role\":\"assistant\",\"content\":\"cde\",\"weight\":1}]}\n"
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"ab\",\"train\":false}]}\n"
                        "{\"prompt\":\"q\",\"completion\":\"bad\",\"label\":false}\n{\"prompt\":\"q\",\"completion\":\"good\",\"label\":true,\"id\":3}\n"
                        "{\"instruction\":\"q\",\"context\":\"c\",\"response\":\"f<|im_end|> <|endoftext|>\\n\",\"category\":\"x\"}\n",
                    &c, &usual, &error) == 0);
    CHECK(d.train.count == 3 && d.train.targets == 4 + 5 + 2 && d.longest == d.train.length[0]);
    CHECK(tally_get(&d.ledger.dropped, "an answer marked as bad (\"label\": false)") == 1 &&
          tally_get(&d.ledger.dropped, "all answers are marked as not to be trained on") == 1 && all(&d.ledger.dropped) == 2);
    CHECK(tally_get(&d.ledger.changed, "answers not trained on: marked so (weight, train, loss)") == 1);
    CHECK(all(&d.ledger.unused) == 3 && tally_get(&d.ledger.unused, "id") == 1 && tally_get(&d.ledger.unused, "category") == 1 &&
          tally_get(&d.ledger.unused, "in messages: id") == 1);
    dataset_free(&d);

    /* odd rows end the reading, or are skipped, up to a number or a share of the rows */
    const char *odd = "{\"prompt\":\"q\",\"response\":\"a\"}\n{\"prompt\":\"q\",\"response\":\"a\",\"x\":1,\"x\":2}\n"
                      "{\"conversations\":[{\"from\":\"gpt-4\",\"value\":\"a\"}]}\n{\"prompt\":\"q\",\"response\":\"a\",\"score\":NaN}\n"
                      "{\"prompt\":\"q\",\"response\":null}\n{\"prompt\":\"q\",\"response\":\n";
    static const double skip[] = {0, 3, 4, 0.5, 0.7};
    static const char *const said[] = {"rows.jsonl:2: ", "more than --skip-bad-rows 3 rows are bad: ", NULL,
                                       "4 of 6 rows are bad, more than --skip-bad-rows 0.5 allows", NULL};
    for (int i = 0; i < 5; i++) {
        struct sft_options o = {.limit = 200, .skip_bad_rows = skip[i]};
        int status = read_text(&d, odd, &c, &o, &error);
        CHECK(said[i] ? status == -1 && error.exit_code == EXIT_DATA && strstr(error.text, said[i])
                      : status == 0 && d.train.count == 2 && d.ledger.bad == 4 && strstr(d.ledger.bad_rows.data, "rows.jsonl:3: ") &&
                        strstr(d.ledger.bad_rows.data, "gpt-4"));
        if (status == 0) dataset_free(&d);
    }
    tokenizer_free(t);
}

/* Too long: cut behind the last answer that fits; or dropped. */
static void test_cutting(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_QUARTET, t);
    const char *rows = "{\"messages\":[{\"role\":\"user\",\"content\":\"12345\"},{\"role\":\"assistant\",\"content\":\"678\"},"
                       "{\"role\":\"user\",\"content\":\"9\"},{\"role\":\"assistant\",\"content\":\"xyz\"}]}\n"
                       "{\"prompt\":\"12345\",\"response\":\"6789xyzwvu\"}\n{\"prompt\":\"1\",\"response\":\"2\"}\n";
    /* bos + (1+5+1) + (1+3+1) = 13, + (1+1+1) + (1+3+1) = 21 */
    for (int limit = 12; limit <= 22; limit++) {
        struct sft_options o = {.limit = limit};
        CHECK(read_text(&d, rows, &c, &o, &error) == 0);
        CHECK((int)d.train.count == 1 + (limit >= 13) + (limit >= 20));
        if (limit >= 13) CHECK(d.train.length[0] == (limit >= 21 ? 21u : 13u) && d.train.id[d.train.length[0] - 1] == c.end);
        CHECK(tally_get(&d.ledger.changed, "dialogues cut at a turn border: too long") == (limit >= 13 && limit < 21));
        CHECK(tally_get(&d.ledger.dropped, "too long: not one answer fits") == (uint64_t)((limit < 13) + (limit < 20)));
        dataset_free(&d);
    }
    /* --train-on last is about the last answer that is left */
    struct sft_options o = {.limit = 15, .train = CHAT_TRAIN_LAST};
    CHECK(read_text(&d, rows, &c, &o, &error) == 0 && d.train.count == 2 && d.train.targets == 4 + 2);
    dataset_free(&d);
    o = (struct sft_options){.limit = 100, .train = CHAT_TRAIN_ALL};
    CHECK(read_text(&d, rows, &c, &o, &error) == 0 && d.train.targets == d.train.tokens - d.train.count);
    dataset_free(&d);
    tokenizer_free(t);
}

static void test_refusals(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d;
    struct error error;
    chat_open(&c, TEMPLATE_CHATML, t);
    CHECK(read_text(&d, "{\"prompt\":\"q\",\"response\":\"a\"}\n{\"text\":\"x\"}\n", &c, &usual, &error) == -1 &&
          error.exit_code == EXIT_DATA && strstr(error.text, "rows.jsonl:2: "));
    CHECK(read_text(&d, "[{\"prompt\":\"q\",\"response\":\"a\"},{\"prompt\":\"q\",\"response\":[]},{\"prompt\":1}]", &c, &usual,
                    &error) == -1 &&
          strstr(error.text, "rows.jsonl[2]: "));
    CHECK(read_text(&d, "{\"prompt\":\"q\"}\n{\"prompt\":\"r\"}\n", &c, &usual, &error) == -1 && error.exit_code == EXIT_DATA &&
          strstr(error.text, "no trainable token") && strstr(error.text, "2  no answer"));
    struct sft_options most = {.limit = 200, .validation = 0.9};
    CHECK(read_text(&d, "{\"prompt\":\"q\",\"response\":\"a\"}\n", &c, &most, &error) == -1 && strstr(error.text, "--validation holds out all"));
    CHECK(read_text(&d, "", &c, &usual, &error) == -1 && error.exit_code == EXIT_DATA);
    char *path = host_text("/tmp/quartet-nowhere-%ld", (long)getpid());
    CHECK(sft_data_read(&d, &path, 1, &c, &usual, 0, &error) == -1 && error.exit_code == EXIT_NOINPUT);
    free(path);
    tokenizer_free(t);
}

/* The same question is always on one side; the share is about right; gzip and several files give the same as one. */
static void test_split(void)
{
    enum { N = 2000 };
    struct tokenizer *t = words_tokenizer();
    struct chat c;
    struct dataset d, again;
    struct error error;
    struct bytes text = {0};
    struct sft_options o = {.limit = 100, .validation = 0.2};
    chat_open(&c, TEMPLATE_QUARTET, t);
    for (int i = 0; i < N; i++) bytes_text(&text, "{\"prompt\":\"question %d\",\"response\":\"answer %d\"}\n", i % (N / 4), i);
    CHECK(read_text(&d, text.data, &c, &o, &error) == 0 && d.train.count + d.validation.count == N);
    double share = (double)d.validation.count / N;
    CHECK(fabs(share - 0.2) < 4 * sqrt(0.16 / (N / 4)));
    CHECK(!words_overlap(t, &d.train, &d.validation) && words_overlap(t, &d.train, &d.train));

    size_t half = (size_t)(strchr(text.data + text.size / 2, '\n') - text.data) + 1;
    char *path[2] = {words_file("first.jsonl", text.data, half), words_file("second.json.gz", "", 0)};
    words_gzip(path[1], text.data + half, text.size - half);
    CHECK(sft_data_read(&again, path, 2, &c, &o, 2, &error) == 0 && again.identity == d.identity && again.train.count == d.train.count);
    dataset_free(&again);
    CHECK(read_text(&again, "{\"prompt\":\"question 1\",\"response\":\"answer 1\"}\n", &c, &usual, &error) == 0 &&
          again.identity != d.identity);
    dataset_free(&again);
    dataset_free(&d);
    free(path[0]);
    free(path[1]);
    bytes_free(&text);
    tokenizer_free(t);
}

/* Every item once an epoch, no bin too full, epochs differ, and bin i is the same however one came to it. */
static void test_epochs(void)
{
    enum { N = 3000, CAPACITY = 256 };
    uint32_t *length = host_alloc(N, sizeof *length), sum = 0;
    struct rng r = rng_at(3, RNG_TEST, 0, 0);
    for (int i = 0; i < N; i++) sum += length[i] = 1 + (uint32_t)rng_below(&r, 1 + rng_below(&r, CAPACITY));
    struct epochs e, other;
    epochs_open(&e, length, N, CAPACITY, 7);
    epochs_open(&other, length, N, CAPACITY, 7);
    uint64_t index = 0;
    uint32_t first[3] = {0};
    for (int epoch = 0; epoch < 3; epoch++) {
        char *seen = host_alloc(N, 1);
        bool good = true;
        uint32_t bins = 0;
        do {
            const uint32_t *item;
            uint32_t n = epochs_bin(&e, &item, index), used = 0;
            if (bins == 0) first[epoch] = item[0];
            for (uint32_t i = 0; i < n; i++) {
                good = good && !seen[item[i]];
                seen[item[i]] = 1;
                used += length[item[i]];
            }
            good = good && n > 0 && used <= CAPACITY && e.epoch == (uint64_t)epoch;
            index++;
            bins++;
        } while (bins < e.bins);
        CHECK(good && !memchr(seen, 0, N));
        CHECK((double)sum / ((double)bins * CAPACITY) > 0.97);
        free(seen);
    }
    CHECK(first[0] != first[1] || first[1] != first[2]);
    uint64_t probe[] = {2 * e.bins + 3, 5, e.bins + 9, 0};
    for (int k = 0; k < 4; k++) {
        const uint32_t *a, *b;
        struct epochs fresh;
        epochs_open(&fresh, length, N, CAPACITY, 7);
        uint32_t n = epochs_bin(&other, &a, probe[k]), m = epochs_bin(&fresh, &b, probe[k]);
        CHECK(n == m && memcmp(a, b, n * sizeof *a) == 0);
        epochs_close(&fresh);
    }
    epochs_close(&e);
    epochs_close(&other);
    free(length);
}

/* ---- new rows ---- */

struct source { struct model *m; };

static void fetch(void *self, void *host, uint64_t offset, size_t bytes) { from_device(host, (char *)self + offset, bytes); }

struct listing { struct ckpt_source source[64]; size_t count; };

static void list_one(void *context, const struct param *p)
{
    struct listing *l = context;
    struct ckpt_source *s = &l->source[l->count++];
    *s = (struct ckpt_source){.role = ROLE_WEIGHT, .dtype = DTYPE_F32, .ndim = p->ndim, .self = *p->data, .fetch = fetch};
    snprintf(s->name, sizeof s->name, "%s", p->name);
    for (int i = 0; i < p->ndim; i++) s->shape[i] = (uint64_t)p->shape[i];
}

static void check_rows(const float *parent, const float *child, int known, int rows, int kept_from, int V, int C)
{
    float *a = host_alloc((size_t)V * (size_t)C, sizeof *a), *b = host_alloc((size_t)V * (size_t)C, sizeof *b);
    from_device(a, parent, (size_t)kept_from * (size_t)C * sizeof *a);
    from_device(b, child, (size_t)V * (size_t)C * sizeof *b);
    CHECK(same_bits(a, b, (size_t)known * (size_t)C));
    bool mean = true;
    for (int k = 0; k < C; k++) {
        double sum = 0;
        for (int i = 0; i < known; i++) sum += (double)a[i * C + k];
        for (int i = known; i < rows; i++) mean = mean && close_to((double)b[i * C + k], sum / known, 1e-6, 1e-8);
    }
    CHECK(mean);
    free(a);
    free(b);
}

/* A parent whose tokenizer has 261 ids, in a model with `padded` rows; its child has the template's tokens too. */
static void check_growth(int setting, int padded)
{
    struct tokenizer *t = words_tokenizer();
    struct config c = tiny_config(setting, NULL);
    struct tiny base, child;
    struct error error;
    struct ckpt_meta meta = {.stage = STAGE_PRETRAIN, .writer = "test"};
    struct listing list = {0};
    struct parent p;
    char *folder = words_file("x", "", 0);
    int ids = tokenizer_vocab(t);
    *strrchr(folder, '/') = 0;
    c.vocab = ids + padded;
    tiny_open(&base, &c, &(struct model_use){.max_tokens = 8, .max_sequences = 2}, 5);
    params_each(&base.m.params, &c, list_one, &list);
    program_describe(&meta, &c, t, NULL, NULL, NULL);
    if (ckpt_save(folder, "base.ckpt", &meta, list.source, list.count, &error)) die("%s", error.text);
    char *path = host_text("%s/base.ckpt", folder);
    if (parent_open(&p, path, NULL, 1u << STAGE_PRETRAIN, "init", &error)) die("%s", error.text);
    struct chat chat;
    chat_open(&chat, TEMPLATE_QUARTET, p.tokenizer);
    struct config grown = c;
    grown.vocab = int_max(c.vocab, tokenizer_vocab(p.tokenizer));
    tiny_open(&child, &grown, &(struct model_use){.max_tokens = 8, .max_sequences = 2, .logits_rows = 8}, 6);
    CHECK(parent_load(&child.m, &p, ids, 1, &error) == 0);
    check_rows(base.m.params.embed, child.m.params.embed, ids, ids + 4, c.vocab, grown.vocab, c.channels);
    if (c.head == HEAD_VOCABULARY && !c.tied)
        check_rows(base.m.params.head.weight, child.m.params.head.weight, ids, ids + 4, c.vocab, grown.vocab, c.channels);
    if (c.head == HEAD_VOCABULARY) {     /* packed forms too: the new tokens' logits are equal */
        int token[] = {1, 2, 3}, length[] = {3}, rows[] = {2};
        struct batch b = tiny_batch(length, 1, 200, 1);
        memcpy(b.tokens, token, sizeof token);
        float *logits = host_alloc((size_t)grown.vocab, sizeof *logits);
        model_forward(&child.m, &b, false);
        model_logits(&child.m, rows, 1);
        from_device(logits, child.m.logits, (size_t)grown.vocab * sizeof *logits);
        for (int i = 1; i < 4; i++) CHECK(logits[ids + i] == logits[ids] && isfinite(logits[ids]));
        free(logits);
        tiny_batch_free(&b);
    }
    parent_close(&p);
    ckpt_meta_free(&meta);
    tiny_close(&base);
    tiny_close(&child);
    tokenizer_free(t);
    free(path);
    free(folder);
}

int main(void)
{
    test_reading();
    test_marks();
    test_cutting();
    test_refusals();
    test_split();
    test_epochs();
    check_growth(0, 0);
    check_growth(1, 3);
    check_growth(4, 0);
    check_growth(4, 100);
    words_clean();
    return test_end("sft_data");
}
