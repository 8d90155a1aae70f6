/* pretrain.h - from raw text to a base model: what the files of this program share. */
#ifndef QUARTET_PRETRAIN_H
#define QUARTET_PRETRAIN_H

#include "common/train/program.h"
#include "common/data/order.h"

struct pretrain {
    /* options (options.c) */
    struct train_options train;
    struct option_list data, sample_prompts;
    const char *text_key, *separator, *shards_folder, *tokenizer_path, *preset, *model_path;
    double validation, temperature, init_std;
    int64_t vocab_size, tokenizer_bytes, layers, channels, heads, kv_heads, ffn, context, eval_tokens, sample_tokens;
    int pattern;
    const char *skip_bad_rows;
    bool eval_only, allow_invalid;
    const struct option *table;

    /* data (data.c) */
    struct run *run;                    /* NULL with --plan and --eval-only */
    struct parent parent;               /* --model; parent.ckpt NULL without */
    struct tokenizer *tokenizer;
    bool sampled;                       /* the tokenizer is only an estimate, for --plan */
    struct order *order;
    uint32_t expected;                  /* order_identity of the run that is resumed; 0: none */

    /* training (main.c) */
    struct config config;
    struct memory memory;
    struct model model;
    struct learner learner;
    int row_tokens, rows_per_micro, rows_per_step, n_micro;
    struct batch *micro;                /* (n_micro) the step's rows; the first one also serves evaluation */
    int *token_bytes;                   /* (V) text bytes of every token; 0: special */
    struct ids *prompt; int n_prompts;  /* of samples, each beginning as a document does */
};

/* Stages that --model may be of. */
enum { PRETRAIN_PARENTS = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED };

/* options.c: the table, ended by a row without a name. */
enum { PRETRAIN_ROWS = TRAIN_ROWS + 32 };
void pretrain_options(struct option table[PRETRAIN_ROWS], struct pretrain *p);
/* The model to train, by preset and sizes, or the parent's.  Quits (EXIT_USAGE) when the sizes do not fit together. */
void pretrain_config(struct pretrain *p);

/* data.c: parent, tokenizer, model configuration and shards, in this order; quits when one fails.  With --plan
 * tokenizer and shards are estimates from a sample; nothing is written. */
void pretrain_open_data(struct pretrain *p);
void pretrain_close_data(struct pretrain *p);

#endif
