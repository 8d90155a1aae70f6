/* chat.h - dialogues and their templates, rendered by token ids: content is encoded with special-token parsing off, control
 * tokens are placed by id, and the mask is made in lock-step with the ids. */
#ifndef QUARTET_CHAT_H
#define QUARTET_CHAT_H

#include "common/tokenizer.h"
#include <jansson.h>

struct kv;

enum chat_role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };
struct message { enum chat_role role; char *content; size_t length; };
struct dialogue { struct message *message; int count; };
void dialogue_add(struct dialogue *d, enum chat_role role, const char *content, size_t length);
void dialogue_free(struct dialogue *d);

enum chat_template { TEMPLATE_QUARTET = 1, TEMPLATE_CHATML, TEMPLATE_LLAMA3, TEMPLATE_ALPACA, TEMPLATE_VICUNA };
#define CHAT_TEMPLATES "quartet|chatml|llama3|alpaca|vicuna"

/* A template bound to a tokenizer. */
struct chat { enum chat_template template; const struct tokenizer *tokenizer; int bos, end; int control[12]; };

/* Adds the template's special tokens to t where missing (bos is <|endoftext|> for quartet, alpaca and vicuna) and binds. */
void chat_open(struct chat *c, enum chat_template template, struct tokenizer *t);
/* Binds to a tokenizer as it is: 0, or -1 (EXIT_MISMATCH) naming the missing special token. */
int chat_bind(struct chat *c, enum chat_template template, const struct tokenizer *t, struct error *error);

/* Section CHAT: the template's name and stop ids; and back. */
void chat_write(const struct chat *c, struct kv *kv);
int chat_read(struct chat *c, const struct kv *kv, const struct tokenizer *t, struct error *error);

enum chat_train { CHAT_TRAIN_ASSISTANT, CHAT_TRAIN_ALL, CHAT_TRAIN_LAST };

/* Appends ids and masks (1: trained: assistant content and its end token) of a dialogue; turn_ends (may be NULL) gets, for each
 * message, the number of ids after it.  prompt: also the assistant header, ready for an answer (nothing of it is trained).
 * Prefix property: rendering messages 0..k with prompt is an exact prefix of rendering 0..k+1, when k+1 is the assistant's. */
void chat_render(const struct chat *c, const struct dialogue *d, enum chat_train train, bool prompt, struct ids *ids,
                 struct bytes *mask, struct ids *turn_ends);

/* One JSON row as a dialogue, recognised by its keys or by the given format.  Returns 0, or -1 (EXIT_DATA) saying which key was expected. */
enum chat_format { FORMAT_AUTO, FORMAT_MESSAGES, FORMAT_SHAREGPT, FORMAT_ALPACA, FORMAT_PROMPT };
#define CHAT_FORMATS "auto|messages|sharegpt|alpaca|prompt"
int dialogue_from_json(struct dialogue *d, json_t *row, enum chat_format format, struct error *error);
/* A messages array ([{role|from, content|value}]) or a plain string (a user message). */
int dialogue_from_messages(struct dialogue *d, json_t *messages, struct error *error);
/* "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf). */
int dialogue_from_hh(struct dialogue *d, const char *text, size_t length, struct error *error);

#endif
