/* options_saved.h - the options of a run in its checkpoints. */
#ifndef QUARTET_OPTIONS_SAVED_H
#define QUARTET_OPTIONS_SAVED_H

#include "common/base/options.h"
#include "format/kv.h"

/* Sets "option.<name>" (dashes as underscores) of kv to the text of every saved option. */
void options_save(struct kv *kv, const struct option *table);

/* The check on resume.  Returns 0, or -1 (EXIT_MISMATCH) naming the first option that differs and may not change, with
 * both values.  An option that kv does not know counts as having had its default: it was added since. */
int options_compare(const struct option *table, const struct kv *saved, struct error *error);

/* Gives every option that is still "auto" the value it has in kv. */
void options_adopt(const struct option *table, const struct kv *saved);

#endif
