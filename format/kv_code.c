/* kv_code.c - key-values as bytes (SPEC.md, "KV").  The decoder meets hostile bytes: it never reads past `size`, never
 * takes more memory than a small multiple of what is there, and leaves the caller's kv alone until all is checked. */
#include "format/kv.h"

#include "format/layout.h"

#include <stdlib.h>

static void pad8(struct bytes *out)
{
    static const char zero[8];
    bytes_add(out, zero, -out->size & 7);
}

static void add64(struct bytes *out, uint64_t v)
{
    char b[8];
    store64(b, v);
    bytes_add(out, b, 8);
}

static void add_texts(struct bytes *out, const struct kv_entry *e)
{
    char *const *text = e->value;
    add64(out, e->count);
    for (uint64_t i = 0; i < e->count; i++) {
        char b[4];
        store32(b, (uint32_t)strlen(text[i]));
        bytes_add(out, b, 4);
    }
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
    struct bytes b = {0};
    add64(&b, kv->count);
    add64(&b, 0);
    for (size_t i = 0; i < kv->count; i++) {
        const struct kv_entry *e = &kv->entry[i];
        char head[8] = {(char)e->type};
        size_t key = strlen(e->key), at = b.size;
        store16(head + 2, (uint16_t)key);
        bytes_add(&b, head, sizeof head);
        bytes_add(&b, e->key, key);
        pad8(&b);
        size_t start = b.size;
        add_value(&b, e);
        store32(b.data + at + 4, (uint32_t)(b.size - start));
        pad8(&b);
    }
    bytes_add(out, b.data, b.size);
    bytes_free(&b);
}

/* ---- decoding ---- */

static int check_utf8(const char *text, size_t length, const char *key, struct error *error)
{
    for (size_t i = 0; i < length;) {
        int n = utf8_length(text + i, length - i);
        if (n == 0 || text[i] == 0)
            return fail(error, EXIT_DATA, "the text of key '%s' is not UTF-8 (or has a NUL) at its byte %zu [K10]", key,
                        i);
        i += (size_t)n;
    }
    return 0;
}

/* Texts: u32 count, u32 0, count lengths padded to 8, the bytes.  *value: as kv_set_texts makes it. */
static int decode_texts(struct kv_entry *e, const uint8_t *p, uint64_t size, struct error *error)
{
    if (size < 8 || load32(p + 4) != 0)
        return fail(error, EXIT_DATA, "key '%s': the head of its texts is wrong [K5]", e->key);
    uint64_t count = load32(p), head = 8 + ((4 * count + 7) & ~UINT64_C(7)), total = 0;
    if (head > size) return fail(error, EXIT_DATA, "key '%s': %llu texts do not fit its %llu bytes [K5]", e->key,
                                 (unsigned long long)count, (unsigned long long)size);
    for (uint64_t i = 0; i < count; i++) total += load32(p + 8 + 4 * i);
    if (total != size - head || !all_zero(p + 8 + 4 * count, (size_t)(head - 8 - 4 * count)))
        return fail(error, EXIT_DATA, "key '%s': its texts take %llu bytes, %llu are there [K5]", e->key,
                    (unsigned long long)total, (unsigned long long)(size - head));
    char **list = host_alloc((size_t)((count + 1) * sizeof *list + total + count), 1);
    char *text = (char *)(list + count + 1);
    const char *from = (const char *)p + head;
    for (uint64_t i = 0; i < count; i++) {
        size_t length = load32(p + 8 + 4 * i);
        if (check_utf8(from, length, e->key, error) != 0) {
            free(list);
            return -1;
        }
        list[i] = text;
        memcpy(text, from, length);
        from += length;
        text += length + 1;
    }
    e->count = count;
    e->value = list;
    return 0;
}

static int decode_value(struct kv_entry *e, const uint8_t *p, uint64_t size, struct error *error)
{
    bool scalar = e->type <= KV_F64, array = e->type >= KV_I64S && e->type <= KV_F64S;
    if (scalar && size != 8)
        return fail(error, EXIT_DATA, "key '%s': %llu bytes for one number (expected 8) [K4]", e->key,
                    (unsigned long long)size);
    if (array && size % 8 != 0)
        return fail(error, EXIT_DATA, "key '%s': %llu bytes for an array of 8-byte numbers [K5]", e->key,
                    (unsigned long long)size);
    if (e->type == KV_TEXTS) return decode_texts(e, p, size, error);
    if (e->type == KV_TEXT && check_utf8((const char *)p, (size_t)size, e->key, error) != 0) return -1;
    if (e->type == KV_BOOL && load64(p) > 1)
        return fail(error, EXIT_DATA, "key '%s': a bool that is neither 0 nor 1 [K9]", e->key);
    e->count = scalar ? 1 : array ? size / 8 : size;
    e->value = host_alloc((size_t)size + 1, 1);
    if (e->type == KV_BOOL) *(bool *)e->value = load64(p) != 0;
    else if (scalar || array) for (uint64_t i = 0; i < size / 8; i++) {
        uint64_t u = load64(p + 8 * i);
        memcpy((char *)e->value + 8 * i, &u, 8);
    }
    else if (size) memcpy(e->value, p, (size_t)size);
    return 0;
}

/* One entry at *at; moves *at behind it.  On failure the caller frees e->key. */
static int decode_entry(struct kv_entry *e, const uint8_t *data, size_t size, size_t *at, const char *last,
                        struct error *error)
{
    size_t left = size - *at;
    const uint8_t *p = data + *at;
    if (left < 8) return fail(error, EXIT_DATA, "an entry's head is cut off at byte %zu [K2]", *at);
    uint64_t key = load16(p + 2), key_padded = (key + 7) & ~UINT64_C(7);
    uint64_t value = load32(p + 4), value_padded = (value + 7) & ~UINT64_C(7);
    if (p[0] < KV_BOOL || p[0] > KV_TEXTS || p[1] != 0)
        return fail(error, EXIT_DATA, "an entry at byte %zu has the unknown type %d [K7]", *at, p[0]);
    if (key < 1 || key > CKPT_MAX_KEY || key_padded > left - 8)
        return fail(error, EXIT_DATA, "a key at byte %zu has %llu bytes (expected 1 to %d, and room for them) [K3]",
                    *at,
                    (unsigned long long)key, CKPT_MAX_KEY);
    const char *name = (const char *)p + 8;
    for (uint64_t i = 0; i < key; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_' ||
              name[i] == '.'))
            return fail(error, EXIT_DATA, "a key at byte %zu has a character outside a-z 0-9 _ . [K3]", *at);
    e->key = host_text("%.*s", (int)key, name);
    e->type = (enum kv_type)p[0];
    if (last && strcmp(last, e->key) >= 0)
        return fail(error, EXIT_DATA, "key '%s' follows '%s', which is not ascending order [K8]", e->key, last);
    if (value > CKPT_MAX_VALUE || value_padded > left - 8 - key_padded)
        return fail(error, EXIT_DATA, "the value of key '%s' has %llu bytes, %llu are left [K4]", e->key,
                    (unsigned long long)value, (unsigned long long)(left - 8 - key_padded));
    p += 8 + key_padded;
    if (!all_zero(name + key, key_padded - key) || !all_zero(p + value, value_padded - value))
        return fail(error, EXIT_DATA, "the padding of key '%s' is not zero [K12]", e->key);
    *at += 8 + key_padded + value_padded;
    return decode_value(e, p, value, error);
}

int kv_decode(struct kv *kv, const void *data, size_t size, struct error *error)
{
    const uint8_t *p = data;
    if (size < CKPT_TABLE_HEAD || !all_zero(p + 4, 12))
        return fail(error, EXIT_DATA, "the head of the key-values is wrong [K1]");
    uint64_t count = load32(p);
    if (count > CKPT_MAX_KEYS || count * 16 > size - CKPT_TABLE_HEAD)
        return fail(error, EXIT_DATA, "%llu key-values cannot be in %zu bytes (limit %d) [K1]",
                    (unsigned long long)count, size, CKPT_MAX_KEYS);
    struct kv new = {host_alloc((size_t)count, sizeof(struct kv_entry)), 0};
    size_t at = CKPT_TABLE_HEAD;
    for (uint64_t i = 0; i < count; i++) {
        const char *last = i ? new.entry[i - 1].key : NULL;
        new.count++;
        if (decode_entry(&new.entry[i], p, size, &at, last, error) != 0) {
            kv_free(&new);
            return -1;
        }
    }
    if (at != size) {
        kv_free(&new);
        return fail(error, EXIT_DATA, "%zu bytes are left over behind the last key-value [K13]", size - at);
    }
    kv_free(kv);
    *kv = new;
    return 0;
}
