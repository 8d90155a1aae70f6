/* sample.h - generation: a key/value cache, sequences of different lengths in one batch, refilled as they end.
 * A sample's tokens depend on its prompt, its seed and the settings alone: not on batch size, order or neighbours. */
#ifndef QUARTET_SAMPLE_H
#define QUARTET_SAMPLE_H

#include "common/model/model.h"
#include "common/base/rng.h"

struct sample_request {
    const int *prompt; int n_prompt;      /* n_prompt >= 1; host, must live until the request is done */
    uint64_t seed;                        /* the stream of this sample: draws are rng_at(seed, RNG_SAMPLE, 0, index) */
    uint64_t index;
    int max_new;                          /* most tokens to draw; cut so that prompt + new <= the model's context */
};

struct sample_settings {
    struct sampling sampling;             /* ops.h: temperature, top_k, top_p, min_p */
    const int *stop; int n_stop;          /* tokens that end a sample; the stop token is kept as the last one */
    int allowed;                          /* only tokens below are drawn */
    enum rng_stream stream;               /* RNG_SAMPLE or RNG_ROLLOUT */
    uint64_t step;                        /* of the stream: rlhf's iteration */
};

/* New tokens only.  tokens, logprobs (max_new), the caller's; n of them are filled.  stopped: the last is a stop token, so
 * that the text has n - stopped. */
struct sample_result { int *tokens; float *logprobs; int n; bool stopped; };

/* Runs all requests, up to m->use.cache_slots at a time.  logprobs: of each drawn token under the unfiltered
 * distribution at the temperature, the bits model_token_loss gives.  token (may be NULL) is called for each new token but
 * a stop as it comes, and may return false to end that sample.  A wish to stop (signals.h) ends all of them. */
void sample_run(struct model *m, const struct sample_settings *s, const struct sample_request *request,
                struct sample_result *result, int n, bool (*token)(void *self, int request, int token), void *self);

#endif
