/* sample.h - generation: a key/value cache, sequences of different lengths in one batch, refilled as they end.
 * A sample's tokens depend on its prompt, its seed and its settings only: not on batch size, order, neighbours, or when
 * it joined. */
#ifndef QUARTET_SAMPLE_H
#define QUARTET_SAMPLE_H

#include "common/model/model.h"
#include "common/base/rng.h"

struct sample_settings {
    struct sampling sampling;             /* ops.h: temperature, top_k, top_p, min_p, allowed */
    const int *stop; int n_stop;          /* tokens that end a sample; the stop token is kept as the last one */
    enum rng_stream stream;               /* RNG_SAMPLE or RNG_ROLLOUT */
    uint64_t step;                        /* of the stream: rlhf's iteration */
};

/* On the host; lives, with what it points to, until the request is done. */
struct sample_request {
    const int *prompt; int n_prompt;      /* n_prompt >= 1 */
    uint64_t seed, index;                 /* draws are those of rng_at(seed, stream, step, index) */
    int max_new;                          /* most tokens to draw; cut so that prompt + new <= the model's context */
    const struct sample_settings *how;
};

/* New tokens only.  tokens, logprobs (max_new; or NULL), the caller's; n of them are filled.  stopped: the last is a stop token,
 * so that the text has n - stopped. */
struct sample_result { int *tokens; float *logprobs; int n; bool stopped, done; };

/* A running batch of up to m->use.cache_slots samples.  token (may be NULL) is called for each new token but a stop as
 * it comes, and may return false to end that sample.  logprobs: of each drawn token under the unfiltered distribution
 * at the temperature, the bits model_token_loss gives where sampling_is_exact(). */
struct sampler *sample_open(struct model *m, bool (*token)(void *self, struct sample_result *r, int token), void *self);
void sample_close(struct sampler *s);

/* Joins the batch when a slot is free; result is filled by the steps that follow, until it is done. */
void sample_add(struct sampler *s, const struct sample_request *request, struct sample_result *result);
/* One decode: up to max_tokens rows of prompts, and a new token for every sample whose prompt is read.  False, and
 * nothing done, when there is no request left. */
bool sample_step(struct sampler *s);

/* All of it for n requests.  A wish to stop (signals.h) ends them. */
void sample_run(struct model *m, const struct sample_request *request, struct sample_result *result, int n,
                bool (*token)(void *self, struct sample_result *r, int token), void *self);

#endif
