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
    TOKEN_NORMAL = 1, TOKEN_SPECIAL = 3, TOKEN_FOUND = 4, TOKEN_UNUSED = 5, TOKEN_BYTE = 6,   /* type in TOKN; found:
                                         wherever its text stands in a text it is this token; unused: a hole in the ids;
                                         byte: what a byte of a character without a token becomes */
    TOKEN_LSTRIP = 0x10, TOKEN_RSTRIP = 0x20,     /* with the type, of special and found tokens: takes the blanks before,
                                                     behind it */
    TOKEN_WORD = 0x40,                /* not found within a word */
    TOKEN_NORMALIZED = 0x80,          /* found in the text as the model sees it, not as it is given */
    TOKENIZER_IGNORE_MERGES = 1,      /* a piece that is a token is that token, whatever the merges say */
    TOKENIZER_NFC = 2,                /* text is brought into NFC first */
    TOKENIZER_STAGES = 4,             /* the pattern is several, one after another */
    TOKENIZER_PREFIX = 8,             /* a blank is put before a text ... */
    TOKENIZER_SECTIONS = 16,          /* ... and before what follows a special or found token ... */
    TOKENIZER_UNLESS_BLANK = 32,      /* ... unless it begins with one */
    TOKENIZER_STRIP = 64,             /* decoding leaves out one leading blank */
    TOKENIZER_SCORES = 128,           /* merges are not listed: any two tokens that make a third, by its score */
    TOKENIZER_NFKC = 256,             /* text is brought into NFKC first */
    TOKENIZER_FLAGS_BYTES = 263, TOKENIZER_FLAGS_CHARACTERS = 507,
    TOKEN_BYTES_MAX = 65535,
    TOKENIZER_VOCAB_MAX = 1 << 24,
    PIECE_MAX = 32768,                /* longer pieces are cut: bounds the memory of encoding and training */
    REGEX_MAX = 4096, STAGES_MAX = 16,
    SCORED_BYTES_MAX = 1024,          /* of a token, where tokens have scores: every cut of it is tried */
};

struct token { const char *bytes; uint32_t length; unsigned char type, flags; };
struct merge { uint32_t left, right, result; };
struct join { uint32_t rank, result; };                   /* of a merge; rank UINT32_MAX: there is none */
struct pair_slot { uint64_t key; struct join pair; };
struct found { char *text; size_t length; int id; };

struct tokenizer {
    enum pattern pattern;
    char *regex;                      /* of PATTERN_CUSTOM, else NULL */
    unsigned flags;
    struct token *token;              /* [n_vocab] */
    int n_vocab;
    struct merge *merge;              /* [n_merges], the first is applied first */
    int n_merges;
    float *score;                     /* [n_vocab] with TOKENIZER_SCORES, else NULL; the merges follow from them */
    char *area;                       /* the bytes the tokens point into */
    char **added;                     /* texts of special tokens added later: theirs must not move */
    int n_added;
    int document;                     /* 1 + the id of the token that an import recorded as what separates documents, or 0 */

    struct finder { struct found *found; int count, from[257]; } finder[2];    /* tokens of TOKEN_FOUND, without and with
                                         TOKEN_NORMALIZED, by first byte, the longest first; those that begin with byte b
                                         lie from from[b] up to from[b + 1] */
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

/* A section of text as it is cut into pieces: in NFC, and with blanks where the tokenizer wants them. */
void text_normalise(struct bytes *out, const struct tokenizer *t, enum text_place place, const char *text, size_t length);

/* U+2581, which vocabularies of characters write for a blank, as one, from byte `from` on. */
#define TEXT_MARK "\xE2\x96\x81"
void text_unmark(struct bytes *text, size_t from);

/* The id of these bytes among special or among other tokens, or -1. */
int tokenizer_find(const struct tokenizer *t, const char *bytes, size_t length, bool special);

/* Splitting text into pieces.  A splitter is shared; a split belongs to one thread and is used again and again.
 * The pieces, in order, are the text: nothing is lost.  Only whole valid UTF-8 goes through the pattern; a byte that is
 * not part of any is a piece of its own.  No piece is longer than PIECE_MAX. */
struct splitter;
/* An expression for Oniguruma in the words of PCRE2, appended: 0, or -1 (EXIT_DATA) where that is not known. */
int regex_translate(struct bytes *out, const char *regex, struct error *error);
/* A pattern of its own may be several, STAGE_NEXT between: each cuts the pieces that the one before left.  One behind
 * STAGE_SPELLED sees bytes as characters of the printable alphabet. */
#define STAGE_NEXT "\x1E"
#define STAGE_SPELLED "\x1F"
int splitter_open(struct splitter **out, enum pattern pattern, const char *regex, struct error *error);
/* For a tokenizer of characters. */
void splitter_open_joints(struct splitter **out, const struct tokenizer *t);
void splitter_close(struct splitter *s);

/* Pairs of characters that stand side by side in a token.  Between two others no merge can ever join anything, so a text
 * may be cut there. */
struct joints;
struct joints *joints_open(const struct tokenizer *t);
void joints_close(struct joints *j);
size_t joints_piece(const struct joints *j, const char *text, size_t length);      /* bytes up to the first cut; valid UTF-8 */
enum pattern pattern_of(const char *regex);               /* PATTERN_CUSTOM when it is none of these */

struct split {
    const struct splitter *splitter;
    void *match;                                          /* PCRE2's scratch */
    const char *text, *shown;                             /* shown: to the library (tokenizer_unicode.h) */
    size_t length, at, run, run_end, next, next_end;      /* the next match is [next, next_end), in bytes of text */
    struct bytes copy, spelled;                           /* what shown, and text, may lie in */
    const char *unspelled;                                /* what is spelled in text: here the next piece begins */
    struct split *inner;                                  /* cuts the pieces further, or NULL */
    bool interpret;                                       /* without PCRE2's compiled code: its stack overflowed */
    int failed;                                           /* PCRE2's error: the limits stopped a match, split_next ends */
};
void split_open(struct split *s, const struct splitter *splitter);
void split_close(struct split *s);
void split_start(struct split *s, const char *text, size_t length);
bool split_next(struct split *s, const char **piece, size_t *length);
void split_check(const struct split *s);                  /* after the last piece: quits when a match was given up */

/* Bytes as GPT-2's files write them: those that are printable in Latin-1 are themselves, the others U+0100, U+0101, ... */
void bytes_spell(struct bytes *out, const char *bytes, size_t length);

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

/* Is a piece merged from its characters (SentencePiece), not from its bytes? */
static inline bool by_characters(const struct tokenizer *t)
{
    return t->pattern == PATTERN_WHOLE || t->pattern == PATTERN_WORDS;
}

static inline struct join join_of(const struct tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    for (size_t i = hash_word(0, key) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        if (t->pair[i].key == key || t->pair[i].pair.rank == UINT32_MAX) return t->pair[i].pair;
    }
}

#endif
