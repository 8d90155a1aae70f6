/* api.c - one table of fields says what each request may hold.  A field that would change the answer and is not known
 * here is refused, never ignored: who asks for a penalty should not get an answer without one. */
#include "rlhf/chat/api.h"
#include "common/text/show.h"

#include <math.h>
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
    bytes_text(out, "{\"error\":{\"message\":");
    show_json_text(out, e->text, strlen(e->text));
    bytes_text(out, ",\"type\":\"%s\",\"param\":", type);
    if (*e->param) show_json_text(out, e->param, strlen(e->param));
    else bytes_text(out, "null");
    bytes_text(out, e->code ? ",\"code\":\"%s\"}}" : ",\"code\":null}}", e->code);
}

/* ---- fields ---- */

struct reading {
    struct api_request *r;
    const struct api_model *m;
    const json_t *messages, *prompt, *stream_options;
    int best, limits;
    struct api_error *error;
};

struct field {
    const char *name;
    enum { IN_CHAT = 1, IN_TEXT = 2, IN_BOTH = 3 } kinds;
    int (*take)(struct reading *k, const struct field *f, const json_t *value);      /* never of null; NULL: ignored */
    double min, max;
    const char *word[2];
};

static int wrong(struct reading *k, const struct field *f, const char *expected)
{
    return api_fail(k->error, 400, f->name, "'%s': expected %s", f->name, expected);
}

/* A number, or a whole one, within the field's range. */
static int number(double *out, struct reading *k, const struct field *f, const json_t *value, bool whole)
{
    double x = json_number_value(value);
    char text[64];
    snprintf(text, sizeof text, "%s from %g to %g", whole ? "a whole number" : "a number", f->min, f->max);
    if (!(whole ? json_is_integer(value) : json_is_number(value)) || !(f->min <= x && x <= f->max))
        return wrong(k, f, text);
    *out = x;
    return 0;
}

static int whole(int *out, struct reading *k, const struct field *f, const json_t *value)
{
    double x = 0;
    if (number(&x, k, f, value, true) != 0) return -1;
    *out = (int)x;
    return 0;
}

static int real(float *out, struct reading *k, const struct field *f, const json_t *value)
{
    double x = 0;
    if (number(&x, k, f, value, false) != 0) return -1;
    *out = (float)x;
    return 0;
}

static int flag(bool *out, struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(k, f, "true or false");
    *out = json_is_true(value);
    return 0;
}

static int take_model(struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_string(value)) return wrong(k, f, "a string");
    if (strcmp(json_string_value(value), k->m->name) == 0) return 0;
    api_fail(k->error, 404, f->name, "The model '%s' does not exist; this server has '%s'",
             text_shown(json_string_value(value)).text, k->m->name);
    k->error->code = "model_not_found";
    return -1;
}

static int take_messages(struct reading *k, const struct field *f, const json_t *value)
{
    (void)f;
    k->messages = value;
    return 0;
}

static int take_prompt(struct reading *k, const struct field *f, const json_t *value)
{
    (void)f;
    k->prompt = value;
    return 0;
}

static int take_stream(struct reading *k, const struct field *f, const json_t *value)
{
    return flag(&k->r->stream, k, f, value);
}

static int take_stream_options(struct reading *k, const struct field *f, const json_t *value)
{
    const json_t *usage = json_object_get(value, "include_usage");
    if (!json_is_object(value)) return wrong(k, f, "an object");
    k->stream_options = value;
    return usage && !json_is_null(usage) ? flag(&k->r->usage, k, f, usage) : 0;
}

/* Too small to divide by counts as 0. */
static int take_temperature(struct reading *k, const struct field *f, const json_t *value)
{
    if (real(&k->r->sampling.temperature, k, f, value) != 0) return -1;
    if (k->r->sampling.temperature < 0.01f) k->r->sampling.temperature = 0;
    return 0;
}

static int take_top_p(struct reading *k, const struct field *f, const json_t *value)
{
    if (real(&k->r->sampling.top_p, k, f, value) != 0) return -1;
    if (k->r->sampling.top_p < 1e-6f) k->r->sampling.top_p = 1e-6f;
    return 0;
}

static int take_min_p(struct reading *k, const struct field *f, const json_t *value)
{
    return real(&k->r->sampling.min_p, k, f, value);
}

static int take_top_k(struct reading *k, const struct field *f, const json_t *value)
{
    if (whole(&k->r->sampling.top_k, k, f, value) != 0) return -1;
    if (k->r->sampling.top_k < 0) k->r->sampling.top_k = 0;
    return 0;
}

static int take_n(struct reading *k, const struct field *f, const json_t *v) { return whole(&k->r->n, k, f, v); }
static int take_top(struct reading *k, const struct field *f, const json_t *v) { return whole(&k->r->top, k, f, v); }

/* Under two names, which may not say two things. */
static int take_most(struct reading *k, const struct field *f, const json_t *value)
{
    int before = k->r->most;
    if (whole(&k->r->most, k, f, value) != 0) return -1;
    if (k->limits++ && k->r->most != before)
        return wrong(k, f, "the same as 'max_tokens', or only one of 'max_tokens' and 'max_completion_tokens'");
    return 0;
}

static int take_seed(struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_integer(value)) return wrong(k, f, "a whole number of 64 bits");
    k->r->seeded = true;
    k->r->seed = (uint64_t)json_integer_value(value);
    return 0;
}

static int add_stop(struct reading *k, const struct field *f, const json_t *value)
{
    struct api_request *r = k->r;
    size_t length = json_string_length(value);
    if (!json_is_string(value) || length < 1 || length > API_STOP_BYTES || r->n_stop == API_STOPS)
        return wrong(k, f, "a string, or up to 4 of them, of 1 to 1000 bytes each");
    bytes_add(&r->stop[r->n_stop++], json_string_value(value), length);
    return 0;
}

static int take_stop(struct reading *k, const struct field *f, const json_t *value)
{
    if (!json_is_array(value)) return add_stop(k, f, value);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (add_stop(k, f, json_array_get(value, i)) != 0) return -1;
    return 0;
}

/* true or false for dialogues, a number of alternatives for texts. */
static int take_logprobs(struct reading *k, const struct field *f, const json_t *value)
{
    k->r->logprobs = true;
    return k->r->chat ? flag(&k->r->logprobs, k, f, value) : whole(&k->r->top, k, f, value);
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

static int take_best_of(struct reading *k, const struct field *f, const json_t *v) { return whole(&k->best, k, f, v); }

static const struct field fields[] = {
    {"model", IN_BOTH, take_model},
    {"messages", IN_CHAT, take_messages},
    {"prompt", IN_TEXT, take_prompt},
    {"stream", IN_BOTH, take_stream},
    {"stream_options", IN_BOTH, take_stream_options},
    {"temperature", IN_BOTH, take_temperature, 0, 2},
    {"top_p", IN_BOTH, take_top_p, 0, 1},
    {"top_k", IN_BOTH, take_top_k, -1, 1e6},
    {"min_p", IN_BOTH, take_min_p, 0, 1},
    {"n", IN_BOTH, take_n, 1, API_CHOICES},
    {"seed", IN_BOTH, take_seed},
    {"stop", IN_BOTH, take_stop},
    {"max_tokens", IN_BOTH, take_most, 1, 1e9},
    {"max_completion_tokens", IN_CHAT, take_most, 1, 1e9},
    {"logprobs", IN_BOTH, take_logprobs, 0, 5},
    {"top_logprobs", IN_CHAT, take_top, 0, API_TOP_LOGPROBS},
    {"best_of", IN_TEXT, take_best_of, 1, API_CHOICES},
    {"echo", IN_TEXT, refuse}, {"suffix", IN_TEXT, refuse},
    {"frequency_penalty", IN_BOTH, refuse}, {"presence_penalty", IN_BOTH, refuse}, {"logit_bias", IN_BOTH, refuse},
    {"tools", IN_CHAT, refuse}, {"tool_choice", IN_CHAT, refuse, .word = {"none", "auto"}},
    {"functions", IN_CHAT, refuse}, {"function_call", IN_CHAT, refuse, .word = {"none", "auto"}},
    {"response_format", IN_CHAT, refuse, .word = {"text"}}, {"modalities", IN_CHAT, refuse, .word = {"text"}},
    {"audio", IN_CHAT, refuse}, {"prediction", IN_CHAT, refuse}, {"web_search_options", IN_CHAT, refuse},
    /* these change nothing here */
    {"user", IN_BOTH}, {"store", IN_CHAT}, {"metadata", IN_CHAT}, {"service_tier", IN_CHAT},
    {"parallel_tool_calls", IN_CHAT}, {"reasoning_effort", IN_CHAT}, {"verbosity", IN_CHAT},
    {"safety_identifier", IN_CHAT}, {"prompt_cache_key", IN_CHAT}, {"prompt_cache_retention", IN_CHAT},
};

static int read_fields(struct reading *k, json_t *body)
{
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value) {
        const struct field *f = fields, *end = fields + sizeof fields / sizeof *fields;
        while (f < end && (strcmp(f->name, name) != 0 || !(f->kinds & (k->r->chat ? IN_CHAT : IN_TEXT)))) f++;
        if (f == end)
            return api_fail(k->error, 400, text_shown(name).text, "Unrecognized request argument supplied: %s",
                            text_shown(name).text);
        if (!json_is_null(value) && f->take && f->take(k, f, value) != 0) return -1;
    }
    return 0;
}

/* What the fields say together. */
static int settle(struct reading *k)
{
    struct api_request *r = k->r;
    const struct api_model *m = k->m;
    if (k->stream_options && !r->stream)
        return api_fail(k->error, 400, "stream_options", "'stream_options' is only allowed when 'stream' is true");
    if (r->chat && r->top > 0 && !r->logprobs)
        return api_fail(k->error, 400, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    if (k->best > r->n)
        return api_fail(k->error, 400, "best_of", "'best_of' above 'n' is not supported by this server");
    if ((r->chat ? api_messages(r, m, k->messages, k->error) : api_prompts(r, m, k->prompt, k->error)) != 0)
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
    struct reading k = {.r = r, .m = m, .error = error};
    *r = (struct api_request){.chat = chat, .n = 1, .most = chat ? m->max_new : 16, .sampling = m->standard};
    int result = json_is_object(json) ? read_fields(&k, json)
               : json ? api_fail(error, 400, "", "The body is not a JSON object")
               : api_fail(error, 400, "", "The body is not valid JSON: %s (byte %d)", text_shown(fault.text).text,
                          fault.position);
    if (result == 0) result = settle(&k);
    json_decref(json);
    if (result != 0) api_free(r);
    return result;
}

void api_free(struct api_request *r)
{
    for (int i = 0; i < r->n_stop; i++) bytes_free(&r->stop[i]);
    free(r->ids.id);
    free(r->end.id);
    *r = (struct api_request){0};
}
