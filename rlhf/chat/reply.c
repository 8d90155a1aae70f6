/* reply.c - answers as the OpenAI-compatible endpoints write them: whole, or as server-sent events. */
#include "common/text/show.h"
#include "rlhf/chat/service.h"

#include <math.h>
#include <string.h>

static void append(json_t *list, json_t *value) { json_array_append_new(list, value); }

/* ---- log-probabilities ---- */

/* JSON knows no infinity; -9999 stands for it, as in the original. */
static json_t *logprob_value(float logprob) { return json_real(isfinite(logprob) ? (double)logprob : -9999.0); }

/* A token of a dialogue. */
static json_t *token_value(const struct tokenizer *t, int id, float logprob)
{
    size_t n;
    const char *text = tokenizer_bytes(t, id, &n);
    json_t *bytes = json_array();
    for (size_t i = 0; i < n; i++) append(bytes, json_integer((unsigned char)text[i]));
    return json_pack("{s:o, s:o, s:o}", "token", json_text(text, n), "logprob", logprob_value(logprob), "bytes", bytes);
}

static json_t *dialogue_logprobs(const struct choice *c, int from, int to, const struct tokenizer *t)
{
    json_t *content = json_array();
    for (int i = from; i < to; i++) {
        const struct noted *p = &c->noted[i];
        json_t *token = token_value(t, p->id, p->logprob), *top = json_array();
        for (int k = 0; k < c->request->ask.top && p->top[k].id >= 0; k++)
            append(top, token_value(t, p->top[k].id, p->top[k].logprob));
        json_object_set_new(token, "top_logprobs", top);
        append(content, token);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

/* The text of a token, or what is no whole text as bytes:\xNN, so that no two tokens look the same. */
static void token_name(struct bytes *name, const struct tokenizer *t, int id)
{
    size_t n;
    const char *text = tokenizer_bytes(t, id, &n);
    bool whole = utf8_prefix(text, n) == n && !memchr(text, 0, n);
    bytes_text(name, whole ? "%.*s" : "bytes:", (int)n, text);
    for (size_t i = 0; i < n && !whole; i++) bytes_text(name, "\\x%02x", (unsigned char)text[i]);
}

static json_t *text_logprobs(const struct choice *c, int from, int to, const struct tokenizer *t)
{
    json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array(), *offsets = json_array();
    size_t at = 0, count = 0;                    /* of the text: bytes, and characters in them */
    for (int i = from; i < to; i++) {
        const struct noted *p = &c->noted[i];
        json_t *top = json_object();
        struct bytes name = {0};
        token_name(&name, t, p->id);
        append(tokens, json_string(name.data));
        append(logprobs, logprob_value(p->logprob));
        for (int k = 0; k < c->request->ask.top && p->top[k].id >= 0; k++) {
            name.size = 0;
            token_name(&name, t, p->top[k].id);
            json_object_set_new(top, name.data, logprob_value(p->top[k].logprob));
        }
        append(tops, top);
        for (; i && at < c->noted[i - 1].end; at++) count += (c->text.data[at] & 0xC0) != 0x80;
        append(offsets, json_integer((json_int_t)count));
        bytes_free(&name);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logprobs, "top_logprobs", tops,
                     "text_offset", offsets);
}

/* Tokens whose text is known for certain: it lies before `safe`, or the answer is over and they have a part in it. */
static int known_tokens(const struct choice *c)
{
    int n = c->told, all = c->sample.n - c->sample.stopped;
    if (!c->noted) return n;
    if (c->ended && !c->cut) return all;
    while (n < all && (c->noted[n].end <= c->safe || (c->ended && (n ? c->noted[n - 1].end : 0) < c->safe))) n++;
    return n;
}

/* ---- the frame ---- */

/* A choice that says `value` under `key`, and the log-probabilities of tokens told .. known. */
static json_t *choice_value(const struct choice *c, const char *key, json_t *value, int known, const char *reason,
                            const struct api_model *m)
{
    bool chat = c->request->ask.chat;
    json_t *logprobs = !c->noted || known == c->told ? json_null()
                     : (chat ? dialogue_logprobs : text_logprobs)(c, c->told, known, m->tokenizer);
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", c->index, key, value, "logprobs", logprobs, "finish_reason",
                     reason);
}

static json_t *answer(const struct request *r, const struct api_model *m, bool event, json_t *choices)
{
    const char *object = !r->ask.chat ? "text_completion" : event ? "chat.completion.chunk" : "chat.completion";
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", r->id, "object", object, "created", (json_int_t)r->created,
                     "model", m->name, "choices", choices);
}

static json_t *usage(const struct request *r)
{
    int prompt = (int)r->ask.ids.count, said = 0;
    for (int i = 0; i < r->choices; i++) said += r->choice[i].sample.n - r->choice[i].sample.stopped;
    return json_pack("{s:i, s:i, s:i}", "prompt_tokens", prompt, "completion_tokens", said, "total_tokens",
                     prompt + said);
}

/* ---- events ---- */

static void send_event(struct bytes *out, json_t *event)
{
    bytes_text(out, "data: ");
    show_json_value(out, event);
    bytes_text(out, "\n\n");
}

/* first: of a dialogue's choice, which has a role and no text yet. */
static void choice_event(struct request *r, struct choice *c, const struct api_model *m, bool first, const char *reason)
{
    int known = first ? c->told : known_tokens(c);
    bool chat = r->ask.chat;
    json_t *value;
    if (first) value = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
    else if (chat && reason) value = json_object();
    else value = json_text(c->text.data + c->given, c->safe - c->given);
    if (chat && !first && !reason) value = json_pack("{s:o}", "content", value);
    json_t *choice = choice_value(c, chat ? "delta" : "text", value, known, reason, m);
    json_t *event = answer(r, m, true, json_pack("[o]", choice));
    if (r->ask.usage) json_object_set_new(event, "usage", json_null());
    send_event(&r->out, event);
    c->told = known;
    if (!first) c->given = c->safe;
}

void reply_events(struct request *r, struct choice *c, const struct api_model *m)
{
    if (r->ask.chat && !c->started) choice_event(r, c, m, true, NULL);
    c->started = true;
    if (c->safe > c->given || known_tokens(c) > c->told) choice_event(r, c, m, false, NULL);
    if (c->ended) choice_event(r, c, m, false, choice_reason(c));
}

void reply_last_event(struct request *r, const struct api_model *m)
{
    if (r->ask.usage) {
        json_t *event = answer(r, m, true, json_array());
        json_object_set_new(event, "usage", usage(r));
        send_event(&r->out, event);
    }
    bytes_text(&r->out, "data: [DONE]\n\n");
}

void reply_whole(struct request *r, const struct api_model *m)
{
    json_t *choices = json_array();
    for (int i = 0; i < r->choices; i++) {
        const struct choice *c = &r->choice[i];
        json_t *text = json_text(c->text.data, c->text.size), *message = text;
        if (r->ask.chat)
            message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", text, "refusal");
        append(choices, choice_value(c, r->ask.chat ? "message" : "text", message, known_tokens(c), choice_reason(c),
                                     m));
    }
    json_t *whole = answer(r, m, false, choices);
    json_object_set_new(whole, "usage", usage(r));
    show_json_value(&r->out, whole);
    bytes_text(&r->out, "\n");
}

void reply_failed(struct request *r, const struct api_error *error)
{
    if (r->ask.stream) bytes_text(&r->out, "data: ");
    else r->out.size = 0;
    api_error_json(&r->out, error);
    bytes_text(&r->out, r->ask.stream ? "\n\n" : "\n");
    r->status = error->status;
}
