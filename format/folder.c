/* folder.c - a run folder's checkpoints: which one to go on from, which ones to keep.  What counts is what the files
 * say when read; the file `latest` is a hint for people and protects the file it names. */
#define _GNU_SOURCE
#include "format/reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* "step-NNNNNNNN.ckpt": the step, or false. */
static bool step_of_name(uint64_t *step, const char *name)
{
    if (strncmp(name, "step-", 5) != 0) return false;
    size_t digits = strspn(name + 5, "0123456789");
    if (digits < 1 || digits > 19 || strcmp(name + 5 + digits, ".ckpt") != 0) return false;
    *step = strtoull(name + 5, NULL, 10);
    return true;
}

/* Falling step; at equal steps final.ckpt first. */
static int newest_first(const void *a, const void *b)
{
    const struct run_file *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? 1 : -1;
    return y->final - x->final;
}

int folder_list(struct run_list *list, const char *folder, struct error *error)
{
    DIR *directory = opendir(folder);
    if (!directory) return fail(error, EXIT_NOINPUT, "%s: cannot be opened: %m", folder);
    *list = (struct run_list){0};
    for (struct dirent *d; (d = readdir(directory));) {
        struct run_file f = {.final = strcmp(d->d_name, "final.ckpt") == 0, .step = UINT64_MAX};
        if (!f.final && !step_of_name(&f.step, d->d_name)) continue;
        f.path = host_text("%s/%s", folder, d->d_name);
        f.name = f.path + strlen(folder) + 1;
        struct header h;
        if (reader_header(&h, f.path, NULL) == 0) {
            f.step = h.meta.step;
            f.final |= (h.meta.flags & CKPT_FINAL) != 0;
        }
        list->file = host_grow(list->file, list->count + 1, sizeof *list->file);
        list->file[list->count++] = f;
    }
    closedir(directory);
    if (list->count) qsort(list->file, list->count, sizeof *list->file, newest_first);
    return 0;
}

bool folder_is(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

void folder_list_free(struct run_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->file[i].path);
    free(list->file);
    *list = (struct run_list){0};
}

int reader_open_valid(struct ckpt **out, const char *path, bool whole, struct error *error)
{
    if (reader_open_file(out, path, NULL, error) != 0) return -1;
    if (!whole || ckpt_verify(*out, error) == 0) return 0;
    ckpt_close(*out);
    *out = NULL;
    return -1;
}

int run_newest(struct ckpt **out, const char *folder, bool whole, struct error *error)
{
    struct run_list list;
    struct bytes lines = {0}, reasons = {0};
    *out = NULL;
    if (folder_list(&list, folder, error) != 0) return -1;
    for (size_t i = 0; i < list.count && !*out; i++) {
        struct error why;
        if (reader_open_valid(out, list.file[i].path, whole, &why) == 0) break;
        bytes_text(&lines, "%s: skipped %s\n", program_name(), why.text);
        bytes_text(&reasons, "%s%s", reasons.size ? ";" : "", why.text);
    }
    if (*out && lines.size) fprintf(stderr, "%s%s: using %s instead\n", lines.data, program_name(), (*out)->path);
    if (list.count == 0)
        fail(error, EXIT_NOINPUT,
             "%s: there is no checkpoint in this folder (expected step-NNNNNNNN.ckpt or final.ckpt)", folder);
    else if (!*out)
        fail(error, EXIT_DATA, "%s: none of its checkpoints (%zu) is valid: %s", folder, list.count, reasons.data);
    int found = *out ? 1 : list.count ? -1 : 0;
    bytes_free(&lines);
    bytes_free(&reasons);
    folder_list_free(&list);
    return found;
}

char *folder_hint(const char *folder)
{
    struct bytes text = {0};
    char *path = host_text("%s/latest", folder), *name = NULL;
    if (file_read(&text, path, 4096, NULL) == 0 && text.size)
        name = host_text("%.*s", (int)strcspn(text.data, "\n"), text.data);
    bytes_free(&text);
    free(path);
    return name;
}

/* ---- retention ---- */

/* "anything.tmp-12ab", starting with prefix. */
static bool is_temporary(const char *name, const char *prefix)
{
    if (strncmp(name, prefix, strlen(prefix)) != 0) return false;
    const char *dot = strstr(name, ".tmp-");
    return dot && dot[5] && strspn(dot + 5, "0123456789abcdef") == strlen(dot + 5);
}

void folder_sweep(const char *folder, const char *prefix)
{
    DIR *directory = opendir(folder);
    if (!directory) return;
    for (struct dirent *d; (d = readdir(directory));) {
        if (!is_temporary(d->d_name, prefix)) continue;
        int fd = openat(dirfd(directory), d->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(directory), d->d_name, 0);     /* its writer is dead */
        close(fd);
    }
    closedir(directory);
}

static bool is_valid(const char *path, bool whole)
{
    struct ckpt *c;
    bool valid = reader_open_valid(&c, path, whole, NULL) == 0;
    ckpt_close(c);
    return valid;
}

/* Marks what stays; false when nothing may be deleted. */
static bool choose(struct run_list *list, int keep, uint64_t keep_every, const char *hinted)
{
    int kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct run_file *f = &list->file[i];
        f->valid = is_valid(f->path, false);
        f->keep = f->final || (hinted && strcmp(hinted, f->name) == 0) || (f->valid && keep_every &&
                                                                           f->step % keep_every == 0);
        if (f->valid && !f->final && kept < keep) {
            f->keep = true;
            kept++;
        }
    }
    /* One that stays must be whole to the last byte before any other goes; what is newer than it stays too. */
    for (size_t i = 0; i < list->count; i++) {
        if (list->file[i].keep && list->file[i].valid && is_valid(list->file[i].path, true)) return true;
        list->file[i].keep = true;
    }
    return false;
}

void run_retain(const char *folder, int keep, uint64_t keep_every)
{
    struct run_list list;
    folder_sweep(folder, "");
    if (folder_list(&list, folder, NULL) != 0) return;
    char *hinted = folder_hint(folder);
    bool needed = list.count > (size_t)int_max(keep, 1);
    if (needed && choose(&list, int_max(keep, 1), keep_every, hinted))
        for (size_t i = 0; i < list.count; i++)
            if (!list.file[i].keep) unlink(list.file[i].path);
    free(hinted);
    folder_list_free(&list);
}
