/* api_prompt.c - what the model is to read.  Dialogues are put in order as those that models are trained on
 * (docs/data-formats.md): neighbours of one role are merged. */
#include "rlhf/chat/api.h"

#include <string.h>

static int bad_message(struct api_error *error, size_t number, const char *expected)
{
    return api_fail(error, 400, "messages", "'messages[%zu]': expected %s", number, expected);
}

/* Appends the text of one message: a string, null, or parts of type text. */
static int content_text(struct bytes *text, const json_t *content, size_t number, struct api_error *error)
{
    if (json_is_string(content)) bytes_add(text, json_string_value(content), json_string_length(content));
    else if (!json_is_array(content) && !json_is_null(content))
        return bad_message(error, number, "content that is a string or a list of parts");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i), *own = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(own))
            return bad_message(error, number, "parts of type text only");
        bytes_add(text, json_string_value(own), json_string_length(own));
    }
    return 0;
}

static bool holds_nothing(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

static int add_message(struct dialogue *d, const json_t *message, size_t number, struct api_error *error)
{
    static const char *const word[] = {"system", "developer", "user", "assistant"};
    static const enum chat_role role[] = {ROLE_SYSTEM, ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT};
    const char *name = json_string_value(json_object_get(message, "role"));
    struct bytes text = {0};
    size_t r = 0;
    while (name && r < 4 && strcmp(word[r], name) != 0) r++;
    if (!name || r == 4) return bad_message(error, number, "a role: system, developer, user or assistant");
    if (!holds_nothing(json_object_get(message, "tool_calls")) ||
        !holds_nothing(json_object_get(message, "function_call")))
        return bad_message(error, number, "no calls of functions, which this server does not support");
    int result = content_text(&text, json_object_get(message, "content"), number, error);
    if (result == 0 && role[r] != ROLE_ASSISTANT && json_is_null(json_object_get(message, "content")))
        result = bad_message(error, number, "content that is a string or a list of parts");
    struct message *last = d->count > 0 ? &d->message[d->count - 1] : NULL;
    if (result == 0 && last && last->role == role[r]) message_append(last, text.data, text.size);
    else if (result == 0) dialogue_add(d, role[r], text.data, text.size);
    bytes_free(&text);
    return result;
}

static bool begins_with_system(const json_t *messages)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    return role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

int api_messages(struct api_request *r, const struct api_model *m, const json_t *messages, struct api_error *error)
{
    struct dialogue d = {0};
    int result = 0;
    if (!m->chat)
        return api_fail(error, 400, "messages",
                        "This model has no chat template: it continues texts (/v1/completions)");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return api_fail(error, 400, "messages", "'messages': expected a list of at least one message");
    if (m->system && *m->system && !begins_with_system(messages))
        dialogue_add(&d, ROLE_SYSTEM, m->system, strlen(m->system));
    for (size_t i = 0; i < json_array_size(messages) && result == 0; i++)
        result = add_message(&d, json_array_get(messages, i), i, error);
    const char *fault = result == 0 ? chat_fault(m->chat, &d) : NULL;
    if (fault) result = api_fail(error, 400, "messages", "'messages': %s", fault);
    if (result == 0) {
        chat_render(m->chat, &d, CHAT_TRAIN_ASSISTANT, true, &r->ids, NULL, NULL);
        ids_add(&r->end, (int)r->ids.count);
    }
    dialogue_free(&d);
    return result;
}

/* A text, as a document begins in pretraining, or ids as they are. */
static int add_prompt(struct api_request *r, const struct api_model *m, const json_t *prompt, struct api_error *error)
{
    int start = tokenizer_document(m->tokenizer);
    if (json_is_string(prompt)) {
        if (start >= 0) ids_add(&r->ids, start);
        tokenizer_encode(&r->ids, m->tokenizer, json_string_value(prompt), json_string_length(prompt));
    } else if (!json_is_array(prompt))
        return api_fail(error, 400, "prompt", "'prompt': expected a string, a list of token ids, or a list of these");
    for (size_t i = 0; i < json_array_size(prompt); i++) {
        const json_t *id = json_array_get(prompt, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= m->standard.allowed)
            return api_fail(error, 400, "prompt", "'prompt': token number %zu is no id below %d", i,
                            m->standard.allowed);
        ids_add(&r->ids, (int)json_integer_value(id));
    }
    ids_add(&r->end, (int)r->ids.count);
    return 0;
}

int api_prompts(struct api_request *r, const struct api_model *m, const json_t *prompt, struct api_error *error)
{
    const json_t *first = json_array_get(prompt, 0);
    if (!prompt) return api_fail(error, 400, "prompt", "you must provide a prompt");
    if (!json_is_string(first) && !json_is_array(first)) return add_prompt(r, m, prompt, error);
    if (json_array_size(prompt) > (size_t)m->most_choices)
        return api_fail(error, 400, "prompt", "%zu prompts, and this server takes at most %d at a time",
                        json_array_size(prompt), m->most_choices);
    for (size_t i = 0; i < json_array_size(prompt); i++)
        if (add_prompt(r, m, json_array_get(prompt, i), error) != 0) return -1;
    return 0;
}
