/* test_checkpoint.c - saving and reading: everything comes back, nothing damaged gets in, nothing valid gets lost. */
#include "format/checkpoint.h"

#include "common/base/threads.h"
#include "format/reader.h"
#include "test/test.h"

#include <fcntl.h>

static char folder[] = "/tmp/test_checkpoint.XXXXXX";

static void empty_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/* %s/.[!.]*", folder, folder);
    CHECK(system(command) == 0);
}

static void path_of(char out[256], const char *name) { snprintf(out, 256, "%s/%s", folder, name); }

/* ---- a small model ---- */

struct array { const void *data; };

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    memcpy(host, (const char *)((const struct array *)self)->data + offset, bytes);
}

static struct ckpt_source source(const char *name, enum role role, enum dtype dtype, uint64_t rows, uint64_t columns,
                                 struct array *from)
{
    struct ckpt_source s = {.role = role, .dtype = dtype, .ndim = columns ? 2 : rows ? 1 : 0, .shape = {rows, columns},
                            .trainable = true,
                            .decay = columns > 0, .self = from, .fetch = fetch};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

static struct ckpt_meta small_meta(uint64_t step)
{
    struct ckpt_meta m = {.stage = STAGE_PRETRAIN, .flags = CKPT_RESUMABLE, .step = step, .tokens_seen = 1000 * step,
                          .writer = "test 0.1"};
    memset(m.weights_id, (int)step, 16);
    memset(m.run_uuid, 7, 16);
    kv_set_text(&m.conf, "arch", "llama");
    kv_set_u64(&m.conf, "n_layer", 2);
    kv_set_u64(&m.trns, "step", step);
    kv_set_f64(&m.eval, "val_loss", 2.5);
    kv_set_u64(&m.eval, "x", 3);
    bytes_add(&m.tokn, "tokenizer bytes", 15);
    return m;
}

static const float weight[6] = {1, -2, 0, 0.5f, 3, -0.25f};
static const uint16_t half[3] = {0x3C00, 0xC100, 0x0001};              /* 1, -2.5, 2^-24 */

static int save_small(const char *name, uint64_t step, struct error *error)
{
    struct array w = {weight}, h = {half};
    struct ckpt_source s[] = {source("blk.0.w", ROLE_WEIGHT, DTYPE_F32, 2, 3, &w),
                              source("blk.0.w", ROLE_ADAM_M, DTYPE_F32, 2, 3, &w),
                              source("a", ROLE_WEIGHT, DTYPE_F16, 3, 0,
                                     &h), source("scalar", ROLE_WEIGHT, DTYPE_BF16, 0, 0, &h)};
    struct ckpt_meta m = small_meta(step);
    int status = ckpt_save(folder, name, &m, s, 4, error);
    ckpt_meta_free(&m);
    return status;
}

struct taken { float value[64]; size_t count; };
static void take(void *self, const float *values, uint64_t first, size_t count)
{
    struct taken *t = self;
    for (size_t i = 0; i < count; i++) t->value[first + i] = values[i];
    t->count = (size_t)first + count;
}

static void test_round_trip(void)
{
    struct error error = {0};
    struct ckpt *c;
    struct taken t = {0};
    char path[256];
    uint64_t u;
    double f;
    const char *text;
    CHECK(save_small("step-00000005.ckpt", 5, &error) == 0);
    path_of(path, "step-00000005.ckpt");
    if (!CHECK(ckpt_open(&c, path, &error) == 0)) { fprintf(stderr, "%s\n", error.text); return; }
    const struct ckpt_meta *m = ckpt_meta_of(c);
    CHECK(m->stage == STAGE_PRETRAIN && m->step == 5 && m->tokens_seen == 5000 && m->weights_id[3] == 5 &&
          m->run_uuid[0] == 7);
    CHECK(m->flags == (CKPT_RESUMABLE | CKPT_TRAINING_STATE) && strcmp(m->writer, "test 0.1") == 0 && m->created > 0);
    CHECK(kv_get_text(&m->conf, "arch", &text) == 1 && strcmp(text, "llama") == 0);
    CHECK(kv_get_u64(&m->conf, "n_layer", &u) == 1 && u == 2 && kv_get_f64(&m->eval, "val_loss", &f) == 1 && f == 2.5);
    CHECK(m->chat.count == 0 && m->tokn.size == 15 && memcmp(m->tokn.data, "tokenizer bytes", 15) == 0);
    CHECK(ckpt_tensor_count(c) == 4 && strcmp(ckpt_path(c), path) == 0);
    int64_t a = ckpt_find(c, "a", ROLE_WEIGHT), w = ckpt_find(c, "blk.0.w",
                                                              ROLE_ADAM_M), s = ckpt_find(c, "scalar", ROLE_WEIGHT);
    CHECK(a == 2 && w == 1 && s == 3 && ckpt_find(c, "a", ROLE_ADAM_M) == -1 && ckpt_find(c, "blk", ROLE_WEIGHT) == -1);
    const struct ckpt_tensor *shape = ckpt_tensor_at(c, 1);
    CHECK(shape->ndim == 2 && shape->shape[0] == 2 && shape->shape[1] == 3 && shape->bytes == 24 &&
          shape->dtype == DTYPE_F32);
    CHECK(ckpt_read_f32(c, (size_t)w, take, &t, &error) == 0 && t.count == 6 &&
          memcmp(t.value, weight, sizeof weight) == 0);
    CHECK(ckpt_read_f32(c, (size_t)a, take, &t, &error) == 0 && t.value[0] == 1 && t.value[1] == -2.5f &&
          t.value[2] == 0x1p-24f);
    /* 0x3C00 as bf16 */
    CHECK(ckpt_read_f32(c, (size_t)s, take, &t, &error) == 0 && t.count == 1 && t.value[0] == 0x1p-7f);
    CHECK(ckpt_verify(c, &error) == 0);
    CHECK(c->stats && c->stats[0].min == -2 && c->stats[0].max == 3 && c->stats[0].zero == 1 &&
          c->stats[0].absmax == 3);
    CHECK(close_to(c->stats[0].mean, 0.375, 1e-15, 0) && close_to(c->stats[0].std, sqrt(13.46875 / 6), 1e-15, 0));
    ckpt_close(c);
    empty_folder();
}

/* Several chunks, ragged, on 1, 2 and 3 threads: the same bytes but for uuid and time, and the statistics of the
 * definition. */
static void test_large(void)
{
    enum { N = 3 * 1024 * 1024 + 12345 };
    float *x = malloc(N * sizeof *x);
    double sum = 0, square = 0;
    uint32_t state = 1, crc[3];
    struct array from = {x};
    for (int i = 0; i < N; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = 100 + (float)(state >> 8) / (1 << 24);
    }
    x[17] = NAN;
    x[N - 1] = -INFINITY;
    x[N - 2] = 0;
    for (int i = 0; i < N - 1; i++) if (i != 17) sum += (double)x[i];
    for (int i = 0; i < N - 1; i++) if (i != 17) square += pow((double)x[i] - sum / (N - 2), 2);
    for (int threads = 1; threads <= 3; threads++) {
        struct ckpt_source s[] = {source("small", ROLE_WEIGHT, DTYPE_F32, 3, 0, &from),
                                  source("large", ROLE_WEIGHT, DTYPE_F32, N, 0, &from)};
        struct ckpt_meta m = small_meta(1);
        struct error error = {0};
        struct ckpt *c;
        threads_start(threads);
        if (!CHECK(ckpt_save(folder, "final.ckpt", &m, s, 2, &error) == 0)) fprintf(stderr, "%s\n", error.text);
        CHECK(ckpt_open(&c, folder, &error) == 0 && ckpt_verify(c, &error) == 0);
        const struct stats *st = &c->stats[1];
        CHECK(st->nan == 1 && st->inf == 1 && st->zero == 1 && st->min == 0 && st->max <= 101);
        CHECK(close_to(st->mean, sum / (N - 2), 1e-13, 0) && close_to(st->std, sqrt(square / (N - 2)), 1e-9, 0));
        struct bytes b = {0};
        for (uint32_t i = 0; i < c->header.section_count; i++)
            if (strcmp(c->section[i].type, "STAT") == 0) CHECK(section_read(&b, c, &c->section[i], &error) == 0);
        crc[threads - 1] = crc32_of(c->index.tensor[1].crc, b.data, b.size);
        bytes_free(&b);
        ckpt_close(c);
        ckpt_meta_free(&m);
    }
    CHECK(crc[0] == crc[1] && crc[1] == crc[2]);
    threads_start(1);
    free(x);
    empty_folder();
}

/* ---- damage ---- */

static int open_bytes(const struct bytes *b)
{
    struct input in = {.fd = -1, .memory = (const uint8_t *)b->data, .size = b->size};
    struct ckpt *c;
    struct error error;
    int status = reader_open(&c, &in, "memory", NULL, &error);
    if (status == 0) {
        status = ckpt_verify(c, &error);
        ckpt_close(c);
    }
    return status;
}

static void test_damage(void)
{
    struct bytes b = {0};
    char path[256];
    size_t accepted = 0;
    CHECK(save_small("final.ckpt", 1, NULL) == 0);
    path_of(path, "final.ckpt");
    CHECK(file_read(&b, path, 1 << 20, NULL) == 0 && open_bytes(&b) == 0);
    size_t step = getenv("FULL") && *getenv("FULL") ? 1 : 13;     /* coprime to 8: all bit positions are met */
    for (size_t bit = 0; bit < 8 * b.size; bit += step) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        accepted += open_bytes(&b) == 0;
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    CHECK(accepted == 0);
    size_t whole = b.size;
    for (b.size = 0; b.size < whole; b.size++) accepted += open_bytes(&b) == 0;
    CHECK(accepted == 0);
    bytes_add(&b, "x", 1);
    CHECK(open_bytes(&b) != 0);
    char *page = calloc(1, 4096);
    b.size = whole;
    bytes_add(&b, page, 4096);
    CHECK(open_bytes(&b) != 0);
    b.size = whole;
    CHECK(open_bytes(&b) == 0);
    free(page);
    bytes_free(&b);
    empty_folder();
}

/* Saving what was read gives the same file but for uuid, time and what depends on them. */
static void test_resave(void)
{
    struct bytes one = {0}, two = {0};
    char path[256];
    CHECK(save_small("step-00000001.ckpt", 9, NULL) == 0 && save_small("final.ckpt", 9, NULL) == 0);
    path_of(path, "step-00000001.ckpt");
    CHECK(file_read(&one, path, 1 << 20, NULL) == 0);
    path_of(path, "final.ckpt");
    CHECK(file_read(&two, path, 1 << 20, NULL) == 0);
    for (struct bytes *b = &one; b; b = b == &one ? &two : NULL) {
        memset(b->data + 80, 0, 16);
        memset(b->data + 160, 0, 8);
        memset(b->data + 252, 0, 4);
    }
    CHECK(one.size == two.size && memcmp(one.data, two.data, one.size) == 0);
    bytes_free(&one);
    bytes_free(&two);
    empty_folder();
}

/* ---- folders ---- */

/* What is said about skipped files goes nowhere in between. */
static int hush(void)
{
    int loud = dup(2), null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    close(null);
    return loud;
}

static void speak(int loud)
{
    dup2(loud, 2);
    close(loud);
}

static void damage(const char *name, off_t at)
{
    char path[256];
    path_of(path, name);
    FILE *f = fopen(path, "r+b");
    CHECK(f && fseeko(f, at, at < 0 ? SEEK_END : SEEK_SET) == 0);
    int c = fgetc(f);
    fseeko(f, -1, SEEK_CUR);
    fputc(c ^ 1, f);
    fclose(f);
}

static bool exists(const char *name)
{
    char path[256];
    path_of(path, name);
    return access(path, F_OK) == 0;
}

static void test_fallback(void)
{
    struct error error;
    struct ckpt *c;
    char path[256], latest[256];
    CHECK(run_newest(&c, folder, true, &error) == 0 && c == NULL && error.exit_code == EXIT_NOINPUT);
    CHECK(ckpt_open(&c, folder, &error) == -1 && error.exit_code == EXIT_NOINPUT && c == NULL);
    for (uint64_t step = 1; step <= 3; step++) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d.ckpt", (int)step * 10);
        CHECK(save_small(name, step * 10, &error) == 0);
    }
    struct bytes hint = {0};
    path_of(latest, "latest");
    CHECK(file_read(&hint, latest, 100, NULL) == 0 && strcmp(hint.data, "step-00000030.ckpt\n") == 0);
    bytes_free(&hint);
    /* only a hint: the newest is 30 all the same */
    CHECK(file_replace(latest, "step-00000010.ckpt\n", 19, NULL) == 0);
    path_of(path, "step-00000030.ckpt");
    CHECK(run_newest(&c, folder, true, &error) == 1 && strcmp(ckpt_path(c), path) == 0);
    ckpt_close(c);
    int loud = hush();
    damage("step-00000030.ckpt", -4097);                                    /* the last byte of tensor data's page */
    damage("step-00000030.ckpt", 100);
    CHECK(ckpt_open(&c, folder, &error) == 0 && ckpt_meta_of(c)->step == 20);
    ckpt_close(c);
    struct run_list list;
    CHECK(folder_list(&list, folder, NULL) == 0 && list.count == 3);
    folder_list_free(&list);
    damage("step-00000020.ckpt", 20);
    path_of(path, "step-00000010.ckpt");
    CHECK(truncate(path, 8192) == 0);
    CHECK(ckpt_open(&c, folder, &error) == -1 && error.exit_code == EXIT_DATA &&
          strstr(error.text, "step-00000020.ckpt"));
    CHECK(save_small("final.ckpt", 7, &error) == 0);                        /* lower, but the only whole one */
    CHECK(ckpt_open(&c, folder, &error) == 0 && ckpt_meta_of(c)->step == 7);
    ckpt_close(c);
    speak(loud);
    CHECK(ckpt_open(&c, "/nowhere/at/all", &error) == -1 && error.exit_code == EXIT_NOINPUT);
    CHECK(save_small("../nowhere/x.ckpt", 1, &error) == -1 && error.exit_code == EXIT_IO);
    empty_folder();
}

/* A damaged tensor byte is found by whoever reads it, and makes run_newest fall back. */
static void test_tensor_damage(void)
{
    struct error error;
    struct ckpt *c;
    struct taken t;
    char path[256];
    CHECK(save_small("step-00000001.ckpt", 1, &error) == 0 && save_small("step-00000002.ckpt", 2, &error) == 0);
    path_of(path, "step-00000002.ckpt");
    CHECK(ckpt_open(&c, path, &error) == 0);
    off_t at = (off_t)(c->tdat->offset + c->index.tensor[0].offset) + 5;
    ckpt_close(c);
    damage("step-00000002.ckpt", at);
    CHECK(ckpt_open(&c, path, &error) == 0);
    CHECK(ckpt_read_f32(c, 0, take, &t, &error) == -1 && error.exit_code == EXIT_DATA &&
          strstr(error.text, "blk.0.w") && strstr(error.text, "[T10]"));
    CHECK(ckpt_read_f32(c, 1, take, &t, &error) == 0);
    CHECK(ckpt_verify(c, &error) == -1 && strstr(error.text, "[T10]"));
    ckpt_close(c);
    int loud = hush();
    path_of(path, "step-00000001.ckpt");
    CHECK(run_newest(&c, folder, true, &error) == 1 && strcmp(ckpt_path(c), path) == 0);
    speak(loud);
    ckpt_close(c);
    empty_folder();
}

/* Random sets of valid, damaged and final files: what must stay stays, what may go goes. */
static void test_retain(void)
{
    unsigned state = 12345;
    int rounds = getenv("FULL") && *getenv("FULL") ? 300 : 40;
    for (int round = 0; round < rounds; round++) {
        char name[12][32];
        int broken[12] = {0}, count = 1 + rand_r(&state) % 8, keep = rand_r(&state) % 4,
            every = rand_r(&state) % 3 * 20;
        for (int i = 0; i < count; i++) {
            snprintf(name[i], sizeof name[i], "step-%08d.ckpt", 10 * (i + 1));
            save_small(name[i], 10 * (uint64_t)(i + 1), NULL);
        }
        bool final = rand_r(&state) % 4 == 0;
        if (final) save_small("final.ckpt", 55, NULL);
        int hinted = rand_r(&state) % count;
        char latest[256], line[64], stale[256];
        path_of(latest, "latest");
        snprintf(line, sizeof line, "%s\n", name[hinted]);
        file_replace(latest, line, strlen(line), NULL);
        path_of(stale, "step-00000099.ckpt.tmp-0badf00d");
        file_replace(stale, "x", 1, NULL);
        int newest_valid = -1, valid = 0;
        for (int i = 0; i < count; i++) {
            broken[i] = rand_r(&state) % 3 == 0;
            if (broken[i]) damage(name[i], rand_r(&state) % 2 ? 30 : 4096 + 17);
            else newest_valid = i;
        }
        run_retain(folder, keep, (uint64_t)every);
        CHECK(!exists("step-00000099.ckpt.tmp-0badf00d"));
        CHECK(exists(name[hinted]));
        if (final) CHECK(exists("final.ckpt"));
        if (newest_valid >= 0) CHECK(exists(name[newest_valid]));
        for (int i = count - 1; i >= 0; i--) {
            if (broken[i]) continue;
            if (valid++ < (keep > 1 ? keep : 1) || (every && 10 * (i + 1) % every == 0)) CHECK(exists(name[i]));
            else if (i != hinted) CHECK(!exists(name[i]));
        }
        empty_folder();
    }
}

/* ---- lineage ---- */

/* base -> sft -> rm, and rlhf from sft and rm: four stages, told by the last file alone. */
static void test_lineage(void)
{
    struct ckpt_meta base = small_meta(1), sft = small_meta(2), rm = small_meta(3), rlhf = small_meta(4);
    char **chain;
    struct link link;
    sft.stage = STAGE_SFT;
    rm.stage = STAGE_RM;
    rlhf.stage = STAGE_RLHF;
    kv_set_text(&rm.eval, "main_metric", "val_accuracy");
    kv_set_f64(&rm.eval, "val_accuracy", 0.75);
    lineage_add(&sft.line, &base, "init", "base: the first");
    lineage_add(&rm.line, &sft, "init", "sft");
    lineage_add(&rlhf.line, &sft, "policy", "sft");
    lineage_add(&rlhf.line, &rm, "reward", "rm");
    CHECK(lineage_parents(&base.line) == 0 && lineage_parents(&sft.line) == 1 && lineage_parents(&rlhf.line) == 2);
    CHECK(strcmp(lineage_role(&rlhf.line, 0), "policy") == 0 && strcmp(lineage_role(&rlhf.line, 1), "reward") == 0);
    CHECK(lineage_chain(&chain, &rlhf.line, 0) == 2 && strncmp(chain[0], "pretrain:1:1000:", 16) == 0);
    CHECK(lineage_parse(&link, chain[0]) && strcmp(link.name, "base: the first") == 0 &&
          strcmp(link.metric, "val_loss=2.5") == 0);
    CHECK(strcmp(link.weights_id, "01010101010101010101010101010101") == 0 && link.step == 1 && link.tokens == 1000);
    CHECK(lineage_chain(&chain, &rlhf.line, 1) == 3);
    CHECK(lineage_parse(&link, chain[2]) && strcmp(link.stage, "rm") == 0 &&
          strcmp(link.metric, "val_accuracy=0.75") == 0);
    static const char *const numbers[] = {"-1", "+1", " 1", "1x", "0x1", "", "18446744073709551616"};
    for (int i = -1; i < 7; i++) {
        char text[200];
        snprintf(text, sizeof text, "sft:%s:2:01010101010101010101010101010101::n", i < 0 ? "18446744073709551615" : numbers[i]);
        CHECK(lineage_parse(&link, text) == (i < 0));
    }
    CHECK(!lineage_parse(&link, "pretrain:1") && !lineage_parse(&link, "") && !lineage_parse(&link, "a:b:c:d:e:f"));
    ckpt_meta_free(&base);
    ckpt_meta_free(&sft);
    ckpt_meta_free(&rm);
    ckpt_meta_free(&rlhf);
}

static void test_dtypes(void)
{
    static const struct { uint32_t dtype; uint64_t bits; double value; } known[] = {
        {DTYPE_F16, 0x3555, 0.333251953125}, {DTYPE_F16, 0x7BFF, 65504}, {DTYPE_F16, 0x83FF, -0x1.ff8p-15},
        {DTYPE_F16, 0xFC00, -INFINITY},
        {DTYPE_BF16, 0x4049, 3.140625}, {DTYPE_F32, 0x40490FDB, 0x1.921fb6p1}, {DTYPE_I8, 0x80, -128},
        {DTYPE_U8, 0x80, 128},
        {DTYPE_I16, 0xFFFF, -1}, {DTYPE_U16, 0xFFFF, 65535}, {DTYPE_I32, 0xFFFFFFFE, -2},
        {DTYPE_U32, 0xFFFFFFFE, 4294967294.0},
        {DTYPE_I64, ~UINT64_C(4), -5}, {DTYPE_U64, UINT64_C(1) << 63, 0x1p63}, {DTYPE_BOOL, 1, 1},
        {DTYPE_F8_E4M3FN, 0x7E, 448},
        {DTYPE_F8_E4M3FN, 0x01, 0x1p-9}, {DTYPE_F8_E5M2, 0x7B, 57344}, {DTYPE_F8_E5M2, 0xFC, -INFINITY},
        {DTYPE_F8_E8M0, 130, 8}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint8_t bytes[8];
        double value;
        store64(bytes, known[i].bits);
        dtype_to_f64(&value, bytes, 1, known[i].dtype);
        test_check(value == known[i].value, __FILE__, __LINE__, "%s %llx is %g", dtype_name(known[i].dtype),
                   (unsigned long long)known[i].bits, value);
    }
    for (uint32_t h = 0; h < 65536; h++) {                       /* every half by its definition */
        uint8_t bytes[2];
        float value;
        int e = h >> 10 & 31, m = h & 1023;
        double want = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        store16(bytes, (uint16_t)h);
        dtype_to_f32(&value, bytes, 1, DTYPE_F16);
        if (h >> 15) want = -want;
        if (!(isnan(want) ? isnan(value) : (double)value == want)) CHECK(!"half");
    }
}

int main(void)
{
    if (!CHECK(mkdtemp(folder) != NULL)) return test_end("test_checkpoint");
    test_round_trip();
    test_large();
    test_damage();
    test_resave();
    test_fallback();
    test_tensor_damage();
    test_retain();
    test_lineage();
    test_dtypes();
    rmdir(folder);
    return test_end("test_checkpoint");
}
