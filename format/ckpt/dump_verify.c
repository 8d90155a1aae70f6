/* dump_verify.c - `ckpt verify`: every check of SPEC.md, and with --deep what the values must satisfy, past the first
 * problem: whoever has a damaged file wants to know how much is damaged.  `ckpt ls` and `ckpt latest`: which files of a
 * run folder are valid, and which one a run resumes from. */
#include "format/ckpt/dump.h"

#include "common/interop/interop.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>

__attribute__((format(printf, 3, 4)))
static void report(struct problems *problems, const struct scan *scan, const char *format, ...)
{
    const struct ckpt_tensor *t = &scan->c->index.tensor[scan->tensor];
    struct error error;
    char text[500];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fail(&error, EXIT_DATA, "%s: tensor %s (%s): %s", scan->c->path, t->name, role_name(t->role), text);
    problems_add(problems, &error);
}

/* Finite; statistics as stored; second moments not negative; optimizer tensors shaped as their weights (C6). */
static void judge(struct problems *to, const struct scan *scan)
{
    const struct ckpt *c = scan->c;
    const struct ckpt_tensor *t = &c->index.tensor[scan->tensor];
    const struct stats s = scan->stats, said = c->stats ? c->stats[scan->tensor] : s;
    if (s.nan || s.inf) report(to, scan, "%" PRIu64 " NaN and %" PRIu64 " infinite values [V1]", s.nan, s.inf);
    if (t->role == ROLE_ADAM_V && s.min < 0)
        report(to, scan, "a second moment is %g (expected at least 0) [V2]", s.min);
    if (said.min != s.min || said.max != s.max || said.nan != s.nan || said.inf != s.inf || said.zero != s.zero)
        report(to, scan, "smallest value, largest value or counts are not those of STAT (%g to %g) [V3]", s.min, s.max);
    if (!role_is_training_state(t->role)) return;
    int64_t weight = index_find(&c->index, t->name, ROLE_WEIGHT);
    if (weight < 0) weight = index_find(&c->index, t->name, ROLE_HEAD);
    const struct ckpt_tensor *w = weight < 0 ? NULL : &c->index.tensor[weight];
    if (!w) report(to, scan, "there is no weight of this name [C6]");
    else if (w->ndim != t->ndim || memcmp(w->shape, t->shape, sizeof w->shape) != 0)
        report(to, scan, "its shape is not that of its weight (%" PRIu64 " and %" PRIu64 " values) [C6]",
               tensor_elements(t), tensor_elements(w));
}

static void look_deep(const struct ckpt *c, struct problems *problems)
{
    struct scan *scan = host_alloc(c->index.count, sizeof *scan);
    for (size_t i = 0; i < c->index.count; i++) scan[i] = (struct scan){.c = c, .tensor = i};
    scan_all(scan, c->index.count);
    for (size_t i = 0; i < c->index.count; i++)
        if (scan[i].status == 0) judge(problems, &scan[i]);
    free(scan);
}

/* A file's line, or one line per problem.  whole: a model of another system that is not one here, in sound files. */
static void print_file(const char *path, const struct problems *p, bool whole, uint64_t bytes, size_t tensors,
                       double seconds)
{
    char size[16], *prefix = host_text("%s: ", path);
    if (p->count == 0)
        printf("%sok (%zu tensor%s, %s, %.2f GB/s)\n", prefix, tensors, plural((int64_t)tensors),
               text_bytes(size, (double)bytes), (double)bytes / 1e9 / (seconds + 1e-9));
    for (int i = 0; i < p->kept; i++) {
        bool named = strncmp(p->text[i], prefix, strlen(prefix)) == 0;
        printf("%s%s\n", named ? "" : prefix, p->text[i]);
    }
    if (whole)
        printf("%snot a model that can be imported (65); its files are sound (%zu tensor%s, %s)\n", prefix, tensors,
               plural((int64_t)tensors), text_bytes(size, (double)bytes));
    else if (p->count)
        printf("%s%s, %" PRIu64 " problem%s\n", prefix, p->exit_code == EXIT_DATA ? "corrupt (65)" : "not verified",
               p->count, plural((int64_t)p->count));
    free(prefix);
}

/* Adds the file to rows, and prints it at once where the output is text: large files take their time. */
static int verify_file(struct dump *d, json_t *rows, const char *path)
{
    struct problems problems = {0};
    struct error error;
    struct ckpt *c;
    uint64_t bytes = 0;
    size_t tensors = 0;
    double start = seconds_now();
    int status = !dump_is_foreign(path) ? reader_open_file(&c, path, &problems, &error)
               : interop_is(path) ? interop_open(&c, path, NULL, &error) : interop_open_raw(&c, path, &error);
    bool whole = false;
    if (status != 0) problems_add(&problems, &error);
    if (status != 0 && interop_is(path) && interop_open_raw(&c, path, &error) == 0) {
        status = 0;
        whole = true;
    }
    if (status == 0) {
        bytes = c->header.file_size;
        tensors = c->index.count;
        if (!d->quick && tensors) reader_verify(c, &problems, &error);
        if (d->deep && tensors) look_deep(c, &problems);
        ckpt_close(c);
    }
    whole = whole && problems.count == 1;
    json_t *row = json_pack("{s:o, s:o, s:o, s:o}", "file", fact_text(path), "bytes", fact_u64(bytes), "tensors",
                            fact_u64(tensors), "problem_count", fact_u64(problems.count));
    fact_problems(row, &problems);
    if (whole) json_object_set_new(row, "result", json_string("not importable"));
    fact(rows, NULL, row);
    if (!d->json) print_file(path, &problems, whole, bytes, tensors, seconds_now() - start);
    int code = problems.exit_code;
    problems_free(&problems);
    return code;
}

static int verify_path(struct dump *d, json_t *rows, const char *path)
{
    struct run_list list = {0};
    struct error error;
    if (!folder_is(path) || dump_is_foreign(path)) return verify_file(d, rows, path);
    int worst = folder_list(&list, path, &error) == 0 ? 0 : error.exit_code;
    if (worst == 0 && list.count == 0) {
        fail(&error, EXIT_NOINPUT, "%s: there is no checkpoint in this folder", path);
        worst = error.exit_code;
    }
    if (worst) fprintf(stderr, "%s: %s\n", program_name(), error.text);
    for (size_t i = 0; i < list.count; i++) worst = int_max(worst, verify_file(d, rows, list.file[i].path));
    folder_list_free(&list);
    return worst;
}

int dump_verify(struct dump *d, struct ckpt *c, json_t *facts)
{
    json_t *rows = json_array();
    int worst = 0;
    (void)c;
    if (d->quick && d->deep) quit(EXIT_USAGE, "verify: --quick and --deep exclude each other");
    for (int i = 0; i < d->arguments; i++) worst = int_max(worst, verify_path(d, rows, d->argument[i]));
    fact(facts, "files", rows);
    return worst;
}

/* ---- ls and latest ---- */

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
