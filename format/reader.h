/* reader.h - what format/ can do beyond checkpoint.h: the parts of an open file, opening from memory, continuing after
 * a problem, the files of a run folder, lineage. */
#ifndef QUARTET_READER_H
#define QUARTET_READER_H

#include "format/layout.h"

/* Where the bytes are: a file (fd >= 0) or memory. */
struct input { int fd; const uint8_t *memory; uint64_t size; };
/* Exactly `size` bytes at `offset`: 0, or -1 (EXIT_IO). */
int input_read(const struct input *in, void *out, uint64_t offset, size_t size, struct error *error);
/* 1 when a byte from `from` up to `to` is not zero, else 0, or -1 (EXIT_IO). */
int input_used(const struct input *in, uint64_t from, uint64_t to, struct error *error);

/* A model of another system that is read as if it were a checkpoint: where its tensors come from, in place of input,
 * sections and table.  read: as tensor_read, from any thread. */
struct outside {
    const char *kind;                    /* "GGUF file" */
    void *self;
    int (*read)(void *self, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error);
    void (*close)(void *self);
    bool identified;                     /* by reader_identify: the CRCs of the tensors are known */
};

struct ckpt {
    struct input input;
    struct outside outside;              /* read NULL: a file of ours */
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

/* Reads all tensors of a model from outside: their CRCs, and the weights_id that follows from them.  Returns 0 or
 * -1. */
int reader_identify(struct ckpt *c, struct error *error);
/* The identity of weights by what they are: names, types, shapes and CRCs of the tensors, in whatever order. */
void weights_identity(uint8_t id[16], const struct index *index);

/* Reads bytes of one tensor without checking its CRC (the caller did, or shows that it did not). */
int tensor_read(const struct ckpt *c, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error);

/* ---- run folders and saving, as `ckpt ls` and `ckpt strip` need them ---- */

/* step: what the header says, else the name; UINT64_MAX for a final.ckpt whose header is damaged. */
struct run_file { char *path; const char *name; uint64_t step; bool final, valid, keep; };
struct run_list { struct run_file *file; size_t count; };      /* falling step */

/* 0, or -1 (EXIT_NOINPUT).  Reads only headers. */
int folder_list(struct run_list *list, const char *folder, struct error *error);
void folder_list_free(struct run_list *list);

bool folder_is(const char *path);        /* a folder, not a file */

/* Opens a file as reader_open_file; whole: every tensor's CRC must be right too. */
int reader_open_valid(struct ckpt **out, const char *path, bool whole, struct error *error);

/* What `latest` names, to free(), or NULL. */
char *folder_hint(const char *folder);

struct piece { struct section section; struct bytes data; };         /* a section, as stored */

struct save {
    const char *folder, *name;
    struct ckpt_meta *meta;
    const struct ckpt_source *source;
    size_t count;
    const struct piece *foreign;         /* sections unknown here; their data is taken over */
    size_t foreigns;
    bool in_run;                         /* update the folder's `latest` */
    bool identify;                       /* meta->weights_id becomes that of weights_identity */
};
/* As ckpt_save. */
int checkpoint_write(const struct save *save, struct error *error);

/* Saves the tensors of an open model, but for training state, as the checkpoint `path`; save says the rest: meta,
 * foreign, identify.  As ckpt_save; quits when a tensor cannot be read. */
int checkpoint_copy(struct ckpt *c, const char *path, struct save *save, struct error *error);

/* Removes what saves that died left in a folder: NAME.tmp-HEX that no process holds locked, for names that start with
 * `prefix`. */
void folder_sweep(const char *folder, const char *prefix);

/* ---- section LINE (SPEC.md) ---- */

enum { LINEAGE_PARENTS = 16, LINEAGE_LENGTH = 255 };

/* One ancestor: "stage:step:tokens:weights_id:metric=value:name", the name last because it may hold colons. */
struct link { char stage[16], weights_id[33], metric[160]; uint64_t step, tokens; const char *name; };

/* The text of such a link, to free(); and back: false when it is not one.  name points into the text. */
char *lineage_link(const struct ckpt_meta *m, const char *name);
bool lineage_parse(struct link *out, const char *link);

uint64_t lineage_parents(const struct kv *line);         /* how many parents LINE has */
/* Root to parent, both included; returns their number.  Lives as long as line. */
size_t lineage_chain(char ***chain, const struct kv *line, uint64_t parent);
const char *lineage_role(const struct kv *line, uint64_t parent);        /* "parent" when it has none */

/* The main metric of section EVAL: its name and value, or false. */
bool lineage_metric(const struct kv *eval, const char **name, double *value);

/* Writes 2 * size hexadecimal digits and a NUL; returns out. */
char *hex_text(char *out, const uint8_t *data, size_t size);

#endif
