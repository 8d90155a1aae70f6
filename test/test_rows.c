/* Embedding, copying of rows and the scalar head against plain loops; bits on 1, 2 and 3 threads. */
#include "test/host_ops.h"
#include "test/numbers.h"
#include "test/test.h"

static void test_embed(int N, int C, int V, int context, bool learned)
{
    size_t n = (size_t)N * (size_t)C, nt = (size_t)V * (size_t)C, np = (size_t)context * (size_t)C;
    float *table = numbers(nt, 1, 1), *place = numbers(np, 2, 1), *x = host_alloc(n, 4), *dx = numbers(n, 3, 1);
    float *dtable = numbers(nt, 4, 1), *dplace = numbers(np, 5, 1), *want = copy_of(dtable, nt), *want_place = copy_of(dplace, np);
    int *tokens = host_alloc((size_t)N, 4), *positions = host_alloc((size_t)N, 4);
    for (int i = 0; i < N; i++) { tokens[i] = (i * i + 3) % V; positions[i] = i % context; }
    host_embed_forward(x, tokens, positions, table, learned ? place : NULL, N, C);
    bool same = true;
    for (int i = 0; i < N; i++)
        for (int c = 0; c < C; c++) {
            float t = table[tokens[i] * C + c], p = place[positions[i] * C + c];
            same = same && x[i * C + c] == act_rounded(learned ? t + p : t);
            want[tokens[i] * C + c] += dx[i * C + c];
            want_place[positions[i] * C + c] += learned ? dx[i * C + c] : 0;
        }
    CHECK(same);
    for (int threads = 1; threads <= 3; threads++) {
        float *t = copy_of(dtable, nt), *p = copy_of(dplace, np);
        threads_start(threads);
        host_embed_backward(t, learned ? p : NULL, dx, tokens, positions, N, C);
        threads_start(1);
        CHECK(same_bits(t, want, nt) && same_bits(p, want_place, np));
        free(t); free(p);
    }
    free(table); free(place); free(x); free(dx); free(dtable); free(dplace); free(want); free(want_place); free(tokens); free(positions);
}

static void test_copies(void)
{
    enum { N = 1039, C = 19, n = 347 };
    float *from = numbers(N * C, 1, 1), *few = host_alloc(n * C, 4), *to = numbers(N * C, 2, 1), *before = copy_of(to, N * C);
    int rows[n], positions[7];
    for (int i = 0; i < n; i++) rows[i] = 3 * i - (i > 0);
    host_rows_gather(few, from, rows, n, C);
    host_rows_scatter(to, few, rows, n, C);
    bool gathered = true, scattered = true;
    for (int i = 0; i < n; i++) gathered = gathered && same_bits(few + i * C, from + rows[i] * C, C);
    for (int i = 0, k = 0; i < N; i++) {
        bool named = k < n && rows[k] == i;
        scattered = scattered && same_bits(to + i * C, named ? from + i * C : before + i * C, C);
        k += named;
    }
    CHECK(gathered && scattered);
    host_positions_fill(positions, (int[]){0, 1, 4, 7}, 3, 7);
    CHECK(memcmp(positions, (int[]){0, 0, 1, 2, 0, 1, 2}, sizeof positions) == 0);
    free(from); free(few); free(to); free(before);
}

static void test_value(int n, int C)
{
    size_t size = (size_t)n * (size_t)C;
    float *h = numbers(size, 1, 1), *w = numbers((size_t)C, 2, 1), bias = 0.25f, *v = host_alloc((size_t)n, 4),
          *dv = numbers((size_t)n, 3, 1);
    float *dh = host_alloc(size, 4), *dw = numbers((size_t)C, 4, 1), dbias = 0.5f, *dw_before = copy_of(dw, (size_t)C);
    double *want = host_alloc(size, 8), *want_dw = host_alloc((size_t)C, 8), sum = 0.5;
    host_value_forward(v, h, w, &bias, n, C);
    for (int c = 0; c < C; c++) want_dw[c] = (double)dw[c];
    for (int i = 0; i < n; i++) {
        double value = (double)bias;
        for (int c = 0; c < C; c++) {
            value += (double)h[i * C + c] * (double)w[c];
            want[i * C + c] = (double)dv[i] * (double)w[c];
            want_dw[c] += (double)dv[i] * (double)h[i * C + c];
        }
        CHECK(close_to((double)v[i], value, 1.2e-7, 1e-12));         /* rounded once */
        sum += (double)dv[i];
    }
    host_value_backward(dh, dw, &dbias, dv, h, w, n, C);
    CHECK(furthest(dh, want, size) < stored(1.2e-7) && furthest(dw, want_dw, (size_t)C) < 2.4e-7 && close_to((double)dbias, sum, 1e-6, 1e-6));
    for (int threads = 2; threads <= 3; threads++) {
        float *v2 = host_alloc((size_t)n, 4), *dw2 = copy_of(dw_before, (size_t)C);
        threads_start(threads);
        host_value_forward(v2, h, w, &bias, n, C);
        host_value_backward(dh, dw2, &dbias, dv, h, w, n, C);
        threads_start(1);
        CHECK(same_bits(v, v2, (size_t)n) && same_bits(dw, dw2, (size_t)C));
        host_value_forward(v2, h + size - C, w, &bias, 1, C);
        CHECK(v2[0] == v[n - 1]);
        free(v2); free(dw2);
    }
    free(h); free(w); free(v); free(dv); free(dh); free(dw); free(dw_before); free(want); free(want_dw);
}

int main(void)
{
    struct memory memory = {0};
    ops_ready(&memory);
    test_embed(1, 1, 1, 1, true);
    test_embed(37, 5, 3, 10, true);
    test_embed(300, 67, 11, 64, false);
    test_embed(700, 130, 50, 100, true);
    test_copies();
    test_value(1, 1);
    test_value(5, 13);
    test_value(41, 1031);
    memory_close(&memory);
    return test_end("test_rows");
}
