/* forms.h - the shapes in which data sets write rankings down, read into one: a prompt and its answers, better and
 * worse. */
#ifndef QUARTET_FORMS_H
#define QUARTET_FORMS_H

#include "common/text/chat.h"

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

#endif
