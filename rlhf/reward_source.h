/* reward_source.h - where rewards come from: a reward model, an external program, or the sum of both; and answers as
 * text. */
#ifndef QUARTET_REWARD_SOURCE_H
#define QUARTET_REWARD_SOURCE_H

#include "rlhf/reward_cmd.h"
#include "rlhf/rollout.h"

/* reward = model (normalised by its own constants) + coef * program; either may be NULL, not both. */
struct reward_source {
    struct model *model;
    int end;                         /* the template's end token, at which the model reads */
    struct reward_cmd *program;
    double coef;
    const struct tokenizer *tokenizer;
};

/* Fills reward (episodes), as ppo.h wants it; self is a struct reward_source. */
int reward_source_get(void *self, struct rollouts *r, float *reward, struct error *error);

/* Appends n tokens of an answer as a JSON string; invalid UTF-8 becomes U+FFFD. */
void answer_quoted(struct bytes *out, const int *ids, int n, const struct tokenizer *t);

/* Appends members of a JSON object: "prompt", "messages", "row" as the prompt has them, then "response" (the answer
 * without its stop token) and "stopped". */
void answer_json(struct bytes *out, const struct rollouts *r, int e, const struct tokenizer *t);

#endif
