/* reference.h - the whole transformer as plain loops in double, written from the equations of docs/model.md and
 * from nothing in common/.  Parameters are a double copy of a model's, so that differences of its loss check the
 * model's gradients. */
#ifndef QUARTET_TEST_REFERENCE_H
#define QUARTET_TEST_REFERENCE_H

#include "common/model/model.h"

#include "test/on_device.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct reference {
    const struct model *m;
    double *p;              /* m->params.all in double, same places */
    double *hidden;         /* (N,C) of the last forward */
};

static struct reference reference_open(const struct model *m, int max_N)
{
    struct reference r = {m, host_alloc(m->params.count, sizeof(double)),
                          host_alloc((size_t)max_N * (size_t)config_embed_width(&m->config), sizeof(double))};
    float *weights = host_copy(m->params.all, m->params.count);
    for (size_t i = 0; i < m->params.count; i++) r.p[i] = (double)weights[i];
    free(weights);
    return r;
}

static void reference_close(struct reference *r)
{
    free(r->p);
    free(r->hidden);
}

/* The double copy of one of the model's arrays. */
static double *reference_of(const struct reference *r, const float *array)
{
    return array ? r->p + (array - r->m->params.all) : NULL;
}

static double *reference_take(int rows, int width) { return host_alloc((size_t)rows * (size_t)width, sizeof(double)); }

static void reference_norm_row(double *y, const double *x, const double *w, const double *b, const struct config *c, bool centred, int n)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < n && centred; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / n;
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) / sqrt(squares + c->norm_eps) * w[i] + (b ? b[i] : 0);
}

static void reference_norm(const struct reference *r, double *y, const double *x, const struct norm_params *n, int N)
{
    const struct config *c = &r->m->config;
    for (int i = 0; i < N; i++)
        reference_norm_row(y + i * c->channels, x + i * c->channels, reference_of(r, n->weight), reference_of(r, n->bias), c,
                           c->norm == NORM_LAYERNORM, c->channels);
}

/* y = (residual +) x W^T + b */
static void reference_linear(const struct reference *r, double *y, const double *x, const struct linear_params *l,
                             const double *residual, int N, int out, int in)
{
    const double *w = reference_of(r, l->weight), *b = reference_of(r, l->bias);
    for (int i = 0; i < N; i++)
        for (int o = 0; o < out; o++) {
            double sum = (b ? b[o] : 0) + (residual ? residual[i * out + o] : 0);
            for (int k = 0; k < in; k++) sum += x[i * in + k] * w[o * in + k];
            y[i * out + o] = sum;
        }
}

/* Stretched frequencies, by turns within the original length: slow pairs are divided by the factor, fast ones stay. */
static double reference_frequency(const struct config *c, int i, int R)
{
    double f = pow(c->rope_theta, -2.0 * i / R), turns = c->rope_original * f / (2 * M_PI), fast = 1;
    if (c->rope_scaling == ROPE_LLAMA3) fast = (turns - c->rope_low) / (c->rope_high - c->rope_low);
    if (c->rope_scaling == ROPE_YARN) {
        double edge[2];
        for (int k = 0; k < 2; k++)
            edge[k] = R / 2.0 * log(c->rope_original / (2 * M_PI * (k ? c->rope_low : c->rope_high))) / log(c->rope_theta);
        double low = floor(edge[0]) > 0 ? floor(edge[0]) : 0, high = ceil(edge[1]) < R - 1 ? ceil(edge[1]) : R - 1;
        fast = low == high ? (i <= low) : (high - i) / (high - low);
    }
    if (c->rope_scaling == ROPE_LINEAR) fast = 0;
    fast = fast < 0 ? 0 : fast > 1 ? 1 : fast;
    return fast < 1 ? fast * f + (1 - fast) * f / c->rope_factor : f;
}

static void reference_rotate(double *head, int position, const struct config *c)
{
    int R = 2 * (int)(c->head_dim * c->rope_fraction / 2 + 1e-9);
    for (int i = 0; i < R / 2; i++) {
        double *a = c->rope_layout == ROPE_HALF ? &head[i] : &head[2 * i];
        double *b = c->rope_layout == ROPE_HALF ? &head[i + R / 2] : &head[2 * i + 1];
        double angle = position * reference_frequency(c, i, R), x = *a, y = *b, factor = 1;
        if (c->rope_scaling == ROPE_YARN) factor = c->rope_attention > 0 ? c->rope_attention : 0.1 * log(c->rope_factor) + 1;
        *a = factor * (x * cos(angle) - y * sin(angle));
        *b = factor * (x * sin(angle) + y * cos(angle));
    }
}

/* Slopes for H heads: a geometric series from 2^(-8/n) for the largest power of two n <= H, and for the heads
 * beyond it every other slope of the series for 2n. */
static double reference_slope(int h, int H)
{
    int n = 1;
    while (2 * n <= H) n *= 2;
    return h < n ? pow(pow(2, -8.0 / n), h + 1) : pow(pow(2, -8.0 / (2 * n)), 2 * (h - n) + 1);
}

/* To 8 significant bits. */
static double reference_bf16(double x)
{
    int e;
    double part = frexp(x, &e);
    return ldexp(nearbyint(ldexp(part, 8)), e - 8);
}

/* One sequence of T rows: queries and keys normalised and rotated as set, then softmax over the past. */
static void reference_attention(const struct reference *r, double *y, double *qkv, const struct layer_params *p, int T)
{
    int layer = (int)(p - r->m->params.layer);
    const struct config *c = &r->m->config;
    int H = c->heads, G = c->kv_heads, D = c->head_dim, W = (H + 2 * G) * D;
    double *score = reference_take(1, T);
    for (int i = 0; i < T; i++)
        for (int h = 0; h < H + G; h++) {
            double *head = qkv + i * W + h * D;
            if (c->qk_norm) reference_norm_row(head, head, reference_of(r, h < H ? p->q_norm : p->k_norm), NULL, c, false, D);
            if (c->position == POSITION_ROPE) reference_rotate(head, i, c);
        }
    for (int i = 0; i < T; i++)
        for (int h = 0; h < H; h++) {
            const double *q = qkv + i * W + h * D, *k = qkv + (H + h / (H / G)) * D, *v = k + G * D;
            double most = -INFINITY, sum = 0;
            for (int j = 0; j <= i; j++) {
                score[j] = 0;
                for (int d = 0; d < D; d++) score[j] += q[d] * k[j * W + d] / sqrt(D);
                if (c->position == POSITION_ALIBI && c->alibi_rounded)
                    score[j] += reference_bf16(reference_bf16(reference_slope(h, H)) * reference_bf16(j)) / sqrt(D);
                else if (c->position == POSITION_ALIBI) score[j] -= reference_slope(h, H) * (i - j);
                if (c->window && layer >= c->full_layers && i - j >= c->window) score[j] = -1e300;
                most = fmax(most, score[j]);
            }
            for (int j = 0; j <= i; j++) sum += score[j] = exp(score[j] - most);
            for (int d = 0; d < D; d++) {
                double *to = &y[i * H * D + h * D + d];
                *to = 0;
                for (int j = 0; j <= i; j++) *to += score[j] / sum * v[j * W + d];
            }
        }
    free(score);
}

static double reference_activation(enum activation kind, double x)
{
    if (kind == ACTIVATION_RELU) return x > 0 ? x : 0;
    if (kind == ACTIVATION_GELU) return x * 0.5 * erfc(-x / sqrt(2));
    if (kind == ACTIVATION_GELU_TANH) return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    return x / (1 + exp(-x));
}

static void reference_mlp(const struct reference *r, double *y, const double *h, const struct layer_params *p, const double *residual,
                          int N)
{
    const struct config *c = &r->m->config;
    int F = c->ffn, wide = c->activation == ACTIVATION_SWIGLU ? 2 * F : F;
    double *up = reference_take(N, wide), *act = reference_take(N, F);
    reference_linear(r, up, h, &p->up, NULL, N, wide, c->channels);
    for (int i = 0; i < N; i++)
        for (int f = 0; f < F; f++)
            act[i * F + f] = reference_activation(c->activation, up[i * wide + f]) * (wide > F ? up[i * wide + F + f] : 1);
    reference_linear(r, y, act, &p->down, residual, N, c->channels, F);
    free(up);
    free(act);
}

static void reference_block(const struct reference *r, double *x, const struct layer_params *p, const struct batch *b)
{
    const struct config *c = &r->m->config;
    int N = b->N, C = c->channels, HD = c->heads * c->head_dim, W = HD + 2 * c->kv_heads * c->head_dim;
    double *h = reference_take(N, C), *qkv = reference_take(N, W), *y = reference_take(N, HD), *x2 = reference_take(N, C);
    if (c->norm_place == NORM_AFTER) memcpy(h, x, (size_t)(N * C) * sizeof *h);
    else reference_norm(r, h, x, &p->norm1, N);
    reference_linear(r, qkv, h, &p->qkv, NULL, N, W, C);
    for (int s = 0; s < b->S; s++)
        reference_attention(r, y + b->offsets[s] * HD, qkv + b->offsets[s] * W, p, b->offsets[s + 1] - b->offsets[s]);
    reference_linear(r, x2, y, &p->out, c->norm_place == NORM_BOTH ? NULL : x, N, C, HD);
    if (c->norm_place == NORM_BOTH) reference_norm(r, x2, x2, &p->post1, N);
    for (int i = 0; i < N * C && c->norm_place == NORM_BOTH; i++) x2[i] += x[i];
    if (c->norm_place == NORM_AFTER) reference_norm(r, x2, x2, &p->norm1, N);
    if (c->norm_place == NORM_AFTER) memcpy(h, x2, (size_t)(N * C) * sizeof *h);
    else if (!c->parallel) reference_norm(r, h, x2, &p->norm2, N);
    else if (c->parallel_norms) reference_norm(r, h, x, &p->norm2, N);
    reference_mlp(r, x, h, p, c->norm_place == NORM_BOTH ? NULL : x2, N);
    if (c->norm_place == NORM_BOTH) reference_norm(r, x, x, &p->post2, N);
    for (int i = 0; i < N * C && c->norm_place == NORM_BOTH; i++) x[i] += x2[i];
    if (c->norm_place == NORM_AFTER) reference_norm(r, x, x, &p->norm2, N);
    free(h); free(qkv); free(y); free(x2);
}

static void reference_forward(const struct reference *r, const struct batch *b)
{
    const struct config *c = &r->m->config;
    const struct params *p = &r->m->params;
    int C = c->channels, E = config_embed_width(c);
    double *x = reference_take(b->N, C), *row = reference_take(1, C);
    for (int s = 0; s < b->S; s++)
        for (int i = b->offsets[s]; i < b->offsets[s + 1]; i++)
            for (int k = 0; k < C; k++) {
                const double *from = reference_of(r, p->embed) + b->tokens[i] * E;
                if (c->embed_width) reference_linear(r, row, from, &p->embed_in, NULL, 1, C, E);
                x[i * C + k] = c->embed_width ? row[k] : from[k];
                if (p->position) x[i * C + k] += reference_of(r, p->position)[(i - b->offsets[s]) * C + k];
            }
    if (c->embed_norm) reference_norm(r, x, x, &p->embed_norm, b->N);
    for (int l = 0; l < c->layers; l++) reference_block(r, x, &p->layer[l], b);
    if (c->norm_place != NORM_AFTER) reference_norm(r, x, x, &p->final_norm, b->N);
    if (c->embed_width) reference_linear(r, r->hidden, x, &p->embed_out, NULL, b->N, E, C);
    else memcpy(r->hidden, x, (size_t)(b->N * C) * sizeof *x);
    free(x); free(row);
}

/* z (V) = the vocabulary head of row i of the last forward. */
static void reference_logits(const struct reference *r, double *z, int i)
{
    const struct config *c = &r->m->config;
    struct linear_params head = {.weight = c->tied ? r->m->params.embed : r->m->params.head.weight, .bias = r->m->params.head.bias};
    reference_linear(r, z, r->hidden + i * config_embed_width(c), &head, NULL, 1, c->vocab, config_embed_width(c));
}

/* log p(target of row i) */
static double reference_logprob(const struct reference *r, const struct batch *b, int i)
{
    int V = r->m->config.vocab;
    double *z = reference_take(1, V), most = -INFINITY, sum = 0;
    reference_logits(r, z, i);
    for (int v = 0; v < V; v++) most = fmax(most, z[v]);
    for (int v = 0; v < V; v++) sum += exp(z[v] - most);
    double logprob = z[b->targets[i]] - most - log(sum);
    free(z);
    return logprob;
}

static double reference_value(const struct reference *r, int i)
{
    const double *w = reference_of(r, r->m->params.score), *b = reference_of(r, r->m->params.score_bias);
    double sum = b[0];
    int E = config_embed_width(&r->m->config);
    for (int k = 0; k < E; k++) sum += w[k] * r->hidden[i * E + k];
    return sum;
}

#endif
