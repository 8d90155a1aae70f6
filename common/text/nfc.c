/* nfc.c - the library utf8proc normalises.  Text is cut before every character that nothing before it can change, and only
 * pieces that may change go to the library: a long text needs no memory but its own.
 *
 * The package `tokenizers` 0.23 leaves the newest characters as they are.  So does this file, whatever version of Unicode
 * the library has: ids are the same there and on every machine. */
#include "common/text/nfc.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Spelled or ordered differently by Unicode 9.0 (look: 12.0) and later versions up to 18.0; in between are characters
 * that no version changes.  And U+11A7, a letter that the library loses behind a syllable of Hangul. */
static const struct { int32_t first, last; } apart[] = {
    {0x558, 0x558}, {0x58B, 0x58C}, {0x5C8, 0x5C9}, {0x7FD, 0x7FD}, {0x897, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C},
    {0xD3B, 0xD3C}, {0xEBA, 0xEBA}, {0x11A7, 0x11A7}, {0x1715, 0x1715}, {0x1ABF, 0x1AF0}, {0x1DF6, 0x1DFA},
    {0x209D, 0x209F}, {0x32FF, 0x32FF}, {0xA7F1, 0xA7F4}, {0xA82C, 0xA82C}, {0xAB69, 0xAB69}, {0x105C9, 0x107BF},
    {0x10D24, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11383, 0x11383}, {0x11385, 0x11385},
    {0x1138E, 0x1138E}, {0x11391, 0x113D0}, {0x1145E, 0x1145E}, {0x11839, 0x11930}, {0x11938, 0x11A99},
    {0x11D42, 0x11F42}, {0x1611E, 0x1612F}, {0x16D67, 0x16FF1}, {0x1B123, 0x1B126}, {0x1CCD6, 0x1D128},
    {0x1D250, 0x1D281}, {0x1D6A6, 0x1D6A6}, {0x1DF95, 0x1DFFF}, {0x1E030, 0x1E6F5}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9}};

static bool is_apart(int32_t c)
{
    for (size_t low = 0, high = sizeof apart / sizeof *apart; low < high;) {
        size_t middle = (low + high) / 2;
        if (c < apart[middle].first) high = middle;
        else if (c > apart[middle].last) low = middle + 1;
        else return true;
    }
    return false;
}

/* Letters in NFC that join nothing: Latin, Greek and Cyrillic, kana, Chinese characters, syllables of Hangul. */
static bool is_plain(int32_t c)
{
    return c < 0x300 || (c >= 0x388 && c < 0x483) || (c >= 0x1E00 && c < 0x1F00) || (c >= 0x3041 && c < 0x3099) ||
           (c >= 0x309B && c < 0x3100) || (c >= 0x3400 && c < 0xA000) || (c >= 0xAC00 && c < 0xD7A4);
}

/* What a character does: nothing; it may become another; it may join what stands before it too; or it is no part of any
 * piece. */
enum effect { STAYS, CHANGES, JOINS, APART };

static enum effect effect_of(int32_t c, bool compatible)
{
    if (compatible ? c < 0xA0 : is_plain(c)) return STAYS;
    if (is_apart(c)) return APART;
    const utf8proc_property_t *p = utf8proc_get_property(c);
    bool mark = p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC || p->combining_class;
    bool letter = c >= 0x1160 && c < 0x1200;                                    /* of a syllable of Hangul */
    bool look = (c >= 0x3131 && c <= 0x318E) || (c >= 0xFF9E && c <= 0xFFDC);          /* as those */
    if (mark || letter || (compatible && look)) return JOINS;
    return p->decomp_seqindex != UINT16_MAX && (compatible || p->decomp_type == 0) ? CHANGES : STAYS;
}

/* The character that begins a text, and its bytes; -1, and 1, when they are none. */
static int32_t take(size_t *n, const char *text, size_t length)
{
    int32_t c = (uint8_t)*text;
    utf8proc_ssize_t read = c < 0x80 ? 1 : utf8proc_iterate((const uint8_t *)text, (utf8proc_ssize_t)length, &c);
    *n = read > 0 ? (size_t)read : 1;
    return read > 0 ? c : -1;
}

struct buffer { int32_t *c; utf8proc_ssize_t room; };

static void normalise(struct bytes *out, struct buffer *b, bool compatible, const char *text, size_t length)
{
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t n;
    while ((n = utf8proc_decompose((const uint8_t *)text, (utf8proc_ssize_t)length, b->c, b->room, how)) >= b->room)
        b->c = host_grow(b->c, (size_t)(b->room = n + 32), sizeof *b->c);
    if (n >= 0) n = utf8proc_reencode(b->c, n, how);
    if (n < 0) die("text cannot be normalised: %s", utf8proc_errmsg(n));
    bytes_add(out, (const char *)b->c, (size_t)n);
}

void nfc(struct bytes *out, bool compatible, const char *text, size_t length)
{
    struct buffer b = {0};
    size_t from = 0, start = 0;                 /* [from, start): to be copied; the piece begins at start */
    bool changes = false;                       /* the piece may */
    for (size_t i = 0, n = 1; i <= length; i += n) {
        int32_t c = i < length ? take(&n, text + i, length - i) : -1;
        enum effect effect = c < 0 ? APART : effect_of(c, compatible);
        if (effect != JOINS) {                  /* a border */
            if (changes) {
                bytes_add(out, text + from, start - from);
                normalise(out, &b, compatible, text + start, i - start);
                from = i;
            }
            start = effect == APART ? i + n : i;
        }
        changes = effect == CHANGES || effect == JOINS;
    }
    bytes_add(out, text + from, length - from);
    free(b.c);
}
