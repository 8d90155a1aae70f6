/* fuzz_checkpoint.c - libFuzzer target: any bytes as a whole checkpoint, opened from memory and read to the last
 * tensor.
 *
 * CRCs would stop a fuzzer at the door, so the mutator knows the structure: it starts from a good file, changes fields
 * to the values that overflow, or lets libFuzzer loose on one section, and signs the CRCs again.  What is accepted must
 * be canonical: key-values and index write themselves back to the same bytes. */
#include "format/reader.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* ---- the good file ---- */

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    (void)self;
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)host)[i] = (uint8_t)((offset + i) % 2);
}

static struct ckpt_source source(const char *name, enum role role, uint32_t dtype, int ndim, uint64_t a, uint64_t b)
{
    struct ckpt_source s = {.role = role, .dtype = (enum dtype)dtype, .ndim = ndim, .shape = {a, b}, .fetch = fetch};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

static const struct bytes *good_file(void)
{
    static struct bytes good;
    if (good.size) return &good;
    char folder[] = "/tmp/fuzz_checkpoint.XXXXXX", *texts[] = {"a", "\xC3\xA9"};
    struct ckpt_meta m = {.stage = STAGE_SFT, .step = 3, .writer = "fuzz"};
    struct error error;
    kv_set_text(&m.conf, "arch", "llama");
    kv_set_texts(&m.meta, "texts", texts, 2);
    kv_set_f64s(&m.dcur, "f", (double[]){1, 2}, 2);
    kv_set_bool(&m.trns, "b", true);
    for (int i = 0; i < 70000; i++) bytes_add(&m.tokn, "x", 1);
    struct ckpt_source s[] = {source("a.w", ROLE_WEIGHT, DTYPE_F32, 2, 2, 3),
                              source("a.w", ROLE_ADAM_M, DTYPE_F32, 2, 2, 3),
                              source("b", ROLE_BUFFER, DTYPE_BOOL, 1, 5,
                                     0), source("h", ROLE_WEIGHT, DTYPE_F16, 1, 9, 0),
                              source("q", ROLE_WEIGHT, DTYPE_U8, 1, 64,
                                     0), source("s", ROLE_HEAD, DTYPE_F64, 0, 0, 0)};
    if (!mkdtemp(folder) || ckpt_save(folder, "x.ckpt", &m, s, 6, &error) != 0) abort();
    char *path = host_text("%s/x.ckpt", folder), *latest = host_text("%s/latest", folder);
    if (file_read(&good, path, 1 << 20, &error) != 0) abort();
    unlink(path);
    unlink(latest);
    rmdir(folder);
    free(path);
    free(latest);
    ckpt_meta_free(&m);
    return &good;
}

/* ---- the mutator ---- */

static uint64_t extreme(unsigned *seed)
{
    static const uint64_t value[] = {0, 1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536,
                                     0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                                     UINT64_C(1) << 32, UINT64_C(1) << 48, UINT64_C(1) << 56, UINT64_C(1) << 63,
                                     UINT64_MAX, UINT64_MAX - 4095};
    return value[(unsigned)rand_r(seed) % (sizeof value / sizeof *value)];
}

static uint64_t table_of(const uint8_t *data, size_t size)
{
    uint64_t table = load64(data + 56), n = load32(data + 64);
    return n <= CKPT_MAX_SECTIONS && table <= size && n * 64 <= size - table ? table : 0;
}

static void sign(uint8_t *data, size_t size, bool tensors)
{
    uint64_t table = table_of(data, size);
    uint32_t n = table ? load32(data + 64) : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *e = data + table + 64 * i;
        uint64_t offset = load64(e + 8), stored = load64(e + 16);
        if (memcmp(e, "TDAT", 4) == 0 || offset > size || stored > size - offset) continue;
        /* the index's tensor CRCs live in TIDX, with chunk CRCs dropped so that they need not agree */
        if (tensors && memcmp(e, "CCRC", 4) == 0) memcpy(e, "XCRC", 4);
        store32(e + 32, crc32_of(0, data + offset, stored));
    }
    if (table) store32(data + 68, crc32_of(0, data + table, n * 64));
    store32(data + 252, crc32_of(0, data, 252));
}

/* A field of 1, 2, 4 or 8 bytes at a likely place. */
static void change_field(uint8_t *data, size_t size, unsigned *seed)
{
    uint64_t table = table_of(data, size), at;
    uint32_t n = table ? load32(data + 64) : 0;
    unsigned width = 1U << (unsigned)rand_r(seed) % 4, where = (unsigned)rand_r(seed) % 8;
    uint64_t value = rand_r(seed) % 2 ? extreme(seed) : (uint64_t)(rand_r(seed) % 256);
    if (where == 0 || n == 0) at = (unsigned)rand_r(seed) % 256;
    else {
        const uint8_t *e = data + table + 64 * ((unsigned)rand_r(seed) % n);
        uint64_t offset = load64(e + 8), stored = load64(e + 16);
        uint64_t reach = stored < 2048 ? stored : 2048, random = (unsigned)rand_r(seed);
        at = where < 3 || stored == 0 ? table + random % (64 * n) : offset + random % reach;
    }
    if (rand_r(seed) % 4) at &= ~(uint64_t)(width - 1);
    if (at > size || width > size - at) return;
    for (unsigned i = 0; i < width; i++) data[at + i] = (uint8_t)(value >> 8 * i);
}

/* libFuzzer's own mutations within one section, whose length follows. */
static void change_section(uint8_t *data, size_t size, unsigned *seed)
{
    uint64_t table = table_of(data, size);
    if (!table || load32(data + 64) == 0) return;
    uint8_t *e = data + table + 64 * ((unsigned)rand_r(seed) % load32(data + 64));
    uint64_t offset = load64(e + 8), stored = load64(e + 16), room = (stored + 4095) / 4096 * 4096;
    if (memcmp(e, "TDAT", 4) == 0 || stored == 0 || offset > size || room > size - offset || room < stored) return;
    size_t new = LLVMFuzzerMutate(data + offset, stored, room);
    memset(data + offset + new, 0, room - new);
    store64(e + 16, new);
    if (load16(e + 36) == 0) store64(e + 24, new);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    const struct bytes *good = good_file();
    if ((size < 8192 || rand_r(&seed) % 64 == 0) && good->size <= max) {
        memcpy(data, good->data, good->size);
        size = good->size;
    }
    if (size < 8192 || rand_r(&seed) % 32 == 0) return LLVMFuzzerMutate(data, size, max);
    int changes = 1 + rand_r(&seed) % 3;
    for (int i = 0; i < changes; i++) {
        if (rand_r(&seed) % 3 == 0) change_section(data, size, &seed);
        else change_field(data, size, &seed);
    }
    if (rand_r(&seed) % 16) sign(data, size, rand_r(&seed) % 4 == 0);
    return size;
}

/* ---- the target ---- */

static void take(void *self, const float *values, uint64_t first, size_t count)
{
    (void)values;
    *(uint64_t *)self += count;
    if (first + count != *(uint64_t *)self) abort();
}

static void check_canonical(struct ckpt *c)
{
    for (uint32_t i = 0; i < c->header.section_count; i++) {
        struct bytes raw = {0}, again = {0};
        if (&c->section[i] == c->tdat || section_read(&raw, c, &c->section[i], NULL) != 0) continue;
        const struct section_facts *facts = section_facts(c->section[i].type);
        bool index = section_is(&c->section[i], "TIDX"), kv = facts && facts->kv >= 0;
        if (index) index_encode(&again, &c->index);
        if (kv) kv_encode(&again, &c->header.meta.kv[facts->kv]);
        if ((index || kv) && (raw.size != again.size || memcmp(raw.data, again.data, raw.size) != 0)) abort();
        bytes_free(&raw);
        bytes_free(&again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.fd = -1, .memory = data, .size = size};
    struct ckpt *c;
    struct error error;
    struct problems problems = {0};
    if (size == 0) return 0;
    int strict = reader_open(&c, &in, "input", NULL, &error);
    if (strict != 0 && (!strstr(error.text, "input: ") || !strchr(error.text, '['))) abort();
    if (strict == 0) {
        check_canonical(c);
        bool whole = ckpt_verify(c, &error) == 0;
        for (size_t i = 0; i < c->index.count; i++) {
            uint64_t count = 0;
            int status = ckpt_read_f32(c, i, take, &count, &error);
            if (status == 0 && count != tensor_elements(&c->index.tensor[i])) abort();
            if (whole && status != 0 && dtype_is_float(c->index.tensor[i].dtype)) abort();
        }
        ckpt_close(c);
    }
    /* going on past problems finds at least one exactly when the strict reader refuses */
    int loose = reader_open(&c, &in, "input", &problems, &error);
    if (loose == 0) {
        if ((problems.count > 0) != (strict != 0)) abort();
        if (c->index.count) reader_verify(c, &problems, &error);
        ckpt_close(c);
    } else if (strict == 0) abort();
    for (int i = 0; i < problems.kept; i++)
        if (!problems.text[i][0] || problems.exit_code == 0) abort();
    problems_free(&problems);
    return 0;
}
