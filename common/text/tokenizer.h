/* tokenizer.h - byte-level BPE, and BPE of characters as SentencePiece has it: text <-> ids, training, import, and its
 * bytes in a checkpoint (section TOKN).
 *
 * Ids: 0..255 are not assumed to be bytes (imports differ); every single byte has a token.  Special tokens have ids
 * like any other and are never produced by tokenizer_encode: they are placed by id.
 * Training's tie rule: of the pairs with the highest count, the one whose left token's bytes, then right token's bytes,
 * are smallest in byte order (memcmp, a prefix before the longer). */
#ifndef QUARTET_TOKENIZER_H
#define QUARTET_TOKENIZER_H

#include "common/base/base.h"

#include <jansson.h>

enum pattern { PATTERN_GPT2 = 1, PATTERN_LLAMA3 = 2, PATTERN_QWEN2 = 3, PATTERN_WHOLE = 16 /* characters, not bytes */,
               PATTERN_WORDS = 17 /* the same, cut before every blank */, PATTERN_CUSTOM = 255 };
const char *pattern_name(enum pattern p);
const char *pattern_regex(enum pattern p);         /* of the three known ones */

/* Unicode's version of the classes by which text is split, and of NFC, whatever library is installed. */
#define TOKENIZER_UNICODE "16.0"
#define TOKENIZER_UNICODE_NFC "9.0"

struct tokenizer;      /* immutable once made, except by tokenizer_add_special; many threads may encode with one */

/* Trains on documents handed out by next(self, &text, &length) (returns false at the end; the text is valid until the
 * next call).  vocab counts everything: 256 bytes, merges, special tokens (n_special names, placed last).  Stops early,
 * with fewer merges, when no pair occurs twice.  Deterministic for any number of threads.  Returns 0, or -1
 * (EXIT_USAGE: vocab too small). */
struct tokenizer_training { int vocab; enum pattern pattern; const char *const *special; int n_special;
                            void (*progress)(void *self, int merges, int wanted); };
int tokenizer_train(struct tokenizer **out, bool (*next)(void *self, const char **text, size_t *length), void *self,
                    const struct tokenizer_training *how, struct error *error);

/* Section TOKN: canonical bytes (equal tokenizers give equal bytes), appended; and back with every check (TK1..TK8):
 * 0, or -1 (EXIT_DATA) with *out untouched. */
void tokenizer_write(struct bytes *out, const struct tokenizer *t);
int tokenizer_read(struct tokenizer **out, const void *data, size_t size, struct error *error);

/* Imports: a GPT-2 pair (a folder that holds encoder.json and vocab.bpe, or vocab.json and merges.txt), a tokenizer.json
 * of BPE, or a tokenizer.model of SentencePiece BPE; what it has and we lack is refused by name.  Returns 0, or -1
 * (EXIT_NOINPUT, EXIT_IO, EXIT_DATA). */
int tokenizer_import(struct tokenizer **out, const char *path, struct error *error);
/* The same from a tokenizer.json that is read already; name: what messages call it. */
int tokenizer_import_json(struct tokenizer **out, json_t *root, const char *name, struct error *error);

/* A tokenizer.model of SentencePiece as JSON for tokenizer_import_json (to json_decref): its pieces, not yet checked.
 * Returns 0, or -1 (EXIT_NOINPUT, EXIT_IO, EXIT_DATA: it is none, or not BPE with bytes). */
int tokenizer_model_json(json_t **out, const char *path, struct error *error);
int tokenizer_model_parse(json_t **out, const void *data, size_t size, struct error *error);

/* A tokenizer as a tokenizer.json (to json_decref): importing it gives one with the same ids. */
json_t *tokenizer_json(const struct tokenizer *t);

void tokenizer_free(struct tokenizer *t);

enum pattern tokenizer_pattern(const struct tokenizer *t);
int tokenizer_vocab(const struct tokenizer *t);                       /* ids are below this */
uint32_t tokenizer_crc(const struct tokenizer *t, size_t *length);    /* identity: CRC-32 and length of its TOKN */

/* Ids of special tokens: by text ("<|endoftext|>"), or -1.  add: returns the id, new (= the old vocab) or the existing
 * one. */
int tokenizer_special(const struct tokenizer *t, const char *text);
int tokenizer_add_special(struct tokenizer *t, const char *text);
bool tokenizer_is_special(const struct tokenizer *t, int id);
/* The token before and behind every document: the one set, else <|endoftext|>, or -1.  id: of a special token. */
int tokenizer_document(const struct tokenizer *t);
void tokenizer_set_document(struct tokenizer *t, int id);
/* 1 normal, 3 special, 4 found in text, 5 unused, 6 the byte of a character without a token (TOKN's numbers, and GGUF's). */
int tokenizer_type(const struct tokenizer *t, int id);

/* Of a tokenizer of characters: fills score [vocab] with scores whose order the merges follow, the best joined first.
 * False when it is one of bytes, or its merges do not come from scores. */
bool tokenizer_scores(float *score, const struct tokenizer *t);
/* Is a blank put before a text? */
bool tokenizer_prefixes(const struct tokenizer *t);
/* The form into which it brings text: "NFC", "NFKC", or NULL. */
const char *tokenizer_form(const struct tokenizer *t);

/* Where a text stands: only some tokenizers, which put a blank before a text, tell the difference. */
enum text_place { TEXT_START, TEXT_SECTION /* behind a special token */, TEXT_WITHIN /* behind other text */ };

/* Appends the ids of text to a growing list.  Special-token text is ordinary bytes here; added tokens that are not
 * special are found.  Every byte string has an encoding, invalid UTF-8 too, and decoding gives the bytes back (in NFC, if
 * the tokenizer asks for it; with a blank for U+2581, if it is one of characters).  Quits (EXIT_DATA) when a splitting
 * pattern that is not built in gives up. */
struct ids { int *id; size_t count, capacity; };      /* starts as {0}; free(id) */
void ids_add(struct ids *list, int id);
void ids_append(struct ids *list, const int *id, size_t n);
void tokenizer_encode(struct ids *out, const struct tokenizer *t, const char *text, size_t length);    /* TEXT_START */
void tokenizer_encode_at(struct ids *out, const struct tokenizer *t, enum text_place place, const char *text,
                         size_t length);

/* Bytes of one token (special ones: their text).  Valid as long as t.  Decoding leaves out the blank that the tokenizer
 * put before the text. */
const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *length);
void tokenizer_decode(struct bytes *out, const struct tokenizer *t, const int *ids, size_t n);

/* Streaming: appends to out only whole UTF-8 characters, keeping up to 3 bytes back until the next call; flush with n =
 * 0, which writes what is left with U+FFFD for what never became a character.  *held starts as {0}. */
struct utf8_held { char byte[4]; int count; bool begun; };    /* begun: this is not the beginning of a text */
void tokenizer_stream(struct bytes *out, struct utf8_held *held, const struct tokenizer *t, const int *ids, size_t n);

#endif
