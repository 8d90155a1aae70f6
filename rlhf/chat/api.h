/* api.h - what a client of the OpenAI-compatible endpoints asks for, read from the body of its request, and the errors
 * it is told.  Pure functions of bytes: serve.c moves these, service.c makes the answers, reply.c writes them down. */
#ifndef QUARTET_API_H
#define QUARTET_API_H

#include "common/model/sample.h"
#include "common/text/chat.h"

enum { API_STOPS = 4, API_STOP_BYTES = 1000, API_TOP_LOGPROBS = 20, API_CHOICES = 128 };

/* status: of HTTP.  param: the field at fault, "" for none.  code: a fixed word, or NULL. */
struct api_error { int status; char param[64]; const char *code; char text[500]; };
int api_fail(struct api_error *error, int status, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));      /* returns -1 */
/* {"error": {...}}, appended. */
void api_error_json(struct bytes *out, const struct api_error *error);

/* What is served.  chat NULL: texts are continued, and there are no dialogues.  standard, max_new: where a request says
 * nothing; max_new is for dialogues. */
struct api_model {
    const char *name, *system;
    const struct tokenizer *tokenizer;
    const struct chat *chat;
    struct sampling standard;
    int context, max_new, most_choices;
};

/* A request as understood; the prompts' ids lie one after another, number i ending before end[i].  most: new tokens of
 * a choice (prompt and answer fit the context).  n choices for each prompt. */
struct api_request {
    bool chat, stream, usage, logprobs, seeded;
    int n, top, most;
    uint64_t seed;
    struct sampling sampling;
    struct bytes stop[API_STOPS];
    int n_stop;
    struct ids ids, end;
};

/* Whether this is the model's name: 0, or -1 (404). */
int api_model_named(const struct api_model *m, const char *name, struct api_error *error);

/* Reads a body for /v1/chat/completions (chat) or /v1/completions.  Returns 0, or -1 with *error (400 or 404) and
 * *r {0}.  What was read is given back by api_free. */
int api_read(struct api_request *r, const struct api_model *m, bool chat, const char *body, size_t size,
             struct api_error *error);
void api_free(struct api_request *r);

#endif
