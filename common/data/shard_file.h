/* shard_file.h - one shard on disk: the tokens of some documents, written once, verified, then read at random.
 * The layout, field by field, is in docs/shards.md. */
#pragma once

#include "common/data/textfile.h"

/* A file that tokens came from, as it was then. */
struct shard_source { char *path; uint64_t size; int64_t mtime; uint32_t crc; };

/* What a shard was made from and holds. */
struct shard_info {
    int id_bytes;                       /* 2 or 4 */
    uint32_t part;                      /* shards of the same sources are numbered from 0 */
    bool last;                          /* no part follows */
    uint32_t rules;                     /* CRC of what else decides the text: cleaning, text key, separator */
    uint32_t tokenizer; uint64_t tokenizer_length;     /* identity of the tokenizer */
    uint64_t documents, tokens;
    struct text_counts counts;          /* of the sources of this part and the parts before it */
};

/* A document: where its tokens end, counted from the start of the shard, and the CRC-32 of its text. */
struct shard_entry { uint64_t token_end; uint32_t hash; };

/* ---- writing: to a temporary name, renamed when whole and on the disk ---- */

struct shard_writer;
/* Sources are copied; they say what the shard was made from.  Returns 0, or -1 (EXIT_IO).  Writing that fails later is
 * remembered and reported by shard_commit. */
int shard_create(struct shard_writer **out, const char *path, int id_bytes, const struct shard_source *source,
                 int n_sources, struct error *error);
void shard_add(struct shard_writer *w, const int *ids, size_t n);      /* n more tokens of the document */
/* The document ends; bytes and hash (CRC-32) of its text. */
void shard_end_document(struct shard_writer *w, uint64_t bytes, uint32_t hash);
uint64_t shard_written(const struct shard_writer *w);           /* tokens so far */
/* Frees w.  documents, tokens and id_bytes of info are filled here.  Returns 0, or -1 (EXIT_IO) with nothing left
 * behind. */
int shard_commit(struct shard_writer *w, const struct shard_info *info, struct error *error);
void shard_abandon(struct shard_writer *w);         /* frees w and removes the temporary file; NULL is allowed */

/* ---- reading ---- */

struct shard {
    int file;
    char *path;
    struct shard_info info;
    struct shard_source *source; int n_sources;
    uint64_t tokens_at, index_at;
    uint32_t tokens_crc, index_crc;
    int vocab;
    bool as_written;                    /* its time is the one that its writer gave it */
    uint64_t spans;                     /* stretches of tokens with a checksum each; 0 in version 1 */
    uint32_t *sum;
    bool *checked;                      /* spans that were read and are right */
};

/* Opens and checks header and sources.  Returns 0, or -1 (missing: EXIT_NOINPUT; not a whole shard: EXIT_DATA). */
int shard_open(struct shard *s, const char *path, int vocab, struct error *error);
/* Reads all of it: checksums, ids below vocab, ends ascending.  Returns 0 or -1. */
int shard_verify(const struct shard *s, struct error *error);
/* Reads the index, checking it: visit (may be NULL) gets its entries in order, SHARD_ENTRIES at a time.  Returns 0
 * or -1. */
enum { SHARD_ENTRIES = 512 };
int shard_index(const struct shard *s, void (*visit)(void *self, const struct shard_entry *entry, size_t n), void *self,
                struct error *error);
/* For a shard whose damage was found too late to make it anew: removes it, so that the next start does, and adds
 * that to *error.  Returns -1. */
int shard_discard(const struct shard *s, struct error *error);
void shard_close(struct shard *s);

/* At most SHARD_ENTRIES of an index that was checked; dies when the disk fails. */
void shard_entries(const struct shard *s, struct shard_entry *out, uint64_t first, size_t n);
/* Checks what no call has read before.  Returns 0, or -1: damaged (EXIT_DATA, discarded), or the disk fails
 * (EXIT_IO). */
int shard_tokens(const struct shard *s, int *out, uint64_t first, size_t n, struct error *error);
