/* facts.h - what a fuzzed file says about itself, up to its configuration and its tokenizer. */
#include "common/interop/gguf.h"
#include "common/text/tokenizer.h"

#include <stdlib.h>

/* The tokenizer, or NULL.  Whatever is refused must say why; complete: the file always has a configuration and a tokenizer. */
static struct tokenizer *facts_read(const struct safetensors *s, const json_t *facts, bool complete)
{
    struct error error = {0};
    const struct family *family;
    struct config c;
    struct tokenizer *t = NULL;
    const struct family *names = gguf_names(facts, s, &error);
    json_t *config = names ? gguf_config(facts, names, s, &error) : NULL;
    if ((!config && complete) || ((!config || family_config(&family, &c, config, &error) != 0) && !*error.text)) abort();
    error = (struct error){0};
    json_t *tokenizer = gguf_tokenizer(facts, &error);
    if (!tokenizer && (complete || !*error.text)) abort();
    if (tokenizer && tokenizer_import_json(&t, tokenizer, "fuzz", &error) != 0 && !*error.text) abort();
    json_decref(tokenizer);
    json_decref(config);
    return t;
}
