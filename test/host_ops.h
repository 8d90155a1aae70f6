/* host_ops.h - operations of ops.h on host arrays: each puts its arguments on the device, runs there, and gets back what
 * it writes.  Arrays that are one and the same stay so.  Shapes as in ops.h. */
#ifndef QUARTET_TEST_HOST_OPS_H
#define QUARTET_TEST_HOST_OPS_H

#include "common/model/ops.h"
#include "test/on_device.h"

struct copies { struct { const void *host; void *device, *result; size_t bytes; } copy[12]; int n; };

/* The device copy of an array of `count` numbers of 4 bytes; NULL stays NULL.  given: only read;  made: got back by
 * copies_end, and put before that, because some are added to. */
static void *copy_made(struct copies *c, void *host, const void *array, size_t count)
{
    int i = 0;
    if (!array) return NULL;
    while (i < c->n && c->copy[i].host != array) i++;
    if (i == c->n) {
        c->copy[i].host = array;
        c->copy[i].bytes = count * 4;
        c->copy[i].device = device_copy_of(array, count, 4);
        c->n++;
    }
    if (host) c->copy[i].result = host;
    return c->copy[i].device;
}

static void *given(struct copies *c, const void *host, size_t count) { return copy_made(c, NULL, host, count); }
static void *made(struct copies *c, void *host, size_t count) { return copy_made(c, host, host, count); }

static void copies_end(struct copies *c)
{
    for (int i = 0; i < c->n; i++) {
        if (c->copy[i].result) from_device(c->copy[i].result, c->copy[i].device, c->copy[i].bytes);
        device_free(c->copy[i].device, c->copy[i].bytes);
    }
}

#define HOST_OP __attribute__((unused)) static void

HOST_OP host_activation_forward(float *y, const float *x, enum activation kind, int N, int F)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)F;
    activation_forward(made(&c, y, n), given(&c, x, kind == ACTIVATION_SWIGLU ? 2 * n : n), kind, N, F);
    copies_end(&c);
}

HOST_OP host_activation_backward(float *dx, const float *dy, const float *x, enum activation kind, int N, int F)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)F, nx = kind == ACTIVATION_SWIGLU ? 2 * n : n;
    activation_backward(made(&c, dx, nx), given(&c, dy, n), given(&c, x, nx), kind, N, F);
    copies_end(&c);
}

HOST_OP host_rope(bool back, float *qkv, const int *positions, int N, int H, int G, int D, int R, double theta,
                  enum rope_layout layout)
{
    struct copies c = {0};
    (back ? rope_backward : rope_forward)(made(&c, qkv, (size_t)N * (size_t)((H + 2 * G) * D)),
                                          given(&c, positions, (size_t)N), N, H, G, D, R, theta, layout);
    copies_end(&c);
}

HOST_OP host_layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *weight, const float *bias,
                               float eps, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    layernorm_forward(made(&c, y, n * k), made(&c, mean, n), made(&c, rstd, n), given(&c, x, n * k), given(&c, weight, k),
                      given(&c, bias, k), eps, N, C);
    copies_end(&c);
}

HOST_OP host_layernorm_backward(float *dx, float *dweight, float *dbias, const float *dy, const float *x,
                                const float *weight, const float *mean, const float *rstd, bool add, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    layernorm_backward(made(&c, dx, n * k), made(&c, dweight, k), made(&c, dbias, k), given(&c, dy, n * k),
                       given(&c, x, n * k), given(&c, weight, k), given(&c, mean, n), given(&c, rstd, n), add, N, C);
    copies_end(&c);
}

HOST_OP host_rmsnorm_forward(float *y, float *rstd, const float *x, const float *weight, float eps, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    rmsnorm_forward(made(&c, y, n * k), made(&c, rstd, n), given(&c, x, n * k), given(&c, weight, k), eps, N, C);
    copies_end(&c);
}

HOST_OP host_rmsnorm_backward(float *dx, float *dweight, const float *dy, const float *x, const float *weight,
                              const float *rstd, bool add, int N, int C)
{
    struct copies c = {0};
    size_t n = (size_t)N, k = (size_t)C;
    rmsnorm_backward(made(&c, dx, n * k), made(&c, dweight, k), given(&c, dy, n * k), given(&c, x, n * k),
                     given(&c, weight, k), given(&c, rstd, n), add, N, C);
    copies_end(&c);
}

HOST_OP host_qk_norm_forward(float *y, float *rstd, const float *x, const float *weight_q, const float *weight_k,
                             float eps, int N, int H, int G, int D)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)((H + 2 * G) * D), heads = (size_t)N * (size_t)(H + G), d = (size_t)D;
    qk_norm_forward(made(&c, y, n), made(&c, rstd, heads), given(&c, x, n), given(&c, weight_q, d),
                    given(&c, weight_k, d), eps, N, H, G, D);
    copies_end(&c);
}

HOST_OP host_qk_norm_backward(float *dx, float *dweight_q, float *dweight_k, const float *dy, const float *x,
                              const float *weight_q, const float *weight_k, const float *rstd, int N, int H, int G, int D)
{
    struct copies c = {0};
    size_t n = (size_t)N * (size_t)((H + 2 * G) * D), heads = (size_t)N * (size_t)(H + G), d = (size_t)D;
    qk_norm_backward(made(&c, dx, n), made(&c, dweight_q, d), made(&c, dweight_k, d), given(&c, dy, n), given(&c, x, n),
                     given(&c, weight_q, d), given(&c, weight_k, d), given(&c, rstd, heads), N, H, G, D);
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
    embed_forward(made(&c, x, n * k), given(&c, tokens, n), given(&c, positions, n),
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
                   given(&c, dx, n * k), given(&c, tokens, n), given(&c, positions, n), N, C);
    copies_end(&c);
}

HOST_OP host_rows_gather(float *to, const float *from, const int *rows, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C;
    rows_gather(made(&c, to, (size_t)n * k), given(&c, from, rows_named(rows, n) * k), given(&c, rows, (size_t)n), n, C);
    copies_end(&c);
}

HOST_OP host_rows_scatter(float *to, const float *from, const int *rows, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C;
    rows_scatter(made(&c, to, rows_named(rows, n) * k), given(&c, from, (size_t)n * k), given(&c, rows, (size_t)n), n, C);
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
    value_forward(made(&c, values, (size_t)n), given(&c, h, (size_t)n * k), given(&c, weight, k), given(&c, bias, 1), n, C);
    copies_end(&c);
}

HOST_OP host_value_backward(float *dh, float *dweight, float *dbias, const float *dvalues, const float *h,
                            const float *weight, int n, int C)
{
    struct copies c = {0};
    size_t k = (size_t)C, nk = (size_t)n * k;
    value_backward(made(&c, dh, nk), made(&c, dweight, k), made(&c, dbias, 1), given(&c, dvalues, (size_t)n),
                   given(&c, h, nk), given(&c, weight, k), n, C);
    copies_end(&c);
}

HOST_OP host_matmul_pack(float *packed, const float *weight, int out, int in)
{
    struct copies c = {0};
    matmul_pack(made(&c, packed, matmul_packed_elements(out, in)), given(&c, weight, (size_t)out * (size_t)in), out, in);
    copies_end(&c);
}

HOST_OP host_matmul_forward(float *y, const float *x, const float *packed, const float *bias, const float *residual, int N,
                            int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N, o = (size_t)out;
    matmul_forward(made(&c, y, n * o), given(&c, x, n * (size_t)in), given(&c, packed, matmul_packed_elements(out, in)),
                   given(&c, bias, o), given(&c, residual, n * o), N, out, in);
    copies_end(&c);
}

HOST_OP host_matmul_backward_input(float *dx, const float *dy, const float *packed, bool add, int N, int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N;
    matmul_backward_input(made(&c, dx, n * (size_t)in), given(&c, dy, n * (size_t)out),
                          given(&c, packed, matmul_packed_elements(out, in)), add, N, out, in);
    copies_end(&c);
}

HOST_OP host_matmul_backward_weight(float *dweight, float *dbias, const float *dy, const float *x, int N, int out, int in)
{
    struct copies c = {0};
    size_t n = (size_t)N, o = (size_t)out, i = (size_t)in;
    matmul_backward_weight(made(&c, dweight, o * i), made(&c, dbias, o), given(&c, dy, n * o), given(&c, x, n * i), N, out,
                           in);
    copies_end(&c);
}

#undef HOST_OP
#endif
