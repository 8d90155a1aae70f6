/* main.c - rm: ranked answers to a reward model.  docs/rm.md.
 *
 * The trunk is a fine-tuned model, the head one number at the end token of an answer.  A step's loss is the mean over
 * its prompts of the mean over each prompt's pairs (ranking.h); all answers of a prompt lie in one micro-batch, each
 * read once. */
#include "common/base/signals.h"
#include "common/text/show.h"
#include "common/train/start.h"
#include "rm/data.h"
#include "rm/ranking.h"
#include "rm/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OWN_ROWS = 4, SHOWN = 3, REFERENCES = 512, SAMPLES = 3 };

enum normalize { NORMALIZE_NONE, NORMALIZE_MEAN, NORMALIZE_BOTH };

struct rm {
    struct start start;                         /* first: it has callbacks of its own */
    int normalize;
    struct ranking_options ranking;

    float *scores, *dscores;                    /* (sequences of a micro-batch) */
    struct ranking_stats stats;                 /* of the step */
};

static const char usage[] = "rm --model RUN --data FILES --out RUN\n       rm --score --model RUN [FILE ...]";
static const char about[] = "Trains a reward model on ranked answers, or scores answers with one (rm --score --help).";

static void option_rows(struct option *row, struct rm *s)
{
    const struct option own[OWN_ROWS] = {
        {"Loss", "margin", OPTION_REAL, &s->ranking.margin, "0", 0, 100,
         .help = "Score difference that a better answer should reach."},
        {NULL, "label-smoothing", OPTION_REAL, &s->ranking.smoothing, "0", 0, 0.5,
         .help = "Probability that a comparison was recorded the wrong way round."},
        {NULL, "center", OPTION_REAL, &s->ranking.center, "0", 0, 100,
         .help = "Weight of the squared sum of a pair's scores, which keeps them around 0 (0.01)."},
        {NULL, "normalize", OPTION_CHOICE, &s->normalize, "both", .choices = "none|mean|both",
         .help = "Shift (and scale) the trained reward to mean 0 (and standard deviation 1) on the best answers of the "
                 "data."},
    };
    static const struct start_text text = {
        .model = "Checkpoint or run folder to start from: of sft (or pretrain or imported, with a warning); or a Hugging "
                 "Face folder or GGUF file.",
        .data = "Ranked answers: JSON arrays or lines, also .gz; files, folders, globs.",
        .length = "Longest prompt with its answer, in tokens; 0: the model's context.",
        .epochs = "1", .weight_decay = "0.01", .sample_every = "0", .items = "prompts",
        .longest_item = "largest prompt"};
    start_options(row, &s->start, own, OWN_ROWS, &text);
}

/* ---- steps ---- */

/* Losses of the prompts whose answers' scores follow one another in s->scores; scale times the gradients into
 * s->dscores. */
static double ranking_losses(struct rm *s, const struct sequences *k, const struct start_items *prompts, double scale,
                             struct ranking_stats *stats)
{
    double sum = 0, score[RANKING_MOST], dscore[RANKING_MOST];
    int at = 0;
    for (uint32_t g = 0; g < prompts->count; g++) {
        uint32_t first = k->first[prompts->item[g]];
        int K = (int)(k->first[prompts->item[g] + 1] - first);
        for (int i = 0; i < K; i++) score[i] = (double)s->scores[at + i];
        sum += ranking_loss(dscore, score, k->quality + first, K, &s->ranking, stats);
        for (int i = 0; i < K; i++) s->dscores[at + i] = (float)(scale * dscore[i]);
        at += K;
    }
    return sum;
}

static double head(void *self, int i, int learner, double scale)
{
    struct rm *s = self;
    const struct batch *b = &s->start.batch[i];
    (void)learner;
    score_read(s->scores, &s->start.model, b);
    double sum = ranking_losses(s, &s->start.data.train, &s->start.items[i], scale, &s->stats);
    score_backward(&s->start.model, b, s->dscores);
    return sum;
}

static void end(void *self, int64_t step, struct record *r)
{
    struct rm *s = self;
    (void)step;
    record_real(r, "accuracy", s->stats.correct / s->stats.pairs);
    record_real(r, "margin", s->stats.margin / s->stats.pairs);
    record_count(r, "prompts", s->start.step_items);
    record_count(r, "pairs", (int64_t)s->stats.pairs);
    record_count(r, "epoch", (int64_t)s->start.order.epoch);
}

/* ---- evaluation ---- */

/* What is seen on the held-out prompts; length: its correlation with the score. */
struct seen { struct calibration pairs; double loss, length; uint32_t groups; };

/* score: of every answer, as quality and length. */
static void see_pairs(struct calibration *c, const struct sequences *k, uint32_t group, const double *score)
{
    for (uint32_t i = k->first[group]; i < k->first[group + 1]; i++)
        for (uint32_t j = k->first[group]; j < k->first[group + 1]; j++)
            if (k->quality[i] > k->quality[j])
                calibration_add(c, score[i] - score[j], (int)k->spoken[i] - (int)k->spoken[j]);
}

/* Scores held-out groups, as many at a time as a micro-batch holds, until --eval-tokens are read: fills number with the
 * scores, and behind those of all answers with the losses of micro-batches; sets e->groups.  Returns 0, or, with an
 * error (may be NULL), -1 when asked to stop. */
static int see_all(struct seen *e, struct rm *s, double *number, int64_t *n_micro, struct error *error)
{
    int64_t tokens = 0, most = s->start.eval_tokens > 0 ? s->start.eval_tokens : INT64_MAX;
    const struct sequences *k = &s->start.data.validation;
    struct start_items *m = s->start.items;
    struct batch *b = s->start.batch;
    for (uint32_t next = 0; next < k->items && tokens < most; e->groups = next, ++*n_micro) {
        double *score = number + k->first[next];
        if (error && evaluation_next(&s->start.model, *n_micro, error) != 0) return -1;
        m->count = 0;
        batch_clear(b);
        while (next < k->items && b->N + (int)k->item_tokens[next] <= s->start.micro_tokens) {
            sequences_batch(b, k, next);
            m->item[m->count++] = next++;
        }
        tokens += b->N;
        if (!evaluation_mine(&s->start.model, *n_micro)) continue;
        score_raw(s->scores, &s->start.model, b);
        number[k->count + (size_t)*n_micro] = ranking_losses(s, k, m, 0, NULL);
        for (int a = 0; a < b->S; a++) score[a] = (double)s->scores[a];
    }
    return 0;
}

static int see(struct seen *e, struct rm *s, struct error *error)
{
    const struct sequences *k = &s->start.data.validation;
    size_t n = k->count + k->items;
    double *score = host_alloc(n, sizeof *score), *length = host_alloc(k->count, sizeof *length);
    int64_t n_micro = 0;
    *e = (struct seen){0};
    int status = see_all(e, s, score, &n_micro, error);
    status = evaluation_gather(&s->start.model, status, n_micro, score, n, error);
    for (size_t i = k->count; i < n; i++) e->loss += score[i];
    for (uint32_t g = 0; g < e->groups; g++) see_pairs(&e->pairs, k, g, score);
    for (uint32_t a = 0; a < k->first[e->groups]; a++) length[a] = k->spoken[a];
    e->length = correlation(score, length, k->first[e->groups]);
    calibration_end(&e->pairs);
    free(score);
    free(length);
    return status;
}

static int evaluate(void *self, struct record *r, struct error *error)
{
    struct rm *s = self;
    struct seen e;
    const struct calibration *c = &e.pairs;
    if (see(&e, s, error) != 0) return -1;
    record_real(r, "val_loss", e.loss / e.groups);
    record_real(r, "val_accuracy", c->accuracy);
    record_real(r, "val_log_loss", c->log_loss);
    record_real(r, "val_brier", c->brier);
    record_real(r, "val_ece", c->ece);
    record_real(r, "val_margin", c->margin);
    record_real(r, "val_longer_wins", c->longer_wins);
    record_real(r, "val_length_correlation", e.length);
    return 0;
}

/* The tokens of an answer, or of the prompt before it, as one line for a person. */
static void add_line(struct bytes *out, const struct rm *s, const int *id, size_t n)
{
    struct bytes text = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, s->start.parent.tokenizer, id, n);
    tokenizer_stream(&text, &held, s->start.parent.tokenizer, NULL, 0);
    show_line(out, text.data, text.size);
    bytes_add(out, "\n", 1);
    bytes_free(&text);
}

/* Held-out prompts with their answers, in the order of the data, and raw scores: to samples.txt and the log. */
static void sample(void *self, struct run *run, int64_t step)
{
    struct rm *s = self;
    const struct sequences *k = &s->start.data.validation;
    struct batch *b = s->start.batch;
    struct bytes text = {0};
    for (uint32_t g = 0; g < k->items && g < SAMPLES; g++) {
        uint32_t first = k->first[g];
        batch_clear(b);
        sequences_batch(b, k, g);
        score_raw(s->scores, &s->start.model, b);
        add_line(&text, s, k->id + k->start[first], k->length[first] - k->spoken[first]);
        for (uint32_t a = first; a < k->first[g + 1]; a++) {
            bytes_text(&text, "  quality %g, score %+.3f: ", k->quality[a], (double)s->scores[a - first]);
            add_line(&text, s, k->id + k->start[a] + k->length[a] - k->spoken[a], k->spoken[a]);
        }
    }
    run_sample(run, step, 1, text.data, text.size);
    if (k->items > 0) run_log(run, "samples:\n--- step %lld\n%.*s", (long long)step, (int)text.size - 1, text.data);
    bytes_free(&text);
}

/* ---- the end: tables, and constants ---- */

/* Mean and standard deviation of the raw scores of the best answers of up to REFERENCES evenly chosen prompts. */
static int reference_scores(struct rm *s, double *mean, double *deviation)
{
    const struct sequences *k = &s->start.data.train;
    struct batch *b = s->start.batch;
    int n = int_min((int)k->items, REFERENCES), done = 0;
    double *score = host_alloc((size_t)n, sizeof *score), squares = 0;
    for (int next = 0; next < n;) {
        batch_clear(b);
        for (; next < n; next++) {
            uint32_t group = (uint32_t)((uint64_t)next * k->items / (uint64_t)n), best = k->first[group];
            for (uint32_t a = best; a < k->first[group + 1]; a++)
                if (k->quality[a] > k->quality[best]) best = a;
            if (b->N + (int)k->length[best] > s->start.micro_tokens) break;
            batch_add(b, k->id + k->start[best], NULL, (int)k->length[best]);
        }
        score_raw(s->scores, &s->start.model, b);
        for (int i = 0; i < b->S; i++) score[done++] = (double)s->scores[i];
    }
    *mean = 0;
    for (int i = 0; i < n; i++) *mean += score[i] / n;
    for (int i = 0; i < n; i++) squares += (score[i] - *mean) * (score[i] - *mean);
    *deviation = standard_deviation(squares, n, *mean);
    free(score);
    return n;
}

static void log_calibration(struct rm *s, struct run *run)
{
    struct seen e;
    const struct calibration *c = &e.pairs;
    struct bytes text = {0};
    see(&e, s, NULL);
    bytes_text(&text, "on %u held-out prompts, %lld pairs: accuracy %.3f (the longer answer: %.3f), log loss %.4f, "
               "ECE %.3f\n", e.groups, (long long)c->pairs, c->accuracy, c->longer_wins, c->log_loss, c->ece);
    calibration_print(&text, c);
    run_log(run, "%.*s", (int)text.size - 1, text.data);
    bytes_free(&text);
}

static void finish(void *self, struct run *run, struct record *r)
{
    struct rm *s = self;
    struct config *c = &s->start.model.config;
    double mean, deviation;
    if (s->start.data.validation.items > 0) log_calibration(s, run);
    int n = reference_scores(s, &mean, &deviation);
    c->score_mean = s->normalize == NORMALIZE_NONE ? 0 : mean;
    c->score_std = s->normalize == NORMALIZE_BOTH && deviation > 0 ? deviation : 1;
    run_log(run, "the best answers of %d training prompts score %.4f on average, standard deviation %.4f; "
            "rewards are (score %c %.4f) / %.4f", n, mean, deviation, c->score_mean < 0 ? '+' : '-',
            fabs(c->score_mean), c->score_std);
    record_real(r, "score_mean", c->score_mean);
    record_real(r, "score_std", c->score_std);
}

/* ---- starting ---- */

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
    struct paths paths = start_paths(start);
    if (rm_data_read(&start->data, paths.path, paths.count, &start->chat, start->validation, start_limit(start),
                     program_skip_rows(start->skip_bad_rows), &error) != 0)
        quit_error(&error);
    paths_free(&paths);
    rm_data_report(&start->report, &start->data);
    start_batches(start, STAGE_RM);
}

static void show(const struct rm *s)
{
    const struct sequences *k = &s->start.data.train;
    struct bytes out = {0};
    for (uint32_t g = 0; g < k->items && g < SHOWN; g++) {
        for (uint32_t a = k->first[g]; a < k->first[g + 1]; a++) {
            bytes_text(&out, "---- prompt %u, answer %u, quality %g: %u tokens\n", g + 1, a - k->first[g] + 1,
                       k->quality[a], k->length[a]);
            show_tokens(&out, s->start.parent.tokenizer, k->id + k->start[a], k->trained + k->start[a], k->length[a],
                        isatty(STDOUT_FILENO));
        }
    }
    start_show(&s->start, &out);
}

static void build(void *self, struct memory *m)
{
    struct rm *s = self;
    int sequences = s->start.micro_tokens / 2 + 1;
    start_build(&s->start, m, 0);
    s->scores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->scores);
    s->dscores = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->dscores);
}

static int learn(struct rm *s)
{
    struct task task = {
        .program = "rm", .stage = STAGE_RM, .build = build, .head = head, .sums = (double *)&s->stats,
        .n_sums = sizeof s->stats / sizeof(double), .end = end, .evaluate = evaluate, .sample = sample,
        .finish = finish, .shown = {"accuracy"},
        .main_metric = s->start.data.validation.items > 0 ? "val_accuracy" : "accuracy"};
    int code = start_train(&s->start, &task);
    struct bytes parents = {0};
    bytes_text(&parents, "--policy ");
    bytes_quoted(&parents, s->start.model_path);
    bytes_text(&parents, " --reward");
    if (code == EXIT_DONE && s->start.run)
        program_next(s->start.run, "next", "rlhf", parents.data, "--prompts PROMPTS.jsonl");
    bytes_free(&parents);
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
    start_close(&s.start);
    return code;
}
