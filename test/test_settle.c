/* test_settle.c - products whose rows do not depend on their number, where the backend has to look for them: a row has
 * the same bits in every batch, and a model that samples gives the bits of its training forward, hidden rows and
 * log-probabilities.  In the simulator also: what cuBLASLt offers decides what is found. */
#include "common/base/threads.h"
#include "common/model/sample.h"
#include "test/host_ops.h"
#include "test/test.h"
#include "test/tiny.h"

enum { ROWS = 45, SEQUENCES = 3, NEW = 5, LONG = 19 };

/* What the simulator's cuBLASLt has from now on (test/cudasim/sim.h). */
static void offer(const char *products) { setenv("CUDASIM_PRODUCTS", products, 1); }

struct operands { int out, in; act_t *packed, *x, *y; float *logits, *bias; };

static act_t *device_acts(size_t n, uint64_t seed)
{
    float *x = numbers(n, seed, 1);
    act_t *a = host_alloc(n, sizeof *a), *device;
    for (size_t i = 0; i < n; i++) a[i] = act_of(x[i]);
    device = device_copy_of(a, n, sizeof *a);
    free(x);
    free(a);
    return device;
}

static struct operands operands_open(int out, int in)
{
    struct operands o = {.out = out, .in = in};
    float *weight = numbers((size_t)out * (size_t)in, 1, 1), *bias = numbers((size_t)out, 2, 1),
          *device = device_copy_of(weight, (size_t)out * (size_t)in, sizeof *weight);
    o.packed = device_alloc(matmul_packed_elements(out, in) * sizeof *o.packed);
    matmul_pack(o.packed, device, NULL, out, in);
    o.bias = device_copy_of(bias, (size_t)out, sizeof *bias);
    o.x = device_acts((size_t)ROWS * (size_t)in, 3);
    o.y = device_acts((size_t)ROWS * (size_t)out, 4);
    o.logits = device_alloc(token_loss_work(ROWS, in, out) * sizeof(float));
    device_free(device, (size_t)out * (size_t)in * sizeof *weight);
    free(weight);
    free(bias);
    return o;
}

static void operands_close(struct operands *o)
{
    device_free(o->packed, matmul_packed_elements(o->out, o->in) * sizeof *o->packed);
    device_free(o->x, (size_t)(ROWS * o->in) * sizeof *o->x);
    device_free(o->y, (size_t)(ROWS * o->out) * sizeof *o->y);
    device_free(o->logits, token_loss_work(ROWS, o->in, o->out) * sizeof *o->logits);
    device_free(o->bias, (size_t)o->out * sizeof *o->bias);
}

static bool settle(const struct operands *o, bool bias, bool logits)
{
    act_t *x = device_acts((size_t)ROWS * (size_t)o->in, 5), *y = device_acts((size_t)ROWS * (size_t)o->out, 6);
    bool found = matmul_settle(o->packed, bias, logits, x, logits ? (void *)o->logits : y, ROWS, o->out, o->in);
    device_free(x, (size_t)(ROWS * o->in) * sizeof *x);
    device_free(y, (size_t)(ROWS * o->out) * sizeof *y);
    return found;
}

/* Rows first .. first + n - 1 of x as a batch of their own. */
static float *multiply(const struct operands *o, bool bias, bool logits, int first, int n)
{
    const act_t *x = o->x + first * o->in;
    size_t count = (size_t)(n * o->out);
    if (!logits) matmul_forward(o->y, x, o->packed, bias ? o->bias : NULL, NULL, n, o->out, o->in);
    else logits_forward(o->logits, x, o->packed, bias ? o->bias : NULL, n, o->out, o->in);
    return logits ? host_copy(o->logits, count) : host_acts(o->y, count);
}

static bool rows_agree(const struct operands *o, bool bias, bool logits)
{
    float *all = multiply(o, bias, logits, 0, ROWS);
    bool agree = true;
    for (int n = 1; n < ROWS; n += 1 + n / 4)
        for (int first = 0; first <= ROWS - n; first += int_max(n, 11)) {
            float *part = multiply(o, bias, logits, first, n);
            agree = agree && memcmp(part, all + first * o->out, (size_t)(n * o->out) * sizeof *part) == 0;
            free(part);
        }
    free(all);
    return agree;
}

/* Every shape twice: the second answer takes the place of the first. */
static void test_products(void)
{
    static const int shapes[][2] = {{48, 64}, {37, 51}, {130, 40}};
    static const struct { const char *offered; bool found; } modes[] = {{"shape", true}, {"bad", false},
                                                                        {"late", true}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < 3; kind++) {
            struct operands o = operands_open(shapes[s][0], shapes[s][1]);
            bool bias = kind == 1, logits = kind == 2;
            for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
                offer(modes[i].offered);
                bool found = settle(&o, bias, logits), agree = rows_agree(&o, bias, logits);
                test_check(is_simulated() ? found == modes[i].found : found || !sampling_is_exact(), __FILE__, __LINE__,
                           "(%d,%d), kind %d, %s: found %d", o.out, o.in, kind, modes[i].offered, found);
                test_check(agree || !found, __FILE__, __LINE__, "(%d,%d), kind %d, %s: rows differ", o.out, o.in, kind,
                           modes[i].offered);
                if (logits && is_simulated() && !found)            /* the simulator shows it: float32 hides nothing */
                    CHECK(!agree);
            }
            operands_close(&o);
        }
}

/* Products are again what they were. */
static void test_unsettled(void)
{
    struct operands o = operands_open(48, 64);
    offer("shape");
    CHECK(settle(&o, false, true) || !sampling_is_exact());
    matmul_unsettle();
    if (is_simulated()) CHECK(!rows_agree(&o, false, true));
    operands_close(&o);
}

/* ---- a model ---- */

static const int lengths[SEQUENCES] = {4, 9, 1};

/* Hidden rows of sequences that are decoded side by side, each as far as it goes: some rows of the first, then one row
 * of each, from those of the packed forward. */
static bool decoding_agrees(struct tiny *t, const struct batch *b, const float *packed)
{
    int C = config_embed_width(&t->m.config), fed[SEQUENCES] = {0}, tokens[ROWS], slots[ROWS], positions[ROWS];
    bool agree = true;
    for (int step = 0; step < LONG; step++) {
        int n = 0, rows[ROWS];
        for (int s = 0; s < SEQUENCES; s++)
            for (int k = step == 0 && s == 1 ? 3 : 1; k > 0 && fed[s] < b->offsets[s + 1] - b->offsets[s]; k--, n++) {
                rows[n] = b->offsets[s] + fed[s];
                tokens[n] = b->tokens[rows[n]];
                slots[n] = SEQUENCES - 1 - s;
                positions[n] = fed[s]++;
            }
        if (n == 0) break;
        model_decode(&t->m, tokens, slots, positions, n);
        float *hidden = host_acts(t->m.hidden, (size_t)(n * C));
        for (int i = 0; i < n; i++) agree = agree && same_bits(hidden + i * C, packed + rows[i] * C, (size_t)C);
        free(hidden);
    }
    return agree;
}

/* Samples, read whole in one batch by the model as it is trained, have their log-probabilities. */
static bool sampling_agrees(struct tiny *t)
{
    struct sample sample[SEQUENCES];
    int prompt[LONG], tokens[SEQUENCES][NEW], all[SEQUENCES * LONG], targets[SEQUENCES * LONG];
    int offsets[SEQUENCES + 1] = {0};
    float drawn[SEQUENCES][NEW], logprobs[SEQUENCES * NEW];
    uint8_t mask[SEQUENCES * LONG];
    struct sample_settings how = {.sampling = {.temperature = 0.8f, .top_p = 1}, .stream = RNG_ROLLOUT, .seed = 3};
    struct token_loss loss = {.kind = LOSS_LOGPROBS, .temperature = 0.8f};
    int n = 0;
    for (int i = 0; i < LONG; i++) prompt[i] = (7 * i + 2) % t->m.config.vocab;
    for (int s = 0; s < SEQUENCES; s++)
        sample[s] = (struct sample){.prompt = prompt + s, .n_prompt = lengths[s], .index = (uint64_t)s, .most = NEW,
                                    .tokens = tokens[s], .logprobs = drawn[s]};
    sample_run(&t->m, sample, SEQUENCES, &how, NULL, NULL);
    for (int s = 0; s < SEQUENCES; s++) {
        for (int k = 0; k < lengths[s] + NEW - 1; k++, n++) {
            all[n] = k < lengths[s] ? prompt[s + k] : tokens[s][k - lengths[s]];
            targets[n] = k + 1 < lengths[s] ? 0 : tokens[s][k + 1 - lengths[s]];
            mask[n] = k + 1 >= lengths[s];
        }
        offsets[s + 1] = n;
    }
    struct batch b = {n, SEQUENCES, all, targets, mask, offsets};
    model_forward(&t->m, &b, true);
    int counted = model_token_loss(&t->m, &b, &loss, logprobs, NULL, NULL, false);
    return counted == SEQUENCES * NEW && same_bits(logprobs, drawn[0], SEQUENCES * NEW);
}

static void test_model(int setting)
{
    struct model_use use = {.train = true, .max_tokens = ROWS, .max_sequences = SEQUENCES, .cache_slots = SEQUENCES,
                            .logits_rows = 2};
    const char *name;
    struct config c = tiny_config(setting, &name);
    struct tiny t;
    struct error error = {0};
    use.cache_capacity = c.context;
    if (c.head == HEAD_SCALAR) return;
    offer("shape");
    tiny_open(&t, &c, &use, 4);
    bool found = model_settle(&t.m, &error) == 0;
    test_check(found || !(is_simulated() || sampling_is_exact()), __FILE__, __LINE__, "%s: %s", name, error.text);
    struct batch b = tiny_batch(lengths, SEQUENCES, c.vocab, 5);
    model_forward(&t.m, &b, true);
    float *packed = host_acts(t.m.hidden, (size_t)(b.N * config_embed_width(&c)));
    bool decoding = decoding_agrees(&t, &b, packed), sampling = sampling_agrees(&t);
    test_check((decoding && sampling) || !found, __FILE__, __LINE__, "%s: decoding %d sampling %d", name, decoding,
               sampling);
    free(packed);
    tiny_batch_free(&b);
    tiny_close(&t);
}

static void test_refusal(void)
{
    struct model_use use = {.max_tokens = 3 * ROWS, .max_sequences = 1};        /* bfloat16 hides most differences */
    struct config c = tiny_config(1, NULL);
    struct tiny t;
    struct error error = {0};
    offer("bad");
    tiny_open(&t, &c, &use, 4);
    int status = model_settle(&t.m, &error);
    if (is_simulated()) CHECK(status == -1 && strstr(error.text, "qkv (48,24)"));
    else CHECK(status == 0 || !sampling_is_exact());
    tiny_close(&t);
}

int main(void)
{
    struct memory memory = {0};
    threads_start(2);
    ops_ready(&memory);
    test_products();
    test_unsettled();
    memory_close(&memory);
    for (int i = 0; i < TINY_SETTINGS; i += is_simulated() ? 1 + i % 4 : 1) test_model(i);
    test_refusal();
    return test_end("test_settle");
}
