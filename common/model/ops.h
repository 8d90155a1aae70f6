/* ops.h - THE contract of every operation.  A backend (common/cpu/) defines these functions; the linker chooses.
 * Nothing above them knows a vendor, and nothing but ops and device.h touches device memory.
 *
 * Words.  N tokens (rows), S sequences, C channels, H query heads, G key/value heads, D channels a head, F feed-forward
 *   width, V vocabulary.  All matrices row-major.  One micro-batch is N rows in one flat packed batch with S + 1
 *   offsets: sequence s owns rows offsets[s] .. offsets[s+1]-1; positions restart at 0 in each.  There is no padding.
 * Memory.  Every pointer is device memory, unless marked "host".
 * Writing.  Activations and their gradients are overwritten (=); parameter gradients are added to (+=).  Where it
 *   differs, the contract says so.  Outputs do not overlap inputs unless marked "may be".
 * Bits.  A row's result depends on that row (and, in attention, its own sequence's earlier rows) alone: the same bits
 *   for one row or 4096, wherever it lies in the batch, for any number of threads.  Products contract k in fixed
 *   blocks of MATMUL_BLOCK, each one ascending chain of multiply-adds from zero, block sums added in ascending order.
 *   Where sampling_is_exact() is false (CUDA), products keep to no such order, and a row's bits may depend on how many
 *   rows there are, unless matmul_settle has found otherwise.
 *   Sums over rows (parameter gradients, norms) have a fixed order that does not know the number of threads.
 * Errors.  None of these fails; sizes are the caller's duty (assert).  Tokens and targets must lie in [0, V). */
#ifndef QUARTET_OPS_H
#define QUARTET_OPS_H

#include "common/model/config.h"
#include "common/model/memory.h"
#include "common/model/rounding.h"
#include "act.h"               /* the backend's act_t: the type of activations and packed weights */

enum { MATMUL_BLOCK = 256 };   /* part of the numerics: changing it changes every bit */

/* Takes, from MEMORY_WORK, the scratch that operations need beyond their arguments (packing buffers of the products,
 * one a thread).  Called once in each run of the build (measuring and taking), before any other operation. */
void ops_open(struct memory *memory);

/* ---- embedding: x[i] = table[tokens[i]] (+ position_table[positions[i]]) ------------------------------------------
 *   x (N,C)   table (V,C)   position_table (context,C) or NULL   tokens, positions (N)
 * A token below 0 is in another rank's part of the table: x[i] is 0, and of dx[i] only the position's gradient is
 * taken. */
void embed_forward(act_t *x, const int *tokens, const int *positions, const float *table, const float *position_table,
                   int N, int C);
/* dtable[tokens[i]] += dx[i], dposition_table[positions[i]] += dx[i], in ascending i.   dposition_table may be NULL. */
void embed_backward(float *dtable, float *dposition_table, const act_t *dx, const int *tokens, const int *positions,
                    int N, int C);

/* positions[i] = i - offsets[s] of the sequence s that owns row i.   positions (N)   offsets (S+1) */
void positions_fill(int *positions, const int *offsets, int S, int N);

/* ---- norms ---------------------------------------------------------------------------------------------------------
 * layernorm: y = (x - mean) * rstd * weight + bias,  mean over C,  rstd = 1 / sqrt(mean((x-mean)^2) + eps)
 * rmsnorm:   y = x * rstd * weight,                  rstd = 1 / sqrt(mean(x^2) + eps)
 *   x, y (N,C)   weight, bias (C), bias may be NULL   mean, rstd (N) kept for backward; mean unused by rmsnorm
 * backward ADDS to dx when add is true, else overwrites; dweight, dbias += (dbias may be NULL).
 *   dy may be dx when add is false.
 * Source: Ba et al. 2016, eq. 3-4; Zhang & Sennrich 2019, eq. 4. */
void layernorm_forward(act_t *y, float *mean, float *rstd, const act_t *x, const float *weight, const float *bias,
                       float eps, int N, int C);
void layernorm_backward(act_t *dx, float *dweight, float *dbias, const act_t *dy, const act_t *x, const float *weight,
                        const float *mean, const float *rstd, bool add, int N, int C);
void rmsnorm_forward(act_t *y, float *rstd, const act_t *x, const float *weight, float eps, int N, int C);
void rmsnorm_backward(act_t *dx, float *dweight, const act_t *dy, const act_t *x, const float *weight,
                      const float *rstd, bool add, int N, int C);

/* ---- rows of query, key and value ----------------------------------------------------------------------------------
 * qkv (N, (H+2G)*D): H query heads, then G key heads, then G value heads.
 * qk: each query and key head is normed, then turned, in one pass and with the bits of one after the other: what the
 * norm gives is rounded to act_t before it turns.  Values are unchanged.
 *   norm: rmsnorm by weight_q (D), of key heads by weight_k (D).  weight_q NULL: none; rstd is not used.
 *   rope: the first R channels of a head turn; R = 0: none do.  Pair i < R/2, of channels (i, i + R/2) or (2i, 2i + 1) by
 *     layout, turns by the angle a = position * frequency[i] and grows by the factor: (x, y) becomes
 *     factor (x cos a - y sin a, x sin a + y cos a).  cos and sin are computed in double and rounded once; they depend
 *     on (position, i) alone.
 *   y, x (N,(H+2G)*D), y may be x   rstd (N,H+G)   positions (N)   frequency (R/2)   R even, <= D
 *   backward: turns dy the other way, by the same factor, then the norm's gradient.  dx may be dy; x is the INPUT of
 *   forward, read by the norm alone; dweight_q, dweight_k +=
 * Source: Su et al. 2021, eq. 15. */
struct rope { const int *positions; const double *frequency; int R; double factor; enum rope_layout layout; };
void qk_forward(act_t *y, float *rstd, const act_t *x, const float *weight_q, const float *weight_k, float eps,
                const struct rope *rope, int N, int H, int G, int D);
void qk_backward(act_t *dx, float *dweight_q, float *dweight_k, const act_t *dy, const act_t *x, const float *weight_q,
                 const float *weight_k, const float *rstd, const struct rope *rope, int N, int H, int G, int D);

/* ---- attention: causal within each sequence, never stores N x N ----------------------------------------------------
 * y[i,h] = sum_j softmax_j( q[i,h].k[j,g] / sqrt(D) + bias ) v[j,g],  j <= i in i's sequence, and j > i - window where
 *   that is not 0,  g = h / (H/G).   y (N,H*D)   lse (N,H): log of the softmax's denominator (with the maximum added
 *   back).   bias = 0, or with slopes (H) (alibi) -slope[h] * (pos_i - pos_j), or, rounded, b(slope[h] * b(pos_j)) /
 *   sqrt(D), where b rounds to bfloat16.   Keys are visited in blocks fixed by their position in the sequence.
 * backward: dqkv (N,(H+2G)*D) overwritten.   work: attention_backward_work() floats of scratch.
 * Source: Dao et al. 2022 (blocked softmax); Press et al. 2022 (alibi). */
struct sight { const float *slopes; bool rounded; int window; };
void attention_forward(act_t *y, float *lse, const act_t *qkv, const int *offsets, const struct sight *sight,
                       int S, int N, int H, int G, int D);
void attention_backward(act_t *dqkv, const act_t *dy, const act_t *y, const float *lse, const act_t *qkv,
                        const int *offsets, const struct sight *sight, float *work, int S, int N, int H, int G, int D);
size_t attention_backward_work(int max_N, int H, int G, int D);

/* Decoding.  The cache of one layer holds `slots` sequences of up to `capacity` positions; its inner layout is the
 * backend's own.  N new rows, each with its slot and position; rows of one slot follow one another with ascending
 * positions that go on from what the cache holds.  Writes their keys and values into the cache, then attends each row
 * to positions 0..its own.  Gives the bits attention_forward gives for the same sequence.   slots, positions (N) */
size_t attention_cache_elements(int slots, int capacity, int G, int D);
void attention_cached(act_t *y, act_t *cache, const act_t *qkv, const int *slots, const int *positions,
                      const struct sight *sight, int N, int H, int G, int D, int n_slots, int capacity);

/* ---- linear layers: y = x W^T + b ----------------------------------------------------------------------------------
 * weight (out,in) float32 master.  packed: matmul_packed_elements() act_t, made by matmul_pack after every change of
 * weight and read by the products (on CUDA: bfloat16 copy; on the CPU: panels).  rounding: how each element becomes a
 * bfloat16 (rounding.h); NULL: to nearest. */
size_t matmul_packed_elements(int out, int in);
void matmul_pack(act_t *packed, const float *weight, const struct rounding *rounding, int out, int in);
/* y = x W^T (+ bias) (+ residual).   y (N,out)   x (N,in)   bias (out) or NULL   residual (N,out) or NULL, may be y */
void matmul_forward(act_t *y, const act_t *x, const act_t *packed, const float *bias, const act_t *residual,
                    int N, int out, int in);
/* dx = dy W, or dx += dy W when add.   dx (N,in)   dy (N,out)   packed: of W (out,in) */
void matmul_backward_input(act_t *dx, const act_t *dy, const act_t *packed, bool add, int N, int out, int in);
/* dweight += dy^T x   dbias += column sums of dy (dbias may be NULL)   dweight (out,in)   dbias (out) */
void matmul_backward_weight(float *dweight, float *dbias, const act_t *dy, const act_t *x, int N, int out, int in);

/* ---- activations ----------------------------------------------------------------------------------------------------
 * gelu: x/2 (1 + erf(x/sqrt 2));  gelu_tanh: x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3)));  relu: max(x, 0)
 *   y, x (N,F); backward: dx = dy * f'(x), dx may be dy.
 * swiglu: y = silu(gate) * up, x (N,2F) holds gate (first F) then up;  dx (N,2F).
 * Source: Hendrycks & Gimpel 2016; Shazeer 2020, eq. 5. */
void activation_forward(act_t *y, const act_t *x, enum activation kind, int N, int F);
void activation_backward(act_t *dx, const act_t *dy, const act_t *x, enum activation kind, int N, int F);

/* to[i] = from[rows[i]];  to[rows[i]] = from[i] (rows ascending, distinct).   from/to (n,C) and (N,C)   rows (n) */
void rows_gather(act_t *to, const act_t *from, const int *rows, int n, int C);
void rows_scatter(act_t *to, const act_t *from, const int *rows, int n, int C);

/* y = a + b, activations, each sum rounded once.   y may be a or b */
void acts_add(act_t *y, const act_t *a, const act_t *b, size_t n);

/* ---- the vocabulary head and its losses, in chunks of rows; logits (rows,V) never exist whole -----------------------
 * For each of n rows: z = (h W^T + bias) / temperature, logprob = z[target] - logsumexp(z), entropy = logsumexp(z) - sum p z,
 *   and by kind, with the sum over the rows as the loss:
 *   LOGPROBS        no loss, nothing is differentiated
 *   CROSS_ENTROPY   loss = -logprob
 *   POLICY          rho = exp(clamp(logprob - old_logprob, +-20));  A = advantage;
 *                   loss = max(-A rho, -A clip(rho, 1-clip_low, 1+clip_high)) [, min(loss, -dual_clip A) where A < 0
 *                   and dual_clip > 0] - entropy_coef * entropy
 *   h (n,C)   targets (n)   packed: of the (V,C) output matrix   bias (V), in struct token_loss, or NULL
 *   logprobs (n)   entropy (n) or NULL   losses (n) or NULL
 *   dh (n,C) overwritten with scale * dloss/dh, and dweight (V,C) += scale * dloss/dW; both NULL: forward alone.
 *   dbias (V) += scale * dloss/dbias, where there is a bias and a gradient.
 *   work: token_loss_work() floats: a chunk of rows of V logits, and more.
 *   parts: tensor ranks have the head's rows of `own` tokens each, V of them with those behind, which count for nothing.
 *     A target of another rank's is below 0.  Every rank makes the sums of its own logits (struct token_part), gather
 *     brings those of all ranks, of `bytes` each, to all, and all join them in rank order: every rank has the same
 *     logprobs, entropy and losses, and dh of its own tokens, whose sum over the ranks is dh.
 * Ties: rho exactly on a clip border passes the gradient.
 * Source: Schulman et al. 2017, eq. 7; dual clip: Ye et al. 2020, eq. 5. */
struct softmax { float max; double sum, weighted; };  /* of logits z: sum of e, and of e * (z - max), e = exp(z - max) */
struct token_part { struct softmax row; float target; };                    /* target: its logit, or 0 */
struct token_parts {
    int rank, ranks, own;
    struct token_part *all;                  /* (ranks, n) */
    void (*gather)(void *self, size_t bytes);
    void *self;
};
enum token_loss_kind { LOSS_LOGPROBS, LOSS_CROSS_ENTROPY, LOSS_POLICY };
struct token_loss {
    enum token_loss_kind kind;
    float temperature;                       /* > 0; 1 for training text */
    float scale;                             /* of the gradient: 1 / (count of the whole step) */
    const float *old_logprobs, *advantages;  /* (n), POLICY only */
    float clip_low, clip_high, dual_clip, entropy_coef;
    const float *bias;                       /* (V), or NULL */
    float *dbias;
    const struct token_parts *parts;         /* NULL: this rank has the whole head */
};
size_t token_loss_work(int max_n, int C, int V);
void token_loss(float *logprobs, float *entropy, float *losses, act_t *dh, float *dweight, const act_t *h,
                const int *targets, const act_t *packed, const struct token_loss *loss, float *work, int n, int C,
                int V);

/* The scalar head: values[i] = h[i] . weight + bias[0], summed in double and rounded once.
 * backward: dh = dvalues weight^T;  dweight += dvalues^T h;  dbias += sum dvalues.
 *   values, dvalues (n)   h, dh (n,C)   weight (C)   bias (1) */
void value_forward(float *values, const act_t *h, const float *weight, const float *bias, int n, int C);
void value_backward(act_t *dh, float *dweight, float *dbias, const float *dvalues, const act_t *h, const float *weight,
                    int n, int C);

/* ---- sampling ------------------------------------------------------------------------------------------------------
 * For each of n rows of logits (n,V): z = logits / temperature; filters in this order, each on what is left:
 *   top_k: the most likely tokens (0: off);  top_p: the smallest set of most likely tokens with mass >= top_p (1: off);
 *   min_p: p >= min_p * max p (0: off); then draw with uniform[i] in [0,1) by inverse CDF in ascending token order.
 *   temperature 0: the most likely token.  Among equally likely tokens the lowest id counts as the most likely.
 *   allowed: only tokens < allowed are drawn (0: all V).
 *   logprobs[i] = log-probability of the drawn token under softmax(z) WITHOUT filters (at temperature 1 when it is 0).
 *   tokens, logprobs, uniform, s (n): each row has settings of its own   logits (n,V) is overwritten.
 *   part: a row's sums are those of parts of so many logits each, joined as token_loss joins them. */
struct sampling { float temperature, top_p, min_p; int top_k, allowed; };
void sample_rows(int *tokens, float *logprobs, float *logits, const double *uniform, const struct sampling *s, int n,
                 int V, int part);

/* logits = h W^T (+ bias), not rounded to act_t.   logits (n,V)   h (n,C)   packed: of the (V,C) output matrix   bias
 * (V) or NULL */
void logits_forward(float *logits, const act_t *h, const act_t *packed, const float *bias, int n, int V, int C);

/* logits (n,V) from those of each part: parts (., n, part), the last of which may be longer than what is left of V. */
void logits_join(float *logits, const float *parts, int n, int V, int part);

/* Whether a token's log-probability from sample_rows, after decoding, has the bits that token_loss gives it in
 * training, by the way this backend computes.  True where products do not depend on their number of rows.
 * Where it is false, the products that a model needs for both may still be had so.  matmul_settle: from now on those of
 * matmul_forward, or, logits, of logits_forward and token_loss, with weights of this shape, with or without a bias, give
 * a row the same bits among any number of rows.  It is tried out on the device, with up to N rows of numbers without a
 * pattern.  False: it cannot be had, and these products are as before.  unsettle: so are all.
 *   packed: such a weight   x (N,in), y (N,out), or the work of token_loss for N rows: overwritten */
bool sampling_is_exact(void);
bool matmul_settle(const act_t *packed, bool bias, bool logits, act_t *x, void *y, int N, int out, int in);
void matmul_unsettle(void);

/* ---- optimizer -----------------------------------------------------------------------------------------------------
 * AdamW, decoupled decay, for n parameters, with g = grad_scale * grad:
 *   m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2;
 *   param -= lr * ( (m / correction1) / (sqrt(v / correction2) + eps) + decay * param ),   correction = 1 - beta^t.
 * grad is cleared to 0 on the way.
 * Source: Loshchilov & Hutter 2019, alg. 2; Kingma & Ba 2015 (eps outside the root). */
struct adamw { float lr, beta1, beta2, eps, decay, correction1, correction2, grad_scale; };
void adamw_update(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a);
/* The same where param, m and v are memory of device_alloc_host, and grad of the device: updated by the host's threads
 * (adamw.h), piece by piece while the next gradients arrive; done on return. */
void adamw_offloaded(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a);

/* sums[b] = sum of x[i]^2 over block b, in double; host array of squares_blocks(n).  A block is a run of SQUARES_BLOCK
 * floats from a multiple of it on, so that ranks that hold whole blocks and add all sums in order have the same bits. */
enum { SQUARES_BLOCK = 16384 };
static inline size_t squares_blocks(size_t n) { return (n + SQUARES_BLOCK - 1) / SQUARES_BLOCK; }
void sum_squares(double *sums, const float *x, size_t n);

/* average = decay * average + (1 - decay) * x */
void ema_update(float *average, const float *x, float decay, size_t n);

/* x = value; y += x;  y[i] = x[i] + x[n + i] + ... + x[(parts - 1) n + i], in float32 and rounded once */
void fill(float *x, float value, size_t n);
void add(float *y, const float *x, size_t n);
void acts_sum(act_t *y, const act_t *x, int parts, size_t n);

#endif
