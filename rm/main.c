/* main.c - rm: ranked answers to a reward model.  docs/rm.md. */
#include "common/text/show.h"
#include "rm/rm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OWN_ROWS = 4, SHOWN = 3 };

static const char usage[] = "rm --model RUN --data FILES --out RUN\n       rm --score --model RUN [FILE ...]";
static const char about[] = "Trains a reward model on ranked answers, or scores answers with one (rm --score --help).";

static void option_rows(struct option *row, struct rm *s)
{
    const struct option own[OWN_ROWS] = {
        {"Loss", "margin", OPTION_REAL, &s->ranking.margin, "0", 0, 100,
         .help = "Difference of scores that a better answer should reach."},
        {NULL, "label-smoothing", OPTION_REAL, &s->ranking.smoothing, "0", 0, 0.5,
         .help = "Probability that a comparison was noted the wrong way round."},
        {NULL, "center", OPTION_REAL, &s->ranking.center, "0", 0, 100,
         .help = "Weight of the squared sum of a pair's scores, which keeps them around 0 (0.01)."},
        {NULL, "normalize", OPTION_CHOICE, &s->normalize, "both", .choices = "none|mean|both",
         .help = "Shift (and scale) the trained reward to mean 0 (and deviation 1) on the best answers of the data."},
    };
    static const struct start_text text = {
        .model = "Checkpoint or run folder to start from: of sft (or pretrain or imported, with a warning).",
        .data = "Ranked answers: JSON arrays or lines, also .gz; files, folders, globs.",
        .length = "Longest prompt with its answer, in tokens; 0: the model's context.",
        .epochs = "1", .weight_decay = "0.01", .sample_every = "0"};
    start_options(row, &s->start, own, OWN_ROWS, &text);
}

static void open_parent(struct rm *s, struct run *run, const struct option *table)
{
    start_open(&s->start, run, table);
    if (run && s->start.parent.meta->stage != STAGE_SFT)
        run_log(run, "warning: the model was not fine-tuned on dialogues; a reward model usually starts from the sft "
                "model whose answers it judges");
    s->start.config.head = HEAD_SCALAR;
    s->start.config.score_mean = 0;
    s->start.config.score_std = 1;
}

static void read_data(struct rm *s)
{
    struct error error;
    struct start *start = &s->start;
    struct rm_data *d = &s->data;
    struct paths paths = start_paths(start);
    if (rm_data_read(d, paths.path, paths.count, &start->chat, start->validation, start_limit(start),
                     program_skip_rows(start->skip_bad_rows), &error) != 0)
        quit_error(&error);
    paths_free(&paths);
    rm_data_report(&start->report, d);
    start->data = (struct start_data){"prompts", "largest prompt", d->train.group_tokens, d->train.groups, d->largest,
                                      d->identity, d->train.answers, d->train.tokens, d->validation.groups > 0};
    start_batches(start, STAGE_RM);
    s->micro = host_alloc((size_t)start->micro_batches, sizeof *s->micro);
}

/* The spoken tokens and the end token are what the answers differ in: they are shown as the trained ones. */
static void show(const struct rm *s)
{
    const struct rankings *k = &s->data.train;
    struct bytes out = {0};
    for (uint32_t g = 0; g < k->groups && g < SHOWN; g++) {
        for (uint32_t a = k->first[g]; a < k->first[g + 1]; a++) {
            uint8_t *spoken = host_alloc(k->length[a], 1);
            memset(spoken + k->length[a] - k->spoken[a], 1, k->spoken[a]);
            bytes_text(&out, "---- prompt %u, answer %u, quality %g: %u tokens\n", g + 1, a - k->first[g] + 1,
                       k->quality[a], k->length[a]);
            show_tokens(&out, s->start.parent.tokenizer, k->id + k->start[a], spoken, k->length[a],
                        isatty(STDOUT_FILENO));
            free(spoken);
        }
    }
    start_show(&s->start, &out);
}

static void build(void *self, struct memory *m)
{
    struct rm *s = self;
    int sequences = s->start.micro_tokens / 2 + 1;
    start_build(&s->start, m, 0);
    for (int i = 0; i < s->start.micro_batches; i++)
        s->micro[i].group = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->micro[i].group);
    s->scores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->scores);
    s->dscores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->dscores);
    s->group_scores = memory_take(m, MEMORY_DATA, RANKING_MOST, sizeof *s->group_scores);
    s->group_dscores = memory_take(m, MEMORY_DATA, RANKING_MOST, sizeof *s->group_dscores);
    rm_data_settle(&s->data, m);
    s->start.order.length = s->data.train.group_tokens;
}

static int learn(struct rm *s)
{
    struct task task = rm_task(s);
    int code = start_train(&s->start, &task, build);
    char *parents = host_text("--policy %s --reward", s->start.model_path);
    if (code == EXIT_DONE && s->start.run)
        program_next(s->start.run, "next", "rlhf", parents, "--prompts PROMPTS.jsonl");
    free(parents);
    return code;
}

int main(int argc, char **argv)
{
    struct rm s = {0};
    struct option table[START_ROWS + OWN_ROWS + TRAIN_ROWS + 1];
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--score") == 0) return score_files(argc, argv);
    option_rows(table, &s);
    open_parent(&s, program_start("rm", table, &s.start.train, argc, argv, usage, about), table);
    read_data(&s);
    int code = EXIT_DONE;
    if (s.start.train.dry_run) show(&s);
    else code = learn(&s);
    rm_data_free(&s.data);
    free(s.micro);
    start_close(&s.start);
    return code;
}
