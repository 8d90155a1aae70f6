/* tokenizer_encode.c - text -> ids.
 *
 * Each piece is merged by itself: while any neighbours have a merge, the pair of lowest rank (leftmost when equal) is
 * joined.  Words repeat, so each scratch remembers short pieces; what is not remembered goes to a loop over an array
 * when short, and to a heap over a linked list when long, so that no text costs more than n log n.
 * A scratch belongs to one call at a time; finished calls leave theirs in the tokenizer's pool, with all it learnt. */
#include "common/text/nfc.h"
#include "common/text/tokenizer_parts.h"
#include "common/text/tokenizer_unicode.h"

#include <stdlib.h>

enum { CACHE_SLOTS = 8192, CACHE_BYTES = 23, CACHE_IDS = 9, SHORT_PIECE = 48 };

struct cached { char bytes[CACHE_BYTES]; unsigned char length, n; int id[CACHE_IDS]; };

/* One token of a long piece; neighbours by index, -1 at the ends; rank of the merge with the right neighbour. */
struct node { int id, left, right; struct join join; };

struct scratch {
    struct scratch *next;
    struct split split;
    struct cached cache[CACHE_SLOTS];
    int *first;                   /* [PIECE_MAX], when first needed, as the next two: the ids that merging begins with */
    struct node *node;            /* [PIECE_MAX] */
    uint64_t *heap;               /* [2 * PIECE_MAX] of rank << 32 | index */
};

static struct scratch *scratch_take(const struct tokenizer *t)
{
    struct pool *pool = (struct pool *)&t->pool;      /* the one part of a tokenizer that is not constant */
    pthread_mutex_lock(&pool->lock);
    struct scratch *s = pool->idle;
    if (s) pool->idle = s->next;
    pthread_mutex_unlock(&pool->lock);
    if (s) return s;
    s = host_alloc(1, sizeof *s);
    split_open(&s->split, t->splitter);
    return s;
}

static void scratch_give(const struct tokenizer *t, struct scratch *s)
{
    struct pool *pool = (struct pool *)&t->pool;
    pthread_mutex_lock(&pool->lock);
    s->next = pool->idle;
    pool->idle = s;
    pthread_mutex_unlock(&pool->lock);
}

void scratch_free(struct scratch *s)
{
    while (s) {
        struct scratch *next = s->next;
        split_close(&s->split);
        free(s->first);
        free(s->node);
        free(s->heap);
        free(s);
        s = next;
    }
}

/* Merges id[0..n) in place, n <= SHORT_PIECE; returns how many are left. */
static size_t merge_short(int *id, size_t n, const struct tokenizer *t)
{
    struct join pair[SHORT_PIECE];             /* of id[i] and id[i + 1] */
    for (size_t i = 0; i + 1 < n; i++) pair[i] = join_of(t, (uint32_t)id[i], (uint32_t)id[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pair[i].rank < pair[best].rank) best = i;
        if (pair[best].rank == UINT32_MAX) break;
        id[best] = (int)pair[best].result;
        n--;
        memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
        memmove(pair + best, pair + best + 1, (n - best - 1) * sizeof *pair);
        if (best > 0) pair[best - 1] = join_of(t, (uint32_t)id[best - 1], (uint32_t)id[best]);
        if (best + 1 < n) pair[best] = join_of(t, (uint32_t)id[best], (uint32_t)id[best + 1]);
    }
    return n;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t key)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* Looks up the merge of node i with its right neighbour and puts it into the heap. */
static void consider(struct scratch *s, size_t *n_heap, const struct tokenizer *t, int i)
{
    struct node *k = &s->node[i];
    k->join = k->right < 0 ? (struct join){UINT32_MAX, 0} : join_of(t, (uint32_t)k->id, (uint32_t)s->node[k->right].id);
    if (k->join.rank != UINT32_MAX) heap_push(s->heap, n_heap, (uint64_t)k->join.rank << 32 | (uint32_t)i);
}

/* As merge_short for the n <= PIECE_MAX ids of s->first, in n log n.  A heap entry counts only while its node still has
 * that rank; each merge takes one entry out and puts at most two in, so 2 n entries are room enough. */
static void merge_long(struct ids *out, const struct tokenizer *t, struct scratch *s, int n)
{
    for (int i = 0; i < n; i++)
        s->node[i] = (struct node){s->first[i], i - 1, i + 1 < n ? i + 1 : -1, {UINT32_MAX, 0}};
    size_t n_heap = 0;
    for (int i = 0; i < n; i++) consider(s, &n_heap, t, i);
    while (n_heap) {
        uint64_t top = heap_pop(s->heap, &n_heap);
        int i = (int)(uint32_t)top;
        struct node *k = &s->node[i];
        if (k->join.rank != (uint32_t)(top >> 32)) continue;
        struct node *gone = &s->node[k->right];
        k->id = (int)k->join.result;
        k->right = gone->right;
        gone->join.rank = UINT32_MAX;
        if (k->right >= 0) s->node[k->right].left = i;
        consider(s, &n_heap, t, i);
        if (k->left >= 0) consider(s, &n_heap, t, k->left);
    }
    for (int i = 0; i >= 0; i = s->node[i].right) ids_add(out, s->node[i].id);
}

/* What merging begins with: bytes, or characters, and bytes for those without a token. */
static size_t first_ids(int *id, const struct tokenizer *t, const char *piece, size_t length)
{
    size_t n = 0;
    for (size_t i = 0, size = 1; i < length; i += size) {
        int whole = -1;
        size = 1;
        if (by_characters(t)) {
            int c = utf8_length(piece + i, length - i);
            size = c ? (size_t)c : 1;
            whole = tokenizer_find(t, piece + i, size, false);
        }
        if (whole >= 0) id[n++] = whole;
        else
            for (size_t k = 0; k < size; k++) id[n++] = t->byte_id[(unsigned char)piece[i + k]];
    }
    return n;
}

static void encode_piece(struct ids *out, const struct tokenizer *t, struct scratch *s, const char *piece,
                         size_t length)
{
    if (t->flags & TOKENIZER_IGNORE_MERGES) {
        int id = tokenizer_find(t, piece, length, false);
        if (id >= 0) { ids_add(out, id); return; }
    }
    if (length > SHORT_PIECE) {
        if (!s->node) {
            s->first = host_alloc(PIECE_MAX, sizeof *s->first);
            s->node = host_alloc(PIECE_MAX, sizeof *s->node);
            s->heap = host_alloc(2 * PIECE_MAX, sizeof *s->heap);
        }
        merge_long(out, t, s, (int)first_ids(s->first, t, piece, length));
        return;
    }
    int id[SHORT_PIECE];
    size_t n = merge_short(id, first_ids(id, t, piece, length), t);
    ids_append(out, id, n);
}

/* Text without tokens to be found in it. */
static void encode_text(struct ids *out, const struct tokenizer *t, struct scratch *s, const char *text, size_t length)
{
    const char *piece;
    size_t n;
    split_start(&s->split, text, length);
    while (split_next(&s->split, &piece, &n)) {
        struct cached *c = &s->cache[hash_bytes(piece, n < CACHE_BYTES ? n : CACHE_BYTES) % CACHE_SLOTS];
        if (c->length == n && memcmp(c->bytes, piece, n) == 0) {
            ids_append(out, c->id, c->n);
            continue;
        }
        size_t before = out->count;
        encode_piece(out, t, s, piece, n);
        if (n > CACHE_BYTES || out->count - before > CACHE_IDS) continue;
        memcpy(c->bytes, piece, n);
        c->length = (unsigned char)n;
        c->n = (unsigned char)(out->count - before);
        memcpy(c->id, out->id + before, c->n * sizeof *c->id);
    }
    split_check(&s->split);
}

/* ---- added tokens ---- */

/* Bytes of the first or last character of a text; 0 when it is none. */
static size_t character_at(const char *text, size_t length, bool end)
{
    size_t n = end && length ? 1 : 0;
    if (!end) return (size_t)utf8_length(text, length);
    while (n && n < 4 && n < length && (text[length - n] & 0xC0) == 0x80) n++;
    return (size_t)utf8_length(text + length - n, n) == n ? n : 0;
}

/* The same when it is white space; else 0. */
static size_t space_at(const char *text, size_t length, bool end)
{
    size_t n = character_at(text, length, end);
    return n && unicode_is_space(end ? text + length - n : text, n) ? n : 0;
}

static bool in_word(const char *text, size_t length, size_t start, size_t stop)
{
    size_t before = character_at(text, start, true), behind = character_at(text + stop, length - stop, false);
    return (before && unicode_is_word(text + start - before, before)) || (behind && unicode_is_word(text + stop, behind));
}

/* The next token that stands in text at or after *scan, the longest of the leftmost: it takes [*start, *stop), which is
 * more than its text where it takes the blanks around it, but nothing before `done`.  Its id, or -1. */
static int find_token(size_t *start, size_t *stop, size_t *scan, const struct tokenizer *t, const struct finder *f,
                      const char *text, size_t length, size_t done)
{
    for (size_t at = *scan; f->count && at < length; at++) {
        int b = (unsigned char)text[at], i = f->from[b];
        while (i < f->from[b + 1] && (f->found[i].length > length - at ||
                                      memcmp(f->found[i].text, text + at, f->found[i].length) != 0)) i++;
        if (i == f->from[b + 1]) continue;
        unsigned char flags = t->token[f->found[i].id].flags;
        size_t n;
        *start = at;
        *scan = *stop = at + f->found[i].length;
        if (flags & TOKEN_WORD && in_word(text, length, at, *stop)) {
            at = *stop - 1;
            continue;
        }
        while (flags & TOKEN_LSTRIP && *start > done && (n = space_at(text + done, *start - done, true))) *start -= n;
        while (flags & TOKEN_RSTRIP && (n = space_at(text + *stop, length - *stop, false))) *stop += n;
        return f->found[i].id;
    }
    return -1;
}

/* ---- text ---- */

/* Does a blank come before a text that stands there? */
static bool prefixed(const struct tokenizer *t, enum text_place place)
{
    return place == TEXT_START ? t->flags & TOKENIZER_PREFIX : place == TEXT_SECTION && t->flags & TOKENIZER_SECTIONS;
}

void text_unmark(struct bytes *text, size_t from)
{
    size_t to = from;
    for (size_t i = from; i < text->size; to++) {
        bool blank = i + 3 <= text->size && memcmp(text->data + i, TEXT_MARK, 3) == 0;
        text->data[to] = blank ? ' ' : text->data[i];
        i += blank ? 3 : 1;
    }
    text->size = to;
}

void text_normalise(struct bytes *out, const struct tokenizer *t, enum text_place place, const char *text,
                    size_t length)
{
    bool later = t->flags & TOKENIZER_UNLESS_BLANK;                    /* encode_leaf does it */
    if (prefixed(t, place) && !later && length) bytes_add(out, " ", 1);
    size_t from = out->size;
    if (t->flags & (TOKENIZER_NFC | TOKENIZER_NFKC)) nfc(out, t->flags & TOKENIZER_NFKC, text, length);
    else bytes_add(out, text, length);
    if (by_characters(t) && !later) text_unmark(out, from);
}

/* What lies between tokens that were found in the normalised text. */
static void encode_leaf(struct ids *out, const struct tokenizer *t, struct scratch *s, enum text_place place,
                        const char *text, size_t length)
{
    struct bytes own = {0};
    if (t->flags & TOKENIZER_UNLESS_BLANK) {
        bool blank = *text == ' ' || (length >= 3 && memcmp(text, TEXT_MARK, 3) == 0);
        if (!blank && prefixed(t, place)) bytes_add(&own, " ", 1);
        bytes_add(&own, text, length);
        text_unmark(&own, 0);
        text = own.data;
        length = own.size;
    }
    encode_text(out, t, s, text, length);
    bytes_free(&own);
}

/* A stretch of text; stage 0: as it is given, stage 1: normalised. */
static void encode_stage(struct ids *out, const struct tokenizer *t, struct scratch *s, int stage, enum text_place place,
                         const char *text, size_t length)
{
    size_t scan = 0, done = 0, start, stop;
    int id;
    struct bytes normal = {0};
    do {
        id = find_token(&start, &stop, &scan, t, &t->finder[stage], text, length, done);
        if (id < 0) start = stop = length;
        size_t n = start > done ? start - done : 0;
        enum text_place here = done > 0 ? TEXT_SECTION : place;
        if (n && stage == 1) encode_leaf(out, t, s, here, text + done, n);
        else if (n && !(t->flags & (TOKENIZER_NFC | TOKENIZER_NFKC)) && !by_characters(t) && !t->finder[1].count)
            encode_text(out, t, s, text + done, n);
        else if (n) {
            normal.size = 0;
            text_normalise(&normal, t, here, text + done, n);
            encode_stage(out, t, s, 1, here, normal.data, normal.size);
        }
        if (id >= 0) ids_add(out, id);
        done = stop;
    } while (id >= 0);
    bytes_free(&normal);
}

void tokenizer_encode_at(struct ids *out, const struct tokenizer *t, enum text_place place, const char *text,
                         size_t length)
{
    struct scratch *s = scratch_take(t);
    encode_stage(out, t, s, 0, place, text, length);
    scratch_give(t, s);
}

void tokenizer_encode(struct ids *out, const struct tokenizer *t, const char *text, size_t length)
{
    tokenizer_encode_at(out, t, TEXT_START, text, length);
}
