/* memory.h - one arena a phase: measured, then taken, then sealed.
 *
 * The code that takes memory runs twice: first while measuring, when every take returns NULL and only counts, then for
 * real.  So the footprint is known before the first step (--plan), constant afterwards, and nobody computes a size.
 *
 *     struct memory memory = {0};
 *     build(&program, &memory);              counts
 *     memory_total(&memory, side)            --plan prints it, phase by phase, and stops here
 *     memory_open(&memory, &error);          takes it all, or says what is missing
 *     build(&program, &memory);              hands it out
 *     memory_seal(&memory);                  a further take dies
 *
 * Device phases, and what is offloaded, are touched only by ops.h and device.h, host phases by everybody else.
 * Ownership: whoever opened the memory closes it; nothing inside is freed alone. */
#ifndef QUARTET_MEMORY_H
#define QUARTET_MEMORY_H

#include "common/base/base.h"

enum phase {            /* those of the device first */
    MEMORY_PARAMS,      /* float32 parameters: master weights */
    MEMORY_PACKED,      /* weights in the form the products read */
    MEMORY_GRADS,
    MEMORY_MOMENTS,     /* AdamW m and v, and the averaged weights (EMA) where asked for */
    MEMORY_ACTS,        /* one micro-batch: what forward keeps for backward */
    MEMORY_WORK,        /* scratch of one operation, and its packing buffers */
    MEMORY_CACHE,       /* key/value cache of generation */
    MEMORY_OFFLOADED,   /* host, pinned: float32 parameters, moments and averages with --offload moments */
    MEMORY_ROLLOUTS,    /* host: one iteration's rollouts of rlhf */
    MEMORY_DATA,        /* host: the data set as tokens, indices, batches */
    MEMORY_PHASES
};

enum side { SIDE_DEVICE, SIDE_HOST };
static inline enum side memory_side(enum phase phase) { return phase < MEMORY_OFFLOADED ? SIDE_DEVICE : SIDE_HOST; }

struct arena { char *base; size_t used, peak, capacity; };

/* sharers: processes of this host that each take as much; 0: one. */
struct memory { struct arena arena[MEMORY_PHASES]; enum { MEASURING, TAKING, SEALED } state; int sharers; };

/* count * size bytes on the phase's side, zeroed when first opened, 64-byte aligned; NULL while measuring.  Dies from a
 * sealed memory or when more is taken than was measured (a bug of ours). */
void *memory_take(struct memory *m, enum phase phase, size_t count, size_t size);

/* A phase used as a stack: what is taken after the mark is given back by the release (contents are then undefined). */
size_t memory_mark(const struct memory *m, enum phase phase);
void memory_release(struct memory *m, enum phase phase, size_t mark);

/* Whether what was measured can be had: 0, or -1 (EXIT_INTERNAL) with a sentence that names the need, what is
 * available, the largest phase, and which options lower it.  memory_fits_in: within `host` and `device` bytes, or, when
 * the device shares the host's memory, both parts together within the lesser of the two. */
int memory_fits(const struct memory *m, struct error *error);
int memory_fits_in(const struct memory *m, uint64_t host, uint64_t device, bool shared, struct error *error);

/* Allocates what was measured.  Returns 0, or -1 as memory_fits does; nothing is kept then. */
int memory_open(struct memory *m, struct error *error);
void memory_seal(struct memory *m);
void memory_close(struct memory *m);

/* Moves count * size bytes of a heap array into MEMORY_DATA: measuring counts them and returns the array itself; taking
 * returns the copy, and the heap's is freed.  For data whose size is known only once it is read. */
void *memory_settle(struct memory *m, void *heap, size_t count, size_t size);

/* Bytes: of a phase at its highest, and of all phases of a side. */
size_t memory_bytes(const struct memory *m, enum phase phase);
size_t memory_total(const struct memory *m, enum side side);
const char *memory_phase_name(enum phase phase);

#endif
