/* tokenizer_unicode.c - most texts have no such character, which the first byte of nearly all characters tells. */
#include "common/text/tokenizer_unicode.h"

#include <string.h>
#include <utf8proc.h>

/* Characters of Unicode 9 and older with two, three and four bytes; "" where the table has none of that length.  Those for
 * punctuation are not in Unicode 8, for one splitter asks for that (tokenizer_settings.c). */
static const char *const stand_in[CLASSES][3] = {
    [CLASS_LU] = {"", "\xE1\xB8\x80", "\xF0\x90\x90\x80"}, [CLASS_LL] = {"", "\xE1\xB8\x81", "\xF0\x90\x90\xA8"},
    [CLASS_LM] = {"", "\xE1\xB4\xAC", "\xF0\x96\xAD\x80"}, [CLASS_LO] = {"", "\xEA\x80\x80", "\xF0\x90\x8A\x80"},
    [CLASS_HAN] = {"", "\xE4\xB8\x80", "\xF0\xA0\x80\x80"}, [CLASS_MN] = {"", "\xE1\xB7\x80", "\xF0\x9D\x85\xA7"},
    [CLASS_MC] = {"", "\xE0\xA4\x83", "\xF0\x9D\x85\xA5"}, [CLASS_ND] = {"", "\xE0\xA5\xA6", "\xF0\x9D\x9F\x8E"},
    [CLASS_NO] = {"", "\xE2\x91\xA0", "\xF0\x90\x84\x87"}, [CLASS_PO] = {"\xC2\xA7", "\xE2\xB9\x83", "\xF0\x91\x99\xA0"},
    [CLASS_PD] = {"", "\xE2\xB9\x83", "\xF0\x91\x99\xA0"}, [CLASS_PS] = {"", "\xE2\xB9\x83", ""},
    [CLASS_PE] = {"", "\xE2\xB9\x83", ""}, [CLASS_SK] = {"", "\xE1\xBE\xBD", ""},
    [CLASS_SO] = {"", "\xE2\x8C\x80", "\xF0\x90\x84\xB7"}, [CLASS_SM] = {"", "\xE2\x88\x80", "\xF0\x9D\x9B\x81"},
    [CLASS_SC] = {"", "\xE2\x82\xA0", ""}, [CLASS_CF] = {"\xC2\xAD", "\xE2\x80\x8B", "\xF3\xA0\x80\x81"},
};

static const char *find(const char *text, int n)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t c = p[0] & (n == 2 ? 0x1F : n == 3 ? 0x0F : 0x07);
    for (int i = 1; i < n; i++) c = c << 6 | (p[i] & 0x3F);
    for (int low = 0, high = unicode_newers; low < high;) {
        int middle = (low + high) / 2;
        if (c < unicode_newer[middle].first) high = middle;
        else if (c > unicode_newer[middle].last) low = middle + 1;
        else return stand_in[unicode_newer[middle].class][n - 2];
    }
    return NULL;
}

const char *unicode_shown(struct bytes *copy, const char *text, size_t length)
{
    copy->size = 0;
    for (size_t i = 0; i < length;) {
        unsigned char b = (unsigned char)text[i];
        bool chinese = b >= 0xE5 && b < 0xE9;                 /* U+5000 to U+8FFF are old */
        int n = b < 0xD5 || chinese ? 0 : utf8_length(text + i, length - i);
        const char *other = n > 1 ? find(text + i, n) : NULL;
        if (other && copy->size == 0) bytes_add(copy, text, length);
        if (other) memcpy(copy->data + i, other, (size_t)n);
        i += n > 1 ? (size_t)n : 1;
    }
    return copy->size ? copy->data : text;
}

/* The character, and its category in Unicode 16.0. */
static utf8proc_category_t category_of(int32_t *c, const char *text, size_t n)
{
    int32_t old;
    const char *other = n > 1 ? find(text, (int)n) : NULL;
    utf8proc_iterate((const uint8_t *)text, (utf8proc_ssize_t)n, c);
    old = *c;
    if (other) utf8proc_iterate((const uint8_t *)other, (utf8proc_ssize_t)n, &old);
    return utf8proc_category(old);
}

bool unicode_is_space(const char *text, size_t n)
{
    int32_t c;
    utf8proc_category_t k = category_of(&c, text, n);
    return (c >= '\t' && c <= '\r') || c == 0x85 || (k >= UTF8PROC_CATEGORY_ZS && k <= UTF8PROC_CATEGORY_ZP);
}

bool unicode_is_word(const char *text, size_t n)
{
    int32_t c;
    utf8proc_category_t k = category_of(&c, text, n);
    bool letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
                  (c >= 0x1F170 && c <= 0x1F189);               /* in circles and squares */
    return letter || c == 0x200C || c == 0x200D || k == UTF8PROC_CATEGORY_PC ||
           (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL);
}
