/* kv.h - typed key-values, the metadata of a checkpoint (SPEC.md, "KV").  Keys are [a-z0-9_.], 1..127 bytes, kept in
 * strictly ascending byte order; setting any other key dies.  Setting copies the value and replaces the key's old one.
 * Getters never cast. */
#ifndef QUARTET_KV_H
#define QUARTET_KV_H

#include "common/base/base.h"

enum kv_type { KV_BOOL = 1, KV_I64, KV_U64, KV_F64, KV_TEXT, KV_BYTES, KV_I64S, KV_U64S, KV_F64S, KV_TEXTS };

struct kv_entry { char *key; enum kv_type type; uint64_t count; void *value; };   /* count: of elements or bytes */
struct kv { struct kv_entry *entry; size_t count; };                              /* starts as {0} */

void kv_set_bool(struct kv *kv, const char *key, bool value);
void kv_set_i64(struct kv *kv, const char *key, int64_t value);
void kv_set_u64(struct kv *kv, const char *key, uint64_t value);
void kv_set_f64(struct kv *kv, const char *key, double value);
void kv_set_text(struct kv *kv, const char *key, const char *value);              /* valid UTF-8; dies otherwise */
void kv_set_bytes(struct kv *kv, const char *key, const void *value, size_t size);
void kv_set_i64s(struct kv *kv, const char *key, const int64_t *value, size_t count);
void kv_set_u64s(struct kv *kv, const char *key, const uint64_t *value, size_t count);
void kv_set_f64s(struct kv *kv, const char *key, const double *value, size_t count);
void kv_set_texts(struct kv *kv, const char *key, char *const *value, size_t count);

/* Return 1 and fill *value, 0 when the key is absent (*value untouched), or -1 when it has another type.
 * Pointers point into the kv and live until it changes. */
int kv_get_bool(const struct kv *kv, const char *key, bool *value);
int kv_get_i64(const struct kv *kv, const char *key, int64_t *value);
int kv_get_u64(const struct kv *kv, const char *key, uint64_t *value);
int kv_get_f64(const struct kv *kv, const char *key, double *value);
int kv_get_text(const struct kv *kv, const char *key, const char **value);
/* place: of a const void * (KV_BYTES), const int64_t * (KV_I64S), ... or char ** (KV_TEXTS). */
int kv_get_array(const struct kv *kv, const char *key, enum kv_type type, void *place, size_t *count);
const struct kv_entry *kv_find(const struct kv *kv, const char *key);

void kv_copy(struct kv *to, const struct kv *from);      /* *to is freed first */
void kv_free(struct kv *kv);                             /* leaves {0} */

/* The section's bytes (out: empty).  decode checks all (K1..K13); returns 0, or -1 (EXIT_DATA) with *kv untouched. */
void kv_encode(struct bytes *out, const struct kv *kv);
int kv_decode(struct kv *kv, const void *data, size_t size, struct error *error);

#endif
