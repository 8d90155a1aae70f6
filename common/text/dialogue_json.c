/* dialogue_json.c - the shapes in which public data sets write dialogues down, read into one (chat.h).
 *
 * Structure that is not understood is an error that names the key: a wrong file should not train in silence.  A key is
 * removed from its object once it is read, so what is left in the end is what nothing was made of. */
#include "common/text/chat.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const list_key[] = {"messages", "conversations", "conversation", NULL};
static const char *const prompt_key[] = {"prompt", "question", "query", "inputs", "turns", "context", "input", NULL};
static const char *const answer_key[] = {"response", "completion", "output", "answer", "targets", "target",
                                         "continuation", NULL};
static const char *const train_key[] = {"train", "weight", "loss", "loss_weight", NULL};       /* false or 0: not trained on */

/* ---- one message ---- */

/* call: what the message says is a call of a function. */
static int role_from(enum chat_role *role, bool *call, json_t *value, struct error *error)
{
    static const struct { const char *name; enum chat_role role; bool call; } known[] = {
        {"system", ROLE_SYSTEM}, {"developer", ROLE_SYSTEM},
        {"user", ROLE_USER}, {"human", ROLE_USER}, {"prompter", ROLE_USER},
        {"assistant", ROLE_ASSISTANT}, {"gpt", ROLE_ASSISTANT}, {"model", ROLE_ASSISTANT}, {"bot", ROLE_ASSISTANT},
        {"chatgpt", ROLE_ASSISTANT}, {"bard", ROLE_ASSISTANT}, {"bing", ROLE_ASSISTANT},
        {"function_call", ROLE_ASSISTANT, true}, {"tool_call", ROLE_ASSISTANT, true},
        {"tool", ROLE_TOOL}, {"function", ROLE_TOOL}, {"observation", ROLE_TOOL}, {"ipython", ROLE_TOOL},
        {"tool_response", ROLE_TOOL},
    };
    if (!json_is_string(value))
        return fail(error, EXIT_DATA, "a message without a role (expected the key \"role\" or \"from\")");
    const char *name = json_string_value(value);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(name, known[i].name) == 0) {
            *role = known[i].role;
            *call = known[i].call;
            return 0;
        }
    return fail(error, EXIT_DATA, "unknown role '%s' (expected system, user or human, assistant or gpt, tool)",
                text_shown(name).text);
}

/* The first of the NULL-ended names that is a key of the object, with its value in *value; NULL when none is. */
static const char *first_key(json_t **value, json_t *object, const char *const *name)
{
    for (; *name; name++)
        if ((*value = json_object_get(object, *name))) return *name;
    return NULL;
}

/* A string, null, or a list of text parts ([{"type": "text", "text"|"value": "..."}]). */
static int content_from(struct bytes *out, json_t *value, struct error *error)
{
    static const char *const text_key[] = {"text", "value", NULL};
    if (json_is_null(value)) return 0;
    if (json_is_string(value)) {
        bytes_add(out, json_string_value(value), json_string_length(value));
        return 0;
    }
    if (!json_is_array(value))
        return fail(error, EXIT_DATA, "a message without text (expected \"content\" or \"value\" to be a string)");
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *part = json_array_get(value, i), *text = part;
        if (!json_is_string(part)) first_key(&text, part, text_key);
        if (!json_is_string(text))
            return fail(error, EXIT_DATA,
                        "a message has a part that is not text (expected {\"type\": \"text\", \"text\": ...})");
        bytes_add(out, json_string_value(text), json_string_length(text));
    }
    return 0;
}

static void add_text(struct bytes *out, const char *open, json_t *value, const char *close)
{
    char *dump = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    bytes_text(out, "%s", open);
    bytes_add(out, dump ? dump : json_string_value(value), dump ? strlen(dump) : json_string_length(value));
    bytes_text(out, "%s", close);
    free(dump);
}

/* What the assistant calls, as text: one <tool_call> each, {"name": ..., "arguments": ...}. */
static void add_calls(struct bytes *out, json_t *calls)
{
    size_t n = json_is_array(calls) ? json_array_size(calls) : 1;
    for (size_t i = 0; i < n; i++) {
        json_t *call = json_is_array(calls) ? json_array_get(calls, i) : calls;
        json_t *function = json_object_get(call, "function");
        add_text(out, out->size ? "\n<tool_call>\n" : "<tool_call>\n", function ? function : call, "\n</tool_call>");
    }
}

/* Whether one of the keys is false or 0. */
static bool marked_off(json_t *object, const char *const *name)
{
    bool off = false;
    for (; *name; name++) {
        json_t *value = json_object_get(object, *name);
        double number = json_is_boolean(value) ? json_boolean_value(value) : json_number_value(value);
        if (!json_is_boolean(value) && !json_is_number(value) && !json_is_null(value)) continue;
        if (number != 0 && number != 1) continue;
        if (number == 0 && !json_is_null(value)) off = true;
        json_object_del(object, *name);
    }
    return off;
}

void dialogue_unused(struct dialogue *d, const char *prefix, json_t *object)
{
    const char *key;
    json_t *value;
    char text[100];
    json_object_foreach(object, key, value) {
        snprintf(text, sizeof text, "%s%s", prefix, key);
        if (d->unused) tally_add(d->unused, text, 1);
    }
}

static int add_message(struct dialogue *d, json_t *message, struct error *error)
{
    static const char *const role_key[] = {"role", "from", NULL}, *const text_key[] = {"content", "value", NULL},
                      *const call_key[] = {"tool_calls", "function_call", NULL}, think[] = "reasoning_content";
    enum chat_role role = ROLE_USER;
    struct bytes content = {0};
    json_t *value, *text, *calls, *thought = json_object_get(message, think);
    bool call = false;
    if (!json_is_object(message))
        return fail(error, EXIT_DATA, "a message that is not an object (expected {\"role\": ..., \"content\": ...})");
    const char *named = first_key(&value, message, role_key), *said = first_key(&text, message, text_key),
               *called = first_key(&calls, message, call_key);
    if (role_from(&role, &call, value, error) != 0) return -1;
    if (!said && !called) return fail(error, EXIT_DATA, "a message without \"content\" (or \"value\")");
    if (json_string_length(thought) > 0) add_text(&content, "<think>\n", thought, "\n</think>\n\n");
    int bad = 0;
    if (said && call) add_calls(&content, text);
    else if (said) bad = content_from(&content, text, error);
    if (called && !json_is_null(calls)) add_calls(&content, calls);
    if (!bad) {
        const char *const used[] = {named, think, said ? said : named, called ? called : named};
        dialogue_turn(d, role, content.data, content.size, marked_off(message, train_key));
        for (int i = 0; i < 4; i++) json_object_del(message, used[i]);
        dialogue_unused(d, "in messages: ", message);
    }
    bytes_free(&content);
    return bad;
}

int dialogue_add_messages(struct dialogue *d, json_t *messages, enum chat_role role, struct error *error)
{
    if (json_is_string(messages)) {
        dialogue_turn(d, role, json_string_value(messages), json_string_length(messages), false);
        return 0;
    }
    if (json_is_object(messages)) return add_message(d, messages, error);
    if (!json_is_array(messages)) return fail(error, EXIT_DATA, "expected a string or a list of messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (add_message(d, json_array_get(messages, i), error) != 0) return -1;
    return 0;
}

/* ---- a row ---- */

/* Appends the messages, or the text, under a key.  A prompt may be one text with "Human:" and "Assistant:" in it. */
static int add_key(struct dialogue *d, json_t *row, const char *key, enum chat_role role, struct error *error)
{
    json_t *value = json_object_get(row, key);
    bool turns = role == ROLE_USER && json_is_string(value) &&
        dialogue_from_marked(d, json_string_value(value), json_string_length(value));
    if (!turns && dialogue_add_messages(d, value, role, error) != 0) return fail_in(error, "%s", key);
    json_object_del(row, key);
    return 0;
}

/* What the question is about, behind an empty line. */
static int add_context(struct dialogue *d, json_t *row, struct error *error)
{
    static const char *const key[] = {"input", "context"};
    struct message *m = d->count > 0 ? &d->message[d->count - 1] : NULL;
    for (int i = 0; i < 2 && m && m->role == ROLE_USER; i++) {
        json_t *text = json_object_get(row, key[i]);
        if (text && !json_is_string(text) && !json_is_null(text))
            return fail(error, EXIT_DATA, "expected the key \"%s\" to be a string", key[i]);
        if (json_string_length(text) > 0) {
            message_append(m, json_string_value(text), json_string_length(text));
            if (!m->input) m->input = m->length - json_string_length(text);
        }
        json_object_del(row, key[i]);
    }
    return 0;
}

/* Earlier turns: a list of [question, answer]. */
static int add_history(struct dialogue *d, json_t *row, struct error *error)
{
    json_t *list = json_object_get(row, "history");
    for (size_t i = 0; i < 2 * json_array_size(list); i++) {
        json_t *text = json_array_get(json_array_get(list, i / 2), i % 2);
        if (!json_is_string(text))
            return fail(error, EXIT_DATA, "history[%zu]: expected a list of a question and its answer", i / 2);
        dialogue_turn(d, i % 2 ? ROLE_ASSISTANT : ROLE_USER, json_string_value(text), json_string_length(text), false);
    }
    if (json_is_array(list) || json_is_null(list)) json_object_del(row, "history");
    return 0;
}

static void add_system(struct dialogue *d, json_t *row)
{
    static const char *const key[] = {"system", "system_prompt"};
    for (int i = 0; i < 2; i++) {
        json_t *text = json_object_get(row, key[i]);
        if (!json_is_string(text) && !json_is_null(text)) continue;
        if (text) dialogue_turn(d, ROLE_SYSTEM, json_string_value(text), json_string_length(text), false);
        json_object_del(row, key[i]);
    }
    json_t *tools = json_object_get(row, "tools");
    struct bytes text = {0};
    if (json_array_size(tools) > 0 || json_string_length(tools) > 2) {      /* more than "[]" */
        add_text(&text, "<tools>\n", tools, "\n</tools>");
        dialogue_turn(d, ROLE_SYSTEM, text.data, text.size, false);
    }
    json_object_del(row, "tools");
    bytes_free(&text);
}

/* Instruction and input are one user message; the answer may hide in the first of "instances" (seed tasks of
 * self-instruct); "turns" is a list of a user's questions, of which the first can be asked. */
static int add_question(struct dialogue *d, json_t *row, const char *key, struct error *error)
{
    json_t *value = json_object_get(row, key);
    if (add_history(d, row, error) != 0) return -1;
    if (strcmp(key, "turns") == 0) {
        if (json_array_size(value) > 1 && d->unused) tally_add(d->unused, "turns after the first", 1);
        json_object_set(row, key, json_array_get(value, 0));
    }
    if (add_key(d, row, key, ROLE_USER, error) != 0) return -1;
    json_t *instances = json_object_get(row, "instances");
    if (json_array_size(instances) == 0) return add_context(d, row, error);
    if (json_array_size(instances) > 1 && d->unused) tally_add(d->unused, "instances after the first", 1);
    json_object_update(row, json_array_get(instances, 0));
    json_object_del(row, "instances");
    return add_context(d, row, error);
}

static int add_row(struct dialogue *d, json_t *row, enum chat_format format, struct error *error)
{
    json_t *value;
    const char *key;
    if (json_is_string(row)) return dialogue_add_messages(d, row, ROLE_USER, error);
    if (!json_is_object(row)) return fail(error, EXIT_DATA, "expected an object");
    add_system(d, row);
    bool list = format == FORMAT_MESSAGES || format == FORMAT_SHAREGPT;
    bool any = format == FORMAT_AUTO || format == FORMAT_QUESTION;
    key = list || any ? first_key(&value, row, list_key) : NULL;
    if (key) return add_key(d, row, key, ROLE_USER, error);
    if (list) return fail(error, EXIT_DATA, "expected the key \"messages\" or \"conversations\"");
    key = json_object_get(row, "instruction") && format != FORMAT_PROMPT ? "instruction"
        : format != FORMAT_ALPACA ? first_key(&value, row, prompt_key) : NULL;
    if (!key && any)
        return fail(error, EXIT_DATA,
                    "not a dialogue: expected one of the keys messages, conversations, instruction, prompt, question");
    if (!key)
        return fail(error, EXIT_DATA, "expected the key \"%s", format == FORMAT_ALPACA ? "instruction\" to be a string"
                    : "prompt\" (or question, query) with \"response\" (or completion, output, answer)");
    if (add_question(d, row, key, error) != 0) return -1;
    key = json_object_get(row, "output") && strcmp(key, "instruction") == 0 ? "output"
        : first_key(&value, row, answer_key);
    return key && format != FORMAT_QUESTION ? add_key(d, row, key, ROLE_ASSISTANT, error) : 0;
}

/* Marks of the whole row: {"label": false} is an answer that people did not want (KTO). */
static void add_marks(struct dialogue *d, json_t *row)
{
    static const char *const label[] = {"label", NULL};
    if (marked_off(row, train_key)) d->unwanted = "the row is marked as not to be trained on (train, weight, loss)";
    if (json_is_boolean(json_object_get(row, "label")) && marked_off(row, label))
        d->unwanted = "an answer marked as bad (\"label\": false)";
}

bool dialogue_asked(json_t *row)
{
    json_t *value;
    return first_key(&value, row, list_key) || first_key(&value, row, prompt_key) || json_object_get(row, "instruction");
}

int dialogue_from_json(struct dialogue *d, json_t *row, enum chat_format format, struct error *error)
{
    if (add_row(d, row, format, error) != 0) {
        dialogue_free(d);
        return -1;
    }
    add_marks(d, row);
    dialogue_unused(d, "", row);
    return 0;
}
