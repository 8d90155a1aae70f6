/* host_ops.h - operations of ops.h on host arrays: each puts its arguments on the device, runs there, and gets back what
 * it writes.  Arrays that are one and the same stay so.  Shapes as in ops.h. */
#ifndef QUARTET_TEST_HOST_OPS_H
#define QUARTET_TEST_HOST_OPS_H

#include "common/model/ops.h"
#include "test/act_host.h"
#include "test/on_device.h"

/* An array of n numbers on the host and its device copy; acts: floats here, activations there. */
struct copies { struct { const void *host; void *device, *result; size_t n, size; bool acts; } copy[16]; int n; };

static void copy_put(void *device, const void *host, size_t n, size_t size, bool acts)
{
    act_t *a = acts ? host_alloc(n + 1, sizeof *a) : NULL;
    for (size_t i = 0; acts && i < n; i++) a[i] = act_of(((const float *)host)[i]);
    to_device(device, acts ? a : host, n * size);
    free(a);
}

static void copy_get(void *host, const void *device, size_t n, size_t size, bool acts)
{
    act_t *a = acts ? host_alloc(n + 1, sizeof *a) : NULL;
    from_device(acts ? (void *)a : host, device, n * size);
    for (size_t i = 0; acts && i < n; i++) ((float *)host)[i] = act_value(a[i]);
    free(a);
}

/* The device copy of an array; NULL stays NULL.  given: only read;  made: got back by copies_end, and put before that,
 * because some are added to. */
static void *copy_made(struct copies *c, void *host, const void *array, size_t n, size_t size, bool acts)
{
    int i = 0;
    if (!array) return NULL;
    while (i < c->n && c->copy[i].host != array) i++;
    if (i == c->n) {
        c->copy[c->n++] = (__typeof__(*c->copy)){.host = array, .device = device_alloc(n * size), .n = n, .size = size,
                                                 .acts = acts};
        copy_put(c->copy[i].device, array, n, size, acts);
    }
    if (host) c->copy[i].result = host;
    return c->copy[i].device;
}

/* Numbers of 4 bytes; activations; packed weights, which stay as they are. */
static void *given(struct copies *c, const void *host, size_t n) { return copy_made(c, NULL, host, n, 4, false); }
static void *given_doubles(struct copies *c, const double *host, size_t n) { return copy_made(c, NULL, host, n, 8, false); }
static void *made(struct copies *c, void *host, size_t n) { return copy_made(c, host, host, n, 4, false); }
static void *given_act(struct copies *c, const float *host, size_t n) { return copy_made(c, NULL, host, n, sizeof(act_t), true); }
static void *made_act(struct copies *c, float *host, size_t n) { return copy_made(c, host, host, n, sizeof(act_t), true); }
__attribute__((unused))
static void *given_packed(struct copies *c, const act_t *host, size_t n) { return copy_made(c, NULL, host, n, sizeof *host, false); }
__attribute__((unused))
static void *made_packed(struct copies *c, act_t *host, size_t n) { return copy_made(c, host, host, n, sizeof *host, false); }

static void copies_end(struct copies *c)
{
    for (int i = 0; i < c->n; i++) {
        if (c->copy[i].result)
            copy_get(c->copy[i].result, c->copy[i].device, c->copy[i].n, c->copy[i].size, c->copy[i].acts);
        device_free(c->copy[i].device, c->copy[i].n * c->copy[i].size);
    }
}

#define HOST_OP __attribute__((unused)) static void

HOST_OP host_activation_forward(float *y, const float *x, enum activation kind, int N, int F)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)F;
    activation_forward(made_act(&c, y, n), given_act(&c, x, kind == ACTIVATION_SWIGLU ? 2 * n : n), kind, N, F);
    copies_end(&c);
}

HOST_OP host_activation_backward(float *dx, const float *dy, const float *x, enum activation kind, int N, int F)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)F, nx = kind == ACTIVATION_SWIGLU ? 2 * n : n;
    activation_backward(made_act(&c, dx, nx), given_act(&c, dy, n), given_act(&c, x, nx), kind, N, F);
    copies_end(&c);
}

HOST_OP host_layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *weight, const float *bias,
                               float eps, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    layernorm_forward(made_act(&c, y, n * k), made(&c, mean, n), made(&c, rstd, n), given_act(&c, x, n * k), given(&c, weight, k),
                      given(&c, bias, k), eps, N, C);
    copies_end(&c);
}

HOST_OP host_layernorm_backward(float *dx, float *dweight, float *dbias, const float *dy, const float *x,
                                const float *weight, const float *mean, const float *rstd, bool add, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    layernorm_backward(made_act(&c, dx, n * k), made(&c, dweight, k), made(&c, dbias, k), given_act(&c, dy, n * k),
                       given_act(&c, x, n * k), given(&c, weight, k), given(&c, mean, n), given(&c, rstd, n), add, N, C);
    copies_end(&c);
}

HOST_OP host_rmsnorm_forward(float *y, float *rstd, const float *x, const float *weight, float eps, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    rmsnorm_forward(made_act(&c, y, n * k), made(&c, rstd, n), given_act(&c, x, n * k), given(&c, weight, k), eps, N, C);
    copies_end(&c);
}

HOST_OP host_rmsnorm_backward(float *dx, float *dweight, const float *dy, const float *x, const float *weight,
                              const float *rstd, bool add, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    rmsnorm_backward(made_act(&c, dx, n * k), made(&c, dweight, k), given_act(&c, dy, n * k), given_act(&c, x, n * k),
                     given(&c, weight, k), given(&c, rstd, n), add, N, C);
    copies_end(&c);
}

/* rope's arrays are the host's; NULL: no head turns. */
__attribute__((unused)) static struct rope rope_given(struct copies *c, const struct rope *rope, int N)
{
    struct rope r = rope ? *rope : (struct rope){0};
    r.positions = given(c, r.positions, (size_t)N);
    r.frequency = given_doubles(c, r.frequency, (size_t)(r.R / 2));
    return r;
}

HOST_OP host_qk_forward(float *y, float *rstd, const float *x, const float *weight_q, const float *weight_k, float eps,
                        const struct rope *rope, int N, int H, int G, int D)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)((H + 2 * G) * D), heads = (size_t)N * (size_t)(H + G), d = (size_t)D;
    struct rope r = rope_given(&c, rope, N);
    qk_forward(made_act(&c, y, n), made(&c, rstd, heads), given_act(&c, x, n), given(&c, weight_q, d), given(&c, weight_k, d),
               eps, &r, N, H, G, D);
    copies_end(&c);
}

HOST_OP host_qk_backward(float *dx, float *dweight_q, float *dweight_k, const float *dy, const float *x, const float *weight_q,
                         const float *weight_k, const float *rstd, const struct rope *rope, int N, int H, int G, int D)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)((H + 2 * G) * D), heads = (size_t)N * (size_t)(H + G), d = (size_t)D;
    struct rope r = rope_given(&c, rope, N);
    qk_backward(made_act(&c, dx, n), made(&c, dweight_q, d), made(&c, dweight_k, d), given_act(&c, dy, n), given_act(&c, x, n),
                given(&c, weight_q, d), given(&c, weight_k, d), given(&c, rstd, heads), &r, N, H, G, D);
    copies_end(&c);
}
/* 1 + the largest of n row numbers. */
__attribute__((unused)) static size_t rows_named(const int *rows, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++) most = int_max(most, rows[i] + 1);
    return (size_t)most;
}

HOST_OP host_embed_forward(float *x, const int *tokens, const int *positions, const float *table,
                           const float *position_table, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    embed_forward(made_act(&c, x, n * k), given(&c, tokens, n), given(&c, positions, n),
                  given(&c, table, rows_named(tokens, N) * k),
                  given(&c, position_table, rows_named(positions, N) * k), N, C);
    copies_end(&c);
}

HOST_OP host_embed_backward(float *dtable, float *dposition_table, const float *dx, const int *tokens,
                            const int *positions, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    embed_backward(made(&c, dtable, rows_named(tokens, N) * k), made(&c, dposition_table, rows_named(positions, N) * k),
                   given_act(&c, dx, n * k), given(&c, tokens, n), given(&c, positions, n), N, C);
    copies_end(&c);
}

HOST_OP host_rows_gather(float *to, const float *from, const int *rows, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C;
    rows_gather(made_act(&c, to, (size_t)n * k), given_act(&c, from, rows_named(rows, n) * k), given(&c, rows, (size_t)n), n, C);
    copies_end(&c);
}

HOST_OP host_rows_scatter(float *to, const float *from, const int *rows, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C;
    rows_scatter(made_act(&c, to, rows_named(rows, n) * k), given_act(&c, from, (size_t)n * k), given(&c, rows, (size_t)n), n, C);
    copies_end(&c);
}

HOST_OP host_positions_fill(int *positions, const int *offsets, int S, int N)
{
    struct copies c = {0};
    positions_fill(made(&c, positions, (size_t)N), given(&c, offsets, (size_t)S + 1), S, N);
    copies_end(&c);
}

HOST_OP host_value_forward(float *values, const float *h, const float *weight, const float *bias, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C;
    value_forward(made(&c, values, (size_t)n), given_act(&c, h, (size_t)n * k), given(&c, weight, k), given(&c, bias, 1), n, C);
    copies_end(&c);
}

HOST_OP host_value_backward(float *dh, float *dweight, float *dbias, const float *dvalues, const float *h,
                            const float *weight, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C, nk = (size_t)n * k;
    value_backward(made_act(&c, dh, nk), made(&c, dweight, k), made(&c, dbias, 1), given(&c, dvalues, (size_t)n),
                   given_act(&c, h, nk), given(&c, weight, k), n, C);
    copies_end(&c);
}

HOST_OP host_matmul_pack(act_t *packed, const float *weight, int out, int in)
{
    struct copies c = {0};
    matmul_pack(made_packed(&c, packed, matmul_packed_elements(out, in)), given(&c, weight, (size_t)out * (size_t)in), NULL, out, in);
    copies_end(&c);
}

HOST_OP host_matmul_forward(float *y, const float *x, const act_t *packed, const float *bias, const float *residual, int N,
                            int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N, o = (size_t)out;
    matmul_forward(made_act(&c, y, n * o), given_act(&c, x, n * (size_t)in), given_packed(&c, packed, matmul_packed_elements(out, in)),
                   given(&c, bias, o), given_act(&c, residual, n * o), N, out, in);
    copies_end(&c);
}

HOST_OP host_matmul_backward_input(float *dx, const float *dy, const act_t *packed, bool add, int N, int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N;
    matmul_backward_input(made_act(&c, dx, n * (size_t)in), given_act(&c, dy, n * (size_t)out),
                          given_packed(&c, packed, matmul_packed_elements(out, in)), add, N, out, in);
    copies_end(&c);
}

HOST_OP host_matmul_backward_weight(float *dweight, float *dbias, const float *dy, const float *x, int N, int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N, o = (size_t)out, i = (size_t)in;
    matmul_backward_weight(made(&c, dweight, o * i), made(&c, dbias, o), given_act(&c, dy, n * o), given_act(&c, x, n * i), N, out,
                           in);
    copies_end(&c);
}

HOST_OP host_logits_forward(float *logits, const float *h, const act_t *packed, const float *bias, int n, int V, int C)
{
    struct copies c = {0};
    size_t rows = (size_t)n;
    logits_forward(made(&c, logits, rows * (size_t)V), given_act(&c, h, rows * (size_t)C),
                   given_packed(&c, packed, matmul_packed_elements(V, C)), given(&c, bias, (size_t)V), n, V, C);
    copies_end(&c);
}

HOST_OP host_sample_rows(int *tokens, float *logprobs, float *logits, const double *uniform, const struct sampling *s,
                         int n, int V)
{
    struct copies c = {0};
    size_t rows = (size_t)n;
    sample_rows(made(&c, tokens, rows), made(&c, logprobs, rows), made(&c, logits, rows * (size_t)V),
                copy_made(&c, NULL, uniform, rows, sizeof *uniform, false),
                copy_made(&c, NULL, s, rows, sizeof *s, false), n, V, V);
    copies_end(&c);
}

/* l->old_logprobs and l->advantages are arrays of the host too. */
HOST_OP host_token_loss(float *logprobs, float *entropy, float *losses, float *dh, float *dweight, const float *h,
                        const int *targets, const act_t *packed, const struct token_loss *l, int n, int C, int V)
{
    struct copies c = {0};
    struct token_loss how = *l;
    size_t rows = (size_t)n, hidden = rows * (size_t)C, work = token_loss_work(n, C, V) * sizeof(float);
    float *on_work = device_alloc(work);
    how.bias = given(&c, l->bias, (size_t)V);
    how.dbias = made(&c, l->dbias, (size_t)V);
    if (l->kind == LOSS_POLICY) {
        how.old_logprobs = given(&c, l->old_logprobs, rows);
        how.advantages = given(&c, l->advantages, rows);
    }
    token_loss(made(&c, logprobs, rows), made(&c, entropy, rows), made(&c, losses, rows), made_act(&c, dh, hidden),
               made(&c, dweight, (size_t)V * (size_t)C), given_act(&c, h, hidden), given(&c, targets, rows),
               given_packed(&c, packed, matmul_packed_elements(V, C)), &how, on_work, n, C, V);
    device_free(on_work, work);
    copies_end(&c);
}

/* sight->slopes is host memory. */
static inline struct sight sight_on_device(struct copies *c, const struct sight *s, int H)
{
    return (struct sight){given(c, s->slopes, (size_t)H), s->rounded, s->window};
}

HOST_OP host_attention_forward(float *y, float *lse, const float *qkv, const int *offsets, const struct sight *s, int S,
                               int N, int H, int G, int D)
{
    struct copies c = {0};
    struct sight sight = sight_on_device(&c, s, H);
    size_t n = (size_t)N;
    attention_forward(made_act(&c, y, n * (size_t)(H * D)), made(&c, lse, n * (size_t)H),
                      given_act(&c, qkv, n * (size_t)((H + 2 * G) * D)), given(&c, offsets, (size_t)S + 1),
                      &sight, S, N, H, G, D);
    copies_end(&c);
}

HOST_OP host_attention_backward(float *dqkv, const float *dy, const float *y, const float *lse, const float *qkv,
                                const int *offsets, const struct sight *s, int S, int N, int H, int G, int D)
{
    struct copies c = {0};
    struct sight sight = sight_on_device(&c, s, H);
    size_t n = (size_t)N, narrow = n * (size_t)(H * D), wide = n * (size_t)((H + 2 * G) * D);
    size_t work = attention_backward_work(N, H, G, D) * sizeof(float);
    float *on_work = device_alloc(work);
    attention_backward(made_act(&c, dqkv, wide), given_act(&c, dy, narrow), given_act(&c, y, narrow),
                       given(&c, lse, n * (size_t)H), given_act(&c, qkv, wide), given(&c, offsets, (size_t)S + 1),
                       &sight, on_work, S, N, H, G, D);
    device_free(on_work, work);
    copies_end(&c);
}

/* cache is device memory. */
HOST_OP host_attention_cached(float *y, act_t *cache, const float *qkv, const int *slots, const int *positions,
                              const struct sight *s, int N, int H, int G, int D, int n_slots, int capacity)
{
    struct copies c = {0};
    struct sight sight = sight_on_device(&c, s, H);
    size_t n = (size_t)N;
    attention_cached(made_act(&c, y, n * (size_t)(H * D)), cache, given_act(&c, qkv, n * (size_t)((H + 2 * G) * D)),
                     given(&c, slots, n), given(&c, positions, n), &sight, N, H, G, D, n_slots,
                     capacity);
    copies_end(&c);
}

HOST_OP host_adamw_update(float *param, float *grad, float *m, float *v, size_t n, const struct adamw *a)
{
    struct copies c = {0};
    adamw_update(made(&c, param, n), made(&c, grad, n), made(&c, m, n), made(&c, v, n), n, a);
    copies_end(&c);
}

__attribute__((unused)) static double host_sum_squares(const float *x, size_t n)
{
    struct copies c = {0};
    double *sums = host_alloc(squares_blocks(n), sizeof *sums), sum = 0;
    sum_squares(sums, given(&c, x, n), n);
    copies_end(&c);
    for (size_t i = 0; i < squares_blocks(n); i++) sum += sums[i];
    free(sums);
    return sum;
}

HOST_OP host_ema_update(float *average, const float *x, float decay, size_t n)
{
    struct copies c = {0};
    ema_update(made(&c, average, n), given(&c, x, n), decay, n);
    copies_end(&c);
}

HOST_OP host_fill(float *x, float value, size_t n)
{
    struct copies c = {0};
    fill(made(&c, x, n), value, n);
    copies_end(&c);
}

HOST_OP host_add(float *y, const float *x, size_t n)
{
    struct copies c = {0};
    add(made(&c, y, n), given(&c, x, n), n);
    copies_end(&c);
}

#undef HOST_OP
#endif
