/* chat_jinja.h - our chat templates in the language of transformers. */
#ifndef QUARTET_CHAT_JINJA_H
#define QUARTET_CHAT_JINJA_H

#include "common/text/chat.h"

/* What apply_chat_template needs to write the text of chat_render: the same ids but where the tokenizer joins a blank
 * or a newline that begins a message with what stands before it. */
const char *chat_jinja(enum chat_template template);

/* chat_parse.c: is a text a Jinja template?  Templates of others are kept and given back, never run; one that no program
 * could run is better refused at once.  Marks, brackets, quotes and blocks must end where they should; expressions are not
 * looked into.  Returns 0, or -1 and *error (EXIT_DATA) with the line. */
int chat_parses(const char *text, struct error *error);

#endif
