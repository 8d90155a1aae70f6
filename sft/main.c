/* main.c - supervised fine-tuning: a language model learns to answer in dialogues.
 *
 * The loss is the cross-entropy of the tokens the assistant speaks, summed over a step and divided by their number.
 * Whole dialogues are packed into micro-batches (epochs.h); everything else is the one loop (train.h). */
#include "common/base/signals.h"
#include "common/text/show.h"
#include "common/train/start.h"
#include "sft/data.h"

#include <math.h>
#include <unistd.h>

struct sft {
    struct start start;                     /* first: it has callbacks of its own */
    int format, train_on;
    double temperature;
    int64_t samples, sample_tokens;

    struct epochs held_out;                 /* its epoch 0, again and again */
};

enum { OWN_ROWS = 5, SHOWN = 4 };

static void option_rows(struct option *row, struct sft *s)
{
    const struct option own[OWN_ROWS] = {
        {NULL, "format", OPTION_CHOICE, &s->format, "auto", .choices = CHAT_FORMATS,
         .help = "Format of the rows; auto: recognised by their keys."},
        {NULL, "train-on", OPTION_CHOICE, &s->train_on, "assistant", .choices = CHAT_TRAINS,
         .help = "Tokens that count: the assistant's, all, or those of the last answer."},
        {NULL, "samples", OPTION_INT, &s->samples, "3", 0, 64, .flags = OPTION_MAY_CHANGE,
         .help = "Held-out prompts to answer every --sample-every steps."},
        {NULL, "sample-tokens", OPTION_INT, &s->sample_tokens, "64", 1, 1 << 16, .flags = OPTION_MAY_CHANGE,
         .help = "Longest sample answer, in tokens."},
        {NULL, "temperature", OPTION_REAL, &s->temperature, "0.7", 0.01, 100,
         .flags = OPTION_MAY_CHANGE | OPTION_OR_ZERO,
         .help = "Sampling temperature of these answers; 0: the most likely token."},
    };
    static const struct start_text text = {
        .model = "Checkpoint or run folder to start from: of pretrain or sft; or a Hugging Face folder or GGUF file.",
        .data = "Dialogues: JSON arrays or lines, also .gz; files, folders, globs.",
        .length = "Longest dialogue in tokens, cut at a turn border; 0: the model's context.",
        .epochs = "3", .weight_decay = "0", .sample_every = "200", .items = "dialogues",
        .longest_item = "longest dialogue"};
    start_options(row, &s->start, own, OWN_ROWS, &text);
}

/* ---- the task ---- */

static double head(void *self, int i, int learner, double scale)
{
    struct sft *s = self;
    (void)learner;
    return model_cross_entropy(&s->start.model, &s->start.batch[i], scale, true);
}

static void end(void *self, int64_t step, struct record *r)
{
    struct sft *s = self;
    double tokens = 0;
    (void)step;
    for (int i = 0; i < s->start.micro_batches; i++) tokens += s->start.batch[i].N;
    record_real(r, "packing", tokens / ((double)s->start.micro_batches * s->start.micro_tokens));
    record_count(r, "dialogues", s->start.step_items);
    record_count(r, "epoch", (int64_t)s->start.order.epoch);
}

static int evaluate(void *self, struct record *r, struct error *error)
{
    struct sft *s = self;
    double sum = 0, count = 0, *loss = host_alloc(s->held_out.bins + 1, sizeof *loss);     /* of every bin */
    struct batch *b = s->start.batch;
    int64_t tokens = 0, most = s->start.eval_tokens > 0 ? s->start.eval_tokens : INT64_MAX;
    int status = 0;
    uint32_t bins = 0;
    for (uint32_t bin = 0; bin < s->held_out.bins && tokens < most; bin++, bins++) {
        if ((status = evaluation_next(&s->start.model, bin, error)) != 0) break;
        count += start_fill(b, NULL, &s->start.data.validation, &s->held_out, bin);
        tokens += b->N;
        if (!evaluation_mine(&s->start.model, bin)) continue;
        model_forward(&s->start.model, b, false);
        loss[bin] = model_cross_entropy(&s->start.model, b, 0, false);
    }
    status = evaluation_gather(&s->start.model, status, bins, loss, bins, error);
    for (uint32_t bin = 0; bin < bins; bin++) sum += loss[bin];
    free(loss);
    if (status != 0 || count == 0) return status;
    record_real(r, "val_loss", sum / count);
    record_real(r, "val_perplexity", exp(sum / count));
    return 0;
}

static void sample(void *self, struct run *run, int64_t step)
{
    struct sft *s = self;
    struct samples how = {.tokenizer = s->start.parent.tokenizer, .prompt = s->start.data.prompt,
                          .count = s->start.data.prompts, .tokens = (int)s->sample_tokens,
                          .stops = stops_of(&s->start.chat, s->start.parent.tokenizer, &s->start.parent.meta->meta),
                          .temperature = s->temperature, .seed = (uint64_t)s->start.train.seed};
    samples_show(&how, &s->start.model, run, step);
}

/* ---- starting ---- */

static void read_data(struct sft *s)
{
    struct error error;
    struct start *start = &s->start;
    const struct sequences *held_out = &start->data.validation;
    struct paths paths = start_paths(start);
    struct sft_options how = {.format = (enum chat_format)s->format, .train = (enum chat_train)s->train_on,
                              .validation = start->validation, .limit = start_limit(start),
                              .skip_bad_rows = program_skip_rows(start->skip_bad_rows)};
    if (sft_data_read(&start->data, paths.path, paths.count, &start->chat, &how, (int)s->samples, &error) != 0)
        quit_error(&error);
    paths_free(&paths);
    sft_data_report(&start->report, &start->data);
    start_batches(start, STAGE_SFT);
    if (held_out->items > 0)
        epochs_open(&s->held_out, held_out->item_tokens, held_out->items, (uint32_t)start->micro_tokens,
                    (uint64_t)s->start.train.seed);
}

static void show(const struct sft *s)
{
    struct bytes out = {0};
    const struct sequences *q = &s->start.data.train;
    for (uint32_t i = 0; i < q->count && i < SHOWN; i++) {
        bytes_text(&out, "---- dialogue %u: %u tokens\n", i + 1, q->length[i]);
        show_tokens(&out, s->start.parent.tokenizer, q->id + q->start[i], q->trained + q->start[i], q->length[i],
                    isatty(STDOUT_FILENO));
    }
    start_show(&s->start, &out);
}

static void build(void *self, struct memory *m)
{
    struct sft *s = self;
    start_build(&s->start, m, s->start.train.sample_every > 0 ? s->start.data.prompts : 0);
    s->held_out.length = s->start.data.validation.item_tokens;
}

static int learn(struct sft *s)
{
    struct task task = {.program = "sft", .stage = STAGE_SFT, .build = build, .head = head, .end = end,
                        .evaluate = evaluate, .sample = sample,
                        .main_metric = s->start.data.validation.items > 0 ? "val_loss" : "loss"};
    int code = start_train(&s->start, &task);
    if (code == EXIT_DONE && s->start.run) {
        program_next(s->start.run, "talk to it", "chat", "--model", NULL);
        program_next(s->start.run, "next", "rm", "--model", "--data RANKED.jsonl");
    }
    return code;
}

int main(int argc, char **argv)
{
    struct sft s = {0};
    struct option table[START_ROWS + OWN_ROWS + TRAIN_ROWS + 1];
    option_rows(table, &s);
    struct run *run = program_start("sft", table, &s.start.train, argc, argv, "sft --model RUN --data FILES --out RUN",
                                    "Fine-tunes a language model on dialogues, on the tokens the assistant speaks.");
    int code = EXIT_DONE;
    start_open(&s.start, run, table);
    read_data(&s);
    if (s.start.train.dry_run) show(&s);
    else code = learn(&s);
    epochs_close(&s.held_out);
    start_close(&s.start);
    return code;
}
