/* The learning rate and the batch that follow from a model's width and the tokens of a run, and the options they fill. */
#include "common/train/train.h"
#include "test/test.h"

/* Six rates of Brown et al. 2020, table 2.1, lie within a quarter of ours; below 112 channels the cap holds. */
static void check_lr(void)
{
    static const struct { int channels; double lr; } published[] = {
        {768, 6e-4}, {1536, 2.5e-4}, {2048, 2e-4}, {2560, 1.6e-4}, {4096, 1.2e-4}, {5140, 1e-4}};
    for (int i = 0; i < 6; i++)
        CHECK(close_to(default_lr(STAGE_PRETRAIN, published[i].channels), published[i].lr, 0.25, 0));
    CHECK(default_lr(STAGE_PRETRAIN, 128) == 0.0035 && default_lr(STAGE_PRETRAIN, 16) == 0.004);
    for (int c = 32; c < 20000; c *= 2) {
        double lr = default_lr(STAGE_PRETRAIN, c);
        CHECK(lr >= default_lr(STAGE_PRETRAIN, 2 * c));
        CHECK(close_to(default_lr(STAGE_SFT, c), lr / 4, 0.03, 0) && close_to(default_lr(STAGE_RM, c), lr / 8, 0.03, 0));
        CHECK(close_to(default_lr(STAGE_RLHF, c), lr / 20, 0.06, 0));
    }
}

static void check_batch(void)
{
    CHECK(default_batch_tokens(0) == 512 && default_batch_tokens(1e4) == 512 && default_batch_tokens(5e5) == 1024);
    CHECK(default_batch_tokens(1.2e6) == 1024 && default_batch_tokens(1e9) == 65536 && default_batch_tokens(1e11) == 1 << 20);
    for (double tokens = 1e5; tokens < 1e13; tokens *= 1.7) {
        double batch = (double)default_batch_tokens(tokens);
        CHECK(tokens / batch >= 100 && batch <= (double)default_batch_tokens(2 * tokens));
        if (batch > 512) CHECK(close_to(log2(batch), log2(0.58 * pow(tokens, 0.571)) - 0.5, 0, 0.5 + 1e-9));
    }
}

/* --profile-steps: two numbers, ascending, from 1. */
static void check_profile_steps(void)
{
    static const char *const wrong[] = {"", "3", "3:", "0:2", "5:4", "1:2x", "a:b", "1-2"};
    struct train_options o = {0};
    struct error error;
    int64_t first = 9, last = 9;
    CHECK(profile_steps(&first, &last, &o, &error) == 0 && first == 0 && last == 0);
    o.profile_steps = "3:12";
    CHECK(profile_steps(&first, &last, &o, &error) == 0 && first == 3 && last == 12);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.profile_steps = wrong[i];
        CHECK(profile_steps(&first, &last, &o, &error) == -1 && error.exit_code == EXIT_USAGE);
    }
}

/* What the user gives stays; what a checkpoint has comes before the rules; the text of a filled option is its number. */
static void check_fill(void)
{
    static const struct train_defaults defaults = {.lr = "auto", .schedule = "cosine", .beta2 = "0.95", .eps = "1e-8",
                                                   .weight_decay = "0", .epochs = "3", .eval_every = "0", .save_every = "0"};
    struct train_options o = {0};
    struct option table[TRAIN_ROWS + 1] = {0};
    struct error error;
    struct kv kv = {0};
    char program[] = "x", lr[] = "--lr=0.5", tokens[] = "--tokens=40M", *argv[] = {program, lr, tokens};
    train_option_rows(table, &o, &defaults);
    CHECK(options_parse(table, 1, argv, "x", "x", NULL, &error) == 0 && o.lr < 0 && o.batch_tokens < 0);
    defaults_fill(&o, table, NULL, STAGE_SFT, 256, 2e5, 0);
    CHECK(o.lr == default_lr(STAGE_SFT, 256) && o.batch_tokens == default_batch_tokens(6e5) && o.micro_tokens == 1024);
    options_save(&kv, table);
    CHECK(options_parse(table, 3, argv, "x", "x", NULL, &error) == 0);
    defaults_fill(&o, table, NULL, STAGE_SFT, 256, 2e5, 0);
    CHECK(o.lr == 0.5 && o.batch_tokens == default_batch_tokens(4e7) && o.micro_tokens == 4096);
    CHECK(options_parse(table, 3, argv, "x", "x", NULL, &error) == 0);
    options_adopt(table, &kv);
    CHECK(o.lr == 0.5 && o.batch_tokens == 1024 && o.micro_tokens == 1024);
    /* auto given by name beats the checkpoint only where an option may change; not given, it never does */
    for (struct option *row = table; row->name; row++)
        if (strcmp(row->name, "epochs") == 0 || strcmp(row->name, "lr") == 0) row->flags |= OPTION_AUTO;
    char *again[] = {program, "--epochs=auto", "--lr=auto"};
    CHECK(options_parse(table, 3, again, "x", "x", NULL, &error) == 0 && o.epochs < 0 && o.lr < 0);
    options_adopt(table, &kv);
    CHECK(o.epochs < 0 && o.lr == default_lr(STAGE_SFT, 256));
    CHECK(options_parse(table, 1, argv, "x", "x", NULL, &error) == 0);
    defaults_fill(&o, table, NULL, STAGE_RM, 256, 2e5, 3000);
    CHECK(o.batch_tokens == 4096 && o.micro_tokens == 4096);
    kv_free(&kv);
}

int main(void)
{
    check_lr();
    check_batch();
    check_fill();
    check_profile_steps();
    return test_end("test_defaults");
}
