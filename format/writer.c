/* writer.c - saves a checkpoint so that no moment of failure can cost anything (SPEC.md, "Writing").
 * All sizes are known first, so the space is taken at once: a full disk says so now.  Tensors go through a few buffers
 * in one pass, past the page cache where that works (faster), then metadata, and the header last; the reader's checks
 * run over the metadata before the file gets its name.  Tensors are not read again here, but before retention removes
 * another file and when a run resumes.  After a failed fsync the kernel may have dropped pages: the file is dropped. */
#define _GNU_SOURCE
#include "format/reader.h"

#include "common/base/threads.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>
#include <zlib.h>

enum { BUFFERS = 4,                      /* chunks under way at once: 16 MiB, whatever the size */
       STEP = 256 << 10,                 /* CRC and statistics pass over what the caches hold */
       DIRECT = 1 << 20,                 /* smaller chunks go through the page cache: a disk takes its time for each */
       PIECES = 16,
       SQUEEZE = 64 << 10 };             /* a byte section of at least this size is deflated when that pays */

struct chunk { size_t tensor; uint64_t number; size_t size; uint8_t *buffer; struct moments moments; int failure; };

struct writer {
    const struct save *save;
    char *path, *temporary;              /* final path, for messages; temporary name within the folder */
    int folder, fd, direct;              /* direct: the same file past the page cache, or -1 */
    struct header header;
    struct index index;
    uint32_t *chunk_crc;
    struct moments *moments;             /* one a tensor */
    struct piece *piece;                 /* in file order; TDAT is the last and has no data */
    size_t pieces;
    uint64_t table_offset;
    struct chunk chunk[BUFFERS];
};

static int broken(const struct writer *w, struct error *error, const char *doing)
{
    return fail(error, EXIT_IO, "%s: cannot be saved: %s failed: %s; nothing was changed", w->path, doing,
                strerror(errno));
}

/* ---- the plan ---- */

static void plan_index(struct writer *w)
{
    const struct save *s = w->save;
    uint64_t end = 0, chunks = 0;
    if (s->count < 1 || s->count > CKPT_MAX_TENSORS)
        die("%s: %zu tensors cannot be saved (1 to %d)", w->path, s->count, CKPT_MAX_TENSORS);
    w->index.count = s->count;
    w->index.tensor = host_alloc(s->count, sizeof *w->index.tensor);
    for (size_t i = 0; i < s->count; i++) {
        const struct ckpt_source *from = &s->source[i];
        struct ckpt_tensor *t = &w->index.tensor[i];
        struct error why;
        *t = (struct ckpt_tensor){.name = from->name, .role = from->role, .dtype = from->dtype,
                                         .ndim = from->ndim};
        memcpy(t->shape, from->shape, (size_t)from->ndim * sizeof *from->shape);
        assert(tensor_name_valid(from->name, strlen(from->name)) && role_name(from->role));
        if (tensor_bytes(t, &why) != 0) die("%s", why.text);
        t->flags = (uint16_t)((from->trainable ? TENSOR_TRAINABLE : 0) | (from->decay ? TENSOR_DECAY : 0));
        t->first_chunk = (uint32_t)chunks;
        t->offset = (end + CKPT_PAGE - 1) & ~(CKPT_PAGE - 1);
        end = t->offset + t->bytes;
        chunks += tensor_chunks(t->bytes);
        if (end > CKPT_MAX_FILE / 2 || chunks > CKPT_MAX_METADATA / 4 - 4)
            die("%s: more data than a file may hold", w->path);
    }
    int64_t twice = index_sort(&w->index);
    if (twice >= 0) die("%s: tensor %s is given twice", w->path, w->index.tensor[twice].name);
    w->chunk_crc = host_alloc((size_t)chunks, sizeof *w->chunk_crc);
    w->moments = host_alloc(s->count, sizeof *w->moments);
}

/* Deflates a large section when that saves a quarter: tokenizers halve. */
static void squeeze(struct piece *p)
{
    uLong bound = compressBound((uLong)p->data.size), size = bound;
    unsigned char *out = host_alloc(bound, 1);
    if (compress2(out, &size, (unsigned char *)p->data.data, (uLong)p->data.size, 6) != Z_OK)
        die("zlib cannot deflate %zu bytes", p->data.size);
    if (size < p->data.size / 4 * 3) {
        p->section.codec = CODEC_ZLIB;
        p->data.size = 0;
        bytes_add(&p->data, out, size);
    }
    free(out);
}

static void encode_piece(const struct writer *w, struct piece *p)
{
    const struct ckpt_meta *m = w->save->meta;
    int kv = section_facts(p->section.type)->kv;
    p->data.size = 0;
    if (kv >= 0 && m->kv[kv].count) kv_encode(&p->data, &m->kv[kv]);
    if (section_is(&p->section, "TOKN")) bytes_add(&p->data, m->tokn.data, m->tokn.size);
    if (section_is(&p->section, "TIDX")) index_encode(&p->data, &w->index);
    if (section_is(&p->section, "CCRC")) chunks_encode(&p->data, w->chunk_crc, (size_t)index_chunks(&w->index));
    if (section_is(&p->section, "STAT")) stats_encode(&p->data, w->moments, w->index.count);
    p->section.raw = p->data.size;
    if (section_is(&p->section, "TOKN") && p->data.size >= SQUEEZE) squeeze(p);
    p->section.stored = p->data.size;
}

/* Every section's size and place.  TIDX, CCRC and STAT get their final bytes later, of the same length. */
static void plan_pieces(struct writer *w)
{
    const struct save *s = w->save;
    w->piece = host_alloc(PIECES + s->foreigns, sizeof *w->piece);
    for (size_t i = 0; i < s->foreigns; i++) w->piece[w->pieces++] = s->foreign[i];
    for (const struct section_facts *f = section_table; f->type; f++) {
        struct piece *p = &w->piece[w->pieces++];
        p->section.flags = f->flags;
        memcpy(p->section.type, f->type, 4);
        encode_piece(w, p);
        if (section_is(&p->section, "TDAT")) {
            const struct ckpt_tensor *last = &w->index.tensor[w->index.count - 1];
            p->section.stored = p->section.raw = last->offset + last->bytes;
        }
        if (p->section.stored > f->limit)
            die("%s: section %s has %llu bytes, too many", w->path, f->type, (unsigned long long)p->section.stored);
        if (p->section.stored == 0) bytes_free(&w->piece[--w->pieces].data);
    }
    uint64_t end = CKPT_PAGE;
    for (size_t i = 0; i < w->pieces; i++) {
        w->piece[i].section.offset = end;
        end = (end + w->piece[i].section.stored + CKPT_PAGE - 1) & ~(CKPT_PAGE - 1);
    }
    w->table_offset = end;
}

static void plan_header(struct writer *w)
{
    struct ckpt_meta *m = w->save->meta;
    uint64_t table = (w->pieces * CKPT_SECTION_ENTRY + CKPT_PAGE - 1) & ~(CKPT_PAGE - 1);
    m->flags &= ~(uint32_t)CKPT_TRAINING_STATE;
    for (size_t i = 0; i < w->index.count; i++)
        if (role_is_training_state(w->index.tensor[i].role)) m->flags |= CKPT_TRAINING_STATE;
    if (m->trns.count) m->flags |= CKPT_TRAINING_STATE;
    random_bytes(m->uuid, sizeof m->uuid);
    m->created = nanoseconds_utc();
    w->header = (struct header){
        .major = CKPT_MAJOR, .minor = CKPT_MINOR, .kind = 1, .file_size = w->table_offset + table,
        .table_offset = w->table_offset, .section_count = (uint32_t)w->pieces, .section_entry = CKPT_SECTION_ENTRY,
        .align = (uint32_t)CKPT_PAGE, .shard_count = 1, .meta = *m};
}

/* ---- writing ---- */

/* Past the page cache whole pages are written: zeros up to where the next tensor begins at the earliest. */
static int write_chunk(const struct writer *w, uint8_t *buffer, uint64_t place, size_t size)
{
    if (w->direct >= 0 && size >= DIRECT) {
        size_t pages = (size + CKPT_PAGE - 1) & ~(size_t)(CKPT_PAGE - 1);
        memset(buffer + size, 0, pages - size);
        ssize_t put = pwrite(w->direct, buffer, pages, (off_t)place);
        if (put == (ssize_t)pages) return 0;
        if (put < 0 && errno != EINVAL && errno != EINTR) return -1;
    }
    return file_write_at(w->fd, buffer, place, size);
}

/* A chunk's CRC, statistics and bytes on the disk, in one of the threads. */
static void chunk_task(void *context, int i, int thread)
{
    struct writer *w = context;
    struct chunk *k = &w->chunk[i];
    const struct ckpt_tensor *t = &w->index.tensor[k->tensor];
    uint32_t crc = 0;
    (void)thread;
    k->moments = (struct moments){0};
    for (size_t at = 0; at < k->size; at += STEP) {
        size_t n = k->size - at < STEP ? k->size - at : STEP;
        struct moments m;
        crc = crc32_of(crc, k->buffer + at, n);
        moments_of(&m, k->buffer + at, n, t->dtype);
        moments_add(&k->moments, &m);
    }
    w->chunk_crc[t->first_chunk + k->number] = crc;
    uint64_t place = w->piece[w->pieces - 1].section.offset + t->offset + k->number * CKPT_CHUNK;
    k->failure = write_chunk(w, k->buffer, place, k->size) == 0 ? 0 : errno;
}

/* Finished chunks, in file order. */
static int take_chunks(struct writer *w, int n)
{
    for (int i = 0; i < n; i++) {
        struct chunk *k = &w->chunk[i];
        struct ckpt_tensor *t = &w->index.tensor[k->tensor];
        uint32_t crc = w->chunk_crc[t->first_chunk + k->number];
        if (k->failure) {
            errno = k->failure;
            return -1;
        }
        t->crc = k->number == 0 ? crc : (uint32_t)crc32_combine(t->crc, crc, (z_off_t)k->size);
        moments_add(&w->moments[k->tensor], &k->moments);
    }
    return 0;
}

/* fetch is called by this thread only, so a device needs no locks. */
static int write_tensors(struct writer *w)
{
    int ahead = int_min(threads_count(), BUFFERS), n = 0, status = 0;
    for (int i = 0; i < ahead; i++)
        if (!(w->chunk[i].buffer = aligned_alloc(CKPT_PAGE, CKPT_CHUNK))) die("no memory for saving");
    for (size_t i = 0; i < w->index.count && status == 0; i++) {
        const struct ckpt_source *from = &w->save->source[i];
        uint64_t stored = w->index.tensor[i].bytes, chunks = tensor_chunks(stored);
        for (uint64_t number = 0; number < chunks && status == 0; number++) {
            struct chunk *k = &w->chunk[n++];
            uint64_t at = number * CKPT_CHUNK;
            k->tensor = i;
            k->number = number;
            k->size = stored - at < CKPT_CHUNK ? (size_t)(stored - at) : (size_t)CKPT_CHUNK;
            from->fetch(from->self, k->buffer, at, k->size);
            if (n < ahead && !(i + 1 == w->index.count && number + 1 == chunks)) continue;
            threads_for(n, chunk_task, w);
            status = take_chunks(w, n);
            n = 0;
        }
    }
    for (int i = 0; i < ahead; i++) free(w->chunk[i].buffer);
    return status;
}

/* The other sections, the table, and last the header: without it the file is nothing. */
static int write_metadata(struct writer *w)
{
    uint8_t page[CKPT_PAGE];
    size_t size = (size_t)(w->header.file_size - w->table_offset);
    uint8_t *table = host_alloc(size, 1);
    struct section *section = host_alloc(w->pieces, sizeof *section);
    int status = 0;
    for (size_t i = 0; i < w->pieces && status == 0; i++) {
        struct piece *p = &w->piece[i];
        const char *type = p->section.type;
        if (strcmp(type, "TIDX") == 0 || strcmp(type, "CCRC") == 0 || strcmp(type, "STAT") == 0) encode_piece(w, p);
        if (p->data.size) {
            p->section.crc = crc32_of(0, p->data.data, p->data.size);
            status = file_write_at(w->fd, p->data.data, p->section.offset, p->data.size);
        }
        section[i] = p->section;
    }
    table_encode(table, section, w->pieces);
    w->header.table_crc = crc32_of(0, table, w->pieces * CKPT_SECTION_ENTRY);
    if (status == 0) status = file_write_at(w->fd, table, w->table_offset, size);
    header_encode(page, &w->header);
    if (status == 0) status = file_write_at(w->fd, page, 0, sizeof page);
    free(section);
    free(table);
    return status;
}

/* ---- the protocol ---- */

static int create(struct writer *w, struct error *error)
{
    uint8_t random[4];
    w->folder = open(w->save->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->folder < 0) return broken(w, error, "opening the folder");
    random_bytes(random, sizeof random);
    w->temporary = host_text("%s.tmp-%08x", w->save->name, load32(random));
    w->fd = openat(w->folder, w->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (w->fd < 0) return broken(w, error, "creating a temporary file beside it");
    flock(w->fd, LOCK_EX | LOCK_NB);                /* a file system without locks will do */
    w->direct = openat(w->folder, w->temporary, O_RDWR | O_DIRECT | O_NOFOLLOW | O_CLOEXEC);
    char size[16], doing[64];
    int status;
    snprintf(doing, sizeof doing, "taking %s of disk", text_bytes(size, (double)w->header.file_size));
    do status = fallocate(w->fd, 0, 0, (off_t)w->header.file_size); while (status != 0 && errno == EINTR);
    if (status == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return 0;
    return broken(w, error, doing);
}

/* The metadata of the file as it stands pass all of the reader's checks, and it is the file that was meant: it may be
 * about to replace the only other one. */
static int check_back(const struct writer *w, struct error *error)
{
    struct input in = {.fd = w->fd, .size = w->header.file_size};
    struct ckpt *c;
    struct error why;
    off_t size = lseek(w->fd, 0, SEEK_END);
    if (size < 0 || (uint64_t)size != w->header.file_size)
        return fail(error, EXIT_IO, "%s: cannot be saved: %lld of %llu bytes are there after writing; nothing was "
                    "changed", w->path, (long long)size, (unsigned long long)w->header.file_size);
    if (reader_open(&c, &in, w->path, NULL, &why) != 0)
        return fail(error, EXIT_IO, "%s: cannot be saved: reading it back failed (%s); nothing was changed", w->path,
                    why.text);
    bool same = memcmp(c->header.meta.uuid, w->header.meta.uuid, 16) == 0;
    ckpt_close(c);
    return same ? 0 : fail(error, EXIT_IO, "%s: cannot be saved: another file was read back; nothing was changed",
                           w->path);
}

static int finish(struct writer *w, struct error *error)
{
    if (fsync(w->fd) != 0) return broken(w, error, "fsync");
    if (check_back(w, error) != 0) return -1;
    int fd = w->fd;
    if (w->direct >= 0) close(w->direct);
    w->fd = w->direct = -1;
    if (close(fd) != 0) return broken(w, error, "closing it");
    if (renameat(w->folder, w->temporary, w->folder, w->save->name) != 0) return broken(w, error, "renaming it");
    free(w->temporary);
    w->temporary = NULL;
    if (fsync(w->folder) != 0)
        return fail(error, EXIT_IO, "%s: is saved, but syncing its folder failed: %s; a power loss may still undo it",
                    w->path, strerror(errno));
    return 0;
}

/* Only a hint for people and scripts: a failure costs nothing and is only reported. */
static void hint(const struct writer *w)
{
    struct error why;
    char *path = host_text("%s/latest", w->save->folder), *line = host_text("%s\n", w->save->name);
    if (file_replace(path, line, strlen(line), &why) != 0)
        fprintf(stderr, "%s: %s (the checkpoint itself is saved)\n", program_name(), why.text);
    free(path);
    free(line);
}

static void clean_up(struct writer *w)
{
    if (w->fd >= 0) close(w->fd);
    if (w->direct >= 0) close(w->direct);
    if (w->temporary && w->folder >= 0) unlinkat(w->folder, w->temporary, 0);
    if (w->folder >= 0) close(w->folder);
    for (size_t i = 0; i < w->pieces; i++) bytes_free(&w->piece[i].data);
    free(w->piece);
    free(w->moments);
    free(w->chunk_crc);
    index_free(&w->index);
    free(w->temporary);
    free(w->path);
}

int checkpoint_write(const struct save *save, struct error *error)
{
    struct writer w = {.save = save, .path = host_text("%s/%s", save->folder, save->name), .folder = -1, .fd = -1,
                       .direct = -1};
    if (path_special(w.path)) {
        fail(error, EXIT_IO, "%s: cannot be replaced: it is a folder, a device or a pipe", w.path);
        free(w.path);
        return -1;
    }
    folder_sweep(save->folder, save->name);
    plan_index(&w);
    plan_pieces(&w);
    plan_header(&w);
    int status = create(&w, error);
    if (status == 0 && write_tensors(&w) != 0) status = broken(&w, error, "writing");
    if (status == 0 && save->identify) {
        weights_identity(save->meta->weights_id, &w.index);
        memcpy(w.header.meta.weights_id, save->meta->weights_id, sizeof w.header.meta.weights_id);
    }
    if (status == 0 && write_metadata(&w) != 0) status = broken(&w, error, "writing");
    if (status == 0) status = finish(&w, error);
    if (status == 0 && save->in_run) hint(&w);
    clean_up(&w);
    return status;
}

void ckpt_walk(const struct ckpt_source *source, size_t count, int done)
{
    char *buffer = host_alloc(CKPT_CHUNK, 1);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = dtype_size(source[i].dtype);
        for (int k = 0; k < source[i].ndim; k++) bytes *= source[i].shape[k];
        for (uint64_t at = 0; at < bytes; at += CKPT_CHUNK)
            if (done-- <= 0)
                source[i].fetch(source[i].self, buffer, at,
                                bytes - at < CKPT_CHUNK ? (size_t)(bytes - at) : (size_t)CKPT_CHUNK);
    }
    free(buffer);
}

int ckpt_save(const char *folder, const char *name, struct ckpt_meta *meta, const struct ckpt_source *source,
              size_t count, struct error *error)
{
    struct save save = {.folder = folder, .name = name, .meta = meta, .source = source, .count = count, .in_run = true};
    return checkpoint_write(&save, error);
}
