/* copy.c - an open model, ours or of another system, as a new checkpoint without training state. */
#include "format/reader.h"

#include <stdlib.h>

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
        const struct tensor *t = &c->index.tensor[i];
        if (role_is_training_state(t->public.role)) continue;
        original[n] = (struct original){c, i};
        source[n] = (struct ckpt_source){.role = t->public.role, .dtype = (enum dtype)t->public.dtype,
                                         .ndim = t->public.ndim, .decay = t->flags & TENSOR_DECAY, .fetch = fetch,
                                         .trainable = c->outside.read || t->flags & TENSOR_TRAINABLE,
                                         .self = &original[n]};
        snprintf(source[n].name, sizeof source[n].name, "%s", t->public.name);
        memcpy(source[n++].shape, t->public.shape, sizeof source->shape);
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
