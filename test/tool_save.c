/* tool_save.c - makes checkpoints for the scripts: always the same content for the same step.
 *   tool_save save FOLDER NAME STEP       one checkpoint, through ckpt_save, as a training step does
 *   tool_save retain FOLDER KEEP          retention, as after a save
 *   tool_save chain FOLDER                runs base, sft, rm and rlhf in FOLDER, with their lineage
 *   tool_save sparse FILE GIB             one tensor of zeros that takes no disk
 * Exits with the exit code of the failure, after saying it. */
#define _GNU_SOURCE
#include "common/base/threads.h"
#include "format/layout.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

enum { LARGE = 20000 };

struct values { uint32_t seed; enum dtype dtype; };

/* Element i is a hash of (seed, i): any range can be asked for. */
static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    const struct values *v = self;
    uint32_t size = dtype_size(v->dtype);
    for (size_t k = 0; k < bytes; k += size) {
        uint32_t h = (uint32_t)((offset + k) / size) * 2654435761U ^ v->seed * 40503U;
        h ^= h >> 15;
        float x = ((float)(h >> 8) / (1 << 23) - 1) / 8;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (size == 4) store32((char *)host + k, bits);
        else store16((char *)host + k, (uint16_t)(v->dtype == DTYPE_BF16 ? bits >> 16 : 0x2C00 | (h & 0x83FF)));
    }
}

static struct ckpt_source source(const char *name, enum role role, int ndim, uint64_t a, uint64_t b, struct values *v)
{
    struct ckpt_source s = {.role = role, .dtype = v->dtype, .ndim = ndim, .shape = {a, b},
                            .trainable = role == ROLE_WEIGHT, .decay = ndim == 2,
                            .self = v, .fetch = fetch};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

static struct ckpt_meta meta_of(enum stage stage, uint64_t step)
{
    struct ckpt_meta m = {.stage = stage, .flags = CKPT_RESUMABLE, .step = step, .tokens_seen = step * 4096};
    uint64_t sizes[] = {1, 2, UINT64_MAX};
    char *names[] = {"corpus one", "\xE4\xB8\xAD\xE6\x96\x87", "esc \x1b[31m"};
    snprintf(m.writer, sizeof m.writer, "tool_save 0.1.0");
    for (int i = 0; i < 16; i++) {
        m.weights_id[i] = (uint8_t)(step * 31 + (uint64_t)i * 7 + (uint64_t)stage);
        m.run_uuid[i] = (uint8_t)i;
    }
    kv_set_text(&m.conf, "arch", "llama");
    kv_set_u64(&m.conf, "n_layer", 1);
    kv_set_u64(&m.conf, "vocab_size", 300);
    kv_set_f64(&m.conf, "norm_eps", 1e-5);
    kv_set_bool(&m.conf, "tie_embeddings", true);
    kv_set_u64(&m.trns, "step", step);
    kv_set_i64(&m.trns, "below", -3);
    kv_set_bytes(&m.rngs, "rng.init.key", "\1\2\3\0", 4);
    kv_set_u64s(&m.dcur, "sizes", sizes, 3);
    kv_set_texts(&m.dcur, "names", names, 3);
    kv_set_text(&m.chat, "template", "quartet");
    kv_set_text(&m.meta, "note", "made by a test");
    kv_set_f64(&m.eval, "val_loss", 3.0 / (double)(step + 1));
    kv_set_f64(&m.eval, "nothing", 0.0 / 0.0);
    for (int i = 0; i < 70000; i++) bytes_add(&m.tokn, "token" + i % 5, 1);
    return m;
}

static int save(const char *folder, const char *name, struct ckpt_meta *m, struct error *error)
{
    struct values w = {(uint32_t)m->step, DTYPE_F32}, b = {(uint32_t)m->step + 1,
                                                           DTYPE_BF16}, h = {(uint32_t)m->step + 2, DTYPE_F16};
    struct ckpt_source s[] = {
        source("embed.weight", ROLE_WEIGHT, 2, 300, 16, &w), source("blk.0.up.weight", ROLE_WEIGHT, 2, 7, LARGE / 7,
                                                                    &b),
        source("norm.weight", ROLE_WEIGHT, 1, 16, 0, &h), source("scale", ROLE_BUFFER, 0, 0, 0, &w),
        source("embed.weight", ROLE_ADAM_M, 2, 300, 16, &w), source("blk.0.up.weight", ROLE_MASTER, 2, 7, LARGE / 7,
                                                                    &w)};
    return ckpt_save(folder, name, m, s, sizeof s / sizeof *s, error);
}

static int save_step(const char *folder, const char *name, uint64_t step, struct error *error)
{
    struct ckpt_meta m = meta_of(STAGE_PRETRAIN, step);
    int status = save(folder, name, &m, error);
    ckpt_meta_free(&m);
    return status;
}

static int save_chain(const char *top, struct error *error)
{
    static const char *const run[] = {"base", "sft", "rm", "rlhf"};
    static const int parent[] = {-1, 0, 1, 1};
    struct ckpt_meta m[4];
    int status = 0;
    for (int i = 0; i < 4; i++) {
        char *folder = host_text("%s/%s", top, run[i]);
        m[i] = meta_of((enum stage)(STAGE_PRETRAIN + i), 100 * (uint64_t)(i + 1));
        if (i == 2) kv_set_text(&m[i].eval, "main_metric", "val_accuracy");
        if (i == 2) kv_set_f64(&m[i].eval, "val_accuracy", 0.71);
        if (parent[i] >= 0) lineage_add(&m[i].line, &m[parent[i]], i == 3 ? "policy" : "init", run[parent[i]]);
        if (i == 3) lineage_add(&m[i].line, &m[2], "reward", "rm");
        if (status == 0) status = save(folder, "final.ckpt", &m[i], error);
        free(folder);
    }
    for (int i = 0; i < 4; i++) ckpt_meta_free(&m[i]);
    return status;
}

/* Written by hand, for its data is a hole: header, TIDX, TDAT of zeros, table. */
static int save_sparse(const char *path, uint64_t gib, struct error *error)
{
    struct ckpt_tensor t = {.name = "zeros", .dtype = DTYPE_F32, .ndim = 1, .shape = {gib << 28},
                                  .bytes = gib << 30};
    struct index index = {.count = 1, .tensor = &t};
    struct bytes tidx = {0};
    uint8_t *zero = host_alloc(1 << 20, 1), page[CKPT_PAGE], *table = host_alloc(1, CKPT_PAGE);
    uint32_t mib = crc32_of(0, zero, 1 << 20);
    for (uint64_t i = 0; i < gib << 10; i++)
        t.crc = i ? (uint32_t)crc32_combine(t.crc, mib, 1 << 20) : mib;
    index_sort(&index);
    index_encode(&tidx, &index);
    struct section s[] = {{.type = "TIDX", .flags = 1, .offset = 4096, .stored = tidx.size, .raw = tidx.size,
                           .crc = crc32_of(0, tidx.data, tidx.size)},
                          {.type = "TDAT", .flags = 1, .offset = 8192, .stored = gib << 30, .raw = gib << 30}};
    struct header h = {.major = 1, .kind = 1, .file_size = 8192 + (gib << 30) + 4096,
                       .table_offset = 8192 + (gib << 30), .section_count = 2,
                       .section_entry = 64, .align = 4096, .shard_count = 1, .meta = {.writer = "tool_save"}};
    table_encode(table, s, 2);
    h.table_crc = crc32_of(0, table, 128);
    header_encode(page, &h);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)h.file_size) == 0 && pwrite(fd, page, sizeof page, 0) == sizeof page &&
              pwrite(fd, tidx.data, tidx.size,
                     4096) == (ssize_t)tidx.size && pwrite(fd, table, CKPT_PAGE,
                                                           (off_t)h.table_offset) == (ssize_t)CKPT_PAGE;
    if (fd >= 0) close(fd);
    free(zero);
    free(table);
    free(index.order);
    bytes_free(&tidx);
    return ok ? 0 : fail(error, EXIT_IO, "%s: cannot be written", path);
}

int main(int argc, char **argv)
{
    struct error error = {0};
    int status = 0;
    signal(SIGXFSZ, SIG_IGN);
    if (argc == 5 && strcmp(argv[1], "save") == 0)
        status = save_step(argv[2], argv[3], strtoull(argv[4], NULL, 10), &error);
    else if (argc == 4 && strcmp(argv[1], "retain") == 0) run_retain(argv[2], atoi(argv[3]), 0);
    else if (argc == 3 && strcmp(argv[1], "chain") == 0) status = save_chain(argv[2], &error);
    else if (argc == 4 && strcmp(argv[1], "sparse") == 0)
        status = save_sparse(argv[2], strtoull(argv[3], NULL, 10), &error);
    else quit(EXIT_USAGE, "tool_save save FOLDER NAME STEP | retain FOLDER KEEP | chain FOLDER | sparse FILE GIB");
    if (status != 0) quit_error(&error);
    return 0;
}
