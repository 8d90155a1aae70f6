/* fuzz_gguf.c - libFuzzer target: any bytes as a GGUF file, up to the configuration, the tokenizer and the values. */
#define _GNU_SOURCE
#include "common/interop/gguf.h"
#include "common/text/tokenizer.h"
#include "test/fuzz/in_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct safetensors *s, const json_t *facts)
{
    struct error error = {0};
    const struct family *family;
    struct config c;
    struct tokenizer *t = NULL;
    const struct family *names = gguf_names(facts, s, &error);
    json_t *config = names ? gguf_config(facts, names, s, &error) : NULL;
    if (config ? family_config(&family, &c, config, &error) != 0 : true)
        if (!*error.text) abort();
    error = (struct error){0};
    json_t *tokenizer = gguf_tokenizer(facts, &error);
    if (!tokenizer && !*error.text) abort();
    if (tokenizer && tokenizer_import_json(&t, tokenizer, "fuzz", &error) != 0 && !*error.text) abort();
    if (gguf_check_values(s, &error) != 0 && !*error.text) abort();
    tokenizer_free(t);
    json_decref(tokenizer);
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct error error = {0};
    json_t *facts;
    int file = in_memory(data, size);
    if (gguf_open(&s, &facts, in_memory_path, &error) == 0) {
        look(&s, facts);
        json_decref(facts);
        safetensors_close(&s);
    } else if (!*error.text || facts || s.count) abort();
    close(file);
    return 0;
}
