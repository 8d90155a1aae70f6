/* session.h - what chat holds: main.c opens the model, talk.c talks, files.c answers files of prompts and scores
 * those of texts, serve.c serves others. */
#ifndef QUARTET_SESSION_H
#define QUARTET_SESSION_H

#include "common/model/sample.h"
#include "common/text/chat.h"
#include "common/train/program.h"

struct session {
    const char *model_path, *prompt, *system, *config, *serve;
    double temperature, top_p, min_p;
    int64_t top_k, max_new, seed, threads, device, samples;
    int64_t slots, queue, max_body;  /* of --serve */
    double max_time, grace;
    struct option_list prompts, logprobs;
    bool raw;                        /* no template: continue the text */
    bool ema;
    char *own_system;                /* what /system set: system is this, then */

    struct parent parent;
    struct model model;
    struct chat chat;
    bool input_tty, output_tty;
    struct stops stops;              /* tokens that end an answer */
    struct dialogue dialogue;
    uint64_t answers;                /* since the start or /reset: the sample's index */
    struct ids ids;                  /* what the model reads */
    int *tokens;                     /* (context): what it draws */
};

struct sample_settings session_sampling(const struct session *s);
/* Answers --prompt, or what is typed or comes through the pipe.  False when the one --prompt was too long. */
bool session_talk(struct session *s);
/* Answers the files of --prompts: for each prompt --samples lines {"prompt", "messages", "sample", "response",
 * "tokens", "stopped"} on stdout, in order.  An answer depends only on its prompt, its number and the seed. */
void session_answer_files(struct session *s);
/* For each row of the files of --logprobs, {"text"} or {"tokens"}, a line {"tokens", "logprobs", "argmax"} on stdout:
 * the ids, the log-probability of each (null for the first), and the most likely id after each. */
void session_logprobs(struct session *s);
/* Answers requests at --serve until it is asked to stop; false: this build has no libmicrohttpd and cannot. */
bool session_serves(void);
void session_serve(struct session *s);

#endif
