/* samples.h - prompts that a model answers now and then while it trains, for a person to read. */
#pragma once

#include "common/model/model.h"
#include "common/text/tokenizer.h"
#include "common/train/run.h"

struct samples {
    const struct tokenizer *tokenizer;
    const struct ids *prompt;
    int count, tokens;              /* prompts, and the longest answer */
    int stop[2], n_stop;
    double temperature;
    uint64_t seed;
    bool bare;                      /* shown without the token that begins a prompt and the one that ends an answer */
};

/* Answers all prompts; each with its answer goes to samples.txt, and as one line to the log. */
void samples_show(const struct samples *s, struct model *m, struct run *run, int64_t step);
