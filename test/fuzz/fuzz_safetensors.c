/* fuzz_safetensors.c - libFuzzer target: any bytes as a .safetensors file.  The tensors that are accepted can be read. */
#define _GNU_SOURCE
#include "common/interop/safetensors.h"
#include "test/fuzz/in_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct error error = {0};
    int file = in_memory(data, size);
    if (safetensors_open(&s, in_memory_path, &error) != 0) {
        if (!*error.text || s.count || s.files) abort();
    } else {
        uint64_t all = 0;
        for (size_t i = 0; i < s.count; i++) {
            uint8_t *bytes = host_alloc((size_t)s.tensor[i].bytes + 1, 1);
            if (safetensors_find(&s, s.tensor[i].name) != &s.tensor[i]) abort();
            if (safetensors_read(&s, &s.tensor[i], bytes, 0, (size_t)s.tensor[i].bytes, &error) != 0) abort();
            all += s.tensor[i].bytes;
            free(bytes);
        }
        if (all > size) abort();
        safetensors_close(&s);
    }
    close(file);
    return 0;
}
