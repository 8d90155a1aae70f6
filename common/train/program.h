/* program.h - what the four training programs do alike around the loop: start, open a parent checkpoint, take memory,
 * fill batches, count steps, describe themselves in a checkpoint. */
#pragma once

#include "common/text/chat.h"
#include "common/train/train.h"

/* Name, options, ranks, threads, signals and run folder, in that order; quits with one sentence when one of them fails.
 * Returns the run, or NULL with --plan or --dry-run, or without --out. */
struct run *program_start(const char *name, const struct option *table, struct train_options *o,
                          int argc, char **argv, const char *usage, const char *about);
/* The last of a program that ends well on all ranks: run may be NULL. */
void program_end(struct run *run, struct train_options *o);

/* The checkpoint that train() will resume this run from, open; NULL when it starts a new one (or run is NULL). */
struct ckpt *program_resumed(const struct run *run, const char *resume);

/* ---- parents ---- */

/* A checkpoint that training starts from: the open file, what its metadata says, and the lineage a child of it has. */
struct parent {
    struct ckpt *ckpt;
    const struct ckpt_meta *meta;       /* of ckpt */
    struct config config;
    struct tokenizer *tokenizer;
    struct kv line;                     /* section LINE of a child: this parent in its role, and the chain above it */
};

/* A checkpoint, or the newest one of a run folder (ckpt_open), or a model of another system in a Hugging Face folder
 * or a GGUF file (interop_open): what was found there goes to the log of the run (NULL: to stderr).  Returns 0 or
 * -1. */
int model_file_open(struct ckpt **out, const char *path, struct run *run, struct error *error);

/* path, run: as model_file_open.  stages: the allowed ones, 1u << STAGE_PRETRAIN | ...   role: as in lineage_add.
 * Returns 0, or -1 with *p closed: not a checkpoint, another stage (EXIT_MISMATCH), no tokenizer or one that has more
 * ids than the model. */
int parent_open(struct parent *p, const char *path, struct run *run, unsigned stages, const char *role,
                struct error *error);
void parent_close(struct parent *p);

/* 0, or -1 (EXIT_MISMATCH) naming both files, when the tokenizers are not the same. */
int parent_same_tokenizer(const struct parent *a, const struct parent *b, struct error *error);

/* model_load of the parent's weights (a missing scalar head is initialised from seed) into a model that equals it but
 * for its head and for ids added to the vocabulary.  Rows of ids from known_ids on, which special tokens were given
 * since, become the mean of the rows before.  Returns 0, or -1 (EXIT_MISMATCH, EXIT_DATA).
 * Source: Taori et al. 2023 (Alpaca), mean rows for new tokens. */
int parent_load(struct model *m, struct parent *p, int known_ids, uint64_t seed, struct error *error);

/* then, now: section LINE of a resumed checkpoint and of one of this start; option[i] named parent i.  The paths may
 * differ, the weights not: 0, or -1 (EXIT_MISMATCH) naming the option. */
int parents_unchanged(const struct kv *then, const struct kv *now, const char *const *option, int n,
                      struct error *error);

/* Sections CONF, TOKN, CHAT and LINE (chat, line: NULL for none), and what ends a text by the parent's section META
 * (parent NULL: none). */
void program_describe(struct ckpt_meta *meta, const struct config *c, const struct tokenizer *t,
                      const struct chat *chat, const struct kv *line, const struct ckpt_meta *parent);

/* One line to the log of the run, or to stderr when there is none (run NULL). */
void program_say(void *run, const char *line);

/* ---- memory ---- */

/* After build(self, m) has measured: takes the memory, runs build again on it and seals it.  Quits when there is not
 * enough. */
void program_take(struct memory *m, void (*build)(void *self, struct memory *m), void *self);

/* With --plan prints it; else takes memory, fills the models and trains.  o: with its steps.  Returns the exit code. */
int program_run(struct task *task, struct run *run, const struct train_options *o, const struct option *table,
                struct memory *memory);

/* ---- after it ---- */

/* Logs "LABEL: PROGRAM PARENTS RUN DATA --out SIBLING", the command to type next, with this run's folder and this
 * program's own path: program_next(run, "next", "sft", "--model", "--data DIALOGUES.jsonl").  data NULL: no --out. */
void program_next(struct run *run, const char *label, const char *program, const char *parents, const char *data);

/* ---- samples ---- */

/* Prompts that a model answers now and then while it trains, for a person to read. */
struct samples {
    const struct tokenizer *tokenizer;
    const struct ids *prompt;
    int count, tokens;              /* prompts, and the longest answer */
    struct stops stops;
    double temperature;
    uint64_t seed;
    bool bare;                      /* shown without the token that begins a prompt and the one that ends an answer */
};

/* Answers all prompts; each with its answer goes to samples.txt, and as one line to the log. */
void samples_show(const struct samples *s, struct model *m, struct run *run, int64_t step);

/* ---- data ---- */

/* --skip-bad-rows: a number of rows, or a share ("0.01", "1%"), which is below 1.  Quits (EXIT_USAGE). */
#define SKIP_BAD_ROWS_HELP "How many unreadable rows to skip and list: a number or a share (0.01, 1%)."
double program_skip_rows(const char *text);

/* ---- steps ---- */

/* --steps, else --tokens / tokens_per_step, else --epochs * steps_per_epoch; rounded up, at least 1. */
int64_t program_steps(const struct train_options *o, double tokens_per_step, double steps_per_epoch);

/* The schedule of `steps` steps; warmup_share of them (rounded up) when --warmup is not given. */
struct schedule_options program_schedule(const struct train_options *o, int64_t steps, double warmup_share);
