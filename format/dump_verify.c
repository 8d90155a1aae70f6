/* dump_verify.c - `ckpt verify`: every check of SPEC.md, and with --deep what the values must satisfy.  It does not
 * stop at the first problem: whoever has a damaged file wants to know how much is damaged. */
#include "format/dump.h"

#include "common/base/threads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { STEP = 1 << 18 };

struct deep { const struct ckpt *c; struct problems *problems; struct moments *moments; int *status; };

static void deep_task(void *context, int i, int thread)
{
    struct deep *deep = context;
    const struct ckpt_tensor *t = &deep->c->index.tensor[i].public;
    uint8_t *buffer = host_alloc(STEP, 1);
    (void)thread;
    for (uint64_t at = 0; at < t->bytes && deep->status[i] == 0; at += STEP) {
        size_t n = t->bytes - at < STEP ? (size_t)(t->bytes - at) : STEP;
        struct moments m;
        deep->status[i] = tensor_read(deep->c, (size_t)i, buffer, at, n, NULL);
        if (deep->status[i] != 0) break;
        moments_of(&m, buffer, n, t->dtype);
        moments_add(&deep->moments[i], &m);
    }
    free(buffer);
}

static void report(struct deep *deep, const char *path, const char *format, const char *name, const char *role,
                   double a, double b)
{
    struct error error, full;
    char text[300];
    snprintf(text, sizeof text, "tensor %s (%s)", name, role);
    fail(&error, EXIT_DATA, format, a, b);
    fail(&full, EXIT_DATA, "%s: %s: %s", path, text, error.text);
    deep->problems->count++;
    deep->problems->report(deep->problems->self, &full);
}

/* Finite; statistics as stored; second moments not negative; optimizer tensors shaped as their weights (C6). */
static void judge(struct deep *deep, size_t i)
{
    const struct ckpt *c = deep->c;
    const struct ckpt_tensor *t = &c->index.tensor[i].public;
    const struct stats s = moments_stats(&deep->moments[i]);
    const char *role = role_name(t->role);
    if (s.nan || s.inf)
        report(deep, c->path, "%.0f NaN and %.0f infinite values [V1]", t->name, role, (double)s.nan, (double)s.inf);
    if (t->role == ROLE_ADAM_V && s.min < 0)
        report(deep, c->path, "a second moment is %g (expected at least %g) [V2]", t->name, role, s.min, 0);
    if (c->stats && dtype_facts(t->dtype)->block == 1 &&
        (c->stats[i].min != s.min || c->stats[i].max != s.max || c->stats[i].nan != s.nan || c->stats[i].inf != s.inf ||
         c->stats[i].zero != s.zero))
        report(deep, c->path, "its smallest or largest value or counts are not those of STAT (%g to %g) [V3]", t->name,
               role, s.min, s.max);
    if (t->role != ROLE_ADAM_M && t->role != ROLE_ADAM_V && t->role != ROLE_MASTER) return;
    int64_t weight = index_find(&c->index, t->name, ROLE_WEIGHT);
    if (weight < 0) weight = index_find(&c->index, t->name, ROLE_HEAD);
    const struct ckpt_tensor *w = weight < 0 ? NULL : &c->index.tensor[weight].public;
    if (!w || w->ndim != t->ndim || memcmp(w->shape, t->shape, sizeof w->shape) != 0)
        report(deep, c->path, w ? "its shape is not that of its weight (%.0f and %.0f values) [C6]"
               : "there is no weight of this name [C6]", t->name, role,
               (double)tensor_elements(t), w ? (double)tensor_elements(w) : 0);
}

static void look_deep(const struct ckpt *c, struct problems *problems)
{
    struct deep deep = {c, problems, host_alloc(c->index.count, sizeof *deep.moments),
                        host_alloc(c->index.count, sizeof *deep.status)};
    threads_for((int)c->index.count, deep_task, &deep);
    for (size_t i = 0; i < c->index.count; i++)
        if (deep.status[i] == 0) judge(&deep, i);
    free(deep.moments);
    free(deep.status);
}

/* One file; its line or JSON object. */
static int verify_file(struct dump *d, struct json *j, const char *path)
{
    struct findings f = {0};
    struct problems problems = {findings_add, &f, 0};
    struct error error;
    struct ckpt *c;
    uint64_t bytes = 0;
    size_t tensors = 0;
    double start = seconds_now();
    if (reader_open_file(&c, path, &problems, &error) != 0) {
        problems.count++;
        findings_add(&f, &error);
    } else {
        bytes = c->header.file_size;
        tensors = c->index.count;
        if (!d->quick && c->index.count) reader_verify(c, &problems, &error);
        if (d->deep && c->index.count) look_deep(c, &problems);
        ckpt_close(c);
    }
    if (d->json) {
        json_open(j, NULL, '{');
        json_text(j, "file", path);
        json_u64(j, "bytes", bytes);
        json_u64(j, "tensors", tensors);
        json_u64(j, "problem_count", problems.count);
        json_findings(j, &f);
        json_close(j, '}');
    } else if (f.shown == 0) {
        char size[16];
        double seconds = seconds_now() - start;
        printf("%s: ok (%zu tensor%s, %s, %.2f GB/s)\n", path, tensors, tensors == 1 ? "" : "s",
               text_bytes(size, (double)bytes), (double)bytes / 1e9 / (seconds + 1e-9));
    } else {
        char *prefix = host_text("%s: ", path);
        for (int i = 0; i < f.shown; i++) {
            bool named = strncmp(f.text[i], prefix, strlen(prefix)) == 0;
            printf("%s%s\n", named ? "" : prefix, f.text[i]);
        }
        printf("%s: %s, %" PRIu64 " problem%s\n", path, f.exit_code == EXIT_DATA ? "corrupt (65)" : "not verified",
               problems.count,
               problems.count == 1 ? "" : "s");
        free(prefix);
    }
    int code = f.exit_code;
    findings_free(&f);
    return code;
}

static int verify_path(struct dump *d, struct json *j, const char *path)
{
    struct stat st;
    struct run_list list;
    struct error error;
    int worst = 0;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return verify_file(d, j, path);
    if (folder_list(&list, path, &error) != 0) return dump_error(&error);
    if (list.count == 0) {
        fail(&error, EXIT_NOINPUT, "%s: there is no checkpoint in this folder", path);
        worst = dump_error(&error);
    }
    for (size_t i = 0; i < list.count; i++) {
        int code = verify_file(d, j, list.file[i].path);
        worst = int_max(worst, code);
    }
    folder_list_free(&list);
    return worst;
}

int dump_verify(struct dump *d)
{
    struct json j;
    int worst = 0;
    if (d->json) {
        json_start(&j, d);
        json_open(&j, "files", '[');
    }
    for (int i = 0; i < d->arguments; i++) {
        int code = verify_path(d, &j, d->argument[i]);
        worst = int_max(worst, code);
    }
    if (d->json) {
        json_close(&j, ']');
        json_end(&j);
    }
    return worst;
}
