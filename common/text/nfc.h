/* nfc.h - Unicode's normalization forms C and KC: one spelling for every character that has several; KC has one also for
 * those that differ only in their look.
 * Source: Unicode Standard Annex 15; the tables are of the version that nfc_table.c names. */
#ifndef QUARTET_NFC_H
#define QUARTET_NFC_H

#include "common/base/base.h"

/* Appends text in NFC.  Bytes that are not valid UTF-8 are copied, and nothing joins across them. */
void nfc(struct bytes *out, const char *text, size_t length);

/* The same in NFKC. */
void nfkc(struct bytes *out, const char *text, size_t length);

/* True when the text is in NFC as far as a glance tells: no character from U+0300 up. */
bool nfc_plain(const char *text, size_t length);

/* ---- the tables ---- */

struct nfc_mark { uint32_t first, last; uint8_t class; };
struct nfc_part { uint32_t c, first, second; };
extern const struct nfc_mark nfc_mark[];
extern const struct nfc_part nfc_part[];
extern const uint16_t nfc_join[];
extern const int nfc_marks, nfc_parts, nfc_joins;
/* Characters [first, last] and what each becomes: n characters from nfkc_text[to] on; with n 0 the first is `to`, the next
 * to + 1, ... */
struct nfkc_look { uint32_t first, last, to; uint8_t n; };
extern const struct nfkc_look nfkc_look[];
extern const uint32_t nfkc_text[];
extern const int nfkc_looks;

#endif
