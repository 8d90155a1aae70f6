/* reward_source.c - a reward model reads answers packed, each up to its end token; a program gets all of an iteration
 * at once, so that it may work on them side by side. */
#include "rlhf/reward_source.h"
#include "rm/score.h"

#include <stdlib.h>

static void score_by_model(const struct reward_source *w, struct rollouts *r, float *reward)
{
    for (int e = 0, n; e < r->episodes; e += n) {
        n = rollout_pack_ended(r, e, w->end);
        score_rewards(reward + e, w->model, &r->batch);
    }
}

void answer_quoted(struct bytes *out, const int *ids, int n, const struct tokenizer *t)
{
    struct bytes text = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, t, ids, (size_t)n);
    tokenizer_stream(&text, &held, t, NULL, 0);
    json_t *string = json_stringn(text.size ? text.data : "", text.size);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (!quoted) die("an answer is not valid UTF-8");
    bytes_text(out, "%s", quoted);
    free(quoted);
    json_decref(string);
    bytes_free(&text);
}

void answer_json(struct bytes *out, const struct rollouts *r, int e, const struct tokenizer *t)
{
    bytes_text(out, "%s,\"row\":%s,\"response\":", r->prompt[e]->dialogue, r->prompt[e]->row);
    answer_quoted(out, rollout_answer(r, e), r->spoken[e], t);
    bytes_text(out, ",\"stopped\":%s", r->ended[e] ? "true" : "false");
}

static int ask_program(const struct reward_source *w, struct rollouts *r, float *reward, struct error *error)
{
    struct bytes requests = {0};
    float *answer = host_alloc((size_t)r->episodes, sizeof *answer);
    for (int e = 0; e < r->episodes; e++) {
        bytes_text(&requests, "{");
        answer_json(&requests, r, e, w->tokenizer);
        bytes_text(&requests, "}\n");
    }
    int bad = reward_cmd_ask(w->program, answer, r->episodes, requests.data, requests.size, error);
    for (int e = 0; e < r->episodes && !bad; e++) reward[e] += (float)(w->coef * (double)answer[e]);
    bytes_free(&requests);
    free(answer);
    return bad;
}

int reward_source_get(void *self, struct rollouts *r, float *reward, struct error *error)
{
    const struct reward_source *w = self;
    for (int e = 0; e < r->episodes; e++) reward[e] = 0;
    if (w->model) score_by_model(w, r, reward);
    return w->program ? ask_program(w, r, reward, error) : 0;
}
