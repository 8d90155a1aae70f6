/* kv.c - key-values in memory and as bytes (SPEC.md, "KV").  In memory they are one sorted array: writing is canonical,
 * and hostile keys cost no quadratic time. */
#include "format/kv.h"

#include "format/layout.h"

#include <stdlib.h>

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

/* A private copy with a zero byte after it, so that a text ends. */
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
    if (text[utf8_prefix(text, strlen(text))]) die("the text of '%s' is not UTF-8", key);
}

void kv_set_bool(struct kv *kv, const char *key, bool value) { set_copy(kv, key, KV_BOOL, &value, 1, sizeof value); }
void kv_set_i64(struct kv *kv, const char *key, int64_t value) { set_copy(kv, key, KV_I64, &value, 1, 8); }
void kv_set_u64(struct kv *kv, const char *key, uint64_t value) { set_copy(kv, key, KV_U64, &value, 1, 8); }
void kv_set_f64(struct kv *kv, const char *key, double value) { set_copy(kv, key, KV_F64, &value, 1, 8); }
void kv_set_bytes(struct kv *kv, const char *key, const void *v, size_t n) { set_copy(kv, key, KV_BYTES, v, n, 1); }
void kv_set_i64s(struct kv *kv, const char *key, const int64_t *v, size_t n) { set_copy(kv, key, KV_I64S, v, n, 8); }
void kv_set_u64s(struct kv *kv, const char *key, const uint64_t *v, size_t n) { set_copy(kv, key, KV_U64S, v, n, 8); }
void kv_set_f64s(struct kv *kv, const char *key, const double *v, size_t n) { set_copy(kv, key, KV_F64S, v, n, 8); }

void kv_set_text(struct kv *kv, const char *key, const char *value)
{
    need_utf8(key, value);
    set_copy(kv, key, KV_TEXT, value, strlen(value), 1);
}

/* One block, so that one free() frees it: [count + 1 pointers, the last NULL][bytes of texts, each ending in NUL]. */
static char **new_texts(uint64_t count, uint64_t bytes)
{
    return host_alloc((size_t)((count + 1) * sizeof(char *) + bytes), 1);
}

void kv_set_texts(struct kv *kv, const char *key, char *const *value, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        need_utf8(key, value[i]);
        bytes += strlen(value[i]) + 1;
    }
    if (8 + 4 * (uint64_t)count + 4 + bytes > CKPT_MAX_VALUE)
        die("the texts of '%s' take %zu bytes, too many", key, bytes);
    char **list = new_texts(count, bytes), *text = (char *)(list + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(value[i]) + 1;
        list[i] = memcpy(text, value[i], size);
        text += size;
    }
    set(kv, key, KV_TEXTS, count, list);
}

int kv_get_array(const struct kv *kv, const char *key, enum kv_type type, void *place, size_t *count)
{
    const struct kv_entry *e = kv_find(kv, key);
    if (!e) return 0;
    if (e->type != type) return -1;
    memcpy(place, &e->value, sizeof e->value);
    *count = (size_t)e->count;
    return 1;
}

/* A number of `size` bytes, copied out. */
static int get_number(void *value, size_t size, const struct kv *kv, const char *key, enum kv_type type)
{
    const void *place;
    size_t count;
    int got = kv_get_array(kv, key, type, &place, &count);
    if (got == 1) memcpy(value, place, size);
    return got;
}

int kv_get_bool(const struct kv *kv, const char *key, bool *v) { return get_number(v, sizeof *v, kv, key, KV_BOOL); }
int kv_get_i64(const struct kv *kv, const char *key, int64_t *v) { return get_number(v, 8, kv, key, KV_I64); }
int kv_get_u64(const struct kv *kv, const char *key, uint64_t *v) { return get_number(v, 8, kv, key, KV_U64); }
int kv_get_f64(const struct kv *kv, const char *key, double *v) { return get_number(v, 8, kv, key, KV_F64); }

int kv_get_text(const struct kv *kv, const char *key, const char **value)
{
    size_t length;
    return kv_get_array(kv, key, KV_TEXT, value, &length);
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

/* ---- encoding ---- */

static void add_texts(struct bytes *out, const struct kv_entry *e)
{
    char *const *text = e->value;
    add64(out, e->count);
    for (uint64_t i = 0; i < e->count; i++) add32(out, (uint32_t)strlen(text[i]));
    pad8(out);
    for (uint64_t i = 0; i < e->count; i++) bytes_add(out, text[i], strlen(text[i]));
}

static void add_value(struct bytes *out, const struct kv_entry *e)
{
    if (e->type == KV_BOOL) add64(out, *(const bool *)e->value);
    else if (e->type == KV_TEXTS) add_texts(out, e);
    else if (e->type == KV_TEXT || e->type == KV_BYTES) bytes_add(out, e->value, (size_t)e->count);
    else for (uint64_t i = 0; i < e->count; i++) {
        uint64_t u;
        memcpy(&u, (const char *)e->value + 8 * i, 8);
        add64(out, u);
    }
}

void kv_encode(struct bytes *out, const struct kv *kv)
{
    add64(out, kv->count);
    add64(out, 0);
    for (size_t i = 0; i < kv->count; i++) {
        const struct kv_entry *e = &kv->entry[i];
        char head[8] = {(char)e->type};
        size_t key = strlen(e->key), at = out->size;
        store16(head + 2, (uint16_t)key);
        bytes_add(out, head, sizeof head);
        bytes_add(out, e->key, key);
        pad8(out);
        size_t start = out->size;
        add_value(out, e);
        store32(out->data + at + 4, (uint32_t)(out->size - start));
        pad8(out);
    }
}

/* ---- decoding ---- */

static int check_utf8(const char *text, size_t length, const char *key, struct error *error)
{
    size_t good = utf8_prefix(text, strnlen(text, length));
    return good == length ? 0 : corrupt(error, "the text of key '%s' is not UTF-8 (or has a NUL) at its byte %zu [K10]",
                                        key, good);
}

/* Texts: u32 count, u32 0, count lengths padded to 8, the bytes. */
static int decode_texts(struct kv *kv, const char *key, const uint8_t *p, uint64_t size, struct error *error)
{
    if (size < 8 || load32(p + 4) != 0)
        return corrupt(error, "key '%s': the head of its texts is wrong [K5]", key);
    uint64_t count = load32(p), head = 8 + ((4 * count + 7) & ~UINT64_C(7)), total = 0;
    if (head > size) return corrupt(error, "key '%s': %" PRIu64 " texts do not fit its %" PRIu64 " bytes [K5]", key,
                                    count, size);
    for (uint64_t i = 0; i < count; i++) total += load32(p + 8 + 4 * i);
    if (total != size - head || !all_zero(p + 8 + 4 * count, (size_t)(head - 8 - 4 * count)))
        return corrupt(error, "key '%s': its texts take %" PRIu64 " bytes, %" PRIu64 " are there [K5]", key, total,
                       size - head);
    char **list = new_texts(count, total + count), *text = (char *)(list + count + 1);
    const char *from = (const char *)p + head;
    for (uint64_t i = 0; i < count; i++) {
        size_t length = load32(p + 8 + 4 * i);
        if (check_utf8(from, length, key, error) != 0) {
            free(list);
            return -1;
        }
        list[i] = memcpy(text, from, length);
        from += length;
        text += length + 1;
    }
    set(kv, key, KV_TEXTS, count, list);
    return 0;
}

static int decode_value(struct kv *kv, const char *key, enum kv_type type, const uint8_t *p, uint64_t size,
                        struct error *error)
{
    bool scalar = type <= KV_F64, array = type >= KV_I64S && type <= KV_F64S;
    if (scalar && size != 8)
        return corrupt(error, "key '%s': %" PRIu64 " bytes for one number (expected 8) [K4]", key, size);
    if (array && size % 8 != 0)
        return corrupt(error, "key '%s': %" PRIu64 " bytes for an array of 8-byte numbers [K5]", key, size);
    if (type == KV_TEXTS) return decode_texts(kv, key, p, size, error);
    if (type == KV_TEXT && check_utf8((const char *)p, (size_t)size, key, error) != 0) return -1;
    if (type == KV_BOOL && load64(p) > 1)
        return corrupt(error, "key '%s': a bool that is neither 0 nor 1 [K9]", key);
    set_copy(kv, key, type, p, (size_t)(scalar || array ? size / 8 : size), scalar || array ? 8 : 1);
    uint8_t *value = kv->entry[kv->count - 1].value;
    if (type == KV_BOOL) *(bool *)value = p[0] != 0;
    else for (uint64_t i = 0; (scalar || array) && i < size / 8; i++) {
        uint64_t number = load64(p + 8 * i);
        memcpy(value + 8 * i, &number, 8);
    }
    return 0;
}

/* One entry at *at, set in kv; moves *at past it. */
static int decode_entry(struct kv *kv, const uint8_t *data, size_t size, size_t *at, struct error *error)
{
    char name[CKPT_MAX_KEY + 1];
    const char *last = kv->count ? kv->entry[kv->count - 1].key : "";
    size_t left = size - *at;
    const uint8_t *p = data + *at;
    if (left < 8) return corrupt(error, "an entry's head is cut off at byte %zu [K2]", *at);
    uint64_t key = load16(p + 2), key_padded = (key + 7) & ~UINT64_C(7);
    uint64_t value = load32(p + 4), value_padded = (value + 7) & ~UINT64_C(7);
    if (p[0] < KV_BOOL || p[0] > KV_TEXTS || p[1] != 0)
        return corrupt(error, "an entry at byte %zu has the unknown type %d [K7]", *at, p[0]);
    if (key < 1 || key > CKPT_MAX_KEY || key_padded > left - 8)
        return corrupt(error, "a key at byte %zu has %" PRIu64 " bytes (expected 1 to %d, and room for them) [K3]", *at,
                       key, CKPT_MAX_KEY);
    snprintf(name, sizeof name, "%.*s", (int)key, (const char *)p + 8);
    if (strlen(name) != key || !key_valid(name))
        return corrupt(error, "a key at byte %zu has a character outside a-z 0-9 _ . [K3]", *at);
    if (strcmp(last, name) >= 0)
        return corrupt(error, "key '%s' follows '%s', which is not ascending order [K8]", name, last);
    if (value > CKPT_MAX_VALUE || value_padded > left - 8 - key_padded)
        return corrupt(error, "the value of key '%s' has %" PRIu64 " bytes, %" PRIu64 " are left [K4]", name, value,
                       left - 8 - key_padded);
    if (!all_zero(p + 8 + key, key_padded - key) || !all_zero(p + 8 + key_padded + value, value_padded - value))
        return corrupt(error, "the padding of key '%s' is not zero [K12]", name);
    *at += 8 + key_padded + value_padded;
    return decode_value(kv, name, (enum kv_type)p[0], p + 8 + key_padded, value, error);
}

int kv_decode(struct kv *kv, const void *data, size_t size, struct error *error)
{
    const uint8_t *p = data;
    if (size < CKPT_TABLE_HEAD || !all_zero(p + 4, 12))
        return corrupt(error, "the head of the key-values is wrong [K1]");
    uint64_t count = load32(p);
    if (count > CKPT_MAX_KEYS || count * 16 > size - CKPT_TABLE_HEAD)
        return corrupt(error, "%" PRIu64 " key-values cannot be in %zu bytes (limit %d) [K1]", count, size,
                       CKPT_MAX_KEYS);
    struct kv new = {0};
    size_t at = CKPT_TABLE_HEAD;
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) status = decode_entry(&new, p, size, &at, error);
    if (status == 0 && at != size)
        status = corrupt(error, "%zu bytes are left over after the last key-value [K13]", size - at);
    if (status != 0) {
        kv_free(&new);
        return -1;
    }
    kv_free(kv);
    *kv = new;
    return 0;
}

void kv_copy(struct kv *to, const struct kv *from)
{
    struct bytes bytes = {0};
    struct error error;
    kv_encode(&bytes, from);
    if (kv_decode(to, bytes.data, bytes.size, &error) != 0) die("%s", error.text);
    bytes_free(&bytes);
}
