/* dump_folder.c - `ckpt ls` and `ckpt latest`: what a run folder holds and which file a run resumes from. */
#include "format/ckpt/dump.h"

#include <dirent.h>
#include <stdlib.h>

/* Temporary files of saves that are under way or died. */
static json_t *temporary_files(const char *folder)
{
    DIR *directory = opendir(folder);
    json_t *list = json_array();
    for (struct dirent *e; directory && (e = readdir(directory));)
        if (strstr(e->d_name, ".tmp-")) fact(list, NULL, fact_text(e->d_name));
    if (directory) closedir(directory);
    return list;
}

/* c: NULL when the file is not valid; why then says why. */
static json_t *file_row(const struct run_file *file, const struct ckpt *c, bool resume, bool latest, const char *why)
{
    const char *metric, *reason = strstr(why, ": ");
    double value;
    json_t *row = json_pack("{s:o, s:b, s:b, s:b}", "name", fact_text(file->name), "valid", c != NULL, "resume", resume,
                            "latest", latest);
    if (!c) {
        fact(row, "problem", fact_text(reason ? reason + 2 : why));
        return row;
    }
    const struct ckpt_meta *m = &c->header.meta;
    fact_members(row, json_pack("{s:s, s:o, s:o, s:o, s:o}", "stage", stage_name((enum stage)m->stage), "step",
                                fact_u64(m->step), "tokens", fact_u64(m->tokens_seen), "bytes",
                                fact_u64(c->header.file_size), "weights_id", fact_hex(m->weights_id, 16)));
    if (!lineage_metric(&m->eval, &metric, &value)) return row;
    fact(row, "metric", fact_text(metric));
    fact(row, "value", fact_f64(value));
    return row;
}

int dump_ls(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct run_list list;
    struct error error;
    bool valid = false;
    const char *folder = d->argument[0];
    if (folder_list(&list, folder, &error) != 0) quit_error(&error);
    char *latest = folder_hint(folder);
    json_t *rows = json_array();
    for (size_t i = 0; i < list.count; i++) {
        const struct run_file *file = &list.file[i];
        error.text[0] = 0;
        reader_open_valid(&c, file->path, d->deep, &error);
        fact(rows, NULL, file_row(file, c, c && !valid, latest && strcmp(latest, file->name) == 0, error.text));
        valid |= c != NULL;
        ckpt_close(c);
    }
    fact(facts, "folder", fact_text(folder));
    fact(facts, "files", rows);
    fact(facts, "temporary", temporary_files(folder));
    if (latest) fact(facts, "latest", fact_text(latest));
    if (!valid) d->note = host_text(list.count ? "no checkpoint in %s is valid" : "no checkpoints in %s", folder);
    int code = list.count == 0 ? EXIT_NOINPUT : valid ? 0 : EXIT_DATA;
    free(latest);
    folder_list_free(&list);
    return code;
}

int dump_latest(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    if (run_newest(&c, d->argument[0], true, &error) != 1) quit_error(&error);
    d->note = host_text("%s", c->path);
    fact(facts, "file", fact_text(c->path));
    ckpt_close(c);
    return 0;
}
