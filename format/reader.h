/* reader.h - reading beyond checkpoint.h, for the rest of format/: the parts of an open file, opening from memory, and
 * continuing after a problem. */
#ifndef QUARTET_READER_H
#define QUARTET_READER_H

#include "format/layout.h"

/* Where the bytes are: a file (fd >= 0) or memory. */
struct input { int fd; const uint8_t *memory; uint64_t size; };
/* Exactly `size` bytes at `offset`: 0, or -1 (EXIT_IO). */
int input_read(const struct input *in, void *out, uint64_t offset, size_t size, struct error *error);
/* 1 when a byte from `from` up to `to` is not zero, else 0, or -1 (EXIT_IO). */
int input_used(const struct input *in, uint64_t from, uint64_t to, struct error *error);

struct ckpt {
    struct input input;
    bool owns_fd;
    char *path;
    struct header header;
    struct section *section;             /* header.section_count of them */
    const struct section *tdat;
    struct index index;                  /* count 0 when TIDX is damaged */
    uint32_t *chunk_crc;                 /* NULL when there is no section CCRC */
    struct stats *stats;                 /* NULL when there is no section STAT */
};

/* What is wrong with a file, collected instead of stopping at the first thing; the first sentences are kept. */
enum { PROBLEMS_KEPT = 100 };
struct problems { char *text[PROBLEMS_KEPT]; int kept, exit_code; uint64_t count; };
void problems_add(struct problems *p, const struct error *error);
void problems_free(struct problems *p);

/* Opens in->size bytes.  path: the name in messages.  in->fd stays the caller's.  problems NULL: the first one ends it;
 * otherwise each is added, and opening continues unless header or table make that impossible.  Returns 0 or -1. */
int reader_open(struct ckpt **out, const struct input *in, const char *path, struct problems *problems,
                struct error *error);
/* Opens a file (not a folder) by path, as reader_open. */
int reader_open_file(struct ckpt **out, const char *path, struct problems *problems, struct error *error);
/* The first page of a file, decoded. */
int reader_header(struct header *h, const char *path, struct error *error);

/* The section's raw bytes, CRC checked and inflated (S9, S12). */
int section_read(struct bytes *out, const struct ckpt *c, const struct section *s, struct error *error);

/* Verifies all tensors in parallel (T8, T10, T11); with `problems` continues after each.  Returns 0 or -1. */
int reader_verify(struct ckpt *c, struct problems *problems, struct error *error);

/* Reads bytes of one tensor without checking its CRC (the caller did, or shows that it did not). */
int tensor_read(const struct ckpt *c, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error);

#endif
