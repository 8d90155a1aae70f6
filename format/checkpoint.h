/* checkpoint.h - reading and writing the one file everything is handed over in.  The law is format/SPEC.md.
 * Reading never trusts; writing never leaves half a file under a final name. */
#ifndef QUARTET_CHECKPOINT_H
#define QUARTET_CHECKPOINT_H

#include "format/kv.h"

enum stage { STAGE_UNKNOWN = 0, STAGE_PRETRAIN = 1, STAGE_SFT = 2, STAGE_RM = 3, STAGE_RLHF = 4, STAGE_CRITIC = 5,
             STAGE_IMPORTED = 6 };
const char *stage_name(enum stage stage);       /* "pretrain", "sft", "rm", "rlhf", ... */

enum { CKPT_TRAINING_STATE = 1, CKPT_RESUMABLE = 2, CKPT_FINAL = 4 };     /* header flags */

enum dtype { DTYPE_F32 = 1, DTYPE_F16 = 2, DTYPE_BF16 = 3 };          /* the ones programs handle; SPEC.md has all */
enum role { ROLE_WEIGHT = 0, ROLE_MASTER = 1, ROLE_ADAM_M = 2, ROLE_ADAM_V = 3, ROLE_EMA = 4, ROLE_BUFFER = 5,
            ROLE_HEAD = 6 };

/* What a file says beside its tensors: facts of the header, and the metadata sections. */
enum { CKPT_KV_SECTIONS = 8 };
struct ckpt_meta {
    uint32_t stage, flags;
    uint8_t uuid[16];            /* of this file: made by ckpt_save */
    uint8_t run_uuid[16];        /* constant in a run */
    uint8_t weights_id[16];      /* identity of the weights: caller's; new whenever weights change */
    uint64_t step, tokens_seen;
    int64_t created;             /* ns since 1970: made by ckpt_save */
    char writer[33];             /* "pretrain 0.1.0" */
    union {                      /* the key-value sections, by name or by the number section_table has for them */
        struct { struct kv conf, chat, trns, rngs, dcur, line, meta, eval; };
        struct kv kv[CKPT_KV_SECTIONS];
    };
    struct bytes tokn;           /* empty sections are not written */
};
void ckpt_meta_free(struct ckpt_meta *meta);     /* its sections; they are empty then */

/* ---- writing ---- */

/* A tensor to be saved.  fetch copies `bytes` bytes of it, from byte `offset` on, to host memory (from the device); it
 * is called by the thread that called ckpt_save. */
struct ckpt_source {
    char name[256];
    enum role role;
    enum dtype dtype;
    int ndim;
    uint64_t shape[8];           /* outermost first */
    bool trainable, decay;
    void *self;
    void (*fetch)(void *self, void *host, uint64_t offset, size_t bytes);
};

/* Saves atomically to folder/name (SPEC.md, "Writing"): no reader ever sees half of it, the data is durable before
 * the name exists, the file just written is read back and validated before it is renamed, and per-tensor statistics
 * (STAT) are taken on the way.  A file of that name is replaced; `latest` then names it.  Memory: 4 MiB a thread, 16 at
 * most.  Returns 0, or -1 (EXIT_IO: what failed, on which file) with the folder as it was. */
int ckpt_save(const char *folder, const char *name, struct ckpt_meta *meta, const struct ckpt_source *source,
              size_t count, struct error *error);

/* Makes the calls of fetch that ckpt_save of these tensors makes, in its order, but the first `done`: for ranks that
 * hold what another one saves, and for that one when saving has failed half-way. */
void ckpt_walk(const struct ckpt_source *source, size_t count, int done);

/* ---- reading ---- */

/* offset: from the start of the tensors' data, where CRCs of chunks begin with number first_chunk. */
struct ckpt_tensor { const char *name; enum role role; uint32_t dtype; int ndim; uint64_t shape[8], bytes, offset;
                     uint16_t flags; uint32_t crc, group, first_chunk; };

struct ckpt;                     /* an open file; metadata is in private memory, tensors are read on demand */

/* Opens and checks header, table, every metadata section and the tensor index (all checks of SPEC.md but tensor CRCs).
 * path: a file, or a run folder (its newest valid checkpoint; older ones are tried, in falling step order, with a line
 * on stderr for each that is skipped and why).  Returns 0, or -1 with *out NULL (missing EXIT_NOINPUT, not valid
 * EXIT_DATA). */
int ckpt_open(struct ckpt **out, const char *path, struct error *error);
void ckpt_close(struct ckpt *c);                               /* NULL is allowed */

const struct ckpt_meta *ckpt_meta_of(const struct ckpt *c);
const char *ckpt_path(const struct ckpt *c);                   /* the file really opened */
size_t ckpt_tensor_count(const struct ckpt *c);
const struct ckpt_tensor *ckpt_tensor_at(const struct ckpt *c, size_t i);
/* The tensor's number, or -1 when it is not there. */
int64_t ckpt_find(const struct ckpt *c, const char *name, enum role role);

/* Reads the whole tensor as float32, whatever floating dtype it has, in blocks, verifying its CRC: for each block calls
 * take(self, values, first, count).  Returns 0, or -1 (EXIT_DATA: CRC or dtype; EXIT_IO). */
int ckpt_read_f32(struct ckpt *c, size_t tensor,
                  void (*take)(void *self, const float *values, uint64_t first, size_t count), void *self,
                  struct error *error);

/* Verifies the CRC of every tensor.  Returns 0 or -1 naming the tensor and chunk. */
int ckpt_verify(struct ckpt *c, struct error *error);

/* ---- lineage (section LINE) ---- */

/* Appends parent to child's LINE with the role it plays (init | policy | reference | reward | critic_init | tokenizer)
 * and takes over the parent's chain: keys as in SPEC.md. */
void lineage_add(struct kv *line, const struct ckpt_meta *parent, const char *role, const char *name);

/* ---- run folders ---- */

/* Opens the newest valid checkpoint of a run folder (whole: tensor CRCs included).  Returns 1, after a line on stderr
 * for each newer one that was skipped; or with *error and *out NULL 0 when there is none at all, -1 when there are some
 * but none is valid.  Looks at step-NNNNNNNN.ckpt and final.ckpt; `latest` is only a hint. */
int run_newest(struct ckpt **out, const char *folder, bool whole, struct error *error);

/* Removes all but the `keep` newest valid checkpoints, those whose step is a multiple of keep_every (0: none), the one
 * `latest` names and final.ckpt; never the last valid one, and nothing before one that stays was verified to the last
 * byte.  Sweeps temporary files of dead saves.  What cannot be removed stays, silently. */
void run_retain(const char *folder, int keep, uint64_t keep_every);

#endif
