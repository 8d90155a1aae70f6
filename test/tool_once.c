/* tool_once.c [NAME...] - the operations on tiny ragged shapes; prints, for each, a number made of all the bytes that it
 * wrote, or "nan".  For ThreadSanitizer in the CUDA simulator, which needs no more to see a race, and for orders of
 * threads and streams, which change no bit.
 * NAME: only embed, norm, qk, attention, matmul, activation, rows, loss, value, sample, optimizer. */
#include "test/numbers.h"
#include "test/on_device.h"

#include <stdio.h>

enum { N = 300, C = 37, V = 301 };      /* more rows and tokens than a block has threads */

static float *floats(size_t n, uint64_t seed)
{
    float *x = numbers(n, seed, 1), *device = device_copy_of(x, n, sizeof *x);
    free(x);
    return device;
}

static act_t *acts(size_t n, uint64_t seed)
{
    float *x = numbers(n, seed, 1);
    act_t *a = host_alloc(n, sizeof *a), *device;
    for (size_t i = 0; i < n; i++) a[i] = act_of(x[i]);
    device = device_copy_of(a, n, sizeof *a);
    free(x); free(a);
    return device;
}

/* n numbers below `below`; ascending where step is 1 */
static int *whole(int n, int step, int below)
{
    int *x = host_alloc((size_t)n, sizeof *x), *device;
    for (int i = 0; i < n; i++) x[i] = i * step % below;
    device = device_copy_of(x, (size_t)n, sizeof *x);
    free(x);
    return device;
}

static void wrote(const char *what, const void *device, size_t n, size_t size)
{
    unsigned char *bytes = host_alloc(n, size);
    uint64_t hash = 14695981039346656037u;
    bool number = true;
    from_device(bytes, device, n * size);
    for (size_t i = 0; i < n * size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    for (size_t i = 0; i < n; i++) {
        float x;
        act_t a;
        if (size == sizeof a) {
            memcpy(&a, bytes + i * size, sizeof a);
            x = act_value(a);
        } else {
            memcpy(&x, bytes + i * size, sizeof x);
        }
        number = number && !isnan(x);
    }
    if (number) printf("%s %016llx\n", what, (unsigned long long)hash);
    else printf("%s nan\n", what);
    free(bytes);
}

static void wrote_floats(const char *what, const float *x, size_t n) { wrote(what, x, n, sizeof *x); }
static void wrote_acts(const char *what, const act_t *x, size_t n) { wrote(what, x, n, sizeof *x); }

static void embed(void)
{
    act_t *x = acts(N * C, 1);
    float *table = floats(7 * C, 2), *place = floats(N * C, 3);
    int *tokens = whole(N, 3, 7), *positions = whole(N, 1, N);
    embed_forward(x, tokens, positions, table, place, N, C);
    wrote_acts("embed_forward", x, N * C);
    embed_backward(table, place, x, tokens, positions, N, C);
    wrote_floats("embed_backward", table, 7 * C);
    wrote_floats("embed_backward, places", place, N * C);
}

static void norm(void)
{
    act_t *x = acts(N * C, 1), *y = acts(N * C, 2), *dx = acts(N * C, 3);
    float *w = floats(C, 6), *b = floats(C, 7), *dw = floats(C, 8), *db = floats(C, 9);
    float *mean = floats(N, 10), *rstd = floats(N, 11);
    layernorm_forward(y, mean, rstd, x, w, b, 1e-5f, N, C);
    wrote_acts("layernorm_forward", y, N * C);
    layernorm_backward(dx, dw, db, y, x, w, mean, rstd, true, N, C);
    wrote_acts("layernorm_backward", dx, N * C);
    wrote_floats("layernorm_backward, weight", dw, C);
    wrote_floats("layernorm_backward, bias", db, C);
    rmsnorm_forward(y, rstd, x, w, 1e-5f, N, C);
    rmsnorm_backward(dx, dw, y, x, w, rstd, false, N, C);
    wrote_acts("rmsnorm_backward", dx, N * C);
    wrote_floats("rmsnorm_backward, weight", dw, C);
}

static void qk(void)
{
    enum { H = 3, G = 2, D = 20, R = 6, W = (H + 2 * G) * D };
    act_t *x = acts(N * W, 1), *y = acts(N * W, 2);
    float *w = floats(D, 3), *b = floats(D, 4), *dw = floats(D, 5), *db = floats(D, 6), *rstd = floats(N * (H + G), 7);
    double frequency[R / 2] = {1, 0.1, 0.01}, *on_device = device_copy_of(frequency, R / 2, sizeof *frequency);
    int *positions = whole(N, 1, N);
    struct rope turn = {positions, on_device, R, 1.5, ROPE_HALF}, pairs = {positions, on_device, R, 1, ROPE_PAIRS};
    qk_forward(y, rstd, x, w, b, 1e-5f, &turn, N, H, G, D);
    wrote_acts("qk_forward", y, N * W);
    qk_backward(y, dw, db, y, x, w, b, rstd, &turn, N, H, G, D);
    wrote_acts("qk_backward", y, N * W);
    wrote_floats("qk_backward, queries", dw, D);
    wrote_floats("qk_backward, keys", db, D);
    qk_forward(y, rstd, y, w, b, 1e-5f, &pairs, N, H, G, D);            /* over its input */
    qk_forward(y, NULL, y, NULL, NULL, 0, &turn, N, H, G, D);
    qk_backward(y, NULL, NULL, y, NULL, NULL, NULL, NULL, &pairs, N, H, G, D);
    wrote_acts("rope", y, N * W);
}

/* Two sequences of T and 5, trained; then the first through the cache, all but two rows at once. */
static void attend(int D, int T, int window)
{
    enum { H = 4, G = 2 };
    int n = T + 5, offsets[3] = {0, T, n};
    size_t width = (size_t)((H + 2 * G) * D), out = (size_t)(H * D);
    act_t *qkv = acts((size_t)n * width, 1), *y = acts((size_t)n * out, 2), *dy = acts((size_t)n * out, 3);
    act_t *dqkv = acts((size_t)n * width, 4), *cache = acts(attention_cache_elements(2, n, G, D), 5);
    float *lse = floats((size_t)n * H, 6), *work = floats(attention_backward_work(n, H, G, D), 7);
    float slopes[H] = {0.3f, 0.15f, 0.1f, 0.05f};
    int *from = device_copy_of(offsets, 3, sizeof *offsets), *slots = whole(n, 1, 1), *places = whole(n, 1, n);
    struct sight sight = {device_copy_of(slopes, H, sizeof *slopes), false, window};
    char name[100];
    attention_forward(y, lse, qkv, from, &sight, 2, n, H, G, D);
    attention_backward(dqkv, dy, y, lse, qkv, from, &sight, work, 2, n, H, G, D);
    snprintf(name, sizeof name, "attention, %d channels, window %d", D, window);
    wrote_acts(name, y, (size_t)n * out);
    wrote_acts("attention_backward", dqkv, (size_t)n * width);
    attention_cached(y, cache, qkv, slots, places, &sight, T - 2, H, G, D, 2, n);
    attention_cached(y, cache, qkv + (size_t)(T - 2) * width, slots, places + T - 2, &sight, 2, H, G, D, 2, n);
    wrote_acts("attention_cached", y, (size_t)(T - 2) * out);
}

static void attention(void)
{
    attend(8, 270, 0);                  /* on tensor cores where they are bfloat16: more than a segment of keys */
    attend(72, 131, 100);
    attend(136, 70, 0);
    attend(20, 70, 0);
    attend(40, 70, 33);
    attend(65, 40, 0);
    attend(260, 40, 0);
}

static void matmul(void)
{
    enum { OUT = 19, IN = 24 };
    act_t *x = acts(N * IN, 1), *y = acts(N * OUT, 2), *packed = acts(matmul_packed_elements(OUT, IN), 3);
    float *w = floats(OUT * IN, 4), *b = floats(OUT, 5);
    struct rounding rounding = {{1, 2}, 3, 4, IN, 0, {OUT, OUT, OUT}, {0, 0, 0}};
    matmul_pack(packed, w, ACT_IS_FLOAT ? NULL : &rounding, OUT, IN);
    wrote_acts("matmul_pack", packed, OUT * IN);
    matmul_forward(y, x, packed, b, y, N, OUT, IN);
    wrote_acts("matmul_forward", y, N * OUT);
    matmul_backward_weight(w, b, y, x, N, OUT, IN);
    wrote_floats("matmul_backward_weight", w, OUT * IN);
    wrote_floats("matmul_backward_weight, bias", b, OUT);
    matmul_backward_input(x, y, packed, true, N, OUT, IN);
    wrote_acts("matmul_backward_input", x, N * IN);
    printf("matmul_settle %d\n", matmul_settle(packed, true, false, x, y, N, OUT, IN));
    wrote_acts("matmul_settle", y, N * OUT);
}

static void activations(void)
{
    act_t *x = acts(2 * N * C, 1), *y = acts(N * C, 2), *dx = acts(2 * N * C, 3);
    for (enum activation kind = ACTIVATION_GELU; kind <= ACTIVATION_SWIGLU; kind++) {
        activation_forward(y, x, kind, N, C);
        activation_backward(dx, y, x, kind, N, C);
        wrote_acts("activation_forward", y, N * C);
        wrote_acts("activation_backward", dx, N * C);
    }
}

static void rows(void)
{
    enum { n = 100 };
    act_t *few = acts(n * C, 1), *all = acts(N * C, 2);
    int *third = whole(n, 3, N), *positions = whole(N, 1, N), offsets[4] = {0, 1, 260, N};
    rows_gather(few, all, third, n, C);
    acts_add(few, few, few, n * C);
    acts_sum(few, all, 3, n * C);
    rows_scatter(all, few, third, n, C);
    wrote_acts("rows", all, N * C);
    positions_fill(positions, device_copy_of(offsets, 4, sizeof *offsets), 3, N);
    wrote("positions_fill", positions, N, sizeof *positions);
}

static void gathered(void *self, size_t bytes) { (void)self, (void)bytes; }

static void loss(void)
{
    enum { n = 7, IN = 8 };
    struct token_part none[2 * n] = {0};
    struct token_parts parts = {0, 2, V - 10, device_copy_of(none, 2 * n, sizeof *none), gathered, NULL};
    act_t *h = acts(n * IN, 1), *dh = acts(n * IN, 2), *packed = acts(matmul_packed_elements(V, IN), 3);
    float *dw = floats(V * IN, 4), *db = floats(V, 5);
    float *logprobs = floats(n, 6), *entropy = floats(n, 7), *losses = floats(n, 8);
    float *work = floats(token_loss_work(n, IN, V), 9);
    int *targets = whole(n, 41, V - 10);
    for (enum token_loss_kind kind = LOSS_CROSS_ENTROPY; kind <= LOSS_POLICY; kind++) {
        struct token_loss l = {kind, 0.9f, 0.1f, floats(n, 10), floats(n, 11), 0.2f, 0.3f, 3, 0.01f, floats(V, 12), db,
                               kind == LOSS_POLICY ? &parts : NULL};
        token_loss(logprobs, entropy, losses, dh, dw, h, targets, packed, &l, work, n, IN, V);
        wrote_floats("token_loss", losses, n);
        wrote_acts("token_loss, gradient", dh, n * IN);
        wrote_floats("token_loss, weight", dw, V * IN);
        wrote_floats("token_loss, bias", db, V);
    }
}

static void value(void)
{
    act_t *h = acts(N * C, 1), *dh = acts(N * C, 5);
    float *w = floats(C, 2), *b = floats(1, 3), *v = floats(N, 4);
    value_forward(v, h, w, b, N, C);
    value_backward(dh, w, b, v, h, w, N, C);
    wrote_floats("value", v, N);
    wrote_floats("value_backward", w, C);
    wrote_acts("value_backward, rows", dh, N * C);
}

static void sample(void)
{
    struct sampling s[] = {{1, 1, 0, 0, 0}, {0, 1, 0, 0, 0}, {0.7f, 0.8f, 0, 9, 0}, {1, 1, 0.1f, 0, 290},
                           {0, 1, 0, 0, 5}};
    enum { n = sizeof s / sizeof s[0] };
    double uniform[n] = {0.1, 0.5, 0.9, 0.3, 0.7};
    float *logits = floats(n * V, 1), *logprobs = floats(n, 2);
    int *tokens = whole(n, 1, n);
    double *drawn = device_copy_of(uniform, n, sizeof *uniform);
    sample_rows(tokens, logprobs, logits, drawn, device_copy_of(s, n, sizeof *s), n, V, 200);
    wrote("sample_rows", tokens, n, sizeof *tokens);
    wrote_floats("sample_rows, logprobs", logprobs, n);
}

static void optimizer(void)
{
    enum { n = SQUARES_BLOCK + 777 };
    struct adamw a = {0.1f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.5f, 0.5f, 2};
    float *p = floats(n, 1), *g = floats(n, 2), *m = floats(n, 3), *v = floats(n, 4);
    double sums[2];
    sum_squares(sums, g, n);
    printf("sum_squares %.17g %.17g\n", sums[0], sums[1]);
    fill(v, 0.5f, n);
    adamw_update(p, g, m, v, n, &a);
    ema_update(m, p, 0.9f, n);
    add(m, v, n);
    wrote_floats("adamw_update", p, n);
    wrote_floats("ema_update, add", m, n);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } parts[] = {
        {"embed", embed}, {"norm", norm}, {"qk", qk}, {"attention", attention}, {"matmul", matmul},
        {"activation", activations}, {"rows", rows}, {"loss", loss}, {"value", value}, {"sample", sample},
        {"optimizer", optimizer}};
    struct memory memory = {0};
    ops_ready(&memory);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++) wanted = wanted || strcmp(argv[k], parts[i].name) == 0;
        if (wanted) parts[i].run();
    }
    return 0;
}
