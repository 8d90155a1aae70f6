/* What programs share: batches, counts of steps, and what is refused as a parent. */
#include "common/train/program.h"
#include "test/test.h"

static char folder[] = "/tmp/test_program_XXXXXX";

static void check_batch(void)
{
    struct memory memory = {0};
    struct batch b;
    struct error error;
    batch_open(&b, &memory, 8, 3);
    CHECK(memory_open(&memory, &error) == 0);
    batch_open(&b, &memory, 8, 3);
    batch_clear(&b);
    const int ids[] = {5, 6, 7, 8};
    const uint8_t trained[] = {1, 0, 1, 1};
    CHECK(batch_add(&b, ids, NULL, 4) == 3 && batch_add(&b, ids, trained, 3) == 1 && batch_add(&b, ids, NULL, 1) == 0);
    CHECK(b.N == 8 && b.S == 3 && b.offsets[0] == 0 && b.offsets[1] == 4 && b.offsets[2] == 7 && b.offsets[3] == 8);
    const int tokens[] = {5, 6, 7, 8, 5, 6, 7, 5}, targets[] = {6, 7, 8, 8, 6, 7, 7, 5}, mask[] = {1, 1, 1, 0, 0, 1, 0, 0};
    for (int t = 0; t < 8; t++) CHECK(b.tokens[t] == tokens[t] && b.targets[t] == targets[t] && b.mask[t] == mask[t]);
    batch_clear(&b);
    CHECK(b.N == 0 && b.S == 0);
    memory_close(&memory);
}

static void check_steps(void)
{
    struct train_options o = {.epochs = 3};
    CHECK(program_steps(&o, 100, 2.5) == 8 && program_steps(&o, 100, 1.0 / 3) == 1 && program_steps(&o, 100, 0.1) == 1);
    o.tokens = 1001;
    CHECK(program_steps(&o, 100, 2.5) == 11);
    o.tokens = 1000;
    CHECK(program_steps(&o, 100, 2.5) == 10);
    o.steps = 7;
    CHECK(program_steps(&o, 100, 2.5) == 7);
    o.lr = 0.5;
    o.min_lr = -1;
    o.warmup = -1;
    struct schedule_options s = program_schedule(&o, 200, 0.02);
    CHECK(s.warmup == 4 && s.total == 200 && close_to(s.min_lr, 0.05, 1e-12, 0) && s.lr == 0.5);
    o.min_lr = 0;
    o.warmup = 0;
    s = program_schedule(&o, 200, 0.02);
    CHECK(s.warmup == 0 && s.min_lr == 0);
}

static bool next_nothing(void *self, const char **text, size_t *length)
{
    (void)self, (void)text, (void)length;
    return false;
}

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    (void)self, (void)offset;
    memset(host, 0, bytes);
}

/* A checkpoint that has everything but most of its tensors: enough for a parent to be opened. */
static void save(const char *name, enum stage stage, int vocab, int model_vocab, bool with_tokenizer)
{
    struct error error;
    struct config c;
    struct ckpt_meta meta = {.stage = stage, .step = 12};
    struct tokenizer *t;
    const char *special[] = {"<|endoftext|>", "<|x|>"};
    struct tokenizer_training how = {.vocab = vocab, .pattern = PATTERN_GPT2, .special = special, .n_special = vocab - 256};
    struct ckpt_source source = {.name = "token_embd.weight", .dtype = DTYPE_F32, .ndim = 1, .shape = {4}, .fetch = fetch};
    if (tokenizer_train(&t, next_nothing, NULL, &how, &error) != 0) die("%s", error.text);
    if (config_preset(&c, "llama", &error) != 0) die("%s", error.text);
    c.vocab = model_vocab;
    program_describe(&meta, &c, t, NULL, NULL, NULL);
    if (!with_tokenizer) bytes_free(&meta.tokn);
    if (ckpt_save(folder, name, &meta, &source, 1, &error) != 0) die("%s", error.text);
    ckpt_meta_free(&meta);
    tokenizer_free(t);
}

static void check_parents(void)
{
    struct error error = {0};
    struct parent p, q;
    char path[4][100];
    const char *name[] = {"base.ckpt", "reward.ckpt", "other.ckpt", "none.ckpt"};
    for (int i = 0; i < 4; i++) snprintf(path[i], sizeof path[i], "%s/%s", folder, name[i]);
    save(name[0], STAGE_PRETRAIN, 257, 257, true);
    save(name[1], STAGE_RM, 257, 257, true);
    save(name[2], STAGE_SFT, 258, 300, true);
    save(name[3], STAGE_SFT, 257, 257, false);
    unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_IMPORTED;

    CHECK(parent_open(&p, path[0], NULL, stages, "init", &error) == 0 && p.config.vocab == 257 && p.line.count > 0);
    CHECK(parent_open(&q, path[2], NULL, stages, "init", &error) == 0 && parent_same_tokenizer(&p, &p, &error) == 0);
    CHECK(parent_same_tokenizer(&p, &q, &error) == -1 && error.exit_code == EXIT_MISMATCH && strstr(error.text, "other.ckpt"));
    parent_close(&q);
    parent_close(&p);
    CHECK(parent_open(&p, path[1], NULL, stages, "init", &error) == -1 && error.exit_code == EXIT_MISMATCH && !p.ckpt);
    CHECK(strstr(error.text, "is a checkpoint of stage rm, expected pretrain, sft or imported"));
    CHECK(parent_open(&p, path[3], NULL, stages, "init", &error) == -1 && error.exit_code == EXIT_DATA && !p.ckpt);
    CHECK(strstr(error.text, "no tokenizer"));
    CHECK(parent_open(&p, "/tmp/test_program_none", NULL, stages, "init", &error) == -1 && error.exit_code == EXIT_NOINPUT);

    save(name[0], STAGE_PRETRAIN, 258, 257, true);
    CHECK(parent_open(&p, path[0], NULL, stages, "init", &error) == -1 && error.exit_code == EXIT_DATA);
    CHECK(strstr(error.text, "258 ids, the model only 257"));
}

int main(void)
{
    if (!mkdtemp(folder)) die("no temporary folder");
    check_batch();
    check_steps();
    check_parents();
    char *remove = host_text("rm -rf %s", folder);
    CHECK(system(remove) == 0);
    free(remove);
    return test_end("test_program");
}
