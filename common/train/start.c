/* start.c - a program that learns from rows reads them before it knows its batches: both follow from what was read. */
#include "common/train/start.h"

enum { LEAST_PROMPTS = 8 };        /* of a step of rm: a ranking teaches one thing, however long it is */

void start_options(struct option *row, struct start *s, const struct option *own, int n, const struct start_text *text)
{
    const struct train_defaults defaults = {
        .lr = "auto", .schedule = "cosine", .beta2 = "0.95", .eps = "1e-8", .weight_decay = text->weight_decay,
        .epochs = text->epochs, .eval_every = "50", .save_every = "200", .sample_every = text->sample_every};
    s->text = text;
    const int moved = OPTION_MAY_CHANGE;        /* files may have moved: what they hold is checked on resume */
    const struct option rows[START_ROWS] = {
        {"Model and data", "model", OPTION_TEXT, &s->model_path, NULL, .flags = OPTION_REQUIRED | moved,
         .help = text->model},
        {NULL, "data", OPTION_LIST, &s->data_paths, NULL, .flags = OPTION_REQUIRED | moved, .help = text->data},
        {NULL, "skip-bad-rows", OPTION_TEXT, &s->skip_bad_rows, "0", .flags = moved, .help = SKIP_BAD_ROWS_HELP},
        {NULL, "template", OPTION_CHOICE, &s->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .flags = OPTION_COMMON, .help = "Chat template; auto: the model's own, or quartet when it has none."},
        {NULL, "max-length", OPTION_INT, &s->max_length, "0", 0, 1 << 24, .help = text->length},
        {NULL, "validation", OPTION_REAL, &s->validation, "0.05", 0, 0.9, .flags = OPTION_COMMON,
         .help = "Share of first questions held out."},
        {NULL, "eval-tokens", OPTION_INT, &s->eval_tokens, "128k", 0, 1e15, .flags = OPTION_MAY_CHANGE,
         .help = "Most held-out tokens per evaluation; 0: all."},
        {NULL, "dry-run", OPTION_FLAG, &s->train.dry_run, NULL, .flags = OPTION_COMMON | OPTION_NOT_SAVED,
         .help = "Show the first rows as tokens and what was read, dropped and changed, then exit."},
    };
    memcpy(row, rows, sizeof rows);
    row += START_ROWS;
    memcpy(row, own, (size_t)n * sizeof *own);
    row += n;
    row[train_option_rows(row, &s->train, &defaults)] = (struct option){0};
}

void start_open(struct start *s, struct run *run, const struct option *table)
{
    struct error error;
    unsigned stages = 1u << STAGE_SFT | 1u << STAGE_PRETRAIN | 1u << STAGE_IMPORTED;
    if (!run && !s->train.plan && !s->train.dry_run)
        quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    s->run = run;
    s->table = table;
    if (parent_open(&s->parent, s->model_path, run, stages, "init", &error) != 0) quit_error(&error);
    s->config = s->parent.config;
    s->known_ids = tokenizer_vocab(s->parent.tokenizer);
    bool own = s->parent.meta->chat.count > 0;
    if (own && chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error) != 0) quit_error(&error);
    enum chat_template wanted = own ? s->chat.template : TEMPLATE_QUARTET;
    if (s->template) wanted = (enum chat_template)s->template;
    const char *unknown;
    if (!s->template && !own && kv_get_text(&s->parent.meta->meta, "chat_template", &unknown) == 1)
        quit(EXIT_MISMATCH, "%s: its chat template is none that is known here: choose one of " CHAT_TEMPLATES
             " with --template", ckpt_path(s->parent.ckpt));
    if (run && own && wanted != s->chat.template)
        run_log(run, "warning: the model was trained with the chat template %s; from now on it is %s, which rlhf needs "
                "for all its models", chat_template_name(s->chat.template), chat_template_name(wanted));
    chat_open(&s->chat, wanted, s->parent.tokenizer);
    s->config.vocab = int_max(s->config.vocab, tokenizer_vocab(s->parent.tokenizer));
}

int start_limit(const struct start *s)
{
    return s->max_length > 0 ? int_min(s->config.context, (int)s->max_length) : s->config.context;
}

struct paths start_paths(const struct start *s)
{
    struct error error;
    struct paths paths = {0};
    if (paths_expand(&paths, &s->data_paths, false, &error) != 0) quit_error(&error);
    paths_tell(&paths, program_say, s->run);
    return paths;
}

void start_batches(struct start *s, enum stage stage)
{
    struct train_options *o = &s->train;
    const struct sequences *d = &s->data.train;
    double tokens = (double)d->tokens, least = stage == STAGE_RM ? LEAST_PROMPTS * tokens / d->items : 0;
    defaults_fill(o, s->table, s->run, stage, s->config.channels, tokens, least);
    s->micro_tokens = int_max((int)o->micro_tokens, (int)s->data.longest);
    if (s->run && s->micro_tokens > o->micro_tokens && option_given(s->table, "micro-tokens"))
        run_log(s->run, "micro-batches hold %d tokens: the %s needs that many", s->micro_tokens, s->text->longest_item);
    int64_t n = (o->batch_tokens + s->micro_tokens - 1) / s->micro_tokens;
    if (n > 1000000)
        quit(EXIT_USAGE, "--batch-tokens %lld are %lld micro-batches of %d tokens, expected at most a million: raise "
             "--micro-tokens", (long long)o->batch_tokens, (long long)n, s->micro_tokens);
    s->micro_batches = (int)n;
    parallel_fit(o, &s->config, s->micro_batches);
    s->batch = host_alloc((size_t)s->micro_batches, sizeof *s->batch);
    s->items = host_alloc((size_t)s->micro_batches, sizeof *s->items);
    epochs_open(&s->order, d->item_tokens, d->items, (uint32_t)s->micro_tokens, (uint64_t)o->seed);
}

void start_show(const struct start *s, struct bytes *examples)
{
    bytes_text(examples, "----\n%s%8u  micro-batches of up to %d tokens per epoch, %.1f %% full\n", s->report.data,
               s->order.bins, s->micro_tokens,
               100.0 * (double)s->data.train.tokens / ((double)s->order.bins * s->micro_tokens));
    fwrite(examples->data, 1, examples->size, stdout);
    bytes_free(examples);
}

void start_build(struct start *s, struct memory *m, int samples)
{
    int tokens = s->micro_tokens, sequences = tokens / 2 + 1;
    struct model_use use = {.max_tokens = tokens, .max_sequences = sequences, .cache_slots = samples,
                            .cache_capacity = samples ? s->config.context : 0, .logits_rows = samples};
    train_use(&use, &s->train);
    ops_open(m);
    model_open(&s->model, &s->config, &use, m);
    for (int i = 0; i < s->micro_batches; i++) {
        batch_open(&s->batch[i], m, tokens, sequences);
        s->items[i].item = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->items[i].item);
    }
    dataset_settle(&s->data, m);
    s->order.length = s->data.train.item_tokens;
}

int start_fill(struct batch *b, struct start_items *items, const struct sequences *s, struct epochs *order,
               uint64_t index)
{
    const uint32_t *item;
    uint32_t n = epochs_bin(order, &item, index);
    int targets = 0;
    batch_clear(b);
    for (uint32_t i = 0; i < n; i++) targets += sequences_batch(b, s, item[i]);
    if (items) memcpy(items->item, item, n * sizeof *item);
    if (items) items->count = n;
    return targets;
}

static int prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct start *s = self;
    int64_t first = step * s->micro_batches, targets = 0;
    (void)update, (void)error;
    s->step_items = 0;
    for (int i = 0; i < s->micro_batches; i++) {
        targets += start_fill(&s->batch[i], &s->items[i], &s->data.train, &s->order, (uint64_t)(first + i));
        s->step_items += s->items[i].count;
    }
    *count = (double)(s->model.config.head == HEAD_SCALAR ? s->step_items : targets);
    return s->micro_batches;
}

static const struct batch *batch(void *self, int i, int learner)
{
    (void)learner;
    return &((struct start *)self)->batch[i];
}

static void say(void *self)
{
    struct start *s = self;
    run_log(s->run, "starts from %s", ckpt_path(s->parent.ckpt));
    if (s->known_ids < tokenizer_vocab(s->parent.tokenizer))
        run_log(s->run, "%d special tokens of the template %s are new: their rows start as the mean of the others",
                tokenizer_vocab(s->parent.tokenizer) - s->known_ids, chat_template_name(s->chat.template));
    run_log(s->run, "data:\n%.*s", (int)s->report.size - 1, s->report.data);
    if (s->data.validation.items == 0) run_log(s->run, "warning: nothing is held out: there will be no validation");
}

static int load_model(void *self, struct error *error)
{
    struct start *s = self;
    return parent_load(&s->model, &s->parent, s->known_ids, (uint64_t)s->train.seed, error);
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct start *s = self;
    char key[40];
    snprintf(key, sizeof key, "data.%s", s->text->items);
    program_describe(meta, &s->model.config, s->parent.tokenizer, &s->chat, &s->parent.line, s->parent.meta);
    kv_set_u64(&meta->dcur, "data.crc", s->data.identity);
    kv_set_u64(&meta->dcur, key, s->data.train.items);
    kv_set_u64(&meta->dcur, "data.tokens", s->data.train.tokens);
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    struct start *s = self;
    static const char *const parents[] = {"--model"};
    uint64_t crc = 0, count = 0;
    char key[40];
    snprintf(key, sizeof key, "data.%s", s->text->items);
    if (parents_unchanged(&meta->line, &s->parent.line, parents, 1, error) != 0) return -1;
    kv_get_u64(&meta->dcur, "data.crc", &crc);
    kv_get_u64(&meta->dcur, key, &count);
    if (crc == s->data.identity && count == s->data.train.items) return 0;
    return fail(error, EXIT_MISMATCH, "the run was started on other data: %llu %s (CRC %08llx), now %u (CRC %08x); use "
                "the same files and the build it was started with, or another --out", (unsigned long long)count,
                s->text->items, (unsigned long long)crc, s->data.train.items, s->data.identity);
}

int start_train(struct start *s, struct task *task)
{
    const struct sequences *d = &s->data.train;
    struct train_options options = s->train;
    task->self = s;
    task->learner = &s->learner;
    task->n_learners = 1;
    task->say = say;
    task->fill = load_model;
    task->prepare = prepare;
    task->batch = batch;
    task->save = save;
    task->load = load;
    if (s->data.validation.items == 0) task->evaluate = NULL;
    task->tokens_per_step = (double)d->tokens / s->order.bins * s->micro_batches;
    task->flops_per_token = config_train_flops(&s->config, (double)d->tokens / d->count);
    options.steps = program_steps(&s->train, task->tokens_per_step, (double)s->order.bins / s->micro_batches);
    s->learner = (struct learner){.name = "", .model = &s->model,
                                  .schedule = program_schedule(&s->train, options.steps, 0.03)};
    return program_run(task, s->run, &options, s->table, &s->memory);
}

void start_close(struct start *s)
{
    model_close(&s->model);
    memory_close(&s->memory);
    epochs_close(&s->order);
    parent_close(&s->parent);
    bytes_free(&s->report);
    dataset_free(&s->data);
    free(s->batch);
    free(s->items);
    program_end(s->run, &s->train);
}
