/* chat_jinja.h - our chat templates in the language of transformers. */
#ifndef QUARTET_CHAT_JINJA_H
#define QUARTET_CHAT_JINJA_H

#include "common/text/chat.h"

/* What apply_chat_template needs to write the text of chat_render: the same ids but where the tokenizer joins a blank
 * or a newline that begins a message with what stands before it. */
const char *chat_jinja(enum chat_template template);

#endif
