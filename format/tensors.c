/* tensors.c - the tensors' bytes: read in chunks of 4 MiB, CRC checked before a value is used, several chunks at once
 * in the thread pool.  The order in which chunks are handed on, and so every result, is that of the file. */
#include "format/reader.h"

#include "common/base/threads.h"

#include <stdlib.h>
#include <zlib.h>

enum { STEP = 256 << 10,       /* a CRC runs over what is still in the second-level cache */
       AHEAD = 8,              /* chunks read at once: bounds the memory */
       BATCH = 1024 };         /* chunks verified between two reports: 2 MiB of them */

int tensor_read(const struct ckpt *c, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error)
{
    const struct tensor *t = &c->index.tensor[tensor];
    if (offset > t->stored || size > t->stored - offset)
        return fail(error, EXIT_USAGE, "tensor %s has no such bytes", t->public.name);
    return input_read(&c->input, out, c->tdat->offset + t->offset + offset, size, error);
}

/* One chunk of one tensor. */
struct chunk { size_t tensor; uint64_t number; size_t size; uint32_t crc; int status; struct error error;
               float *values; uint8_t *bytes; };

static int check_bool(const struct tensor *t, const uint8_t *p, size_t n, struct error *error)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1) return fail(error, EXIT_DATA, "tensor %s: a bool is %d [T11]", t->public.name, p[i]);
    return 0;
}

/* The bytes between this tensor and the next are zero. */
static int check_gap(const struct ckpt *c, size_t tensor, struct error *error)
{
    const struct tensor *t = &c->index.tensor[tensor];
    if (tensor + 1 == c->index.count) return 0;               /* behind the last the section ends (S4) */
    uint8_t gap[4096];
    for (uint64_t at = t->offset + t->stored, end = t[1].offset; at < end;) {
        size_t n = end - at < sizeof gap ? (size_t)(end - at) : sizeof gap;
        if (input_read(&c->input, gap, c->tdat->offset + at, n, error) != 0) return -1;
        if (!all_zero(gap, n))
            return fail(error, EXIT_DATA, "the padding behind tensor %s is not zero [T8]", t->public.name);
        at += n;
    }
    return 0;
}

/* Reads and checks a chunk.  buffer: CKPT_CHUNK bytes that hold it then (keep), or STEP bytes that are used again and
 * again. */
static int read_chunk(const struct ckpt *c, struct chunk *k, uint8_t *buffer, bool keep, struct error *error)
{
    const struct tensor *t = &c->index.tensor[k->tensor];
    uint64_t start = k->number * CKPT_CHUNK;
    k->crc = 0;
    k->size = t->stored - start < CKPT_CHUNK ? (size_t)(t->stored - start) : (size_t)CKPT_CHUNK;
    for (size_t at = 0; at < k->size; at += STEP) {
        size_t n = k->size - at < STEP ? k->size - at : STEP;
        uint8_t *p = keep ? buffer + at : buffer;
        if (tensor_read(c, k->tensor, p, start + at, n, error) != 0) return -1;
        k->crc = crc32_of(k->crc, p, n);
        if (t->public.dtype == DTYPE_BOOL && check_bool(t, p, n, error) != 0) return -1;
    }
    if (c->chunk_crc && k->crc != c->chunk_crc[t->first_chunk + k->number])
        return fail(error, EXIT_DATA,
                    "tensor %s (%s): chunk %llu, bytes %llu to %llu of the file, is corrupt (CRC %08x, expected "
                    "%08x) [T10]",
                    t->public.name, role_name(t->public.role), (unsigned long long)k->number,
                    (unsigned long long)(c->tdat->offset + t->offset + start),
                    (unsigned long long)(c->tdat->offset + t->offset + start + k->size - 1), k->crc,
                    c->chunk_crc[t->first_chunk + k->number]);
    return start + k->size == t->stored ? check_gap(c, k->tensor, error) : 0;
}

/* Joins a chunk's CRC to that of the tensor so far; at the tensor's end compares. */
static int join_crc(const struct ckpt *c, uint32_t *crc, const struct chunk *k, struct error *error)
{
    const struct tensor *t = &c->index.tensor[k->tensor];
    *crc = k->number == 0 ? k->crc : (uint32_t)crc32_combine(*crc, k->crc, (z_off_t)k->size);
    if (k->number + 1 < tensor_chunks(t->stored) || *crc == t->public.crc) return 0;
    return fail(error, EXIT_DATA, "tensor %s (%s) is corrupt (CRC %08x, expected %08x) [T10]", t->public.name,
                role_name(t->public.role), *crc, t->public.crc);
}

/* ---- verifying ---- */

struct verifying { struct ckpt *c; struct chunk *chunk; uint8_t *buffer; };

static void verify_task(void *context, int i, int thread)
{
    struct verifying *v = context;
    struct chunk *k = &v->chunk[i];
    k->status = read_chunk(v->c, k, v->buffer + (size_t)thread * STEP, false, &k->error);
}

/* Fills chunk[0..room) from (*tensor, *number) on, moving them; returns how many. */
static int next_chunks(const struct ckpt *c, struct chunk *chunk, int room, size_t *tensor, uint64_t *number)
{
    int n = 0;
    for (; n < room && *tensor < c->index.count; n++) {
        chunk[n].tensor = *tensor;
        chunk[n].number = (*number)++;
        if (*number == tensor_chunks(c->index.tensor[*tensor].stored)) {
            *number = 0;
            ++*tensor;
        }
    }
    return n;
}

/* Takes a finished batch in file order; returns -1 at the first problem unless they are collected. */
static int judge(const struct verifying *v, int n, uint32_t *crc, bool *bad, struct problems *problems,
                 struct error *error)
{
    for (int i = 0; i < n; i++) {
        struct chunk *k = &v->chunk[i];
        if (k->number == 0) *bad = false;
        if (k->status == 0 && !*bad) k->status = join_crc(v->c, crc, k, &k->error);
        if (k->status == 0) continue;
        *bad = true;                      /* the tensor's CRC is then wrong too: said once */
        if (!problems) {
            *error = k->error;
            return -1;
        }
        problems_add(problems, &k->error);
    }
    return 0;
}

int reader_verify(struct ckpt *c, struct problems *problems, struct error *error)
{
    struct error local;
    uint64_t chunks = index_chunks(&c->index);
    int room = chunks < BATCH ? (int)chunks : BATCH;
    struct verifying v = {c, host_alloc((size_t)room, sizeof *v.chunk), host_alloc((size_t)threads_count(), STEP)};
    size_t tensor = 0;
    uint64_t number = 0;
    uint32_t crc = 0;
    int status = 0, n;
    bool bad = false;
    if (!error) error = &local;
    while (status == 0 && (n = next_chunks(c, v.chunk, room, &tensor, &number)) > 0) {
        threads_for(n, verify_task, &v);
        status = judge(&v, n, &crc, &bad, problems, error);
    }
    free(v.buffer);
    free(v.chunk);
    return status == 0 ? 0 : fail_in(error, "%s", c->path);
}

int ckpt_verify(struct ckpt *c, struct error *error) { return reader_verify(c, NULL, error); }

/* ---- reading as float32 ---- */

struct reading { struct ckpt *c; struct chunk *chunk; uint32_t dtype, size; };

static void read_task(void *context, int i, int thread)
{
    struct reading *r = context;
    struct chunk *k = &r->chunk[i];
    (void)thread;
    k->status = read_chunk(r->c, k, k->bytes, true, &k->error);
    if (k->status == 0) dtype_to_f32(k->values, k->bytes, k->size / r->size, r->dtype);
}

static int read_all(struct reading *r, size_t tensor, int ahead, void (*take)(void *, const float *, uint64_t, size_t),
                    void *self,
                    struct error *error)
{
    uint64_t chunks = tensor_chunks(r->c->index.tensor[tensor].stored), first = 0;
    uint32_t crc = 0;
    for (uint64_t done = 0; done < chunks;) {
        int n = chunks - done < (uint64_t)ahead ? (int)(chunks - done) : ahead;
        for (int i = 0; i < n; i++) {
            r->chunk[i].tensor = tensor;
            r->chunk[i].number = done + (uint64_t)i;
        }
        threads_for(n, read_task, r);
        for (int i = 0; i < n; i++) {
            struct chunk *k = &r->chunk[i];
            if (k->status == 0) k->status = join_crc(r->c, &crc, k, &k->error);
            if (k->status != 0) {
                *error = k->error;
                return -1;
            }
            size_t count = k->size / r->size;
            take(self, k->values, first, count);
            first += count;
        }
        done += (uint64_t)n;
    }
    return 0;
}

int ckpt_read_f32(struct ckpt *c, size_t tensor, void (*take)(void *self, const float *values, uint64_t first,
                                                              size_t count),
                  void *self, struct error *error)
{
    struct error local;
    if (!error) error = &local;
    const struct tensor *t = &c->index.tensor[tensor];
    struct reading r = {.c = c, .dtype = t->public.dtype, .size = dtype_size(t->public.dtype)};
    if (!dtype_is_float(r.dtype))
        return fail(error, EXIT_DATA, "%s: tensor %s is %s (expected f32, f16, bf16 or f64)", c->path, t->public.name,
                    dtype_name(r.dtype));
    uint64_t chunks = tensor_chunks(t->stored);
    int ahead = int_min(int_min(threads_count(), AHEAD), chunks < AHEAD ? (int)chunks : AHEAD);
    size_t size = t->stored < CKPT_CHUNK ? (size_t)t->stored : (size_t)CKPT_CHUNK;
    r.chunk = host_alloc((size_t)ahead, sizeof *r.chunk);
    for (int i = 0; i < ahead; i++) {
        r.chunk[i].bytes = host_alloc(size, 1);
        r.chunk[i].values = host_alloc(size / r.size, sizeof(float));
    }
    int status = read_all(&r, tensor, ahead, take, self, error);
    for (int i = 0; i < ahead; i++) {
        free(r.chunk[i].bytes);
        free(r.chunk[i].values);
    }
    free(r.chunk);
    return status == 0 ? 0 : fail_in(error, "%s", c->path);
}
