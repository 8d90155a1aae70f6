/* tokenizer_joints.c - where a text may be cut that has no splitting pattern.
 *
 * SentencePiece merges a text as a whole.  A merge makes a token, so two neighbours that stand side by side in no token are
 * never joined, and what lies left and right of them can be merged apart: words are remembered, and cost stays n log n. */
#include "common/text/tokenizer_parts.h"

#include <stdlib.h>

struct joints { uint64_t *slot; size_t mask; bool words; };      /* hash table of pairs of characters; 0 is empty */

/* The bytes of a character as a number; n of them. */
static uint64_t take(const char *text, size_t n)
{
    uint64_t c = 0;
    for (size_t i = 0; i < n; i++) c = c << 8 | (unsigned char)text[i];
    return c;
}

static uint64_t *find(const struct joints *j, uint64_t left, uint64_t right)
{
    uint64_t key = left << 32 | right;
    size_t i = hash_word(0, key) & j->mask;
    while (j->slot[i] && j->slot[i] != key) i = (i + 1) & j->mask;
    return &j->slot[i];
}

static size_t character(const char *text, size_t length)
{
    int n = utf8_length(text, length);
    return n ? (size_t)n : 1;
}

struct joints *joints_open(const struct tokenizer *t)
{
    struct joints *j = host_alloc(1, sizeof *j);
    size_t pairs = 0, size = 16;
    for (int id = 0; id < t->n_vocab; id++) pairs += t->token[id].type == TOKEN_NORMAL ? t->token[id].length - 1 : 0;
    while (size < 2 * pairs) size *= 2;
    *j = (struct joints){host_alloc(size, sizeof *j->slot), size - 1, t->pattern == PATTERN_WORDS};
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        if (k->type != TOKEN_NORMAL) continue;
        for (size_t at = 0, n = character(k->bytes, k->length), next; at + n < k->length; at += n, n = next) {
            next = character(k->bytes + at + n, k->length - at - n);
            uint64_t left = take(k->bytes + at, n), right = take(k->bytes + at + n, next);
            if (left && right) *find(j, left, right) = left << 32 | right;
        }
    }
    return j;
}

void joints_close(struct joints *j)
{
    if (!j) return;
    free(j->slot);
    free(j);
}

size_t joints_piece(const struct joints *j, const char *text, size_t length)
{
    size_t n = character(text, length), at = n;
    uint64_t left = take(text, n);
    for (; at < length; at += n) {
        n = character(text + at, length - at);
        uint64_t right = take(text + at, n);
        if ((j->words && right == ' ') || (left && right && !*find(j, left, right))) break;
        left = right;
    }
    return at;
}
