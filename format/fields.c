/* fields.c - the records of a checkpoint as tables, one row per field: encoding, decoding, the check that reserved
 * bytes are zero and `ckpt explain` all walk the same rows. */
#include "format/layout.h"

#define AT(type, member) offsetof(type, member), sizeof ((type *)0)->member

const struct field header_fields[] = {
    {"signature", 0, 8}, {"byte-order word", 8, 4}, {"major version", 12, 2, AT(struct header, major)},
    {"minor version", 14, 2, AT(struct header, minor)}, {"header size", 16, 4},
    {"kind", 20, 4, AT(struct header, kind)}, {"file size", 24, 8, AT(struct header, file_size)},
    {"incompatible features", 32, 8, AT(struct header, incompat)},
    {"read-only-compatible features", 40, 8, AT(struct header, rocompat)},
    {"compatible features", 48, 8, AT(struct header, compat)},
    {"section table offset", 56, 8, AT(struct header, table_offset)},
    {"section count", 64, 4, AT(struct header, section_count)},
    {"section table CRC", 68, 4, AT(struct header, table_crc)}, {"stage", 72, 4, AT(struct header, meta.stage)},
    {"flags", 76, 4, AT(struct header, meta.flags)}, {"uuid", 80, 16, AT(struct header, meta.uuid)},
    {"run uuid", 96, 16, AT(struct header, meta.run_uuid)},
    {"weights_id", 112, 16, AT(struct header, meta.weights_id)}, {"reserved", 128, 16},
    {"step", 144, 8, AT(struct header, meta.step)}, {"tokens seen", 152, 8, AT(struct header, meta.tokens_seen)},
    {"created", 160, 8, AT(struct header, meta.created)}, {"shard index", 168, 4, AT(struct header, shard_index)},
    {"shard count", 172, 4, AT(struct header, shard_count)}, {"tensor alignment", 176, 4, AT(struct header, align)},
    {"section entry size", 180, 4, AT(struct header, section_entry)},
    {"writer", 184, 32, AT(struct header, meta.writer)}, {"reserved", 216, 36}, {"header CRC", 252, 4},
    {"reserved", 256, 3840}, {NULL}};

const struct field section_fields[] = {
    {"type", 0, 4}, {"flags", 4, 4, AT(struct section, flags)}, {"offset", 8, 8, AT(struct section, offset)},
    {"stored length", 16, 8, AT(struct section, stored)}, {"raw length", 24, 8, AT(struct section, raw)},
    {"CRC", 32, 4, AT(struct section, crc)}, {"codec", 36, 2, AT(struct section, codec)},
    {"version", 38, 2, AT(struct section, version)}, {"instance", 40, 4, AT(struct section, instance)},
    {"checksum algorithm", 44, 4}, {"reserved", 48, 16}, {NULL}};

/* The shape is eight numbers: index.c's. */
const struct field tensor_fields[] = {
    {"data offset", 0, 8, AT(struct tensor, offset)}, {"stored length", 8, 8, AT(struct tensor, stored)},
    {"raw length", 16, 8, AT(struct tensor, public.bytes)}, {"CRC", 24, 4, AT(struct tensor, public.crc)},
    {"name offset", 28, 4}, {"name length", 32, 2}, {"dtype", 34, 1, AT(struct tensor, public.dtype)},
    {"dimensions", 35, 1, AT(struct tensor, public.ndim)}, {"role", 36, 1, AT(struct tensor, public.role)},
    {"codec", 37, 1}, {"flags", 38, 2, AT(struct tensor, flags)}, {"shape", 40, 64}, {"reserved", 104, 4},
    {"parameter group", 108, 4, AT(struct tensor, group)}, {"first chunk", 112, 4, AT(struct tensor, first_chunk)},
    {"reserved", 116, 12}, {NULL}};

const struct field stat_fields[] = {
    {"min", 0, 8, AT(struct stats, min)}, {"max", 8, 8, AT(struct stats, max)}, {"mean", 16, 8, AT(struct stats, mean)},
    {"std", 24, 8, AT(struct stats, std)}, {"absmax", 32, 8, AT(struct stats, absmax)},
    {"NaNs", 40, 8, AT(struct stats, nan)}, {"infinities", 48, 8, AT(struct stats, inf)},
    {"zeros", 56, 8, AT(struct stats, zero)}, {NULL}};

void fields_encode(uint8_t *out, const struct field *field, const void *from)
{
    for (const struct field *f = field; f->name; f++) {
        const char *place = (const char *)from + f->place;
        uint16_t half = 0;
        uint32_t word = 0;
        uint64_t value = 0;
        if (f->width == 2) memcpy(&half, place, 2);
        if (f->width == 4) memcpy(&word, place, 4);
        if (f->width == 8) memcpy(&value, place, 8);
        value |= half | word;
        if (f->size > 8 && f->width) memcpy(out + f->at, place, f->size);
        else if (f->width) for (int i = 0; i < f->size; i++) out[f->at + i] = (uint8_t)(value >> 8 * i);
    }
}

void fields_decode(void *to, const struct field *field, const uint8_t *in)
{
    for (const struct field *f = field; f->name; f++) {
        char *place = (char *)to + f->place;
        uint64_t value = 0;
        for (int i = 0; i < f->size && f->size <= 8; i++) value |= (uint64_t)in[f->at + i] << 8 * i;
        uint16_t half = (uint16_t)value;
        uint32_t word = (uint32_t)value;
        if (f->size > 8 && f->width) memcpy(place, in + f->at, f->size);
        else if (f->width == 2) memcpy(place, &half, 2);
        else if (f->width == 4) memcpy(place, &word, 4);
        else if (f->width == 8) memcpy(place, &value, 8);
    }
}

bool fields_reserved_zero(const struct field *field, const uint8_t *in)
{
    for (const struct field *f = field; f->name; f++)
        if (strcmp(f->name, "reserved") == 0 && !all_zero(in + f->at, f->size)) return false;
    return true;
}

const char *field_name(const struct field *field, uint64_t at)
{
    for (; field->name; field++)
        if (at >= field->at && at - field->at < field->size) return field->name;
    return "unknown field";
}

void add32(struct bytes *out, uint32_t v)
{
    char b[4];
    store32(b, v);
    bytes_add(out, b, sizeof b);
}

void add64(struct bytes *out, uint64_t v)
{
    add32(out, (uint32_t)v);
    add32(out, (uint32_t)(v >> 32));
}

void pad8(struct bytes *out) { bytes_add(out, "\0\0\0\0\0\0\0", -out->size & 7); }

bool all_zero(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) any |= p[i];
    return any == 0;
}
