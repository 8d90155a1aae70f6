/* data.h - rankings from files as token sequences, one an answer, prompt included and ending with the end token.  The
 * answers to a prompt are an item of the data set, with at least one pair of different quality; what they speak, the end
 * token included, is marked as trained. */
#ifndef QUARTET_RM_DATA_H
#define QUARTET_RM_DATA_H

#include "common/data/dataset.h"
#include "common/text/chat.h"

/* ---- one row (forms.c) ---- */

/* A prompt with K answers.  quality: the higher, the better; equal: tied.  fault: why it cannot be used as it stands,
 * or NULL. */
struct ranking { struct dialogue prompt, answers; double *quality; const char *fault; };

/* Calls take(self, ranking) for each ranking in a JSON row (a message tree holds several); take may change the ranking,
 * which is freed afterwards.  Understood, told by the keys:
 *   prompt | question | query (string or messages) or conversations or instruction (+ input), with
 *       chosen, rejected (string, message or messages)  |  response_j, response_k  |  responses with ranks or scores
 *   chosen, rejected alone: whole dialogues, as messages or as "\n\nHuman: ...\n\nAssistant: ..." text
 *   chosen_messages, rejected_messages: whole dialogues
 *   a message tree (oasst): every message with at least two ranked replies of the assistant is the end of a prompt
 * ranked false (scoring): also rows of one answer (any dialogue that ends with one, or messages with a response, as
 *     rlhf and chat write them), and responses without ranks.
 * unused (may be NULL): where the keys are counted that nothing was made of.
 * Returns 0, or -1 (EXIT_DATA) saying what was expected; rankings before the error have been taken. */
int rankings_from_json(json_t *row, bool ranked, struct tally *unused, void (*take)(void *self, struct ranking *r),
                       void *self, struct error *error);

/* ---- all of them ---- */

enum { RANKING_MOST = 64 };          /* answers to one prompt */

/* Reads every row of the files; share: of prompts held out, by hash of the first user message.  A prompt that is too
 * long beside its answers loses its earliest turns; an answer that still does not fit is cut and its end token put
 * last; what cannot be compared is dropped, and everything is counted.   limit: longest sequence.
 * Returns 0, or -1: a row that is not understood (EXIT_DATA, with file and line), no file (EXIT_NOINPUT), no pair
 * (EXIT_DATA). */
int rm_data_read(struct dataset *d, char *const *path, int n, const struct chat *chat, double share, int limit,
                 double skip_bad_rows, struct error *error);

/* Pairs of a better and a worse answer to one prompt. */
int64_t rm_data_pairs(const struct sequences *s);

/* What was read, dropped, changed and kept, for a person; appended to out. */
void rm_data_report(struct bytes *out, const struct dataset *d);

/* A ranking as it is trained on and scored: answers tidied, prompt cut, everything tokenised.  ids gets all answers one
 * after the other, ends (K) where each ends in it, *prompt the tokens of the prompt at the front of each.  compare:
 * answers that cannot be compared (empty, equal) are removed from r, and at least one pair is asked for.
 * Returns NULL, or why the ranking is dropped. */
const char *ranking_tokens(struct ids *ids, struct ids *ends, int *prompt, struct ranking *r, const struct chat *chat,
                           int limit, bool compare, struct tally *changed);

#endif
