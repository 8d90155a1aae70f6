/* tokenizer_parts.h - what the tokenizer's own files share; nobody else includes it.
 *
 * Whoever makes a tokenizer (training, a TOKN section, an import) fills the upper half of the struct and calls
 * tokenizer_finish, which checks all of it and builds the lower half.  So every source goes through the same checks. */
#ifndef QUARTET_TOKENIZER_PARTS_H
#define QUARTET_TOKENIZER_PARTS_H

#include "common/text/tokenizer.h"

#include <pthread.h>
#include <string.h>

enum {
    TOKEN_NORMAL = 1, TOKEN_SPECIAL = 3, TOKEN_FOUND = 4, TOKEN_UNUSED = 5,   /* type byte in TOKN; found: wherever its
                                         text stands in a text it is this token; unused: a hole in the ids */
    TOKENIZER_IGNORE_MERGES = 1,      /* a piece that is a token is that token, whatever the merges say */
    TOKENIZER_NFC = 2,                /* text is brought into NFC first */
    TOKENIZER_FLAGS = 3,
    TOKEN_BYTES_MAX = 65535,
    TOKENIZER_VOCAB_MAX = 1 << 24,
    PIECE_MAX = 32768,                /* longer pieces are cut: bounds the memory of encoding and training */
    REGEX_MAX = 4096,
};

struct token { const char *bytes; uint32_t length; unsigned char type; };
struct merge { uint32_t left, right, result; };
struct pair_slot { uint64_t key; uint32_t rank; };

struct tokenizer {
    enum pattern pattern;
    char *regex;                      /* of PATTERN_CUSTOM, else NULL */
    unsigned flags;
    struct token *token;              /* [n_vocab] */
    int n_vocab;
    struct merge *merge;              /* [n_merges], the first is applied first */
    int n_merges;
    char *area;                       /* the bytes the tokens point into */
    char **added;                     /* texts of special tokens added later: theirs must not move */
    int n_added;

    int *found, n_found;              /* tokens of TOKEN_FOUND by first byte, the longest first ... */
    int found_from[257];              /* ... those that begin with byte b: from found_from[b] up to found_from[b + 1] */
    int byte_id[256];                 /* the token of every single byte */
    uint32_t *slot;                   /* hash table: a token's bytes and kind -> id + 1, 0 empty */
    size_t slot_mask;
    struct pair_slot *pair;           /* hash table: left << 32 | right -> rank */
    size_t pair_mask;
    struct splitter *splitter;
    struct pool { pthread_mutex_t lock; struct scratch *idle; } pool;     /* scratch of threads not encoding just now */
};

/* Returns 0, or -1 (EXIT_DATA) naming the check; t is the caller's either way. */
int tokenizer_finish(struct tokenizer *t, struct error *error);

/* The id of these bytes among special or among other tokens, or -1. */
int tokenizer_find(const struct tokenizer *t, const char *bytes, size_t length, bool special);

/* Splitting text into pieces.  A splitter is shared; a split belongs to one thread and is used again and again.
 * The pieces, in order, are the text: nothing is lost.  Only whole valid UTF-8 goes through the pattern; a byte that is
 * not part of any is a piece of its own.  No piece is longer than PIECE_MAX. */
struct splitter;
/* An expression for Oniguruma in the words of PCRE2, appended: 0, or -1 (EXIT_DATA) where that is not known. */
int regex_translate(struct bytes *out, const char *regex, struct error *error);
int splitter_open(struct splitter **out, enum pattern pattern, const char *regex, struct error *error);
void splitter_close(struct splitter *s);
enum pattern pattern_of(const char *regex);               /* PATTERN_CUSTOM when it is none of these */

struct split {
    const struct splitter *splitter;
    void *match;                                          /* PCRE2's scratch */
    const char *text;
    size_t length, at, run, run_end, next, next_end;      /* the next match is [next, next_end), in bytes of text */
    bool interpret;                                       /* without PCRE2's compiled code: its stack overflowed */
    int failed;                                           /* PCRE2's error: the limits stopped a match, split_next ends */
};
void split_open(struct split *s, const struct splitter *splitter);
void split_close(struct split *s);
void split_start(struct split *s, const char *text, size_t length);
bool split_next(struct split *s, const char **piece, size_t *length);
void split_check(const struct split *s);                  /* after the last piece: quits when a match was given up */

void scratch_free(struct scratch *s);                     /* the whole list */

/* 64-bit hash of bytes; never stored anywhere. */
static inline uint64_t hash_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 32);
}

static inline uint64_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t h = length, word;
    for (; length >= 8; bytes += 8, length -= 8) {
        memcpy(&word, bytes, 8);
        h = hash_word(h, word);
    }
    word = 0;
    memcpy(&word, bytes, length);
    return hash_word(hash_word(h, word), 0);
}

/* The rank of the merge of two tokens, or UINT32_MAX. */
static inline uint32_t pair_rank(const struct tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    for (size_t i = hash_word(0, key) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        if (t->pair[i].key == key) return t->pair[i].rank;
        if (t->pair[i].rank == UINT32_MAX) return UINT32_MAX;
    }
}

#endif
