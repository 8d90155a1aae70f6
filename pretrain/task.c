/* task.c - what pretraining says to the loop: which rows a step shows, and that the loss is cross-entropy.  A step's
 * rows follow from its number alone, so there is no cursor that could be lost; the checkpoint keeps it for people
 * and as a check. */
#include "pretrain/pretrain.h"

#include <stdlib.h>

struct train_options pretrain_plan_steps(struct pretrain *p)
{
    struct train_options *o = &p->train, planned;
    int64_t T = p->row_tokens;
    defaults_fill(o, p->table, p->run, STAGE_PRETRAIN, p->config.channels,
                  (double)T * (double)order_rows(p->order, false), 0);
    if (o->micro_tokens < T) o->micro_tokens = T;
    int64_t rows = (o->batch_tokens + T - 1) / T;
    if (rows > 1 << 24) quit(EXIT_USAGE, "--batch-tokens %lld are more than 16M rows", (long long)o->batch_tokens);
    if (rows * T != o->batch_tokens && option_given(p->table, "batch-tokens"))
        run_log(p->run, "a step has %lld tokens: --batch-tokens rounded up to whole rows of %lld",
                (long long)(rows * T), (long long)T);
    p->rows_per_step = (int)rows;
    int64_t per_slice = (rows + o->parallel.slices - 1) / o->parallel.slices;
    p->rows_per_micro = (int)(o->micro_tokens / T < per_slice ? o->micro_tokens / T : per_slice);
    p->n_micro = p->eval_only ? 1 : (p->rows_per_step + p->rows_per_micro - 1) / p->rows_per_micro;
    parallel_fit(o, &p->config, p->n_micro);
    double steps_per_epoch = (double)order_rows(p->order, false) / (double)rows;
    planned = *o;
    planned.steps = program_steps(o, (double)(rows * T), steps_per_epoch);
    p->learner = (struct learner){.name = "", .model = &p->model, .schedule = program_schedule(o, planned.steps, 0.02)};
    return planned;
}

/* Runs twice (memory.h). */
void pretrain_build(void *self, struct memory *memory)
{
    struct pretrain *p = self;
    int tokens = p->rows_per_micro * p->row_tokens;
    bool samples = !p->eval_only && p->train.sample_every > 0;
    struct model_use use = {.max_tokens = tokens, .max_sequences = tokens};
    if (!p->eval_only) train_use(&use, &p->train);
    if (samples) {
        use.cache_slots = use.logits_rows = int_min(p->n_prompts, 8);
        use.cache_capacity = p->config.context;
    }
    ops_open(memory);
    model_open(&p->model, &p->config, &use, memory);
    if (!p->micro) p->micro = host_alloc((size_t)p->n_micro, sizeof *p->micro);
    for (int i = 0; i < p->n_micro; i++) batch_open(&p->micro[i], memory, tokens, tokens);
    p->token_bytes = memory_take(memory, MEMORY_DATA, (size_t)p->config.vocab, sizeof *p->token_bytes);
    for (int id = 0; p->token_bytes && id < tokenizer_vocab(p->tokenizer); id++) {
        size_t length;
        tokenizer_bytes(p->tokenizer, id, &length);
        p->token_bytes[id] = tokenizer_is_special(p->tokenizer, id) ? 0 : (int)length;
    }
}

/* All rows of the step, and how many tokens they ask to predict. */
static int prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct pretrain *p = self;
    uint64_t index = (uint64_t)step * (uint64_t)p->rows_per_step;
    (void)update;
    *count = 0;
    for (int i = 0; i < p->n_micro; i++) {
        struct batch *b = &p->micro[i];
        batch_clear(b);
        for (int row = i * p->rows_per_micro; row < int_min((i + 1) * p->rows_per_micro, p->rows_per_step); row++)
            if (order_row(p->order, false, index + (uint64_t)row, b, error) != 0) return -1;
        for (int t = 0; t < b->N; t++) *count += b->mask[t];
    }
    return p->n_micro;
}

/* First weights: the parent's, or random ones. */
static int fill_model(void *self, struct error *error)
{
    struct pretrain *p = self;
    uint64_t seed = (uint64_t)p->train.seed;
    if (p->parent.ckpt) return model_load(&p->model, p->parent.ckpt, "", ROLE_WEIGHT, false, seed, error);
    weights_init(&p->model, seed);
    weights_gather(&p->model);
    return 0;
}

static const struct batch *batch(void *self, int i, int learner)
{
    (void)learner;
    return &((struct pretrain *)self)->micro[i];
}

static double head(void *self, int i, int learner, double scale)
{
    struct pretrain *p = self;
    (void)learner;
    return model_cross_entropy(&p->model, &p->micro[i], scale, true);
}

static void end(void *self, int64_t step, struct record *r)
{
    struct pretrain *p = self;
    record_real(r, "epoch", (double)(step + 1) * p->rows_per_step / (double)order_rows(p->order, false));
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct pretrain *p = self;
    uint64_t index = meta->step * (uint64_t)p->rows_per_step;
    program_describe(meta, &p->config, p->tokenizer, NULL, &p->parent.line);
    kv_set_u64(&meta->dcur, "data.identity", order_identity(p->order));
    kv_set_u64(&meta->dcur, "data.rows", order_rows(p->order, false));
    kv_set_u64(&meta->dcur, "data.row_tokens", (uint64_t)p->row_tokens);
    kv_set_text(&meta->dcur, "order.algorithm", "feistel6-philox4x32-10");
    kv_set_u64(&meta->dcur, "order.seed", (uint64_t)p->train.seed);
    kv_set_u64(&meta->dcur, "order.epoch", index / order_rows(p->order, false));
    kv_set_u64(&meta->dcur, "order.sample", index);
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    static const char *const parents[] = {"--model"};
    struct pretrain *p = self;
    uint64_t identity = 0, sample = 0;
    if (parents_unchanged(&meta->line, &p->parent.line, parents, 1, error) != 0) return -1;
    if (kv_get_u64(&meta->dcur, "data.identity", &identity) != 1 ||
        kv_get_u64(&meta->dcur, "order.sample", &sample) != 1)
        return fail(error, EXIT_DATA, "the checkpoint does not say where in the data it stands (section DCUR)");
    if (identity != order_identity(p->order))
        return fail(error, EXIT_MISMATCH, "the data is not what this run was trained on (identity %08x, expected "
                    "%08llx): restore the files, or start a new run from these weights with --model",
                    order_identity(p->order), (unsigned long long)identity);
    if (sample != meta->step * (uint64_t)p->rows_per_step)
        return fail(error, EXIT_DATA, "the checkpoint stands at row %llu, expected %llu after %llu steps",
                    (unsigned long long)sample, (unsigned long long)(meta->step * (uint64_t)p->rows_per_step),
                    (unsigned long long)meta->step);
    return 0;
}

struct task pretrain_task(struct pretrain *p)
{
    double T = p->row_tokens;
    return (struct task){
        .program = "pretrain", .stage = STAGE_PRETRAIN, .self = p, .learner = &p->learner, .n_learners = 1,
        .build = pretrain_build, .fill = fill_model,
        .prepare = prepare, .batch = batch, .head = head, .end = end, .save = save, .load = load,
        .evaluate = order_rows(p->order, true) > 0 ? pretrain_evaluate : NULL, .sample = pretrain_sample,
        .main_metric = "val_loss", .tokens_per_step = p->rows_per_step * T,
        .flops_per_token = config_train_flops(&p->config, T)};
}
