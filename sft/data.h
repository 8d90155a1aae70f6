/* data.h - dialogues from files as token sequences with the trained ones marked. */
#ifndef QUARTET_SFT_DATA_H
#define QUARTET_SFT_DATA_H

#include "common/data/dataset.h"
#include "common/text/chat.h"

struct sft_options {
    enum chat_format format;
    enum chat_train train;
    double validation;               /* share of dialogues held out, by hash of the first user message */
    double skip_bad_rows;            /* how many rows that are not understood are skipped (tally.h) */
    int limit;                       /* longest sequence; longer dialogues are cut at a turn border */
};

/* Reads every row of the files.  Dialogues without an answer, with an empty turn, or whose first answered turn alone is
 * over the limit are dropped and counted; what is over the limit is cut after the last whole answer that fits.
 * max_prompts: how many prompts to keep for samples: of the first held-out dialogues, or of the first of all.
 * Returns 0, or -1: a row that is not understood (EXIT_DATA, with file and line), no file (EXIT_NOINPUT), no trainable
 * token at all (EXIT_DATA). */
int sft_data_read(struct dataset *d, char *const *path, int n, const struct chat *chat, const struct sft_options *o,
                  int max_prompts, struct error *error);

/* What was read, dropped, changed and kept, for a person; appended to out. */
void sft_data_report(struct bytes *out, const struct dataset *d);

#endif
