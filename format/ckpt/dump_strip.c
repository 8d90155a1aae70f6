/* dump_strip.c - `ckpt strip`: a copy that can be used but not trained on.  The weights keep their weights_id, so that
 * the copy is recognised as the same model; a section this version does not know goes along only if its flags allow. */
#include "format/ckpt/dump.h"

#include <stdlib.h>
#include <unistd.h>

struct original { struct ckpt *c; size_t tensor; };

/* Copies are read from a file that was verified first, so this can fail only with the disk. */
static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    struct original *o = self;
    struct error error;
    if (tensor_read(o->c, o->tensor, host, offset, bytes, &error) != 0) quit(EXIT_IO, "%s: %s", o->c->path, error.text);
}

static size_t keep_tensors(struct ckpt_source *source, struct original *original, struct ckpt *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct tensor *t = &c->index.tensor[i];
        if (role_is_training_state(t->public.role)) continue;
        original[n] = (struct original){c, i};
        source[n] = (struct ckpt_source){.role = t->public.role, .dtype = (enum dtype)t->public.dtype,
                                         .ndim = t->public.ndim, .trainable = t->flags & TENSOR_TRAINABLE,
                                         .decay = t->flags & TENSOR_DECAY, .self = &original[n], .fetch = fetch};
        snprintf(source[n].name, sizeof source[n].name, "%s", t->public.name);
        memcpy(source[n].shape, t->public.shape, sizeof source[n].shape);
        n++;
    }
    return n;
}

/* The unknown sections that are safe to copy; the others are dropped with a message. */
static size_t keep_foreign(struct piece **out, const struct ckpt *c)
{
    struct piece *foreign = host_alloc(c->header.section_count, sizeof *foreign);
    size_t n = 0;
    for (uint32_t i = 0; i < c->header.section_count; i++) {
        const struct section *s = &c->section[i];
        if (section_facts(s->type)) continue;
        if (!(s->flags & SECTION_SAFE_TO_COPY)) {
            fprintf(stderr, "%s: section %s is unknown and not safe to copy; it is left out\n", program_name(),
                    s->type);
            continue;
        }
        foreign[n].section = *s;
        foreign[n].data.data = host_alloc((size_t)s->stored + 1, 1);
        foreign[n].data.size = (size_t)s->stored;
        if (input_read(&c->input, foreign[n].data.data, s->offset, (size_t)s->stored, NULL) != 0)
            quit(EXIT_IO, "%s: cannot be read", c->path);
        n++;
    }
    *out = foreign;
    return n;
}

static int write_copy(struct ckpt *c, const char *path, struct error *error)
{
    struct ckpt_meta meta = c->header.meta;                /* borrowed, but for the three sections that are left out */
    struct ckpt_source *source = host_alloc(c->index.count, sizeof *source);
    struct original *original = host_alloc(c->index.count, sizeof *original);
    struct piece *foreign;
    const char *slash = strrchr(path, '/');
    char *folder = path_folder(path);
    meta.trns = meta.rngs = meta.dcur = (struct kv){0};
    meta.flags &= ~(uint32_t)CKPT_RESUMABLE;
    struct save save = {.folder = folder, .name = slash ? slash + 1 : path, .meta = &meta, .source = source};
    save.count = keep_tensors(source, original, c);
    save.foreigns = keep_foreign(&foreign, c);
    save.foreign = foreign;
    int status = save.count ? checkpoint_write(&save, error)
                            : fail(error, EXIT_DATA, "%s: holds nothing but training state", c->path);
    free(foreign);
    free(folder);
    free(source);
    free(original);
    return status;
}

int dump_strip(struct dump *d, struct ckpt *c, json_t *facts)
{
    const char *path = d->argument[1];
    char before[16], after[16];
    struct error error;
    struct header h;
    if (!d->force && access(path, F_OK) == 0) quit(EXIT_USAGE, "%s: exists already (--force replaces it)", path);
    if (ckpt_verify(c, &error) != 0 || write_copy(c, path, &error) != 0 || reader_header(&h, path, &error) != 0)
        quit_error(&error);
    fact_members(facts, json_pack("{s:o, s:o, s:o, s:o}", "file", fact_text(path), "bytes_before",
                                  fact_u64(c->header.file_size), "bytes", fact_u64(h.file_size), "weights_id",
                                  fact_hex(h.meta.weights_id, 16)));
    d->note = host_text("%s: %s instead of %s", path, text_bytes(after, (double)h.file_size),
                        text_bytes(before, (double)c->header.file_size));
    return 0;
}
