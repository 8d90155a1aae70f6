/* folder.h - a run folder's checkpoints as a list, for `ckpt ls` and checkpoint.h's run functions. */
#ifndef QUARTET_FOLDER_H
#define QUARTET_FOLDER_H

#include "format/reader.h"

/* step: what the header says, else the name; UINT64_MAX for a final.ckpt whose header is damaged. */
struct run_file { char *path; const char *name; uint64_t step; bool final, valid, keep; };
struct run_list { struct run_file *file; size_t count; };      /* falling step */

/* 0, or -1 (EXIT_NOINPUT).  Reads only headers. */
int folder_list(struct run_list *list, const char *folder, struct error *error);
void folder_list_free(struct run_list *list);

/* What `latest` names, to free(), or NULL. */
char *folder_hint(const char *folder);

#endif
