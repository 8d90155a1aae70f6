/* model_acts.h - what the files of the transformer share: the activations of a micro-batch, and how rows and stages of
 * ranks meet.  For common/model/model*.c only. */
#pragma once

#include "common/model/shares.h"

/* A norm's input is kept elsewhere. */
struct norm_acts { float *mean, *rstd; };

/* What one block computes on its way; N rows each, or, of what no split matrix gives, the rank's own of them.  h1, h2:
 * normed inputs of attention and mlp; raw1, raw2: what norms after them take; qkv_raw and qk_rstd only with qk_norm.
 * What the block does without is absent. */
struct block_acts {
    act_t *h1, *qkv_raw, *qkv, *y, *raw1, *x2, *h2, *up, *act, *raw2;
    float *qk_rstd, *lse;
    struct norm_acts norm1, norm2, post1, post2;
};

struct layer_acts {
    act_t **stream;               /* (L+1): the input of each block, and the output of the last */
    struct block_acts *block;     /* (L), or all the same one when nothing or only the inputs are kept */
    act_t *narrow, *embedded;     /* (N,E) before the matrix that makes it wide; before the embedding norm */
    act_t *last;                  /* before the matrix that makes it narrow again */
    act_t *whole, *part;          /* (N,C) with several tensor ranks: the rows of all; what they are to add up */
    struct norm_acts embed_norm, final_norm;
    act_t *dnarrow, *dx, *dh, *dy, *dqkv, *dup, *dact;   /* of all flights the same */
    int *tokens, *positions, *offsets;                   /* the batch, on the device */
    int N, S;
    bool kept;                                           /* the last forward can be followed by a backward */
};

static inline int qkv_width(const struct config *c) { return (c->heads + 2 * c->kv_heads) * c->head_dim; }
static inline int up_width(const struct config *c) { return c->activation == ACTIVATION_SWIGLU ? 2 * c->ffn : c->ffn; }

/* ---- rows of tensor ranks (model_rows.c): norms and sums are made of a rank's own rows, products of all of them ---- */

/* Tensor ranks have as many rows each, the last of them fewer. */
static inline int rows_of(int N, int t) { return (N + t - 1) / t; }
static inline size_t own_count(const struct model *m, int width) { return (size_t)m->rows * (size_t)width; }

/* Of N rows, which are this rank's own. */
void rows_use(struct model *m, int N, int S);
/* The activations of micro-batch `number` of those under way are the ones in use. */
void flight_use(struct model *m, int64_t number);
/* All rows of x (N,width), in `to`, from each rank's own; with one rank x itself. */
const act_t *all_rows(const struct model *m, act_t *to, const act_t *x, int width);
/* Where a product goes of which each rank has a part: to `own` itself with one rank. */
act_t *part_of(const struct model *m, act_t *own);
/* The own rows of the sum of these parts; with one rank they are the whole. */
act_t *sum_parts(const struct model *m, act_t *part, int width);

/* ---- stages ---- */

/* Sends what another stage is to have, and gets x from stage `from`, unless x is NULL. */
void stage_border(struct model *m, act_t *x, int from);
/* x is for stage `to`; it goes at the next border. */
void stage_leave(struct model *m, act_t *x, int to);

/* ---- what backward needs of forward (model.c) ---- */

/* A sublayer's end, to (N,C): x plus its product y W^T, with norms where they are set; raw: what a norm takes then. */
struct join { act_t *raw; const struct norm_acts *acts; const struct norm_params *norm; };
struct join join_of(const struct config *c, struct block_acts *a, const struct layer_params *p, bool mlp);
/* What layer l sees, and how its heads turn. */
struct sight sight_of(const struct model *m, int l);
struct rope rope_of(const struct model *m);
/* out = block(x); out may be x.  out NULL: only what backward needs is computed. */
void block_forward(struct model *m, int l, act_t *out, const act_t *x);
