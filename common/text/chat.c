/* chat.c - the templates: which ids stand around each message.
 *
 * A template is a row of a table.  Its texts hold control tokens by their names, and these are placed as ids; text
 * between control tokens is encoded on its own, so that nothing a user writes can merge with, or turn into, a control
 * token.  What an assistant says is always encoded on its own, so that a prompt's ids are an exact prefix of the ids of
 * prompt and answer. */
#define _GNU_SOURCE
#include "common/text/chat.h"
#include "format/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BOS, END, CONTROL, TOKENS = CONTROL + 6 };
enum {
    JOINED = 1,              /* a message that is not the assistant's is one text with what stands around it */
    TRIMMED = 2,             /* white space around a message is left out */
    SHARED = 4,              /* the token that ends an answer begins the next message */
    THINKS = 8,              /* the last answer begins with its thoughts, and earlier ones have none (Qwen3) */
    NO_BLANK = 16,           /* a header does not begin with a blank behind a control token */
};

static const char vicuna_preamble[] = "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.";

/* By role, in the order of enum chat_role: what stands before a message, and after one that is not the assistant's (which
 * the end token closes); before: NULL, the template has no such message.
 * token: its special tokens, in the order of struct chat's control[]; the first begins a text (""; none), the second
 * ends an answer.  maybe: names that are control tokens where the tokenizer has them, and text elsewhere.
 * also: stops an answer too, where the tokenizer has it; the first token does where there is none.
 * between: before every message but the first.  preamble: takes the place of a system message; the second is for a
 * task with an input. */
static const struct format {
    const char *name, *token[TOKENS], *maybe[3], *also, *begin, *between, *before[4], *after[4], *preamble[2];
    int flags;
} list[] = {
    [TEMPLATE_QUARTET] = {
        .name = "quartet", .token = {"<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"},
        .before = {"<|system|>", "<|user|>", "<|assistant|>", "<|user|>"},
        .after = {"<|end|>", "<|end|>", "", "<|end|>"}},
    [TEMPLATE_CHATML] = {
        .name = "chatml", .token = {"", "<|im_end|>", "<|im_start|>"}, .between = "\n",
        .before = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_start|>tool\n"},
        .after = {"<|im_end|>", "<|im_end|>", "", "<|im_end|>"}},
    [TEMPLATE_LLAMA3] = {
        .name = "llama3",
        .token = {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"},
        .before = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
                   "<|start_header_id|>assistant<|end_header_id|>\n\n",
                   "<|start_header_id|>ipython<|end_header_id|>\n\n"},
        .after = {"<|eot_id|>", "<|eot_id|>", "", "<|eot_id|>"}},
    [TEMPLATE_ALPACA] = {
        .name = "alpaca", .token = {"<|endoftext|>", "<|endoftext|>"},
        .before = {"", "\n\n### Instruction:\n", "\n\n### Response:\n", "\n\n### Instruction:\n"},
        .preamble = {
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
            "Below is an instruction that describes a task, paired with an input that provides further context. "
            "Write a response that appropriately completes the request."}},
    [TEMPLATE_VICUNA] = {
        .name = "vicuna", .token = {"<|endoftext|>", "<|endoftext|>"}, .flags = NO_BLANK,
        .before = {"", " USER: ", " ASSISTANT: ", " USER: "}, .preamble = {vicuna_preamble, vicuna_preamble}},
    [TEMPLATE_MISTRAL] = {
        .name = "mistral", .token = {"<s>", "</s>"}, .maybe = {"[INST]", "[/INST]"}, .flags = JOINED,
        .before = {NULL, "[INST] ", "", "[INST] "}, .after = {"", " [/INST]", "", " [/INST]"}},
    [TEMPLATE_ZEPHYR] = {
        .name = "zephyr", .token = {"", "</s>"}, .maybe = {"<|system|>", "<|user|>", "<|assistant|>"},
        .between = "\n", .before = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|user|>\n"},
        .after = {"</s>", "</s>", "", "</s>"}, .flags = JOINED},
    [TEMPLATE_GEMMA] = {
        .name = "gemma", .token = {"<bos>", "<end_of_turn>", "<start_of_turn>"}, .also = "<eos>", .between = "\n",
        .before = {NULL, "<start_of_turn>user\n", "<start_of_turn>model\n", "<start_of_turn>user\n"},
        .after = {"", "<end_of_turn>", "", "<end_of_turn>"}, .flags = TRIMMED},
    [TEMPLATE_QWEN3] = {
        .name = "qwen3", .token = {"", "<|im_end|>", "<|im_start|>"}, .also = "<|endoftext|>", .between = "\n",
        .before = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n",
                   "<|im_start|>user\n<tool_response>\n"},
        .after = {"<|im_end|>", "<|im_end|>", "", "\n</tool_response><|im_end|>"}, .flags = THINKS},
    [TEMPLATE_GLM4] = {
        .name = "glm4", .token = {"[gMASK]", "<|user|>", "<sop>", "<|system|>", "<|assistant|>", "<|observation|>"},
        .also = "<|endoftext|>", .begin = "[gMASK]<sop>",
        .before = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|observation|>\n"}, .flags = SHARED},
};
enum { TEMPLATES = sizeof list / sizeof *list };

const char *chat_template_name(enum chat_template template)
{
    assert(template >= TEMPLATE_QUARTET && (int)template < TEMPLATES);
    return list[template].name;
}

/* ---- binding to a tokenizer ---- */

int chat_bind(struct chat *c, enum chat_template template, const struct tokenizer *t, struct error *error)
{
    struct chat new = {.template = template, .tokenizer = t, .bos = -1, .also = -1};
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
    if (list[template].also) new.also = tokenizer_special(t, list[template].also);
    if (new.also < 0) new.also = new.bos;
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

bool stops_add(struct stops *s, int id)
{
    for (int i = 0; i < s->count; i++)
        if (s->id[i] == id) return false;
    if (id < 0 || s->count == STOPS_MOST) return false;
    s->id[s->count++] = id;
    return true;
}

struct stops stops_of(const struct chat *c, const struct tokenizer *t, const struct kv *meta)
{
    struct stops s = {0};
    const int64_t *id;
    size_t n = 0;
    if (c && c->tokenizer) {
        stops_add(&s, c->end);
        stops_add(&s, c->also);
    }
    if (meta && kv_get_array(meta, "stop", KV_I64S, &id, &n) != 1) n = 0;
    for (size_t i = 0; i < n; i++)
        if (id[i] >= 0 && id[i] < tokenizer_vocab(t)) stops_add(&s, (int)id[i]);
    stops_add(&s, tokenizer_document(t));
    stops_add(&s, tokenizer_special(t, "<|endoftext|>"));
    return s;
}

void chat_write(const struct chat *c, struct kv *kv)
{
    kv_set_text(kv, "template", list[c->template].name);
    kv_set_i64s(kv, "stop", (const int64_t[]){c->end, c->also}, c->also >= 0 && c->also != c->end ? 2 : 1);
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
    const struct format *format;
    struct ids *ids;
    struct bytes *mask;
    bool all;                /* CHAT_TRAIN_ALL, and the message is not muted */
    size_t start;            /* ids already there */
    struct bytes text;       /* not yet encoded */
    bool within;             /* text stands before, not a control token */
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

/* Encodes the text so far. */
static void flush(struct render *r)
{
    enum text_place place = r->within ? TEXT_WITHIN : r->ids->count > r->start ? TEXT_SECTION : TEXT_START;
    tokenizer_encode_at(r->ids, r->chat->tokenizer, place, r->text.data ? r->text.data : "", r->text.size);
    r->within |= r->text.size > 0;
    r->text.size = 0;
}

static void put_id(struct render *r, int id)
{
    flush(r);
    bool any = r->ids->count > r->start;
    bool there = r->format->flags & SHARED && !r->within && any && id == r->ids->id[r->ids->count - 1];
    if (!there) ids_add(r->ids, id);
    r->within = false;
}

/* The control token whose name stands here: its id and the length of the name; or -1. */
static int token_at(size_t *length, const struct chat *c, const char *text)
{
    const struct format *f = &list[c->template];
    for (int i = 0; i < TOKENS && f->token[i]; i++) {
        *length = strlen(f->token[i]);
        if (*length && strncmp(text, f->token[i], *length) == 0)
            return i == BOS ? c->bos : i == END ? c->end : c->control[i - CONTROL];
    }
    for (int i = 0; i < 3 && f->maybe[i]; i++) {
        *length = strlen(f->maybe[i]);
        if (strncmp(text, f->maybe[i], *length) == 0) return tokenizer_special(c->tokenizer, f->maybe[i]);
    }
    return -1;
}

/* A text of the table: control tokens as ids, the rest waits to be encoded. */
static void put(struct render *r, const char *text)
{
    for (size_t n; text && *text; text += n) {
        int id = token_at(&n, r->chat, text);
        if (id >= 0) put_id(r, id);
        else bytes_add(&r->text, text, n = 1);
    }
}

/* What stands before the content of a message.  m is NULL for the assistant header of a prompt. */
static void put_before(struct render *r, enum chat_role role, const struct message *m, bool first)
{
    const struct format *f = r->format;
    const char *header = f->before[role];
    if (!header) die("the chat template %s has no %s message", f->name, role == ROLE_SYSTEM ? "system" : "such");
    if (!first) put(r, f->between);
    if (first && role != ROLE_SYSTEM) put(r, f->preamble[m && m->input]);
    if (!(f->flags & JOINED)) flush(r);
    if (f->flags & NO_BLANK && *header == ' ' && !r->within) header++;
    put(r, header);
    if (!(f->flags & JOINED) || role == ROLE_ASSISTANT) flush(r);
}

static const char *skip_newlines(const char *text, const char *end)
{
    while (text < end && *text == '\n') text++;
    return text;
}

/* An answer as Qwen3's template has it: with the thoughts that it begins with, or with none. */
static void put_thoughts(struct render *r, const struct message *m, bool last)
{
    static const char open[] = "<think>", close[] = "</think>";
    enum { OPEN = sizeof open - 1, CLOSE = sizeof close - 1 };
    const char *text = m->content, *end = text + m->length, *from = text, *to = text, *at;
    if ((at = memmem(text, m->length, close, CLOSE))) {
        to = at;
        while ((at = memmem(from, (size_t)(to - from), open, OPEN))) from = at + OPEN;
        while ((at = memmem(text, (size_t)(end - text), close, CLOSE))) text = at + CLOSE;
        text = skip_newlines(text, end);
    }
    from = skip_newlines(from, to);
    while (to > from && to[-1] == '\n') to--;
    if (last) {
        bytes_text(&r->text, "%s\n", open);
        bytes_add(&r->text, from, (size_t)(to - from));
        bytes_text(&r->text, "\n%s\n\n", close);
        text = skip_newlines(text, end);
    }
    bytes_add(&r->text, text, (size_t)(end - text));
}

static void put_content(struct render *r, const struct message *m, bool thoughts)
{
    const char *text = m->content;
    size_t length = m->length;
    if (r->format->flags & TRIMMED) {
        while (length && strchr(" \t\n\r\v\f", text[length - 1]) && text[length - 1]) length--;
        while (length && strchr(" \t\n\r\v\f", *text) && *text) { text++; length--; }
    }
    if (r->chat->template == TEMPLATE_ALPACA && m->input) {
        bytes_add(&r->text, text, m->input - 2);                /* without the empty line */
        flush(r);
        put(r, "\n\n### Input:\n");
        flush(r);
        text += m->input;
        length -= m->input;
    }
    if (r->format->flags & THINKS && m->role == ROLE_ASSISTANT) put_thoughts(r, m, thoughts);
    else bytes_add(&r->text, text, length);
    if (!(r->format->flags & JOINED)) flush(r);
}

/* Does this answer show its thoughts?  Behind the last question the last message does, and others that have some. */
static bool shows_thoughts(const struct dialogue *d, int i)
{
    for (int k = i + 1; k < d->count; k++)
        if (d->message[k].role == ROLE_USER) return false;
    const struct message *m = &d->message[i];
    const char *end = memmem(m->content, m->length, "</think>", 8), *from = m->content;
    if (i == d->count - 1) return true;
    for (const char *at; end && (at = memmem(from, (size_t)(end - from), "<think>", 7));) from = at + 7;
    return end && skip_newlines(from, end) < end;
}

/* What closes a message. */
static void put_after(struct render *r, enum chat_role role, const struct message *next)
{
    size_t length;
    int end = r->chat->end;
    if (r->format->flags & SHARED && next && next->role == ROLE_TOOL)
        end = token_at(&length, r->chat, r->format->before[ROLE_TOOL]);
    if (role == ROLE_ASSISTANT) put_id(r, end);
    else put(r, r->format->after[role]);
    flush(r);
}

void chat_render(const struct chat *c, const struct dialogue *d, enum chat_train train, bool prompt, struct ids *ids,
                 struct bytes *mask, struct ids *turn_ends)
{
    struct render r = {.chat = c, .format = &list[c->template], .ids = ids, .mask = mask,
                       .all = train == CHAT_TRAIN_ALL, .start = ids->count};
    int last = d->count - 1;
    while (last >= 0 && (d->message[last].role != ROLE_ASSISTANT || d->message[last].muted)) last--;
    assert(!mask || mask->size == ids->count);
    put(&r, r.format->begin ? r.format->begin : r.format->token[BOS]);
    mark(&r, false);
    for (int i = 0; i < d->count; i++) {
        const struct message *m = &d->message[i];
        r.all = train == CHAT_TRAIN_ALL && !m->muted;
        put_before(&r, m->role, m, i == 0);
        mark(&r, false);
        put_content(&r, m, r.format->flags & THINKS && shows_thoughts(d, i));
        put_after(&r, m->role, i + 1 < d->count ? m + 1 : NULL);
        mark(&r, m->role == ROLE_ASSISTANT && !m->muted && (train != CHAT_TRAIN_LAST || i == last));
        if (turn_ends) ids_add(turn_ends, (int)(ids->count - r.start));
    }
    if (prompt) {
        put_before(&r, ROLE_ASSISTANT, NULL, d->count == 0);
        r.all = false;
        mark(&r, false);
    }
    bytes_free(&r.text);
}

const char *chat_fault(const struct chat *c, const struct dialogue *d)
{
    for (int i = 0; i < d->count && c->template != TEMPLATE_NONE; i++)
        if (!list[c->template].before[d->message[i].role])
            return "a system message, which the chat template does not have";
    return dialogue_fault(d);
}

bool chat_has_system(const struct chat *c) { return list[c->template].before[ROLE_SYSTEM]; }

bool chat_answers_alone(const struct chat *c)
{
    return !(list[c->template].flags & (TRIMMED | THINKS | SHARED)) && !tokenizer_prefixes(c->tokenizer);
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
