/* tokenizer_train.c - learns the merges.
 *
 * 1. Text is split into pieces and equal pieces are counted, in blocks, on all threads.  From here on a piece
 *    stands for all its copies, so memory follows the number of distinct pieces.
 * 2. Each distinct piece is a linked list of tokens in one array.  Every pair of neighbours has its count and the
 *    places where it was seen; a heap gives the pair with the highest count.
 * 3. A merge visits the places of its pair only and corrects the counts of the neighbours it breaks and makes.  A visit
 *    that finds its pair leaves one token fewer, so all merges together cost about as much as the text of all distinct
 *    pieces, whatever the text is.
 * A count is of neighbouring positions: "aaa" holds the pair (a, a) twice, and merges from the left into (aa, a).
 * Counts are sums and ties are broken by bytes, so neither the order of work nor the number of threads shows. */
#include "common/text/tokenizer_parts.h"
#include "common/base/signals.h"
#include "common/base/threads.h"

#include <assert.h>
#include <stdlib.h>

enum { BLOCK = 256 << 10, BATCH = 16 << 20, PROGRESS_EVERY = 256 };
static const uint32_t NOBODY = UINT32_MAX;

/* A set of distinct byte strings, numbered in order of arrival, each with a count. */
struct word { size_t start; uint32_t length; uint32_t hash; int64_t count; };
struct words { struct bytes text; struct word *piece; size_t n; uint32_t *slot; size_t mask; };

static void words_rehash(struct words *p)
{
    size_t size = p->slot ? 2 * (p->mask + 1) : 1024;
    free(p->slot);
    p->slot = host_alloc(size, sizeof *p->slot);
    p->mask = size - 1;
    for (size_t k = 0; k < p->n; k++) {
        size_t i = p->piece[k].hash & p->mask;
        while (p->slot[i]) i = (i + 1) & p->mask;
        p->slot[i] = (uint32_t)k + 1;
    }
}

/* Adds count to these bytes' count and returns their number. */
static uint32_t words_add(struct words *p, const char *bytes, size_t length, int64_t count)
{
    if (!p->slot || 2 * p->n > p->mask) words_rehash(p);
    uint32_t hash = (uint32_t)hash_bytes(bytes, length);
    size_t i = hash & p->mask;
    for (; p->slot[i]; i = (i + 1) & p->mask) {
        struct word *k = &p->piece[p->slot[i] - 1];
        if (k->hash != hash || k->length != length || memcmp(p->text.data + k->start, bytes, length) != 0) continue;
        k->count += count;
        return p->slot[i] - 1;
    }
    if (p->n == NOBODY - 1) die("more than %u different words to train a tokenizer on", NOBODY - 1);
    p->piece = host_append(p->piece, p->n, 1, sizeof *p->piece);
    p->piece[p->n] = (struct word){p->text.size, (uint32_t)length, hash, count};
    bytes_add(&p->text, bytes, length);
    p->slot[i] = (uint32_t)++p->n;
    return p->slot[i] - 1;
}

static void words_free(struct words *p)
{
    bytes_free(&p->text);
    free(p->piece);
    free(p->slot);
}

/* Counting: blocks of text wait in a batch until it is full, then all threads count them. */
struct span { size_t start, length; };
struct counting {
    const struct splitter *splitter;
    struct bytes batch;
    struct span *span;               /* a whole document or a part of one */
    size_t n_spans;
    struct split *split;             /* [threads] */
    struct words *pieces;            /* [threads] */
};

static void count_span(void *context, int i, int thread)
{
    struct counting *c = context;
    const char *piece;
    size_t length;
    split_start(&c->split[thread], c->batch.data + c->span[i].start, c->span[i].length);
    while (split_next(&c->split[thread], &piece, &length)) words_add(&c->pieces[thread], piece, length, 1);
    split_check(&c->split[thread]);
}

static void batch_count(struct counting *c)
{
    threads_for((int)c->n_spans, count_span, c);
    c->batch.size = c->n_spans = 0;
}

/* Where to cut a long document: after a line end with no blank on either side, where every known pattern has a border
 * anyway; else between any two characters. */
static size_t cut_length(const char *text, size_t length)
{
    if (length <= BLOCK) return length;
    for (size_t i = BLOCK; i > BLOCK / 2; i--)
        if (text[i - 1] == '\n' && (unsigned char)text[i] > ' ' && (unsigned char)text[i - 2] > ' ') return i;
    size_t i = BLOCK;
    while (i > BLOCK - 3 && (text[i] & 0xC0) == 0x80) i--;
    return i;
}

static void batch_add(struct counting *c, const char *text, size_t length)
{
    while (length) {
        size_t n = cut_length(text, length);
        c->span = host_append(c->span, c->n_spans, 1, sizeof *c->span);
        c->span[c->n_spans++] = (struct span){c->batch.size, n};
        bytes_add(&c->batch, text, n);
        text += n;
        length -= n;
        if (c->batch.size >= BATCH) batch_count(c);
    }
}

/* All distinct pieces of all documents, with their counts. */
static void count_words(struct words *out, const struct splitter *splitter,
                         bool (*next)(void *self, const char **text, size_t *length), void *self)
{
    int threads = threads_count();
    struct counting c = {.splitter = splitter, .split = host_alloc((size_t)threads, sizeof *c.split),
                         .pieces = host_alloc((size_t)threads, sizeof *c.pieces)};
    for (int i = 0; i < threads; i++) split_open(&c.split[i], splitter);
    const char *text;
    size_t length;
    while (next(self, &text, &length)) batch_add(&c, text, length);
    batch_count(&c);
    for (int i = 0; i < threads; i++) {
        struct words *p = &c.pieces[i];
        for (size_t k = 0; i > 0 && k < p->n; k++)
            words_add(&c.pieces[0], p->text.data + p->piece[k].start, p->piece[k].length, p->piece[k].count);
        split_close(&c.split[i]);
        if (i > 0) words_free(p);
    }
    *out = c.pieces[0];
    bytes_free(&c.batch);
    free(c.span);
    free(c.split);
    free(c.pieces);
}

/* Learning. */
struct spot { uint32_t id, left, right, piece; };          /* a token of a distinct piece; neighbours or NOBODY */
struct pair {
    uint32_t left, right;
    int64_t count;
    uint32_t *at, n_at;                /* the spots where left stood when the pair appeared; it may be gone since */
    int touched;                       /* the last round that made it appear */
};
struct candidate { int64_t count; uint32_t pair; };

struct learning {
    struct words tokens;              /* a token's id is its number here */
    const struct word *piece;
    struct spot *spot;
    size_t n_spots;
    struct pair *pair;
    size_t n_pairs;
    uint32_t *slot;                    /* hash table of pairs */
    size_t mask;
    struct candidate *heap;            /* every pair is in it with at least its present count */
    size_t n_heap;
    uint32_t *touched;                 /* pairs the present merge made appear */
    size_t n_touched;
    int round;                         /* number of the present merge, from 1 */
    struct merge *merge;
    int n_merges;
};

static void pairs_rehash(struct learning *l)
{
    size_t size = l->slot ? 2 * (l->mask + 1) : 1024;
    free(l->slot);
    l->slot = host_alloc(size, sizeof *l->slot);
    l->mask = size - 1;
    for (size_t k = 0; k < l->n_pairs; k++) {
        size_t i = hash_word(0, (uint64_t)l->pair[k].left << 32 | l->pair[k].right) & l->mask;
        while (l->slot[i]) i = (i + 1) & l->mask;
        l->slot[i] = (uint32_t)k + 1;
    }
}

/* The number of a pair, new with count 0 when it was never seen. */
static uint32_t pair_number(struct learning *l, uint32_t left, uint32_t right)
{
    if (!l->slot || 2 * l->n_pairs > l->mask) pairs_rehash(l);
    size_t i = hash_word(0, (uint64_t)left << 32 | right) & l->mask;
    for (; l->slot[i]; i = (i + 1) & l->mask) {
        const struct pair *p = &l->pair[l->slot[i] - 1];
        if (p->left == left && p->right == right) return l->slot[i] - 1;
    }
    l->pair = host_append(l->pair, l->n_pairs, 1, sizeof *l->pair);
    l->pair[l->n_pairs] = (struct pair){.left = left, .right = right};
    l->slot[i] = (uint32_t)++l->n_pairs;
    return l->slot[i] - 1;
}

/* The pair of spot `at` and the one to its right appears. */
static void pair_appears(struct learning *l, uint32_t at)
{
    const struct spot *s = &l->spot[at];
    uint32_t number = pair_number(l, s->id, l->spot[s->right].id);
    struct pair *p = &l->pair[number];
    p->at = host_append(p->at, p->n_at, 1, sizeof *p->at);
    p->at[p->n_at++] = at;
    p->count += l->piece[s->piece].count;
    if (p->touched == l->round) return;
    p->touched = l->round;
    l->touched = host_append(l->touched, l->n_touched, 1, sizeof *l->touched);
    l->touched[l->n_touched++] = number;
}

static void pair_vanishes(struct learning *l, uint32_t at)
{
    const struct spot *s = &l->spot[at];
    l->pair[pair_number(l, s->id, l->spot[s->right].id)].count -= l->piece[s->piece].count;
}

static int compare_tokens(const struct learning *l, uint32_t x, uint32_t y)
{
    const struct word *a = &l->tokens.piece[x], *b = &l->tokens.piece[y];
    int order = memcmp(l->tokens.text.data + a->start, l->tokens.text.data + b->start,
                       a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* The tie rule of tokenizer.h. */
static bool goes_before(const struct learning *l, struct candidate x, struct candidate y)
{
    if (x.count != y.count) return x.count > y.count;
    const struct pair *a = &l->pair[x.pair], *b = &l->pair[y.pair];
    int order = a->left == b->left ? 0 : compare_tokens(l, a->left, b->left);
    return (order ? order : compare_tokens(l, a->right, b->right)) < 0;
}

static void heap_push(struct learning *l, uint32_t pair)
{
    l->heap = host_append(l->heap, l->n_heap, 1, sizeof *l->heap);
    struct candidate new = {l->pair[pair].count, pair};
    size_t i = l->n_heap++;
    for (; i > 0 && goes_before(l, new, l->heap[(i - 1) / 2]); i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = new;
}

static struct candidate heap_pop(struct learning *l)
{
    struct candidate top = l->heap[0], last = l->heap[--l->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < l->n_heap; i = child) {
        if (child + 1 < l->n_heap && goes_before(l, l->heap[child + 1], l->heap[child])) child++;
        if (!goes_before(l, l->heap[child], last)) break;
        l->heap[i] = l->heap[child];
    }
    l->heap[i] = last;
    return top;
}

/* Pairs that appeared go into the heap with their count; those that shrank since wait until they are met. */
static void push_touched(struct learning *l)
{
    for (size_t i = 0; i < l->n_touched; i++) heap_push(l, l->touched[i]);
    l->n_touched = 0;
    l->round++;
}

static void lay_out(struct learning *l, const struct words *pieces)
{
    if (pieces->text.size >= NOBODY) die("more than 4 GB of different words to train a tokenizer on");
    l->piece = pieces->piece;
    l->n_spots = pieces->text.size;
    l->spot = host_alloc(l->n_spots, sizeof *l->spot);
    for (size_t k = 0; k < pieces->n; k++) {
        uint32_t start = (uint32_t)pieces->piece[k].start, n = pieces->piece[k].length;
        for (uint32_t i = 0; i < n; i++)
            l->spot[start + i] = (struct spot){(unsigned char)pieces->text.data[start + i], i ? start + i - 1 : NOBODY,
                                               i + 1 < n ? start + i + 1 : NOBODY, (uint32_t)k};
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        words_add(&l->tokens, &byte, 1, 0);
    }
    l->round = 1;
    for (size_t i = 0; i < l->n_spots; i++)
        if (l->spot[i].right != NOBODY) pair_appears(l, (uint32_t)i);
    push_touched(l);
}

/* Gives spot `at` and its right neighbour, which are the pair being merged, to the token `id`. */
static void merge_spot(struct learning *l, uint32_t at, uint32_t id)
{
    struct spot *s = &l->spot[at], *gone = &l->spot[s->right];
    if (s->left != NOBODY) pair_vanishes(l, s->left);
    if (gone->right != NOBODY) pair_vanishes(l, s->right);
    pair_vanishes(l, at);
    s->id = id;
    s->right = gone->right;
    gone->id = NOBODY;                 /* so that a remembered place in the middle of a token fits no pair */
    if (s->right != NOBODY) l->spot[s->right].left = at;
    if (s->left != NOBODY) pair_appears(l, s->left);
    if (s->right != NOBODY) pair_appears(l, at);
}

/* A new token: `left` and `right` joined.  No other merge makes the same bytes: how the bytes of a future token are
 * divided depends on earlier merges alone and not on what stands around them, as long as no merge crosses their border,
 * and a merge that does ends them.  For the same reason a pair never appears again after its round. */
static uint32_t joined_token(struct learning *l, uint32_t left, uint32_t right)
{
    struct bytes joined = {0};
    const struct word *a = &l->tokens.piece[left], *b = &l->tokens.piece[right];
    bytes_add(&joined, l->tokens.text.data + a->start, a->length);
    bytes_add(&joined, l->tokens.text.data + b->start, b->length);
    uint32_t before = (uint32_t)l->tokens.n, id = words_add(&l->tokens, joined.data, joined.size, 0);
    assert(id == before);
    bytes_free(&joined);
    return id;
}

/* The places of a pair were noted in one sweep from left to right, so overlapping ones are merged from the left. */
static void merge_pair(struct learning *l, uint32_t number)
{
    struct pair p = l->pair[number];
    l->pair[number].at = NULL;
    uint32_t id = joined_token(l, p.left, p.right);
    l->merge = host_append(l->merge, (size_t)l->n_merges, 1, sizeof *l->merge);
    l->merge[l->n_merges++] = (struct merge){p.left, p.right, id};
    for (uint32_t i = 0; i < p.n_at; i++) {
        const struct spot *s = &l->spot[p.at[i]];
        if (s->id == p.left && s->right != NOBODY && l->spot[s->right].id == p.right) merge_spot(l, p.at[i], id);
    }
    free(p.at);
    push_touched(l);
}

static void learn(struct learning *l, int wanted, void *self, void (*progress)(void *self, int merges, int wanted))
{
    while (l->n_heap && l->n_merges < wanted && !signals_stop()) {
        struct candidate top = heap_pop(l);
        int64_t now = l->pair[top.pair].count;
        if (now < 2) continue;
        if (now < top.count) {
            heap_push(l, top.pair);
            continue;
        }
        merge_pair(l, top.pair);
        if (progress && l->n_merges % PROGRESS_EVERY == 0) progress(self, l->n_merges, wanted);
    }
    if (progress) progress(self, l->n_merges, wanted);
}

/* The tokenizer of what was learnt. */
static struct tokenizer *put_together(struct learning *l, const struct tokenizer_training *how, struct error *error)
{
    struct tokenizer *t = host_alloc(1, sizeof *t);
    t->pattern = how->pattern;
    t->merge = l->merge;
    t->n_merges = l->n_merges;
    struct bytes area = {0};
    bytes_add(&area, l->tokens.text.data, l->tokens.text.size);
    for (int i = 0; i < how->n_special; i++) bytes_add(&area, how->special[i], strlen(how->special[i]));
    t->area = area.data;
    t->n_vocab = (int)l->tokens.n + how->n_special;
    t->token = host_alloc((size_t)t->n_vocab, sizeof *t->token);
    for (size_t i = 0; i < l->tokens.n; i++)
        t->token[i] = (struct token){t->area + l->tokens.piece[i].start, l->tokens.piece[i].length, TOKEN_NORMAL};
    const char *at = t->area + l->tokens.text.size;
    for (int i = 0; i < how->n_special; i++) {
        uint32_t length = (uint32_t)strlen(how->special[i]);
        t->token[l->tokens.n + (size_t)i] = (struct token){at, length, TOKEN_SPECIAL};
        at += length;
    }
    if (tokenizer_finish(t, error) == 0) return t;
    tokenizer_free(t);
    return NULL;
}

int tokenizer_train(struct tokenizer **out, bool (*next)(void *self, const char **text, size_t *length), void *self,
                    const struct tokenizer_training *how, struct error *error)
{
    if (how->vocab < 256 + how->n_special || how->vocab > TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_USAGE,
                    "a vocabulary of %d: expected 256 bytes + %d special tokens = %d at least, and %d at most",
                    how->vocab, how->n_special, 256 + how->n_special, TOKENIZER_VOCAB_MAX);
    struct splitter *splitter;
    if (splitter_open(&splitter, how->pattern, NULL, error)) return -1;
    struct words pieces = {0};
    count_words(&pieces, splitter, next, self);
    splitter_close(splitter);
    struct learning l = {0};
    lay_out(&l, &pieces);
    learn(&l, how->vocab - 256 - how->n_special, self, how->progress);
    *out = NULL;
    if (signals_check(error, "training the tokenizer") == 0) *out = put_together(&l, how, error);
    else free(l.merge);
    for (size_t k = 0; k < l.n_pairs; k++) free(l.pair[k].at);
    free(l.pair);
    free(l.slot);
    free(l.heap);
    free(l.touched);
    free(l.spot);
    words_free(&l.tokens);
    words_free(&pieces);
    return *out ? 0 : -1;
}
