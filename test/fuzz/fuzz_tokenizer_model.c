/* fuzz_tokenizer_model.c - libFuzzer target: any bytes as SentencePiece's tokenizer.model.  The last 100 are the text too. */
#include "test/fuzz/imported.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    size_t n = size < 100 ? size : 100;
    json_t *root = NULL;
    if (tokenizer_model_parse(&root, data, size, &error) == 0 && tokenizer_import_json(&t, root, "fuzz", &error) == 0)
        imported(t, data + size - n, n);
    else if (!*error.text) abort();
    json_decref(root);
    return 0;
}
