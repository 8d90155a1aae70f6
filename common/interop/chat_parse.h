/* chat_parse.h - is a text a Jinja template?  Templates of others are kept and given back, never run: one that no program
 * could run is better refused at once. */
#ifndef QUARTET_CHAT_PARSE_H
#define QUARTET_CHAT_PARSE_H

#include "common/base/base.h"

/* Do its marks, brackets, quotes and blocks end where they must?  Expressions are not looked into.  Returns 0, or -1 and
 * *error (EXIT_DATA) with the line. */
int chat_parses(const char *text, struct error *error);

#endif
