/* nfc.h - Unicode's normalization forms C and KC: one spelling for every character that has several; KC has one also for
 * those that differ only in their look.   Source: Unicode Standard Annex 15. */
#ifndef QUARTET_NFC_H
#define QUARTET_NFC_H

#include "common/base/base.h"

/* Appends text in NFC, or compatible: in NFKC.  Bytes that are not valid UTF-8 are copied, and nothing joins across them. */
void nfc(struct bytes *out, bool compatible, const char *text, size_t length);

#endif
