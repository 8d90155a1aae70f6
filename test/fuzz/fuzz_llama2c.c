/* fuzz_llama2c.c - libFuzzer target: a model and a tokenizer of llama2.c.  The first four bytes are the model's size. */
#define _GNU_SOURCE
#include "format/layout.h"
#include "test/fuzz/facts.h"
#include "test/fuzz/imported.h"
#include "test/fuzz/in_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct error error = {0};
    json_t *facts;
    if (size < 4) return 0;
    size_t n = load32(data), text = size < 100 ? size : 100;
    if (n > size - 4) n = size - 4;
    int model = in_memory(data + 4, n);
    char *path = host_text("%s", in_memory_path);
    int tokenizer = in_memory(data + 4 + n, size - 4 - n);
    if (llama2c_open(&s, &facts, path, in_memory_path, &error) == 0) {
        struct tokenizer *t = facts_read(&s, facts, true);
        if (t) imported(t, data + size - text, text);
        json_decref(facts);
        safetensors_close(&s);
    } else if (!*error.text || facts || s.count || s.files) abort();
    close(model);
    close(tokenizer);
    free(path);
    return 0;
}
