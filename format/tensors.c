/* tensors.c - the tensors' bytes: read in chunks of 4 MiB, CRC checked before a value is used, several chunks at once
 * in the thread pool.  The order in which chunks are handed on, and so every result, is that of the file. */
#include "format/reader.h"

#include "common/base/threads.h"

#include <stdlib.h>
#include <zlib.h>

enum { STEP = 256 << 10,       /* a CRC runs over what is still in the second-level cache */
       AHEAD = 8,              /* chunks read into memory at once */
       BATCH = 1024 };         /* chunks verified between two reports: 2 MiB of them */

int tensor_read(const struct ckpt *c, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error)
{
    const struct ckpt_tensor *t = &c->index.tensor[tensor];
    if (offset > t->bytes || size > t->bytes - offset)
        return fail(error, EXIT_USAGE, "tensor %s has no such bytes", t->name);
    if (c->outside.read) return c->outside.read(c->outside.self, tensor, out, offset, size, error);
    return input_read(&c->input, out, c->tdat->offset + t->offset + offset, size, error);
}

/* One chunk of one tensor. */
struct chunk { size_t tensor; uint64_t number; size_t size; uint32_t crc; int status; struct error error; };

/* A walk over the chunks of the tensors from `tensor` up to `end`, a batch at a time. */
struct walk {
    const struct ckpt *c;
    size_t tensor, end;
    uint64_t number;             /* next chunk of `tensor` */
    uint32_t crc;                /* of the tensor so far */
    uint32_t *sums;              /* not NULL: CRCs are put here, one per tensor, and not compared */
    struct chunk *chunk;
    int room;
    uint8_t *bytes;              /* verifying: STEP per thread, used again and again; reading: `most` per chunk */
    float *values;               /* reading: `most_values` per chunk; else NULL */
    size_t most, most_values;
};

static int check_bool(const struct ckpt_tensor *t, const uint8_t *p, size_t n, struct error *error)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1) return corrupt(error, "tensor %s: a bool is %d [T11]", t->name, p[i]);
    return 0;
}

/* The bytes between this tensor and the next are zero.  After the last one the section ends (S4). */
static int check_gap(const struct ckpt *c, size_t tensor, struct error *error)
{
    const struct ckpt_tensor *t = &c->index.tensor[tensor];
    if (c->outside.read || tensor + 1 == c->index.count) return 0;
    uint64_t data = c->tdat->offset;
    int used = input_used(&c->input, data + t->offset + t->bytes, data + t[1].offset, error);
    return used == 1 ? corrupt(error, "the padding after tensor %s is not zero [T8]", t->name) : used;
}

/* Reads and checks a chunk into buffer, whole or (keep false) over itself in steps. */
static int read_chunk(const struct ckpt *c, struct chunk *k, uint8_t *buffer, bool keep)
{
    const struct ckpt_tensor *t = &c->index.tensor[k->tensor];
    uint64_t start = k->number * CKPT_CHUNK, place = (c->tdat ? c->tdat->offset : 0) + t->offset + start;
    k->crc = 0;
    for (size_t at = 0; at < k->size; at += STEP) {
        size_t n = k->size - at < STEP ? k->size - at : STEP;
        uint8_t *p = keep ? buffer + at : buffer;
        if (tensor_read(c, k->tensor, p, start + at, n, &k->error) != 0) return -1;
        k->crc = crc32_of(k->crc, p, n);
        if (t->dtype == DTYPE_BOOL && check_bool(t, p, n, &k->error) != 0) return -1;
    }
    const uint32_t *expected = c->chunk_crc ? &c->chunk_crc[t->first_chunk + k->number] : &k->crc;
    if (k->crc != *expected)
        return corrupt(&k->error, "tensor %s (%s): chunk %" PRIu64 ", bytes %" PRIu64 " to %" PRIu64
                       " of the file, is corrupt (CRC %08x, expected %08x) [T10]", t->name,
                       role_name(t->role), k->number, place, place + k->size - 1, k->crc, *expected);
    return start + k->size == t->bytes ? check_gap(c, k->tensor, &k->error) : 0;
}

static void chunk_task(void *context, int i, int thread)
{
    struct walk *w = context;
    struct chunk *k = &w->chunk[i];
    uint8_t *bytes = w->values ? w->bytes + (size_t)i * w->most : w->bytes + (size_t)thread * STEP;
    k->status = read_chunk(w->c, k, bytes, w->values != NULL);
    uint32_t dtype = w->c->index.tensor[k->tensor].dtype;
    if (k->status == 0 && w->values)
        dtype_to_f32(w->values + (size_t)i * w->most_values, bytes, k->size / dtype_size(dtype), dtype);
}

/* Reads the next batch in parallel; returns how many chunks it has, 0 at the end. */
static int next_batch(struct walk *w)
{
    int n = 0;
    for (; n < w->room && w->tensor < w->end; n++) {
        uint64_t stored = w->c->index.tensor[w->tensor].bytes, left = stored - w->number * CKPT_CHUNK;
        struct chunk *k = &w->chunk[n];
        k->tensor = w->tensor;
        k->number = w->number++;
        k->size = left < CKPT_CHUNK ? (size_t)left : (size_t)CKPT_CHUNK;
        if (w->number < tensor_chunks(stored)) continue;
        w->number = 0;
        w->tensor++;
    }
    threads_for(n, chunk_task, w);
    return n;
}

/* Joins a chunk's CRC to that of the tensor so far; at the tensor's end compares. */
static int join_crc(struct walk *w, struct chunk *k)
{
    const struct ckpt_tensor *t = &w->c->index.tensor[k->tensor];
    w->crc = k->number == 0 ? k->crc : (uint32_t)crc32_combine(w->crc, k->crc, (z_off_t)k->size);
    if (w->sums) w->sums[k->tensor] = w->crc;
    if (w->sums || (w->c->outside.read && !w->c->outside.identified)) return 0;
    if (k->number + 1 < tensor_chunks(t->bytes) || w->crc == t->crc) return 0;
    if (w->c->outside.read)
        return fail(&k->error, EXIT_DATA, "tensor %s has changed since the model was opened", t->name);
    return corrupt(&k->error, "tensor %s (%s) is corrupt (CRC %08x, expected %08x) [T10]", t->name,
                   role_name(t->role), w->crc, t->crc);
}

/* Walks to the end.  Every chunk's values go to take (may be NULL).  With problems each damaged chunk is added, and a
 * tensor's wrong CRC only when none of its chunks is; else the first ends it. */
static int walk_all(struct walk *w, void (*take)(void *self, const float *values, uint64_t first, size_t count),
                    void *self, struct problems *problems, struct error *error)
{
    int status = 0, n;
    bool bad = false;
    w->chunk = host_alloc((size_t)w->room, sizeof *w->chunk);
    while (status == 0 && (n = next_batch(w)) > 0)
        for (int i = 0; i < n && status == 0; i++) {
            struct chunk *k = &w->chunk[i];
            if (k->number == 0) bad = false;
            if (k->status == 0 && !bad) k->status = join_crc(w, k);
            bad |= k->status != 0;
            if (k->status != 0 && problems) problems_add(problems, &k->error);
            else if (k->status != 0) status = fail(error, k->error.exit_code, "%s: %s", w->c->path, k->error.text);
            else if (take) {
                size_t count = k->size / dtype_size(w->c->index.tensor[k->tensor].dtype);
                take(self, w->values + (size_t)i * w->most_values, k->number * w->most_values, count);
            }
        }
    free(w->chunk);
    free(w->bytes);
    free(w->values);
    return status;
}

int reader_verify(struct ckpt *c, struct problems *problems, struct error *error)
{
    uint64_t chunks = index_chunks(&c->index);
    struct walk w = {.c = c, .end = c->index.count, .room = chunks < BATCH ? (int)chunks : BATCH};
    w.bytes = host_alloc((size_t)threads_count(), STEP);
    return walk_all(&w, NULL, NULL, problems, error);
}

/* FNV-1a, 64 bits. */
static uint64_t fold(uint64_t hash, const void *data, size_t size)
{
    for (const uint8_t *p = data, *end = p + size; p < end; p++) hash = (hash ^ *p) * 0x100000001b3;
    return hash;
}

void weights_identity(uint8_t id[16], const struct index *index)
{
    uint64_t low = 0xcbf29ce484222325, high = ~low;
    for (size_t i = 0; i < index->count; i++) {
        const struct ckpt_tensor *t = &index->tensor[index->order[i]];
        uint8_t fixed[16 + 64];
        store32(fixed, t->role);
        store32(fixed + 4, t->dtype);
        store32(fixed + 8, (uint32_t)t->ndim);
        store32(fixed + 12, t->crc);
        for (int k = 0; k < 8; k++) store64(fixed + 16 + 8 * k, k < t->ndim ? t->shape[k] : 0);
        low = fold(fold(low, t->name, strlen(t->name) + 1), fixed, sizeof fixed);
        high = fold(fold(high, t->name, strlen(t->name) + 1), fixed, sizeof fixed);
    }
    store64(id, low);
    store64(id + 8, high);
}

int reader_identify(struct ckpt *c, struct error *error)
{
    uint64_t chunks = index_chunks(&c->index);
    struct walk w = {.c = c, .end = c->index.count, .room = chunks < BATCH ? (int)chunks : BATCH};
    w.sums = host_alloc(c->index.count, sizeof *w.sums);
    w.bytes = host_alloc((size_t)threads_count(), STEP);
    int status = walk_all(&w, NULL, NULL, NULL, error);
    for (size_t i = 0; status == 0 && i < c->index.count; i++) c->index.tensor[i].crc = w.sums[i];
    free(w.sums);
    c->outside.identified = status == 0;
    if (status == 0) weights_identity(c->header.meta.weights_id, &c->index);
    return status;
}

int ckpt_verify(struct ckpt *c, struct error *error) { return reader_verify(c, NULL, error); }

int ckpt_read_f32(struct ckpt *c, size_t tensor, void (*take)(void *self, const float *values, uint64_t first,
                                                              size_t count), void *self, struct error *error)
{
    const struct ckpt_tensor *t = &c->index.tensor[tensor];
    if (!dtype_is_float(t->dtype))
        return corrupt(error, "%s: tensor %s is %s (expected f32, f16, bf16 or f64)", c->path, t->name,
                       dtype_name(t->dtype));
    uint64_t chunks = tensor_chunks(t->bytes);
    struct walk w = {.c = c, .tensor = tensor, .end = tensor + 1};
    w.room = int_min(int_min(threads_count(), AHEAD), chunks < AHEAD ? (int)chunks : AHEAD);
    w.most = t->bytes < CKPT_CHUNK ? (size_t)t->bytes : (size_t)CKPT_CHUNK;
    w.most_values = w.most / dtype_size(t->dtype);
    w.bytes = host_alloc((size_t)w.room, w.most);
    w.values = host_alloc((size_t)w.room, w.most_values * sizeof *w.values);
    return walk_all(&w, take, self, NULL, error);
}

/* ---- copied ---- */

struct original { struct ckpt *c; size_t tensor; };

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    struct original *o = self;
    struct error error;
    if (tensor_read(o->c, o->tensor, host, offset, bytes, &error) == 0) return;
    if (!o->c->outside.read) fail_in(&error, "%s", o->c->path);
    quit_error(&error);
}

int checkpoint_copy(struct ckpt *c, const char *path, struct save *save, struct error *error)
{
    struct ckpt_source *source = host_alloc(c->index.count, sizeof *source);
    struct original *original = host_alloc(c->index.count, sizeof *original);
    const char *slash = strrchr(path, '/');
    char *folder = path_folder(path);
    size_t n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[i];
        if (role_is_training_state(t->role)) continue;
        original[n] = (struct original){c, i};
        source[n] = (struct ckpt_source){.role = t->role, .dtype = (enum dtype)t->dtype, .ndim = t->ndim,
                                         .trainable = t->flags & TENSOR_TRAINABLE, .decay = t->flags & TENSOR_DECAY,
                                         .self = &original[n], .fetch = fetch};
        snprintf(source[n].name, sizeof source[n].name, "%s", t->name);
        memcpy(source[n++].shape, t->shape, sizeof source->shape);
    }
    save->folder = folder;
    save->name = slash ? slash + 1 : path;
    save->source = source;
    save->count = n;
    int status = n ? checkpoint_write(save, error)
                   : fail(error, EXIT_DATA, "%s: holds nothing but training state", c->path);
    free(folder);
    free(source);
    free(original);
    return status;
}
