/* tokenizer.c - one tokenizer: its tokens, its checks, and ids -> text.
 *
 * Tokens are raw bytes; the printable spelling that GPT-2's files use exists only where files are imported.  All
 * look-ups are two open-addressed hash tables, at most half full: bytes -> id, and pair of ids -> rank. */
#define _GNU_SOURCE
#include "common/text/tokenizer_parts.h"

#include <stdlib.h>

void ids_add(struct ids *list, int id)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->id = host_grow(list->id, list->capacity, sizeof *list->id);
    }
    list->id[list->count++] = id;
}

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

static int found_order(const void *a, const void *b, void *tokens)
{
    const struct token *x = (struct token *)tokens + *(const int *)a, *y = (struct token *)tokens + *(const int *)b;
    int c = (unsigned char)x->bytes[0], d = (unsigned char)y->bytes[0];
    return c != d ? c - d : x->length != y->length ? (x->length < y->length ? 1 : -1) : 0;
}

/* The tokens that are looked for in text. */
static void index_found(struct tokenizer *t)
{
    t->n_found = 0;
    for (int id = 0; id < t->n_vocab; id++) {
        if (t->token[id].type != TOKEN_FOUND) continue;
        t->found = host_append(t->found, (size_t)t->n_found, 1, sizeof *t->found);
        t->found[t->n_found++] = id;
    }
    if (t->n_found) qsort_r(t->found, (size_t)t->n_found, sizeof *t->found, found_order, t->token);
    for (int b = 0, i = 0; b <= 256; b++) {
        t->found_from[b] = i;
        while (i < t->n_found && (unsigned char)t->token[t->found[i]].bytes[0] == b) i++;
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
    t->pair = host_alloc(size, sizeof *t->pair);
    t->pair_mask = size - 1;
    for (size_t i = 0; i < size; i++) t->pair[i] = (struct pair_slot){UINT64_MAX, UINT32_MAX};
    for (int rank = 0; rank < t->n_merges; rank++) {
        if (check_merge(t, rank, error)) return -1;
        const struct merge *m = &t->merge[rank];
        uint32_t other = pair_rank(t, m->left, m->right);
        if (other != UINT32_MAX)
            return fail(error, EXIT_DATA, "tokenizer: merges %u and %d are the same pair (%u, %u)", other, rank,
                        m->left, m->right);
        uint64_t key = (uint64_t)m->left << 32 | m->right;
        size_t i = hash_word(0, key) & t->pair_mask;
        while (t->pair[i].rank != UINT32_MAX) i = (i + 1) & t->pair_mask;
        t->pair[i] = (struct pair_slot){key, (uint32_t)rank};
    }
    return 0;
}

int tokenizer_finish(struct tokenizer *t, struct error *error)
{
    if (t->n_vocab < 256 || t->n_vocab > TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_DATA, "tokenizer: %d tokens, expected 256 to %d", t->n_vocab, TOKENIZER_VOCAB_MAX);
    if (index_tokens(t, error)) return -1;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        t->byte_id[i] = tokenizer_find(t, &byte, 1, false);
        if (t->byte_id[i] < 0) return fail(error, EXIT_DATA, "tokenizer: byte 0x%02X has no token of its own", i);
    }
    if (index_merges(t, error)) return -1;
    if (pthread_mutex_init(&t->pool.lock, NULL)) die("cannot make the tokenizer's lock");
    return splitter_open(&t->splitter, t->pattern, t->regex, error);
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    scratch_free(t->pool.idle);
    splitter_close(t->splitter);
    for (int i = 0; i < t->n_added; i++) free(t->added[i]);
    free(t->added);
    free(t->regex);
    free(t->token);
    free(t->merge);
    free(t->area);
    free(t->slot);
    free(t->found);
    free(t->pair);
    free(t);
}

enum pattern tokenizer_pattern(const struct tokenizer *t) { return t->pattern; }

int tokenizer_vocab(const struct tokenizer *t)
{
    return t->n_vocab;
}

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
    t->token[t->n_vocab] = (struct token){t->added[t->n_added - 1], (uint32_t)length, TOKEN_SPECIAL};
    t->n_vocab++;
    struct error error;
    if (index_tokens(t, &error)) die("%s", error.text);
    return t->n_vocab - 1;
}

const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *length)
{
    if (id < 0 || id >= t->n_vocab) die("token %d is outside the vocabulary of %d", id, t->n_vocab);
    *length = t->token[id].length;
    return t->token[id].bytes;
}

void tokenizer_decode(struct bytes *out, const struct tokenizer *t, const int *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *bytes = tokenizer_bytes(t, ids[i], &length);
        bytes_add(out, bytes, length);
    }
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
    tokenizer_decode(&b, t, ids, n);
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
