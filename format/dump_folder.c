/* dump_folder.c - `ckpt ls` and `ckpt latest`: what a run folder holds and which file resuming takes. */
#include "format/dump.h"

#include <dirent.h>
#include <stdlib.h>

/* Temporary files of saves that are under way or died. */
static void list_temporary(const char *folder, struct json *j)
{
    DIR *directory = opendir(folder);
    char shown[200];
    if (!directory) return;
    for (struct dirent *e; (e = readdir(directory));) {
        if (!strstr(e->d_name, ".tmp-")) continue;
        if (j) json_text(j, NULL, e->d_name);
        else
            printf("  %-24s temporary: a save under way, or one that died\n",
                   text_escape(shown, sizeof shown, e->d_name, strlen(e->d_name)));
    }
    closedir(directory);
}

struct row { const struct run_file *file; struct ckpt *c; bool hinted, chosen; const char *why; };

static void row_text(const struct row *r)
{
    char size[16], step[32], tokens[16];
    const char *metric = "";
    double value = 0;
    if (!r->c) {
        const char *reason = strstr(r->why, ": ");
        printf("  %-24s not valid: %s%s\n", r->file->name, reason ? reason + 2 : r->why, r->hinted ? "  (latest)" : "");
        return;
    }
    const struct header *h = &r->c->header;
    printf("%s %-24s %-8s step %10s  tokens %6s  %9s", r->chosen ? "*" : " ", r->file->name,
           stage_name((enum stage)h->stage), with_commas(step, h->step),
           text_count(tokens, (double)h->tokens_seen), text_bytes(size, (double)h->file_size));
    if (lineage_metric(&r->c->meta.eval, &metric, &value)) printf("  %s %g", metric, value);
    printf("%s\n", r->hinted ? "  (latest)" : "");
}

static void row_json(struct json *j, const struct row *r)
{
    const char *metric;
    double value;
    json_open(j, NULL, '{');
    json_text(j, "name", r->file->name);
    json_bool(j, "valid", r->c != NULL);
    json_bool(j, "resume", r->chosen);
    json_bool(j, "latest", r->hinted);
    if (r->c) {
        json_text(j, "stage", stage_name((enum stage)r->c->header.stage));
        json_u64(j, "step", r->c->header.step);
        json_u64(j, "tokens", r->c->header.tokens_seen);
        json_u64(j, "bytes", r->c->header.file_size);
        json_hex(j, "weights_id", r->c->header.weights_id, 16);
        if (lineage_metric(&r->c->meta.eval, &metric, &value)) {
            json_text(j, "metric", metric);
            json_f64(j, "value", value);
        }
    } else json_text(j, "problem", r->why);
    json_close(j, '}');
}

int dump_ls(struct dump *d)
{
    struct run_list list;
    struct error error;
    struct json j;
    int valid = 0;
    const char *folder = d->argument[0];
    if (folder_list(&list, folder, &error) != 0) return dump_error(&error);
    char *hint = folder_hint(folder);
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "folder", folder);
        json_open(&j, "files", '[');
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row r = {.file = &list.file[i], .why = error.text, .hinted = hint &&
                        strcmp(hint, list.file[i].name) == 0};
        if (reader_open_file(&r.c, r.file->path, NULL, &error) == 0 && d->deep && ckpt_verify(r.c, &error) != 0) {
            ckpt_close(r.c);
            r.c = NULL;
        }
        r.chosen = r.c && valid++ == 0;
        if (d->json) row_json(&j, &r);
        else row_text(&r);
        ckpt_close(r.c);
    }
    if (d->json) {
        json_close(&j, ']');
        json_open(&j, "temporary", '[');
        list_temporary(folder, &j);
        json_close(&j, ']');
        if (hint) json_text(&j, "latest", hint);
        json_end(&j);
    } else {
        list_temporary(folder, NULL);
        if (list.count == 0) printf("no checkpoints in %s\n", folder);
        else if (valid)
            printf("* is the newest valid one: resuming goes on from it%s\n", d->deep ? ""
                   : " (--deep reads the tensors too)");
        else printf("none of %zu is valid\n", list.count);
    }
    int code = list.count == 0 ? EXIT_NOINPUT : valid ? 0 : EXIT_DATA;
    free(hint);
    folder_list_free(&list);
    return code;
}

int dump_latest(struct dump *d)
{
    struct error error;
    struct json j;
    char *path;
    int found = run_newest(&path, d->argument[0], &error);
    if (found == 0) fail(&error, EXIT_NOINPUT, "%s: there is no checkpoint in this folder", d->argument[0]);
    if (found != 1) return dump_error(&error);
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", path);
        json_end(&j);
    } else printf("%s\n", path);
    free(path);
    return 0;
}
