/* answers.c - requests are made for a round of prompts at a time, so that memory does not grow with the file;
 * sample_run keeps the model's cache full within a round. */
#include "rlhf/chat/answers.h"
#include "common/data/prompts.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ROUND = 512 };        /* answers sampled before they are written */

static int write_answer(FILE *out, const struct prompt *p, const struct chat *chat, const struct sample_result *r,
                        int sample, struct error *error)
{
    struct bytes text = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, chat->tokenizer, r->tokens, (size_t)(r->n - r->stopped));
    tokenizer_stream(&text, &held, chat->tokenizer, NULL, 0);
    json_t *response = json_stringn(text.data ? text.data : "", text.size);
    char *quoted = json_dumps(response, JSON_ENCODE_ANY);
    if (!quoted) die("an answer cannot be written as JSON");
    fprintf(out, "{%s,\"sample\":%d,\"response\":%s,\"tokens\":%d,\"stopped\":%s}\n", p->dialogue, sample, quoted, r->n,
            r->stopped ? "true" : "false");
    free(quoted);
    json_decref(response);
    bytes_free(&text);
    return ferror(out) ? fail(error, EXIT_IO, "the answers cannot be written: %s", strerror(errno)) : 0;
}

int answers_write(FILE *out, struct model *m, const struct chat *chat, const struct answers_options *o,
                  struct error *error)
{
    struct prompts prompts = {0};
    int most = m->config.context - int_min(o->max_new, m->config.context / 2);
    if (prompts_read(&prompts, NULL, 0, o->prompts, chat, most, o->seed, error) != 0) {
        prompts_free(&prompts);
        return -1;
    }
    if (prompts.too_long + prompts.unusable > 0)
        fprintf(stderr, "%s: of %llu prompts, %llu longer than %d tokens and %llu without a question are left out\n",
                program_name(), (unsigned long long)tally_get(&prompts.ledger.read, "prompts read"),
                (unsigned long long)prompts.too_long, most, (unsigned long long)prompts.unusable);
    struct sample_request *request = host_alloc(ROUND, sizeof *request);
    struct sample_result *result = host_alloc(ROUND, sizeof *result);
    int *tokens = host_alloc((size_t)ROUND * (size_t)o->max_new, sizeof *tokens);
    float *logprobs = host_alloc((size_t)ROUND * (size_t)o->max_new, sizeof *logprobs);
    uint64_t all = (uint64_t)prompts.count * (uint64_t)o->samples;
    int bad = 0;
    for (uint64_t first = 0; first < all && !bad; first += ROUND) {
        int n = all - first < ROUND ? (int)(all - first) : ROUND;
        for (int i = 0; i < n; i++) {
            const struct prompt *p = &prompts.prompt[(first + (uint64_t)i) / (uint64_t)o->samples];
            request[i] = (struct sample_request){.prompt = prompts.ids.id + p->first, .n_prompt = p->count,
                                                 .seed = o->seed, .index = first + (uint64_t)i, .max_new = o->max_new,
                                                 .how = o->how};
            result[i] = (struct sample_result){.tokens = tokens + (size_t)i * (size_t)o->max_new,
                                               .logprobs = logprobs + (size_t)i * (size_t)o->max_new};
        }
        sample_run(m, request, result, n, NULL, NULL);
        for (int i = 0; i < n && !bad; i++) {
            uint64_t number = first + (uint64_t)i;
            bad = write_answer(out, &prompts.prompt[number / (uint64_t)o->samples], chat, &result[i],
                               (int)(number % (uint64_t)o->samples), error);
        }
        if (!bad && fflush(out) != 0) bad = fail(error, EXIT_IO, "the answers cannot be written: %s", strerror(errno));
    }
    free(logprobs);
    free(tokens);
    free(result);
    free(request);
    prompts_free(&prompts);
    return bad;
}
