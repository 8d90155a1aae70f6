/* chat.c - the templates: which ids stand around each message.
 *
 * A template is two small functions of a role, what comes before the content and what comes after it.  Everything
 * is placed as ids; text between control tokens is encoded on its own, so that nothing a user writes can merge with, or
 * turn into, a control token, and so that a prompt's ids are an exact prefix of the ids of prompt and answer. */
#include "common/text/chat.h"
#include "format/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The special tokens of each template, in the order of struct chat's control[]; the first begins a text, "": none. */
enum { BOS, END, CONTROL };
static const struct { const char *name; const char *token[CONTROL + 4]; } list[] = {
    [TEMPLATE_QUARTET] = {"quartet", {"<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"}},
    [TEMPLATE_CHATML] = {"chatml", {"", "<|im_end|>", "<|im_start|>"}},
    [TEMPLATE_LLAMA3] = {"llama3", {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"}},
    [TEMPLATE_ALPACA] = {"alpaca", {"<|endoftext|>", "<|endoftext|>"}},
    [TEMPLATE_VICUNA] = {"vicuna", {"<|endoftext|>", "<|endoftext|>"}},
};
enum { TEMPLATES = sizeof list / sizeof *list, TOKENS = CONTROL + 4 };

const char *chat_template_name(enum chat_template template)
{
    assert(template >= TEMPLATE_QUARTET && (int)template < TEMPLATES);
    return list[template].name;
}

/* ---- binding to a tokenizer ---- */

int chat_bind(struct chat *c, enum chat_template template, const struct tokenizer *t, struct error *error)
{
    struct chat new = {.template = template, .tokenizer = t, .bos = -1};
    assert(template >= TEMPLATE_QUARTET && (int)template < TEMPLATES);
    for (int i = 0; i < TOKENS && list[template].token[i]; i++) {
        const char *text = list[template].token[i];
        if (!*text) continue;
        int id = tokenizer_special(t, text);
        if (id < 0)
            return fail(error, EXIT_MISMATCH,
                        "the chat template %s needs the special token %s, which this model's tokenizer does "
                        "not have (fine-tune the model with sft --template %s, which adds it)",
                        list[template].name, text, list[template].name);
        *(i == BOS ? &new.bos : i == END ? &new.end : &new.control[i - CONTROL]) = id;
    }
    *c = new;
    return 0;
}

void chat_open(struct chat *c, enum chat_template template, struct tokenizer *t)
{
    for (int i = 0; i < TOKENS && list[template].token[i]; i++)
        if (*list[template].token[i]) tokenizer_add_special(t, list[template].token[i]);
    if (chat_bind(c, template, t, NULL) != 0)
        die("a special token of the template %s was added and is not there", list[template].name);
}

int chat_stops(int stop[2], const struct chat *c)
{
    stop[0] = c->end;
    stop[1] = c->bos;
    return c->bos >= 0 && c->bos != c->end ? 2 : 1;
}

void chat_write(const struct chat *c, struct kv *kv)
{
    int stop[2], n = chat_stops(stop, c);
    kv_set_text(kv, "template", list[c->template].name);
    kv_set_i64s(kv, "stop", (const int64_t[]){stop[0], stop[1]}, (size_t)n);
}

int chat_read(struct chat *c, const struct kv *kv, const struct tokenizer *t, struct error *error)
{
    const char *name;
    const int64_t *stop;
    size_t n = 0;
    int got = kv_get_text(kv, "template", &name), template = TEMPLATE_QUARTET;
    if (got == 0)
        return fail(error, EXIT_MISMATCH,
                    "this model has no chat template: it was not fine-tuned on dialogues (sft does that)");
    if (got < 0) return fail(error, EXIT_DATA, "CHAT: the key template is not a text");
    while (template < TEMPLATES && strcmp(list[template].name, name) != 0) template++;
    if (template == TEMPLATES)
        return fail(error, EXIT_DATA, "CHAT: unknown template '%s' (expected %s)", text_shown(name).text,
                    CHAT_TEMPLATES);
    struct chat new;
    if (chat_bind(&new, (enum chat_template)template, t, error) != 0) return -1;
    if (kv_get_array(kv, "stop", KV_I64S, &stop, &n) != 1 || n == 0 || stop[0] != new.end)
        return fail(error, EXIT_DATA, "CHAT: the key stop should begin with %d, the id of the template's end token",
                    new.end);
    *c = new;
    return 0;
}

/* ---- rendering ---- */

struct render {
    const struct chat *chat;
    struct ids *ids;
    struct bytes *mask;
    bool all;                /* CHAT_TRAIN_ALL, and the message is not muted */
    size_t start;            /* ids already there */
};

/* Masks for the ids added since the last call; the first id of a dialogue follows nothing and is never a target. */
static void mark(struct render *r, bool trained)
{
    if (!r->mask) return;
    while (r->mask->size < r->ids->count) {
        bool first = r->mask->size == r->start;
        bytes_add(r->mask, first ? "\0" : trained || r->all ? "\1" : "\0", 1);
    }
}

static void put(struct render *r, const char *text)
{
    tokenizer_encode(r->ids, r->chat->tokenizer, text, strlen(text));
}

/* By role. */
static const char *const chatml_role[] = {"system\n", "user\n", "assistant\n", "tool\n"};
static const char *const llama3_role[] = {"system", "user", "assistant", "ipython"};

/* A system message takes the place of a preamble.  Alpaca's second is for a task that comes with an input. */
static const char *const alpaca_preamble[] = {
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."};
static const char vicuna_preamble[] = "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.";

/* What stands before the content of a message.  m is NULL for the assistant header of a prompt. */
static void put_before(struct render *r, enum chat_role role, const struct message *m, bool first)
{
    const struct chat *c = r->chat;
    switch (c->template) {
    case TEMPLATE_NONE:
        break;
    case TEMPLATE_QUARTET:
        ids_add(r->ids, c->control[role == ROLE_TOOL ? ROLE_USER : role]);
        break;
    case TEMPLATE_CHATML:
        if (!first) put(r, "\n");
        ids_add(r->ids, c->control[0]);
        put(r, chatml_role[role]);
        break;
    case TEMPLATE_LLAMA3:
        ids_add(r->ids, c->control[0]);
        put(r, llama3_role[role]);
        ids_add(r->ids, c->control[1]);
        put(r, "\n\n");
        break;
    case TEMPLATE_ALPACA:
        if (role == ROLE_SYSTEM) break;
        if (first) put(r, alpaca_preamble[m && m->input]);
        put(r, role == ROLE_ASSISTANT ? "\n\n### Response:\n" : "\n\n### Instruction:\n");
        break;
    case TEMPLATE_VICUNA:
        if (role == ROLE_SYSTEM) break;
        if (first) put(r, vicuna_preamble);
        if (role == ROLE_ASSISTANT) put(r, " ASSISTANT: ");
        else put(r, r->ids->id[r->ids->count - 1] == c->end ? "USER: " : " USER: ");
        break;
    }
}

static void put_content(struct render *r, const struct message *m)
{
    const struct tokenizer *t = r->chat->tokenizer;
    if (r->chat->template == TEMPLATE_ALPACA && m->input) {
        tokenizer_encode(r->ids, t, m->content, m->input - 2);      /* without the empty line */
        put(r, "\n\n### Input:\n");
        tokenizer_encode(r->ids, t, m->content + m->input, m->length - m->input);
    } else {
        tokenizer_encode(r->ids, t, m->content, m->length);
    }
}

void chat_render(const struct chat *c, const struct dialogue *d, enum chat_train train, bool prompt, struct ids *ids,
                 struct bytes *mask, struct ids *turn_ends)
{
    struct render r = {c, ids, mask, train == CHAT_TRAIN_ALL, ids->count};
    bool end_all = c->template != TEMPLATE_ALPACA && c->template != TEMPLATE_VICUNA;     /* not only the assistant's */
    int last = d->count - 1;
    while (last >= 0 && (d->message[last].role != ROLE_ASSISTANT || d->message[last].muted)) last--;
    assert(!mask || mask->size == ids->count);
    if (c->bos >= 0) ids_add(ids, c->bos);
    mark(&r, false);
    for (int i = 0; i < d->count; i++) {
        const struct message *m = &d->message[i];
        r.all = train == CHAT_TRAIN_ALL && !m->muted;
        put_before(&r, m->role, m, i == 0);
        mark(&r, false);
        put_content(&r, m);
        if (m->role == ROLE_ASSISTANT || end_all) ids_add(ids, c->end);
        mark(&r, m->role == ROLE_ASSISTANT && !m->muted && (train != CHAT_TRAIN_LAST || i == last));
        if (turn_ends) ids_add(turn_ends, (int)(ids->count - r.start));
    }
    if (prompt) {
        put_before(&r, ROLE_ASSISTANT, NULL, d->count == 0);
        r.all = false;
        mark(&r, false);
    }
}

int chat_render_prompt(struct ids *ids, const struct chat *c, struct dialogue *d, int limit)
{
    int before = d->count;
    do {
        ids->count = 0;
        chat_render(c, d, CHAT_TRAIN_ASSISTANT, true, ids, NULL, NULL);
    } while ((int64_t)ids->count > limit && dialogue_forget_turn(d));
    return before - d->count;
}
