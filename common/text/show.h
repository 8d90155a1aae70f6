/* show.h - a token sequence for a person's eyes, and as JSON. */
#ifndef QUARTET_SHOW_H
#define QUARTET_SHOW_H

#include "common/text/tokenizer.h"

#include <jansson.h>

/* Appends the tokens with "|" between them; trained ones (may be NULL: none) green when colour is true, in [brackets]
 * otherwise.  Control bytes and broken UTF-8 are written as \xNN. */
void show_tokens(struct bytes *out, const struct tokenizer *t, const int *id, const uint8_t *trained, size_t n,
                 bool colour);

/* Appends text as one line for a terminal, at most 1,500 bytes of it: a newline is shown as a blank. */
void show_line(struct bytes *out, const char *text, size_t length);

/* A text of any bytes as a JSON string; what is not UTF-8 becomes U+FFFD. */
json_t *json_text(const char *text, size_t length);

/* Appends a JSON value (taken over; reals with 7 digits), a text, or that of n tokens as JSON. */
void show_json_value(struct bytes *out, json_t *value);
void show_json_text(struct bytes *out, const char *text, size_t length);
void show_json(struct bytes *out, const struct tokenizer *t, const int *id, size_t n);

#endif
