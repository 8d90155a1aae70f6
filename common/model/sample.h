/* sample.h - generation: a key/value cache, sequences of different lengths in one batch, refilled as they end.
 * A sample's tokens depend on its prompt, its index and the settings only: not on batch size, order or neighbours. */
#pragma once

#include "common/model/model.h"
#include "common/base/rng.h"

struct sample_settings {
    struct sampling sampling;             /* ops.h: temperature, top_k, top_p, min_p, allowed */
    const int *stop; int n_stop;          /* tokens that end a sample; the stop token is kept as the last one */
    enum rng_stream stream;               /* draws are those of rng_at(seed, stream, step, the sample's index) */
    uint64_t seed, step;
};

/* A prompt (n_prompt >= 1) and what is drawn after it, on the host.  Filled: tokens and logprobs, n of each; stopped:
 * the last is a stop token, so that the text has n - stopped.  logprobs are those of the unfiltered distribution at the
 * temperature, the bits model_token_loss gives where sampling_is_exact(). */
struct sample {
    const int *prompt; int n_prompt;
    uint64_t index;
    int most;                             /* tokens to draw; cut so that prompt + new <= the model's context */
    int *tokens; float *logprobs;         /* (most), the caller's; logprobs may be NULL */
    int n; bool stopped;
    bool live;                            /* has a slot: more tokens will come */
    bool watched;                         /* while token() runs, logits (V) are what its token was drawn from */
    const float *logits;
};

/* Draws the n samples, up to m->use.cache_slots side by side, until all have ended or a stop is wanted (signals.h).
 * token (may be NULL) is called for each new token but a stop as it comes, and may return false to end that sample. */
void sample_run(struct model *m, struct sample *samples, int n, const struct sample_settings *how,
                bool (*token)(void *self, const struct sample *s, int token), void *self);

/* The same step by step, for samples that come and go, up to m->use.cache_slots at once, each with settings of its own
 * (how and *s stay until it has ended).
 *   logits (logits_rows, V) on the host: needed for samples that are watched, else NULL.
 *   sampler_room: how many more may join.  sampler_join: a sample that has no room for a token is not live afterwards.
 *   sampler_leave: ends a sample as it is; nothing when it has ended.
 *   sampler_step: reads prompts and draws a token for each sample whose prompt is read.  False when none is live. */
struct sampler;
struct sampler *sampler_open(struct model *m, float *logits,
                             bool (*token)(void *self, const struct sample *s, int token), void *self);
void sampler_close(struct sampler *g);
int sampler_room(const struct sampler *g);
void sampler_join(struct sampler *g, struct sample *s, const struct sample_settings *how);
void sampler_leave(struct sampler *g, struct sample *s);
bool sampler_step(struct sampler *g);
