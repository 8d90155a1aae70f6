/* small_tokenizer.h - a tokenizer for fuzz targets, trained on a few words. */
#include "common/text/tokenizer.h"

#include <string.h>

static bool once(void *self, const char **text, size_t *length)
{
    bool *done = self;
    if (*done) return false;
    *done = true;
    *text = "the the user user ### ### ";
    *length = strlen(*text);
    return true;
}

static struct tokenizer *small_tokenizer(void)
{
    struct tokenizer *t;
    struct tokenizer_training how = {.vocab = 264, .pattern = PATTERN_GPT2};
    struct error error;
    bool done = false;
    if (tokenizer_train(&t, once, &done, &how, &error)) die("%s", error.text);
    return t;
}
