/* chat.h - dialogues and their templates, rendered by token ids: content is encoded with special-token parsing off,
 * control tokens are placed by id, and the mask is made in lock-step with the ids.
 *
 * chat.c holds the templates, dialogue.c puts messages in order, dialogue_json.c knows the shapes in which data sets
 * write dialogues down (docs/data-formats.md). */
#ifndef QUARTET_CHAT_H
#define QUARTET_CHAT_H

#include "common/base/tally.h"
#include "common/text/tokenizer.h"
#include <jansson.h>

struct kv;

enum chat_role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };
/* content is followed by a NUL that length does not count.  input: where the "input" of an Alpaca row begins within it
 * (after its instruction and an empty line), 0 elsewhere.  muted: marked as not to be trained on. */
struct message { enum chat_role role; char *content; size_t length, input; bool muted; };
/* What the readers below found: merged, skipped: messages joined to the one before (same role), or left out (an
 * assistant who speaks before anyone asked, an empty system message).  unwanted: why the row says that its answer is
 * not to be trained on, or NULL.  marked: its prompt was one text with "Human:" and "Assistant:" in it.
 * unused: where they count the keys they make nothing of; the caller's, may be NULL. */
struct dialogue {
    struct message *message;
    int count, merged, skipped;
    const char *unwanted;
    bool marked;
    struct tally *unused;
};
void dialogue_add(struct dialogue *d, enum chat_role role, const char *content, size_t length);      /* copies */
void dialogue_pop(struct dialogue *d);          /* removes the last message */
void dialogue_free(struct dialogue *d);         /* leaves {0} */
/* Appends by the rules of the readers below: joined to a neighbour of its role, left out, or a message of its own; with
 * d->marked without the white space around it. */
void dialogue_turn(struct dialogue *d, enum chat_role role, const char *content, size_t length, bool muted);
void message_append(struct message *m, const char *content, size_t length);      /* behind an empty line */
/* Removes the oldest user message and what follows it, up to the next one.  False when that is the last question. */
bool dialogue_forget_turn(struct dialogue *d);

enum chat_template { TEMPLATE_NONE = 0 /* plain text: no dialogue is rendered */, TEMPLATE_QUARTET = 1, TEMPLATE_CHATML,
                    TEMPLATE_LLAMA3, TEMPLATE_ALPACA, TEMPLATE_VICUNA, TEMPLATE_MISTRAL, TEMPLATE_ZEPHYR,
                    TEMPLATE_GEMMA, TEMPLATE_QWEN3, TEMPLATE_GLM4, TEMPLATE_LAST = TEMPLATE_GLM4 };
#define CHAT_TEMPLATES "quartet|chatml|llama3|alpaca|vicuna|mistral|zephyr|gemma|qwen3|glm4"
const char *chat_template_name(enum chat_template template);         /* "quartet", ... */

/* A template bound to a tokenizer.  bos: -1 where there is none.  end: closes an assistant's turn; generation stops
 * there, and at `also` (-1: none). */
struct chat { enum chat_template template; const struct tokenizer *tokenizer; int bos, end, also; int control[12]; };

/* Adds the template's special tokens to t where missing (bos is <|endoftext|> for quartet, alpaca and vicuna) and
 * binds. */
void chat_open(struct chat *c, enum chat_template template, struct tokenizer *t);
/* Binds to a tokenizer as it is: 0, or -1 (EXIT_MISMATCH) naming the missing special token.  The tokenizer must outlive
 * the chat. */
int chat_bind(struct chat *c, enum chat_template template, const struct tokenizer *t, struct error *error);

/* Where generation ends: ids, each once. */
enum { STOPS_MOST = 16 };
struct stops { int id[STOPS_MOST], count; };
/* What ends an answer of the template, its end token first (c NULL or {0}: there is none); what the model's origin names
 * (key "stop" of section META, NULL: none); what separates documents; <|endoftext|>. */
struct stops stops_of(const struct chat *c, const struct tokenizer *t, const struct kv *meta);
bool stops_add(struct stops *s, int id);        /* false: -1, there already, or one more than fit */

/* Section CHAT: the template's name ("template") and the ids that end an answer ("stop"); and back.  An empty
 * section: -1 (EXIT_MISMATCH); another template's name or ids: EXIT_DATA. */
void chat_write(const struct chat *c, struct kv *kv);
int chat_read(struct chat *c, const struct kv *kv, const struct tokenizer *t, struct error *error);

enum chat_train { CHAT_TRAIN_ASSISTANT, CHAT_TRAIN_ALL, CHAT_TRAIN_LAST };
#define CHAT_TRAINS "assistant|all|last"

/* Appends ids and masks (1: trained: assistant content and its end token, unless muted) of a dialogue; turn_ends (may be
 * NULL) gets, for each message, the number of this dialogue's ids up to its end.  What stands between two messages belongs to the
 * later one, so an assistant's turn always ends with the end token.  prompt: also the assistant header, ready for an
 * answer (not trained).
 *   mask may be NULL.   CHAT_TRAIN_ALL: every id but the first.   CHAT_TRAIN_LAST: only the last assistant turn.
 * Prefix property: rendering messages 0..k with prompt is an exact prefix of rendering 0..k+1, when k+1 is the
 * assistant's. */
void chat_render(const struct chat *c, const struct dialogue *d, enum chat_train train, bool prompt, struct ids *ids,
                 struct bytes *mask, struct ids *turn_ends);

/* ids: the dialogue up to where an answer begins, less its oldest turns (which leave d) while that is more than `limit`
 * and there is another question.  Returns how many messages were left out. */
int chat_render_prompt(struct ids *ids, const struct chat *c, struct dialogue *d, int limit);

/* One JSON row as a dialogue, recognised by its keys or by the given format (docs/data-formats.md); *d is {0} before,
 * but for `unused`.  A plain JSON string is a user message.  Rows without an answer are allowed (prompts).  Keys that
 * were used are removed from the row.  Returns 0, or -1 (EXIT_DATA, *d {0}) saying which key was expected.
 * Neighbours of one role are merged with an empty line between; content that is null is empty. */
enum chat_format { FORMAT_AUTO, FORMAT_MESSAGES, FORMAT_SHAREGPT, FORMAT_ALPACA, FORMAT_PROMPT,
                   FORMAT_QUESTION /* as FORMAT_AUTO, but an answer beside the question is not used */ };
#define CHAT_FORMATS "auto|messages|sharegpt|alpaca|prompt"
int dialogue_from_json(struct dialogue *d, json_t *row, enum chat_format format, struct error *error);
/* Whether a key of the row holds a question or a dialogue. */
bool dialogue_asked(json_t *row);
/* Appends a messages array ([{role|from, content|value}]), one such message, or a plain string (a message of `role`).
 * Returns 0, or -1 (EXIT_DATA) with the messages before the fault appended. */
int dialogue_add_messages(struct dialogue *d, json_t *messages, enum chat_role role, struct error *error);
/* "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf), appended; white space around each message is removed.  Returns 0, or
 * -1 (EXIT_DATA, *d as it was) when there is no such marker. */
int dialogue_from_hh(struct dialogue *d, const char *text, size_t length, struct error *error);
/* The same of a prompt, which is such a text only when it begins with "Human:" and has an "Assistant:"; an empty last
 * one waits for its answer and is left out.  False, and *d as it was, when it is not. */
bool dialogue_from_marked(struct dialogue *d, const char *text, size_t length);
/* Counts the keys of an object in d->unused, each as PREFIX key. */
void dialogue_unused(struct dialogue *d, const char *prefix, json_t *object);

/* What makes a dialogue unusable ("a system message after the first place", "no user message", ...), or NULL. */
const char *dialogue_fault(const struct dialogue *d);
/* The same, or that the template has no system message. */
const char *chat_fault(const struct chat *c, const struct dialogue *d);
bool chat_has_system(const struct chat *c);
/* Are an answer's ids in a dialogue those of its text alone and the end token, whatever stands before? */
bool chat_answers_alone(const struct chat *c);
/* True when the message has nothing but white space. */
bool message_blank(const struct message *m);
/* Removes the end marks that a data set wrote as text behind the content ("<|endoftext|>", "</s>", ...); true, and
 * counted, when there was one. */
bool message_cut_end_marks(struct message *m, struct tally *changed);
/* Counts what the readers merged and left out. */
void dialogue_mended(const struct dialogue *d, struct tally *changed);
/* A number in [0, 1) that depends only on the first user message (1 without one): below the share of validation, the
 * dialogue is held out.  So the same question is on the same side in every file, stage and run. */
double dialogue_place(const struct dialogue *d);

#endif
