/* answers.h - a model answers a file of prompts: many at once, one JSON line per answer, in the order of the file. */
#ifndef QUARTET_ANSWERS_H
#define QUARTET_ANSWERS_H

#include "common/text/chat.h"
#include "common/base/options.h"
#include "common/model/sample.h"

struct answers_options {
    const struct option_list *prompts;       /* files as prompts_read takes them */
    const struct sample_settings *how;
    int samples, max_new;                    /* answers to each prompt, and their longest length in tokens */
    uint64_t seed;
};

/* Writes for each prompt `samples` lines {"prompt", "messages", "sample", "response", "tokens", "stopped"}; the answer
 * depends on its prompt, its number and the seed alone.  Prompts that do not fit the context are left out, and said on
 * stderr.
 *   m: opened for generation   chat: its template, or one of TEMPLATE_NONE to continue the prompt as a text.
 * Returns 0, or -1: the files (as prompts_read), or EXIT_IO. */
int answers_write(FILE *out, struct model *m, const struct chat *chat, const struct answers_options *o,
                  struct error *error);

#endif
