/* main.c - pretrain: raw text to a base model.  docs/pretrain.md. */
#include "common/train/defaults.h"
#include "pretrain/pretrain.h"

#include <stdlib.h>

static const char usage[] = "pretrain --data FILES --out RUN [options]";
static const char about[] = "Trains a language model from random weights on text: tokenizer, shards, model.  The same "
                            "command goes on where it was stopped.";

static void check_usage(struct pretrain *p)
{
    if (p->eval_only && !p->model_path)
        quit(EXIT_USAGE, "--eval-only needs a checkpoint or a run to evaluate: --model");
    if (p->eval_only && !option_given(p->table, "validation")) p->validation = 0;
    if (!p->train.out && !p->train.plan && !p->eval_only) quit(EXIT_USAGE, "--out is missing: the folder of the run");
}

/* First weights: the parent's, or random ones. */
static void fill_model(struct pretrain *p)
{
    struct error error;
    uint64_t seed = (uint64_t)p->train.seed;
    if (p->parent.ckpt) {
        if (model_load(&p->model, p->parent.ckpt, "", ROLE_WEIGHT, false, seed, &error) != 0) quit_error(&error);
    } else {
        params_init(&p->model.params, &p->config, seed);
        params_pack(&p->model.params, &p->config);
    }
}

static void close_all(struct pretrain *p)
{
    model_close(&p->model);
    memory_close(&p->memory);
    pretrain_close_data(p);
    for (int i = 0; i < p->n_prompts; i++) free(p->prompt[i].id);
    free(p->prompt);
    free(p->micro);
    run_close(p->run);
}

int main(int argc, char **argv)
{
    struct pretrain p = {0};
    struct option table[PRETRAIN_ROWS];
    pretrain_options(table, &p);
    p.run = program_start("pretrain", table, &p.train, argc, argv, usage, about);
    check_usage(&p);
    pretrain_open_data(&p);
    struct train_options options = pretrain_plan_steps(&p);
    pretrain_open_prompts(&p);
    pretrain_build(&p, &p.memory);

    struct task task = pretrain_task(&p);
    int code = EXIT_DONE;
    if (p.train.plan) {
        code = train_print_plan(&task, &p.memory, &options);
    } else {
        if (p.run && !p.eval_only) {
            train_log_plan(p.run, &task, &p.memory, &options);
            defaults_warn(p.run, &options, table);
        }
        program_take(&p.memory, pretrain_build, &p);
        if (p.eval_only) {
            code = pretrain_eval_only(&p);
        } else {
            fill_model(&p);
            code = train(&task, p.run, &options, table);
            if (code == EXIT_DONE)
                program_next(p.run, "next", "sft", "--model", "--data DIALOGUES.jsonl");
        }
    }
    close_all(&p);
    return code;
}
