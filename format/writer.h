/* writer.h - saving, as `ckpt strip` needs it beyond checkpoint.h: sections that are copied unread, and saving outside
 * a run folder. */
#ifndef QUARTET_WRITER_H
#define QUARTET_WRITER_H

#include "format/layout.h"

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
