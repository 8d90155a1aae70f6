/* tool_broken.c - writes one damaged checkpoint for each check of format/SPEC.md: FOLDER/ID.ckpt or ID-text.ckpt, where
 * ID is the check that must refuse it, or good.  Each is the same good file with one thing wrong and every CRC that lies before
 * the check signed again, as a hostile writer would.
 *   tool_broken FOLDER */
#include "common/base/threads.h"
#include "format/layout.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- the good file ---- */

static const float values[6] = {1, 2, 3, 4, 5, 6};
static const uint8_t bools[72] = {1, 0, 1, 1, 0};

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    memcpy(host, (const char *)self + offset, bytes);
}

static struct ckpt_source source(const char *name, enum role role, uint32_t dtype, int ndim, uint64_t a, uint64_t b,
                                 const void *data)
{
    struct ckpt_source s = {.role = role, .dtype = (enum dtype)dtype, .ndim = ndim, .shape = {a, b},
                            .self = (void *)data, .fetch = fetch};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

/* META, byte by byte: 16 head | 16 "a" bool | 40 "b" text "hi" | 64 "c" i64[2] | 96 "d" texts {"x"} | 136 end.
 * TIDX: 64 head | 64+128*i entries: a.w weight, a.w v, flags (bool), q (u8) | 576 order | 592 names "a.wa.wflagsq".
 * */
static void make_good(struct bytes *out, const char *folder)
{
    struct ckpt_meta m = {.stage = STAGE_PRETRAIN, .step = 7, .writer = "tool_broken"};
    struct error error;
    int64_t pair[] = {1, 2};
    char *texts[] = {"x"}, *path = host_text("%s/good.ckpt", folder);
    kv_set_text(&m.conf, "arch", "llama");
    kv_set_bool(&m.meta, "a", true);
    kv_set_text(&m.meta, "b", "hi");
    kv_set_i64s(&m.meta, "c", pair, 2);
    kv_set_texts(&m.meta, "d", texts, 1);
    kv_set_text(&m.chat, "template", "quartet");
    kv_set_f64(&m.eval, "val_loss", 1);
    for (int i = 0; i < 9000; i++) bytes_add(&m.tokn, "t", 1);
    struct ckpt_source s[] = {source("a.w", ROLE_WEIGHT, DTYPE_F32, 2, 2, 3, values),
                              source("a.w", ROLE_ADAM_V, DTYPE_F32, 2, 2, 3, values),
                              source("flags", ROLE_BUFFER, DTYPE_BOOL, 1, 5, 0,
                                     bools), source("q", ROLE_BUFFER, DTYPE_U8, 1, 68, 0, bools)};
    if (ckpt_save(folder, "good.ckpt", &m, s, 4, &error) != 0 || file_read(out, path, 1 << 20, &error) != 0)
        quit_error(&error);
    ckpt_meta_free(&m);
    free(path);
}

/* ---- edits ---- */

/* The section's entry in the table. */
static uint8_t *entry_of(const struct bytes *b, const char *type)
{
    uint8_t *p = (uint8_t *)b->data + load64(b->data + 56);
    for (uint32_t i = 0; i < load32(b->data + 64); i++, p += 64)
        if (memcmp(p, type, 4) == 0) return p;
    die("no section %s", type);
}

static uint8_t *data_of(const struct bytes *b, const char *type)
{
    return (uint8_t *)b->data + load64(entry_of(b, type) + 8);
}

enum { SIGN_DATA = 1, SIGN_SECTION = 2, SIGN_TABLE = 4, SIGN_HEADER = 8, SIGN_USUAL = 14, SIGN_ALL = 15 };

/* CRCs of tensors into TIDX and CCRC: each is one chunk here. */
static void sign_data(struct bytes *b)
{
    uint8_t *index = data_of(b, "TIDX"), *chunks = data_of(b, "CCRC"), *data = data_of(b, "TDAT");
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t *e = index + 64 + 128 * i;
        store32(e + 24, crc32_of(0, data + load64(e), load64(e + 8)));
        store32(chunks + 16 + 4 * i, load32(e + 24));
    }
}

static void sign(struct bytes *b, int what, const uint8_t *table, uint32_t count)
{
    uint8_t *t = (uint8_t *)b->data + (table - (const uint8_t *)b->data);
    if (what & SIGN_DATA) sign_data(b);
    for (uint32_t i = 0; i < count && what & SIGN_SECTION; i++) {
        uint64_t offset = load64(t + 64 * i + 8), stored = load64(t + 64 * i + 16);
        bool tdat = memcmp(t + 64 * i, "TDAT", 4) == 0;
        if (!tdat && offset < b->size && stored <= b->size - offset)
            store32(t + 64 * i + 32, crc32_of(0, b->data + offset, stored));
    }
    if (what & SIGN_TABLE) store32(b->data + 68, crc32_of(0, t, (size_t)count * 64));
    if (what & SIGN_HEADER) store32(b->data + 252, crc32_of(0, b->data, 252));
}

/* where: "" the header page, "TYPE" the section's bytes, "@TYPE" its table entry, "<TYPE" the last byte before it. */
struct edit { const char *where; uint32_t at; int width; uint64_t value; };
struct broken { const char *name; int sign; struct edit edit[4]; };

static void apply(struct bytes *b, const struct edit *e)
{
    uint8_t *p = (uint8_t *)b->data;
    if (e->where[0] == '@') p = entry_of(b, e->where + 1);
    else if (e->where[0] == '<') p = data_of(b, e->where + 1) - 1;
    else if (e->where[0]) p = data_of(b, e->where);
    for (int i = 0; i < e->width; i++) p[e->at + (uint32_t)i] = (uint8_t)(e->value >> 8 * i);
}

#define E(...) {__VA_ARGS__}
#define T(i) (64 + 128 * (i))
static const uint64_t MINUS_FIVE = UINT64_C(0xC014000000000000);

static const struct broken list[] = {
    {"good-unknown", SIGN_USUAL, {E("@CHAT", 0, 4, 0x57454E58), E("@XNEW", 38, 2, 3), E("@XNEW", 40, 4, 9)}},
    {"H2-nothing", 0, {E("", 0, 8, 0)}},
    {"H2-text", 0, {E("", 4, 1, 0x0A)}},
    {"H3", SIGN_USUAL, {E("", 8, 4, 0x04030201)}},
    {"H4", 0, {E("", 144, 1, 9)}},
    {"H5-newer", SIGN_USUAL, {E("", 12, 2, 2)}},
    {"H5-size", SIGN_USUAL, {E("", 16, 4, 8192)}},
    {"H6-reserved", SIGN_USUAL, {E("", 128, 1, 1)}},
    {"H6-end", SIGN_USUAL, {E("", 251, 1, 1)}},
    {"H6-page", SIGN_USUAL, {E("", 4095, 1, 1)}},
    {"H7-less", SIGN_USUAL, {E("", 24, 8, 8192)}},
    {"H7-more", SIGN_USUAL, {E("", 24, 8, UINT64_C(1) << 59)}},
    {"H8-odd", SIGN_USUAL, {E("", 176, 4, 4097)}},
    {"H8-zero", SIGN_USUAL, {E("", 176, 4, 0)}},
    {"H8-large", SIGN_USUAL, {E("", 176, 4, 1U << 31)}},
    {"H9", SIGN_USUAL, {E("", 32, 8, UINT64_C(1) << 63)}},
    {"H10-kind", SIGN_USUAL, {E("", 20, 4, 2)}},
    {"H10-nokind", SIGN_USUAL, {E("", 20, 4, 9)}},
    {"H10-stage", SIGN_USUAL, {E("", 72, 4, 7)}},
    {"H10-flags", SIGN_USUAL, {E("", 76, 4, 8)}},
    {"H11", SIGN_USUAL, {E("", 168, 4, 1)}},
    {"H12-offset", SIGN_USUAL, {E("", 56, 8, UINT64_MAX - 4095)}},
    {"H12-before", SIGN_USUAL, {E("", 56, 8, 4096)}},
    {"H12-count", SIGN_USUAL, {E("", 64, 4, UINT32_MAX)}},
    {"H12-none", SIGN_USUAL, {E("", 64, 4, 0)}},
    {"H12-entry", SIGN_USUAL, {E("", 180, 4, 60)}},
    {"H12-padding", SIGN_USUAL, {E("@TDAT", 64, 1, 1)}},
    {"H13", SIGN_USUAL, {E("", 187, 1, 0x1B)}},
    {"H13-behind", SIGN_USUAL, {E("", 215, 1, 'x')}},
    {"S1", SIGN_HEADER, {E("@TOKN", 16, 1, 1)}},
    {"S2-unaligned", SIGN_USUAL, {E("@META", 8, 1, 8)}},
    {"S2-first", SIGN_USUAL, {E("@META", 8, 8, 4096)}},
    {"S2-behind", SIGN_USUAL, {E("@META", 8, 8, UINT64_C(1) << 63)}},
    {"S3-long", SIGN_USUAL, {E("@TDAT", 16, 8, UINT64_MAX)}},
    {"S3-empty", SIGN_USUAL, {E("@META", 16, 8, 0)}},
    {"S4-hole", SIGN_USUAL, {E("@TOKN", 16, 8, 100), E("@TOKN", 24, 8, 100)}},
    {"S4-padding", SIGN_USUAL, {E("<TDAT", 0, 1, 1)}},
    {"S4-end", SIGN_USUAL, {E("TDAT", 16383, 1, 1)}},
    {"S5", SIGN_USUAL, {E("@CHAT", 0, 4, 0x4C415645)}},
    {"S6", SIGN_USUAL, {E("@CHAT", 0, 1, 'c')}},
    {"S7-flags", SIGN_USUAL, {E("@CHAT", 4, 4, 0x10)}},
    {"S7-version", SIGN_USUAL, {E("@CHAT", 38, 2, 1)}},
    {"S7-reserved", SIGN_USUAL, {E("@CHAT", 63, 1, 1)}},
    {"S7-algorithm", SIGN_USUAL, {E("@CHAT", 44, 4, 1)}},
    {"S8-codec", SIGN_USUAL, {E("@CHAT", 36, 2, 2)}},
    {"S8-raw", SIGN_USUAL, {E("@CHAT", 24, 8, 4)}},
    {"S8-bomb", SIGN_USUAL, {E("@CHAT", 36, 2, 1), E("@CHAT", 24, 8, 60000000)}},
    {"S8-data", SIGN_USUAL, {E("@TDAT", 36, 2, 1)}},
    {"S9", SIGN_HEADER, {E("META", 56, 1, 'x')}},
    {"S9-data", SIGN_USUAL, {E("@TDAT", 32, 4, 5)}},
    {"S10", SIGN_USUAL, {E("@TIDX", 0, 4, 0x58444958), E("@XIDX", 4, 4, 0)}},
    {"S11", SIGN_USUAL, {E("@CHAT", 0, 4, 0x5857454E), E("@NEWX", 4, 4, 1)}},
    {"S12", SIGN_USUAL, {E("@CHAT", 36, 2, 1)}},
    {"K1-many", SIGN_USUAL, {E("META", 0, 4, UINT32_MAX)}},
    {"K1-few", SIGN_USUAL, {E("META", 0, 4, 9)}},
    {"K1-head", SIGN_USUAL, {E("META", 4, 1, 1)}},
    {"K2", SIGN_USUAL, {E("META", 0, 4, 5)}},
    {"K3-empty", SIGN_USUAL, {E("META", 18, 2, 0)}},
    {"K3-long", SIGN_USUAL, {E("META", 18, 2, 128)}},
    {"K3-letter", SIGN_USUAL, {E("META", 24, 1, 'A')}},
    {"K3-beyond", SIGN_USUAL, {E("META", 98, 2, 127)}},
    {"K4-long", SIGN_USUAL, {E("META", 44, 4, UINT32_MAX)}},
    {"K4-beyond", SIGN_USUAL, {E("META", 100, 4, 33)}},
    {"K4-scalar", SIGN_USUAL, {E("META", 64, 1, KV_F64)}},
    {"K5-array", SIGN_USUAL, {E("META", 40, 1, KV_U64S)}},
    {"K5-count", SIGN_USUAL, {E("META", 112, 4, UINT32_MAX)}},
    {"K5-length", SIGN_USUAL, {E("META", 120, 4, UINT32_MAX)}},
    {"K5-head", SIGN_USUAL, {E("META", 116, 4, 1)}},
    {"K7-type", SIGN_USUAL, {E("META", 16, 1, 11)}},
    {"K7-reserved", SIGN_USUAL, {E("META", 17, 1, 1)}},
    {"K8-order", SIGN_USUAL, {E("META", 24, 1, 'z')}},
    {"K8-twice", SIGN_USUAL, {E("META", 48, 1, 'a')}},
    {"K9", SIGN_USUAL, {E("META", 32, 8, 2)}},
    {"K10", SIGN_USUAL, {E("META", 56, 2, 0xA9C3C3)}},
    {"K10-nul", SIGN_USUAL, {E("META", 56, 1, 0)}},
    {"K10-texts", SIGN_USUAL, {E("META", 128, 1, 0xFF)}},
    {"K12-key", SIGN_USUAL, {E("META", 31, 1, 1)}},
    {"K12-value", SIGN_USUAL, {E("META", 63, 1, 1)}},
    {"K13", SIGN_USUAL, {E("META", 0, 4, 3)}},
    {"T1-many", SIGN_USUAL, {E("TIDX", 0, 4, UINT32_MAX)}},
    {"T1-none", SIGN_USUAL, {E("TIDX", 0, 4, 0)}},
    {"T1-entry", SIGN_USUAL, {E("TIDX", 4, 4, 64)}},
    {"T1-names", SIGN_USUAL, {E("TIDX", 8, 8, UINT64_MAX), E("TIDX", 16, 8, 0)}},
    {"T1-padded", SIGN_USUAL, {E("TIDX", 16, 8, UINT64_MAX - 7)}},
    {"T1-reserved", SIGN_USUAL, {E("TIDX", 63, 1, 1)}},
    {"T2-letter", SIGN_USUAL, {E("TIDX", 592, 1, '/')}},
    {"T2-dot", SIGN_USUAL, {E("TIDX", 592, 1, '.')}},
    {"T2-dots", SIGN_USUAL, {E("TIDX", 600, 2, 0x2E2E)}},
    {"T2-place", SIGN_USUAL, {E("TIDX", T(1) + 28, 4, UINT32_MAX)}},
    {"T2-length", SIGN_USUAL, {E("TIDX", T(3) + 32, 2, 2)}},
    {"T3-number", SIGN_USUAL, {E("TIDX", 576, 4, UINT32_MAX)}},
    {"T3-twice", SIGN_USUAL, {E("TIDX", 580, 4, 0)}},
    {"T3-order", SIGN_USUAL, {E("TIDX", 576, 8, 1)}},
    {"T3-same", SIGN_USUAL, {E("TIDX", T(1) + 36, 1, ROLE_WEIGHT)}},
    {"T4-dtype", SIGN_USUAL, {E("TIDX", T(0) + 34, 1, 99)}},
    {"T4-role", SIGN_USUAL, {E("TIDX", T(0) + 36, 1, 8)}},
    {"T4-codec", SIGN_USUAL, {E("TIDX", T(0) + 37, 1, 2)}},
    {"T4-flags", SIGN_USUAL, {E("TIDX", T(0) + 38, 2, 4)}},
    {"T4-reserved", SIGN_USUAL, {E("TIDX", T(0) + 127, 1, 1)}},
    {"T4-alias", SIGN_USUAL, {E("TIDX", T(0) + 104, 4, 1)}},
    {"D1-many", SIGN_USUAL, {E("TIDX", T(0) + 35, 1, 9)}},
    {"D1-unused", SIGN_USUAL, {E("TIDX", T(0) + 96, 8, 1)}},
    {"D2-zero", SIGN_USUAL, {E("TIDX", T(0) + 40, 8, 0)}},
    {"D2-large", SIGN_USUAL, {E("TIDX", T(0) + 40, 8, (UINT64_C(1) << 48) + 1)}},
    {"D3", SIGN_USUAL, {E("TIDX", T(0) + 40, 8, UINT64_C(1) << 32), E("TIDX", T(0) + 48, 8, UINT64_C(1) << 32)}},
    {"T4-blocks", SIGN_USUAL, {E("TIDX", T(3) + 34, 1, 32)}},
    {"D4", SIGN_USUAL, {E("TIDX", T(0) + 34, 1, DTYPE_F64), E("TIDX", T(0) + 40, 8, UINT64_C(1) << 28),
                              E("TIDX", T(0) + 48, 8, UINT64_C(1) << 28)}},
    {"T5-raw", SIGN_USUAL, {E("TIDX", T(0) + 16, 8, 28)}},
    {"T5-stored", SIGN_USUAL, {E("TIDX", T(0) + 8, 8, UINT64_MAX)}},
    {"T5-shape", SIGN_USUAL, {E("TIDX", T(0) + 40, 8, 3)}},
    {"T6-unaligned", SIGN_USUAL, {E("TIDX", T(1), 8, 4097)}},
    {"T6-overlap", SIGN_USUAL, {E("TIDX", T(1), 8, 0)}},
    {"T6-beyond", SIGN_USUAL, {E("TIDX", T(3), 8, UINT64_MAX - 4095)}},
    {"T7", SIGN_USUAL, {E("TIDX", T(1) + 112, 4, 2)}},
    {"T8-hole", SIGN_USUAL, {E("", 176, 4, 64)}},
    {"T8-padding", SIGN_USUAL, {E("TDAT", 24, 1, 1)}},
    {"T9", SIGN_USUAL, {E("@TDAT", 16, 8, 12288 + 72), E("@TDAT", 24, 8, 12288 + 72)}},
    {"T10", SIGN_USUAL, {E("TDAT", 3, 1, 0x40)}},
    {"T10-nochunks", SIGN_USUAL, {E("TDAT", 3, 1, 0x40), E("@CCRC", 0, 4, 0x43524358)}},
    {"T11", SIGN_ALL, {E("TDAT", 8192, 1, 2)}},
    {"CC1", SIGN_USUAL, {E("CCRC", 0, 4, 1 << 20)}},
    {"CC2", SIGN_USUAL, {E("CCRC", 4, 4, UINT32_MAX)}},
    {"CC3", SIGN_USUAL, {E("CCRC", 16, 4, 0)}},
    {"ST1", SIGN_USUAL, {E("STAT", 0, 4, 3)}},
    {"ST2-std", SIGN_USUAL, {E("STAT", 16 + 24, 8, MINUS_FIVE)}},
    {"ST2-count", SIGN_USUAL, {E("STAT", 16 + 40, 8, 7)}},
    {"ST2-nan", SIGN_USUAL, {E("STAT", 16, 8, UINT64_MAX)}},
    {"V1", SIGN_ALL, {E("TDAT", 0, 4, 0x7FC00000)}},
    {"V2", SIGN_ALL, {E("TDAT", 4096, 4, 0xC0000000)}},
    {"V3", SIGN_USUAL, {E("STAT", 16, 8, MINUS_FIVE)}},
    {"C6", SIGN_USUAL, {E("TIDX", T(1) + 40, 8, 3), E("TIDX", T(1) + 48, 8, 2)}},
};

static void write_file(const char *folder, const char *name, const char *data, size_t size)
{
    struct error error;
    char *path = host_text("%s/%s.ckpt", folder, name);
    if (file_replace(path, data, size, &error) != 0) quit_error(&error);
    free(path);
}

int main(int argc, char **argv)
{
    struct bytes good = {0};
    if (argc != 2) quit(EXIT_USAGE, "tool_broken FOLDER");
    make_good(&good, argv[1]);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct bytes b = {0};
        bytes_add(&b, good.data, good.size);
        const uint8_t *table = (uint8_t *)b.data + load64(b.data + 56);
        uint32_t count = load32(b.data + 64);
        for (int k = 0; k < 4 && list[i].edit[k].where; k++) apply(&b, &list[i].edit[k]);
        sign(&b, list[i].sign, table, count);
        write_file(argv[1], list[i].name, b.data, b.size);
        bytes_free(&b);
    }
    write_file(argv[1], "H1-empty", "", 0);
    write_file(argv[1], "H1-cut", good.data, good.size - 1);
    write_file(argv[1], "H1-short", good.data, 4096);
    write_file(argv[1], "H1-rubbish", "not a checkpoint\n", 17);
    write_file(argv[1], "H7-truncated", good.data, good.size - 4096);
    char zero[4096] = {0};
    bytes_add(&good, zero, sizeof zero);
    write_file(argv[1], "H7-appended", good.data, good.size);
    bytes_free(&good);
    return 0;
}
