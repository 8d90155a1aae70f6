/* fuzz_chat.c - libFuzzer target: any JSON as a dialogue and as a ranking, any text as an hh transcript.  What is understood must
 * render in every template with as many control tokens as its shape asks for, and a prompt must be a prefix. */
#include "rm/data.h"
#include "test/fuzz/small_tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bound { struct tokenizer *tokenizer; struct chat chat[TEMPLATE_LAST + 1]; };

static struct bound *bound(void)
{
    static struct bound b;
    if (b.tokenizer) return &b;
    b.tokenizer = small_tokenizer();
    for (enum chat_template t = TEMPLATE_QUARTET; t <= TEMPLATE_LAST; t++) chat_open(&b.chat[t], t, b.tokenizer);
    return &b;
}

static void render(const struct chat *c, struct dialogue *d)
{
    struct ids whole = {0}, prompt = {0}, answered = {0}, ends = {0};
    struct bytes mask = {0};
    int answers = 0;
    for (int i = 0; i < d->count; i++)
        if (d->message[i].role == ROLE_SYSTEM && !chat_has_system(c)) return;
    chat_render(c, d, CHAT_TRAIN_ASSISTANT, false, &whole, &mask, &ends);
    if (mask.size != whole.count || ends.count != (size_t)d->count) abort();
    for (int i = 0; i < d->count; i++) {
        if (d->message[i].role != ROLE_ASSISTANT) continue;
        bool muted = d->message[i].muted;
        answers += !muted;
        if ((whole.id[ends.id[i] - 1] != c->end && c->template != TEMPLATE_GLM4) || !mask.data[ends.id[i] - 1] != muted) abort();
        struct dialogue before = *d;
        before.count = i;
        prompt.count = 0;
        if (i == 0) continue;
        chat_render(c, &before, CHAT_TRAIN_ASSISTANT, true, &prompt, NULL, NULL);
        before.count = i + 1;                   /* with what follows, Qwen3's template leaves thoughts out */
        answered.count = 0;
        chat_render(c, &before, CHAT_TRAIN_ASSISTANT, false, &answered, NULL, NULL);
        if (prompt.count >= answered.count || memcmp(prompt.id, answered.id, prompt.count * sizeof(int)) != 0) abort();
    }
    size_t trained_ends = 0;
    for (size_t i = 0; i < whole.count; i++)
        if (mask.data[i] && tokenizer_is_special(c->tokenizer, whole.id[i])) trained_ends++;
    if (trained_ends != (size_t)answers) abort();
    free(whole.id);
    free(prompt.id);
    free(answered.id);
    free(ends.id);
    bytes_free(&mask);
}

static void render_all(struct dialogue *d)
{
    struct bound *b = bound();
    if (!(dialogue_place(d) >= 0 && dialogue_place(d) <= 1)) abort();
    for (enum chat_template t = TEMPLATE_QUARTET; t <= TEMPLATE_LAST; t++) render(&b->chat[t], d);
}

static void take(void *self, struct ranking *r)
{
    struct bound *b = bound();
    struct ids ids = {0}, ends = {0};
    struct tally changed = {0};
    int prompt, limit = 40;
    const char *why = ranking_tokens(&ids, &ends, &prompt, r, &b->chat[TEMPLATE_QUARTET], limit, *(bool *)self, &changed);
    for (size_t i = 0; !why && i < ends.count; i++) {
        int start = i ? ends.id[i - 1] : 0;
        if (ends.id[i] - start > limit || ends.id[i] - start <= prompt || ids.id[ends.id[i] - 1] != b->chat[TEMPLATE_QUARTET].end) abort();
    }
    free(ids.id);
    free(ends.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct error error;
    struct dialogue d = {0};
    if (dialogue_from_hh(&d, text, size, &error) == 0) render_all(&d);
    dialogue_free(&d);
    json_t *row = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!row) return 0;
    for (enum chat_format format = FORMAT_AUTO; format <= FORMAT_QUESTION; format++) {
        json_t *copy = json_deep_copy(row);                  /* reading uses it up */
        if (dialogue_from_json(&d, copy, format, &error) == 0) render_all(&d);
        else if (d.count != 0 || d.message || error.exit_code != EXIT_DATA) abort();
        dialogue_free(&d);
        json_decref(copy);
    }
    bool ranked = true, any = false;
    struct tally unused = {0};
    json_t *copy = json_deep_copy(row);
    (void)rankings_from_json(copy, true, &unused, take, &ranked, &error);
    json_decref(copy);
    (void)rankings_from_json(row, false, NULL, take, &any, &error);
    json_decref(row);
    return 0;
}
