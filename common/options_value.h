/* options_value.h - one row's value; between options.c and options_value.c alone. */
#ifndef QUARTET_OPTIONS_VALUE_H
#define QUARTET_OPTIONS_VALUE_H

#include "common/options.h"

/* Sets the value from a word; a list grows by it.  Returns 0, or -1 (EXIT_USAGE) with the value untouched. */
int option_set(const struct option *o, const char *word, struct error *error);

/* 0, false, NULL or no items. */
void option_clear(const struct option *o);

/* Words live as long as the process, as those of argv do. */
void option_list_add(struct option_list *list, const char *word);

#endif
