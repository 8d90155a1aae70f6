/* tokenizer_file.c - a tokenizer as the bytes of section TOKN.  The layout is in docs/tokenizer.md; every field has one
 * value for a given tokenizer, so the bytes are its identity.  The reader believes nothing: first the sizes must add
 * up to the section to the byte (TK1), then tokenizer_finish checks what the numbers mean. */
#include "common/text/tokenizer_parts.h"

#include "common/base/le.h"

#include <stdlib.h>

enum { HEAD = 64, KIND_BYTES = 1, KIND_CHARACTERS = 2, ROLE_DOCUMENT = 1 };

static void add_u32(struct bytes *out, uint32_t value)
{
    unsigned char b[4];
    store32(b, value);
    bytes_add(out, b, 4);
}

void tokenizer_write(struct bytes *out, const struct tokenizer *t)
{
    uint32_t n_special = 0, area = 0, regex = t->regex ? (uint32_t)strlen(t->regex) : 0;
    for (int i = 0; i < t->n_vocab; i++) {
        n_special += t->token[i].type == TOKEN_SPECIAL;
        area += t->token[i].length;
    }
    const uint32_t head[HEAD / 4] = {by_characters(t) ? KIND_CHARACTERS : KIND_BYTES, (uint32_t)t->n_vocab,
                                     t->score ? 0 : (uint32_t)t->n_merges, n_special,
                                     (uint32_t)t->pattern, t->flags, regex, area};
    for (int i = 0; i < HEAD / 4; i++) add_u32(out, head[i]);
    uint32_t at = 0;
    for (int i = 0; i < t->n_vocab; i++) {
        add_u32(out, at);
        at += t->token[i].length;
    }
    add_u32(out, at);
    for (int i = 0; i < t->n_merges && !t->score; i++) {
        add_u32(out, t->merge[i].left);
        add_u32(out, t->merge[i].right);
        add_u32(out, t->merge[i].result);
    }
    for (int i = 0; i < t->n_vocab; i++) {
        if (t->token[i].type != TOKEN_SPECIAL) continue;
        add_u32(out, (uint32_t)i);
        add_u32(out, i + 1 == t->document ? ROLE_DOCUMENT : 0);
    }
    for (int i = 0; i < t->n_vocab; i++) bytes_add(out, &(unsigned char){t->token[i].type | t->token[i].flags}, 1);
    for (int i = 0; i < t->n_vocab && t->score; i++) {
        uint32_t bits;
        memcpy(&bits, &t->score[i], 4);
        add_u32(out, bits);
    }
    bytes_add(out, t->regex, regex);
    for (int i = 0; i < t->n_vocab; i++) bytes_add(out, t->token[i].bytes, t->token[i].length);
}

/* Where each part of a section starts. */
struct layout {
    uint32_t kind, n_vocab, n_merges, n_special, pattern, flags, regex, area;
    const unsigned char *offsets, *merges, *specials, *types, *scores, *text;
};

/* TK1: the counts are in range and together are the section's size. */
static int read_head(struct layout *l, const unsigned char *data, size_t size, struct error *error)
{
    if (size < HEAD) return fail(error, EXIT_DATA, "tokenizer: %zu bytes, expected at least %d", size, HEAD);
    *l = (struct layout){.kind = load32(data), .n_vocab = load32(data + 4), .n_merges = load32(data + 8),
                         .n_special = load32(data + 12), .pattern = load32(data + 16), .flags = load32(data + 20),
                         .regex = load32(data + 24), .area = load32(data + 28)};
    if (l->kind != KIND_BYTES && l->kind != KIND_CHARACTERS)
        return fail(error, EXIT_DATA, "tokenizer: kind %u, this version knows 1 (of bytes) and 2 (of characters)", l->kind);
    unsigned known = l->kind == KIND_BYTES ? TOKENIZER_FLAGS_BYTES : TOKENIZER_FLAGS_CHARACTERS;
    if (l->flags & ~known)
        return fail(error, EXIT_DATA, "tokenizer: flags %#x, this version knows %#x", l->flags, known);
    bool scores = l->flags & TOKENIZER_SCORES;
    for (int i = 32; i < HEAD; i++)
        if (data[i]) return fail(error, EXIT_DATA, "tokenizer: byte %d of its head is %u, expected 0", i, data[i]);
    if (l->n_vocab < 256 || l->n_vocab > TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_DATA, "tokenizer: %u tokens, expected 256 to %d", l->n_vocab, TOKENIZER_VOCAB_MAX);
    if (l->n_merges > INT32_MAX || l->n_special > l->n_vocab || l->regex > REGEX_MAX ||
        (scores && l->n_merges > 0))
        return fail(error, EXIT_DATA,
                    "tokenizer: %u merges, %u special tokens and a pattern of %u bytes are not possible with "
                    "%u tokens", l->n_merges, l->n_special, l->regex, l->n_vocab);
    uint64_t want = HEAD + 4 * ((uint64_t)l->n_vocab + 1) + 12 * (uint64_t)l->n_merges + 8 * (uint64_t)l->n_special +
                    l->n_vocab + (scores ? 4 * (uint64_t)l->n_vocab : 0) + l->regex + l->area;
    if (want != size) return fail(error, EXIT_DATA, "tokenizer: its head means %llu bytes, found %zu",
                                  (unsigned long long)want, size);
    l->offsets = data + HEAD;
    l->merges = l->offsets + 4 * ((size_t)l->n_vocab + 1);
    l->specials = l->merges + 12 * (size_t)l->n_merges;
    l->types = l->specials + 8 * (size_t)l->n_special;
    l->scores = l->types + l->n_vocab;
    l->text = l->scores + (scores ? 4 * (size_t)l->n_vocab : 0);
    return 0;
}

/* TK2: token i is the bytes between offset i and i + 1; the first is 0, none falls, the last is the area's size. */
static int read_tokens(struct tokenizer *t, const struct layout *l, struct error *error)
{
    t->area = host_alloc((size_t)l->area + 1, 1);
    memcpy(t->area, l->text + l->regex, l->area);
    t->token = host_alloc(l->n_vocab, sizeof *t->token);
    t->n_vocab = (int)l->n_vocab;
    uint32_t from = load32(l->offsets);
    if (from) return fail(error, EXIT_DATA, "tokenizer: the first token starts at %u, expected 0", from);
    for (uint32_t i = 0; i < l->n_vocab; i++) {
        uint32_t to = load32(l->offsets + 4 * ((size_t)i + 1));
        if (to < from || to > l->area)
            return fail(error, EXIT_DATA, "tokenizer: token %u spans bytes %u to %u of %u", i, from, to, l->area);
        unsigned char type = l->types[i] & 15, flags = l->types[i] & 0xF0;
        bool added = type == TOKEN_SPECIAL || type == TOKEN_FOUND;
        if ((type != TOKEN_NORMAL && !added && type != TOKEN_UNUSED && type != TOKEN_BYTE) || (flags && !added))
            return fail(error, EXIT_DATA, "tokenizer: token %u has type %u, expected 1, 3, 4, 5 or 6", i, l->types[i]);
        t->token[i] = (struct token){t->area + from, to - from, type, flags};
        from = to;
    }
    if (from != l->area) return fail(error, EXIT_DATA, "tokenizer: its tokens end at byte %u of %u", from, l->area);
    return 0;
}

/* TK7: the table lists exactly the special tokens, ascending, so none twice; at most one separates documents. */
static int read_specials(struct tokenizer *t, const struct layout *l, struct error *error)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_vocab; i++) {
        if (t->token[i].type != TOKEN_SPECIAL) continue;
        if (n == l->n_special || load32(l->specials + 8 * (size_t)n) != i)
            return fail(error, EXIT_DATA,
                        "tokenizer: special token %u is not where it belongs in the table of special tokens", i);
        uint32_t role = load32(l->specials + 8 * (size_t)n + 4);
        if (role > ROLE_DOCUMENT)
            return fail(error, EXIT_DATA, "tokenizer: special token %u has role %u, this version knows 0 and 1", i, role);
        if (role && t->document)
            return fail(error, EXIT_DATA, "tokenizer: special tokens %d and %u both separate documents", t->document - 1, i);
        if (role) t->document = (int)i + 1;
        n++;
    }
    if (n != l->n_special) return fail(error, EXIT_DATA, "tokenizer: %u special tokens listed, %u found",
                                       l->n_special, n);
    return 0;
}

/* TK8: a pattern of the kind; one of its own only with number 255, and not one that has a number; no NUL, which would
 * cut it short. */
static int read_pattern(struct tokenizer *t, const struct layout *l, struct error *error)
{
    t->pattern = (enum pattern)l->pattern;
    t->flags = l->flags;
    if (by_characters(t) != (l->kind == KIND_CHARACTERS))
        return fail(error, EXIT_DATA, "tokenizer: pattern %u in a tokenizer of kind %u", l->pattern, l->kind);
    if ((t->pattern == PATTERN_CUSTOM) != (l->regex > 0))
        return fail(error, EXIT_DATA, "tokenizer: pattern %d with %u bytes of regular expression", (int)t->pattern,
                    l->regex);
    if (l->regex == 0 && l->flags & TOKENIZER_STAGES)
        return fail(error, EXIT_DATA, "tokenizer: stages without a pattern of its own");
    if (l->regex == 0) return 0;
    if (memchr(l->text, 0, l->regex)) return fail(error, EXIT_DATA, "tokenizer: its pattern has a zero byte");
    t->regex = host_text("%.*s", (int)l->regex, (const char *)l->text);
    if ((strpbrk(t->regex, STAGE_NEXT STAGE_SPELLED) != NULL) != ((t->flags & TOKENIZER_STAGES) != 0))
        return fail(error, EXIT_DATA, "tokenizer: its pattern and its flags do not agree on the number of stages");
    enum pattern same = pattern_of(t->regex);
    return same == PATTERN_CUSTOM ? 0 : fail(error, EXIT_DATA, "tokenizer: its pattern is %s, which has the number %d",
                                             pattern_name(same), (int)same);
}

int tokenizer_read(struct tokenizer **out, const void *data, size_t size, struct error *error)
{
    struct layout l = {0};
    if (read_head(&l, data, size, error)) return -1;
    struct tokenizer *t = host_alloc(1, sizeof *t);
    t->merge = host_alloc(l.n_merges, sizeof *t->merge);
    t->n_merges = (int)l.n_merges;
    for (size_t i = 0; i < l.n_merges; i++)
        t->merge[i] = (struct merge){load32(l.merges + 12 * i), load32(l.merges + 12 * i + 4),
                                     load32(l.merges + 12 * i + 8)};
    if (l.flags & TOKENIZER_SCORES) t->score = host_alloc(l.n_vocab, sizeof *t->score);
    for (size_t i = 0; t->score && i < l.n_vocab; i++) {
        uint32_t bits = load32(l.scores + 4 * i);
        memcpy(&t->score[i], &bits, 4);
    }
    if (read_tokens(t, &l, error) || read_specials(t, &l, error) || read_pattern(t, &l, error) ||
        tokenizer_finish(t, error)) {
        tokenizer_free(t);
        return -1;
    }
    *out = t;
    return 0;
}
