/* show.c - each token is escaped on its own, so that what looks like one token is one; a character that is split
 * between tokens shows as the bytes it is. */
#include "common/text/show.h"

#include <stdlib.h>

void show_tokens(struct bytes *out, const struct tokenizer *t, const int *id, const uint8_t *trained, size_t n,
                 bool colour)
{
    const char *open = colour ? "\033[32m" : "[", *close = colour ? "\033[0m" : "]";
    for (size_t i = 0; i < n; i++) {
        char text[400];
        size_t length;
        bool on = trained && trained[i], plain_before = i > 0 && !(trained && trained[i - 1]);
        const char *data = tokenizer_bytes(t, id[i], &length);
        if (i > 0 && (colour || (!on && plain_before))) bytes_text(out, "|");
        text_escape(text, sizeof text, data, length);
        bytes_text(out, "%s%s%s", on ? open : "", text, on ? close : "");
    }
    bytes_text(out, "\n");
}

void show_line(struct bytes *out, const char *text, size_t length)
{
    char shown[1500];
    struct bytes line = {0};
    bytes_add(&line, text, length);
    for (size_t i = 0; i < length; i++)
        if (line.data[i] == '\n') line.data[i] = ' ';
    bytes_text(out, "%s", text_escape(shown, sizeof shown, line.data, length));
    bytes_free(&line);
}

json_t *json_text(const char *text, size_t length)
{
    struct bytes clean = {0};
    for (size_t at = 0; at < length;) {
        size_t valid = utf8_prefix(text + at, length - at);
        bytes_add(&clean, text + at, valid);
        at += valid;
        if (at < length) bytes_add(&clean, "\xEF\xBF\xBD", 3), at++;      /* U+FFFD */
    }
    json_t *string = json_stringn(clean.size ? clean.data : "", clean.size);
    bytes_free(&clean);
    return string;
}

void show_json_value(struct bytes *out, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    if (!text) die("a value cannot be written as JSON");
    bytes_text(out, "%s", text);
    free(text);
    json_decref(value);
}

void show_json_text(struct bytes *out, const char *text, size_t length)
{
    show_json_value(out, json_text(text, length));
}

void show_json(struct bytes *out, const struct tokenizer *t, const int *id, size_t n)
{
    struct bytes text = {0};
    struct utf8_held held = {0};
    tokenizer_stream(&text, &held, t, id, n);
    tokenizer_stream(&text, &held, t, NULL, 0);
    show_json_text(out, text.data, text.size);
    bytes_free(&text);
}
