/* paths.h - which files the options name: files, folders and globs, each with its weight. */
#pragma once

#include "common/base/options.h"

/* Expands names, folders (every text file inside, recursively, sorted) and globs, in order.  Text files of a folder are
 * those that end in .txt, .jsonl, .jsonlines, .ndjson or .json, also with .gz or .zst behind, and any .gz or .zst.
 * Folders inside that are a run, a tokenizer or shards are skipped; left_out names them, the other files that were not
 * taken and links that lead nowhere, one sentence per line (empty: nothing was left out).
 * With `weights` an entry may end in "=WEIGHT": "books=2.5" (a file that really has such a name wins).
 * Returns 0, or -1: EXIT_NOINPUT naming what matches nothing, EXIT_USAGE for a weight that is not in (0, 1000]. */
struct paths { char **path; double *weight; uint64_t *size; int count; struct bytes left_out; };    /* size: bytes */
int paths_expand(struct paths *out, const struct option_list *list, bool weights, struct error *error);
void paths_free(struct paths *p);                                           /* leaves {0} */

/* Calls say(self, line) for each line of left_out; say may be NULL. */
void paths_tell(const struct paths *p, void (*say)(void *self, const char *line), void *self);

/* CRC-32 of the bytes of one file, or of all of them one after the other.  Returns 0, or -1 (EXIT_NOINPUT, EXIT_IO,
 * EXIT_STOPPED). */
int file_crc(uint32_t *crc, const char *path, struct error *error);
int paths_crc(uint32_t *crc, const struct paths *p, struct error *error);
