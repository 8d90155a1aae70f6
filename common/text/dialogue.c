/* dialogue.c - messages put in order.  What is merely untidy (two messages of one role in a row, an assistant who speaks
 * first) is mended and counted. */
#include "common/text/chat.h"
#include "common/base/rng.h"

#include <stdlib.h>
#include <string.h>

void dialogue_add(struct dialogue *d, enum chat_role role, const char *content, size_t length)
{
    d->message = host_grow(d->message, (size_t)d->count + 1, sizeof *d->message);
    struct message *m = &d->message[d->count++];
    *m = (struct message){.role = role, .content = host_alloc(length + 1, 1), .length = length};
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
    return strspn(m->content, " \t\n\r\v\f") == m->length;
}

bool dialogue_forget_turn(struct dialogue *d)
{
    int from = d->count > 0 && d->message[0].role == ROLE_SYSTEM, to = from + 1;
    while (to < d->count && d->message[to].role != ROLE_USER) to++;
    if (to >= d->count) return false;
    for (int i = from; i < to; i++) free(d->message[i].content);
    memmove(d->message + from, d->message + to, (size_t)(d->count - to) * sizeof *d->message);
    d->count -= to - from;
    return true;
}

static bool is_space(char c) { return c && strchr(" \t\r\n", c); }

bool message_cut_end_marks(struct message *m, struct tally *changed)
{
    static const char *const mark[] = {"<|endoftext|>", "</s>", "<|im_end|>", "<|eot_id|>", "<|end|>",
                                       "<|end_of_text|>", "<end_of_turn>", "<eos>"};
    enum { MARKS = sizeof mark / sizeof *mark };
    size_t before = m->length;
    for (size_t i = 0; i < MARKS; i++) {
        size_t end = m->length, n = strlen(mark[i]);
        while (end > 0 && is_space(m->content[end - 1])) end--;
        if (end < n || memcmp(m->content + end - n, mark[i], n) != 0) continue;
        m->length = end - n;
        m->content[m->length] = 0;
        i = (size_t)-1;                      /* there may be another one before it */
    }
    tally_add(changed, "answers that ended in an end mark written as text, removed", m->length < before);
    return m->length < before;
}

void dialogue_mended(const struct dialogue *d, struct tally *changed)
{
    tally_add(changed, "messages of one role in a row, merged", (uint64_t)d->merged);
    tally_add(changed, "messages left out: the assistant's before any question, or an empty system message",
              (uint64_t)d->skipped);
}

double dialogue_place(const struct dialogue *d)
{
    int i = 0;
    while (i < d->count && d->message[i].role != ROLE_USER) i++;
    if (i == d->count) return 1;
    struct rng r = rng_at(0, RNG_SPLIT, 0, crc32_of(0, d->message[i].content, d->message[i].length));
    return rng_uniform(&r);
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

void message_append(struct message *m, const char *content, size_t length)
{
    m->content = host_grow(m->content, m->length + length + 3, 1);
    memcpy(m->content + m->length, "\n\n", 2);
    if (length > 0) memcpy(m->content + m->length + 2, content, length);
    m->length += length + 2;
    m->content[m->length] = 0;
}

void dialogue_turn(struct dialogue *d, enum chat_role role, const char *content, size_t length, bool muted)
{
    struct message *last = d->count > 0 ? &d->message[d->count - 1] : NULL;
    bool asked = last && last->role != ROLE_SYSTEM;
    for (; d->marked && length > 0 && is_space(*content); length--) content++;
    while (d->marked && length > 0 && is_space(content[length - 1])) length--;
    if ((role == ROLE_ASSISTANT && !asked) || (role == ROLE_SYSTEM && length == 0)) {
        d->skipped++;
    } else if (last && last->role == role && last->muted == muted) {
        message_append(last, content, length);
        d->merged++;
    } else {
        dialogue_add(d, role, content, length);
        d->message[d->count - 1].muted = muted;
    }
}

/* ---- texts with "Human:" and "Assistant:" (hh-rlhf) ---- */

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

int dialogue_from_hh(struct dialogue *d, const char *text, size_t length, struct error *error)
{
    enum chat_role role, next_role;
    size_t at = 0, after, next, next_after;
    if (!next_marker(&role, &at, &after, text, length))
        return fail(error, EXIT_DATA, "not a dialogue: expected \"\\n\\nHuman: ...\\n\\nAssistant: ...\"");
    d->marked = true;
    for (;;) {
        next = after;
        bool more = next_marker(&next_role, &next, &next_after, text, length);
        dialogue_turn(d, role, text + after, (more ? next : length) - after, false);
        if (!more) return 0;
        role = next_role;
        after = next_after;
    }
}

bool dialogue_from_marked(struct dialogue *d, const char *text, size_t length)
{
    enum chat_role role = ROLE_ASSISTANT;
    size_t at = 0, after;
    if (!next_marker(&role, &at, &after, text, length) || role != ROLE_USER) return false;
    for (size_t i = 0; i < at; i++)
        if (!is_space(text[i])) return false;
    for (; role == ROLE_USER; at++)
        if (!next_marker(&role, &at, &after, text, length)) return false;
    if (dialogue_from_hh(d, text, length, NULL) != 0) return false;
    const struct message *last = &d->message[d->count - 1];
    if (last->role == ROLE_ASSISTANT && last->length == 0) dialogue_pop(d);
    return true;
}
