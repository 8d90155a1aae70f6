/* test_interop.c - imported models compute what their own software computed: logits, losses, the most likely tokens,
 * gradients and scores, from the golden values beside the project and from the small one in test/golden. */
#include "common/interop/gguf.h"
#include "common/interop/interop.h"
#include "common/train/train.h"
#include "test/numbers.h"
#include "test/on_device.h"
#include "test/test.h"

#include "format/layout.h"

#include <jansson.h>
#include <sys/stat.h>

enum { MOST = 32 };

struct imported { struct ckpt *ckpt; struct memory memory; struct model m; struct config config; };

/* Imports a folder and opens the model; false, with a failed check, when that fails. */
static bool imported_open(struct imported *x, const char *folder, const char *work, bool train)
{
    struct error error = {0};
    char *file = host_text("%s/model.ckpt", work);
    memset(x, 0, sizeof *x);
    bool ok = interop_import(folder, NULL, file, NULL, &error) == 0 && ckpt_open(&x->ckpt, file, &error) == 0 &&
              config_read(&x->config, &ckpt_meta_of(x->ckpt)->conf, &error) == 0;
    free(file);
    if (!test_check(ok, __FILE__, __LINE__, "%s: %s", folder, error.text)) return false;
    struct model_use use = {.train = train, .max_tokens = MOST, .max_sequences = 1, .logits_rows = MOST};
    for (int pass = 0; pass < 2; pass++) {
        ops_open(&x->memory);
        model_open(&x->m, &x->config, &use, &x->memory);
        if (pass == 0 && memory_open(&x->memory, &error) != 0) quit_error(&error);
    }
    return test_check(model_load(&x->m, x->ckpt, "", ROLE_WEIGHT, false, 0, &error) == 0, __FILE__, __LINE__, "%s",
                      error.text);
}

static void imported_close(struct imported *x)
{
    if (x->m.params.all) model_close(&x->m);
    memory_close(&x->memory);
    ckpt_close(x->ckpt);
}

static struct batch batch_of(int *tokens, int *targets, uint8_t *mask, int *offsets, int n)
{
    offsets[0] = 0;
    offsets[1] = n;
    for (int i = 0; i < n; i++) {
        targets[i] = i + 1 < n ? tokens[i + 1] : tokens[i];
        mask[i] = i + 1 < n;
    }
    return (struct batch){n, 1, tokens, targets, mask, offsets};
}

static int ids_of(int *out, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) out[i] = (int)json_integer_value(json_array_get(list, i));
    return (int)json_array_size(list);
}

/* The most likely token after a text, from a forward over all of it. */
static int next_token(struct model *m, int *tokens, int n)
{
    int targets[MOST], offsets[2], row = n - 1, best = 0, V = m->config.vocab;
    uint8_t mask[MOST];
    struct batch b = batch_of(tokens, targets, mask, offsets, n);
    model_forward(m, &b, false);
    model_logits(m, &row, 1);
    float *z = host_copy(m->logits, (size_t)V);
    for (int v = 1; v < V; v++)
        if (z[v] > z[best]) best = v;
    free(z);
    return best;
}

static void check_sequence(struct imported *x, const char *name, const json_t *s, double largest, double apart)
{
    int tokens[MOST], targets[MOST], offsets[2], rows[MOST], greedy[8], V = x->config.vocab;
    uint8_t mask[MOST];
    float logprobs[MOST];
    int n = ids_of(tokens, json_object_get(s, "ids")), steps = ids_of(greedy, json_object_get(s, "greedy"));
    const json_t *logits = json_object_get(s, "logits");
    struct batch b = batch_of(tokens, targets, mask, offsets, n);
    for (int i = 0; i < n; i++) rows[i] = i;
    if (n > x->config.context) return;                          /* dynamic rope: only shorter texts are ours */
    model_forward(&x->m, &b, false);
    model_logits(&x->m, rows, n);
    float *z = host_copy(x->m.logits, (size_t)(n * V));
    double worst = 0, nll = 0;
    for (int i = 0; i < n; i++)
        for (int v = 0; v < V; v++) {
            double want = json_number_value(json_array_get(json_array_get(logits, (size_t)i), (size_t)v));
            double off = fabs((double)z[i * V + v] - want);
            if (!(off <= worst)) worst = off;
        }
    free(z);
    test_check(worst <= fmax(1e-5 * largest, 10 * apart), __FILE__, __LINE__, "%s: logits of %d tokens off by %g (largest %g)",
               name, n, worst, largest);
    if (n > 1) {
        struct token_loss how = {.kind = LOSS_LOGPROBS, .temperature = 1};
        model_forward(&x->m, &b, false);
        model_token_loss(&x->m, &b, &how, logprobs, NULL, NULL, false);
        for (int i = 0; i + 1 < n; i++) nll -= (double)logprobs[i] / (n - 1);
        double want = json_number_value(json_object_get(s, "nll"));
        test_check(close_to(nll, want, 1e-5, 0), __FILE__, __LINE__, "%s: nll %.9g, expected %.9g", name, nll, want);
    }
    for (int k = 0; k < steps && n < MOST && n < x->config.context; k++) {
        tokens[n] = next_token(&x->m, tokens, n);
        if (!test_check(tokens[n] == greedy[k], __FILE__, __LINE__, "%s: token %d after %d is %d, expected %d", name, k, n,
                        tokens[n], greedy[k])) return;
        n++;
    }
}

/* Gradients have the names and layout of the weights: imported in their place, they lie where ours do. */
static void check_gradients(struct imported *x, const char *name, const char *folder, const char *work, const json_t *golden)
{
    char *other = host_text("%s/grads", work), *link, *target;
    struct imported g;
    mkdir(other, 0777);
    const char *const files[][2] = {{"config.json", "config.json"}, {"grads.safetensors", "model.safetensors"}};
    for (int i = 0; i < 2; i++) {
        target = realpath(folder, NULL);
        char *from = host_text("%s/%s", target, files[i][0]);
        link = host_text("%s/%s", other, files[i][1]);
        unlink(link);
        if (symlink(from, link) != 0) die("no link");
        free(from); free(link); free(target);
    }
    device_clear(x->m.grads.all, x->m.grads.count * sizeof(float));
    for (int s = 0; s < 2; s++) {
        int tokens[MOST], targets[MOST], offsets[2];
        uint8_t mask[MOST];
        float logprobs[MOST];
        struct token_loss how = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1 / 18.0f};
        int n = ids_of(tokens, json_object_get(json_array_get(json_object_get(golden, "sequences"), (size_t)s), "ids"));
        struct batch b = batch_of(tokens, targets, mask, offsets, n);
        model_forward(&x->m, &b, true);
        model_token_loss(&x->m, &b, &how, logprobs, NULL, NULL, true);
        model_backward(&x->m);
    }
    if (imported_open(&g, other, work, false)) {
        float *ours = host_copy(x->m.grads.all, x->m.grads.count), *theirs = host_copy(g.m.params.all, g.m.params.count);
        double worst = 0;
        for (size_t i = 0; i < x->m.grads.count; i++) {
            double off = fabs((double)ours[i] - (double)theirs[i]);
            if (!(off <= worst)) worst = off;
        }
        double largest = json_number_value(json_object_get(json_object_get(golden, "gradients"), "max_abs"));
        test_check(worst <= 2e-5 * largest, __FILE__, __LINE__, "%s: gradients off by %g (largest %g)", name, worst, largest);
        free(ours);
        free(theirs);
    }
    imported_close(&g);
    free(other);
}

static void check_scores(struct imported *x, const char *name, const json_t *golden)
{
    const json_t *rows = json_object_get(golden, "rows"), *at = json_object_get(golden, "read_at");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int tokens[MOST], targets[MOST], offsets[2], row = (int)json_integer_value(json_array_get(at, i));
        uint8_t mask[MOST];
        float score;
        int n = ids_of(tokens, json_array_get(rows, i));
        struct batch b = batch_of(tokens, targets, mask, offsets, n);
        model_forward(&x->m, &b, false);
        model_values(&x->m, &score, &row, 1);
        double want = json_number_value(json_array_get(json_object_get(golden, "scores_alone"), i));
        test_check(close_to((double)score, want, 1e-5, 1e-5), __FILE__, __LINE__, "%s: score %zu is %.9g, expected %.9g", name, i,
                   (double)score, want);
    }
}

/* The keys that versions before 5 wrote describe the same model. */
static void check_old_keys(const struct config *c, const char *folder, const char *name)
{
    const struct family *family;
    struct config old;
    struct error error = {0};
    char *path = host_text("%s/config-v4.json", folder);
    json_t *json = access(path, R_OK) == 0 ? json_load_file(path, 0, NULL) : NULL;
    if (json)
        test_check(family_config(&family, &old, json, &error) == 0 && old.head == c->head && old.context == c->context &&
                       old.rope_theta == c->rope_theta && old.rope_fraction == c->rope_fraction && old.ffn == c->ffn &&
                       old.kv_heads == c->kv_heads && old.head_dim == c->head_dim && old.norm_eps == c->norm_eps &&
                       old.activation == c->activation && old.qkv_bias == c->qkv_bias &&
                       old.rope_scaling == c->rope_scaling && old.rope_factor == c->rope_factor &&
                       old.window == c->window && old.full_layers == c->full_layers &&
                       old.alibi_rounded == c->alibi_rounded && old.norm_place == c->norm_place &&
                       old.parallel == c->parallel && old.parallel_norms == c->parallel_norms &&
                       old.embed_width == c->embed_width && old.rope_original == c->rope_original && old.rope_low == c->rope_low && old.rope_high == c->rope_high, __FILE__, __LINE__,
                   "%s: config-v4.json: %s", name, error.text);
    json_decref(json);
    free(path);
}

static void check_case(const char *folder, const char *name, const char *work)
{
    struct imported x;
    char *path = host_text("%s/golden.json", folder), *grads = host_text("%s/grads.safetensors", folder);
    json_t *golden = json_load_file(path, 0, NULL), *sequences = json_object_get(golden, "sequences");
    bool gradients = access(grads, R_OK) == 0;
    CHECK(golden != NULL);
    if (imported_open(&x, folder, work, gradients)) {
        double largest = json_number_value(json_object_get(golden, "logits_max_abs"));
        double apart = json_number_value(json_object_get(golden, "logits_max_abs_diff_float64"));
        for (size_t i = 0; i < json_array_size(sequences); i++)
            check_sequence(&x, name, json_array_get(sequences, i), largest, apart);
        if (gradients) check_gradients(&x, name, folder, work, golden);
        if (json_object_get(golden, "rows")) check_scores(&x, name, golden);
        check_old_keys(&x.config, folder, name);
    }
    imported_close(&x);
    json_decref(golden);
    free(grads);
    free(path);
}

/* The second Baichuan is told from the first by a key, and has rows of length 1 in the same direction. */
static void check_unit_head(const char *folder, const char *work)
{
    char *other = host_text("%s/second", work), *path = host_text("%s/config.json", folder), *model = realpath(folder, NULL);
    char *from = host_text("%s/model.safetensors", model), *link = host_text("%s/model.safetensors", other);
    json_t *json = json_load_file(path, 0, NULL);
    struct imported first, second;
    mkdir(other, 0777);
    json_object_set_new(json, "z_loss_weight", json_integer(0));
    free(path);
    path = host_text("%s/config.json", other);
    if (json_dump_file(json, path, 0) != 0 || symlink(from, link) != 0) die("no folder");
    if (imported_open(&first, folder, work, false) && imported_open(&second, other, work, false)) {
        int V = first.config.vocab, C = first.config.channels;
        float *a = host_copy(first.m.params.head.weight, (size_t)(V * C)), *b = host_copy(second.m.params.head.weight, (size_t)(V * C));
        for (int v = 0; v < V; v++) {
            double aa = 0, ab = 0, bb = 0;
            for (int c = v * C; c < (v + 1) * C; c++) {
                aa += (double)a[c] * (double)a[c];
                ab += (double)a[c] * (double)b[c];
                bb += (double)b[c] * (double)b[c];
            }
            CHECK(close_to(bb, 1, 1e-6, 0) && close_to(ab, sqrt(aa), 1e-6, 0));
        }
        free(a); free(b);
        imported_close(&second);
    }
    imported_close(&first);
    json_decref(json);
    free(other); free(path); free(model); free(from); free(link);
}

/* Blocks of every type, with scales of both signs, zeros and subnormals: the bits of ggml's own code. */
static void check_blocks(const char *blocks, const char *floats)
{
    struct safetensors q, f;
    json_t *facts;
    struct error error = {0};
    if (!test_check(gguf_open(&q, &facts, blocks, &error) == 0 && safetensors_open(&f, floats, &error) == 0, __FILE__, __LINE__,
                    "%s", error.text)) return;
    CHECK(q.count == f.count && q.count >= 13);
    for (size_t i = 0; i < q.count; i++) {
        const struct st_tensor *t = &q.tensor[i], *want = safetensors_find(&f, t->name);
        size_t n = (size_t)(t->shape[0] * t->shape[1]);
        if (!test_check(want && want->bytes == n * sizeof(float), __FILE__, __LINE__, "no %s", t->name)) continue;
        uint8_t *raw = host_alloc((size_t)t->bytes, 1);
        float *ours = host_alloc(n, sizeof *ours), *theirs = host_alloc(n, sizeof *theirs);
        CHECK(safetensors_read(&q, t, raw, 0, (size_t)t->bytes, &error) == 0);
        CHECK(safetensors_read(&f, want, theirs, 0, n * sizeof *theirs, &error) == 0);
        if (t->dtype >= GGUF_QUANTISED) gguf_dequantise(ours, raw, n, t->dtype);
        else dtype_to_f32(ours, raw, n, t->dtype);
        test_check(same_bits(ours, theirs, n), __FILE__, __LINE__, "%s: other values", t->name);
        free(raw); free(ours); free(theirs);
    }
    json_decref(facts);
    safetensors_close(&q);
    safetensors_close(&f);
}

/* A tensor and its forms as ggml's own code writes them: ties, zeros, both signs. */
static void check_encoding(const char *path)
{
    static const struct { const char *name; enum interop_type type; } forms[] = {
        {"F16", INTEROP_F16}, {"BF16", INTEROP_BF16}, {"Q8_0", INTEROP_Q8_0}};
    struct safetensors s;
    json_t *facts;
    struct error error = {0};
    if (!test_check(gguf_open(&s, &facts, path, &error) == 0, __FILE__, __LINE__, "%s", error.text)) return;
    const struct st_tensor *from = safetensors_find(&s, "F32");
    if (!test_check(from != NULL, __FILE__, __LINE__, "no F32")) return;
    float *x = host_alloc((size_t)from->bytes, 1);
    CHECK(safetensors_read(&s, from, x, 0, (size_t)from->bytes, &error) == 0);
    for (int i = 0; i < 3; i++) {
        const struct st_tensor *to = safetensors_find(&s, forms[i].name);
        if (!test_check(to != NULL, __FILE__, __LINE__, "no %s", forms[i].name)) continue;
        uint8_t *ours = host_alloc((size_t)to->bytes, 1), *theirs = host_alloc((size_t)to->bytes, 1);
        CHECK(safetensors_read(&s, to, theirs, 0, (size_t)to->bytes, &error) == 0);
        gguf_encode(ours, x, (size_t)from->bytes / 4, forms[i].type);
        test_check(memcmp(ours, theirs, (size_t)to->bytes) == 0, __FILE__, __LINE__, "%s: other bytes", forms[i].name);
        free(ours); free(theirs);
    }
    free(x);
    json_decref(facts);
    safetensors_close(&s);
}

int main(void)
{
    static const char *const cases[] = {
        "gpt2", "gpt2-inner", "opt", "bloom", "llama", "llama-tied", "llama-tied-sharded", "llama-tied-bfloat16",
        "llama-tied-float16", "llama-headdim", "llama-bias", "llama-rope-linear", "llama-rope-llama3", "llama-rope-yarn",
        "llama-rope-dynamic", "smollm", "mistral", "qwen2", "qwen2-sliding", "qwen3", "falcon-7b", "falcon-11b",
        "falcon-40b", "falcon-rw", "falcon-rw-12heads", "gptj", "codegen", "phi", "gpt-neox", "opt-350m", "glm",
        "glm4", "baichuan-7b", "baichuan-13b", "gguf-quantised", "reward-gpt2", "reward-llama", "reward-qwen3"};
    char work[] = "/tmp/test_interop.XXXXXX", path[600], file[100];
    threads_start(2);
    if (!mkdtemp(work)) die("no temporary folder");
    check_case("test/golden/llama", "test/golden/llama", work);
    bool skipped = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(file, sizeof file, "golden/%s/golden.json", cases[i]);
        if (!test_shared(path, sizeof path, file)) { skipped = true; continue; }
        *strrchr(path, '/') = 0;
        check_case(path, cases[i], work);
    }
    if (test_shared(path, sizeof path, "golden/baichuan-7b/config.json")) {
        *strrchr(path, '/') = 0;
        check_unit_head(path, work);
    }
    char floats[600];
    if (test_shared(path, sizeof path, "golden/gguf/quants.gguf") &&
        test_shared(floats, sizeof floats, "golden/gguf/quants-float32.safetensors")) check_blocks(path, floats);
    if (test_shared(path, sizeof path, "golden/gguf/quantise.gguf")) check_encoding(path);
    if (skipped) test_skip("golden values of other systems (../shared/golden is not there)");
    char *clean = host_text("rm -rf %s", work);
    CHECK(system(clean) == 0);
    free(clean);
    threads_stop();
    return test_end("test_interop");
}
