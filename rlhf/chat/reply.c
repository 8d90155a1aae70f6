/* reply.c - answers as the OpenAI-compatible endpoints write them: whole, or as server-sent events. */
#include "common/text/show.h"
#include "rlhf/chat/service.h"

#include <math.h>
#include <string.h>

/* ---- log-probabilities ---- */

/* JSON knows no infinity; -9999 stands for it, as in the original. */
static void add_logprob(struct bytes *out, float logprob)
{
    bytes_text(out, "%.7g", isfinite(logprob) ? (double)logprob : -9999.0);
}

static void add_token_bytes(struct bytes *out, const char *text, size_t n)
{
    bytes_text(out, "[");
    for (size_t i = 0; i < n; i++) bytes_text(out, i ? ",%d" : "%d", (unsigned char)text[i]);
    bytes_text(out, "]");
}

/* The open object of one token of a dialogue; the caller closes it. */
static void add_token(struct bytes *out, const struct tokenizer *t, int id, float logprob)
{
    size_t n;
    const char *text = tokenizer_bytes(t, id, &n);
    bytes_text(out, "{\"token\":");
    show_json_text(out, text, n);
    bytes_text(out, ",\"logprob\":");
    add_logprob(out, logprob);
    bytes_text(out, ",\"bytes\":");
    add_token_bytes(out, text, n);
}

static void add_dialogue_logprobs(struct bytes *out, const struct choice *c, int from, int to,
                                  const struct tokenizer *t)
{
    bytes_text(out, "{\"content\":[");
    for (int i = from; i < to; i++) {
        const struct noted *p = &c->noted[i];
        if (i > from) bytes_text(out, ",");
        add_token(out, t, p->id, p->logprob);
        bytes_text(out, ",\"top_logprobs\":[");
        for (int k = 0; k < c->request->ask.top && p->top[k].id >= 0; k++) {
            if (k) bytes_text(out, ",");
            add_token(out, t, p->top[k].id, p->top[k].logprob);
            bytes_text(out, "}");
        }
        bytes_text(out, "]}");
    }
    bytes_text(out, "],\"refusal\":null}");
}

/* The text of a token as a string; a part of a character as bytes:\xNN, so that no two tokens look the same. */
static void add_token_name(struct bytes *out, const struct tokenizer *t, int id)
{
    struct bytes name = {0};
    size_t n;
    const char *text = tokenizer_bytes(t, id, &n);
    if (utf8_prefix(text, n) == n) bytes_add(&name, text, n);
    else {
        bytes_text(&name, "bytes:");
        for (size_t i = 0; i < n; i++) bytes_text(&name, "\\x%02x", (unsigned char)text[i]);
    }
    show_json_text(out, name.data, name.size);
    bytes_free(&name);
}

static void add_alternatives(struct bytes *out, const struct noted *p, int top, const struct tokenizer *t)
{
    bytes_text(out, "{");
    for (int k = 0; k < top && p->top[k].id >= 0; k++) {
        if (k) bytes_text(out, ",");
        add_token_name(out, t, p->top[k].id);
        bytes_text(out, ":");
        add_logprob(out, p->top[k].logprob);
    }
    bytes_text(out, "}");
}

static size_t characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += (text[i] & 0xC0) != 0x80;
    return count;
}

static void add_text_logprobs(struct bytes *out, const struct choice *c, int from, int to, const struct tokenizer *t)
{
    static const char *const part[] = {"{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[",
                                       "],\"text_offset\":["};
    for (int p = 0; p < 4; p++) {
        size_t at = 0, count = 0;                /* of the text: bytes, and characters in them */
        bytes_text(out, "%s", part[p]);
        for (int i = from; i < to; i++) {
            const struct noted *n = &c->noted[i];
            if (i > from) bytes_text(out, ",");
            if (p == 0) add_token_name(out, t, n->id);
            if (p == 1) add_logprob(out, n->logprob);
            if (p == 2) add_alternatives(out, n, c->request->ask.top, t);
            if (p < 3) continue;
            size_t begin = i ? c->noted[i - 1].end : 0;
            count += characters(c->text.data + at, begin - at);
            at = begin;
            bytes_text(out, "%zu", count);
        }
    }
    bytes_text(out, "]}");
}

/* "logprobs" of tokens told .. to. */
static void add_logprobs(struct bytes *out, const struct choice *c, int to, const struct tokenizer *t)
{
    bytes_text(out, ",\"logprobs\":");
    if (!c->noted || to == c->told) bytes_text(out, "null");
    else if (c->request->ask.chat) add_dialogue_logprobs(out, c, c->told, to, t);
    else add_text_logprobs(out, c, c->told, to, t);
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

static void add_head(struct bytes *out, const struct request *r, const struct api_model *m, bool event)
{
    const char *object = !r->ask.chat ? "text_completion" : event ? "chat.completion.chunk" : "chat.completion";
    bytes_text(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", r->id, object,
               (long long)r->created);
    show_json_text(out, m->name, strlen(m->name));
    bytes_text(out, ",\"choices\":[");
}

static void add_reason(struct bytes *out, const char *reason)
{
    bytes_text(out, reason ? ",\"finish_reason\":\"%s\"}" : ",\"finish_reason\":null}", reason);
}

static void add_usage(struct bytes *out, const struct request *r)
{
    size_t prompt = r->ask.ids.count, answer = 0;
    for (int i = 0; i < r->choices; i++) answer += (size_t)(r->choice[i].sample.n - r->choice[i].sample.stopped);
    bytes_text(out, ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}", prompt, answer,
               prompt + answer);
}

/* ---- events ---- */

/* role: the first event of a dialogue's choice, which has no text yet. */
static void add_event(struct request *r, struct choice *c, const struct api_model *m, bool role, const char *reason)
{
    struct bytes *out = &r->out;
    int known = role ? c->told : known_tokens(c);
    bytes_text(out, "data: ");
    add_head(out, r, m, true);
    bytes_text(out, "{\"index\":%d,%s", c->index, r->ask.chat ? "\"delta\":{" : "\"text\":");
    if (role) bytes_text(out, "\"role\":\"assistant\",\"content\":\"\"");
    else if (!reason || !r->ask.chat) {
        if (r->ask.chat) bytes_text(out, "\"content\":");
        show_json_text(out, c->text.data + c->given, c->safe - c->given);
    }
    if (r->ask.chat) bytes_text(out, "}");
    add_logprobs(out, c, known, m->tokenizer);
    add_reason(out, reason);
    bytes_text(out, r->ask.usage ? "],\"usage\":null}\n\n" : "]}\n\n");
    c->told = known;
    if (!role) c->given = c->safe;
}

void reply_events(struct request *r, struct choice *c, const struct api_model *m)
{
    if (r->ask.chat && !c->started) add_event(r, c, m, true, NULL);
    c->started = true;
    if (c->safe > c->given || known_tokens(c) > c->told) add_event(r, c, m, false, NULL);
    if (c->ended) add_event(r, c, m, false, choice_reason(c));
}

void reply_last_event(struct request *r, const struct api_model *m)
{
    if (r->ask.usage) {
        bytes_text(&r->out, "data: ");
        add_head(&r->out, r, m, true);
        bytes_text(&r->out, "]");
        add_usage(&r->out, r);
        bytes_text(&r->out, "}\n\n");
    }
    bytes_text(&r->out, "data: [DONE]\n\n");
}

void reply_whole(struct request *r, const struct api_model *m)
{
    struct bytes *out = &r->out;
    add_head(out, r, m, false);
    for (int i = 0; i < r->choices; i++) {
        const struct choice *c = &r->choice[i];
        bytes_text(out, "%s{\"index\":%d,%s", i ? "," : "", c->index,
                   r->ask.chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        show_json_text(out, c->text.data, c->text.size);
        if (r->ask.chat) bytes_text(out, ",\"refusal\":null}");
        add_logprobs(out, c, known_tokens(c), m->tokenizer);
        add_reason(out, choice_reason(c));
    }
    bytes_text(out, "]");
    add_usage(out, r);
    bytes_text(out, "}\n");
}

void reply_failed(struct request *r, const struct api_error *error)
{
    if (r->ask.stream) bytes_text(&r->out, "data: ");
    else r->out.size = 0;
    api_error_json(&r->out, error);
    bytes_text(&r->out, r->ask.stream ? "\n\n" : "\n");
    r->status = error->status;
}
