/* reward.h - where rewards come from: a reward model, an external program, or the sum of both; and answers as text. */
#ifndef QUARTET_REWARD_H
#define QUARTET_REWARD_H

#include "rlhf/rollout.h"

/* An external program: one JSON object per line into its standard input, one number per line out of its standard
 * output, in the same order.  Its standard error is ours.  It is started once, through /bin/sh -c, in a process group
 * of its own, so that Ctrl-C ends an iteration cleanly. */
struct reward_cmd;

/* timeout: seconds that may pass without a byte moving, > 0.  Returns 0, or -1 (EXIT_INTERNAL: no process). */
int reward_cmd_open(struct reward_cmd **out, const char *command, double timeout, struct error *error);

/* Sends n request lines (size bytes in all) and reads n numbers.  Writing and reading go on together, so neither side
 * can block the other.  Returns 0, or -1 (EXIT_DATA) when the program ends, stays silent past the timeout, or writes
 * anything but one finite number per line; it is then dead, and rewards are undefined. */
int reward_cmd_ask(struct reward_cmd *c, float *reward, int n, const char *requests, size_t size, struct error *error);

/* Closes its input, gives it two seconds to end, and kills its process group.  NULL is allowed. */
void reward_cmd_close(struct reward_cmd *c);

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

/* Appends members of a JSON object: "prompt", "messages", "row" as the prompt has them, then "response" (the answer
 * without its stop token) and "stopped". */
void answer_json(struct bytes *out, const struct rollouts *r, int e, const struct tokenizer *t);

#endif
