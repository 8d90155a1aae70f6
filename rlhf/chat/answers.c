/* answers.c - requests are made for a round of prompts at a time, so that memory does not grow with the file;
 * sample_run keeps the model's cache full within a round. */
#include "common/data/prompts.h"
#include "common/text/show.h"
#include "rlhf/chat/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUND = 512 };        /* answers sampled before they are written */

static void write_answer(const struct prompt *p, const struct tokenizer *t, const struct sample *s, int sample)
{
    struct bytes line = {0};
    bytes_text(&line, "{%s,\"sample\":%d,\"response\":", p->dialogue, sample);
    show_json(&line, t, s->tokens, (size_t)(s->n - s->stopped));
    bytes_text(&line, ",\"tokens\":%d,\"stopped\":%s}\n", s->n, s->stopped ? "true" : "false");
    if (fwrite(line.data, 1, line.size, stdout) != line.size)
        quit(EXIT_IO, "the answers cannot be written: %s", strerror(errno));
    bytes_free(&line);
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
        if (fflush(stdout) != 0) quit(EXIT_IO, "the answers cannot be written: %s", strerror(errno));
    }
    free(tokens);
    free(sample);
    prompts_free(&prompts);
}
