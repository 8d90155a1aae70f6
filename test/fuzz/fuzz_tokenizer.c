/* fuzz_tokenizer.c - libFuzzer target: any bytes as section TOKN; what is accepted must encode, decode and write itself
 * back to the same bytes.  The last 100 bytes are the text too. */
#include "common/text/nfc.h"
#include "test/fuzz/imported.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t;
    struct error error;
    if (tokenizer_read(&t, data, size, &error)) return 0;
    struct bytes b = {0}, text = {0};
    tokenizer_write(&b, t);
    if (b.size != size || memcmp(b.data, data, size) != 0) abort();
    struct ids ids = {0};
    size_t n = size < 100 ? size : 100;
    if (gives_up(t, (const char *)data + size - n, n)) n = 0;
    tokenizer_encode(&ids, t, (const char *)data + size - n, n);
    tokenizer_decode(&text, t, ids.id, ids.count);
    bool finds = t->finder[0].count + t->finder[1].count > 0;       /* then a text may come back with blanks or marks moved */
    bool exact = !finds && !(t->flags & ~(unsigned)TOKENIZER_FLAGS_BYTES) && !t->score;
    struct bytes want = {0};
    if (t->flags & (TOKENIZER_NFC | TOKENIZER_NFKC)) nfc(&want, t->flags & TOKENIZER_NFKC, (const char *)data + size - n, n);
    else bytes_add(&want, data + size - n, n);
    if (exact && (text.size != want.size || memcmp(text.data, want.data, want.size) != 0)) abort();
    bytes_free(&want);
    free(ids.id);
    bytes_free(&b);
    bytes_free(&text);
    tokenizer_free(t);
    return 0;
}
