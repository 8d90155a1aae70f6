/* score.c - the end token of an answer has seen all of it, and is always there.
 *
 * rm --score: one line of JSON per answer, in the order read.  Answers are scored together as they fill a micro-batch;
 * from standard input each row is answered at once, so that another program may wait for it. */
#include "common/base/threads.h"
#include "common/data/paths.h"
#include "common/data/records.h"
#include "common/model/device.h"
#include "common/train/program.h"
#include "rm/data.h"
#include "rm/score.h"

#include <stdlib.h>
#include <string.h>

/* Row of the last token of each sequence. */
static const int *last_rows(struct model *m, const struct batch *b)
{
    for (int s = 0; s < b->S; s++) m->head.counted[s] = b->offsets[s + 1] - 1;
    return m->head.counted;
}

void score_read(float *scores, struct model *m, const struct batch *b)
{
    model_values(m, scores, last_rows(m, b), b->S);
}

void score_raw(float *scores, struct model *m, const struct batch *b)
{
    model_forward(m, b, false);
    score_read(scores, m, b);
}

void score_rewards(float *rewards, struct model *m, const struct batch *b)
{
    score_raw(rewards, m, b);
    for (int s = 0; s < b->S; s++)
        rewards[s] = (float)(((double)rewards[s] - m->config.score_mean) / m->config.score_std);
}

void score_backward(struct model *m, const struct batch *b, const float *dscores)
{
    model_values_backward(m, dscores, last_rows(m, b), b->S);
}

/* ---- rm --score ---- */

struct scorer {
    const char *model_path;
    int64_t threads, device, micro_tokens;
    bool score;
    struct parent parent;
    struct chat chat;
    struct model model;
    struct memory memory;
    struct batch batch;
    float *rewards;                                          /* (sequences) */
    struct waiting { uint64_t row; int answer; int tokens; } *waiting;     /* (sequences) what is in the batch */
    bool at_once;
    uint64_t row;
    int max_tokens;
    struct ids ids, ends;
    struct tally changed;
    struct error *error;
};

static void flush(struct scorer *s)
{
    if (s->batch.S == 0) return;
    score_rewards(s->rewards, &s->model, &s->batch);
    for (int i = 0; i < s->batch.S; i++) {
        const struct waiting *w = &s->waiting[i];
        printf("{\"row\": %llu, \"answer\": %d, \"tokens\": %d, \"reward\": %.6g}\n", (unsigned long long)w->row,
               w->answer, w->tokens, (double)s->rewards[i]);
    }
    fflush(stdout);
    batch_clear(&s->batch);
}

static void take_ranking(void *self, struct ranking *r)
{
    struct scorer *s = self;
    int prompt;
    const char *why = ranking_tokens(&s->ids, &s->ends, &prompt, r, &s->chat, s->model.config.context, false,
                                     &s->changed);
    if (why) {
        flush(s);
        printf("{\"row\": %llu, \"reward\": null, \"why\": \"%s\"}\n", (unsigned long long)s->row, why);
        return;
    }
    for (size_t i = 0; i < s->ends.count; i++) {
        int start = i ? s->ends.id[i - 1] : 0, length = s->ends.id[i] - start;
        if (s->batch.N + length > s->max_tokens) flush(s);
        s->waiting[s->batch.S] = (struct waiting){s->row, (int)i, length - prompt};
        batch_add(&s->batch, s->ids.id + start, NULL, length);
    }
}

static int take_row(void *self, json_t *row, const char *where)
{
    struct scorer *s = self;
    s->row++;
    if (rankings_from_json(row, false, NULL, take_ranking, s, s->error) != 0) return fail_in(s->error, "%s", where);
    if (s->at_once) flush(s);
    if (ferror(stdout)) return fail(s->error, EXIT_IO, "standard output cannot be written");
    return 0;
}

static void build(void *self, struct memory *m)
{
    struct scorer *s = self;
    int sequences = s->max_tokens / 2 + 1;
    struct model_use use = {.max_tokens = s->max_tokens, .max_sequences = sequences};
    ops_open(m);
    model_open(&s->model, &s->parent.config, &use, m);
    batch_open(&s->batch, m, s->max_tokens, sequences);
    s->rewards = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->rewards);
    s->waiting = memory_take(m, MEMORY_DATA, (size_t)sequences, sizeof *s->waiting);
}

static int open_model(struct scorer *s, struct error *error)
{
    if (device_open((int)s->device, error) != 0) return -1;
    if (parent_open(&s->parent, s->model_path, NULL, 1u << STAGE_RM, "reward", error) != 0) return -1;
    if (chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, error) != 0) return -1;
    s->max_tokens = int_max((int)s->micro_tokens, s->parent.config.context);
    build(s, &s->memory);
    program_take(&s->memory, build, s);
    batch_clear(&s->batch);
    return model_load(&s->model, s->parent.ckpt, "", ROLE_WEIGHT, false, 0, error);
}

static void close_all(struct scorer *s, struct paths *paths)
{
    model_close(&s->model);
    memory_close(&s->memory);
    parent_close(&s->parent);
    free(s->ids.id);
    free(s->ends.id);
    paths_free(paths);
}

int score_files(int argc, char **argv)
{
    struct scorer s = {0};
    struct error error;
    struct option_list files = {0};
    struct paths paths = {0};
    char *input[] = {(char[]){"/dev/stdin"}};
    const struct option table[] = {
        {"Scoring", "score", OPTION_FLAG, &s.score, NULL, .help = "Score answers instead of training."},
        {NULL, "model", OPTION_TEXT, &s.model_path, NULL, .flags = OPTION_REQUIRED,
         .help = "Checkpoint or run folder of rm, or a Hugging Face folder."},
        {NULL, "micro-tokens", OPTION_INT, &s.micro_tokens, "4096", 1, 1 << 24,
         .help = "Most tokens scored at once (at least the model's context)."},
        {NULL, "threads", OPTION_INT, &s.threads, "0", 0, 4096, .help = "Number of threads; 0: one per core."},
        {NULL, "device", OPTION_INT, &s.device, "0", 0, 4096,
         .help = "Number of the GPU, in a build for CUDA; the CPU is device 0."},
        {0}};
    program_begin("rm");
    program_set_build(device_build());
    if (options_parse(table, argc, argv, "rm --score --model RUN [FILE ...]",
                      "Writes one JSON line with \"reward\" for each answer of JSON rows from files or standard input.",
                      &files, &error) != 0)
        quit_error(&error);
    threads_start((int)s.threads);
    s.error = &error;
    s.at_once = files.count == 0;
    if (s.at_once && program_input_closed())
        quit(EXIT_IO, "the input cannot be read: stdin is closed, and no file is given");
    if (files.count > 0 && paths_expand(&paths, &files, false, &error) != 0) quit_error(&error);
    if (paths.left_out.size) fputs(paths.left_out.data, stderr);
    if (open_model(&s, &error) != 0) quit_error(&error);
    int status = records_read(files.count ? paths.path : input, files.count ? paths.count : 1, false, NULL,
                              take_row, &s, &error);
    flush(&s);
    if (status != 0) quit_error(&error);
    if (s.row == 0) fputs("warning: there is no row to score\n", stderr);
    close_all(&s, &paths);
    return EXIT_DONE;
}
