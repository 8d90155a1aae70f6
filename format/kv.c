/* kv.c - the key-values in memory: one sorted array, so that writing is canonical, looking up is a bisection, and a
 * file of hostile keys costs no quadratic time.  The bytes are kv_code.c's. */
#include "format/kv.h"

#include "format/limits.h"

#include <stdlib.h>
#include <string.h>

static bool key_valid(const char *key)
{
    size_t n = strlen(key);
    return n >= 1 && n <= CKPT_MAX_KEY && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_.") == n;
}

/* First entry whose key is not below `key`. */
static size_t place_of(const struct kv *kv, const char *key)
{
    size_t low = 0, high = kv->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(kv->entry[middle].key, key) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

const struct kv_entry *kv_find(const struct kv *kv, const char *key)
{
    size_t i = place_of(kv, key);
    return i < kv->count && strcmp(kv->entry[i].key, key) == 0 ? &kv->entry[i] : NULL;
}

/* Takes over `value`. */
static void set(struct kv *kv, const char *key, enum kv_type type, uint64_t count, void *value)
{
    if (!key_valid(key)) die("'%s' cannot be a key of checkpoint metadata", key);
    size_t i = place_of(kv, key);
    if (i < kv->count && strcmp(kv->entry[i].key, key) == 0) {
        free(kv->entry[i].value);
    } else {
        if (kv->count == CKPT_MAX_KEYS) die("more than %d keys in one section", CKPT_MAX_KEYS);
        kv->entry = host_grow(kv->entry, kv->count + 1, sizeof *kv->entry);
        memmove(&kv->entry[i + 1], &kv->entry[i], (kv->count - i) * sizeof *kv->entry);
        kv->count++;
        kv->entry[i].key = host_text("%s", key);
    }
    kv->entry[i].type = type;
    kv->entry[i].count = count;
    kv->entry[i].value = value;
}

/* A private copy with a zero byte behind it, so that a text ends. */
static void set_copy(struct kv *kv, const char *key, enum kv_type type, const void *value, size_t count, size_t size)
{
    uint64_t bytes;
    if (!size_mul(&bytes, count, size) || bytes > CKPT_MAX_VALUE)
        die("the value of '%s' has %zu elements (limit %llu bytes)", key, count, (unsigned long long)CKPT_MAX_VALUE);
    char *copy = host_alloc(bytes + 1, 1);
    if (bytes) memcpy(copy, value, bytes);
    set(kv, key, type, count, copy);
}

static void need_utf8(const char *key, const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length;) {
        int n = utf8_length(text + i, length - i);
        if (n == 0) die("the text of '%s' is not UTF-8", key);
        i += (size_t)n;
    }
}

void kv_set_bool(struct kv *kv, const char *key, bool value) { set_copy(kv, key, KV_BOOL, &value, 1, sizeof value); }
void kv_set_i64(struct kv *kv, const char *key, int64_t value) { set_copy(kv, key, KV_I64, &value, 1, 8); }
void kv_set_u64(struct kv *kv, const char *key, uint64_t value) { set_copy(kv, key, KV_U64, &value, 1, 8); }
void kv_set_f64(struct kv *kv, const char *key, double value) { set_copy(kv, key, KV_F64, &value, 1, 8); }
void kv_set_bytes(struct kv *kv, const char *key, const void *v, size_t size) { set_copy(kv, key, KV_BYTES, v, size, 1); }
void kv_set_i64s(struct kv *kv, const char *key, const int64_t *v, size_t n) { set_copy(kv, key, KV_I64S, v, n, 8); }
void kv_set_u64s(struct kv *kv, const char *key, const uint64_t *v, size_t n) { set_copy(kv, key, KV_U64S, v, n, 8); }
void kv_set_f64s(struct kv *kv, const char *key, const double *v, size_t n) { set_copy(kv, key, KV_F64S, v, n, 8); }

void kv_set_text(struct kv *kv, const char *key, const char *value)
{
    need_utf8(key, value);
    set_copy(kv, key, KV_TEXT, value, strlen(value), 1);
}

/* One block: [count + 1 pointers, the last NULL][texts, each ending in NUL], so that one free() frees it. */
void kv_set_texts(struct kv *kv, const char *key, char *const *value, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        need_utf8(key, value[i]);
        bytes += strlen(value[i]) + 1;
    }
    if (8 + 4 * (uint64_t)count + 4 + bytes > CKPT_MAX_VALUE)
        die("the texts of '%s' take %zu bytes, too many", key, bytes);
    char **list = host_alloc((count + 1) * sizeof *list + bytes, 1);
    char *text = (char *)(list + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(value[i]) + 1;
        list[i] = memcpy(text, value[i], size);
        text += size;
    }
    set(kv, key, KV_TEXTS, count, list);
}

/* 1 with *e, 0 absent, -1 another type. */
static int get(const struct kv_entry **e, const struct kv *kv, const char *key, enum kv_type type)
{
    *e = kv_find(kv, key);
    return !*e ? 0 : (*e)->type == type ? 1 : -1;
}

/* A number of `size` bytes, copied out. */
static int get_number(void *value, size_t size, const struct kv *kv, const char *key, enum kv_type type)
{
    const struct kv_entry *e;
    int got = get(&e, kv, key, type);
    if (got == 1) memcpy(value, e->value, size);
    return got;
}

/* What lies in the entry itself: *value is set to it. */
static int get_inside(const void **value, size_t *count, const struct kv *kv, const char *key, enum kv_type type)
{
    const struct kv_entry *e;
    int got = get(&e, kv, key, type);
    if (got != 1) return got;
    *value = e->value;
    *count = (size_t)e->count;
    return 1;
}

int kv_get_bool(const struct kv *kv, const char *key, bool *v) { return get_number(v, sizeof *v, kv, key, KV_BOOL); }
int kv_get_i64(const struct kv *kv, const char *key, int64_t *v) { return get_number(v, 8, kv, key, KV_I64); }
int kv_get_u64(const struct kv *kv, const char *key, uint64_t *v) { return get_number(v, 8, kv, key, KV_U64); }
int kv_get_f64(const struct kv *kv, const char *key, double *v) { return get_number(v, 8, kv, key, KV_F64); }

int kv_get_text(const struct kv *kv, const char *key, const char **value)
{
    size_t length;
    return get_inside((const void **)value, &length, kv, key, KV_TEXT);
}

int kv_get_bytes(const struct kv *kv, const char *key, const void **value, size_t *size)
{
    return get_inside(value, size, kv, key, KV_BYTES);
}

int kv_get_i64s(const struct kv *kv, const char *key, const int64_t **value, size_t *count)
{
    return get_inside((const void **)value, count, kv, key, KV_I64S);
}

int kv_get_u64s(const struct kv *kv, const char *key, const uint64_t **value, size_t *count)
{
    return get_inside((const void **)value, count, kv, key, KV_U64S);
}

int kv_get_f64s(const struct kv *kv, const char *key, const double **value, size_t *count)
{
    return get_inside((const void **)value, count, kv, key, KV_F64S);
}

int kv_get_texts(const struct kv *kv, const char *key, char ***value, size_t *count)
{
    return get_inside((const void **)value, count, kv, key, KV_TEXTS);
}

void kv_free(struct kv *kv)
{
    for (size_t i = 0; i < kv->count; i++) {
        free(kv->entry[i].key);
        free(kv->entry[i].value);
    }
    free(kv->entry);
    *kv = (struct kv){0};
}

void kv_copy(struct kv *to, const struct kv *from)
{
    static const size_t size[] = {[KV_BOOL] = sizeof(bool), [KV_I64] = 8, [KV_U64] = 8, [KV_F64] = 8, [KV_TEXT] = 1,
                                  [KV_BYTES] = 1, [KV_I64S] = 8, [KV_U64S] = 8, [KV_F64S] = 8};
    struct kv copy = {0};
    for (size_t i = 0; i < from->count; i++) {
        const struct kv_entry *e = &from->entry[i];
        if (e->type == KV_TEXTS) kv_set_texts(&copy, e->key, e->value, (size_t)e->count);
        else set_copy(&copy, e->key, e->type, e->value, (size_t)e->count, size[e->type]);
    }
    kv_free(to);
    *to = copy;
}
