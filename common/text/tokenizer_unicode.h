/* tokenizer_unicode.h - the same classes of characters under every version of PCRE2.
 *
 * A splitting pattern asks whether a character is a letter, a digit, a blank; what the library answers for the newest
 * ones depends on its age.  So it is shown a stand-in for each of them: an old character of the same class (as Unicode
 * 16.0 has it) and of as many bytes. */
#ifndef QUARTET_TOKENIZER_UNICODE_H
#define QUARTET_TOKENIZER_UNICODE_H

#include "common/base/base.h"

/* Classes with a stand-in; CF also stands for what is not assigned. */
enum unicode_class { CLASS_LU, CLASS_LL, CLASS_LM, CLASS_LO, CLASS_HAN, CLASS_MN, CLASS_MC, CLASS_ND, CLASS_NO, CLASS_PO,
                     CLASS_PD, CLASS_PS, CLASS_PE, CLASS_SK, CLASS_SO, CLASS_SM, CLASS_SC, CLASS_CF, CLASSES };
struct unicode_newer { uint32_t first, last; uint8_t class; };
extern const struct unicode_newer unicode_newer[];          /* in rising order */
extern const int unicode_newers;

/* The text as the library is shown it: itself, or a copy of the same length in *copy (emptied first). */
const char *unicode_shown(struct bytes *copy, const char *text, size_t length);

/* Of one valid character of n bytes: is it white space; part of a word, as \w of the package `tokenizers` has it? */
bool unicode_is_space(const char *text, size_t n);
bool unicode_is_word(const char *text, size_t n);

#endif
