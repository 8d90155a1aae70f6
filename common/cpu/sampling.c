/* sampling.c (CPU) - the filters strike tokens out by setting their z to minus infinity, so that the row stays what the
 * log-probability reads.  The border of top_k and top_p is found by counting, not by sorting: tokens are told apart by the bits
 * of their distance to the maximum, eleven bits at a time, and each pass narrows the border to one of 2048 bins. */
#include "common/cpu/blocks.h"
#include "common/cpu/softmax.h"
#include "common/ops.h"
#include "common/threads.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { PIECE = 256, BINS = 2048, LANES = 8 };

/* A row under work: the n tokens that may be drawn, and the largest z among them. */
struct row { float *z; int n; struct softmax top; };

/* weights[k] = exp(z - max) of the tokens first .. first + count, 0 where struck out.   weights (count) */
static void piece_weights(float *weights, const struct row *r, int first, int count)
{
    softmax_exp(weights, &r->top, r->z + first, count);
}

static double piece_sum(const float *weights, int count)
{
    double lane[LANES] = {0}, sum = 0;
    int k = 0;
    for (; k + LANES <= count; k += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)weights[k + l];
    for (; k < count; k++) sum += (double)weights[k];
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

static double row_sum(const struct row *r)
{
    float weights[PIECE];
    double sum = 0;
    for (int i = 0; i < r->n; i += PIECE) {
        int count = int_min(PIECE, r->n - i);
        piece_weights(weights, r, i, count);
        sum += piece_sum(weights, count);
    }
    return sum;
}

/* The bits of max - z rise as the probability falls; struck-out tokens come last. */
static uint32_t distance(const struct row *r, int i)
{
    float d = r->top.max - r->z[i];
    uint32_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}

/* One pass: the weight of each bin, among the tokens whose distance begins with `prefix`. */
static void count_bins(double bin[BINS], const struct row *r, bool mass, float least, uint32_t prefix, int shift, int bits)
{
    float weights[PIECE];
    memset(bin, 0, BINS * sizeof *bin);
    for (int i = 0; i < r->n; i += PIECE) {
        int count = int_min(PIECE, r->n - i);
        if (mass) piece_weights(weights, r, i, count);
        for (int k = 0; k < count; k++) {
            uint32_t d = distance(r, i + k);
            if ((uint64_t)d >> (shift + bits) != prefix || (mass && weights[k] < least)) continue;
            bin[d >> shift & ((1u << bits) - 1)] += mass ? (double)weights[k] : 1;
        }
    }
}

/* Keeps the most likely tokens whose weights (their mass, or 1 each) first reach `target`; among equals the lowest ids.
 * Tokens of less than `least` mass are known not to be needed. */
static void keep_most_likely(const struct row *r, bool mass, double target, float least)
{
    static const int shift[3] = {21, 10, 0}, width[3] = {11, 11, 10};
    double above = 0, bin[BINS];
    uint32_t border = 0;
    if (!(target > 0)) target = DBL_MIN;     /* one token always stays */
    for (int pass = 0; pass < 3; pass++) {
        int last = 0, b = 0, bins = 1 << width[pass];
        count_bins(bin, r, mass, least, border, shift[pass], width[pass]);
        for (b = 0; b < bins && above + bin[b] < target; b++) {
            above += bin[b];
            if (bin[b] > 0) last = b;
        }
        if (b == bins) {                     /* rounding, or fewer tokens than asked for: all of them */
            b = last;
            above -= bin[b];
        }
        border = border << width[pass] | (uint32_t)b;
    }
    float one = 1;
    for (int i = 0; i < r->n; i++) {
        uint32_t d = distance(r, i);
        if (d == border && above < target) {
            if (mass) piece_weights(&one, r, i, 1);
            above += (double)one;
        } else if (d >= border) {
            r->z[i] = -INFINITY;
        }
    }
}

static void filter(const struct row *r, const struct sampling *s)
{
    if (s->top_k > 0 && s->top_k < r->n) keep_most_likely(r, false, s->top_k, 0);
    if (s->top_p < 1) {
        double sum = row_sum(r);
        keep_most_likely(r, true, (double)s->top_p * sum, (float)((1 - (double)s->top_p) * sum / r->n / 2));
    }
    if (s->min_p > 0) {
        float weights[PIECE];
        for (int i = 0; i < r->n; i += PIECE) {
            int count = int_min(PIECE, r->n - i);
            piece_weights(weights, r, i, count);
            for (int k = 0; k < count; k++)
                if (weights[k] < s->min_p) r->z[i + k] = -INFINITY;         /* the largest weight is 1 */
        }
    }
}

/* The first token at which the running sum passes uniform times the whole. */
static int draw(const struct row *r, double uniform)
{
    float weights[PIECE];
    double left = uniform * row_sum(r);
    int piece = 0, token = 0;
    for (int i = 0; i < r->n; i += PIECE) {
        int count = int_min(PIECE, r->n - i);
        piece_weights(weights, r, i, count);
        double sum = piece_sum(weights, count);
        if (sum > 0) piece = i;             /* should rounding leave something at the end, the last piece with a weight serves */
        if (sum > left) break;
        left -= sum;
    }
    int count = int_min(PIECE, r->n - piece);
    piece_weights(weights, r, piece, count);
    for (int k = 0; k < count; k++) {
        if (!(weights[k] > 0)) continue;
        token = piece + k;
        left -= (double)weights[k];
        if (left < 0) break;
    }
    return token;
}

static int most_likely(const struct row *r)
{
    for (int i = 0; i < r->n; i++)
        if (r->z[i] == r->top.max) return i;
    return 0;           /* not a number */
}

struct sample { int *tokens; float *logprobs, *logits; const double *uniform; const struct sampling *s; int V, allowed; };

static void sample_row(void *context, int i, int thread)
{
    (void)thread;
    const struct sample *c = context;
    float *z = c->logits + (size_t)i * (size_t)c->V;
    struct softmax whole = softmax_row(z, c->V, c->s->temperature > 0 ? c->s->temperature : 1);
    struct row r = {.z = z, .n = c->allowed, .top = whole};
    if (r.n < c->V) {
        r.top.max = z[0];
        for (int k = 1; k < r.n; k++) r.top.max = z[k] > r.top.max ? z[k] : r.top.max;
    }
    if (c->s->temperature > 0) {
        filter(&r, c->s);
        c->tokens[i] = draw(&r, c->uniform[i]);
    } else {
        c->tokens[i] = most_likely(&r);
    }
    c->logprobs[i] = softmax_logprob(&whole, z, c->tokens[i]);
}

void sample_rows(int *tokens, float *logprobs, act_t *logits, const double *uniform, const struct sampling *s,
                 int n, int V, int allowed)
{
    struct sample c = {tokens, logprobs, logits, uniform, s, V, allowed};
    threads_for(n, sample_row, &c);
}
