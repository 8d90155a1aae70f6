/* families.h - the architectures of other systems as rows of one table: which settings of our transformer they are, how
 * their tensors are called, and where each row of ours lies in theirs.  docs/interop.md lists them. */
#ifndef QUARTET_FAMILIES_H
#define QUARTET_FAMILIES_H

#include "common/model/config.h"

#include <jansson.h>

/* Our parameters, by what they are called within a layer or outside. */
enum slot { SLOT_EMBED, SLOT_POSITION, SLOT_EMBED_NORM, SLOT_NORM1, SLOT_QKV, SLOT_Q_NORM, SLOT_K_NORM, SLOT_OUT,
            SLOT_POST1, SLOT_NORM2, SLOT_UP, SLOT_DOWN, SLOT_POST2, SLOT_FINAL_NORM, SLOT_EMBED_IN, SLOT_EMBED_OUT,
            SLOT_HEAD, SLOT_SCORE, SLOTS };

struct family {
    const char *type, *class;               /* model_type and the class in `architectures` */
    const char *prefix;                     /* of every name but the head's; may be missing on all */
    const char *name[SLOTS];                /* %d: layer; {a,b}: several tensors, one below the other */
    bool transposed;                        /* linear layers are stored (in,out) */
    bool turned;                            /* rows of query and key heads: pairs i, i + D/2 lie side by side */
    bool grouped;                           /* rows of qkv: for each key head its query heads, its key, its value */
    bool unit_head;                         /* each row of the head is scaled to length 1 before it is used */
    int blocks;                             /* qkv lies in so many blocks of heads, in each query, value, key */
    int position_rows;                      /* rows of the position table before that of position 0 */
    struct config config;                   /* what no key of config.json says */
    const char *keys;                       /* those that it writes, with blanks between; NULL: it is only read */
};
extern const struct family families[];      /* type NULL ends */

/* The family and the configuration that config.json describes.  Every key is understood, or known not to matter;
 * any other is refused by name.  json is used up.  Returns 0, or -1 (EXIT_DATA). */
int family_config(const struct family **family, struct config *c, json_t *json, struct error *error);

/* The other way round: a config.json (to json_decref), from which family_config makes this configuration again, by the
 * family it came from or another one; NULL, and *why (EXIT_MISMATCH) names what none can say. */
json_t *family_json(const struct family **family, const struct config *c, struct error *why);

/* The slot of one of our parameters ("blk.3.attn_qkv.weight"), its layer (-1: none), and what its name ends in
 * ("weight", "bias"); false for one that has none. */
bool family_slot(enum slot *slot, int *layer, const char **end, const char *name);

enum { PIECES = 3 };
/* Names of the tensors that make up a slot, each to free(): how many; 0 when the family has none. */
int family_names(char *names[PIECES], const struct family *f, enum slot slot, int layer, const char *end);
/* Rows of piece number `piece` of `pieces`. */
int64_t family_rows(const struct config *c, enum slot slot, int piece, int pieces, int64_t rows);
/* Where row `row` of our parameter lies: the piece, and the row in it. */
struct family_place { int piece; int64_t row; };
struct family_place family_place(const struct family *f, const struct config *c, enum slot slot, int pieces,
                                 int64_t rows, int64_t row);

/* ---- what family_config.c, family_special.c and family_rope.c share ---- */

/* "config.json: KEY is VALUE (expected EXPECTED): the model would compute something else here".  Returns -1. */
int family_refuse(struct error *error, const char *key, const json_t *value, const char *expected);

/* Whether it is of one of these types, "a|b". */
bool family_is(const struct family *f, const char *types);

/* Keys that say more than one thing, or something else in each family: reads them into c and removes them from json; *f
 * may become another row of the same type. */
int family_special(const struct family **f, struct config *c, json_t *json, struct error *error);

/* Rotary positions: rope_theta and partial_rotary_factor at the top, rope_scaling (transformers up to 4) and
 * rope_parameters (from 5 on).  Reads them all, refuses those that disagree, and removes them from json. */
int family_rope_read(struct config *c, json_t *json, struct error *error);
/* Adds them, in both spellings.  partial: the family has partial_rotary_factor. */
void family_rope_write(json_t *json, const struct config *c, bool partial);

#endif
