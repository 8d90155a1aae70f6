/* tool_tokens.c - what a tokenizer makes of texts: `tool_tokens PATH` reads JSON strings, one a line, and writes of each its ids
 * and their decoding, [[ids], "text"]; `tool_tokens --json PATH` writes the tokenizer as a tokenizer.json. */
#include "common/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static void put(const struct tokenizer *t, const char *text, size_t length)
{
    struct ids ids = {0};
    struct bytes back = {0};
    tokenizer_encode(&ids, t, text, length);
    tokenizer_decode(&back, t, ids.id, ids.count);
    json_t *list = json_array(), *string = json_stringn_nocheck(back.data ? back.data : "", back.size);
    for (size_t i = 0; i < ids.count; i++) json_array_append_new(list, json_integer(ids.id[i]));
    json_t *line = json_pack("[o, o]", list, string);
    char *out = json_dumps(line, JSON_COMPACT);
    puts(out ? out : "null");
    free(out);
    json_decref(line);
    bytes_free(&back);
    free(ids.id);
}

int main(int argc, char **argv)
{
    bool json = argc == 3 && strcmp(argv[1], "--json") == 0;
    struct tokenizer *t;
    struct error error;
    char *line = NULL;
    size_t room = 0;
    if (argc != 2 && !json) quit(EXIT_USAGE, "usage: tool_tokens [--json] PATH");
    if (tokenizer_import(&t, argv[argc - 1], &error) != 0) quit_error(&error);
    if (json) {
        json_t *root = tokenizer_json(t);
        json_dumpf(root, stdout, JSON_INDENT(1));
        json_decref(root);
    }
    for (ssize_t n; !json && (n = getline(&line, &room, stdin)) > 0;) {
        json_t *text = json_loadb(line, (size_t)n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!json_is_string(text)) quit(EXIT_DATA, "not a JSON string: %s", line);
        put(t, json_string_value(text), json_string_length(text));
        json_decref(text);
    }
    free(line);
    tokenizer_free(t);
    return 0;
}
