/* rollout.h - one iteration's answers and everything that is known about each of their tokens.
 *
 * Episode e is prompt and answer, prompt first, in tokens[e * length ..].  Numbers of answer tokens lie in flat rows:
 * answer e owns first[e] .. first[e+1]-1, and number first[e] + t belongs to the token at P + t, whose log-probability
 * and value the models give at row P - 1 + t, before it was drawn (P = n_prompt[e]).  The end token is an action like
 * any other. */
#ifndef QUARTET_ROLLOUT_H
#define QUARTET_ROLLOUT_H

#include "common/model/comm.h"
#include "common/model/model.h"
#include "common/model/sample.h"
#include "common/data/prompts.h"

struct rollouts {
    struct comm *comm;                   /* of several data ranks, each samples and reads its share of the episodes */
    int episodes, length, max_new;       /* length: of the longest episode: prompt, answer, and an end token after it */
    int *tokens;                         /* (episodes, length) */
    int *n_prompt;                       /* (episodes) */
    int *first;                          /* (episodes + 1) */
    int *spoken;                         /* (episodes): the answer's tokens less a stop token at its end */
    uint8_t *ended;                      /* (episodes): the answer ends with the end token, stop[0]; else it was cut */
    const struct prompt **prompt;        /* (episodes) */
    float *sampled_logprobs;             /* (episodes, max_new) as the sampler gave them */
    float *old_logprobs, *ref_logprobs, *entropy, *values, *rewards, *advantages, *returns;      /* (first[episodes]) */
    float *raw_reward, *reward;          /* (episodes): as given, and shaped */
    uint64_t *scratch;                   /* (episodes * max_new) */
    struct batch batch;
    int *rows;                           /* (micro-batch tokens) */
    int max_tokens;                      /* of a micro-batch */
};

/* Takes the arrays from MEMORY_ROLLOUTS (run while measuring and for real).  length <= max_tokens; it is the longest
 * prompt + max_new + 1, or the context where that is less. */
void rollout_open(struct rollouts *r, int episodes, int length, int max_new, int max_tokens, struct memory *memory);

/* The episodes from rollout_from(r, k) up to rollout_from(r, k + 1) are data rank k's share; rollout_mine: this rank's.
 * rollout_share: everyone gets the `bytes` a number of x, (episodes) or with `flat` (first[episodes]), which every rank
 * has of its own share. */
int rollout_from(const struct rollouts *r, int data_rank);
void rollout_mine(const struct rollouts *r, int *from, int *to);
void rollout_share(const struct rollouts *r, void *x, size_t bytes, bool flat);

/* Samples an answer to each of the prompts number first_index .. first_index + episodes - 1; fills tokens, n_prompt,
 * first, spoken, ended, prompt of all, and sampled_logprobs of this rank's share.  Returns 0, or -1 on all ranks when
 * one is to stop (EXIT_STOPPED).  A sample's index is that number; how->step is the iteration.
 * how->stop: the template's end token first. */
int rollout_sample(struct rollouts *r, struct model *policy, struct prompts *prompts,
                   const struct sample_settings *how, uint64_t first_index, struct error *error);

/* Packs the episodes order[from], order[from + 1], ... (NULL: from, from + 1, ...) into r->batch, as many as fit and at
 * most up to order[to - 1]; mask is 1 in the rows P - 1 + t of their answers.  Returns the number of episodes packed.
 * end >= 0: as a reward model reads them, whose score is that of the end token: an answer that was cut is followed by
 * `end`, which takes the place of its last token where the context is full, as in rm/data.h. */
int rollout_pack(struct rollouts *r, const uint32_t *order, int from, int to, int end);

/* The rows of r->batch that count, ascending, into r->rows; returns how many. */
int rollout_counted_rows(struct rollouts *r);

/* For the answer tokens of this rank's share: log-probability (and entropy, may be NULL) under m at the temperature;
 * and the critic's values. */
void rollout_logprobs(struct rollouts *r, struct model *m, float temperature, float *logprobs, float *entropy);
void rollout_values(struct rollouts *r, struct model *critic);

/* The tokens of episode e's answer. */
static inline int rollout_answer_length(const struct rollouts *r, int e) { return r->first[e + 1] - r->first[e]; }
static inline const int *rollout_answer(const struct rollouts *r, int e)
{
    return r->tokens + (size_t)e * (size_t)r->length + r->n_prompt[e];
}

/* Different pairs of neighbouring tokens in all answers / all such pairs (NaN without any); and the share of answers
 * that some other answer equals. */
double rollout_distinct_2(struct rollouts *r);
double rollout_identical(struct rollouts *r);

#endif
