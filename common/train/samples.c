/* samples.c - all prompts are answered side by side, then shown one after the other. */
#include "common/train/program.h"
#include "common/base/signals.h"
#include "common/model/sample.h"
#include "common/text/show.h"

static void show(const struct samples *s, struct run *run, int64_t step, int index, const struct sample *a)
{
    scoped_bytes struct bytes text = {0}, line = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, s->tokenizer, a->prompt + s->bare, (size_t)a->n_prompt - s->bare);
    tokenizer_stream(&text, &held, s->tokenizer, a->tokens, (size_t)(a->n - (s->bare && a->stopped)));
    tokenizer_stream(&text, &held, s->tokenizer, NULL, 0);
    bytes_add(&text, "\n", 1);
    run_sample(run, step, index, text.data, text.size);
    show_line(&line, text.data, text.size - 1);
    run_log(run, "sample: %s", line.data);
}

void samples_show(const struct samples *s, struct model *m, struct run *run, int64_t step)
{
    size_t n = m->place.data == 0 ? (size_t)s->count : 0, most = (size_t)s->tokens;
    struct sample_settings how = {
        .sampling = {.temperature = (float)s->temperature, .top_p = 1, .allowed = tokenizer_vocab(s->tokenizer)},
        .stop = s->stops.id, .n_stop = s->stops.count, .stream = RNG_SAMPLE, .seed = s->seed, .step = (uint64_t)step};
    scoped struct sample *sample = host_alloc(n, sizeof *sample);
    scoped int *tokens = host_alloc(n * most, sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        sample[i] = (struct sample){.prompt = s->prompt[i].id, .n_prompt = (int)s->prompt[i].count, .index = i,
                                    .most = s->tokens, .tokens = tokens + i * most};
    sample_run(m, sample, (int)n, &how, NULL, NULL);
    for (size_t i = 0; i < n && !signals_stop(); i++) show(s, run, step, (int)i + 1, &sample[i]);
}
