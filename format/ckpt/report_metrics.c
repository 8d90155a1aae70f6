/* report_metrics.c - metrics.jsonl, read once and thinned on the way: each series keeps a fixed number of bins and joins
 * them in pairs when the run outgrows them.  Whatever is damaged is counted and passed over. */
#define _GNU_SOURCE
#include "common/base/threads.h"
#include "format/ckpt/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- series ---- */

const struct series *metrics_find(const struct metrics *m, const char *key)
{
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->series[i].key, key) == 0) return &m->series[i];
    return NULL;
}

void metrics_want(struct metrics *m, const char *key)
{
    if (metrics_find(m, key)) return;
    if (m->count == REPORT_KEYS) die("more than %d series in a report", REPORT_KEYS);
    m->series[m->count++] = (struct series){.key = key, .sparse = strncmp(key, "val_", 4) == 0, .start = NAN,
                                            .end = NAN, .bin = host_alloc(REPORT_BINS, sizeof(struct bin))};
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

/* Lines that are parsed side by side, and then taken in order. */
enum { LINES = 2048, LINES_TEXT = 1 << 20 };
struct lines {
    const struct metrics *m;
    struct bytes text;
    int count;
    size_t end[LINES + 1];                  /* of line i: end[i + 1] */
    double value[LINES][REPORT_KEYS];
};

/* {"key":number or null, ...} as the value of each series, NaN: none. */
static void parse_line(void *self, int i, int thread)
{
    struct lines *l = self;
    json_t *record = json_loadb(l->text.data + l->end[i], l->end[i + 1] - l->end[i], JSON_DECODE_INT_AS_REAL, NULL);
    (void)thread;
    for (int k = 0; k < l->m->count; k++) {
        const json_t *value = json_object_get(record, l->m->series[k].key);
        l->value[i][k] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    json_decref(record);
}

/* whole: the line has its end. */
static void take_record(struct metrics *m, const double *value, bool whole)
{
    double step = value[0];
    int64_t now = step >= 0 && step < 1e15 && step == floor(step) ? (int64_t)step : -1;
    for (int i = 0; i < m->count; i++) m->series[i].value = value[i];
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

void metrics_read(struct metrics *m, int fd)
{
    char *line = NULL;
    size_t room = 0;
    struct lines *l = host_alloc(1, sizeof *l);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    m->width = 1;
    for (int i = 0; i < 2; i++) m->pairs[i].stride = 1;
    m->missing = !file;
    l->m = m;
    for (ssize_t n = 1; file && n > 0;) {
        l->text.size = 0;
        for (l->count = 0; l->count < LINES && l->text.size < LINES_TEXT && (n = getline(&line, &room, file)) > 0;) {
            bytes_add(&l->text, line, (size_t)n);
            l->end[++l->count] = l->text.size;
        }
        threads_for(l->count, parse_line, l);
        for (int i = 0; i < l->count; i++) {
            bool whole = l->text.data[l->end[i + 1] - 1] == '\n';
            if (l->end[i + 1] - l->end[i] > whole) take_record(m, l->value[i], whole);
        }
    }
    bytes_free(&l->text);
    free(l);
    free(line);
    if (file) fclose(file);
}
