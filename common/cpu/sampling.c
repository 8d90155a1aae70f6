/* sampling.c (CPU) - the filters strike tokens out by setting their z to minus infinity, so that the row stays what
 * the log-probability reads.  The border of top_k and top_p is found by counting, not by sorting: tokens are told
 * apart by the bits of their distance to the maximum, eleven bits at a time, and each pass narrows the border to
 * one of 2048 bins.  Passes go through the row in pieces that stay in the first-level cache and skip a piece that
 * has nothing to say. */
#include "common/cpu/softmax.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { PIECE = 256, BINS = 2048, COPIES = 2, LANES = 8 };

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

/* The bits of max - z rise as the probability falls; struck-out tokens come last.   keys (count) */
static void distances(uint32_t *keys, const struct row *r, int first, int count)
{
    float d[PIECE];
    for (int k = 0; k < count; k++) d[k] = r->top.max - r->z[first + k];
    memcpy(keys, d, (size_t)count * sizeof *d);
}

/* What a pass looks at: keys that begin with `prefix` before the `bits` from `shift` on, none above `limit`; mass
 * or number. */
struct pass { uint32_t prefix, limit; int shift, bits; bool mass; };

static bool any_wanted(const struct pass *p, const uint32_t *keys, int count)
{
    uint32_t low = p->prefix << p->shift << p->bits, any = 0;
    uint32_t span = (uint32_t)((UINT64_C(1) << (p->shift + p->bits)) - 1);
    for (int k = 0; k < count; k++) any |= (keys[k] - low <= span) & (keys[k] <= p->limit);
    return any;
}

/* bin = the weight of each bin of the pass.  Neighbours add to different copies: a sum need not wait for the one
 * before. */
static void count_bins(double bin[BINS], const struct row *r, const struct pass *p)
{
    float weights[PIECE];
    uint32_t keys[PIECE], mask = (1u << p->bits) - 1;
    bool all = p->shift + p->bits == 32;
    double copy[COPIES][BINS];
    memset(copy, 0, sizeof copy);
    for (int k = 0; k < PIECE; k++) weights[k] = 1;
    for (int i = 0; i < r->n; i += PIECE) {
        int count = int_min(PIECE, r->n - i);
        distances(keys, r, i, count);
        if (!any_wanted(p, keys, count)) continue;
        if (p->mass) piece_weights(weights, r, i, count);
        for (int k = 0; k < count; k++)
            if (all || keys[k] >> (p->shift + p->bits) == p->prefix)
                copy[k % COPIES][keys[k] >> p->shift & mask] += (double)weights[k];
    }
    for (int b = 0; b < BINS; b++) bin[b] = copy[0][b] + copy[1][b];
}

/* Strikes out all tokens beyond the border, and of those on it all but the first whose weights reach what is
 * missing. */
static void strike(const struct row *r, uint32_t border, bool mass, double missing)
{
    uint32_t keys[PIECE];
    float weight = 1;
    for (int i = 0; i < r->n; i += PIECE) {
        int count = int_min(PIECE, r->n - i);
        uint32_t any = 0;
        float *z = r->z + i;
        distances(keys, r, i, count);
        for (int k = 0; k < count; k++) {
            any |= keys[k] == border;
            z[k] = keys[k] > border ? -INFINITY : z[k];
        }
        for (int k = 0; k < count && any; k++) {
            if (keys[k] != border) continue;
            if (mass) piece_weights(&weight, r, i + k, 1);
            if (missing > 0) missing -= (double)weight;
            else z[k] = -INFINITY;
        }
    }
}

/* Keeps the most likely tokens whose weights (their mass, or 1 each) first reach `target`; among equals the lowest
 * ids. Tokens of less than `least` mass are known not to be needed. */
static void keep_most_likely(const struct row *r, bool mass, double target, double least)
{
    static const int shift[3] = {21, 10, 0}, width[3] = {11, 11, 10};
    double above = 0, bin[BINS];
    float limit = least > 0 ? (float)-log(least) : INFINITY;
    struct pass p = {.mass = mass};
    memcpy(&p.limit, &limit, sizeof limit);
    if (!(target > 0)) target = DBL_MIN;     /* one token always stays */
    for (int i = 0; i < 3; i++) {
        int last = 0, b = 0, bins = 1 << width[i];
        p.shift = shift[i];
        p.bits = width[i];
        count_bins(bin, r, &p);
        for (b = 0; b < bins && above + bin[b] < target; b++) {
            above += bin[b];
            if (bin[b] > 0) last = b;
        }
        if (b == bins) {                     /* rounding, or fewer tokens than asked for: all of them */
            b = last;
            above -= bin[b];
        }
        p.prefix = p.prefix << width[i] | (uint32_t)b;
    }
    strike(r, p.prefix, mass, target - above);
}

static void filter(const struct row *r, const struct sampling *s)
{
    if (s->top_k > 0 && s->top_k < r->n) keep_most_likely(r, false, s->top_k, 0);
    if (s->top_p < 1) {
        double sum = row_sum(r);
        keep_most_likely(r, true, (double)s->top_p * sum, (1 - (double)s->top_p) * sum / r->n / 2);
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
        if (sum > 0) piece = i;     /* should rounding leave a rest at the end, the last piece with a weight serves */
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

struct sample {
    int *tokens;
    float *logprobs, *logits;
    const double *uniform;
    const struct sampling *s;
    int V, part;
};

static struct softmax whole_row(float *z, const struct sample *c, float temperature)
{
    struct softmax whole = softmax_row(z, int_min(c->part, c->V), temperature);
    for (int i = c->part; i < c->V; i += c->part) {
        struct softmax part = softmax_row(z + i, int_min(c->part, c->V - i), temperature);
        whole = softmax_join(&whole, &part);
    }
    return whole;
}

static void sample_row(void *context, int i, int thread)
{
    (void)thread;
    const struct sample *c = context;
    const struct sampling *s = &c->s[i];
    float *z = c->logits + (size_t)i * (size_t)c->V;
    struct softmax whole = whole_row(z, c, s->temperature > 0 ? s->temperature : 1);
    struct row r = {.z = z, .n = s->allowed > 0 ? s->allowed : c->V, .top = whole};
    if (r.n < c->V) {
        r.top.max = z[0];
        for (int k = 1; k < r.n; k++) r.top.max = z[k] > r.top.max ? z[k] : r.top.max;
    }
    if (s->temperature > 0) {
        filter(&r, s);
        c->tokens[i] = draw(&r, c->uniform[i]);
    } else {
        c->tokens[i] = most_likely(&r);
    }
    c->logprobs[i] = softmax_logprob(&whole, z[c->tokens[i]]);
}

void sample_rows(int *tokens, float *logprobs, float *logits, const double *uniform, const struct sampling *s, int n,
                 int V, int part)
{
    struct sample c = {tokens, logprobs, logits, uniform, s, V, part};
    threads_for(n, sample_row, &c);
}

void logits_join(float *logits, const float *parts, int n, int V, int part)
{
    for (int i = 0; i < n; i++)
        for (int first = 0; first < V; first += part) {
            const float *from = parts + ((size_t)(first / part) * (size_t)n + (size_t)i) * (size_t)part;
            memcpy(logits + (size_t)i * (size_t)V + first, from, (size_t)int_min(part, V - first) * sizeof *logits);
        }
}

bool sampling_is_exact(void) { return true; }

bool matmul_settle(const act_t *packed, bool bias, bool logits, act_t *x, void *y, int N, int out, int in)
{
    (void)packed, (void)bias, (void)logits, (void)x, (void)y, (void)N, (void)out, (void)in;
    return true;
}

void matmul_unsettle(void) {}
