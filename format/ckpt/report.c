/* report.c - `ckpt report`: finds the runs and their ancestors, reads them, writes the page, and with --watch writes it
 * again. */
#define _GNU_SOURCE
#include "format/ckpt/report.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MOST = 1 << 19, WATCH_SECONDS = 5 };

#define RUN_MISSING "%s: there is no run here (expected a folder with metrics.jsonl)"

/* ---- files ---- */

/* A plain file, or -1: neither a pipe nor a device may hold a report up. */
static int open_plain(const char *folder, const char *name, off_t *size)
{
    char *path = host_text("%s/%s", folder, name);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    free(path);
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) { close(fd); return -1; }
    if (fd >= 0) *size = st.st_size;
    return fd;
}

/* The file, or of a long one its end (with `both`: its start too); "" when there is none.  To free(). */
static char *read_text(const char *folder, const char *name, bool both)
{
    off_t size = 0;
    int fd = open_plain(folder, name, &size);
    char *text = host_alloc(TEXT_MOST + 1, 1);
    size_t head = size > TEXT_MOST && both ? TEXT_MOST / 2 : 0;
    if (fd < 0) return text;
    ssize_t got = head ? pread(fd, text, head, 0) : 0;
    size_t have = got > 0 ? (size_t)got : 0;
    off_t left = (off_t)(TEXT_MOST - have);
    got = pread(fd, text + have, (size_t)left, size > left ? size - left : 0);
    have += got > 0 ? (size_t)got : 0;
    for (size_t i = 0; i < have; i++)
        if (text[i] == 0) text[i] = 1;
    close(fd);
    return text;
}

/* A program holds the folder's lock. */
static bool is_alive(const char *folder)
{
    off_t size;
    int fd = open_plain(folder, "lock", &size);
    if (fd < 0) return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return held;
}

static bool is_run(const char *folder)
{
    static const char *const sign[] = {"metrics.jsonl", "status.json", "run.conf"};
    off_t size;
    int fd = -1;
    for (int i = 0; i < 3 && fd < 0; i++) fd = open_plain(folder, sign[i], &size);
    if (fd >= 0) close(fd);
    return fd >= 0 || is_alive(folder);
}

/* status.json; a run that still reads its data has none, only the lock. */
static void read_status(struct run_view *run)
{
    char *text = read_text(run->folder, "status.json", false), *lock = read_text(run->folder, "lock", false);
    json_t *status = json_loads(text, 0, NULL);
    const char *program = json_string_value(json_object_get(status, "program"));
    const char *state = json_string_value(json_object_get(status, "state"));
    const char *words = json_string_value(json_object_get(status, "text"));
    run->state = html_copy(state ? state : is_alive(run->folder) ? "running" : "unknown");
    run->status_text = html_copy(words ? words : "");
    if (sscanf(program ? program : "", "%15[a-z0-9-]", run->program) != 1 &&
        sscanf(run->conf, "# %15[a-z0-9-]", run->program) != 1)
        sscanf(lock, "%15[a-z0-9-]", run->program);
    json_decref(status);
    free(text);
    free(lock);
}

static struct run_view *open_run(const char *folder)
{
    struct run_view *run = host_alloc(1, sizeof *run);
    char name[128];
    off_t size;
    run->folder = host_text("%s", folder);
    run->name = html_copy(path_name(name, folder));
    run->place = html_copy(folder);
    run->conf = read_text(folder, "run.conf", false);
    run->log = read_text(folder, "log.txt", true);
    read_status(run);
    run->samples = read_text(folder, "rollouts.jsonl", false);
    run->rollouts = *run->samples != 0;
    if (!run->rollouts) {
        free(run->samples);
        run->samples = read_text(folder, "samples.txt", false);
    }
    run->stage = stage_view_of(run->program);
    metrics_want(&run->metrics, "step");
    stage_view_want(run);
    metrics_read(&run->metrics, open_plain(folder, "metrics.jsonl", &size));
    return run;
}

static void close_run(struct run_view *run)
{
    for (int i = 0; i < run->metrics.count; i++) free(run->metrics.series[i].bin);
    char *const text[] = {run->folder, run->name, run->place, run->state, run->status_text, run->conf, run->log,
                          run->samples};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) free(text[i]);
    free(run);
}

/* ---- the runs ---- */

struct report { struct run_view *run[REPORT_RUNS]; int count; struct bytes tree; };

static char *folder_of(const char *path) { return folder_is(path) ? host_text("%s", path) : path_folder(path); }

static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

/* Adds a run unless it is there. */
static int add(struct report *r, const char *folder, struct error *error)
{
    for (int i = 0; i < r->count; i++)
        if (same_folder(r->run[i]->folder, folder)) return 0;
    if (!is_run(folder)) return fail(error, EXIT_NOINPUT, RUN_MISSING, folder);
    if (r->count == REPORT_RUNS) return fail(error, EXIT_USAGE, "a report has at most %d runs", REPORT_RUNS);
    r->run[r->count++] = open_run(folder);
    return 0;
}

/* The run's ancestors that are at hand, oldest first, and the tree.  A run without a checkpoint yet has none. */
static void add_family(struct report *r, const char *folder, const char *dir)
{
    struct run_list list = {0};
    struct ckpt *c = NULL;
    struct family family;
    if (folder_list(&list, folder, NULL) != 0) return;
    for (size_t i = 0; i < list.count && !c; i++) reader_open_file(&c, list.file[i].path, NULL, NULL);
    folder_list_free(&list);
    if (!c) return;
    char *beside = dir ? host_text("%s", dir) : host_text("%s/..", folder);
    family_find(&family, c, beside);
    for (int i = 0; i < family.count; i++) {
        char *ancestor = folder_of(family.path[i]);
        char *real = dir ? NULL : realpath(ancestor, NULL);
        add(r, real ? real : ancestor, NULL);
        free(real);
        free(ancestor);
    }
    bytes_text(&r->tree, "%s%s", r->tree.size ? "\n" : "", family.text.data ? family.text.data : "");
    family_free(&family);
    free(beside);
    ckpt_close(c);
}

static int collect(struct report *r, const struct dump *d, struct error *error)
{
    for (int i = 0; i < d->arguments; i++) {
        char *folder = folder_of(d->argument[i]);
        bool there = access(d->argument[i], F_OK) == 0;
        int status = there && is_run(folder) ? 0
                   : fail(error, EXIT_NOINPUT, RUN_MISSING, there ? folder : d->argument[i]);
        if (status == 0 && !d->compare) add_family(r, folder, d->dir);
        if (status == 0) status = add(r, folder, error);
        free(folder);
        if (status != 0) return -1;
    }
    for (int i = 1; i < r->count && d->compare; i++)
        if (strcmp(r->run[i]->program, r->run[0]->program) != 0)
            return fail(error, EXIT_MISMATCH, "%s is a run of %s and %s one of %s: --compare takes runs of one stage",
                        r->run[0]->folder, r->run[0]->program, r->run[i]->folder, r->run[i]->program);
    return 0;
}

/* Runs of one name are named by their folders, less what all folders begin with. */
static void tell_apart(struct report *r)
{
    bool same[REPORT_RUNS] = {false};
    size_t common = 0;
    for (int i = 0; i < r->count; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(r->run[i]->name, r->run[k]->name) == 0) same[i] = same[k] = true;
    for (size_t at = 0, equal = 1; equal && r->run[0]->folder[at]; at++) {
        for (int i = 1; i < r->count; i++) equal &= r->run[i]->folder[at] == r->run[0]->folder[at];
        if (equal && r->run[0]->folder[at] == '/') common = at + 1;
    }
    for (int i = 0; i < r->count; i++) {
        struct run_view *run = r->run[i];
        const char *name = run->folder + common;
        size_t length = strlen(name);
        while (length > 1 && name[length - 1] == '/') length--;
        if (!same[i]) continue;
        char *own = host_text("%.*s", (int)length, name);
        free(run->name);
        run->name = html_copy(own);
        free(own);
    }
}

static void forget(struct report *r)
{
    for (int i = 0; i < r->count; i++) close_run(r->run[i]);
    bytes_free(&r->tree);
    *r = (struct report){0};
}

static bool runs_on(const struct report *r)
{
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->run[i]->state, "running") == 0 && is_alive(r->run[i]->folder)) return true;
    return false;
}

int dump_report(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    bool again, piped = strcmp(d->out, "-") == 0;
    (void)c;
    if (piped && (d->json || d->watch))
        quit(EXIT_USAGE, "--out -: the page goes to stdout, which leaves no place for --%s",
             d->json ? "json" : "watch");
    do {
        double start = seconds_now();
        struct report r = {0};
        struct bytes page = {0};
        if (collect(&r, d, &error) != 0) quit_error(&error);
        tell_apart(&r);
        again = d->watch && runs_on(&r);
        page_write(&page, &(struct page){r.run, r.count, d->compare && r.count > 1, r.tree.data ? r.tree.data : "",
                                         again ? WATCH_SECONDS : 0});
        if (piped) fwrite(page.data, 1, page.size, stdout);
        else if (file_replace(d->out, page.data, page.size, &error) != 0) quit_error(&error);
        if (!again) {
            json_t *runs = json_array();
            for (int i = 0; i < r.count; i++) fact(runs, NULL, fact_text(r.run[i]->folder));
            fact(facts, "out", fact_text(d->out));
            fact(facts, "runs", runs);
            if (!piped) d->note = host_text("%s: %d run%s", d->out, r.count, plural(r.count));
        }
        bytes_free(&page);
        forget(&r);
        if (again) sleep((unsigned)fmax(WATCH_SECONDS, 10 * (seconds_now() - start)));
    } while (again);
    return 0;
}
