/* options_value.h - the value of one row, for options.c and train/options_saved.c. */
#ifndef QUARTET_OPTIONS_VALUE_H
#define QUARTET_OPTIONS_VALUE_H

#include "common/base/options.h"

/* Sets the value from a word; a list grows by it.  Returns 0, or -1 (EXIT_USAGE) with the value untouched. */
int option_set(const struct option *o, const char *word, struct error *error);

/* 0, false, NULL or no items. */
void option_clear(const struct option *o);

/* The value, or the default, as the user would write it, in valid UTF-8 (which a path need not be); to free(). */
char *option_text(const struct option *o);
char *option_default_text(const struct option *o);

/* True for a number that is still "auto". */
bool option_auto(const struct option *o);

/* True for a text option that is not set: it is not saved. */
bool option_unset(const struct option *o);

/* Words live as long as the process, as those of argv do. */
void option_list_add(struct option_list *list, const char *word);

#endif
