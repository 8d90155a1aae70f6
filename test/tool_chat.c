/* tool_chat.c - the ids of dialogues: `tool_chat MODEL` reads {"messages": [..], "prompt": bool}, one a line, and writes of each
 * [ids], or the reason why the model's chat template does not have it; the first line is the template's name. */
#include "common/interop/interop.h"
#include "common/text/chat.h"
#include "format/reader.h"

#include <stdlib.h>
#include <string.h>

static void put(const struct chat *c, json_t *row)
{
    struct dialogue d = {0};
    struct error error;
    struct ids ids = {0};
    bool prompt = json_is_true(json_object_get(row, "prompt"));
    const char *why = dialogue_from_json(&d, row, FORMAT_MESSAGES, &error) != 0 ? error.text : chat_fault(c, &d);
    if (!why) chat_render(c, &d, CHAT_TRAIN_ASSISTANT, prompt, &ids, NULL, NULL);
    json_t *out = why ? json_string(why) : json_array();
    for (size_t i = 0; i < ids.count; i++) json_array_append_new(out, json_integer(ids.id[i]));
    char *text = json_dumps(out, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(text);
    free(text);
    free(ids.id);
    json_decref(out);
    dialogue_free(&d);
}

int main(int argc, char **argv)
{
    struct ckpt *model;
    struct tokenizer *t;
    struct chat c;
    struct error error;
    char *line = NULL;
    size_t room = 0;
    if (argc != 2) quit(EXIT_USAGE, "usage: tool_chat MODEL");
    if (interop_open(&model, argv[1], NULL, &error) != 0) quit_error(&error);
    const struct ckpt_meta *m = ckpt_meta_of(model);
    if (m->tokn.size == 0) quit(EXIT_DATA, "%s: no tokenizer", argv[1]);
    if (tokenizer_read(&t, m->tokn.data, m->tokn.size, &error) != 0) quit_error(&error);
    if (chat_read(&c, &m->chat, t, &error) != 0) quit_error(&error);
    puts(chat_template_name(c.template));
    for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
        json_t *row = json_loadb(line, (size_t)n, 0, NULL);
        if (!row) quit(EXIT_DATA, "not JSON: %s", line);
        put(&c, row);
        json_decref(row);
    }
    free(line);
    tokenizer_free(t);
    ckpt_close(model);
    return 0;
}
