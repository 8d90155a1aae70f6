/* safetensors.c - the header is JSON behind its length; every byte behind it belongs to exactly one tensor. */
#include "common/interop/safetensors.h"
#include "format/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MAX = 100 << 20, DIMENSIONS = 8 };

static const struct { const char *name; uint32_t dtype; } dtypes[] = {
    {"F32", DTYPE_F32}, {"F16", DTYPE_F16}, {"BF16", DTYPE_BF16}, {"F64", DTYPE_F64}, {"I64", DTYPE_I64},
    {"I32", DTYPE_I32}, {"I16", DTYPE_I16}, {"I8", DTYPE_I8}, {"U8", DTYPE_U8}, {"BOOL", DTYPE_BOOL}};

int interop_json(json_t **out, const char *path, struct error *error)
{
    struct bytes text = {0};
    json_error_t why;
    *out = NULL;
    if (file_read(&text, path, HEADER_MAX, error) != 0) return -1;
    json_t *object = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &why);
    bytes_free(&text);
    if (!json_is_object(object)) {
        json_decref(object);
        return fail(error, EXIT_DATA, "%s: not a JSON object (line %d: %s)", path, object ? 1 : why.line,
                    object ? "another value" : why.text);
    }
    *out = object;
    return 0;
}

static int read_at(const struct st_file *f, void *out, uint64_t offset, size_t size, struct error *error)
{
    if (file_read_at(f->fd, out, offset, size) == 0) return 0;
    return fail(error, EXIT_IO, "%s: %zu bytes at byte %llu cannot be read: %s", f->path, size,
                (unsigned long long)offset, errno ? strerror(errno) : "it has become shorter");
}

/* A whole number from 0 up. */
static bool count_of(uint64_t *out, const json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

int safetensors_name(const char *name, const char *path, struct error *error)
{
    char shown[512];
    if (strcmp(text_escape(shown, sizeof shown, name, strlen(name)), name) == 0) return 0;
    return fail(error, EXIT_DATA, "%s: a tensor has a name of control characters, or one that is too long: %.100s", path, shown);
}

/* One entry of a header whose data begin at byte `data` of the file. */
static int take_tensor(struct st_tensor *t, const char *name, const json_t *entry, uint64_t data, const char *path,
                       struct error *error)
{
    const json_t *shape = json_object_get(entry, "shape"), *place = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    char shown[100];
    uint64_t begin, end, elements = 1;
    if (safetensors_name(name, path, error) != 0) return -1;
    text_escape(shown, sizeof shown, name, strlen(name));
    *t = (struct st_tensor){.ndim = (int)json_array_size(shape)};
    for (size_t i = 0; dtype && i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, dtype) == 0) t->dtype = dtypes[i].dtype;
    if (!t->dtype)
        return fail(error, EXIT_DATA, "%s: tensor %s has the dtype %s (expected F32, F16, BF16 or F64)", path, shown,
                    dtype ? dtype : "of another type than text");
    if (!json_is_array(shape) || json_array_size(shape) > DIMENSIONS)
        return fail(error, EXIT_DATA, "%s: tensor %s has no shape of at most %d dimensions", path, shown, DIMENSIONS);
    for (int d = 0; d < t->ndim; d++)
        if (!count_of(&t->shape[d], json_array_get(shape, (size_t)d)) || !size_mul(&elements, elements, t->shape[d]))
            return fail(error, EXIT_DATA, "%s: tensor %s has a shape that is not one", path, shown);
    if (json_array_size(place) != 2 || !count_of(&begin, json_array_get(place, 0)) ||
        !count_of(&end, json_array_get(place, 1)) || !size_mul(&t->bytes, elements, dtype_size(t->dtype)) ||
            end < begin ||
        end - begin != t->bytes)
        return fail(error, EXIT_DATA, "%s: tensor %s: its data_offsets do not hold its %llu values", path, shown,
                    (unsigned long long)elements);
    t->offset = begin;
    if (!size_add(&t->offset, t->offset, data))
        return fail(error, EXIT_DATA, "%s: tensor %s lies outside the file", path, shown);
    t->name = host_text("%s", name);
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The tensors of one file lie one behind the other, from the header to the end. */
static int check_cover(struct st_tensor *t, size_t n, uint64_t data, const struct st_file *f, struct error *error)
{
    uint64_t at = data;
    if (n) qsort(t, n, sizeof *t, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (t[i].offset != at || t[i].bytes > f->size - at)
            return fail(error, EXIT_DATA,
                        "%s: tensor %s begins at byte %llu of the file and has %llu (expected byte %llu, "
                        "and an end within %llu)", f->path, t[i].name, (unsigned long long)t[i].offset,
                        (unsigned long long)t[i].bytes, (unsigned long long)at, (unsigned long long)f->size);
        at += t[i].bytes;
    }
    if (at != f->size)
        return fail(error, EXIT_DATA, "%s: %llu bytes belong to no tensor", f->path,
                    (unsigned long long)(f->size - at));
    return 0;
}

static int read_header(json_t **out, uint64_t *data, const struct st_file *f, struct error *error)
{
    uint8_t head[8];
    json_error_t why;
    if (f->size < 8 || read_at(f, head, 0, 8, error) != 0)
        return fail(error, EXIT_DATA, "%s: too short for a safetensors file", f->path);
    uint64_t length = load64(head);
    if (length > HEADER_MAX || length > f->size - 8)
        return fail(error, EXIT_DATA,
                    "%s: its header would have %llu bytes of the %llu that are there: it is truncated, or "
                    "no safetensors file", f->path, (unsigned long long)length, (unsigned long long)f->size);
    char *text = host_alloc((size_t)length + 1, 1);
    int status = read_at(f, text, 8, (size_t)length, error);
    *out = status == 0 ? json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &why) : NULL;
    free(text);
    if (status != 0) return -1;
    if (!json_is_object(*out)) {
        json_decref(*out);
        return fail(error, EXIT_DATA, "%s: its header is not a JSON object without repeated keys", f->path);
    }
    *data = 8 + length;
    return 0;
}

static int check_metadata(json_t *metadata, const char *path, struct error *error)
{
    const char *name;
    json_t *value;
    bool good = json_is_object(metadata);
    json_object_foreach(metadata, name, value) good = good && json_is_string(value);
    return good ? 0 : fail(error, EXIT_DATA, "%s: its __metadata__ is not an object of texts", path);
}

struct st_file *safetensors_file(struct safetensors *s, const char *path, struct error *error)
{
    struct stat st;
    s->file = host_grow(s->file, (size_t)s->files + 1, sizeof *s->file);
    struct st_file *f = &s->file[s->files++];
    *f = (struct st_file){.path = host_text("%s", path), .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (f->fd < 0) fail(error, EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    else if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode)) fail(error, EXIT_DATA, "%s: not a regular file", path);
    else {
        f->size = (uint64_t)st.st_size;
        return f;
    }
    return NULL;
}

struct st_tensor *safetensors_add(struct safetensors *s)
{
    s->tensor = host_append(s->tensor, s->count, 1, sizeof *s->tensor);
    s->tensor[s->count] = (struct st_tensor){0};
    return &s->tensor[s->count++];
}

static int add_file(struct safetensors *s, const char *path, struct error *error)
{
    json_t *header = NULL, *entry;
    uint64_t data = 0;
    const char *name;
    size_t first = s->count;
    const struct st_file *f = safetensors_file(s, path, error);
    if (!f || read_header(&header, &data, f, error) != 0) return -1;
    int status = 0;
    json_object_foreach(header, name, entry) {
        status = strcmp(name, "__metadata__") == 0 ? check_metadata(entry, path, error)
               : take_tensor(safetensors_add(s), name, entry, data, path, error);
        if (status != 0) break;
    }
    for (size_t i = first; i < s->count; i++) s->tensor[i].file = s->files - 1;
    json_decref(header);
    return status == 0 ? check_cover(s->tensor + first, s->count - first, data, f, error) : -1;
}

int safetensors_sort(struct safetensors *s, const char *path, struct error *error)
{
    if (s->count) qsort(s->tensor, s->count, sizeof *s->tensor, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->tensor[i - 1].name, s->tensor[i].name) == 0)
            return fail(error, EXIT_DATA, "%s: tensor %s is there twice", path, s->tensor[i].name);
    return 0;
}

/* The shards of an index: each named once is opened once, and holds what the index says it holds. */
static int add_shards(struct safetensors *s, const char *folder, const char *index, struct error *error)
{
    json_t *json, *file;
    const char *name;
    if (interop_json(&json, index, error) != 0) return -1;
    json_t *map = json_object_get(json, "weight_map"), *seen = json_object();
    int status = json_object_size(map) ? 0 : fail(error, EXIT_DATA, "%s: it has no weight_map", index);
    json_object_foreach(map, name, file) {
        const char *base = json_string_value(file);
        if (base && (status = safetensors_name(base, index, error)) != 0) break;
        if ((status = safetensors_name(name, index, error)) != 0) break;
        if (!base || !*base || strchr(base, '/') || strcmp(base, "..") == 0)
            status = fail(error, EXIT_DATA, "%s: a shard is named '%s', expected a file in the same folder", index,
                          base ? base : "");
        else if (!json_object_get(seen, base)) {
            char *path = host_text("%s/%s", folder, base);
            json_object_set_new(seen, base, json_integer(s->files));
            status = add_file(s, path, error);
            free(path);
        }
        if (status != 0) break;
    }
    if (status == 0) status = safetensors_sort(s, folder, error);
    if (status == 0)
        json_object_foreach(map, name, file) {
            const struct st_tensor *t = safetensors_find(s, name);
            if (t && t->file == json_integer_value(json_object_get(seen, json_string_value(file)))) continue;
            status = fail(error, EXIT_DATA, "%s: tensor %s is not in the shard %s", index, name,
                          json_string_value(file));
            break;
        }
    json_decref(seen);
    json_decref(json);
    return status;
}

int safetensors_open(struct safetensors *s, const char *path, struct error *error)
{
    struct stat st;
    *s = (struct safetensors){0};
    if (stat(path, &st) != 0) return fail(error, EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    char *single = host_text("%s/model.safetensors", path), *index = host_text("%s/model.safetensors.index.json", path);
    int status = !S_ISDIR(st.st_mode) ? add_file(s, path, error)
               : access(index, F_OK) == 0 ? add_shards(s, path, index, error) : add_file(s, single, error);
    free(single);
    free(index);
    if (status == 0) status = safetensors_sort(s, path, error);
    if (status != 0) safetensors_close(s);
    return status;
}

void safetensors_close(struct safetensors *s)
{
    for (int i = 0; i < s->files; i++) {
        if (s->file[i].fd >= 0) close(s->file[i].fd);
        free(s->file[i].path);
    }
    for (size_t i = 0; i < s->count; i++) free(s->tensor[i].name);
    free(s->file);
    free(s->tensor);
    *s = (struct safetensors){0};
}

struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct st_tensor key = {.name = (char *)(uintptr_t)name};
    return s->count ? bsearch(&key, s->tensor, s->count, sizeof key, by_name) : NULL;
}

int safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *out, uint64_t offset, size_t bytes,
                     struct error *error)
{
    return read_at(&s->file[t->file], out, t->offset + offset, bytes, error);
}
