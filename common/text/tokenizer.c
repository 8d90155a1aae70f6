/* tokenizer.c - one tokenizer: its tokens, its checks, and ids -> text.
 *
 * Tokens are raw bytes; the printable spelling that GPT-2's files use exists only where files are imported.  All
 * look-ups are two open-addressed hash tables, at most half full: bytes -> id, and pair of ids -> rank. */
#define _GNU_SOURCE
#include "common/text/tokenizer_parts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

void ids_append(struct ids *list, const int *id, size_t n)
{
    if (n > list->capacity - list->count) {
        while (n > list->capacity - list->count) list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->id = host_grow(list->id, list->capacity, sizeof *list->id);
    }
    if (n > 0) memcpy(list->id + list->count, id, n * sizeof *id);
    list->count += n;
}

void ids_add(struct ids *list, int id) { ids_append(list, &id, 1); }

/* A power of two, at least twice n. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* The place in t->slot where these bytes are, or belong. */
static size_t find_slot(const struct tokenizer *t, const char *bytes, size_t length, bool special)
{
    size_t i = hash_word(hash_bytes(bytes, length), special) & t->slot_mask;
    for (; t->slot[i]; i = (i + 1) & t->slot_mask) {
        const struct token *k = &t->token[t->slot[i] - 1];
        if (k->length == length && (k->type != TOKEN_NORMAL) == special && memcmp(k->bytes, bytes, length) == 0) break;
    }
    return i;
}

int tokenizer_find(const struct tokenizer *t, const char *bytes, size_t length, bool special)
{
    return (int)t->slot[find_slot(t, bytes, length, special)] - 1;
}

static int found_order(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int c = (unsigned char)x->text[0], d = (unsigned char)y->text[0];
    return c != d ? c - d : x->length != y->length ? (x->length < y->length ? 1 : -1) : x->id - y->id;
}

static void free_found(struct tokenizer *t)
{
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < t->finder[k].count; i++) free(t->finder[k].found[i].text);
        free(t->finder[k].found);
        t->finder[k] = (struct finder){0};
    }
}

/* The tokens that are looked for in text, as they stand there: normalized ones in the form that text is brought into. */
static void index_found(struct tokenizer *t)
{
    free_found(t);
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        struct bytes text = {0};
        struct finder *f = &t->finder[(k->flags & TOKEN_NORMALIZED) != 0];
        if (k->type != TOKEN_FOUND) continue;
        if (f == &t->finder[1] && !(t->flags & TOKENIZER_SCORES)) text_normalise(&text, t, TEXT_START, k->bytes, k->length);
        else bytes_add(&text, k->bytes, k->length);
        f->found = host_append(f->found, (size_t)f->count, 1, sizeof *f->found);
        f->found[f->count++] = (struct found){text.data, text.size, id};
    }
    for (int k = 0; k < 2; k++) {
        struct finder *f = &t->finder[k];
        if (f->count) qsort(f->found, (size_t)f->count, sizeof *f->found, found_order);
        for (int b = 0, i = 0; b <= 256; b++) {
            f->from[b] = i;
            while (i < f->count && (unsigned char)f->found[i].text[0] == b) i++;
        }
    }
}

/* The index of all tokens; TK3, and the half of TK4 that says tokens are unique. */
static int index_tokens(struct tokenizer *t, struct error *error)
{
    free(t->slot);
    size_t size = table_size((size_t)t->n_vocab);
    t->slot = host_alloc(size, sizeof *t->slot);
    t->slot_mask = size - 1;
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        if (k->type == TOKEN_UNUSED) {
            if (k->length) return fail(error, EXIT_DATA, "tokenizer: token %d is unused but has %u bytes", id,
                                       k->length);
            continue;
        }
        if (k->type == TOKEN_BYTE) continue;
        if (k->length < 1 || k->length > TOKEN_BYTES_MAX)
            return fail(error, EXIT_DATA, "tokenizer: token %d has %u bytes, expected 1 to %d", id, k->length,
                        TOKEN_BYTES_MAX);
        size_t i = find_slot(t, k->bytes, k->length, k->type != TOKEN_NORMAL);
        if (t->slot[i])
            return fail(error, EXIT_DATA, "tokenizer: tokens %u and %d have the same bytes", t->slot[i] - 1, id);
        t->slot[i] = (uint32_t)id + 1;
    }
    index_found(t);
    return 0;
}

static int check_merge(const struct tokenizer *t, int rank, struct error *error)
{
    const struct merge *m = &t->merge[rank];
    uint32_t n = (uint32_t)t->n_vocab;
    if (m->left >= n || m->right >= n || m->result >= n)
        return fail(error, EXIT_DATA, "tokenizer: merge %d names token %u, %u or %u; ids end at %u", rank, m->left,
                    m->right, m->result, n);
    const struct token *a = &t->token[m->left], *b = &t->token[m->right], *c = &t->token[m->result];
    if (a->type != TOKEN_NORMAL || b->type != TOKEN_NORMAL || c->type != TOKEN_NORMAL)
        return fail(error, EXIT_DATA, "tokenizer: merge %d (%u, %u -> %u) uses a special or unused token", rank,
                    m->left, m->right, m->result);
    if (c->length != a->length + b->length || memcmp(c->bytes, a->bytes, a->length) != 0 ||
        memcmp(c->bytes + a->length, b->bytes, b->length) != 0)
        return fail(error, EXIT_DATA, "tokenizer: merge %d: token %u is not tokens %u and %u joined", rank, m->result,
                    m->left, m->right);
    return 0;
}

/* The table of merges; TK5 and TK6. */
static int index_merges(struct tokenizer *t, struct error *error)
{
    size_t size = table_size((size_t)t->n_merges);
    uint32_t rank = 0;
    t->pair = host_alloc(size, sizeof *t->pair);
    t->pair_mask = size - 1;
    for (size_t i = 0; i < size; i++) t->pair[i] = (struct pair_slot){UINT64_MAX, {UINT32_MAX, 0}};
    for (int i = 0; i < t->n_merges; i++) {
        const struct merge *m = &t->merge[i];
        if (check_merge(t, i, error)) return -1;
        uint32_t other = join_of(t, m->left, m->right).rank;
        if (other != UINT32_MAX)
            return fail(error, EXIT_DATA, "tokenizer: merges %u and %d are the same pair (%u, %u)", other, i,
                        m->left, m->right);
        bool equal = t->score && i > 0 && t->score[m[-1].result] == t->score[m->result];
        if (!equal) rank = (uint32_t)i;
        uint64_t key = (uint64_t)m->left << 32 | m->right;
        size_t at = hash_word(0, key) & t->pair_mask;
        while (t->pair[at].pair.rank != UINT32_MAX) at = (at + 1) & t->pair_mask;
        t->pair[at] = (struct pair_slot){key, {rank, m->result}};
    }
    return 0;
}

static int merge_order(const void *a, const void *b, void *scores)
{
    const struct merge *x = a, *y = b;
    const float *score = scores;
    if (score[x->result] != score[y->result]) return score[x->result] < score[y->result] ? 1 : -1;
    return x->result != y->result ? (x->result < y->result ? -1 : 1) : x->left < y->left ? -1 : 1;
}

/* With scores every two tokens that make a third have a merge: the better the third, the earlier.  TK9. */
static int merges_from_scores(struct tokenizer *t, struct error *error)
{
    free(t->merge);
    t->merge = NULL;
    t->n_merges = 0;
    size_t room = 0;
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        if (!isfinite(t->score[id])) return fail(error, EXIT_DATA, "tokenizer: the score of token %d is not finite", id);
        if (k->type != TOKEN_NORMAL) continue;
        if (k->length > SCORED_BYTES_MAX)
            return fail(error, EXIT_DATA, "tokenizer: token %d has %u bytes, expected at most %d where tokens have scores",
                        id, k->length, SCORED_BYTES_MAX);
        for (uint32_t i = 1; i < k->length; i++) {
            if ((k->bytes[i] & 0xC0) == 0x80) continue;
            int left = tokenizer_find(t, k->bytes, i, false), right = tokenizer_find(t, k->bytes + i, k->length - i, false);
            if (left < 0 || right < 0) continue;
            if (t->n_merges == INT32_MAX) return fail(error, EXIT_DATA, "tokenizer: too many merges follow from its scores");
            if ((size_t)t->n_merges == room)
                t->merge = host_grow(t->merge, room = room ? 2 * room : 4096, sizeof *t->merge);
            t->merge[t->n_merges++] = (struct merge){(uint32_t)left, (uint32_t)right, (uint32_t)id};
        }
    }
    if (t->n_merges) qsort_r(t->merge, (size_t)t->n_merges, sizeof *t->merge, merge_order, t->score);
    return 0;
}

/* TK4: every byte has a token, and only one. */
static int index_bytes(struct tokenizer *t, struct error *error)
{
    bool characters = by_characters(t);
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        t->byte_id[i] = characters ? -1 : tokenizer_find(t, &byte, 1, false);
    }
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        if (k->type != TOKEN_BYTE) continue;
        if (!characters || k->length != 1 || t->byte_id[(unsigned char)*k->bytes] >= 0)
            return fail(error, EXIT_DATA, "tokenizer: token %d of type byte is not the only one of one byte", id);
        t->byte_id[(unsigned char)*k->bytes] = id;
    }
    for (int i = 0; i < 256; i++)
        if (t->byte_id[i] < 0) return fail(error, EXIT_DATA, "tokenizer: byte 0x%02X has no token of its own", i);
    return 0;
}

int tokenizer_finish(struct tokenizer *t, struct error *error)
{
    if (t->n_vocab < 256 || t->n_vocab > TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_DATA, "tokenizer: %d tokens, expected 256 to %d", t->n_vocab, TOKENIZER_VOCAB_MAX);
    if (index_tokens(t, error) || index_bytes(t, error)) return -1;
    if (t->score && merges_from_scores(t, error)) return -1;
    if (index_merges(t, error)) return -1;
    if (pthread_mutex_init(&t->pool.lock, NULL)) die("cannot make the tokenizer's lock");
    if (!by_characters(t)) return splitter_open(&t->splitter, t->pattern, t->regex, error);
    splitter_open_joints(&t->splitter, t);
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    scratch_free(t->pool.idle);
    splitter_close(t->splitter);
    free_found(t);
    for (int i = 0; i < t->n_added; i++) free(t->added[i]);
    free(t->added);
    free(t->regex);
    free(t->token);
    free(t->merge);
    free(t->area);
    free(t->slot);
    free(t->score);
    free(t->pair);
    free(t);
}

enum pattern tokenizer_pattern(const struct tokenizer *t) { return t->pattern; }
int tokenizer_vocab(const struct tokenizer *t) { return t->n_vocab; }

uint32_t tokenizer_crc(const struct tokenizer *t, size_t *length)
{
    struct bytes b = {0};
    tokenizer_write(&b, t);
    uint32_t crc = crc32_of(0, b.data, b.size);
    *length = b.size;
    bytes_free(&b);
    return crc;
}

int tokenizer_special(const struct tokenizer *t, const char *text)
{
    int id = tokenizer_find(t, text, strlen(text), true);
    return tokenizer_is_special(t, id) ? id : -1;
}

bool tokenizer_is_special(const struct tokenizer *t, int id)
{
    return id >= 0 && id < t->n_vocab && t->token[id].type == TOKEN_SPECIAL;
}

int tokenizer_document(const struct tokenizer *t)
{
    return t->document ? t->document - 1 : tokenizer_special(t, "<|endoftext|>");
}

void tokenizer_set_document(struct tokenizer *t, int id)
{
    assert(tokenizer_is_special(t, id));
    t->document = id + 1;
}

int tokenizer_type(const struct tokenizer *t, int id)
{
    return id >= 0 && id < t->n_vocab ? t->token[id].type : TOKEN_UNUSED;
}

int tokenizer_add_special(struct tokenizer *t, const char *text)
{
    size_t length = strlen(text);
    int id = tokenizer_find(t, text, length, true);
    if (id >= 0) {                                    /* what marks a message is not found in what a user writes */
        t->token[id].type = TOKEN_SPECIAL;
        index_found(t);
        return id;
    }
    if (length < 1 || length > TOKEN_BYTES_MAX || t->n_vocab == TOKENIZER_VOCAB_MAX)
        die("a special token of %zu bytes cannot be added to a vocabulary of %d", length, t->n_vocab);
    t->added = host_grow(t->added, (size_t)t->n_added + 1, sizeof *t->added);
    t->added[t->n_added++] = host_text("%s", text);
    t->token = host_grow(t->token, (size_t)t->n_vocab + 1, sizeof *t->token);
    t->token[t->n_vocab] = (struct token){t->added[t->n_added - 1], (uint32_t)length, TOKEN_SPECIAL, 0};
    t->n_vocab++;
    struct error error;
    if (t->score) {
        t->score = host_grow(t->score, (size_t)t->n_vocab, sizeof *t->score);
        t->score[t->n_vocab - 1] = 0;
    }
    if (index_tokens(t, &error)) die("%s", error.text);
    return t->n_vocab - 1;
}

const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *length)
{
    if (id < 0 || id >= t->n_vocab) die("token %d is outside the vocabulary of %d", id, t->n_vocab);
    *length = t->token[id].length;
    return t->token[id].bytes;
}

/* *begun: some text stands before, so that a blank is one. */
static void decode(struct bytes *out, const struct tokenizer *t, const int *ids, size_t n, bool *begun)
{
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *bytes = tokenizer_bytes(t, ids[i], &length);
        bool prefix = t->flags & TOKENIZER_STRIP && !*begun && length && *bytes == ' ';
        bytes_add(out, bytes + prefix, length - prefix);
        *begun |= length > 0;
    }
}

void tokenizer_decode(struct bytes *out, const struct tokenizer *t, const int *ids, size_t n)
{
    bool begun = false;
    decode(out, t, ids, n, &begun);
}

/* Can these 1 to 3 bytes become a character when more follow?  If any continuation helps, all 0x80 or all 0xBF do. */
static bool may_become_character(const char *bytes, size_t length)
{
    for (int fill = 0x80; fill <= 0xBF; fill += 0x3F) {
        char try[4];
        memset(try, fill, sizeof try);
        memcpy(try, bytes, length);
        if (utf8_length(try, sizeof try) > (int)length) return true;
    }
    return false;
}

void tokenizer_stream(struct bytes *out, struct utf8_held *held, const struct tokenizer *t, const int *ids, size_t n)
{
    struct bytes b = {0};
    bytes_add(&b, held->byte, (size_t)held->count);
    decode(&b, t, ids, n, &held->begun);
    size_t at = 0;
    while (at < b.size) {
        size_t left = b.size - at, whole = (size_t)utf8_length(b.data + at, left);
        if (whole) bytes_add(out, b.data + at, whole);
        else if (n && left < 4 && may_become_character(b.data + at, left)) break;
        else bytes_add(out, "\xEF\xBF\xBD", 3);      /* U+FFFD */
        at += whole ? whole : 1;
    }
    held->count = (int)(b.size - at);
    memcpy(held->byte, b.data + at, b.size - at);
    bytes_free(&b);
}
