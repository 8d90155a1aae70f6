/* folder.h - what a folder's checkpoints are, and saving beyond checkpoint.h, as `ckpt ls` and `ckpt strip` need it. */
#ifndef QUARTET_FOLDER_H
#define QUARTET_FOLDER_H

#include "format/reader.h"

/* step: what the header says, else the name; UINT64_MAX for a final.ckpt whose header is damaged. */
struct run_file { char *path; const char *name; uint64_t step; bool final, valid, keep; };
struct run_list { struct run_file *file; size_t count; };      /* falling step */

/* 0, or -1 (EXIT_NOINPUT).  Reads only headers. */
int folder_list(struct run_list *list, const char *folder, struct error *error);
void folder_list_free(struct run_list *list);

bool folder_is(const char *path);        /* a folder, not a file */

/* Opens a file as reader_open_file; whole: every tensor's CRC must be right too. */
int reader_open_valid(struct ckpt **out, const char *path, bool whole, struct error *error);

/* What `latest` names, to free(), or NULL. */
char *folder_hint(const char *folder);

/* ---- saving ---- */

struct foreign { struct section section; struct bytes data; };      /* an unknown section, as stored */

struct save {
    const char *folder, *name;
    struct ckpt_meta *meta;
    const struct ckpt_source *source;
    size_t count;
    const struct foreign *foreign;
    size_t foreigns;
    bool in_run;                         /* update the folder's `latest` */
};
/* As ckpt_save. */
int checkpoint_write(const struct save *save, struct error *error);

/* Removes what saves that died left in a folder: NAME.tmp-HEX that no process holds locked, for names that start with
 * `prefix`. */
void folder_sweep(const char *folder, const char *prefix);

#endif
