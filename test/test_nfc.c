/* test_nfc.c - one spelling for every character: known answers of Unicode Standard Annex 15, and those of the
 * package `tokenizers` 0.23 for every character, whatever version of Unicode the library has. */
#include "common/text/nfc.h"
#include "test/test.h"

static size_t put(char out[4], uint32_t c)
{
    if (c < 0x80) { out[0] = (char)c; return 1; }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

static struct bytes of(const uint32_t *c, int n)
{
    struct bytes b = {0};
    char one[4];
    for (int i = 0; i < n && c[i]; i++) bytes_add(&b, one, put(one, c[i]));
    return b;
}

/* The NFC of some characters is `want`, and the NFC of that is itself. */
static void check(const uint32_t *from, const uint32_t *want, int n)
{
    struct bytes a = of(from, n), b = of(want, n), c = {0}, d = {0};
    nfc(&c, false, a.data, a.size);
    nfc(&d, false, c.data, c.size);
    test_check(c.size == b.size && memcmp(c.data, b.data, b.size) == 0, __FILE__, __LINE__, "U+%04X U+%04X ... has another NFC",
               from[0], n > 1 ? from[1] : 0);
    test_check(d.size == c.size && memcmp(d.data, c.data, c.size) == 0, __FILE__, __LINE__, "U+%04X ...: the NFC changes again",
               from[0]);
    bytes_free(&a); bytes_free(&b); bytes_free(&c); bytes_free(&d);
}

/* Every character before a mark, between marks, and twice among letters of Hangul: what the package makes of all of it. */
static void check_all(bool compatible, uint32_t want)
{
    struct bytes in = {0}, out = {0};
    for (uint32_t c = 0x80; c < 0x30000; c++) {
        const uint32_t lines[] = {c, 0x334, 10, 0x345, c, 0x307, 10, 0x1100, c, c, 0x11A8, 10};
        struct bytes one = of(lines, 12);
        if (c < 0xD800 || c >= 0xE000) bytes_add(&in, one.data, one.size);
        bytes_free(&one);
    }
    nfc(&out, compatible, in.data, in.size);
    uint32_t crc = crc32_of(0, out.data, out.size);
    test_check(crc == want, __FILE__, __LINE__, "the %s of all characters has the CRC %08X, expected %08X",
               compatible ? "NFKC" : "NFC", crc, want);
    bytes_free(&in);
    bytes_free(&out);
}

int main(void)
{
    static const uint32_t known[][2][5] = {
        {{0x65, 0x301}, {0xE9}}, {{0x212B}, {0xC5}}, {{0x2126}, {0x3A9}}, {{0x958}, {0x915, 0x93C}},
        {{0x1E9B, 0x323}, {0x1E9B, 0x323}}, {{0x64, 0x307, 0x323}, {0x1E0D, 0x307}}, {{0x1E0B, 0x323}, {0x1E0D, 0x307}},
        {{0x1100, 0x1161, 0x11A8}, {0xAC01}}, {{0xAC00, 0x11A8}, {0xAC01}}, {{0xAC01, 0x11A8}, {0xAC01, 0x11A8}},
        {{0xAC00, 0x11A7}, {0xAC00, 0x11A7}},
        {{0x9C7, 0x9BE}, {0x9CB}}, {{0x1025, 0x102E}, {0x1026}}, {{0x41, 0x334, 0x301}, {0xC1, 0x334}},
        {{0x2F}, {0x2F}}, {{0x301, 0x61}, {0x301, 0x61}}, {{0xF900}, {0x8C48}}, {{0x1F82}, {0x1F82}},
        {{0x3B1, 0x313, 0x300, 0x345}, {0x1F82}}, {{0x1D15E}, {0x1D157, 0x1D165}}, {{0x61, 0x20, 0x301}, {0x61, 0x20, 0x301}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) check(known[i][0], known[i][1], 5);
    for (uint32_t i = 0; i < 11172; i++)
        check((uint32_t[]){0x1100 + i / 588, 0x1161 + i % 588 / 28, i % 28 ? 0x11A7 + i % 28 : 0}, (uint32_t[]){0xAC00 + i, 0, 0}, 3);
    /* NFKC: one look, several characters, one that composes with what stands before, Hangul from its old letters */
    static const char *const looks[][2] = {{"\xEF\xBC\xA1\xEF\xBC\x91", "A1"}, {"\xEF\xAC\x81", "fi"}, {"\xE2\x91\xA0", "1"},
        {"\xEF\xBD\xB6\xEF\xBE\x9E", "\xE3\x82\xAC"}, {"\xE1\xBA\x9B\xCC\xA3", "\xE1\xB9\xA9"}, {"\xE3\x80\x80x\xC2\xA0", " x "},
        {"\xE3\x84\xB1\xE3\x85\x8F", "\xEA\xB0\x80"}, {"\xF0\x9D\x94\x9E", "a"}, {"a\xFF\xEF\xAC\x81", "a\xFF" "fi"},
        {"\xE3\x8D\x8D", "\xE3\x83\xA1\xE3\x83\xBC\xE3\x83\x88\xE3\x83\xAB"}, {"plain", "plain"}};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        struct bytes k = {0};
        nfc(&k, true, looks[i][0], strlen(looks[i][0]));
        test_check(strcmp(k.data, looks[i][1]) == 0, __FILE__, __LINE__, "NFKC number %zu is {%s}", i, k.data);
        bytes_free(&k);
    }
    struct bytes broken = {0};
    nfc(&broken, false, "e\xCC\xCC\x81z\xFFo\xCC\x88\xF4\x90", 11);            /* pieces of characters stay where they are */
    CHECK(broken.size == 10 && memcmp(broken.data, "e\xCC\xCC\x81z\xFF\xC3\xB6\xF4\x90", 10) == 0);
    bytes_free(&broken);
    check_all(false, 0xA0B35C78);
    check_all(true, 0xFA070AFC);
    return test_end("test_nfc");
}
