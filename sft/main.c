/* main.c - supervised fine-tuning: a language model learns to answer in dialogues.
 *
 * The loss is the cross-entropy of the tokens the assistant speaks, summed over a step and divided by their number.
 * Whole dialogues are packed into micro-batches (epochs.h); everything else is the one loop (train.h). */
#include "common/data/epochs.h"
#include "common/train/defaults.h"
#include "common/train/grow.h"
#include "common/train/program.h"
#include "common/model/sample.h"
#include "common/text/show.h"
#include "common/data/textfile.h"
#include "sft/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sft {
    struct train_options train;
    const char *model_path;
    struct option_list data_paths;
    int format, template, train_on;
    double validation, temperature;
    int64_t max_length, samples, sample_tokens;

    struct parent parent;
    struct chat chat;
    struct sft_data data;
    struct epochs order, held_out;          /* held_out: its epoch 0, again and again */
    struct config config;
    struct model model;
    struct memory memory;
    struct batch *batch;                    /* the micro-batches of a step */
    int micro_batches, micro_tokens;
    int known_ids;                          /* of the tokenizer before the template's tokens were added */
    float *losses;                          /* (micro_tokens) */
    int *sample_ids;                        /* (samples, sample_tokens) */
    float *sample_logprobs;
};

enum { OWN_ROWS = 12, SHOWN = 4 };

static int option_rows(struct option *row, struct sft *s)
{
    const int moved = OPTION_MAY_CHANGE;        /* files may have moved: what they hold is checked on resume */
    const struct option own[] = {
        {"Model and data", "model", OPTION_TEXT, &s->model_path, NULL, .flags = OPTION_REQUIRED | moved,
         .help = "Checkpoint or run folder to start from: of pretrain, sft, or imported."},
        {NULL, "data", OPTION_LIST, &s->data_paths, NULL, .flags = OPTION_REQUIRED | moved,
         .help = "Dialogues: JSON arrays or lines, also .gz; files, folders, globs."},
        {NULL, "format", OPTION_CHOICE, &s->format, "auto", .choices = CHAT_FORMATS,
         .help = "Shape of the rows; auto: told by their keys."},
        {NULL, "template", OPTION_CHOICE, &s->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .help = "Chat template; auto: the model's own, or quartet when it has none."},
        {NULL, "train-on", OPTION_CHOICE, &s->train_on, "assistant", .choices = CHAT_TRAINS,
         .help = "Tokens that count: the assistant's, all, or those of the last answer."},
        {NULL, "max-length", OPTION_INT, &s->max_length, "0", 0, 1 << 24,
         .help = "Longest dialogue in tokens, cut at a turn border; 0: the model's context."},
        {NULL, "validation", OPTION_REAL, &s->validation, "0.05", 0, 0.9, .help = "Share of first questions held out."},
        {NULL, "samples", OPTION_INT, &s->samples, "3", 0, 64, .flags = OPTION_MAY_CHANGE,
         .help = "Held-out prompts answered now and then."},
        {NULL, "sample-tokens", OPTION_INT, &s->sample_tokens, "64", 1, 1 << 16, .flags = OPTION_MAY_CHANGE,
         .help = "Longest such answer."},
        {NULL, "temperature", OPTION_REAL, &s->temperature, "0.7", 0, 100, .flags = OPTION_MAY_CHANGE,
         .help = "Of these answers; 0: the most likely token."},
        {NULL, "dry-run", OPTION_FLAG, &s->train.dry_run, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Show the first dialogues as tokens and what was read, dropped and changed, and end."},
    };
    int n = sizeof own / sizeof *own;
    memcpy(row, own, sizeof own);
    static const struct train_defaults defaults = {
        .lr = "auto", .schedule = "cosine", .beta2 = "0.95", .eps = "1e-8", .weight_decay = "0", .epochs = "3", .eval_every = "50", .save_every = "200", .sample_every = "200"};
    n += train_option_rows(row + n, &s->train, &defaults);
    row[n] = (struct option){0};
    return n;
}

/* ---- the task ---- */

/* Micro-batch from bin number `index`; returns its target tokens. */
static int fill_batch(struct batch *b, const struct sequences *s, struct epochs *order, uint64_t index)
{
    const uint32_t *item;
    uint32_t n = epochs_bin(order, &item, index);
    int targets = 0;
    batch_clear(b);
    for (uint32_t i = 0; i < n; i++)
        targets += batch_add(b, s->id + s->start[item[i]], s->trained + s->start[item[i]], (int)s->length[item[i]]);
    return targets;
}

static int prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct sft *s = self;
    uint64_t first = (uint64_t)step * (uint64_t)s->micro_batches;
    (void)update, (void)error;
    *count = 0;
    for (int i = 0; i < s->micro_batches; i++)
        *count += fill_batch(&s->batch[i], &s->data.train, &s->order, first + (uint64_t)i);
    return s->micro_batches;
}

/* Sum of the losses of the last forward's counted rows. */
static double batch_loss(struct sft *s, const struct batch *b, double scale, bool backward)
{
    struct token_loss how = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = (float)scale};
    double sum = 0;
    int n = model_token_loss(&s->model, b, &how, NULL, NULL, s->losses, backward);
    for (int i = 0; i < n; i++) sum += (double)s->losses[i];
    return sum;
}

static const struct batch *batch(void *self, int i, int learner)
{
    (void)learner;
    return &((struct sft *)self)->batch[i];
}

static double head(void *self, int i, int learner, double scale)
{
    struct sft *s = self;
    (void)learner;
    return batch_loss(s, &s->batch[i], scale, true);
}

static void end(void *self, int64_t step, struct record *r)
{
    struct sft *s = self;
    double tokens = 0, sequences = 0;
    (void)step;
    for (int i = 0; i < s->micro_batches; i++) {
        tokens += s->batch[i].N;
        sequences += s->batch[i].S;
    }
    record_real(r, "packing", tokens / ((double)s->micro_batches * s->micro_tokens));
    record_count(r, "dialogues", (int64_t)sequences);
    record_count(r, "epoch", (int64_t)s->order.epoch);
}

static int evaluate(void *self, struct record *r, struct error *error)
{
    struct sft *s = self;
    double sum = 0, count = 0;
    (void)error;
    for (uint32_t bin = 0; bin < s->held_out.bins; bin++) {
        count += fill_batch(&s->batch[0], &s->data.validation, &s->held_out, bin);
        model_forward(&s->model, &s->batch[0], false);
        sum += batch_loss(s, &s->batch[0], 0, false);
    }
    if (count == 0) return 0;
    record_real(r, "val_loss", sum / count);
    record_real(r, "val_perplexity", exp(sum / count));
    return 0;
}

/* Prompt and answer as text: to samples.txt, and as one line to the log. */
static void show_sample(const struct sft *s, struct run *run, int64_t step, const struct sample_request *q,
                        const struct sample_result *a)
{
    struct bytes text = {0};
    struct utf8_held held = {0};
    char shown[1500];
    bytes_text(&text, "--- step %lld\n", (long long)step);
    size_t head = text.size;
    tokenizer_stream(&text, &held, s->parent.tokenizer, q->prompt, (size_t)q->n_prompt);
    tokenizer_stream(&text, &held, s->parent.tokenizer, a->tokens, (size_t)a->n);
    tokenizer_stream(&text, &held, s->parent.tokenizer, NULL, 0);
    bytes_add(&text, "\n", 1);
    run_append(run, "samples.txt", text.data, text.size);
    for (size_t i = head; i < text.size; i++)
        if (text.data[i] == '\n') text.data[i] = ' ';
    run_log(run, "sample: %s", text_escape(shown, sizeof shown, text.data + head, text.size - head - 1));
    bytes_free(&text);
}

static void sample(void *self, struct run *run, int64_t step)
{
    struct sft *s = self;
    int n = s->data.prompts;
    if (n == 0) return;
    struct sample_request *request = host_alloc((size_t)n, sizeof *request);
    struct sample_result *result = host_alloc((size_t)n, sizeof *result);
    int stop[2] = {s->chat.end, s->chat.bos};
    struct sample_settings how = {.sampling = {.temperature = (float)s->temperature, .top_p = 1}, .stop = stop,
                                  .n_stop = s->chat.bos >= 0 ? 2 : 1, .allowed = tokenizer_vocab(s->parent.tokenizer),
                                  .stream = RNG_SAMPLE, .step = (uint64_t)step};
    for (int i = 0; i < n; i++) {
        request[i] = (struct sample_request){s->data.prompt[i].id, (int)s->data.prompt[i].count,
                                             (uint64_t)s->train.seed, (uint64_t)i,
                                             (int)s->sample_tokens};
        result[i].tokens = s->sample_ids + (int64_t)i * s->sample_tokens;
        result[i].logprobs = s->sample_logprobs + (int64_t)i * s->sample_tokens;
    }
    sample_run(&s->model, &how, request, result, n, NULL, NULL);
    for (int i = 0; i < n; i++) show_sample(s, run, step, &request[i], &result[i]);
    free(request);
    free(result);
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct sft *s = self;
    program_describe(meta, &s->config, s->parent.tokenizer);
    chat_write(&s->chat, &meta->chat);
    kv_copy(&meta->line, &s->parent.line);
    kv_set_u64(&meta->dcur, "data.crc", s->data.identity);
    kv_set_u64(&meta->dcur, "data.dialogues", s->data.train.count);
    kv_set_u64(&meta->dcur, "data.tokens", s->data.train.tokens);
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    static const char *const parents[] = {"--model"};
    struct sft *s = self;
    uint64_t crc = 0, dialogues = 0;
    if (parents_unchanged(&meta->line, &s->parent.line, parents, 1, error) != 0) return -1;
    kv_get_u64(&meta->dcur, "data.crc", &crc);
    kv_get_u64(&meta->dcur, "data.dialogues", &dialogues);
    if (crc == s->data.identity && dialogues == s->data.train.count) return 0;
    return fail(error, EXIT_MISMATCH,
                "the run was started on other data: %llu dialogues (CRC %08llx), now %u (CRC %08x); "
                "use the same files, or another --out", (unsigned long long)dialogues, (unsigned long long)crc,
                s->data.train.count, s->data.identity);
}

/* ---- starting ---- */

static void open_parent(struct sft *s, struct run *run)
{
    struct error error;
    unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_IMPORTED;
    if (parent_open(&s->parent, s->model_path, stages, "init", &error) != 0) quit_error(&error);
    s->config = s->parent.config;
    s->known_ids = tokenizer_vocab(s->parent.tokenizer);
    bool own = s->parent.meta->chat.count > 0;
    if (own && chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error) != 0) quit_error(&error);
    enum chat_template wanted = own ? s->chat.template : TEMPLATE_QUARTET;
    if (s->template) wanted = (enum chat_template)s->template;
    if (run && own && wanted != s->chat.template)
        run_log(run, "warning: the model was trained with the chat template %s; from now on it is %s",
                chat_template_name(s->chat.template), chat_template_name(wanted));
    chat_open(&s->chat, wanted, s->parent.tokenizer);
    s->config.vocab = int_max(s->config.vocab, tokenizer_vocab(s->parent.tokenizer));
}

static void read_data(struct sft *s)
{
    struct error error;
    struct paths paths = {0};
    int limit = s->max_length > 0 ? int_min(s->config.context, (int)s->max_length) : s->config.context;
    struct sft_options how = {.format = (enum chat_format)s->format, .train = (enum chat_train)s->train_on,
                              .validation = s->validation, .limit = limit};
    if (paths_expand(&paths, &s->data_paths, false, &error) != 0) quit_error(&error);
    if (sft_data_read(&s->data, paths.path, paths.count, &s->chat, &how, (int)s->samples, &error) != 0)
        quit_error(&error);
    paths_free(&paths);
}

/* Micro-batches that hold any dialogue, and their order. */
static void plan_batches(struct sft *s, struct run *run, const struct option *table)
{
    struct train_options *o = &s->train;
    const struct sequences *part[] = {&s->data.train, &s->data.validation};
    defaults_fill(o, table, run, STAGE_SFT, s->config.channels, (double)s->data.train.tokens);
    s->micro_tokens = (int)o->micro_tokens;
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < part[k]->count; i++) s->micro_tokens = int_max(s->micro_tokens, (int)part[k]->length[i]);
    if (run && s->micro_tokens > o->micro_tokens && option_given(table, "micro-tokens"))
        run_log(run, "micro-batches hold %d tokens: the longest dialogue needs that many", s->micro_tokens);
    s->micro_batches = program_micro_batches(o, s->micro_tokens);
    s->batch = host_alloc((size_t)s->micro_batches, sizeof *s->batch);
    epochs_open(&s->order, s->data.train.length, s->data.train.count, (uint32_t)s->micro_tokens, (uint64_t)o->seed);
    if (s->data.validation.count > 0)
        epochs_open(&s->held_out, s->data.validation.length, s->data.validation.count, (uint32_t)s->micro_tokens,
                    (uint64_t)o->seed);
}

static void show(struct sft *s)
{
    struct bytes out = {0};
    const struct sequences *q = s->data.train.count > 0 ? &s->data.train : &s->data.validation;
    for (uint32_t i = 0; i < q->count && i < SHOWN; i++) {
        bytes_text(&out, "---- dialogue %u: %u tokens\n", i + 1, q->length[i]);
        show_tokens(&out, s->parent.tokenizer, q->id + q->start[i], q->trained + q->start[i], q->length[i],
                    isatty(STDOUT_FILENO));
    }
    bytes_text(&out, "----\n");
    sft_data_report(&out, &s->data);
    bytes_text(&out, "%8u  micro-batches of up to %d tokens an epoch, %.1f %% full\n", s->order.bins, s->micro_tokens,
               100.0 * (double)s->data.train.tokens / ((double)s->order.bins * s->micro_tokens));
    fwrite(out.data, 1, out.size, stdout);
    bytes_free(&out);
}

static void build(void *self, struct memory *m)
{
    struct sft *s = self;
    int sequences = s->micro_tokens / 2 + 1, prompts = s->train.sample_every > 0 ? s->data.prompts : 0;
    struct model_use use = {.train = true, .recompute = s->train.recompute != 0, .max_tokens = s->micro_tokens,
                            .max_sequences = sequences, .cache_slots = prompts,
                            .cache_capacity = prompts ? s->config.context : 0, .logits_rows = prompts};
    ops_open(m);
    model_open(&s->model, &s->config, &use, m);
    for (int i = 0; i < s->micro_batches; i++) batch_open(&s->batch[i], m, s->micro_tokens, sequences);
    s->losses = memory_take(m, MEMORY_DATA, (size_t)s->micro_tokens, sizeof *s->losses);
    s->sample_ids = memory_take(m, MEMORY_DATA, (size_t)(prompts * s->sample_tokens), sizeof *s->sample_ids);
    s->sample_logprobs = memory_take(m, MEMORY_DATA, (size_t)(prompts * s->sample_tokens), sizeof *s->sample_logprobs);
    sft_data_settle(&s->data, m);
    s->order.length = s->data.train.length;
    s->held_out.length = s->data.validation.length;
}

static int64_t count_steps(struct sft *s)
{
    double steps = (double)s->order.bins / s->micro_batches;
    return program_steps(&s->train, (double)s->data.train.tokens / steps, steps);
}

static void say_start(struct sft *s, struct run *run)
{
    struct bytes report = {0};
    run_log(run, "starts from %s", ckpt_path(s->parent.ckpt));
    if (s->known_ids < tokenizer_vocab(s->parent.tokenizer))
        run_log(run, "%d special tokens of the template %s are new: their rows start as the mean of the others",
                tokenizer_vocab(s->parent.tokenizer) - s->known_ids, chat_template_name(s->chat.template));
    sft_data_report(&report, &s->data);
    run_log(run, "data:\n%.*s", (int)report.size - 1, report.data);
    if (s->data.validation.count == 0)
        run_log(run, "warning: no dialogue is held out: there will be no validation loss");
    bytes_free(&report);
}

static struct task describe(struct sft *s, struct learner *learner)
{
    bool held_out = s->data.validation.count > 0;
    return (struct task){
        .program = "sft", .stage = STAGE_SFT, .self = s, .learner = learner, .n_learners = 1,
        .prepare = prepare, .batch = batch, .head = head, .end = end, .evaluate = held_out ? evaluate : NULL,
        .sample = sample, .save = save, .load = load,
        .main_metric = held_out ? "val_loss" : "loss",
        .tokens_per_step = (double)s->data.train.tokens / s->order.bins * s->micro_batches,
        .flops_per_token = config_train_flops(&s->config, (double)s->data.train.tokens / s->data.train.count)};
}

static int plan_or_train(struct sft *s, struct run *run, const struct option *table)
{
    struct error error;
    struct train_options options = s->train;
    options.steps = count_steps(s);
    struct learner learner = {.name = "", .model = &s->model,
                              .schedule = program_schedule(&s->train, options.steps, 0.03)};
    struct task task = describe(s, &learner);
    build(s, &s->memory);
    if (s->train.plan) return train_print_plan(&task, &s->memory, &options);
    say_start(s, run);
    train_log_plan(run, &task, &s->memory, &options);
    defaults_warn(run, &options, table);
    program_take(&s->memory, build, s);
    if (parent_load(&s->model, &s->parent, s->known_ids, (uint64_t)s->train.seed, &error) != 0) quit_error(&error);
    int code = train(&task, run, &options, table);
    if (code == EXIT_DONE) {
        program_next(run, "talk to it", "chat", "--model", NULL);
        program_next(run, "next", "rm", "--model", "--data RANKED.jsonl");
    }
    return code;
}

static void close_all(struct sft *s, struct run *run)
{
    model_close(&s->model);
    sft_data_free(&s->data);
    memory_close(&s->memory);
    epochs_close(&s->order);
    epochs_close(&s->held_out);
    parent_close(&s->parent);
    free(s->batch);
    if (run) run_close(run);
}

int main(int argc, char **argv)
{
    struct sft s = {0};
    struct option table[OWN_ROWS + TRAIN_ROWS + 1];
    int code = EXIT_DONE;
    option_rows(table, &s);
    struct run *run = program_start("sft", table, &s.train, argc, argv, "sft --model RUN --data FILES --out RUN",
                                    "Fine-tunes a language model on dialogues, on the tokens the assistant speaks.");
    if (!run && !s.train.plan && !s.train.dry_run)
        quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    open_parent(&s, run);
    read_data(&s);
    plan_batches(&s, run, table);
    if (s.train.dry_run) show(&s);
    else code = plan_or_train(&s, run, table);
    close_all(&s, run);
    return code;
}
