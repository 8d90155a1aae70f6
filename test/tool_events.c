/* tool_events.c FILE... - a second reader of TensorBoard's event files, written from the format's description: checks
 * every checksum and prints "STEP TAG VALUE", texts with their line ends as \n. */
#include "common/base/le.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t table[256];

static uint32_t crc32c(const uint8_t *p, size_t size)
{
    uint32_t crc = 0xFFFFFFFF;
    while (size--) crc = table[(crc ^ *p++) & 255] ^ (crc >> 8);
    return crc ^ 0xFFFFFFFF;
}

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t x = i;
        for (int k = 0; k < 8; k++) x = x & 1 ? x >> 1 ^ 0x82F63B78 : x >> 1;
        table[i] = x;
    }
    if (crc32c((const uint8_t *)"123456789", 9) != 0xE3069283) exit(70);       /* RFC 3720's check value */
}

static void bad(const char *what)
{
    fprintf(stderr, "tool_events: %s\n", what);
    exit(65);
}

static void check(const uint8_t *data, size_t size, const uint8_t *stored)
{
    uint32_t crc = crc32c(data, size);
    if (load32(stored) != ((crc >> 15 | crc << 17) + 0xA282EAD8)) bad("a checksum is wrong");
}

/* ---- protocol buffers ---- */

struct field { int number, type; uint64_t value; const uint8_t *data; size_t size; };

static uint64_t varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t x = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;
        x |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return x;
    }
    bad("a number has no end");
    return 0;
}

/* The next field of a message, or 0 at its end. */
static int next(struct field *f, const uint8_t **p, const uint8_t *end)
{
    if (*p == end) return 0;
    uint64_t key = varint(p, end);
    *f = (struct field){.number = (int)(key >> 3), .type = (int)(key & 7)};
    if (f->type == 0) f->value = varint(p, end);
    else {
        f->size = f->type == 2 ? (size_t)varint(p, end) : f->type == 1 ? 8 : f->type == 5 ? 4 : (bad("a wire type"), 0);
        if (f->size > (size_t)(end - *p)) bad("a field is longer than its message");
        f->data = *p;
        *p += f->size;
    }
    return 1;
}

/* The first field `number` of a message; must be there. */
static struct field get(struct field message, int number)
{
    const uint8_t *p = message.data, *end = p + message.size;
    struct field f;
    while (next(&f, &p, end))
        if (f.number == number) return f;
    bad("a field is missing");
    return f;
}

static void print_text(struct field text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '\n') printf("\\n");
        else putchar(text.data[i]);
    putchar('\n');
}

static void print_value(long long step, struct field value)
{
    const uint8_t *p = value.data, *end = p + value.size;
    struct field f, tag = get(value, 1);
    printf("%lld %.*s ", step, (int)tag.size, (const char *)tag.data);
    while (next(&f, &p, end)) {
        float x;
        if (f.number == 2 && f.type == 5) printf("%.9g\n", (double)*(float *)memcpy(&x, f.data, 4));
        if (f.number == 8) {
            if (get(f, 1).value != 7) bad("a text is not of type string");
            print_text(get(f, 8));
        }
        if (f.number == 9 && (get(get(f, 1), 1).size != 4 || memcmp(get(get(f, 1), 1).data, "text", 4) != 0))
            bad("a text is not the text plugin's");
    }
}

static void print_event(const uint8_t *p, size_t size, int first)
{
    const uint8_t *end = p + size;
    struct field f, value;
    long long step = 0;
    double time = 0;
    while (next(&f, &p, end)) {
        if (f.number == 1) time = load_f64(f.data);
        if (f.number == 2) step = (long long)f.value;
        if (first != (f.number == 3) && f.number > 2) bad("the version is not first, or twice");
        if (f.number == 7) printf("%lld start %d\n", step, (int)get(f, 1).value);
        if (f.number == 5)
            for (const uint8_t *v = f.data; next(&value, &v, f.data + f.size);) print_value(step, value);
    }
    if (time < 1.7e9 || time > 1e11) bad("the time of an event");
}

int main(int argc, char **argv)
{
    make_table();
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        uint8_t head[12];
        int first = 1;
        if (!f) bad("a file is missing");
        for (; fread(head, 1, 12, f) == 12; first = 0) {
            uint64_t size = load64(head);
            check(head, 8, head + 8);
            if (size > 1 << 20) bad("a record is too long");
            uint8_t *data = malloc(size + 4);
            if (fread(data, 1, size + 4, f) != size + 4) bad("a record is cut");
            check(data, size, data + size);
            print_event(data, size, first);
            free(data);
        }
        if (fgetc(f) != EOF || first) bad("not whole records");
        fclose(f);
    }
    return 0;
}
