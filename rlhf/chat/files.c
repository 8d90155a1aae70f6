/* files.c - files of prompts that are answered, and of texts whose every token is scored: for scripts, evaluation, and
 * comparing with other systems.  A line of JSON each, in order. */
#include "common/data/prompts.h"
#include "common/data/paths.h"
#include "common/data/records.h"
#include "common/model/device.h"
#include "common/text/show.h"
#include "rlhf/chat/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUND = 512 };        /* answers sampled before they are written: memory does not grow with the file */

static void write_line(struct bytes *line, const char *what)
{
    if (fwrite(line->data, 1, line->size, stdout) != line->size || fflush(stdout) != 0)
        quit(EXIT_IO, "the %s cannot be written: %s", what, strerror(errno));
    bytes_free(line);
}

/* ---- answers ---- */

static void write_answer(const struct prompt *p, const struct tokenizer *t, const struct sample *s, int sample)
{
    struct bytes line = {0};
    bytes_text(&line, "{%s,\"sample\":%d,\"response\":", p->dialogue, sample);
    show_json(&line, t, s->tokens, (size_t)(s->n - s->stopped));
    bytes_text(&line, ",\"tokens\":%d,\"stopped\":%s}\n", s->n, s->stopped ? "true" : "false");
    write_line(&line, "answers");
}

/* The prompts of the files; those that do not fit the context are left out, which stderr says. */
static void read_prompts(struct prompts *prompts, const struct session *s, int max_new)
{
    struct error error;
    struct chat chat = s->chat;
    int context = s->parent.config.context, most = context - int_min(max_new, context / 2);
    if (s->raw)
        chat = (struct chat){.template = TEMPLATE_NONE, .tokenizer = s->parent.tokenizer,
                             .bos = tokenizer_document(s->parent.tokenizer)};
    if (prompts_read(prompts, NULL, 0, &s->prompts, &chat, most, (uint64_t)s->seed, &error) != 0)
        quit_error(&error);
    if (prompts->too_long + prompts->unusable > 0)
        fprintf(stderr, "%s: of %llu prompts, %llu longer than %d tokens and %llu without a question are left out\n",
                program_name(), (unsigned long long)tally_get(&prompts->ledger.read, "prompts read"),
                (unsigned long long)prompts->too_long, most, (unsigned long long)prompts->unusable);
}

void session_answer_files(struct session *s)
{
    struct prompts prompts = {0};
    struct sample_settings how = session_sampling(s);
    int max_new = int_min((int)s->max_new, s->parent.config.context);
    uint64_t samples = (uint64_t)s->samples;
    read_prompts(&prompts, s, max_new);
    struct sample *sample = host_alloc(ROUND, sizeof *sample);
    int *tokens = host_alloc((size_t)ROUND * (size_t)max_new, sizeof *tokens);
    uint64_t all = (uint64_t)prompts.count * samples;
    for (uint64_t first = 0; first < all; first += ROUND) {
        int n = all - first < ROUND ? (int)(all - first) : ROUND;
        for (int i = 0; i < n; i++) {
            uint64_t index = first + (uint64_t)i;
            const struct prompt *p = &prompts.prompt[index / samples];
            sample[i] = (struct sample){.prompt = prompts.ids.id + p->first, .n_prompt = p->count, .index = index,
                                        .most = max_new, .tokens = tokens + (size_t)i * (size_t)max_new};
        }
        sample_run(&s->model, sample, n, &how, NULL, NULL);
        for (int i = 0; i < n; i++)
            write_answer(&prompts.prompt[sample[i].index / samples], s->parent.tokenizer, &sample[i],
                         (int)(sample[i].index % samples));
    }
    free(tokens);
    free(sample);
    prompts_free(&prompts);
}

/* ---- scores ---- */

/* The ids of a row: {"tokens": [..]} as they are, {"text": ".."} encoded, nothing added.  Returns 0 or -1. */
static int row_ids(struct ids *ids, const struct session *s, const json_t *row, const char *where, struct error *error)
{
    const json_t *tokens = json_object_get(row, "tokens"), *text = json_object_get(row, "text");
    int vocab = s->parent.config.vocab, context = s->parent.config.context;
    ids->count = 0;
    if (json_is_string(text) && !tokens)
        tokenizer_encode(ids, s->parent.tokenizer, json_string_value(text), json_string_length(text));
    else if (!json_is_array(tokens) || text)
        return fail(error, EXIT_DATA, "%s: expected {\"text\": a string} or {\"tokens\": a list of ids}", where);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *id = json_array_get(tokens, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab)
            return fail(error, EXIT_DATA, "%s: tokens[%zu] is no id of the model (expected 0 to %d)", where, i,
                        vocab - 1);
        ids_add(ids, (int)json_integer_value(id));
    }
    if (ids->count < 1 || ids->count > (size_t)context)
        return fail(error, EXIT_DATA, "%s: %zu tokens (expected 1 to %d, the model's context)", where, ids->count,
                    context);
    return 0;
}

struct scored { int n, *tokens, *targets, *rows, *best; uint8_t *mask; float *logprobs, *logits; };

/* log p of each token but the first, and the most likely token after each. */
static void score(struct scored *r, struct model *m)
{
    int offsets[2] = {0, r->n}, V = m->config.vocab, most = m->use.logits_rows;
    struct batch b = {r->n, 1, r->tokens, r->targets, r->mask, offsets};
    struct token_loss how = {.kind = LOSS_LOGPROBS, .temperature = 1};
    for (int i = 0; i < r->n; i++) {
        r->targets[i] = r->tokens[i + 1 < r->n ? i + 1 : i];
        r->mask[i] = i + 1 < r->n;
        r->rows[i] = i;
    }
    model_forward(m, &b, false);
    model_token_loss(m, &b, &how, r->logprobs, NULL, NULL, false);
    for (int i = 0; i < r->n; i += most) {
        int n = int_min(most, r->n - i);
        model_logits(m, r->rows + i, n);
        device_get(r->logits, m->logits, (size_t)n * (size_t)V * sizeof *r->logits);
        device_wait();
        for (int k = 0; k < n; k++) {
            const float *z = r->logits + (size_t)k * (size_t)V;
            int best = 0;
            for (int v = 1; v < V; v++)
                if (z[v] > z[best]) best = v;
            r->best[i + k] = best;
        }
    }
}

static void write_row(const struct scored *r)
{
    struct bytes line = {0};
    bytes_text(&line, "{\"tokens\":[");
    for (int i = 0; i < r->n; i++) bytes_text(&line, i ? ",%d" : "%d", r->tokens[i]);
    bytes_text(&line, "],\"logprobs\":[null");
    for (int i = 0; i + 1 < r->n; i++) bytes_text(&line, ",%.9g", (double)r->logprobs[i]);
    bytes_text(&line, "],\"argmax\":[");
    for (int i = 0; i < r->n; i++) bytes_text(&line, i ? ",%d" : "%d", r->best[i]);
    bytes_text(&line, "]}\n");
    write_line(&line, "results");
}

struct scoring { struct session *session; struct scored r; struct ids ids; struct error *error; };

static int take_row(void *self, json_t *row, const char *where)
{
    struct scoring *s = self;
    if (row_ids(&s->ids, s->session, row, where, s->error) != 0) return -1;
    s->r.n = (int)s->ids.count;
    s->r.tokens = s->ids.id;
    score(&s->r, &s->session->model);
    write_row(&s->r);
    return 0;
}

void session_logprobs(struct session *s)
{
    struct error error;
    struct paths paths;
    size_t T = (size_t)s->parent.config.context, V = (size_t)s->parent.config.vocab;
    struct scoring k = {.session = s, .error = &error};
    k.r = (struct scored){.targets = host_alloc(T, sizeof(int)), .rows = host_alloc(T, sizeof(int)),
                          .best = host_alloc(T, sizeof(int)), .mask = host_alloc(T, 1),
                          .logprobs = host_alloc(T, sizeof(float)),
                          .logits = host_alloc((size_t)s->model.use.logits_rows * V, sizeof(float))};
    if (paths_expand(&paths, &s->logprobs, false, &error) != 0 ||
        records_read(paths.path, paths.count, false, NULL, take_row, &k, &error) != 0) quit_error(&error);
    paths_free(&paths);
    void *all[] = {k.r.targets, k.r.rows, k.r.best, k.r.mask, k.r.logprobs, k.r.logits, k.ids.id};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}
