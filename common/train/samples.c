/* samples.c - all prompts are answered side by side, then shown one after the other. */
#include "common/train/samples.h"
#include "common/base/signals.h"
#include "common/model/sample.h"
#include "common/text/show.h"

#include <stdlib.h>

static void show(const struct samples *s, struct run *run, int64_t step, const struct ids *prompt,
                 const struct sample_result *a)
{
    struct bytes text = {0}, line = {0};
    struct utf8_held held = {0};
    bytes_text(&text, "--- step %lld\n", (long long)step);
    size_t head = text.size;
    tokenizer_stream(&text, &held, s->tokenizer, prompt->id + s->bare, prompt->count - s->bare);
    tokenizer_stream(&text, &held, s->tokenizer, a->tokens, (size_t)(a->n - (s->bare && a->stopped)));
    tokenizer_stream(&text, &held, s->tokenizer, NULL, 0);
    bytes_add(&text, "\n", 1);
    run_append(run, "samples.txt", text.data, text.size);
    show_line(&line, text.data + head, text.size - head - 1);
    run_log(run, "sample: %s", line.data);
    bytes_free(&text);
    bytes_free(&line);
}

void samples_show(const struct samples *s, struct model *m, struct run *run, int64_t step)
{
    size_t n = (size_t)s->count, most = (size_t)s->tokens;
    struct sample_settings how = {
        .sampling = {.temperature = (float)s->temperature, .top_p = 1, .allowed = tokenizer_vocab(s->tokenizer)},
        .stop = s->stop, .n_stop = s->n_stop, .stream = RNG_SAMPLE, .step = (uint64_t)step};
    struct sample_request *request = host_alloc(n, sizeof *request);
    struct sample_result *result = host_alloc(n, sizeof *result);
    int *tokens = host_alloc(n * most, sizeof *tokens);
    for (size_t i = 0; i < n; i++) {
        request[i] = (struct sample_request){s->prompt[i].id, (int)s->prompt[i].count, s->seed, i, s->tokens, &how};
        result[i] = (struct sample_result){.tokens = tokens + i * most};
    }
    if (n > 0) sample_run(m, request, result, s->count, NULL, NULL);
    for (size_t i = 0; i < n && !signals_stop(); i++) show(s, run, step, &s->prompt[i], &result[i]);
    free(request);
    free(result);
    free(tokens);
}
