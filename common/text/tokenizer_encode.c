/* tokenizer_encode.c - text -> ids.
 *
 * Each piece is merged by itself: while any neighbours have a merge, the pair of lowest rank (leftmost when equal) is
 * joined.  Words repeat, so each scratch remembers short pieces; what is not remembered goes to a loop over an array
 * when short, and to a heap over a linked list when long, so that no text costs more than n log n.
 * A scratch belongs to one call at a time; finished calls leave theirs in the tokenizer's pool, with all it learnt. */
#include "common/text/nfc.h"
#include "common/text/tokenizer_parts.h"

#include <stdlib.h>

enum { CACHE_SLOTS = 8192, CACHE_BYTES = 23, CACHE_IDS = 9, SHORT_PIECE = 48 };

struct cached { char bytes[CACHE_BYTES]; unsigned char length, n; int id[CACHE_IDS]; };

/* One token of a long piece; neighbours by index, -1 at the ends; rank of the merge with the right neighbour. */
struct node { int id, left, right; uint32_t rank; };

struct scratch {
    struct scratch *next;
    struct split split;
    struct cached cache[CACHE_SLOTS];
    struct node *node;            /* [PIECE_MAX], when first needed */
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
        free(s->node);
        free(s->heap);
        free(s);
        s = next;
    }
}

/* Merges id[0..n) in place, n <= SHORT_PIECE; returns how many are left. */
static size_t merge_short(int *id, size_t n, const struct tokenizer *t)
{
    uint32_t rank[SHORT_PIECE];                /* of the merge of id[i] and id[i + 1] */
    for (size_t i = 0; i + 1 < n; i++) rank[i] = pair_rank(t, (uint32_t)id[i], (uint32_t)id[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == UINT32_MAX) break;
        id[best] = (int)t->merge[rank[best]].result;
        n--;
        memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
        memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
        if (best > 0) rank[best - 1] = pair_rank(t, (uint32_t)id[best - 1], (uint32_t)id[best]);
        if (best + 1 < n) rank[best] = pair_rank(t, (uint32_t)id[best], (uint32_t)id[best + 1]);
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
    k->rank = k->right < 0 ? UINT32_MAX : pair_rank(t, (uint32_t)k->id, (uint32_t)s->node[k->right].id);
    if (k->rank != UINT32_MAX) heap_push(s->heap, n_heap, (uint64_t)k->rank << 32 | (uint32_t)i);
}

/* As merge_short for any n <= PIECE_MAX, in n log n.  A heap entry counts only while its node still has that rank; each
 * merge takes one entry out and puts at most two in, so 2 n entries are room enough. */
static void merge_long(struct ids *out, const struct tokenizer *t, struct scratch *s, const char *piece, size_t length)
{
    if (!s->node) {
        s->node = host_alloc(PIECE_MAX, sizeof *s->node);
        s->heap = host_alloc(2 * PIECE_MAX, sizeof *s->heap);
    }
    int n = (int)length;
    for (int i = 0; i < n; i++)
        s->node[i] = (struct node){t->byte_id[(unsigned char)piece[i]], i - 1, i + 1 < n ? i + 1 : -1, UINT32_MAX};
    size_t n_heap = 0;
    for (int i = 0; i < n; i++) consider(s, &n_heap, t, i);
    while (n_heap) {
        uint64_t top = heap_pop(s->heap, &n_heap);
        int i = (int)(uint32_t)top;
        struct node *k = &s->node[i];
        if (k->rank != (uint32_t)(top >> 32)) continue;
        struct node *gone = &s->node[k->right];
        k->id = (int)t->merge[k->rank].result;
        k->right = gone->right;
        gone->rank = UINT32_MAX;
        if (k->right >= 0) s->node[k->right].left = i;
        consider(s, &n_heap, t, i);
        if (k->left >= 0) consider(s, &n_heap, t, k->left);
    }
    for (int i = 0; i >= 0; i = s->node[i].right) ids_add(out, s->node[i].id);
}

static void encode_piece(struct ids *out, const struct tokenizer *t, struct scratch *s, const char *piece,
                         size_t length)
{
    if (t->flags & TOKENIZER_IGNORE_MERGES) {
        int id = tokenizer_find(t, piece, length, false);
        if (id >= 0) { ids_add(out, id); return; }
    }
    if (length > SHORT_PIECE) {
        merge_long(out, t, s, piece, length);
        return;
    }
    int id[SHORT_PIECE];
    for (size_t i = 0; i < length; i++) id[i] = t->byte_id[(unsigned char)piece[i]];
    size_t n = merge_short(id, length, t);
    for (size_t i = 0; i < n; i++) ids_add(out, id[i]);
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
            for (int i = 0; i < c->n; i++) ids_add(out, c->id[i]);
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

/* The first place at or after `at` where a token to be found stands, the longest there is in *id; or the end. */
static size_t find_token(int *id, const struct tokenizer *t, const char *text, size_t length, size_t at)
{
    for (; t->n_found && at < length; at++) {
        int b = (unsigned char)text[at];
        for (int i = t->found_from[b]; i < t->found_from[b + 1]; i++) {
            const struct token *k = &t->token[t->found[i]];
            if (k->length > length - at || memcmp(k->bytes, text + at, k->length) != 0) continue;
            *id = t->found[i];
            return at;
        }
    }
    return length;
}

void tokenizer_encode(struct ids *out, const struct tokenizer *t, const char *text, size_t length)
{
    struct scratch *s = scratch_take(t);
    struct bytes normal = {0};
    for (size_t at = 0, end; at < length; at = end) {
        int id = -1;
        end = find_token(&id, t, text, length, at);
        if (!(t->flags & TOKENIZER_NFC) || nfc_plain(text + at, end - at)) encode_text(out, t, s, text + at, end - at);
        else {
            normal.size = 0;
            nfc(&normal, text + at, end - at);
            encode_text(out, t, s, normal.data, normal.size);
        }
        if (id < 0) break;
        ids_add(out, id);
        end += t->token[id].length;
    }
    bytes_free(&normal);
    scratch_give(t, s);
}
