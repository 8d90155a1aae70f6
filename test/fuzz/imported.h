/* imported.h - what must hold of every tokenizer that an import accepts. */
#ifndef QUARTET_IMPORTED_H
#define QUARTET_IMPORTED_H

#include "common/text/tokenizer_parts.h"

#include <stdlib.h>

/* Does its own pattern give up on this text?  Encoding would end the process. */
static bool gives_up(const struct tokenizer *t, const char *text, size_t size)
{
    const char *piece;
    size_t length;
    struct split split;
    split_open(&split, t->splitter);
    split_start(&split, text, size);
    while (split_next(&split, &piece, &length)) { }
    bool failed = split.failed;
    split_close(&split);
    return failed;
}

/* Section TOKN gives back the same tokenizer, and a text is encoded and decoded; frees it. */
static inline void imported(struct tokenizer *t, const uint8_t *text, size_t size)
{
    struct tokenizer *again = NULL;
    struct bytes b = {0}, c = {0}, decoded = {0};
    struct ids ids = {0}, same = {0};
    struct error error;
    tokenizer_write(&b, t);
    if (tokenizer_read(&again, b.data, b.size, &error) != 0) abort();
    tokenizer_write(&c, again);
    if (b.size != c.size || memcmp(b.data, c.data, b.size) != 0) abort();
    if (!gives_up(t, (const char *)text, size)) {
        tokenizer_encode(&ids, t, (const char *)text, size);
        tokenizer_encode(&same, again, (const char *)text, size);
        if (ids.count != same.count || (ids.count && memcmp(ids.id, same.id, ids.count * sizeof *ids.id) != 0)) abort();
        tokenizer_decode(&decoded, t, ids.id, ids.count);
    }
    json_t *root = tokenizer_json(t);
    free(json_dumps(root, JSON_INDENT(1)));
    json_decref(root);
    free(ids.id);
    free(same.id);
    bytes_free(&b);
    bytes_free(&c);
    bytes_free(&decoded);
    tokenizer_free(again);
    tokenizer_free(t);
}

#endif
