/* test_config.c - presets, the CONF section, counts of parameters, and the one list of parameters. */
#include "test/test.h"
#include "test/on_device.h"
#include "common/model/model.h"
#include "common/base/threads.h"
#include "format/kv.h"

static struct config small(const char *preset)
{
    struct config c;
    CHECK(config_preset(&c, preset, NULL) == 0);
    c.layers = 3; c.channels = 24; c.heads = 4; c.kv_heads = 2; c.head_dim = 6; c.ffn = 40; c.vocab = 50; c.context = 16;
    return c;
}

static void test_presets(void)
{
    struct config c;
    struct error e;
    CHECK(config_preset(&c, "gpt2", &e) == 0 && config_check(&c, &e) == 0);
    CHECK(config_parameters(&c) == 124439808);          /* GPT-2 small, as published */
    CHECK(config_matmul_parameters(&c) == 123532032);
    CHECK(config_preset(&c, "llama", &e) == 0 && config_check(&c, &e) == 0);
    /* published counts; of gpt3-1.3b, whose table has heads that do not divide its width, there is none */
    static const struct { const char *name; double parameters, error; } published[] = {
        {"gpt3-125m", 125e6, 0.01}, {"gpt3-350m", 356e6, 0.01}, {"gpt3-760m", 760e6, 0.01}, {"gpt3-2.7b", 2.65e9, 0.01},
        {"gpt3-6.7b", 6.66e9, 0.01}, {"gpt3-13b", 12.85e9, 0.01}, {"gpt3-175b", 174.6e9, 0.001},
        {"llama3-8b", 8030261248, 0}, {"llama3-70b", 70553706496, 0}, {"llama3-405b", 405853388800, 0},
        {"bloom-176b", 176247271424, 0}, {"opt-175b", 174.6e9, 0.01},
        {"opt-125m", 125239296 - 2 * 768, 0}, {"opt-350m", 331196416 - 2 * 1024, 0},      /* two rows of its positions are never read */
        {"falcon-7b", 6921720704, 0}, {"gptj-6b", 6050882784, 0}, {"falcon-40b", 41.3e9, 0.005}, {"pythia-160m", 162322944, 0},
        {"pythia-1.4b", 1414647808, 0}, {"pythia-6.9b", 6857302016, 0}, {"mistral-7b", 7241732096, 0},
        {"qwen3-0.6b", 596049920, 0}, {"qwen3-8b", 8190735360, 0}, {"glm4-9b", 9400279040, 0},
        {"baichuan-7b", 7000559616, 0}, {"baichuan-13b", 13264901120, 0}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        CHECK(config_preset(&c, published[i].name, &e) == 0 && config_check(&c, &e) == 0);
        CHECK(close_to((double)config_parameters(&c), published[i].parameters, published[i].error, 0));
    }
    CHECK(config_preset(&c, "llama", &e) == 0 && c.heads == 12);
    CHECK(config_preset(&c, "lama", &e) == -1 && e.exit_code == EXIT_USAGE && strstr(e.text, "'lama'"));
    c.kv_heads = 5;
    CHECK(config_check(&c, &e) == -1 && strstr(e.text, "12 query heads"));
    c.kv_heads = 12; c.norm_bias = true;
    CHECK(config_check(&c, &e) == -1 && strstr(e.text, "rmsnorm"));
    c.norm_bias = false; c.layers = 0;
    CHECK(config_check(&c, &e) == -1 && strstr(e.text, "n_layer"));
    c.layers = 1; c.norm_eps = NAN;
    CHECK(config_check(&c, &e) == -1 && strstr(e.text, "norm_eps"));
}

static void test_conf(void)
{
    struct config a = small("llama"), b = {0};
    struct error e;
    struct kv kv = {0};
    a.position = POSITION_ALIBI; a.activation = ACTIVATION_RELU; a.rope_fraction = 0.25; a.qk_norm = true; a.head = HEAD_SCALAR;
    a.score_mean = -1.5; a.score_std = 2.5; a.tied = false;
    config_write(&a, &kv);
    CHECK(config_read(&b, &kv, &e) == 0 && memcmp(a.family, b.family, sizeof a.family) == 0);
    CHECK(b.position == POSITION_ALIBI && b.activation == ACTIVATION_RELU && b.rope_fraction == 0.25 && b.qk_norm && !b.tied);
    CHECK(b.head == HEAD_SCALAR && b.score_mean == -1.5 && b.score_std == 2.5 && b.layers == 3 && b.kv_heads == 2);
    kv_set_bool(&kv, "x.note", true);
    CHECK(config_read(&b, &kv, &e) == 0);
    kv_set_f64(&kv, "attn.window", 3);
    CHECK(config_read(&b, &kv, &e) == -1 && strstr(e.text, "attn.window") && e.exit_code == EXIT_DATA);
    kv_free(&kv);
    config_write(&a, &kv);
    kv_set_text(&kv, "act", "tanh");
    CHECK(config_read(&b, &kv, &e) == -1 && strstr(e.text, "'tanh'"));
    kv_set_text(&kv, "act", "gelu");
    kv_set_u64(&kv, "n_layer", 1u << 30);
    CHECK(config_read(&b, &kv, &e) == -1 && strstr(e.text, "n_layer"));
    kv_set_i64(&kv, "n_layer", 3);
    CHECK(config_read(&b, &kv, &e) == -1 && strstr(e.text, "another type"));
    kv_free(&kv);
    kv_set_text(&kv, "arch", "llama");
    CHECK(config_read(&b, &kv, &e) == -1 && strstr(e.text, "missing") && b.layers == 3);
    kv_free(&kv);
}

struct seen { const struct config *c; uint64_t parameters; int count, decayed, cut; };

static void count(void *context, const struct param *p)
{
    struct seen *s = context;
    s->parameters += p->count;
    s->count++;
    s->decayed += p->decay;
    s->cut += p->split != SPLIT_NONE;
    CHECK(p->trainable && (p->part[0] + p->part[1] + p->part[2] == (p->split == SPLIT_NONE ? 0 : p->shape[0]) ||
                           strstr(p->name, "output.bias") || strstr(p->name, "down.bias")));
    CHECK((p->split == SPLIT_COLUMNS) == (strstr(p->name, "attn_output.weight") || strstr(p->name, "ffn_down.weight")));
    if (strstr(p->name, "attn_qkv"))
        CHECK(p->split == SPLIT_ROWS && p->part[0] == s->c->heads * s->c->head_dim &&
              p->part[1] == s->c->kv_heads * s->c->head_dim && p->part[2] == p->part[1]);
    if (strstr(p->name, "ffn_up"))
        CHECK(p->split == SPLIT_ROWS && p->part[0] == s->c->ffn && (p->part[1] > 0) == (p->shape[0] > s->c->ffn));
}

static void test_list(struct config c)
{
    struct memory memory = {0};
    struct params p = {0};
    struct seen s = {.c = &c};
    params_open(&p, &c, &memory, MEMORY_PARAMS, 1, false);
    params_each(&p, &c, count, &s);
    CHECK(s.parameters == config_parameters(&c));
    CHECK(s.decayed == 4 * c.layers + (c.head == HEAD_VOCABULARY && !c.tied));
    CHECK(s.cut >= 1 + 4 * c.layers);
    params_close(&p);
}

/* The same seed gives the same weights for any number of threads; the spread is what the settings say. */
static void test_init(void)
{
    struct config c = small("gpt2");
    float *first = NULL;
    size_t n = 0;
    c.channels = 96; c.head_dim = 24; c.ffn = 384;
    for (int threads = 1; threads <= 3; threads++) {
        threads_start(threads);
        struct memory memory = {0};
        struct params p = {0};
        for (int run = 0; run < 2; run++) {
            params_open(&p, &c, &memory, MEMORY_PARAMS, 1, true);
            if (run == 0) CHECK(memory_open(&memory, NULL) == 0);
        }
        params_init(&p, &c, 7);
        float *now = host_alloc(p.count, sizeof *now);
        from_device(now, p.all, p.count * sizeof *now);
        if (first) CHECK(memcmp(first, now, n * sizeof *now) == 0);
        else {
            n = p.count;
            double squares = 0;
            for (int i = 0; i < c.vocab * c.channels; i++) squares += (double)now[i] * now[i];
            CHECK(close_to(sqrt(squares / (c.vocab * c.channels)), 0.02, 0.03, 0));
        }
        if (first) free(now); else first = now;
        params_close(&p);
        memory_close(&memory);
    }
    threads_stop();
    free(first);
}

int main(void)
{
    test_presets();
    test_conf();
    struct config c = small("gpt2");
    test_list(c);
    c.head = HEAD_SCALAR; c.embed_norm = true; c.parallel = true;
    test_list(c);
    c = small("llama");
    c.tied = false; c.qk_norm = true; c.qkv_bias = c.mlp_bias = true;
    test_list(c);
    test_init();
    return test_end("test_config");
}
