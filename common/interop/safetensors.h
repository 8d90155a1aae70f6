/* safetensors.h - tensors of one .safetensors file, or of a folder: model.safetensors, or the shards that
 * model.safetensors.index.json names.  Nothing in the files is believed: every rule of docs/interop.md is checked,
 * and the sentence names file and tensor.   Source: huggingface/safetensors, README, "Format". */
#ifndef QUARTET_SAFETENSORS_H
#define QUARTET_SAFETENSORS_H

#include "common/base/base.h"

#include <jansson.h>

/* dtype: as in format/layout.h.  offset: of the first byte in its file. */
struct st_tensor { char *name; uint32_t dtype; int ndim; uint64_t shape[8], offset, bytes; int file; bool used; };
struct st_file { char *path; int fd; uint64_t size; };
struct safetensors { struct st_file *file; int files; struct st_tensor *tensor; size_t count; };   /* ascending names */

/* Returns 0, or -1: EXIT_NOINPUT (no such file), EXIT_IO, EXIT_DATA.  *s is {0} then. */
int safetensors_open(struct safetensors *s, const char *path, struct error *error);
void safetensors_close(struct safetensors *s);

/* For readers of other forms: one more file, opened, with its size (or NULL: EXIT_NOINPUT, EXIT_DATA); one more tensor, {0};
 * and in the end all tensors in the order of their names, each there once (0, or -1: EXIT_DATA). */
struct st_file *safetensors_file(struct safetensors *s, const char *path, struct error *error);
struct st_tensor *safetensors_add(struct safetensors *s);
int safetensors_sort(struct safetensors *s, const char *path, struct error *error);

struct st_tensor *safetensors_find(const struct safetensors *s, const char *name);       /* or NULL */
/* Can a name be shown as it is?  0, or -1 (EXIT_DATA). */
int safetensors_name(const char *name, const char *path, struct error *error);

/* Bytes of a tensor: 0, or -1 (EXIT_IO). */
int safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *out, uint64_t offset, size_t bytes,
                     struct error *error);

/* A JSON object from a file of at most 100 MB, without repeated keys: 0, or -1. */
int interop_json(json_t **out, const char *path, struct error *error);

#endif
