/* params.h - every parameter, listed once.  Allocation, initialisation, packing, saving, loading, decay groups,
 * statistics and gradient checks are visitors of this one list. */
#pragma once

#include "common/model/config.h"
#include "common/model/memory.h"
#include "common/model/ops.h"

/* How a parameter starts. */
enum init { INIT_NORMAL, INIT_RESIDUAL /* normal, std / sqrt(2 L) */, INIT_ONES, INIT_ZEROS,
            INIT_SCALAR_HEAD /* normal, 1 / sqrt(C + 1) */ };

/* How tensor-parallel ranks may cut a parameter: not at all, by rows, each of its parts by itself, or by columns. */
enum split { SPLIT_NONE, SPLIT_ROWS, SPLIT_COLUMNS };

/* on: packed forms of parameters that have had updates are rounded at random (rounding.h), as number `update` of this
 * seed and of model number `model`; update 0: to nearest.  rank, t: of the tensor ranks that share out the layers. */
struct rounds { bool on; uint64_t seed; int64_t update; int model, rank, t; };

struct norm_params { float *weight, *bias; };                      /* (C); bias NULL where there is none */
struct linear_params { float *weight, *bias; act_t *packed; };     /* (out,in), (out) or NULL, packed panels or NULL */

struct layer_params {
    struct norm_params norm1, norm2;                               /* norm2 absent (NULL) when parallel with one norm */
    struct norm_params post1, post2;                               /* of attention and mlp, where norms are on both sides */
    struct linear_params qkv;                                      /* ((H+2G)*D, C): query, key, value heads */
    float *q_norm, *k_norm;                                        /* (D), with qk_norm */
    struct linear_params out;                                      /* (C, H*D) */
    struct linear_params up;                                       /* (F, C), or (2F, C) gate then up with swiglu */
    struct linear_params down;                                     /* (C, F) */
};

/* The run of a stage's parameters: `lead` zeros, so that blocks of squares (ops.h) lie as they do in the run of the
 * whole model; its own parameters up to `end`; on the last stage, from `copy` on, the embedding that is its head as
 * well; and zeros up to `count`. */
struct stage_run { size_t lead, end, copy, count; };

struct params {
    float *embed;                                                  /* (V,E) */
    struct linear_params embed_in, embed_out;                      /* (C,E), (E,C), where E is not C */
    float *position;                                               /* (context,C), learned positions only */
    struct norm_params embed_norm, final_norm;
    struct layer_params *layer;                                    /* L of them, on the host */
    struct linear_params head;                                     /* (V,E); tied: weight == embed */
    float *score, *score_bias;                                     /* (E), (1): scalar head only */
    float *all;                                                    /* the whole run of them, in visiting order */
    int vocab;                                                     /* of the whole model: what tensor ranks split; 0: the
                                                                      configuration's */
    size_t count;                                                  /* floats in `all`, with gaps and a tail of zeros */
    size_t layer_from, layer_floats, layers_end, floats;           /* where layer 0 begins in it, the room of each layer,
                                                                      where the last ends, and all without the tail */
    size_t *at;                                                    /* where each parameter begins in it, on the host; of
                                                                      another stage's, in that stage's run */
    int stage, stages;                                             /* which part of the list this is; 0 stages: all */
    const int *first_layer;                                        /* (stages + 1) of each stage; NULL for one stage */
    struct stage_run *run;                                         /* (stages) on the host */
    float *one_layer;                                              /* params_open_parts: the arrays of each layer in turn */
    bool (*frozen)(const char *name);                              /* parameters that get no update; NULL: none */
    struct rounds rounds;                                          /* how packed forms are rounded */
};

/* Where layer l begins in the run. */
static inline size_t layer_begin(const struct params *p, int l) { return p->layer_from + (size_t)l * p->layer_floats; }

/* One parameter as the visitor sees it. */
struct param {
    const char *name;           /* "blk.3.attn_qkv.weight" */
    int layer;                  /* 3; -1 outside the layers */
    float **data;               /* the field in struct params */
    int ndim;
    int64_t shape[2];
    size_t count;               /* product of shape */
    size_t first;               /* where it begins in the run of this rank's parameters if held, else in its stage's */
    int number;                 /* in the list */
    int stage;                  /* whose it is: of a tied embedding the first */
    bool held;                  /* it has memory here */
    enum init init;
    bool decay;                 /* matrices of linear layers: yes; embeddings, norms, biases: no */
    bool trainable;             /* false: the optimizer and the gradient norm leave it out */
    enum split split;
    bool partial;               /* tensor ranks have parts of its gradient: their sum is meant */
    int part[3];                /* rows of the matrices that lie in it one below another: query, key and value; up, or
                                   gate and up; else all rows.  Zeros follow; all zero where nothing is cut */
    act_t **packed;             /* where its packed form hangs, or NULL */
};

/* Calls visit for each parameter of the configuration that this rank holds, in file order; all: for those that only
 * other stages hold as well. */
void params_each(struct params *p, const struct config *c, void (*visit)(void *context, const struct param *p),
                 void *context);
void params_all(struct params *p, const struct config *c, void (*visit)(void *context, const struct param *p),
                void *context);

/* Takes the arrays from a phase (params and grads have this layout); `packed` also takes packed forms.  ranks > 1:
 * all of them together are cut into as many equal pieces of whole blocks of squares (ops.h), which a tail of zeros
 * makes up. NULLs while measuring.  The host array `layer` is allocated once and kept (params_close frees it). */
void params_open(struct params *p, const struct config *c, struct memory *memory, enum phase phase, int ranks,
                 bool packed);
/* The same layout, but all layers lie in the same place, one_layer, and `all` holds only what is outside the layers.
 * Packed forms: none, those of one layer at a time, or all; then all layers also have their own of what is not
 * packed. */
enum packed { PACKED_NONE, PACKED_LAYER, PACKED_ALL };
void params_open_parts(struct params *p, const struct config *c, struct memory *memory, enum phase phase, int ranks,
                       enum packed packed);
void params_close(struct params *p);

/* The first layer of stage s of p, and, of s = p, L.  Each has one at least (p <= L), and the last has fewer by what
 * the head costs. */
int stage_first_layer(const struct config *whole, int p, int s);

/* t tensor ranks split layers and vocabulary: the configuration of one of them, whose parameters have the shapes
 * that it holds.  Of the vocabulary each has as many rows; those of the last behind the end stay 0. */
struct config config_of_rank(const struct config *whole, int t);
bool config_splits(const struct config *whole, int t);          /* whether t ranks can */
/* Where elements of a whole parameter (p as params_each shows the whole configuration) lie: from element `first` on
 * returns how many follow one another on one rank; *holder: that tensor rank, -1: all of them; *local: their place in
 * its parameter. */
size_t param_run(const struct param *p, int t, size_t first, int *holder, size_t *local);

/* Fills every parameter from (seed, its number in the list, its element): independent of threads. */
void params_init(struct params *p, const struct config *c, uint64_t seed);
/* Elements from..to of what tensor rank `rank` of t holds, which lie at base; c is the whole configuration. */
struct share { float *base; size_t from, to; int rank, t; };
void params_init_share(struct params *p, const struct config *c, const struct share *share, uint64_t seed);
/* The part of n elements of a whole parameter p, from element `first` on, that a share has, run by run: its place in
 * the share, in the n elements, and its length. */
void share_each(const struct share *s, const struct param *p, size_t first, size_t n,
                void (*visit)(void *context, size_t at, size_t from, size_t n), void *context);

/* Remakes every packed form from the float32 weights.  Called after any change of weights. */
void params_pack(struct params *p, const struct config *c);
/* Those of layer l alone, which also gets its own of what is not packed from one_layer; -1: those outside the
 * layers. */
void params_pack_layer(struct params *p, const struct config *c, int l);
