/* family_config.h - what the files that read and write config.json share. */
#ifndef QUARTET_FAMILY_CONFIG_H
#define QUARTET_FAMILY_CONFIG_H

#include "common/interop/families.h"

/* "config.json: KEY is VALUE (expected EXPECTED): the model would compute something else here".  Returns -1. */
int family_refuse(struct error *error, const char *key, const json_t *value, const char *expected);

/* Rotary positions: rope_theta and partial_rotary_factor at the top, rope_scaling (transformers up to 4) and
 * rope_parameters (from 5 on).  Reads them all, refuses those that disagree, and removes them from json. */
int family_rope_read(struct config *c, json_t *json, struct error *error);
/* Adds them, in both spellings.  partial: the family has partial_rotary_factor. */
void family_rope_write(json_t *json, const struct config *c, bool partial);

#endif
