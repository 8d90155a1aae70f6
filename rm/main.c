/* main.c - the reward model: which of two answers would a person prefer?
 *
 * The trunk is a fine-tuned model, the head one number at the end token of an answer.  A step's loss is the mean over its
 * prompts of the mean over each prompt's pairs (ranking.h); all answers of a prompt lie in one micro-batch, each read once. */
#include "common/device.h"
#include "common/epochs.h"
#include "common/grow.h"
#include "common/show.h"
#include "common/textfile.h"
#include "rm/calibration.h"
#include "rm/data.h"
#include "rm/ranking.h"
#include "rm/score.h"
#include "rm/score_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum normalize { NORMALIZE_NONE, NORMALIZE_MEAN, NORMALIZE_BOTH };

struct rm {
    struct train_options train;
    const char *model_path;
    struct option_list data_paths;
    int template, normalize;
    double validation;
    int64_t max_length;
    struct ranking_options ranking;

    struct parent parent;
    struct chat chat;
    struct rm_data data;
    struct epochs order;
    struct config config;
    struct model model;
    struct memory memory;
    int micro_batches, micro_tokens, known_ids;
    struct micro { struct batch batch; uint32_t *group; uint32_t groups; } *micro;    /* of a step */
    float *scores, *dscores;                    /* (sequences of a micro-batch) */
    double *group_scores, *group_dscores;       /* (answers of a group) */
    struct ranking_stats stats;                 /* of the step */
    double prompts;                             /* of the step */
};

enum { OWN_ROWS = 12, SHOWN = 3, MOST_ANSWERS = 64, REFERENCES = 512 };

static int option_rows(struct option *row, struct rm *s)
{
    const struct option own[] = {
        {"Model and data", "model", OPTION_TEXT, &s->model_path, NULL, .flags = OPTION_REQUIRED,
         .help = "Checkpoint or run folder to start from: of sft (or pretrain or imported, with a warning)."},
        {NULL, "data", OPTION_LIST, &s->data_paths, NULL, .flags = OPTION_REQUIRED,
         .help = "Ranked answers: JSON arrays or lines, also .gz; files, folders, globs."},
        {NULL, "template", OPTION_CHOICE, &s->template, "auto", .choices = "auto|" CHAT_TEMPLATES,
         .help = "Chat template; auto: the model's own, or quartet when it has none."},
        {NULL, "max-length", OPTION_INT, &s->max_length, "0", 0, 1 << 24, .help = "Longest prompt with its answer, in tokens; 0: the model's context."},
        {NULL, "validation", OPTION_REAL, &s->validation, "0.05", 0, 0.9, .help = "Share of first questions held out."},
        {NULL, "dry-run", OPTION_FLAG, &s->train.dry_run, NULL, .flags = OPTION_NOT_SAVED,
         .help = "Show the first rankings as tokens and what was read, dropped and changed, and end."},
        {"Loss", "margin", OPTION_REAL, &s->ranking.margin, "0", 0, 100, .help = "Difference of scores that a better answer should reach."},
        {NULL, "label-smoothing", OPTION_REAL, &s->ranking.smoothing, "0", 0, 0.5, .help = "Probability that a comparison was noted the wrong way round."},
        {NULL, "center", OPTION_REAL, &s->ranking.center, "0", 0, 100, .help = "Weight of the squared sum of a pair's scores, which keeps them around 0 (0.01)."},
        {NULL, "normalize", OPTION_CHOICE, &s->normalize, "both", .choices = "none|mean|both",
         .help = "After training, shift (and scale) the reward to mean 0 (and deviation 1) on the best answers of the training data."},
    };
    int n = sizeof own / sizeof *own;
    memcpy(row, own, sizeof own);
    static const struct train_defaults defaults = {
        .lr = "1e-4", .min_lr = "-1", .warmup = "-1", .schedule = "cosine", .batch_tokens = "16k", .micro_tokens = "4096", .beta2 = "0.95",
        .eps = "1e-8", .weight_decay = "0.01", .epochs = "1", .eval_every = "50", .save_every = "200", .sample_every = "0"};
    n += train_option_rows(row + n, &s->train, &defaults);
    row[n] = (struct option){0};
    return n;
}

/* ---- the task ---- */

/* Appends all answers of a group. */
static void add_group(struct batch *b, const struct rankings *k, uint32_t group)
{
    for (uint32_t a = k->first[group]; a < k->first[group + 1]; a++) batch_add(b, k->id + k->start[a], NULL, (int)k->length[a]);
}

static int begin(void *self, int64_t step, struct error *error)
{
    struct rm *s = self;
    (void)step, (void)error;
    s->stats = (struct ranking_stats){0};
    s->prompts = 0;
    return 1;
}

static int prepare(void *self, int64_t step, int update, double *count, struct error *error)
{
    struct rm *s = self;
    (void)update, (void)error;
    for (int i = 0; i < s->micro_batches; i++) {
        struct micro *m = &s->micro[i];
        const uint32_t *item;
        m->groups = epochs_bin(&s->order, &item, (uint64_t)step * (uint64_t)s->micro_batches + (uint64_t)i);
        memcpy(m->group, item, m->groups * sizeof *item);
        batch_clear(&m->batch);
        for (uint32_t g = 0; g < m->groups; g++) add_group(&m->batch, &s->data.train, item[g]);
        s->prompts += m->groups;
    }
    *count = s->prompts;
    return s->micro_batches;
}

/* Losses of the groups whose answers' scores follow one another in s->scores; scale times their gradients into s->dscores. */
static double ranking_losses(struct rm *s, const struct rankings *k, const uint32_t *group, uint32_t groups, double scale,
                             struct ranking_stats *stats)
{
    double sum = 0;
    int at = 0;
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t first = k->first[group[g]];
        int K = (int)(k->first[group[g] + 1] - first);
        for (int i = 0; i < K; i++) s->group_scores[i] = (double)s->scores[at + i];
        sum += ranking_loss(s->group_dscores, s->group_scores, k->quality + first, K, &s->ranking, stats);
        for (int i = 0; i < K; i++) s->dscores[at + i] = (float)(scale * s->group_dscores[i]);
        at += K;
    }
    return sum;
}

static double loss(void *self, int i, double scale)
{
    struct rm *s = self;
    struct micro *m = &s->micro[i];
    score_raw(s->scores, &s->model, &m->batch, true);
    double sum = ranking_losses(s, &s->data.train, m->group, m->groups, scale, &s->stats);
    score_backward(&s->model, &m->batch, s->dscores);
    return sum;
}

static void end(void *self, int64_t step, struct record *r)
{
    struct rm *s = self;
    double pairs = (double)s->stats.pairs;
    (void)step;
    record_real(r, "accuracy", s->stats.correct / pairs);
    record_real(r, "margin", s->stats.margin / pairs);
    record_count(r, "prompts", (int64_t)s->prompts);
    record_count(r, "pairs", s->stats.pairs);
    record_count(r, "epoch", (int64_t)s->order.epoch);
}

/* ---- evaluation ---- */

/* What is seen on the held-out prompts: every pair, every answer's raw score and length. */
struct seen { struct judged *pair; size_t pairs; double *score, *length; size_t answers; double loss; };

static void see_group(struct seen *e, const struct rm *s, const struct rankings *k, uint32_t group, const float *score)
{
    uint32_t first = k->first[group], K = k->first[group + 1] - first;
    for (uint32_t i = 0; i < K; i++) {
        e->score[e->answers] = (double)score[i];
        e->length[e->answers++] = k->spoken[first + i];
        for (uint32_t j = 0; j < K; j++)
            if (k->quality[first + i] > k->quality[first + j])
                e->pair[e->pairs++] = (struct judged){(double)score[i] - (double)score[j], (int)k->spoken[first + i], (int)k->spoken[first + j]};
    }
    (void)s;
}

/* Scores all held-out groups, as many at a time as a micro-batch holds. */
static void see(struct seen *e, struct rm *s)
{
    const struct rankings *k = &s->data.validation;
    struct micro *m = &s->micro[0];
    *e = (struct seen){.pair = host_alloc(k->pairs, sizeof *e->pair), .score = host_alloc(k->answers, sizeof *e->score),
                       .length = host_alloc(k->answers, sizeof *e->length)};
    for (uint32_t next = 0; next < k->groups;) {
        m->groups = 0;
        batch_clear(&m->batch);
        while (next < k->groups && m->batch.N + (int)k->group_tokens[next] <= s->micro_tokens) {
            add_group(&m->batch, k, next);
            m->group[m->groups++] = next++;
        }
        score_raw(s->scores, &s->model, &m->batch, false);
        e->loss += ranking_losses(s, k, m->group, m->groups, 0, NULL);
        const float *score = s->scores;
        for (uint32_t g = 0; g < m->groups; g++) {
            see_group(e, s, k, m->group[g], score);
            score += k->first[m->group[g] + 1] - k->first[m->group[g]];
        }
    }
}

static void seen_free(struct seen *e)
{
    free(e->pair);
    free(e->score);
    free(e->length);
}

static void evaluate(void *self, struct record *r)
{
    struct rm *s = self;
    struct seen e;
    struct calibration c;
    see(&e, s);
    calibrate(&c, e.pair, e.pairs);
    record_real(r, "val_loss", e.loss / s->data.validation.groups);
    record_real(r, "val_accuracy", c.accuracy);
    record_real(r, "val_log_loss", c.log_loss);
    record_real(r, "val_brier", c.brier);
    record_real(r, "val_ece", c.ece);
    record_real(r, "val_margin", c.margin);
    record_real(r, "val_longer_wins", c.longer_wins);
    record_real(r, "val_length_correlation", correlation(e.score, e.length, e.answers));
    seen_free(&e);
}

/* ---- the end: tables, and constants ---- */

/* Mean and deviation of the raw scores of the best answers of up to REFERENCES training prompts, evenly chosen. */
static int reference_scores(struct rm *s, double *mean, double *deviation)
{
    const struct rankings *k = &s->data.train;
    struct batch *b = &s->micro[0].batch;
    int n = int_min((int)k->groups, REFERENCES), done = 0;
    double *score = host_alloc((size_t)n, sizeof *score), squares = 0;
    for (int next = 0; next < n;) {
        batch_clear(b);
        for (; next < n; next++) {
            uint32_t group = (uint32_t)((uint64_t)next * k->groups / (uint64_t)n), best = k->first[group];
            for (uint32_t a = best; a < k->first[group + 1]; a++)
                if (k->quality[a] > k->quality[best]) best = a;
            if (b->N + (int)k->length[best] > s->micro_tokens) break;
            batch_add(b, k->id + k->start[best], NULL, (int)k->length[best]);
        }
        score_raw(s->scores, &s->model, b, false);
        for (int i = 0; i < b->S; i++) score[done++] = (double)s->scores[i];
    }
    *mean = 0;
    for (int i = 0; i < n; i++) *mean += score[i] / n;
    for (int i = 0; i < n; i++) squares += (score[i] - *mean) * (score[i] - *mean);
    *deviation = sqrt(squares / n);
    free(score);
    return n;
}

static void finish(void *self, struct run *run, struct record *r)
{
    struct rm *s = self;
    double mean, deviation;
    if (s->data.validation.groups > 0) {
        struct seen e;
        struct calibration c;
        struct bytes tables = {0};
        see(&e, s);
        calibrate(&c, e.pair, e.pairs);
        calibration_print(&tables, &c);
        run_log(run, "on %u held-out prompts, %zu pairs: accuracy %.3f (the longer answer: %.3f), log loss %.4f, ECE %.3f\n%.*s",
                s->data.validation.groups, e.pairs, c.accuracy, c.longer_wins, c.log_loss, c.ece, (int)tables.size - 1, tables.data);
        bytes_free(&tables);
        seen_free(&e);
    }
    int n = reference_scores(s, &mean, &deviation);
    struct config *c = &s->model.config;
    c->score_mean = s->normalize == NORMALIZE_NONE ? 0 : mean;
    c->score_std = s->normalize == NORMALIZE_BOTH && deviation > 1e-6 ? deviation : 1;
    run_log(run, "the best answers of %d training prompts score %.4f on average, deviation %.4f; rewards are (score - %.4f) / %.4f", n, mean,
            deviation, c->score_mean, c->score_std);
    record_real(r, "score_mean", c->score_mean);
    record_real(r, "score_std", c->score_std);
}

static void save(void *self, struct ckpt_meta *meta)
{
    struct rm *s = self;
    program_describe(meta, &s->model.config, s->parent.tokenizer);
    chat_write(&s->chat, &meta->chat);
    kv_copy(&meta->line, &s->parent.line);
    kv_set_u64(&meta->dcur, "data.crc", s->data.identity);
    kv_set_u64(&meta->dcur, "data.prompts", s->data.train.groups);
    kv_set_u64(&meta->dcur, "data.tokens", s->data.train.tokens);
}

static int load(void *self, const struct ckpt_meta *meta, struct error *error)
{
    struct rm *s = self;
    uint64_t crc = 0, prompts = 0;
    kv_get_u64(&meta->dcur, "data.crc", &crc);
    kv_get_u64(&meta->dcur, "data.prompts", &prompts);
    if (crc == s->data.identity && prompts == s->data.train.groups) return 0;
    return fail(error, EXIT_MISMATCH, "the run was started on other data: %llu prompts (CRC %08llx), now %u (CRC %08x); use the same "
                "files, or another --out", (unsigned long long)prompts, (unsigned long long)crc, s->data.train.groups, s->data.identity);
}

/* ---- starting ---- */

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
        warn(run, "the model was not fine-tuned on dialogues; a reward model usually starts from the sft model whose answers it is to judge");
    s->config = s->parent.config;
    s->known_ids = tokenizer_vocab(s->parent.tokenizer);
    bool own = s->parent.meta->chat.count > 0;
    if (own && chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error) != 0) quit_error(&error);
    enum chat_template wanted = s->template ? (enum chat_template)s->template : own ? s->chat.template : TEMPLATE_QUARTET;
    if (own && wanted != s->chat.template) warn(run, "this is not the chat template the model was trained with; rlhf needs one for all its models");
    chat_open(&s->chat, wanted, s->parent.tokenizer);
    s->config.vocab = int_max(s->config.vocab, tokenizer_vocab(s->parent.tokenizer));
    s->config.head = HEAD_SCALAR;
    s->config.score_mean = 0;
    s->config.score_std = 1;
}

static void read_data(struct rm *s, struct run *run)
{
    struct error error;
    struct paths paths = {0};
    int limit = s->max_length > 0 ? int_min(s->config.context, (int)s->max_length) : s->config.context;
    if (paths_expand(&paths, &s->data_paths, false, &error) != 0) quit_error(&error);
    if (rm_data_read(&s->data, paths.path, paths.count, &s->chat, s->validation, limit, &error) != 0) quit_error(&error);
    paths_free(&paths);
    if ((int)s->data.largest > s->micro_tokens) {
        s->micro_tokens = (int)s->data.largest;
        if (run) run_log(run, "micro-batches hold %d tokens: all answers of a prompt go into one, and the largest prompt needs that many", s->micro_tokens);
    }
    s->micro_batches = int_max(1, (int)(s->train.batch_tokens / s->micro_tokens));
    epochs_open(&s->order, s->data.train.group_tokens, s->data.train.groups, (uint32_t)s->micro_tokens, (uint64_t)s->train.seed);
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
            bytes_text(&out, "---- prompt %u, answer %u, quality %g: %u tokens\n", g + 1, a - k->first[g] + 1, k->quality[a], k->length[a]);
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
    struct model_use use = {.train = true, .recompute = s->train.recompute != 0, .max_tokens = s->micro_tokens, .max_sequences = sequences};
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

static int train_rm(struct rm *s, struct run *run, const struct option *table)
{
    struct error error;
    struct bytes report = {0};
    struct train_options options = s->train;
    double bin_tokens = (double)s->data.train.tokens / s->order.bins, steps = (double)s->order.bins / s->micro_batches;
    char line[200];
    options.steps = program_steps(&s->train, bin_tokens * s->micro_batches, steps);
    struct learner learner = {.name = "", .model = &s->model, .schedule = program_schedule(&s->train, options.steps, 0.03)};
    bool held_out = s->data.validation.groups > 0;
    struct task task = {
        .program = "rm", .stage = STAGE_RM, .self = s, .learner = &learner, .n_learners = 1, .begin = begin, .prepare = prepare, .loss = loss,
        .end = end, .evaluate = held_out ? evaluate : NULL, .finish = finish, .save = save, .load = load, .unit = "prompts",
        .main_metric = held_out ? "val_accuracy" : "accuracy", .tokens_per_step = bin_tokens * s->micro_batches,
        .flops_per_token = config_train_flops(&s->config, (double)s->data.train.tokens / s->data.train.answers)};
    build(s, &s->memory);
    if (s->train.plan) {
        train_print_plan(&task, &s->memory, &options);
        return EXIT_DONE;
    }
    rm_data_report(&report, &s->data);
    run_log(run, "model: %s, from %s", config_line(line, sizeof line, &s->config), ckpt_path(s->parent.ckpt));
    run_log(run, "data:\n%.*s", (int)report.size - 1, report.data);
    if (!held_out) run_log(run, "warning: no prompt is held out: there will be no validation");
    bytes_free(&report);
    program_take(&s->memory, build, s);
    if (parent_load(&s->model, &s->parent, s->known_ids, (uint64_t)s->train.seed, &error) != 0) quit_error(&error);
    int code = train(&task, run, &options, table);
    run_close(run);
    return code;
}

int main(int argc, char **argv)
{
    struct rm s = {0};
    struct option table[OWN_ROWS + TRAIN_ROWS + 1];
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--score") == 0) return score_files(argc, argv);
    option_rows(table, &s);
    struct run *run = program_start("rm", table, &s.train, argc, argv,
                                    "rm --model RUN --data FILES --out RUN\n       rm --score --model RUN [FILE ...]",
                                    "Trains a reward model on ranked answers, or scores answers with one (rm --score --help).");
    if (!run && !s.train.plan && !s.train.dry_run) quit(EXIT_USAGE, "--out is missing: the run folder to write to (or --plan, or --dry-run)");
    s.micro_tokens = (int)s.train.micro_tokens;
    open_parent(&s, run);
    read_data(&s, run);
    s.micro = host_alloc((size_t)s.micro_batches, sizeof *s.micro);
    if (s.train.dry_run) {
        show(&s);
        return EXIT_DONE;
    }
    return train_rm(&s, run, table);
}
