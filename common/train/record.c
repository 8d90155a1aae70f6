/* record.c - records are small and written once a step: a linear search is all they need.  For TensorBoard they are
 * TFRecords around protocol buffers of the message Event, written by hand: it is a dozen fields.
 *
 * record:  u64 length | u32 masked CRC32C of it | Event | u32 masked CRC32C of the Event
 * Event:   1 wall_time double | 2 step | 3 file_version | 5 Summary | 7 SessionLog {1 status: 1 = START}
 * Summary: 1 Value {1 tag | 2 simple_value float | 8 TensorProto {1 dtype: 7 = string | 8 string_val}
 *                   | 9 SummaryMetadata {1 PluginData {1 plugin_name}}}
 * Source: event.proto, summary.proto and tensor.proto of TensorBoard; protobuf.dev/programming-guides/encoding. */
#define _GNU_SOURCE
#include "common/train/record.h"
#include "common/base/le.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

static const struct record_field *find_field(const struct record *r, const char *key)
{
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->field[i].key, key) == 0) return &r->field[i];
    return NULL;
}

static void set_field(struct record *r, const char *key, double number, int kind)
{
    const struct record_field *found = find_field(r, key);
    if (!found && r->count == RECORD_MAX) die("more than %d fields in a record", RECORD_MAX);
    struct record_field *f = &r->field[found ? found - r->field : r->count++];
    snprintf(f->key, sizeof f->key, "%s", key);
    f->number = number;
    f->kind = kind;
}

void record_real(struct record *r, const char *key, double value) { set_field(r, key, value, RECORD_REAL); }
void record_count(struct record *r, const char *key, int64_t value) { set_field(r, key, (double)value, RECORD_COUNT); }

double record_get(const struct record *r, const char *key)
{
    const struct record_field *f = find_field(r, key);
    return f ? f->number : NAN;
}

void record_json(struct bytes *out, const struct record *r)
{
    char number[32];
    bytes_text(out, "{");
    for (int i = 0; i < r->count; i++) {
        const struct record_field *f = &r->field[i];
        bytes_text(out, i ? ",\"%s\":" : "\"%s\":", f->key);
        if (f->kind == RECORD_COUNT) bytes_text(out, "%.0f", f->number);
        else bytes_text(out, "%s", isfinite(f->number) ? text_real(number, f->number, 6) : "null");
    }
    bytes_text(out, "}");
}

/* ---- for TensorBoard ---- */

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };                     /* wire types */
enum { HEAD = 12, TIME = 9, STEP_MOST = 11 };                     /* bytes: framing, wall_time, step */

/* CRC-32C (Castagnoli), rotated and moved as TFRecord wants it. */
static uint32_t masked_crc(const void *data, size_t size)
{
    uint32_t crc = ~0u;
    for (const uint8_t *p = data; size--; p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- protocol buffers ---- */

static void add_varint(struct bytes *out, uint64_t x)
{
    for (; x > 127; x >>= 7) bytes_add(out, &(uint8_t){(uint8_t)(x | 128)}, 1);
    bytes_add(out, &(uint8_t){(uint8_t)x}, 1);
}

static void add_key(struct bytes *out, int field, int type) { add_varint(out, (uint64_t)(field << 3 | type)); }

static void add_number(struct bytes *out, int field, uint64_t x)
{
    add_key(out, field, VARINT);
    add_varint(out, x);
}

static void add_bytes(struct bytes *out, int field, const void *data, size_t size)
{
    add_key(out, field, BYTES);
    add_varint(out, size);
    bytes_add(out, data, size);
}

/* A message as a field of another one; it is freed. */
static void add_message(struct bytes *out, int field, struct bytes *message)
{
    add_bytes(out, field, message->data, message->size);
    bytes_free(message);
}

/* ---- records ---- */

/* One record: an event of this step, now, that says `what`, which is freed. */
static void add_event(struct bytes *out, int64_t step, int field, struct bytes *what)
{
    scoped_bytes struct bytes event = {0};
    uint8_t head[HEAD], time[8], crc[4];
    double now = (double)nanoseconds_utc() / 1e9;
    uint64_t bits;
    memcpy(&bits, &now, sizeof bits);
    store64(time, bits);
    add_key(&event, 1, FIXED64);
    bytes_add(&event, time, sizeof time);
    add_number(&event, 2, (uint64_t)step);
    add_message(&event, field, what);
    store64(head, event.size);
    store32(head + 8, masked_crc(head, 8));
    store32(crc, masked_crc(event.data, event.size));
    bytes_add(out, head, sizeof head);
    bytes_add(out, event.data, event.size);
    bytes_add(out, crc, sizeof crc);
}

void events_start(struct bytes *out, int64_t step)
{
    struct bytes version = {0}, session = {0};
    bytes_text(&version, "brain.Event:2");
    add_event(out, 0, 3, &version);
    add_number(&session, 1, 1);
    add_event(out, step, 7, &session);
}

/* The group a key is shown in: "val_loss" is val/loss, "critic.lr" critic/lr, "loss" train/loss. */
static void add_tag(struct bytes *value, const char *key)
{
    struct bytes tag = {0};
    const char *dot = strchr(key, '.');
    if (strncmp(key, "val_", 4) == 0) bytes_text(&tag, "val/%s", key + 4);
    else if (dot) bytes_text(&tag, "%.*s/%s", (int)(dot - key), key, dot + 1);
    else bytes_text(&tag, "train/%s", key);
    add_message(value, 1, &tag);
}

void events_numbers(struct bytes *out, const struct record *r)
{
    struct bytes summary = {0};
    for (int i = 0; i < r->count; i++) {
        const struct record_field *f = &r->field[i];
        struct bytes value = {0};
        float number = (float)f->number;
        uint32_t bits;
        uint8_t raw[4];
        if (!isfinite(number) || strcmp(f->key, "step") == 0) continue;
        memcpy(&bits, &number, sizeof bits);
        store32(raw, bits);
        add_tag(&value, f->key);
        add_key(&value, 2, FIXED32);
        bytes_add(&value, raw, sizeof raw);
        add_message(&summary, 1, &value);
    }
    add_event(out, (int64_t)record_get(r, "step"), 5, &summary);
}

/* TensorBoard reads texts as Markdown: indented by four blanks, one is shown as it is. */
void events_text(struct bytes *out, int64_t step, const char *tag, const char *text, size_t size)
{
    struct bytes shown = {0}, tensor = {0}, plugin = {0}, metadata = {0}, value = {0}, summary = {0};
    for (size_t i = 0; i < size; i++) {
        if (i == 0 || text[i - 1] == '\n') bytes_add(&shown, "    ", 4);
        bytes_add(&shown, text + i, 1);
    }
    add_number(&tensor, 1, 7);
    add_message(&tensor, 8, &shown);
    add_bytes(&plugin, 1, "text", 4);
    add_message(&metadata, 1, &plugin);
    add_bytes(&value, 1, tag, strlen(tag));
    add_message(&value, 8, &tensor);
    add_message(&value, 9, &metadata);
    add_message(&summary, 1, &value);
    add_event(out, step, 5, &summary);
}

/* ---- going back ---- */

/* The step of an event, from its first bytes, as add_event writes them; -1 for other bytes. */
static int64_t step_of(const uint8_t *event, size_t size)
{
    uint64_t step = 0;
    size_t at = TIME;
    if (size <= TIME || event[0] != (1 << 3 | FIXED64) || event[at++] != (2 << 3 | VARINT)) return -1;
    for (int shift = 0; at < size && shift < 64; shift += 7) {
        step |= (uint64_t)(event[at] & 127) << shift;
        if (event[at++] < 128) return (int64_t)step;
    }
    return -1;
}

int events_rewind(const char *path, int64_t step)
{
    FILE *f = fopen(path, "r+e");
    uint8_t head[HEAD], begin[TIME + STEP_MOST];
    off_t keep = 0, size;
    int records = 0;
    if (!f) return -1;
    bool ok = fseeko(f, 0, SEEK_END) == 0 && (size = ftello(f)) >= 0;
    while (ok && fseeko(f, keep, SEEK_SET) == 0 && fread(head, sizeof head, 1, f) == 1) {
        uint64_t length = load64(head), left = (uint64_t)(size - keep) - HEAD;
        size_t got = fread(begin, 1, length < sizeof begin ? length : sizeof begin, f);
        if (load32(head + 8) != masked_crc(head, 8) || left < 4 || length > left - 4) break;
        int64_t at = step_of(begin, got);
        if (at < 0 || at > step) break;
        keep += HEAD + (off_t)length + 4;
        records++;
    }
    ok = ok && !ferror(f) && ftruncate(fileno(f), keep) == 0 && fsync(fileno(f)) == 0;
    int why = errno;
    fclose(f);
    errno = why;
    return !ok || (records < 2 && unlink(path) != 0) ? -1 : 0;
}
