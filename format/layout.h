/* layout.h - the bytes of a checkpoint as structs, and back: pure functions of (bytes, size), for writer, reader,
 * `ckpt` and the fuzzers.  Decoders check everything that SPEC.md says of the bytes they get, name the check in
 * brackets, and return 0, or -1 (EXIT_DATA) with nothing allocated. */
#ifndef QUARTET_LAYOUT_H
#define QUARTET_LAYOUT_H

#include "common/base/le.h"
#include "format/checkpoint.h"
#include "format/limits.h"

#include <inttypes.h>

/* Bytes of a file that break a rule of SPEC.md; the sentence ends with the rule's id in brackets. */
#define corrupt(error, ...) fail(error, EXIT_DATA, __VA_ARGS__)

/* *result = x rounded up to a multiple of `align` (a power of two); false when that does not fit. */
static inline bool round_up(uint64_t *result, uint64_t x, uint64_t align)
{
    if (!size_add(&x, x, align - 1)) return false;
    *result = x & ~(align - 1);
    return true;
}

bool all_zero(const void *data, size_t size);

/* Little-endian numbers appended to out, and zeros up to a multiple of 8 bytes. */
void add32(struct bytes *out, uint32_t v);
void add64(struct bytes *out, uint64_t v);
void pad8(struct bytes *out);

/* ---- fields: one row of SPEC.md's tables each ---- */

/* `size` bytes at `at` of a record in the file are `width` bytes at `place` of its struct: a little-endian number, or a
 * copy where size is above 8.  Width 0: the field is another function's, or "reserved" and zero.  A row without a name
 * ends the table. */
struct field { const char *name; uint16_t at, size, place, width; };
extern const struct field header_fields[], section_fields[], tensor_fields[], stat_fields[];

void fields_encode(uint8_t *out, const struct field *field, const void *from);      /* out: zeroed */
void fields_decode(void *to, const struct field *field, const uint8_t *in);
bool fields_reserved_zero(const struct field *field, const uint8_t *in);
const char *field_name(const struct field *field, uint64_t at);                     /* whose byte `at` is */

/* ---- dtypes and roles ---- */

enum { DTYPE_F64 = 4, DTYPE_I8, DTYPE_U8, DTYPE_I16, DTYPE_U16, DTYPE_I32, DTYPE_U32, DTYPE_I64, DTYPE_U64, DTYPE_BOOL,
       DTYPE_F8_E4M3FN, DTYPE_F8_E5M2, DTYPE_F8_E8M0 };
const char *dtype_name(uint32_t dtype);                          /* NULL when unknown */
uint32_t dtype_size(uint32_t dtype);                             /* bytes of an element; 0 when unknown */
bool dtype_is_float(uint32_t dtype);                             /* ckpt_read_f32 takes it */
/* n values, widened exactly (64-bit integers are rounded). */
void dtype_to_f64(double *out, const void *in, size_t n, uint32_t dtype);
/* n values of a floating dtype; float64 is rounded to nearest. */
void dtype_to_f32(float *out, const void *in, size_t n, uint32_t dtype);

const char *role_name(uint32_t role);                            /* NULL when unknown */
static inline bool role_is_training_state(enum role role) { return role >= ROLE_MASTER && role <= ROLE_ADAM_V; }

/* ---- header page ---- */

/* meta: the facts that the header says of the model; its sections are not here. */
struct header {
    uint16_t major, minor;
    uint32_t kind;
    uint64_t file_size, incompat, rocompat, compat, table_offset;
    uint32_t section_count, table_crc, section_entry, align, shard_index, shard_count;
    struct ckpt_meta meta;
};
void header_encode(uint8_t page[4096], const struct header *h);
/* page: the first 4096 bytes of a file of file_size bytes (H2..H13). */
int header_decode(struct header *h, const uint8_t page[4096], uint64_t file_size, struct error *error);

/* ---- section table ---- */

enum { SECTION_CRITICAL = 1, SECTION_SAFE_TO_COPY = 2 };
enum { CODEC_NONE = 0, CODEC_ZLIB = 1 };
struct section {
    char type[5];
    uint32_t flags, crc, instance;
    uint64_t offset, stored, raw;
    uint16_t codec, version;
};
/* kv: its number in ckpt_meta, or -1 for a section of bytes. */
struct section_facts { const char *type; uint32_t flags; uint64_t limit; int kv; };
const struct section_facts *section_facts(const char *type);     /* NULL when unknown */
extern const struct section_facts section_table[];               /* all known ones, in writing order; type NULL ends */
static inline bool section_is(const struct section *s, const char *type) { return strcmp(s->type, type) == 0; }

void table_encode(uint8_t *out, const struct section *section, size_t count);    /* count * CKPT_SECTION_ENTRY bytes */
/* *out: count sections to free().  table: count * h->section_entry bytes (S1..S8, S10). */
int table_decode(struct section **out, const uint8_t *table, const struct header *h, struct error *error);

/* ---- tensor index (TIDX) ---- */

enum { TENSOR_TRAINABLE = 1, TENSOR_DECAY = 2 };
struct index { size_t count; struct ckpt_tensor *tensor; uint32_t *order; char *names; };   /* order: by (name, role) */
void index_free(struct index *index);

uint64_t tensor_elements(const struct ckpt_tensor *t);
/* Fills in t->bytes (D1..D4). */
int tensor_bytes(struct ckpt_tensor *t, struct error *error);
bool tensor_name_valid(const char *name, size_t length);
/* Number of CCRC chunks of a tensor, and of all of them. */
static inline uint64_t tensor_chunks(uint64_t stored) { return (stored + CKPT_CHUNK - 1) / CKPT_CHUNK; }
uint64_t index_chunks(const struct index *index);

/* Fills index->order.  Returns the number of a tensor whose name and role another has, or -1. */
int64_t index_sort(struct index *index);
void index_encode(struct bytes *out, const struct index *index);
/* out: empty.  tdat: length of section TDAT (T1..T9, D1..D4). */
int index_decode(struct index *out, const void *data, size_t size, uint64_t tdat, uint64_t align, struct error *error);
/* The tensor's number, or -1. */
int64_t index_find(const struct index *index, const char *name, uint32_t role);

/* ---- chunk CRCs (CCRC) and statistics (STAT) ---- */

void chunks_encode(struct bytes *out, const uint32_t *crc, size_t count);
/* *out: one CRC per chunk, to free() (CC1, CC2). */
int chunks_decode(uint32_t **out, const void *data, size_t size, const struct index *index, struct error *error);

/* min, max, mean, std, absmax over the finite values (all 0 when there are none); count is not stored. */
struct stats { double min, max, mean, std, absmax; uint64_t nan, inf, zero; };
/* *out: one per tensor, to free() (ST1, ST2). */
int stats_decode(struct stats **out, const void *data, size_t size, const struct index *index, struct error *error);

/* Statistics in the making.  m2: sum of squares about the mean.  Adding chunks in file order gives the same bits for
 * any number of threads. */
struct moments { uint64_t count, nan, inf, zero; double min, max, mean, m2; };
void moments_of(struct moments *m, const void *data, uint64_t bytes, uint32_t dtype);
/* Chan, Golub, LeVeque 1979: the pairwise update of mean and m2. */
void moments_add(struct moments *to, const struct moments *m);
struct stats moments_stats(const struct moments *m);
void stats_encode(struct bytes *out, const struct moments *moments, size_t count);

#endif
