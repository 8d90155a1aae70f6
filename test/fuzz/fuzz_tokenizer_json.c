/* fuzz_tokenizer_json.c - libFuzzer target: any JSON as a tokenizer.json.  The last 100 bytes are the text too. */
#include "test/fuzz/imported.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    size_t n = size < 100 ? size : 100;
    json_t *root = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (root && tokenizer_import_json(&t, root, "fuzz", &error) == 0) imported(t, data + size - n, n);
    else if (root && !*error.text) abort();
    json_decref(root);
    return 0;
}
