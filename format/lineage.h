/* lineage.h - reading section LINE, for `ckpt lineage` (SPEC.md, "LINE"). */
#ifndef QUARTET_LINEAGE_H
#define QUARTET_LINEAGE_H

#include "format/checkpoint.h"

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
