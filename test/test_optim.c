/* Schedules, AdamW, averages and the gradient norm: worked numbers and a double reference, bits on 1, 2 and 3
 * threads. */
#include "common/train/optim.h"
#include "test/numbers.h"
#include "test/host_ops.h"
#include "test/test.h"
#include "test/tiny.h"

static void test_schedules(void)
{
    struct schedule_options s = {.kind = SCHEDULE_COSINE, .lr = 1, .min_lr = 0.1, .total = 5};
    static const double cosine[5] = {1.0, 0.868198052, 0.55, 0.231801948, 0.1}, linear[5] = {1, 0.75, 0.5, 0.25, 0};
    for (int i = 0; i < 5; i++) CHECK(close_to(schedule_lr(&s, i), cosine[i], 0, 1e-9));
    CHECK(close_to(schedule_lr(&s, 1000), 0.1, 0, 1e-12));
    s.kind = SCHEDULE_LINEAR;
    s.min_lr = 0;
    for (int i = 0; i < 5; i++) CHECK(close_to(schedule_lr(&s, i), linear[i], 0, 1e-12));
    s.kind = SCHEDULE_CONSTANT;
    s.lr = 3e-4;
    s.warmup = 10;
    s.total = 100;
    for (int i = 0; i < 100; i++) CHECK(close_to(schedule_lr(&s, i), 3e-4 * fmin(1, (i + 1) / 10.0), 1e-12, 0));
    s.kind = SCHEDULE_COSINE;
    s.min_lr = 3e-5;
    CHECK(close_to(schedule_lr(&s, 0), 3e-5, 1e-12, 0) && close_to(schedule_lr(&s, 10), 3e-4, 1e-12, 0));
    CHECK(close_to(schedule_lr(&s, 99), 3e-5, 1e-12, 0));
    s.kind = SCHEDULE_WSD;
    s.decay_share = 0.2;
    for (int i = 10; i <= 80; i++) CHECK(schedule_lr(&s, i) == 3e-4);
    for (int i = 80; i < 100; i++) CHECK(close_to(schedule_lr(&s, i), 3e-4 - 2.7e-4 * (i - 80) / 19, 1e-12, 0));
    s.warmup = 0;
    s.total = 5;                                 /* a fifth of five steps: the last one is at the floor */
    CHECK(schedule_lr(&s, 3) == 3e-4 && close_to(schedule_lr(&s, 4), 3e-5, 1e-12, 0));
    for (int kind = 0; kind < 4; kind++) {       /* the shortest runs */
        s.kind = (enum schedule)kind;
        s.warmup = 0;
        s.total = 1;
        CHECK(schedule_lr(&s, 0) <= 3e-4 && schedule_lr(&s, 0) >= 3e-5);
        s.warmup = 5;
        CHECK(schedule_lr(&s, 4) == 3e-4);
    }
}

static struct adamw settings(double beta1, double beta2, double eps, double decay, int t)
{
    return (struct adamw){.lr = 1e-3f, .beta1 = (float)beta1, .beta2 = (float)beta2, .eps = (float)eps, .decay = (float)decay,
                          .correction1 = (float)(1 - pow(beta1, t)), .correction2 = (float)(1 - pow(beta2, t)), .grad_scale = 1};
}

/* Step sizes of a constant gradient, eps outside the root and after the correction. */
static void test_worked_steps(void)
{
    static const double row[3][2] = {{1e-6, 1e-5}, {1e-6, 1e-8}, {0.01, 1e-5}};
    static const double want[3] = {9.090909091e-05, 9.900990099e-04, 9.990009990e-04};
    for (int i = 0; i < 3; i++) {
        float m = 0, v = 0;
        for (int t = 1; t <= 3; t++) {
            float param = 0, grad = (float)row[i][0];
            struct adamw a = settings(0.9, 0.999, row[i][1], 0, t);
            host_adamw_update(&param, &grad, &m, &v, 1, &a);
            CHECK(close_to(-(double)param, want[i], 1e-4, 0) && grad == 0);      /* 1 - 0.999 in float is exact to 5e-5 */
        }
    }
    float param[2] = {0, 0}, grad[2] = {3, -1e-12f}, m[2] = {0}, v[2] = {0};
    struct adamw a = settings(0.9, 0.999, 0, 0, 1);      /* no eps: the first step is lr times the sign */
    host_adamw_update(param, grad, m, v, 2, &a);
    CHECK(close_to((double)param[0], -1e-3, 1e-4, 0) && close_to((double)param[1], 1e-3, 1e-4, 0));
}

static void test_against_double(size_t n)
{
    float *param = numbers(n, 1, 1), *m = host_alloc(n, 4), *v = host_alloc(n, 4), *first = copy_of(param, n);
    double *p = host_alloc(n, 8), *dm = host_alloc(n, 8), *dv = host_alloc(n, 8);
    for (size_t i = 0; i < n; i++) p[i] = (double)param[i];
    for (int t = 1; t <= 5; t++) {
        float *grad = numbers(n, (uint64_t)t + 50, 1);
        struct adamw a = settings(0.9, 0.95, 1e-8, 0.1, t);
        a.grad_scale = 0.5f;
        for (size_t i = 0; i < n; i++) {
            double g = 0.5 * (double)grad[i];
            dm[i] = 0.9 * dm[i] + 0.1 * g;
            dv[i] = 0.95 * dv[i] + 0.05 * g * g;
            p[i] -= 1e-3 * (dm[i] / (1 - pow(0.9, t)) / (sqrt(dv[i] / (1 - pow(0.95, t))) + 1e-8) + 0.1 * p[i]);
        }
        host_adamw_update(param, grad, m, v, n, &a);
        bool cleared = true;
        for (size_t i = 0; i < n; i++) cleared = cleared && grad[i] == 0;
        CHECK(cleared);
        free(grad);
    }
    test_error("AdamW", furthest(param, p, n));
    CHECK(furthest(param, p, n) < 1e-6 && furthest(m, dm, n) < 1e-6 && furthest(v, dv, n) < 1e-6);
    for (int threads = 2; threads <= 3; threads++) {
        float *param2 = copy_of(first, n), *m2 = host_alloc(n, 4), *v2 = host_alloc(n, 4);
        threads_start(threads);
        for (int t = 1; t <= 5; t++) {
            float *grad = numbers(n, (uint64_t)t + 50, 1);
            struct adamw a = settings(0.9, 0.95, 1e-8, 0.1, t);
            a.grad_scale = 0.5f;
            host_adamw_update(param2, grad, m2, v2, n, &a);
            free(grad);
        }
        threads_start(1);
        CHECK(same_bits(param, param2, n) && same_bits(m, m2, n) && same_bits(v, v2, n));
        free(param2); free(m2); free(v2);
    }
    free(param); free(m); free(v); free(first); free(p); free(dm); free(dv);
}

static void test_streams(size_t n)
{
    float *x = numbers(n, 1, 1), *average = numbers(n, 2, 1), *y = copy_of(average, n);
    double sum = 0, *want = host_alloc(n, 8);
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    double squares = host_sum_squares(x, n);
    CHECK(close_to(squares, sum, 1e-12, 0));
    threads_start(3);
    CHECK(host_sum_squares(x, n) == squares);
    threads_start(1);
    host_ema_update(y, x, 0, n);
    CHECK(same_bits(y, x, n));
    memcpy(y, average, n * 4);
    host_ema_update(y, x, 0.75f, n);
    for (size_t i = 0; i < n; i++) want[i] = 0.75 * (double)average[i] + 0.25 * (double)x[i];
    CHECK(furthest(y, want, n) < 2e-7);
    memcpy(y, x, n * 4);
    for (int i = 0; i < 50; i++) host_ema_update(y, x, 0.875f, n);
    CHECK(same_bits(y, x, n));       /* constant weights: a fixed point */
    host_add(y, average, n);
    for (size_t i = 0; i < n; i++) want[i] = x[i] + average[i];          /* one rounding */
    CHECK(furthest(y, want, n) == 0);
    host_fill(y, -3, n);
    for (size_t i = 0; i < n; i++) want[i] = -3;
    CHECK(furthest(y, want, n) == 0);
    x[n / 2] = NAN;
    CHECK(!isfinite(host_sum_squares(x, n)));
    x[n / 2] = INFINITY;
    CHECK(!isfinite(host_sum_squares(x, n)));
    free(x); free(average); free(y); free(want);
}

/* A whole model: decay where the list says so, gaps untouched, packed forms and averages made anew. */
static void test_model_step(void)
{
    struct config c;
    struct memory memory = {0};
    struct model m = {0};
    CHECK(config_preset(&c, "gpt2", NULL) == 0);
    c.layers = 1; c.channels = 12; c.heads = c.kv_heads = 2; c.head_dim = 6; c.ffn = 20; c.vocab = 31; c.context = 9;
    struct model_use use = {.train = true, .max_tokens = 8, .max_sequences = 2, .ema = true};
    for (int pass = 0; pass < 2; pass++) {
        ops_open(&memory);
        model_open(&m, &c, &use, &memory);
        if (pass == 0) CHECK(memory_open(&memory, NULL) == 0);
    }
    params_init(&m.params, &c, 1);
    fill(m.params.layer[0].out.bias, 1, 12);
    struct layer_params *p = &m.params.layer[0];
    float weight = number_at(p->up.weight + 3), norm = number_at(p->norm1.weight), embed = number_at(m.params.embed);
    set_number(m.grads.layer[0].out.bias + 4, 3);
    set_number(m.grads.embed + 2, 4);
    CHECK(close_to(gradient_norm(&m), 5, 1e-12, 0));
    float before = number_at(p->out.bias + 4);
    struct adamw_options o = {0.9, 0.999, 1e-8, 0.1};
    adamw_step(&m, &o, 1, 1e-2, 0.5, 0.25);
    CHECK(gradient_norm(&m) == 0);
    CHECK(close_to((double)number_at(p->up.weight + 3), (double)weight * (1 - 1e-3), 1e-6, 0));      /* only decay */
    CHECK(number_at(p->norm1.weight) == norm && number_at(m.params.embed) == embed && number_at(p->out.bias) == 1);
    CHECK(close_to((double)number_at(p->out.bias + 4), (double)before - 1e-2, 1e-5, 0));
    CHECK(close_to((double)number_at(m.m + (p->out.bias + 4 - m.params.all)), 0.15, 1e-6, 0));
    CHECK(close_to((double)number_at(m.ema + (p->out.bias + 4 - m.params.all)), 0.75 * (double)number_at(p->out.bias + 4), 1e-6, 0));
    act_t x[12] = {act_of(1)};
    float want[20];
    act_t *on = device_copy_of(x, 12, sizeof *x), *y = device_alloc(20 * sizeof *y);
    matmul_forward(y, on, p->up.packed, NULL, NULL, 1, 20, 12);
    for (int i = 0; i < 20; i++) want[i] = act_rounded(number_at(p->up.weight + i * 12));
    CHECK(same_acts(want, y, 20));
    device_free(on, sizeof x);
    device_free(y, 20 * sizeof *y);
    set_number(m.grads.embed + 7, NAN);
    CHECK(!isfinite(gradient_norm(&m)));
    model_close(&m);
    memory_close(&memory);
}

static bool is_in_layer(const char *name) { return strncmp(name, "blk.", 4) == 0; }

/* A frozen parameter has no part in the norm and keeps its bits, however large its gradient; moments stay 0. */
static void test_frozen(void)
{
    struct config c = tiny_config(1, NULL);
    struct model_use use = {.train = true, .max_tokens = 32, .max_sequences = 4, .frozen = is_in_layer};
    struct tiny t;
    tiny_open(&t, &c, &use, 1);
    size_t n = t.m.params.count, bytes = n * sizeof(float), embed = (size_t)c.vocab * (size_t)c.channels;
    float *before = host_alloc(n, sizeof *before), *after = host_alloc(n, sizeof *after), *zero = host_alloc(n, sizeof *zero);
    from_device(before, t.m.params.all, bytes);
    fill(t.m.grads.layer[1].up.weight, 1e6f, 5);
    fill(t.m.grads.embed, 0.5f, 4);
    CHECK(close_to(gradient_norm(&t.m), 1, 1e-12, 0));
    fill(t.m.grads.layer[0].qkv.weight, NAN, 1);
    CHECK(close_to(gradient_norm(&t.m), 1, 1e-12, 0));
    adamw_step(&t.m, &(struct adamw_options){0.9, 0.999, 1e-8, 0.1}, 1, 1e-2, 1, 0);
    from_device(after, t.m.params.all, bytes);
    size_t first = (size_t)(t.m.params.layer[0].norm1.weight - t.m.params.all),
           last = (size_t)(t.m.params.final_norm.weight - t.m.params.all);
    CHECK(memcmp(before + first, after + first, (last - first) * sizeof(float)) == 0);
    CHECK(memcmp(before, after, embed * sizeof(float)) != 0);
    from_device(after, t.m.v, bytes);
    CHECK(memcmp(after + first, zero, (last - first) * sizeof(float)) == 0 && after[0] > 0);
    free(before); free(after); free(zero);
    tiny_close(&t);
}

/* More numbers than are under way at once: updated on the host, and on the device. */
static void test_pieces(size_t n)
{
    size_t bytes = n * sizeof(float);
    float *x = numbers(n, 1, 1), *got[2] = {host_alloc(n, sizeof(float)), host_alloc(n, sizeof(float))};
    float *grad = device_alloc(bytes), *p[2][3];
    for (int i = 0; i < 3; i++) {
        p[0][i] = device_alloc(bytes);
        p[1][i] = device_alloc_host(bytes);
    }
    for (int k = 0; k < 2; k++) {
        to_device(p[k][0], x, bytes);
        for (int t = 1; t <= 2; t++) {
            struct adamw a = settings(0.9, 0.95, 1e-8, 0.1, t);
            float *g = numbers(n, (uint64_t)t + 7, 1);
            to_device(grad, g, bytes);
            (k ? adamw_offloaded : adamw_update)(p[k][0], grad, p[k][1], p[k][2], n, &a);
            from_device(g, grad, bytes);
            bool cleared = true;
            for (size_t i = 0; i < n; i++) cleared = cleared && g[i] == 0;
            CHECK(cleared);
            free(g);
        }
    }
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 2; k++) from_device(got[k], p[k][i], bytes);
        CHECK(same_bits(got[0], got[1], n));
        device_free(p[0][i], bytes);
        device_free_host(p[1][i], bytes);
    }
    device_free(grad, bytes);
    free(x); free(got[0]); free(got[1]);
}

/* Three updates of a model whose weights, moments and averages lie apart in the host's memory: the bits of one on the device. */
static void test_offload(void)
{
    struct config c = tiny_config(1, NULL);
    int tokens[] = {1, 2, 3, 4, 5, 6, 7}, offsets[] = {0, 3, 7};
    struct batch b = {.N = 7, .S = 2, .tokens = tokens, .offsets = offsets};
    float *kept[2][4] = {{0}};
    act_t *hidden[2];
    size_t n = 0, acts = 7 * (size_t)c.channels;
    for (int offload = 0; offload < 2; offload++) {
        struct memory memory = {0};
        struct model m = {0};
        struct model_use use = {.train = true, .max_tokens = 8, .max_sequences = 2, .ema = true, .offload = offload};
        for (int pass = 0; pass < 2; pass++) {
            ops_open(&memory);
            model_open(&m, &c, &use, &memory);
            if (pass == 0) CHECK(memory_open(&memory, NULL) == 0);
        }
        n = m.params.count;
        CHECK((memory_bytes(&memory, MEMORY_OFFLOADED) >= 16 * n) == offload);
        CHECK((memory_bytes(&memory, MEMORY_MOMENTS) == 0) == offload);
        weights_init(&m, 5);
        weights_gather(&m);
        for (int t = 1; t <= 3; t++) {
            float *grad = numbers(m.grads.count, (uint64_t)t, 1);
            for (size_t i = m.params.floats; i < m.grads.count; i++) grad[i] = 0;
            to_device(m.grads.all, grad, m.grads.count * sizeof *grad);
            adamw_step(&m, &(struct adamw_options){0.9, 0.95, 1e-8, 0.1}, t, 1e-2, 0.5, 0.25);
            CHECK(number_at(m.grads.embed) == 0);
            free(grad);
        }
        float *from[4] = {m.own, m.m, m.v, m.ema};
        for (int i = 0; i < 4; i++) {
            kept[offload][i] = host_alloc(n, sizeof **kept[offload]);
            device_get(kept[offload][i], from[i], n * sizeof(float));
        }
        hidden[offload] = host_alloc(acts, sizeof *hidden[offload]);
        model_forward(&m, &b, false);
        device_get(hidden[offload], m.hidden, acts * sizeof *hidden[offload]);
        device_wait();
        model_close(&m);
        memory_close(&memory);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(same_bits(kept[0][i], kept[1][i], n));
        free(kept[0][i]);
        free(kept[1][i]);
    }
    CHECK(memcmp(hidden[0], hidden[1], acts * sizeof *hidden[0]) == 0);
    free(hidden[0]);
    free(hidden[1]);
}

int main(void)
{
    struct memory memory = {0};
    threads_start(1);
    ops_ready(&memory);
    test_schedules();
    test_worked_steps();
    test_against_double(1);
    test_against_double(1009);
    test_against_double(40961);
    test_streams(1);
    test_streams(37);
    test_streams(100003);
    test_streams(5000011);
    memory_close(&memory);
    test_model_step();
    test_frozen();
    test_offload();
    test_pieces(2500001);
    return test_end("test_optim");
}
