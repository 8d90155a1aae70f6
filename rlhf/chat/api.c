/* api.c - one table of fields says what each request may hold.  A field that would change the answer and is not known
 * here is refused, never ignored: who asks for a penalty should not get an answer without one. */
#include "rlhf/chat/api.h"
#include "common/text/show.h"

#include <stdlib.h>
#include <string.h>

int api_fail(struct api_error *error, int status, const char *param, const char *format, ...)
{
    va_list list;
    *error = (struct api_error){.status = status};
    snprintf(error->param, sizeof error->param, "%s", param);
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    return -1;
}

void api_error_json(struct bytes *out, const struct api_error *e)
{
    const char *type = e->status >= 500 ? "server_error"
                     : e->status == 429 ? "rate_limit_error" : "invalid_request_error";
    json_t *message = json_text(e->text, strlen(e->text));
    json_t *param = *e->param ? json_text(e->param, strlen(e->param)) : json_null();
    show_json_value(out, json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message", message, "type", type, "param",
                                   param, "code", e->code));
}

int api_model_named(const struct api_model *m, const char *name, struct api_error *error)
{
    if (strcmp(name, m->name) == 0) return 0;
    api_fail(error, 404, "model", "The model '%s' does not exist; this server has '%s'", text_shown(name).text,
             m->name);
    error->code = "model_not_found";
    return -1;
}

/* ---- what the model is to read: dialogues are put in order as those that models are trained on ---- */

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

static int read_messages(struct api_request *r, const struct api_model *m, const json_t *messages,
                         struct api_error *error)
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
            return api_fail(error, 400, "prompt", "'prompt': element %zu is no token id of the model (expected 0 to %d)",
                            i, m->standard.allowed - 1);
        ids_add(&r->ids, (int)json_integer_value(id));
    }
    ids_add(&r->end, (int)r->ids.count);
    return 0;
}

static int read_prompts(struct api_request *r, const struct api_model *m, const json_t *prompt, struct api_error *error)
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

/* ---- fields ---- */

/* The request, and what is only known together with other fields.  limit: max_tokens and max_completion_tokens. */
struct reading {
    struct api_request r;
    const struct api_model *m;
    const json_t *messages, *prompt, *stream_options;
    int best, limit[2];
    struct api_error *error;
};

struct field {
    const char *name;
    enum { IN_CHAT = 1, IN_TEXT = 2, IN_BOTH = 3 } kinds;
    enum { IGNORED, REFUSED, FLAG, WHOLE, REAL, VALUE, OTHER } type;
    size_t place;                        /* in struct reading: of a bool, int, float or const json_t * */
    double min, max;
    int (*take)(struct reading *k, const struct field *f, const json_t *value);      /* OTHER */
    const char *word[2];                 /* REFUSED: values that ask for nothing */
};

static int wrong(struct reading *k, const struct field *f, const char *expected)
{
    return api_fail(k->error, 400, f->name, "'%s': expected %s", f->name, expected);
}

static int set_number(void *place, struct reading *k, const struct field *f, const json_t *value)
{
    double x = json_number_value(value);
    bool whole = f->type == WHOLE;
    char text[64];
    snprintf(text, sizeof text, "%s from %g to %g", whole ? "a whole number" : "a number", f->min, f->max);
    if (!(whole ? json_is_integer(value) : json_is_number(value)) || !(f->min <= x && x <= f->max))
        return wrong(k, f, text);
    if (whole) *(int *)place = (int)x;
    else *(float *)place = (float)x;
    return 0;
}

static int set_flag(bool *place, struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(k, f, "true or false");
    *place = json_is_true(value);
    return 0;
}

static int take_model(struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_string(value)) return wrong(k, f, "a string");
    return api_model_named(k->m, json_string_value(value), k->error);
}

static int take_stream_options(struct reading *k, const struct field *f, const json_t *value)
{
    const json_t *usage = json_object_get(value, "include_usage");
    if (!json_is_object(value)) return wrong(k, f, "an object");
    k->stream_options = value;
    return usage && !json_is_null(usage) ? set_flag(&k->r.usage, k, f, usage) : 0;
}

static int take_seed(struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_integer(value)) return wrong(k, f, "a whole number of 64 bits");
    k->r.seeded = true;
    k->r.seed = (uint64_t)json_integer_value(value);
    return 0;
}

static int take_stop(struct reading *k, const struct field *f, const json_t *value)
{
    struct api_request *r = &k->r;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *stop = json_is_array(value) ? json_array_get(value, i) : value;
        size_t length = json_string_length(stop);
        if (!json_is_string(stop) || length < 1 || length > API_STOP_BYTES || r->n_stop == API_STOPS)
            return wrong(k, f, "a string, or up to 4 of them, of 1 to 1000 bytes each");
        bytes_add(&r->stop[r->n_stop++], json_string_value(stop), length);
    }
    return 0;
}

/* A field that only a value which asks for nothing passes: 0, false, "", [], {} or one of the field's words, plain, in
 * a list or as the type of an object. */
static int refuse(struct reading *k, const struct field *f, const json_t *value)
{
    const json_t *only = json_is_object(value) ? json_object_get(value, "type")
                       : json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    const char *word = json_string_value(only);
    bool nothing = json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0) ||
                   (json_is_object(value) && json_object_size(value) == 0) ||
                   (json_is_array(value) && json_array_size(value) == 0) || (word && !*word);
    for (int i = 0; i < 2 && word; i++)
        if (f->word[i] && strcmp(word, f->word[i]) == 0) return 0;
    return nothing ? 0 : api_fail(k->error, 400, f->name, "'%s' is not supported by this server", f->name);
}

#define AT(member) offsetof(struct reading, member)

static const struct field fields[] = {
    {"model", IN_BOTH, OTHER, .take = take_model},
    {"messages", IN_CHAT, VALUE, AT(messages)},
    {"prompt", IN_TEXT, VALUE, AT(prompt)},
    {"stream", IN_BOTH, FLAG, AT(r.stream)},
    {"stream_options", IN_BOTH, OTHER, .take = take_stream_options},
    {"temperature", IN_BOTH, REAL, AT(r.sampling.temperature), 0, 2},
    {"top_p", IN_BOTH, REAL, AT(r.sampling.top_p), 0, 1},
    {"top_k", IN_BOTH, WHOLE, AT(r.sampling.top_k), -1, 1e6},
    {"min_p", IN_BOTH, REAL, AT(r.sampling.min_p), 0, 1},
    {"n", IN_BOTH, WHOLE, AT(r.n), 1, API_CHOICES},
    {"seed", IN_BOTH, OTHER, .take = take_seed},
    {"stop", IN_BOTH, OTHER, .take = take_stop},
    {"max_tokens", IN_BOTH, WHOLE, AT(limit[0]), 1, 1e9},
    {"max_completion_tokens", IN_CHAT, WHOLE, AT(limit[1]), 1, 1e9},
    {"logprobs", IN_CHAT, FLAG, AT(r.logprobs)},
    {"logprobs", IN_TEXT, WHOLE, AT(r.top), 0, 5},
    {"top_logprobs", IN_CHAT, WHOLE, AT(r.top), 0, API_TOP_LOGPROBS},
    {"best_of", IN_TEXT, WHOLE, AT(best), 1, API_CHOICES},
    {"echo", IN_TEXT, REFUSED}, {"suffix", IN_TEXT, REFUSED},
    {"frequency_penalty", IN_BOTH, REFUSED}, {"presence_penalty", IN_BOTH, REFUSED}, {"logit_bias", IN_BOTH, REFUSED},
    {"tools", IN_CHAT, REFUSED}, {"tool_choice", IN_CHAT, REFUSED, .word = {"none", "auto"}},
    {"functions", IN_CHAT, REFUSED}, {"function_call", IN_CHAT, REFUSED, .word = {"none", "auto"}},
    {"response_format", IN_CHAT, REFUSED, .word = {"text"}}, {"modalities", IN_CHAT, REFUSED, .word = {"text"}},
    {"audio", IN_CHAT, REFUSED}, {"prediction", IN_CHAT, REFUSED}, {"web_search_options", IN_CHAT, REFUSED},
    /* these change nothing here */
    {"user", IN_BOTH}, {"store", IN_CHAT}, {"metadata", IN_CHAT}, {"service_tier", IN_CHAT},
    {"parallel_tool_calls", IN_CHAT}, {"reasoning_effort", IN_CHAT}, {"verbosity", IN_CHAT},
    {"safety_identifier", IN_CHAT}, {"prompt_cache_key", IN_CHAT}, {"prompt_cache_retention", IN_CHAT},
};

static int take_field(struct reading *k, const struct field *f, const json_t *value)
{
    void *place = (char *)k + f->place;
    switch (f->type) {
    case REFUSED: return refuse(k, f, value);
    case FLAG: return set_flag(place, k, f, value);
    case WHOLE: case REAL: return set_number(place, k, f, value);
    case VALUE: *(const json_t **)place = value; return 0;
    case OTHER: return f->take(k, f, value);
    default: return 0;
    }
}

static int read_fields(struct reading *k, json_t *body)
{
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value) {
        const struct field *f = fields, *end = fields + sizeof fields / sizeof *fields;
        while (f < end && (strcmp(f->name, name) != 0 || !(f->kinds & (k->r.chat ? IN_CHAT : IN_TEXT)))) f++;
        if (f == end)
            return api_fail(k->error, 400, text_shown(name).text, "Unrecognized request argument supplied: %s",
                            text_shown(name).text);
        if (!json_is_null(value) && take_field(k, f, value) != 0) return -1;
    }
    return 0;
}

/* Numbers that mean something else than they say: too small to divide by, or "none". */
static void settle_numbers(struct reading *k)
{
    struct api_request *r = &k->r;
    struct sampling *s = &r->sampling;
    if (s->temperature < 0.01f) s->temperature = 0;
    if (s->top_p < 1e-6f) s->top_p = 1e-6f;
    s->top_k = int_max(s->top_k, 0);
    if (!r->chat) r->logprobs = r->top >= 0;
    r->top = int_max(r->top, 0);
    if (int_max(k->limit[0], k->limit[1]) > 0) r->most = int_max(k->limit[0], k->limit[1]);
}

/* What the fields say together. */
static int settle(struct reading *k)
{
    struct api_request *r = &k->r;
    const struct api_model *m = k->m;
    settle_numbers(k);
    if (k->limit[0] > 0 && k->limit[1] > 0 && k->limit[0] != k->limit[1])
        return api_fail(k->error, 400, "max_completion_tokens", "'max_completion_tokens': expected the same as "
                        "'max_tokens', or only one of 'max_tokens' and 'max_completion_tokens'");
    if (k->stream_options && !r->stream)
        return api_fail(k->error, 400, "stream_options", "'stream_options' is only allowed when 'stream' is true");
    if (r->chat && r->top > 0 && !r->logprobs)
        return api_fail(k->error, 400, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    if (k->best > r->n)
        return api_fail(k->error, 400, "best_of", "'best_of' above 'n' is not supported by this server");
    if ((r->chat ? read_messages(r, m, k->messages, k->error) : read_prompts(r, m, k->prompt, k->error)) != 0)
        return -1;
    if (r->end.count * (size_t)r->n > (size_t)m->most_choices)
        return api_fail(k->error, 400, "n", "%zu choices (prompts times n) are asked for, and this server gives at "
                        "most %d at a time", r->end.count * (size_t)r->n, m->most_choices);
    for (size_t i = 0, begin = 0; i < r->end.count; begin = (size_t)r->end.id[i++]) {
        size_t length = (size_t)r->end.id[i] - begin;
        if (length > 0 && length < (size_t)m->context) continue;
        api_fail(k->error, 400, r->chat ? "messages" : "prompt", length ? "This model's context is %d tokens, and the "
                 "prompt has %zu" : "The prompt is empty", m->context, length);
        if (length) k->error->code = "context_length_exceeded";
        return -1;
    }
    return 0;
}

int api_read(struct api_request *r, const struct api_model *m, bool chat, const char *body, size_t size,
             struct api_error *error)
{
    json_error_t fault;
    json_t *json = json_loadb(body, size, JSON_ALLOW_NUL, &fault);
    struct reading k = {.r = {.chat = chat, .n = 1, .top = chat ? 0 : -1, .most = chat ? m->max_new : 16,
                              .sampling = m->standard}, .m = m, .error = error};
    int result = json_is_object(json) ? read_fields(&k, json)
               : json ? api_fail(error, 400, "", "The body is not a JSON object")
               : api_fail(error, 400, "", "The body is not valid JSON: %s (byte %d)", text_shown(fault.text).text,
                          fault.position);
    if (result == 0) result = settle(&k);
    json_decref(json);
    if (result != 0) api_free(&k.r);
    *r = k.r;
    return result;
}

void api_free(struct api_request *r)
{
    for (int i = 0; i < r->n_stop; i++) bytes_free(&r->stop[i]);
    free(r->ids.id);
    free(r->end.id);
    *r = (struct api_request){0};
}
