/* model.h - forward and backward of the one transformer, written in ops.  Equations: docs/model.md. */
#pragma once

#include "common/model/batch.h"
#include "common/model/comm.h"
#include "common/model/params.h"

/* What a model is opened for. */
struct model_use {
    bool train;             /* gradients and moments, and activations kept for backward */
    bool recompute;         /* keep each block's input alone, recompute the rest in backward: the same bits */
    int max_tokens;         /* largest N of a forward (rows of a decode included); 0: generation only */
    int max_sequences;      /* largest S */
    int cache_slots, cache_capacity;     /* key/value cache for generation, or 0 */
    int logits_rows;        /* rows of logits model_logits may be asked for at once, or 0 */
    bool ema;               /* an averaged copy of the weights */
    struct comm *comm;      /* the ranks that train the model together; NULL: one */
    int flights;            /* train, stages: most micro-batches between their forward and their backward; 0 is 1 */
    int tensor;             /* without ranks: memory is measured as if so many split the layers; 0: 1 */
    int slices;             /* train: how many gradients are computed apart and added (train.h); 0 is 1 */
    int zero;               /* what data ranks share out.  1: the moments: each holds and updates its piece of the
                               parameters.  2: and the gradients, which are added up as soon as a layer has its own: a
                               slice is one micro-batch.  3: and the weights, which are gathered a layer at a time: all
                               ranks make the same calls of model_forward and model_backward, or of model_idle */
    bool offload;           /* train: float32 weights and moments lie in the host's memory and are updated there */
    bool at_random;         /* weights become bfloat16 by rounding at random, from seed and the number of this model */
    uint64_t seed;
    int number;
    bool (*frozen)(const char *name);    /* true: no update for the parameter of this name; NULL: none is frozen */
};

struct layer_acts;          /* model.c */

/* What heads.c works with: the rows it reads, on the device but where it says host. */
struct head_acts {
    act_t *hidden, *dhidden;                                        /* (N,C) those rows, gathered */
    int *rows, *targets;                                            /* (N) */
    float *logprobs, *entropy, *losses, *old_logprobs, *advantages; /* (N) vocabulary head */
    float *values, *dvalues;                                        /* (N) scalar head */
    int *counted;                                                   /* (2N) host: rows that count and their targets */
    float *host_logprobs;                                           /* (N) host */
    int *own_tokens;                                                /* (N) host: numbers within this rank's vocabulary */
    struct token_part *parts;                                       /* (tensor ranks, N), where there are several */
    float *part_logits;                                             /* (tensor ranks, logits_rows, their part of V) */
    int *tokens;                                                    /* (logits_rows) and so are the others: draws */
    float *drawn_logprobs;
    double *uniform;
    struct sampling *sampling;
};

struct model {
    struct config config;
    struct config local;    /* what this rank has of it: fewer heads, hidden units and tokens where tensor ranks split it */
    struct model_use use;
    struct place place;     /* of this rank */
    struct params params, grads;               /* grads: train only, of the slice under way */
    size_t from, to;        /* the elements of params.all that this rank updates: its piece, or all of them */
    float *own;             /* (to - from): their weights; unless model_apart, in params.all */
    float *m, *v, *ema;     /* (to - from): moments, train only, and the averaged weights, only when asked for */
    float *sum;             /* the gradients of all slices together: this rank's piece; may lie in grads */
    int layers_reduced;     /* of the slice under way, in buckets */
    bool early, last_micro; /* its layers are summed in buckets while others are differentiated; from now on */
    float *bucket;          /* room for what other ranks have of a layer */
    int layer_held;         /* ZeRO-3: whose weights params.one_layer holds; -1: none */
    act_t *hidden;          /* (N,C) after the final norm: what the heads read; until the next forward of any model */
    act_t *dhidden;         /* (N,C) the caller writes the loss's gradient here before model_backward: with a vocabulary
                               head that of this rank's tokens, as a part of the sum over the tensor ranks */
    float *work;            /* scratch for token_loss and attention_backward */
    int *tokens, *positions, *offsets, *slots;     /* on the device: the batch, or the rows to decode */
    float *logits;          /* (logits_rows, V) */
    struct layer_acts *flight;      /* (flights), each of a micro-batch under way */
    struct layer_acts *acts;        /* of the last forward or backward */
    int64_t forwards, backwards;    /* how many were kept, and how many of them went back */
    int *first_layer;       /* (p + 1) of each stage, on the host */
    int begin, end;         /* the layers of this rank's stage */
    struct parcel out;     /* to another stage, still to be sent */
    struct head_acts head;
    act_t **cache;          /* L pointers on the host: one layer's key/value cache each */
    float *slopes;          /* (H) alibi slopes, or NULL */
    double *frequency;      /* (R/2) angle of each pair at position 1; rope only */
    double rope_factor;     /* on cos and sin */
    int N, S;               /* of the last forward */
    int rows, first_row;    /* those of the N rows whose norms and sums this rank computes, where tensor ranks share them */
};

/* Sets pointers and takes memory, in both runs of a build (memory.h).  Models opened on one memory share activations:
 * only the last forward's are valid. */
void model_open(struct model *m, const struct config *config, const struct model_use *use, struct memory *memory);
void model_close(struct model *m);          /* host bookkeeping; the arenas belong to the memory */

/* Takes gradients, and the sum of all slices' where that has a place of its own. */
void model_gradients_open(struct params *grads, float **sum, const struct params *params, const struct config *c,
                          const struct model_use *use, struct memory *memory);

/* Whether m->own lies apart from params.all, which then has only what is outside the layers. */
static inline bool model_apart(const struct model *m) { return m->use.zero >= 3 || m->use.offload; }

/* Whether this rank computes without others; else all of its group make the same calls, and must not stop by themselves. */
static inline bool model_alone(const struct model *m) { return m->use.zero < 3 && m->place.t == 1 && m->place.p == 1; }
/* Whether its stage is the first, which embeds, or the last, which has the head. */
static inline bool model_first(const struct model *m) { return m->place.pipe == 0; }
static inline bool model_last(const struct model *m) { return m->place.pipe == m->place.p - 1; }

/* Host arrays given to model_forward, model_decode and model_logits stay untouched until device_wait: model_token_loss,
 * model_values and sample_rows wait. */

/* hidden = transformer(batch).  keep: for a backward that follows (needs use.train); otherwise nothing is kept and one
 * layer's memory serves all.  The same bits either way.
 * Stages: all make the same forwards, each of its layers, with the rows that the stage before has sent; only the last
 * has hidden.  Up to use.flights forwards may be kept before the first of them goes back; their backwards come in the
 * same order.  What a kept forward or a backward has for another stage is sent by the next of either, or by
 * model_flush. */
void model_forward(struct model *m, const struct batch *b, bool keep);

/* Adds d(loss)/d(params) to m->grads, given dhidden for the last model_forward(keep). */
void model_backward(struct model *m);
void model_flush(struct model *m);

/* ZeRO-2 and 3: what a rank does that has nothing to compute while others make a forward, and a backward. */
void model_idle(struct model *m, bool backward);
/* Whether this rank has something left to do, or, with ZeRO-3, any of those that must then be idle beside it. */
bool model_any(const struct model *m, bool mine);

/* Vocabulary head over the rows i of the last forward where b->mask is 1 (rows that do not count cost nothing).
 *   host arrays over those rows, in order, all optional but logprobs: logprobs, entropy, losses (count of mask)
 *   backward: writes m->dhidden (0 in rows that do not count) and adds to the output matrix's gradient.
 *   loss.old_logprobs and loss.advantages are host arrays over the counted rows here.
 * Returns the number of counted rows. */
int model_token_loss(struct model *m, const struct batch *b, const struct token_loss *loss, float *logprobs,
                     float *entropy, float *losses, bool backward);

/* The sum of the cross-entropies of those rows; 0 on stages without a head.  backward: the gradient of scale * sum. */
double model_cross_entropy(struct model *m, const struct batch *b, double scale, bool backward);

/* Scalar head at the given rows of the last forward (ascending; host).  values (n) on the host: raw, not normalised.
 * After a forward that was not kept all stages make this call, and get them. */
void model_values(struct model *m, float *values, const int *rows, int n);
/* dvalues (n) on the host: writes m->dhidden (0 elsewhere), adds to the head's gradients. */
void model_values_backward(struct model *m, const float *dvalues, const int *rows, int n);

/* Decoding through the key/value cache: N new rows (host arrays as attention_cached wants them); hidden as forward. */
void model_decode(struct model *m, const int *tokens, const int *slots, const int *positions, int N);
/* m->logits (n,V) = head of the given rows (host, n <= logits_rows) of the last forward or decode. */
void model_logits(struct model *m, const int *rows, int n);
/* Draws a token for each of these rows, the same on all stages.  All (n), on the host; logits (n,V): what it was drawn
 * from, may be NULL. */
void model_sample(struct model *m, int *tokens, float *logprobs, float *logits, const int *rows, const double *uniform,
                  const struct sampling *sampling, int n);

/* Where sampling_is_exact() is false: whether it can be had for models of this shape with up to m->use.max_tokens rows,
 * by matmul_settle of every weight; all ranks get the same answer.  Activations are overwritten.  Returns 0, or -1 and
 * which products it cannot be had of. */
int model_settle(struct model *m, struct error *error);

/* For model.c and heads.c: the heads' part of model_open; and n tokens (host) as the tables of this rank know them: below
 * 0 where another tensor rank has the token.  It dies when one is outside the vocabulary. */
void heads_open(struct model *m, struct memory *memory);
const int *model_own_tokens(struct model *m, const int *tokens, int n);
bool model_kept(const struct model *m);     /* the last forward */
