/* session.h - what chat holds: main.c reads options and opens the model, talk.c takes messages and answers
 * them, answers.c answers files of prompts. */
#ifndef QUARTET_SESSION_H
#define QUARTET_SESSION_H

#include "common/model/sample.h"
#include "common/text/chat.h"
#include "common/train/program.h"

struct session {
    const char *model_path, *prompt, *system, *config;
    double temperature, top_p, min_p;
    int64_t top_k, max_new, seed, threads, samples;
    struct option_list prompts;
    bool raw;                        /* no template: continue the text */
    bool ema;

    struct parent parent;
    struct model model;
    struct chat chat;
    bool input_tty, output_tty;
    int stop[2], n_stop;             /* tokens that end an answer */
    struct dialogue dialogue;
    uint64_t answers;                /* since the start or /reset: the sample's index */
    struct ids ids;                  /* what the model reads */
    int *tokens;                     /* (context): what it draws */
};

/* Ctrl-C ends an answer, or the wait for a line. */
void session_catch_interrupt(void);
void session_reset(struct session *s);          /* an empty dialogue, or one that begins with --system */
struct sample_settings session_sampling(const struct session *s);

/* Takes one message and answers it on stdout.  False, after saying why on stderr, when it does not fit the context. */
bool session_turn(struct session *s, const char *line, size_t length);
/* Reads messages and commands from standard input to its end. */
void session_talk(struct session *s);
/* Answers the files of --prompts: for each prompt --samples lines {"prompt", "messages", "sample", "response",
 * "tokens", "stopped"} on stdout, in order.  An answer depends only on its prompt, its number and the seed. */
void session_answer_files(struct session *s);

#endif
