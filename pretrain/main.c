/* main.c - pretrain: raw text to a base model (docs/pretrain.md).
 *
 * A step's rows follow from its number alone, so there is no cursor that could be lost; the checkpoint keeps it for
 * people and as a check.  Bits per byte count the bytes of exactly those tokens that were predicted, so the number can
 * be compared between tokenizers and does not depend on how much of the held-out text is looked at. */
#include "common/base/signals.h"
#include "pretrain/pretrain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the task ---- */

static struct train_options plan_steps(struct pretrain *p)
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
static void build(void *self, struct memory *memory)
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
    program_describe(meta, &p->config, p->tokenizer, NULL, &p->parent.line, p->parent.meta);
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

/* ---- validation and samples ---- */

struct evaluation { double loss, bits_per_byte, perplexity; uint64_t targets, bytes; };

/* Over rows of one split, at most max_tokens (0: all): the mean loss of a target token, and the loss in bits per byte
 * of text.  Returns 0, or -1 when asked to stop. */
static int measure(struct evaluation *out, struct pretrain *p, bool validation, uint64_t max_tokens,
                   struct error *error)
{
    struct evaluation e = {0};
    struct batch *b = &p->micro[0];
    uint64_t T = (uint64_t)p->row_tokens, rows = order_rows(p->order, validation);
    if (max_tokens > 0 && rows > (max_tokens + T - 1) / T) rows = (max_tokens + T - 1) / T;
    size_t each = (size_t)p->rows_per_micro, n = (rows + each - 1) / each;
    double sum = 0, *loss = host_alloc(n + 1, sizeof *loss);        /* of every micro-batch */
    int status = 0;
    for (size_t i = 0; i < n; i++) {
        if ((status = evaluation_next(&p->model, (int64_t)i, error)) != 0) break;
        batch_clear(b);
        for (uint64_t row = i * each; row < (i + 1) * each && row < rows && status == 0; row++)
            status = order_row(p->order, validation, row, b, error);
        if (status != 0) break;
        if (evaluation_mine(&p->model, (int64_t)i)) {
            model_forward(&p->model, b, false);
            loss[i] = model_cross_entropy(&p->model, b, 0, false);
        }
        for (int t = 0; t < b->N; t++) {
            e.bytes += b->mask[t] ? (uint64_t)p->token_bytes[b->targets[t]] : 0;
            e.targets += b->mask[t];
        }
    }
    status = evaluation_gather(&p->model, status, (int64_t)n, loss, n, error);
    for (size_t i = 0; i < n; i++) sum += loss[i];
    free(loss);
    if (status != 0) return -1;
    e.loss = e.targets ? sum / (double)e.targets : NAN;
    e.bits_per_byte = e.bytes ? sum / log(2) / (double)e.bytes : NAN;
    e.perplexity = exp(e.loss);
    *out = e;
    return 0;
}

static int evaluate(void *self, struct record *r, struct error *error)
{
    struct pretrain *p = self;
    struct evaluation e;
    if (measure(&e, p, true, (uint64_t)p->eval_tokens, error) != 0) return -1;
    record_real(r, "val_loss", e.loss);
    record_real(r, "val_bits_per_byte", e.bits_per_byte);
    record_real(r, "val_perplexity", e.perplexity);
    record_count(r, "val_tokens", (int64_t)e.targets);
    return 0;
}

/* Without --sample-prompt one sample begins where a document does. */
static void open_prompts(struct pretrain *p)
{
    p->n_prompts = int_max(1, p->sample_prompts.count);
    p->prompt = host_alloc((size_t)p->n_prompts, sizeof *p->prompt);
    for (int i = 0; i < p->n_prompts; i++) {
        ids_add(&p->prompt[i], tokenizer_document(p->tokenizer));
        if (i < p->sample_prompts.count) {
            const char *text = p->sample_prompts.item[i];
            tokenizer_encode(&p->prompt[i], p->tokenizer, text, strlen(text));
        }
        if (p->prompt[i].count >= (size_t)p->config.context)
            quit(EXIT_USAGE, "--sample-prompt number %d has %zu tokens, the model's context only %d", i + 1,
                 p->prompt[i].count - 1, p->config.context);
    }
}

static void sample(void *self, struct run *run, int64_t step)
{
    struct pretrain *p = self;
    struct samples how = {.tokenizer = p->tokenizer, .prompt = p->prompt, .count = p->n_prompts,
                          .tokens = (int)p->sample_tokens,
                          .stops = stops_of(NULL, p->tokenizer, p->parent.meta ? &p->parent.meta->meta : NULL),
                          .temperature = p->temperature, .seed = (uint64_t)p->train.seed, .bare = true};
    samples_show(&how, &p->model, run, step);
}

static struct task make_task(struct pretrain *p)
{
    double T = p->row_tokens;
    return (struct task){
        .program = "pretrain", .stage = STAGE_PRETRAIN, .self = p, .learner = &p->learner, .n_learners = 1,
        .build = build, .fill = fill_model,
        .prepare = prepare, .batch = batch, .head = head, .end = end, .save = save, .load = load,
        .evaluate = order_rows(p->order, true) > 0 ? evaluate : NULL, .sample = sample,
        .main_metric = "val_loss", .tokens_per_step = p->rows_per_step * T,
        .flops_per_token = config_train_flops(&p->config, T)};
}

/* ---- the program ---- */

static const char usage[] = "pretrain --data FILES --out RUN [options]";
static const char about[] = "Trains a language model from random weights on text: tokenizer, shards, model.  The same "
                            "command resumes a run that was stopped.";

static int eval_only(struct pretrain *p)
{
    bool held_out = option_given(p->table, "validation");
    struct error error;
    if (held_out && order_rows(p->order, true) == 0)
        quit(EXIT_DATA, "--validation %g leaves no text to evaluate", p->validation);
    if (model_load(&p->model, p->parent.ckpt, "", ROLE_WEIGHT, false, 0, &error) != 0) quit_error(&error);
    uint64_t most = option_given(p->table, "eval-tokens") ? (uint64_t)p->eval_tokens : 0;
    struct evaluation e;
    if (measure(&e, p, held_out, most, &error) != 0) quit_error(&error);
    printf("loss %.6f  bits per byte %.6f  perplexity %.4f  (%llu tokens, %llu bytes%s)\n", e.loss, e.bits_per_byte,
           e.perplexity, (unsigned long long)e.targets, (unsigned long long)e.bytes, held_out ? ", held out" : "");
    return EXIT_DONE;
}

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
    struct train_options options = plan_steps(&p);
    open_prompts(&p);
    struct task task = make_task(&p);
    int code;
    if (p.eval_only && !p.train.plan) {
        build(&p, &p.memory);
        program_take(&p.memory, build, &p);
        code = eval_only(&p);
    } else {
        code = program_run(&task, p.run, &options, table, &p.memory);
        if (code == EXIT_DONE && p.run) program_next(p.run, "next", "sft", "--model", "--data DIALOGUES.jsonl");
    }
    close_all(&p);
    return code;
}
