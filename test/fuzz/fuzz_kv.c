/* fuzz_kv.c - libFuzzer target: any bytes as key-values.  What is accepted is canonical: it writes itself back to the
 * same bytes, and a copy does too. */
#include "format/kv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv kv = {0}, copy = {0};
    struct bytes out = {0};
    struct error error;
    if (kv_decode(&kv, data, size, &error) != 0) {
        if (error.exit_code != EXIT_DATA || kv.count) abort();
        return 0;
    }
    kv_copy(&copy, &kv);
    kv_encode(&out, &copy);
    if (out.size != size || memcmp(out.data, data, size) != 0) abort();
    for (size_t i = 0; i < kv.count; i++)
        if (kv_find(&kv, kv.entry[i].key) != &kv.entry[i]) abort();
    bytes_free(&out);
    kv_free(&kv);
    kv_free(&copy);
    return 0;
}
