/* fuzz_gguf.c - libFuzzer target: any bytes as a GGUF file, up to the configuration, the tokenizer and the values. */
#define _GNU_SOURCE
#include "test/fuzz/facts.h"
#include "test/fuzz/in_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct error error = {0};
    json_t *facts;
    int file = in_memory(data, size);
    if (gguf_open(&s, &facts, in_memory_path, &error) == 0) {
        tokenizer_free(facts_read(&s, facts, false));
        error = (struct error){0};
        if (gguf_check_values(&s, &error) != 0 && !*error.text) abort();
        json_decref(facts);
        safetensors_close(&s);
    } else if (!*error.text || facts || s.count) abort();
    close(file);
    return 0;
}
