/* fuzz_config_json.c - libFuzzer target: any JSON object as a config.json.  What is accepted can be checked again. */
#include "common/interop/families.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct family *family;
    struct config c;
    struct error error = {0};
    json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json)) {
        if (family_config(&family, &c, json, &error) != 0) {
            if (!*error.text) abort();
        } else if (config_check(&c, &error) != 0) abort();
    }
    json_decref(json);
    return 0;
}
