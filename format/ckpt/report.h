/* report.h - `ckpt report`: one page for runs and their ancestors.  report.c finds the runs and writes the file,
 * report_metrics.c reads their numbers within bounded memory, report_chart.c draws one chart, report_text.c writes what
 * others said (always escaped), and report_page.c says what a stage shows. */
#ifndef QUARTET_REPORT_H
#define QUARTET_REPORT_H

#include "format/ckpt/dump.h"

/* ---- reading ---- */

/* What a column of pixels can show of the values in it: the first, least, greatest and last. */
struct point { double x, y; };
struct bin { struct point first, low, high, last; uint32_t count; bool gap; };  /* gap: nothing joins it to the left */

enum { REPORT_BINS = 512, REPORT_KEYS = 48, REPORT_PAIRS = 1024, REPORT_RUNS = 64 };
struct series {
    const char *key;
    bool sparse;                         /* val_*: only some steps have one, and lines run from one to the next */
    double value;                        /* in the line being read; NaN: none */
    double start, end, sum;              /* start, end: the first and the last number of the run */
    int64_t count, previous;             /* numbers so far, and the step of the last one */
    struct bin *bin;                     /* REPORT_BINS of them */
};

/* y over x of the records that have both: every stride-th. */
struct pairs { const struct series *x, *y; struct point point[REPORT_PAIRS]; int count; int64_t seen, stride; };

struct metrics {
    struct series series[REPORT_KEYS];   /* 0 is the step */
    int count;
    int64_t base, width, last;           /* a bin is `width` steps; the first step, and the last */
    int64_t records, damaged, disordered;
    bool cut, missing;                   /* the last line is half a line; there is no file */
    struct pairs pairs[2];               /* reward over KL: in training, held out */
};

struct run_view {
    char *folder, program[16];
    char *name, *place, *state, *status_text;       /* as HTML */
    char *conf, *log, *samples;          /* as they are; "" when there is none */
    bool rollouts;                       /* samples is the end of rollouts.jsonl */
    const struct stage_view *stage;
    struct metrics metrics;
};

/* The series of a key; metrics_want adds it. */
void metrics_want(struct metrics *m, const char *key);
const struct series *metrics_find(const struct metrics *m, const char *key);
/* Reads metrics.jsonl, and closes it (fd -1: there is none). */
void metrics_read(struct metrics *m, int fd);
/* Mean over the first, or the last, tenth of the steps; NaN without numbers. */
double series_mean(const struct series *s, bool last);

/* ---- drawing ---- */

struct dot { double x, y; bool gap; };
enum { CHART_CURVES = 24 };
struct curve { char label[160]; const char *key; struct dot *dot; int count, color; double end;
               enum { CURVE_THIN, CURVE_BOLD, CURVE_DOTS } look; };
struct chart {
    const char *title, *about, *across;  /* across: what the x axis is */
    struct curve curve[CHART_CURVES];
    int count;
    bool logarithmic, square;            /* square: both axes 0..1, with the diagonal */
};

/* Appends a <figure>, nothing when no curve has a dot, and frees the dots. */
void chart_draw(struct bytes *out, struct chart *chart);
/* A new curve of the chart, with room for `dots`; NULL when it has enough. */
struct curve *chart_curve(struct chart *chart, const char *label, const char *key, int dots);
void chart_series(struct chart *chart, const struct series *s, const char *label, int color);

/* ---- the page ---- */

/* Text from files, with markup, control and bidirectional characters and broken UTF-8 made visible and harmless. */
void html_text(struct bytes *out, const char *text, size_t length);
char *html_copy(const char *text);                      /* to free() */
void html_number(struct bytes *out, double x);          /* "-" for NaN */

void html_samples(struct bytes *out, const struct run_view *run);
void html_settings(struct bytes *out, struct run_view *const *run, int count);     /* one column per run */
void html_log(struct bytes *out, const struct run_view *run);       /* data counts, and what else was said */
/* The rows of the last calibration table in the log: confidence predicted, share that was right; at most `most`. */
int log_calibration(struct dot *dot, int most, const char *log);

/* What a stage shows. */
struct stage_view {
    const char *program, *gain[8];       /* keys of the table of gains */
    struct { const char *title, *about, *key[4]; bool logarithmic; } chart[12];
};
const struct stage_view *stage_view_of(const char *program);
void stage_view_want(struct run_view *run);             /* the series its stage shows */

/* A page: groups of runs that share charts (one run each, or all when they are compared). */
struct page { struct run_view **run; int count; bool compared; const char *tree; int refresh; };
void page_write(struct bytes *out, const struct page *page);

#endif
