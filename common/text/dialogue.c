/* dialogue.c - the shapes in which public data sets write dialogues down, read into one (chat.h).
 *
 * Structure that is not understood is an error that names the key: a wrong file should not train in silence.  What is
 * merely untidy (two messages of one role in a row, an assistant who speaks first) is put in order and counted. */
#include "common/text/chat.h"
#include "common/base/rng.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void dialogue_add(struct dialogue *d, enum chat_role role, const char *content, size_t length)
{
    d->message = host_grow(d->message, (size_t)d->count + 1, sizeof *d->message);
    struct message *m = &d->message[d->count++];
    *m = (struct message){role, host_alloc(length + 1, 1), length, 0};
    if (length > 0) memcpy(m->content, content, length);
}

void dialogue_pop(struct dialogue *d)
{
    if (d->count > 0) free(d->message[--d->count].content);
}

void dialogue_free(struct dialogue *d)
{
    while (d->count > 0) dialogue_pop(d);
    free(d->message);
    *d = (struct dialogue){0};
}

bool message_blank(const struct message *m)
{
    for (size_t i = 0; i < m->length; i++)
        if (!strchr(" \t\n\r\v\f", m->content[i]) || !m->content[i]) return false;
    return true;
}

bool message_cut_end_mark(struct message *m)
{
    static const char *const mark[] = {"<|endoftext|>", "</s>", "<|im_end|>", "<|eot_id|>", "<|end|>"};
    size_t end = m->length;
    while (end > 0 && m->content[end - 1] && strchr(" \t\r\n", m->content[end - 1])) end--;
    for (size_t i = 0; i < sizeof mark / sizeof *mark; i++) {
        size_t n = strlen(mark[i]);
        if (end < n || memcmp(m->content + end - n, mark[i], n) != 0) continue;
        m->length = end - n;
        m->content[m->length] = 0;
        return true;
    }
    return false;
}

bool dialogue_held_out(const struct dialogue *d, double share)
{
    int i = 0;
    while (i < d->count && d->message[i].role != ROLE_USER) i++;
    if (i == d->count) return false;
    struct rng r = rng_at(0, RNG_SPLIT, 0, crc32_of(0, d->message[i].content, d->message[i].length));
    return rng_uniform(&r) < share;
}

const char *dialogue_fault(const struct dialogue *d)
{
    bool user = false;
    for (int i = 0; i < d->count; i++) {
        if (d->message[i].role == ROLE_SYSTEM && i > 0) return "a system message after the first place";
        if (d->message[i].role == ROLE_USER) user = true;
        if (d->message[i].role == ROLE_USER && message_blank(&d->message[i])) return "an empty user message";
    }
    return user ? NULL : "no user message";
}

/* ---- putting turns in order ---- */

static void append(struct message *m, const char *content, size_t length)
{
    m->content = host_grow(m->content, m->length + length + 3, 1);
    memcpy(m->content + m->length, "\n\n", 2);
    if (length > 0) memcpy(m->content + m->length + 2, content, length);
    m->length += length + 2;
    m->content[m->length] = 0;
}

/* Adds a message by the rules of alternation. */
static void add_turn(struct dialogue *d, enum chat_role role, const char *content, size_t length)
{
    struct message *last = d->count > 0 ? &d->message[d->count - 1] : NULL;
    bool asked = last && last->role != ROLE_SYSTEM;
    if ((role == ROLE_ASSISTANT && !asked) || (role == ROLE_SYSTEM && length == 0)) {
        d->skipped++;
    } else if (last && last->role == role) {
        append(last, content, length);
        d->merged++;
    } else {
        dialogue_add(d, role, content, length);
    }
}

/* ---- JSON ---- */

static int role_from(enum chat_role *role, json_t *value, struct error *error)
{
    static const struct { const char *name; enum chat_role role; } known[] = {
        {"system", ROLE_SYSTEM}, {"developer", ROLE_SYSTEM},
        {"user", ROLE_USER}, {"human", ROLE_USER}, {"prompter", ROLE_USER},
        {"assistant", ROLE_ASSISTANT}, {"gpt", ROLE_ASSISTANT}, {"model", ROLE_ASSISTANT}, {"bot", ROLE_ASSISTANT},
        {"chatgpt", ROLE_ASSISTANT}, {"bard", ROLE_ASSISTANT}, {"bing", ROLE_ASSISTANT},
        {"tool", ROLE_TOOL}, {"function", ROLE_TOOL}, {"observation", ROLE_TOOL}, {"ipython", ROLE_TOOL},
    };
    if (!json_is_string(value))
        return fail(error, EXIT_DATA, "a message without a role (expected the key \"role\" or \"from\")");
    const char *name = json_string_value(value);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(name, known[i].name) == 0) {
            *role = known[i].role;
            return 0;
        }
    char shown[64];
    return fail(error, EXIT_DATA, "unknown role '%s' (expected system, user or human, assistant or gpt, tool)",
                text_escape(shown, sizeof shown, name, json_string_length(value)));
}

static json_t *either(json_t *object, const char *one, const char *other)
{
    json_t *value = json_object_get(object, one);
    return value ? value : json_object_get(object, other);
}

/* A string, null, or a list of text parts ([{"type": "text", "text"|"value": "..."}]). */
static int content_from(struct bytes *out, json_t *value, struct error *error)
{
    if (json_is_null(value)) return 0;
    if (json_is_string(value)) {
        bytes_add(out, json_string_value(value), json_string_length(value));
        return 0;
    }
    if (!json_is_array(value))
        return fail(error, EXIT_DATA, "a message without text (expected \"content\" or \"value\" to be a string)");
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *part = json_array_get(value, i);
        json_t *text = json_is_string(part) ? part : either(part, "text", "value");
        if (!json_is_string(text))
            return fail(error, EXIT_DATA,
                        "a message has a part that is not text (expected {\"type\": \"text\", \"text\": ...})");
        bytes_add(out, json_string_value(text), json_string_length(text));
    }
    return 0;
}

static int add_message(struct dialogue *d, json_t *message, struct error *error)
{
    enum chat_role role = ROLE_USER;
    struct bytes content = {0};
    if (!json_is_object(message))
        return fail(error, EXIT_DATA, "a message that is not an object (expected {\"role\": ..., \"content\": ...})");
    json_t *text = either(message, "content", "value");
    if (role_from(&role, either(message, "role", "from"), error) != 0) return -1;
    if (!text) return fail(error, EXIT_DATA, "a message without \"content\" (or \"value\")");
    int bad = content_from(&content, text, error);
    if (!bad) add_turn(d, role, content.data, content.size);
    bytes_free(&content);
    return bad;
}

int dialogue_add_messages(struct dialogue *d, json_t *messages, enum chat_role role, struct error *error)
{
    if (json_is_string(messages)) {
        add_turn(d, role, json_string_value(messages), json_string_length(messages));
        return 0;
    }
    if (json_is_object(messages)) return add_message(d, messages, error);
    if (!json_is_array(messages)) return fail(error, EXIT_DATA, "expected a string or a list of messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (add_message(d, json_array_get(messages, i), error) != 0) return -1;
    return 0;
}

int dialogue_from_messages(struct dialogue *d, json_t *messages, struct error *error)
{
    if (dialogue_add_messages(d, messages, ROLE_USER, error) == 0) return 0;
    dialogue_free(d);
    return -1;
}

/* The first of the NULL-ended names that is a key of the row, with its value in *value; NULL when none is. */
static const char *first_key(json_t **value, json_t *row, const char *const *name)
{
    for (; *name; name++)
        if ((*value = json_object_get(row, *name))) return *name;
    return NULL;
}

static const char *const list_key[] = {"messages", "conversations", "conversation", NULL};
static const char *const prompt_key[] = {"prompt", "question", "query", "turns", NULL};
static const char *const answer_key[] = {"response", "completion", "output", "answer", NULL};

static enum chat_format recognise(json_t *row)
{
    json_t *unused;
    if (json_object_get(row, "messages")) return FORMAT_MESSAGES;
    if (first_key(&unused, row, list_key)) return FORMAT_SHAREGPT;
    if (json_object_get(row, "instruction")) return FORMAT_ALPACA;
    if (first_key(&unused, row, prompt_key)) return FORMAT_PROMPT;
    return FORMAT_AUTO;
}

static int add_list(struct dialogue *d, json_t *row, struct error *error)
{
    json_t *list;
    const char *key = first_key(&list, row, list_key);
    if (!key) return fail(error, EXIT_DATA, "expected the key \"messages\" or \"conversations\"");
    return dialogue_add_messages(d, list, ROLE_USER, error) == 0 ? 0 : fail_in(error, "%s", key);
}

/* Instruction and input are one user message; the answer may hide in the first of "instances" (seed tasks of
 * self-instruct). */
static int add_alpaca(struct dialogue *d, json_t *row, struct error *error)
{
    json_t *instruction = json_object_get(row, "instruction");
    json_t *instance = json_array_get(json_object_get(row, "instances"), 0), *source = instance ? instance : row;
    json_t *input = json_object_get(source, "input"), *output = json_object_get(source, "output");
    if (!json_is_string(instruction)) return fail(error, EXIT_DATA, "expected the key \"instruction\" to be a string");
    if (input && !json_is_string(input) && !json_is_null(input))
        return fail(error, EXIT_DATA, "expected the key \"input\" to be a string");
    if (output && !json_is_string(output)) return fail(error, EXIT_DATA, "expected the key \"output\" to be a string");
    add_turn(d, ROLE_USER, json_string_value(instruction), json_string_length(instruction));
    if (input && json_string_length(input) > 0) {
        struct message *m = &d->message[d->count - 1];
        append(m, json_string_value(input), json_string_length(input));
        m->input = m->length - json_string_length(input);
    }
    if (output) add_turn(d, ROLE_ASSISTANT, json_string_value(output), json_string_length(output));
    return 0;
}

/* "turns" is a list of a user's questions, of which the first can be asked. */
static int add_prompt(struct dialogue *d, json_t *row, struct error *error)
{
    json_t *prompt, *answer;
    const char *key = first_key(&prompt, row, prompt_key);
    if (!key)
        return fail(error, EXIT_DATA, "expected the key \"prompt\" (or question, query) with \"response\" (or "
                    "completion, output, answer)");
    if (strcmp(key, "turns") == 0) prompt = json_array_get(prompt, 0);
    if (dialogue_add_messages(d, prompt, ROLE_USER, error) != 0) return fail_in(error, "%s", key);
    key = first_key(&answer, row, answer_key);
    if (key && dialogue_add_messages(d, answer, ROLE_ASSISTANT, error) != 0) return fail_in(error, "%s", key);
    return 0;
}

static int add_row(struct dialogue *d, json_t *row, enum chat_format format, struct error *error)
{
    if (json_is_string(row)) return dialogue_add_messages(d, row, ROLE_USER, error);
    if (!json_is_object(row)) return fail(error, EXIT_DATA, "expected an object");
    json_t *system = json_object_get(row, "system");
    if (json_is_string(system)) add_turn(d, ROLE_SYSTEM, json_string_value(system), json_string_length(system));
    if (format == FORMAT_AUTO) format = recognise(row);
    switch (format) {
    case FORMAT_MESSAGES:
    case FORMAT_SHAREGPT: return add_list(d, row, error);
    case FORMAT_ALPACA: return add_alpaca(d, row, error);
    case FORMAT_PROMPT: return add_prompt(d, row, error);
    case FORMAT_AUTO: break;
    }
    return fail(error, EXIT_DATA,
                "not a dialogue: expected one of the keys messages, conversations, instruction, prompt, question");
}

int dialogue_from_json(struct dialogue *d, json_t *row, enum chat_format format, struct error *error)
{
    if (add_row(d, row, format, error) == 0) return 0;
    dialogue_free(d);
    return -1;
}

/* ---- hh-rlhf ---- */

/* The next "Human:" or "Assistant:" that begins a text or follows an empty line, at or after *at: its role, with *at on
 * the marker's first byte and *after behind it; false when there is none. */
static bool next_marker(enum chat_role *role, size_t *at, size_t *after, const char *text, size_t length)
{
    static const char *const marker[] = {[ROLE_USER] = "Human:", [ROLE_ASSISTANT] = "Assistant:"};
    for (size_t i = *at; i < length; i++) {
        if (i > 0 && !(i >= 2 && text[i - 1] == '\n' && text[i - 2] == '\n')) continue;
        for (enum chat_role r = ROLE_USER; r <= ROLE_ASSISTANT; r++) {
            size_t n = strlen(marker[r]);
            if (length - i < n || memcmp(text + i, marker[r], n) != 0) continue;
            *role = r;
            *at = i;
            *after = i + n;
            return true;
        }
    }
    return false;
}

static void add_trimmed(struct dialogue *d, enum chat_role role, const char *text, size_t length)
{
    while (length > 0 && strchr(" \t\n\r", *text) && *text) text++, length--;
    while (length > 0 && strchr(" \t\n\r", text[length - 1]) && text[length - 1]) length--;
    add_turn(d, role, text, length);
}

int dialogue_from_hh(struct dialogue *d, const char *text, size_t length, struct error *error)
{
    enum chat_role role, next_role;
    size_t at = 0, after, next, next_after;
    if (!next_marker(&role, &at, &after, text, length))
        return fail(error, EXIT_DATA, "not a dialogue: expected \"\\n\\nHuman: ...\\n\\nAssistant: ...\"");
    for (;;) {
        next = after;
        bool more = next_marker(&next_role, &next, &next_after, text, length);
        add_trimmed(d, role, text + after, (more ? next : length) - after);
        if (!more) return 0;
        role = next_role;
        after = next_after;
    }
}
