/* main.c - rm: ranked answers to a reward model.  docs/rm.md. */
#include "common/train/defaults.h"
#include "common/train/grow.h"
#include "common/text/show.h"
#include "common/data/textfile.h"
#include "rm/rm.h"
#include "rm/score_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OWN_ROWS = 12, SHOWN = 3, MOST_ANSWERS = 64 };

static const char usage[] = "rm --model RUN --data FILES --out RUN\n       rm --score --model RUN [FILE ...]";
static const char about[] = "Trains a reward model on ranked answers, or scores answers with one (rm --score --help).";

static int option_rows(struct option *row, struct rm *s)
{
    const int moved = OPTION_MAY_CHANGE;        /* files may have moved: what they hold is checked on resume */
    const struct option own[] = {
        {"Model and data", "model", OPTION_TEXT, &s->model_path, NULL, .flags = OPTION_REQUIRED | moved,
         .help = "Checkpoint or run folder to start from: of sft (or pretrain or imported, with a warning)."},
        {NULL, "data", OPTION_LIST, &s->data_paths, NULL, .flags = OPTION_REQUIRED | moved,
         .help = "Ranked answers: JSON arrays or lines, also .gz; files, folders, globs."},
        {NULL, "template", OPTION_CHOICE, &s->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .help = "Chat template; auto: the model's own, or quartet when it has none."},
        {NULL, "max-length", OPTION_INT, &s->max_length, "0", 0, 1 << 24,
         .help = "Longest prompt with its answer, in tokens; 0: the model's context."},
        {NULL, "validation", OPTION_REAL, &s->validation, "0.05", 0, 0.9, .help = "Share of first questions held out."},
        {NULL, "dry-run", OPTION_FLAG, &s->train.dry_run, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Show the first rankings as tokens and what was read, dropped and changed, and end."},
        {"Loss", "margin", OPTION_REAL, &s->ranking.margin, "0", 0, 100,
         .help = "Difference of scores that a better answer should reach."},
        {NULL, "label-smoothing", OPTION_REAL, &s->ranking.smoothing, "0", 0, 0.5,
         .help = "Probability that a comparison was noted the wrong way round."},
        {NULL, "center", OPTION_REAL, &s->ranking.center, "0", 0, 100,
         .help = "Weight of the squared sum of a pair's scores, which keeps them around 0 (0.01)."},
        {NULL, "normalize", OPTION_CHOICE, &s->normalize, "both", .choices = "none|mean|both",
         .help = "Shift (and scale) the trained reward to mean 0 (and deviation 1) on the best answers of the data."},
    };
    int n = sizeof own / sizeof *own;
    memcpy(row, own, sizeof own);
    static const struct train_defaults defaults = {
        .lr = "auto", .schedule = "cosine", .beta2 = "0.95", .eps = "1e-8", .weight_decay = "0.01", .epochs = "1", .eval_every = "50", .save_every = "200", .sample_every = "0"};
    n += train_option_rows(row + n, &s->train, &defaults);
    row[n] = (struct option){0};
    return n;
}

static void warn(struct run *run, const char *text)
{
    if (run) run_log(run, "warning: %s", text);
}

static void open_parent(struct rm *s, struct run *run)
{
    struct error error;
    unsigned stages = 1u << STAGE_SFT | 1u << STAGE_PRETRAIN | 1u << STAGE_IMPORTED;
    if (parent_open(&s->parent, s->model_path, stages, "init", &error) != 0) quit_error(&error);
    if (s->parent.meta->stage != STAGE_SFT)
        warn(run, "the model was not fine-tuned on dialogues; a reward model usually starts from the sft model whose "
             "answers it is to judge");
    s->config = s->parent.config;
    s->known_ids = tokenizer_vocab(s->parent.tokenizer);
    bool own = s->parent.meta->chat.count > 0;
    if (own && chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error) != 0) quit_error(&error);
    enum chat_template wanted = own ? s->chat.template : TEMPLATE_QUARTET;
    if (s->template) wanted = (enum chat_template)s->template;
    if (own && wanted != s->chat.template)
        warn(run, "this is not the chat template the model was trained with; rlhf needs one for all its models");
    chat_open(&s->chat, wanted, s->parent.tokenizer);
    s->config.vocab = int_max(s->config.vocab, tokenizer_vocab(s->parent.tokenizer));
    s->config.head = HEAD_SCALAR;
    s->config.score_mean = 0;
    s->config.score_std = 1;
}

static void read_data(struct rm *s, struct run *run, const struct option *table)
{
    struct error error;
    struct paths paths = {0};
    int limit = s->max_length > 0 ? int_min(s->config.context, (int)s->max_length) : s->config.context;
    if (paths_expand(&paths, &s->data_paths, false, &error) != 0) quit_error(&error);
    if (rm_data_read(&s->data, paths.path, paths.count, &s->chat, s->validation, limit, 0, &error) != 0)
        quit_error(&error);
    paths_free(&paths);
    defaults_fill(&s->train, table, run, STAGE_RM, s->config.channels, (double)s->data.train.tokens);
    s->micro_tokens = (int)s->train.micro_tokens;
    if ((int)s->data.largest > s->micro_tokens) {
        s->micro_tokens = (int)s->data.largest;
        if (run && option_given(table, "micro-tokens"))
            run_log(run, "micro-batches hold %d tokens: all answers of a prompt go into one, and the largest prompt "
                    "needs that many", s->micro_tokens);
    }
    s->micro_batches = program_micro_batches(&s->train, s->micro_tokens);
    epochs_open(&s->order, s->data.train.group_tokens, s->data.train.groups, (uint32_t)s->micro_tokens,
                (uint64_t)s->train.seed);
}

/* The spoken tokens and the end token are what the answers differ in: they are shown as the trained ones. */
static void show(struct rm *s)
{
    const struct rankings *k = s->data.train.groups > 0 ? &s->data.train : &s->data.validation;
    struct bytes out = {0};
    for (uint32_t g = 0; g < k->groups && g < SHOWN; g++) {
        for (uint32_t a = k->first[g]; a < k->first[g + 1]; a++) {
            uint8_t *spoken = host_alloc(k->length[a], 1);
            memset(spoken + k->length[a] - k->spoken[a], 1, k->spoken[a]);
            bytes_text(&out, "---- prompt %u, answer %u, quality %g: %u tokens\n", g + 1, a - k->first[g] + 1,
                       k->quality[a], k->length[a]);
            show_tokens(&out, s->parent.tokenizer, k->id + k->start[a], spoken, k->length[a], isatty(STDOUT_FILENO));
            free(spoken);
        }
    }
    bytes_text(&out, "----\n");
    rm_data_report(&out, &s->data);
    bytes_text(&out, "%8u  micro-batches of up to %d tokens an epoch\n", s->order.bins, s->micro_tokens);
    fwrite(out.data, 1, out.size, stdout);
    bytes_free(&out);
}

static void build(void *self, struct memory *m)
{
    struct rm *s = self;
    int sequences = s->micro_tokens / 2 + 1;
    struct model_use use = {.train = true, .recompute = s->train.recompute != 0, .max_tokens = s->micro_tokens,
                            .max_sequences = sequences};
    ops_open(m);
    model_open(&s->model, &s->config, &use, m);
    for (int i = 0; i < s->micro_batches; i++) {
        batch_open(&s->micro[i].batch, m, s->micro_tokens, sequences);
        s->micro[i].group = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->micro[i].group);
    }
    s->scores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->scores);
    s->dscores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->dscores);
    s->group_scores = memory_take(m, MEMORY_DATA, MOST_ANSWERS, sizeof *s->group_scores);
    s->group_dscores = memory_take(m, MEMORY_DATA, MOST_ANSWERS, sizeof *s->group_dscores);
    rm_data_settle(&s->data, m);
    s->order.length = s->data.train.group_tokens;
}

static void say_start(struct rm *s, struct run *run)
{
    struct bytes report = {0};
    rm_data_report(&report, &s->data);
    run_log(run, "starts from %s", ckpt_path(s->parent.ckpt));
    run_log(run, "data:\n%.*s", (int)report.size - 1, report.data);
    if (s->data.validation.groups == 0) warn(run, "no prompt is held out: there will be no validation");
    bytes_free(&report);
}

static int plan_or_train(struct rm *s, struct run *run, const struct option *table)
{
    struct error error;
    struct train_options options = s->train;
    double bin_tokens = (double)s->data.train.tokens / s->order.bins;
    options.steps = program_steps(&s->train, bin_tokens * s->micro_batches, (double)s->order.bins / s->micro_batches);
    struct learner learner = {.name = "", .model = &s->model,
                              .schedule = program_schedule(&s->train, options.steps, 0.03)};
    struct task task = rm_task(s, &learner);
    build(s, &s->memory);
    if (s->train.plan) return train_print_plan(&task, &s->memory, &options);
    say_start(s, run);
    train_log_plan(run, &task, &s->memory, &options);
    defaults_warn(run, &options, table);
    program_take(&s->memory, build, s);
    if (parent_load(&s->model, &s->parent, s->known_ids, (uint64_t)s->train.seed, &error) != 0) quit_error(&error);
    int code = train(&task, run, &options, table);
    char *parents = host_text("--policy %s --reward", s->model_path);
    if (code == EXIT_DONE) program_next(run, "next", "rlhf", parents, "--prompts PROMPTS.jsonl");
    free(parents);
    return code;
}

static void close_all(struct rm *s, struct run *run)
{
    model_close(&s->model);
    rm_data_free(&s->data);
    memory_close(&s->memory);
    epochs_close(&s->order);
    parent_close(&s->parent);
    free(s->micro);
    if (run) run_close(run);
}

int main(int argc, char **argv)
{
    struct rm s = {0};
    struct option table[OWN_ROWS + TRAIN_ROWS + 1];
    int code = EXIT_DONE;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--score") == 0) return score_files(argc, argv);
    option_rows(table, &s);
    struct run *run = program_start("rm", table, &s.train, argc, argv, usage, about);
    if (!run && !s.train.plan && !s.train.dry_run)
        quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    open_parent(&s, run);
    read_data(&s, run, table);
    s.micro = host_alloc((size_t)s.micro_batches, sizeof *s.micro);
    if (s.train.dry_run) show(&s);
    else code = plan_or_train(&s, run, table);
    close_all(&s, run);
    return code;
}
