/* config.h - the settings of the one transformer.  Families (gpt2, llama, bloom, ...) are settings, not code.
 * Equations and shapes: docs/model.md. */
#pragma once

#include "common/base/base.h"

struct kv;      /* format/kv.h */

enum position { POSITION_LEARNED, POSITION_ROPE, POSITION_ALIBI };
enum rope_layout { ROPE_HALF, ROPE_PAIRS };        /* pairs (i, i + R/2), or (2i, 2i + 1), of the R rotated channels */
/* How the angles are stretched for texts longer than those of pretraining.  dynamic depends on the length beyond the
 * context and is plain within it: longer texts are refused. */
enum rope_scaling { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_DYNAMIC };
/* Of a block's two sublayers f: x + f(norm(x));  x + norm'(f(norm(x))), two norms each;  norm(x + f(x)), and then none
 * at the end of the model. */
enum norm_place { NORM_BEFORE, NORM_BOTH, NORM_AFTER };
enum norm { NORM_LAYERNORM, NORM_RMSNORM };
enum activation { ACTIVATION_GELU, ACTIVATION_GELU_TANH, ACTIVATION_RELU, ACTIVATION_SWIGLU };
enum head { HEAD_VOCABULARY, HEAD_SCALAR };

struct config {
    char family[24];          /* preset it came from; informational */
    int layers, channels, heads, kv_heads, head_dim, ffn, vocab, context;      /* L, C, H, G, D, F, V, most positions */
    enum position position;
    enum rope_layout rope_layout;
    double rope_theta;
    double rope_fraction;     /* share of a head's channels that is rotated, the first R = 2 floor(D fraction / 2) */
    enum rope_scaling rope_scaling;
    double rope_factor;       /* by how much; 0 when plain */
    int rope_original;        /* llama3, yarn: positions of pretraining */
    double rope_low, rope_high;                    /* llama3: low and high frequency factor; yarn: slow and fast beta */
    double rope_attention;    /* yarn: factor on cos and sin; 0: 0.1 ln(factor) + 1 */
    enum norm norm;
    bool alibi_rounded;       /* biases rounded to bfloat16, and divided by sqrt(D) as scores are (falcon) */
    int window;               /* keys that a query sees, its own the last of them; 0: all */
    int full_layers;          /* the first layers, without the window */
    enum norm_place norm_place;
    double norm_eps;
    enum activation activation;
    bool qkv_bias, out_bias, mlp_bias;             /* biases on or off by group */
    bool norm_bias;           /* layernorm has a bias; never with rmsnorm */
    bool qk_norm;             /* rmsnorm of every query and key head before rotation, weights (D) shared by the heads */
    bool embed_norm;          /* a norm right after the embedding (bloom) */
    bool parallel;            /* x + attention(norm(x)) + mlp(norm(x)), one norm a layer (falcon, gpt-j) */
    bool parallel_norms;      /* parallel: the mlp has a norm of its own (gpt-neox, falcon-40b) */
    int embed_width;          /* E, of the embedding, with matrices (C,E) after it and (E,C) before the head; 0: C */
    bool tied;                /* output matrix = token embedding */
    bool head_bias;           /* of the output matrix (V): not with a scalar head, which has its own */
    enum head head;           /* scalar: one number a position (reward model, critic), weights (C) and a bias */
    double init_std;
    double score_mean, score_std;      /* scalar head: reward = (raw - mean) / std; 0 and 1 until normalised */
};

/* Fills *c with a preset's settings and default sizes.  Returns 0, or -1 (EXIT_USAGE, *c untouched) naming the
 * known ones. */
int config_preset(struct config *c, const char *name, struct error *error);

/* Checks ranges and combinations (heads divide, head_dim even for rope, ...).  Returns 0 or -1 (EXIT_USAGE). */
int config_check(const struct config *c, struct error *error);

/* E, or C where the embedding is as wide as the model: also of the rows that a head reads. */
int config_embed_width(const struct config *c);

/* R, the channels of a head that are rotated; and the angle of each of the R/2 pairs at position 1.  Returns the factor
 * on cos and sin. */
int config_rotated(const struct config *c);
double config_frequencies(double *frequency, const struct config *c);

/* To and from section CONF of a checkpoint.  config_read refuses unknown keys that do not start with "x." and wrong
 * types or ranges: 0, or -1 (EXIT_DATA) with *c untouched. */
void config_write(const struct config *c, struct kv *kv);
int config_read(struct config *c, const struct kv *kv, struct error *error);

/* Number of parameters, and of those that multiply something at every token (2 flop each; a tied matrix counts
 * once). */
uint64_t config_parameters(const struct config *c);
uint64_t config_matmul_parameters(const struct config *c);

/* flop of forward and backward of one token in a sequence of T: 6 * matmul parameters + causal attention, which is
 * 6 L H D (T + 1). */
double config_train_flops(const struct config *c, double T);

/* Writes one line into out (size bytes, NUL-terminated) and returns out:
 * "llama L12 C768 H12/4 D64 F2048 V32768 T1024 rope rmsnorm swiglu tied". */
char *config_line(char *out, size_t size, const struct config *c);
