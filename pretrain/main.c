/* main.c - pretrain: raw text to a base model.  docs/pretrain.md. */
#include "pretrain/pretrain.h"

#include <stdlib.h>

static const char usage[] = "pretrain --data FILES --out RUN [options]";
static const char about[] = "Trains a language model from random weights on text: tokenizer, shards, model.  The same "
                            "command resumes a run that was stopped.";

static void check_usage(struct pretrain *p)
{
    if (p->eval_only && !p->model_path)
        quit(EXIT_USAGE, "--eval-only needs a checkpoint or a run to evaluate: --model");
    if (p->eval_only && !option_given(p->table, "validation")) p->validation = 0;
    if (!p->train.out && !p->train.plan && !p->eval_only) quit(EXIT_USAGE, "--out is missing: the folder of the run");
}

/* --plan --cluster needs neither data nor a tokenizer. */
static int plan_cluster(struct pretrain *p)
{
    struct error error;
    double tokens = (double)p->train.tokens;
    if (p->train.batch_tokens > 0 && p->train.steps > 0) tokens = (double)(p->train.batch_tokens * p->train.steps);
    if (!(tokens > 0))
        quit(EXIT_USAGE, "--tokens is missing: a plan for a cluster needs the length of the run, as in --tokens 300B");
    if (p->model_path && parent_open(&p->parent, p->model_path, p->run, PRETRAIN_PARENTS, "init", &error) != 0)
        quit_error(&error);
    pretrain_config(p);
    int code = train_plan_cluster(&p->config, p->row_tokens, tokens, &p->train, p->table);
    if (p->parent.ckpt) parent_close(&p->parent);
    return code;
}

static void close_all(struct pretrain *p)
{
    model_close(&p->model);
    memory_close(&p->memory);
    pretrain_close_data(p);
    for (int i = 0; i < p->n_prompts; i++) free(p->prompt[i].id);
    free(p->prompt);
    free(p->micro);
    program_end(p->run, &p->train);
}

int main(int argc, char **argv)
{
    struct pretrain p = {0};
    struct option table[PRETRAIN_ROWS];
    pretrain_options(table, &p);
    p.run = program_start("pretrain", table, &p.train, argc, argv, usage, about);
    if (p.train.parallel.cluster) return plan_cluster(&p);
    check_usage(&p);
    pretrain_open_data(&p);
    struct train_options options = pretrain_plan_steps(&p);
    pretrain_open_prompts(&p);
    struct task task = pretrain_task(&p);
    int code;
    if (p.eval_only && !p.train.plan) {
        pretrain_build(&p, &p.memory);
        program_take(&p.memory, pretrain_build, &p);
        code = pretrain_eval_only(&p);
    } else {
        code = program_run(&task, p.run, &options, table, &p.memory);
        if (code == EXIT_DONE && p.run) program_next(p.run, "next", "sft", "--model", "--data DIALOGUES.jsonl");
    }
    close_all(&p);
    return code;
}
