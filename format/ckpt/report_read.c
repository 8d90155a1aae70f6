/* report_read.c - a run folder as a report needs it.  metrics.jsonl is read once, in blocks, and thinned on the way:
 * each series keeps a fixed number of bins and joins them in pairs when the run outgrows them.  Whatever is damaged is
 * counted and passed over. */
#define _GNU_SOURCE
#include "format/ckpt/report.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, TEXT_MOST = 1 << 19 };

/* ---- series ---- */

struct series *metrics_want(struct metrics *m, const char *key)
{
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->series[i].key, key) == 0) return &m->series[i];
    if (m->count == REPORT_KEYS) die("more than %d series in a report", REPORT_KEYS);
    m->series[m->count] = (struct series){.key = key, .sparse = strncmp(key, "val_", 4) == 0, .start = NAN, .end = NAN,
                                          .bin = host_alloc(REPORT_BINS, sizeof(struct bin))};
    return &m->series[m->count++];
}

const struct series *metrics_find(const struct metrics *m, const char *key)
{
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->series[i].key, key) == 0) return &m->series[i];
    return NULL;
}

static void bin_join(struct bin *a, const struct bin *b)
{
    if (b->count == 0) return;
    if (a->count == 0) { *a = *b; return; }
    if (b->low.y < a->low.y) a->low = b->low;
    if (b->high.y > a->high.y) a->high = b->high;
    a->last = b->last;
    a->count += b->count;
}

static void series_halve(struct series *s)
{
    for (int i = 0; i < REPORT_BINS / 2; i++) {
        struct bin pair = s->bin[2 * i];
        bin_join(&pair, &s->bin[2 * i + 1]);
        s->bin[i] = pair;
    }
    memset(s->bin + REPORT_BINS / 2, 0, REPORT_BINS / 2 * sizeof *s->bin);
}

static void series_add(struct series *s, const struct metrics *m, int64_t step)
{
    struct point p = {(double)step, s->value};
    struct bin one = {p, p, p, p, 1, s->count && !s->sparse && step != s->previous + 1};
    bin_join(&s->bin[(step - m->base) / m->width], &one);
    if (s->count++ == 0) s->start = s->value;
    s->end = s->value;
    s->sum += s->value;
    s->previous = step;
}

double series_mean(const struct series *s, bool last)
{
    int from = REPORT_BINS, to = 0;
    for (int i = 0; s && i < REPORT_BINS; i++)
        if (s->bin[i].count) { from = int_min(from, i); to = i + 1; }
    int tenth = int_max((to - from) / 10, 1);
    if (last) from = int_max(from, to - tenth);
    else to = int_min(to, from + tenth);
    double sum = 0, count = 0;
    for (int i = from; i < to; i++) {
        const struct bin *b = &s->bin[i];
        if (b->count == 0) continue;
        sum += (b->first.y + b->low.y + b->high.y + b->last.y) / 4 * b->count;
        count += b->count;
    }
    return count > 0 ? sum / count : NAN;
}

static void pairs_add(struct pairs *p)
{
    if (!p->x || !p->y || isnan(p->x->value) || isnan(p->y->value)) return;
    if (p->seen++ % p->stride) return;
    if (p->count == REPORT_PAIRS) {
        for (int i = 0; i < REPORT_PAIRS / 2; i++) p->point[i] = p->point[2 * i];
        p->count = REPORT_PAIRS / 2;
        p->stride *= 2;
    }
    p->point[p->count++] = (struct point){p->x->value, p->y->value};
}

/* ---- records ---- */

/* {"key":number or null, ...}.  Returns the step, or -1 when there is none. */
static int64_t read_record(struct metrics *m, const char *line, size_t length)
{
    json_t *record = json_loadb(line, length, JSON_DECODE_INT_AS_REAL, NULL);
    for (int i = 0; i < m->count; i++) {
        const json_t *value = json_object_get(record, m->series[i].key);
        m->series[i].value = json_is_number(value) ? json_number_value(value) : NAN;
    }
    json_decref(record);
    double step = m->series[0].value;
    return step >= 0 && step < 1e15 && step == floor(step) ? (int64_t)step : -1;
}

static void take_line(struct metrics *m, const char *line, size_t length, bool whole)
{
    if (length == 0) return;
    int64_t now = read_record(m, line, length);
    if (now < 0 && whole) m->damaged++;
    else if (now < 0) m->cut = true;
    else if (m->records && now <= m->last) m->disordered++;
    if (now < 0 || (m->records && now <= m->last)) return;
    if (m->records++ == 0) m->base = now;
    m->last = now;
    for (; (now - m->base) / m->width >= REPORT_BINS; m->width *= 2)
        for (int i = 0; i < m->count; i++) series_halve(&m->series[i]);
    for (int i = 0; i < m->count; i++)
        if (!isnan(m->series[i].value)) series_add(&m->series[i], m, now);
    for (int i = 0; i < 2; i++) pairs_add(&m->pairs[i]);
}

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

void metrics_read(struct metrics *m, const char *folder)
{
    off_t size;
    int fd = open_plain(folder, "metrics.jsonl", &size);
    m->width = 1;
    for (int i = 0; i < 2; i++) m->pairs[i].stride = 1;
    m->missing = fd < 0;
    if (fd < 0) return;
    char *block = host_alloc(BLOCK + 1, 1);
    size_t have = 0;
    bool skipping = false;               /* in a line longer than a block */
    for (ssize_t got; (got = read(fd, block + have, BLOCK - have)) > 0;) {
        char *line = block, *end = block + have + got;
        for (char *newline; (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1) {
            *newline = 0;
            if (!skipping) take_line(m, line, (size_t)(newline - line), true);
            skipping = false;
        }
        have = (size_t)(end - line);
        if (have == BLOCK) {
            m->damaged += !skipping;
            skipping = true;
            have = 0;
        }
        memmove(block, line, have);
    }
    block[have] = 0;
    if (!skipping) take_line(m, block, have, false);
    free(block);
    close(fd);
}

/* ---- the other files ---- */

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

bool run_view_alive(const struct run_view *run)
{
    off_t size;
    int fd = open_plain(run->folder, "lock", &size);
    if (fd < 0) return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return held;
}

/* status.json; a run that still reads its data has none, only the lock. */
static void read_status(struct run_view *run)
{
    char *text = read_text(run->folder, "status.json", false), *lock = read_text(run->folder, "lock", false);
    json_t *status = json_loads(text, 0, NULL);
    const char *program = json_string_value(json_object_get(status, "program"));
    const char *state = json_string_value(json_object_get(status, "state"));
    const char *words = json_string_value(json_object_get(status, "text"));
    run->state = html_copy(state ? state : run_view_alive(run) ? "running" : "unknown");
    run->status_text = html_copy(words ? words : "");
    if (sscanf(program ? program : "", "%15[a-z0-9-]", run->program) != 1 &&
        sscanf(run->conf, "# %15[a-z0-9-]", run->program) != 1)
        sscanf(lock, "%15[a-z0-9-]", run->program);
    json_decref(status);
    free(text);
    free(lock);
}

int run_view_open(struct run_view *run, const char *folder, struct error *error)
{
    off_t size;
    static const char *const signs[] = {"metrics.jsonl", "status.json", "run.conf"};
    int fd = -1;
    *run = (struct run_view){.folder = host_text("%s", folder)};
    for (int i = 0; i < 3 && fd < 0; i++) fd = open_plain(folder, signs[i], &size);
    if (fd >= 0) close(fd);
    else if (!run_view_alive(run)) {
        free(run->folder);
        return fail(error, EXIT_NOINPUT, RUN_MISSING, folder);
    }
    char name[128];
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
    return 0;
}

void run_view_close(struct run_view *run)
{
    for (int i = 0; i < run->metrics.count; i++) free(run->metrics.series[i].bin);
    char *const text[] = {run->folder, run->name, run->place, run->state, run->status_text, run->conf, run->log,
                          run->samples};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) free(text[i]);
}
