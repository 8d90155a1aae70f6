/* index.c - the tensor index (SPEC.md, "TIDX"), and the chunk CRCs beside it.  One pass in data order proves places and
 * sizes; one in name order proves that it is a permutation and that no (name, role) occurs twice. */
#define _GNU_SOURCE
#include "format/layout.h"

#include <stdlib.h>

void index_free(struct index *index)
{
    free(index->tensor);
    free(index->order);
    free(index->names);
    *index = (struct index){0};
}

bool tensor_name_valid(const char *name, size_t length)
{
    if (length < 1 || length > CKPT_MAX_NAME || name[0] == '.' || name[length - 1] == '.') return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-' && c != '.') return false;
        if (c == '.' && name[i + 1] == '.' && i + 1 < length) return false;
    }
    return true;
}

uint64_t tensor_elements(const struct ckpt_tensor *t)
{
    uint64_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= t->shape[d];        /* checked by D3 */
    return n;
}

int tensor_bytes(struct ckpt_tensor *t, struct error *error)
{
    uint64_t elements = 1;
    if (!dtype_name(t->dtype)) return corrupt(error, "tensor %s: unknown dtype %u [T4]", t->name, t->dtype);
    if (t->ndim < 0 || t->ndim > CKPT_MAX_DIMS)
        return corrupt(error, "tensor %s: %d dimensions (limit %d) [D1]", t->name, t->ndim, CKPT_MAX_DIMS);
    for (int i = 0; i < CKPT_MAX_DIMS; i++) {
        uint64_t n = t->shape[i];
        if (i >= t->ndim && n != 0)
            return corrupt(error, "tensor %s: the unused dimension %d is not 0 [D1]", t->name, i);
        if (i >= t->ndim) continue;
        if (n < 1 || n > CKPT_MAX_DIM)
            return corrupt(error, "tensor %s: dimension %d is %" PRIu64 " (expected 1 to 2^48) [D2]", t->name, i, n);
        if (!size_mul(&elements, elements, n) || elements > CKPT_MAX_ELEMENTS)
            return corrupt(error, "tensor %s: more than 2^56 elements [D3]", t->name);
    }
    if (!size_mul(&t->bytes, elements, dtype_size(t->dtype)) || t->bytes > CKPT_MAX_TENSOR)
        return corrupt(error, "tensor %s: more than 2^58 bytes [D4]", t->name);
    return 0;
}

/* Ascending by name bytes, then role. */
static int compare(const struct ckpt_tensor *a, const struct ckpt_tensor *b)
{
    int order = strcmp(a->name, b->name);
    return order ? order : (int)a->role - (int)b->role;
}

static int compare_numbers(const void *a, const void *b, void *tensors)
{
    const struct ckpt_tensor *tensor = tensors;
    return compare(&tensor[*(const uint32_t *)a], &tensor[*(const uint32_t *)b]);
}

int64_t index_sort(struct index *index)
{
    free(index->order);
    index->order = host_alloc(index->count, sizeof *index->order);
    for (size_t i = 0; i < index->count; i++) index->order[i] = (uint32_t)i;
    qsort_r(index->order, index->count, sizeof *index->order, compare_numbers, index->tensor);
    for (size_t i = 1; i < index->count; i++)
        if (compare(&index->tensor[index->order[i - 1]], &index->tensor[index->order[i]]) == 0) return index->order[i];
    return -1;
}

int64_t index_find(const struct index *index, const char *name, uint32_t role)
{
    struct ckpt_tensor wanted = {.name = name, .role = (enum role)role};
    size_t low = 0, high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(&index->tensor[index->order[middle]], &wanted);
        if (order == 0) return index->order[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

uint64_t index_chunks(const struct index *index)
{
    const struct ckpt_tensor *last = &index->tensor[index->count - 1];
    return last->first_chunk + tensor_chunks(last->bytes);
}

void index_encode(struct bytes *out, const struct index *index)
{
    static const char zero[40];
    uint64_t names = 0, place = 0;
    for (size_t i = 0; i < index->count; i++) names += strlen(index->tensor[i].name);
    add32(out, (uint32_t)index->count);
    add32(out, CKPT_INDEX_ENTRY);
    add64(out, names);
    add64(out, (names + 7) & ~UINT64_C(7));
    bytes_add(out, zero, sizeof zero);
    for (size_t i = 0; i < index->count; i++) {
        const struct ckpt_tensor *t = &index->tensor[i];
        uint8_t entry[CKPT_INDEX_ENTRY] = {0};
        fields_encode(entry, tensor_fields, &index->tensor[i]);
        store32(entry + 28, (uint32_t)place);
        store16(entry + 32, (uint16_t)strlen(t->name));
        for (int d = 0; d < CKPT_MAX_DIMS; d++) store64(entry + 40 + 8 * d, t->shape[d]);
        bytes_add(out, entry, sizeof entry);
        place += strlen(t->name);
    }
    for (size_t i = 0; i < index->count; i++) add32(out, index->order[i]);
    pad8(out);
    for (size_t i = 0; i < index->count; i++)
        bytes_add(out, index->tensor[i].name, strlen(index->tensor[i].name));
    pad8(out);
}

/* ---- decoding ---- */

/* The places of TIDX's parts. */
struct parts { const uint8_t *entries, *order, *names; uint64_t names_length; };

static int find_parts(struct parts *parts, size_t *count, const uint8_t *p, size_t size, struct error *error)
{
    if (size < CKPT_INDEX_HEAD || load32(p + 4) != CKPT_INDEX_ENTRY || !all_zero(p + 24, 40))
        return corrupt(error, "the head of the tensor index is wrong [T1]");
    uint64_t n = load32(p), names = load64(p + 8), padded = load64(p + 16), order = (4 * n + 7) & ~UINT64_C(7);
    uint64_t entries = CKPT_INDEX_HEAD + n * CKPT_INDEX_ENTRY, sum, up;
    if (n < 1 || n > CKPT_MAX_TENSORS)
        return corrupt(error, "%llu tensors (expected 1 to %d) [T1]", (unsigned long long)n, CKPT_MAX_TENSORS);
    if (!round_up(&up, names, 8) || up != padded || !size_add(&sum, padded, entries + order) || sum != size)
        return corrupt(error, "%" PRIu64 " tensors and %" PRIu64
                       " bytes of names do not make an index of %zu bytes [T1]", n, names, size);
    *parts = (struct parts){p + CKPT_INDEX_HEAD, p + entries, p + entries + order, names};
    if (!all_zero(parts->order + 4 * n, order - 4 * n) || !all_zero(parts->names + names, padded - names))
        return corrupt(error, "padding of the tensor index is not zero [T1]");
    *count = (size_t)n;
    return 0;
}

/* name_at: where this entry's name must start; moved on. */
static int decode_name(char *copy, const uint8_t *p, size_t i, const struct parts *parts, uint64_t *name_at,
                       struct error *error)
{
    uint64_t offset = load32(p + 28), length = load16(p + 32);
    if (offset != *name_at || length > parts->names_length - *name_at ||
        !tensor_name_valid((const char *)parts->names + offset, length))
        return corrupt(error, "tensor %zu: its name (%" PRIu64 " bytes at %" PRIu64 ") is not a valid one of %" PRIu64
                       " [T2]", i, length, offset, parts->names_length);
    memcpy(copy, parts->names + offset, length);
    copy[length] = 0;
    *name_at += length;
    return 0;
}

static int decode_entry(struct ckpt_tensor *t, const uint8_t *p, struct error *error)
{
    fields_decode(t, tensor_fields, p);
    for (int d = 0; d < CKPT_MAX_DIMS; d++) t->shape[d] = load64(p + 40 + 8 * d);
    const char *name = t->name;
    if (!role_name(p[36])) return corrupt(error, "tensor %s: unknown role %d [T4]", name, p[36]);
    if (p[37] != 0) return corrupt(error, "tensor %s: unknown codec %d [T4]", name, p[37]);
    if (t->flags & ~(TENSOR_TRAINABLE | TENSOR_DECAY))
        return corrupt(error, "tensor %s: unknown flags %x [T4]", name, t->flags);
    if (!fields_reserved_zero(tensor_fields, p))
        return corrupt(error, "tensor %s: reserved bytes are not zero [T4]", name);
    uint64_t stored = load64(p + 8), raw = t->bytes;
    if (tensor_bytes(t, error) != 0) return -1;
    if (raw != t->bytes || stored != raw)
        return corrupt(error, "tensor %s: %" PRIu64 " bytes stored, %" PRIu64 " raw, but its shape takes %" PRIu64
                       " [T5]", name, stored, raw, t->bytes);
    return 0;
}

/* end: where the tensor before ended, relative to TDAT; moved on. */
static int check_place(const struct ckpt_tensor *t, uint64_t *end, uint64_t tdat, uint64_t align, struct error *error)
{
    if (t->offset % align != 0 || t->offset < *end || t->offset > tdat || t->bytes > tdat - t->offset)
        return corrupt(error, "tensor %s: %" PRIu64 " bytes at %" PRIu64 " do not lie in order between %" PRIu64
                       " and %" PRIu64 ", aligned to %" PRIu64 " [T6]", t->name, t->bytes, t->offset, *end,
                       tdat, align);
    if (t->offset - *end >= align)
        return corrupt(error, "there is a hole of %" PRIu64 " bytes before tensor %s [T8]", t->offset - *end, t->name);
    *end = t->offset + t->bytes;
    return 0;
}

static int decode_order(struct index *index, const uint8_t *p, struct error *error)
{
    for (size_t i = 0; i < index->count; i++) {
        index->order[i] = load32(p + 4 * i);
        if (index->order[i] >= index->count)
            return corrupt(error, "place %zu of the name order is %u of %zu tensors [T3]", i, index->order[i],
                           index->count);
        if (i && compare(&index->tensor[index->order[i - 1]], &index->tensor[index->order[i]]) >= 0)
            return corrupt(error, "the name order is not ascending at tensor %s [T3]",
                           index->tensor[index->order[i]].name);
    }
    return 0;
}

static int decode_tensors(struct index *index, const struct parts *parts, uint64_t tdat, uint64_t align,
                          struct error *error)
{
    char *name = index->names;
    uint64_t name_at = 0, end = 0, chunks = 0;
    for (size_t i = 0; i < index->count; i++) {
        struct ckpt_tensor *t = &index->tensor[i];
        const uint8_t *p = parts->entries + i * CKPT_INDEX_ENTRY;
        t->name = name;
        if (decode_name(name, p, i, parts, &name_at, error) != 0) return -1;
        if (decode_entry(t, p, error) != 0 || check_place(t, &end, tdat, align, error) != 0) return -1;
        if (t->first_chunk != chunks)
            return corrupt(error, "tensor %s: first chunk %u (expected %" PRIu64 ") [T7]", name, t->first_chunk,
                           chunks);
        chunks += tensor_chunks(t->bytes);
        name += strlen(name) + 1;
        if (chunks > UINT32_MAX) return corrupt(error, "more than 2^32 chunks of data [T7]");
    }
    if (name_at != parts->names_length) return corrupt(error, "there are names that no tensor has [T2]");
    if (end != tdat)
        return corrupt(error, "the last tensor ends at %" PRIu64 " of %" PRIu64 " bytes of TDAT [T9]", end, tdat);
    return decode_order(index, parts->order, error);
}

int index_decode(struct index *out, const void *data, size_t size, uint64_t tdat, uint64_t align, struct error *error)
{
    struct parts parts = {0};
    struct index index = {0};
    if (find_parts(&parts, &index.count, data, size, error) != 0) return -1;
    index.tensor = host_alloc(index.count, sizeof *index.tensor);
    index.order = host_alloc(index.count, sizeof *index.order);
    index.names = host_alloc((size_t)parts.names_length + index.count, 1);
    if (decode_tensors(&index, &parts, tdat, align, error) != 0) {
        index_free(&index);
        return -1;
    }
    *out = index;
    return 0;
}

/* ---- CCRC: u32 chunk bytes, u32 count, u64 0, then the CRCs ---- */

void chunks_encode(struct bytes *out, const uint32_t *crc, size_t count)
{
    add32(out, (uint32_t)CKPT_CHUNK);
    add32(out, (uint32_t)count);
    add64(out, 0);
    for (size_t i = 0; i < count; i++) add32(out, crc[i]);
}

int chunks_decode(uint32_t **out, const void *data, size_t size, const struct index *index, struct error *error)
{
    const uint8_t *p = data;
    uint64_t count = index_chunks(index);
    if (size < CKPT_TABLE_HEAD || load32(p) != CKPT_CHUNK || !all_zero(p + 8, 8))
        return corrupt(error, "the head of the chunk CRCs is wrong [CC1]");
    if (load32(p + 4) != count || size - CKPT_TABLE_HEAD != 4 * count)
        return corrupt(error, "%u chunk CRCs in %zu bytes (expected %" PRIu64 ") [CC2]", load32(p + 4), size, count);
    uint32_t *crc = host_alloc((size_t)count, sizeof *crc);
    for (size_t i = 0; i < count; i++) crc[i] = load32(p + CKPT_TABLE_HEAD + 4 * i);
    *out = crc;
    return 0;
}
