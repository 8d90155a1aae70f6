/* foreign.h - files that hold no UTF-8 text, known by their first bytes. */
#ifndef QUARTET_FOREIGN_H
#define QUARTET_FOREIGN_H

#include "common/base/base.h"

/* 0 when the first n bytes of a file (unpacked, if it was gzip or zstd) may be those of UTF-8 text; -1 (EXIT_DATA) with
 * a sentence that names the format and the way out. */
int foreign_check(const char *path, const void *data, size_t n, struct error *error);

#endif
