/* fuzz_index.c - libFuzzer target: any bytes as a tensor index, behind 16 bytes that give TDAT's length and the
 * alignment. What is accepted writes itself back to the same bytes, finds every tensor, and keeps all of them apart and
 * inside. */
#include "format/layout.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct index index;
    struct bytes out = {0};
    struct error error;
    uint32_t *chunks;
    struct stats *stats;
    if (size < 16) return 0;
    uint64_t tdat = load64(data), align = UINT64_C(64) << data[8] % 16, end = 0;
    data += 16;
    size -= 16;
    struct ckpt_tensor one = {.bytes = 1 + tdat % (1 << 30)};
    if (chunks_decode(&chunks, data, size, &(struct index){1, &one, NULL, NULL}, &error) == 0) free(chunks);
    if (index_decode(&index, data, size, tdat, align, &error) != 0) return 0;
    for (size_t i = 0; i < index.count; i++) {
        const struct ckpt_tensor *t = &index.tensor[i];
        if (index_find(&index, t->name, t->role) != (int64_t)i) abort();
        if (t->offset < end || t->offset + t->bytes > tdat) abort();
        end = t->offset + t->bytes;
    }
    if (stats_decode(&stats, data, size, &index, &error) == 0) free(stats);
    index_encode(&out, &index);
    if (out.size != size || memcmp(out.data, data, size) != 0) abort();
    if (index_sort(&index) != -1) abort();
    bytes_free(&out);
    index_free(&index);
    return 0;
}
