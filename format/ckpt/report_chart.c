/* report_chart.c - the one chart of a report, as SVG.  It is as wide as a phone, so its letters are legible everywhere,
 * and its axes are in data- attributes, so a point can be told back into a number. */
#include "format/ckpt/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 320, HEIGHT = 200, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 36 };

struct axis { double from, to; bool logarithmic; double start, length; };        /* start, length: in pixels */

static double place(const struct axis *a, double x)
{
    double share = a->logarithmic ? log(x / a->from) / log(a->to / a->from) : (x - a->from) / (a->to - a->from);
    return a->start + share * a->length;
}

struct curve *chart_curve(struct chart *chart, const char *label, const char *key, int dots)
{
    if (chart->count == CHART_CURVES) return NULL;
    struct curve *c = &chart->curve[chart->count++];
    *c = (struct curve){.key = key, .dot = host_alloc((size_t)dots + 1, sizeof *c->dot), .end = NAN};
    snprintf(c->label, sizeof c->label, "%s", label);
    return c;
}

/* The points of a bin in order of their step, each once. */
static void add_bin(struct curve *c, const struct bin *b)
{
    struct point low = b->low, high = b->high;
    if (low.x > high.x) { low = b->high; high = b->low; }
    const struct point all[] = {b->first, low, high, b->last};
    for (int i = 0; i < 4; i++)
        if (i == 0 || all[i].x > c->dot[c->count - 1].x)
            c->dot[c->count++] = (struct dot){all[i].x, all[i].y, i == 0 && b->gap};
}

void chart_series(struct chart *chart, const struct series *s, const char *label, int color)
{
    struct curve *c = s && s->count ? chart_curve(chart, label, s->key, 4 * REPORT_BINS) : NULL;
    if (!c) return;
    for (int i = 0; i < REPORT_BINS; i++)
        if (s->bin[i].count) add_bin(c, &s->bin[i]);
    c->color = color;
    c->end = s->end;
    c->look = s->sparse ? CURVE_BOLD : CURVE_THIN;
}

/* ---- axes ---- */

static struct axis fit(const struct chart *chart, bool x)
{
    struct axis a = {INFINITY, -INFINITY};
    for (int i = 0; i < chart->count; i++)
        for (int k = 0; k < chart->curve[i].count; k++) {
            const struct dot *d = &chart->curve[i].dot[k];
            a.from = fmin(a.from, x ? d->x : d->y);
            a.to = fmax(a.to, x ? d->x : d->y);
        }
    if (chart->square) { a.from = x ? 0.5 : fmin(a.from, 0.5); a.to = 1; }
    a.logarithmic = !x && chart->logarithmic && a.from > 0 && a.to / a.from > 8;
    if (a.logarithmic) {
        double room = pow(a.to / a.from, 0.05);
        a.from /= room;
        a.to *= room;
        return a;
    }
    double span = a.to - a.from;
    if (!(span > fabs(a.to) * 1e-9)) {                               /* one value: the axis still needs a length */
        double around = fmax(fabs(a.to) * 0.1, x ? 0.5 : 1e-6);
        a.from -= around;
        a.to += around;
    } else if (!x && !chart->square) {
        bool natural = a.from >= 0 && a.from < span / 2;             /* 0 is near: start there */
        a.from = natural ? 0 : a.from - span * 0.05;
        a.to += span * 0.05;
    }
    return a;
}

static void tick(struct bytes *out, const struct axis *a, bool x, double value)
{
    char text[32];
    double at = place(a, value);
    if (fabs(value) >= 10000) text_count(text, value);
    else snprintf(text, sizeof text, "%.6g", fabs(value) < 1e-12 ? 0 : value);
    if (x) bytes_text(out, "<path class=g d=\"M%.1f %dv4\"/><text x=\"%.1f\" y=\"%d\" text-anchor=middle>%s</text>", at,
                      HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 15, text);
    else bytes_text(out, "<path class=g d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=end>%s</text>",
                    LEFT, at, WIDTH - RIGHT, LEFT - 5, at + 4, text);
}

static void ticks(struct bytes *out, const struct axis *a, bool x)
{
    if (a->logarithmic) {
        bool tight = a->to / a->from > 200;
        for (double power = pow(10, floor(log10(a->from))); power <= a->to; power *= 10)
            for (int k = 0; k < (tight ? 1 : 3); k++) {
                double value = power * (k == 0 ? 1 : k == 1 ? 2 : 5);
                if (value >= a->from && value <= a->to) tick(out, a, x, value);
            }
        return;
    }
    double raw = (a->to - a->from) / 4.5, unit = pow(10, floor(log10(raw))), lead = raw / unit;
    double step = unit * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
    if (x && !(step >= 1) && a->from >= 1) step = 1;
    for (int64_t k = (int64_t)ceil(a->from / step - 1e-9); (double)k * step <= a->to + step * 1e-9; k++)
        tick(out, a, x, (double)k * step);
}

/* ---- curves ---- */

static void draw_path(struct bytes *out, const struct curve *c, const struct axis *x, const struct axis *y)
{
    bytes_text(out, "<path class=\"l c%d%s\" data-key=\"%s\" d=\"", c->color, c->look == CURVE_THIN ? " thin" : "",
               c->key);
    for (int i = 0; i < c->count; i++) {
        const struct dot *d = &c->dot[i];
        bool moves = i == 0 || d->gap;
        const char *letter = moves ? "M" : i == 1 || c->dot[i - 1].gap ? "L" : " ";
        bytes_text(out, "%s%.1f %.1f", letter, place(x, d->x), place(y, d->y));
        if (moves && (i + 1 == c->count || d[1].gap)) bytes_text(out, "h0");     /* alone: a dot, by its round ends */
    }
    bytes_text(out, "\"/>");
}

static void draw_dots(struct bytes *out, const struct curve *c, const struct axis *x, const struct axis *y)
{
    bool cloud = c->look == CURVE_DOTS;
    bytes_text(out, "<g class=\"d c%d\"", c->color);
    if (cloud) bytes_text(out, " data-key=\"%s\"", c->key);
    bytes_text(out, ">");
    for (int i = 0; i < c->count; i++) {
        bytes_text(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"", place(x, c->dot[i].x), place(y, c->dot[i].y),
                   cloud ? "3" : "2.5");
        if (cloud) bytes_text(out, " opacity=\"%.2f\"", 0.25 + 0.75 * (i + 1) / c->count);
        bytes_text(out, "/>");
    }
    bytes_text(out, "</g>");
}

static void draw_legend(struct bytes *out, const struct chart *chart)
{
    bytes_text(out, "<p class=key>");
    for (int i = 0; i < chart->count; i++) {
        const struct curve *c = &chart->curve[i];
        bytes_text(out, "<span><i class=\"s c%d%s\"></i>%s", c->color, c->look == CURVE_THIN ? " thin" : "", c->label);
        if (isfinite(c->end)) {
            bytes_text(out, " <b>");
            html_number(out, c->end);
            bytes_text(out, "</b>");
        }
        bytes_text(out, "</span> ");
    }
    bytes_text(out, "</p>");
}

void chart_draw(struct bytes *out, struct chart *chart)
{
    if (chart->count) {
        struct axis x = fit(chart, true), y = fit(chart, false);
        x.start = LEFT; x.length = WIDTH - RIGHT - LEFT;
        y.start = HEIGHT - BOTTOM; y.length = TOP + BOTTOM - HEIGHT;
        bytes_text(out, "<figure><figcaption>%s<small>%s</small></figcaption>", chart->title, chart->about);
        draw_legend(out, chart);
        bytes_text(out, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\" data-box=\"%d %d %d %d\" "
                   "data-x=\"%.17g %.17g\" data-y=\"%.17g %.17g\" data-log=\"%d\">", WIDTH, HEIGHT, chart->title, LEFT,
                   TOP, WIDTH - RIGHT, HEIGHT - BOTTOM, x.from, x.to, y.from, y.to, y.logarithmic);
        ticks(out, &y, false);
        ticks(out, &x, true);
        bytes_text(out, "<text x=\"%d\" y=\"%d\" text-anchor=end>%s</text>", WIDTH - RIGHT, HEIGHT - 4, chart->across);
        if (chart->square)
            bytes_text(out, "<path class=\"g dash\" d=\"M%.1f %.1fL%.1f %.1f\"/>", place(&x, 0.5), place(&y, 0.5),
                       place(&x, 1), place(&y, 1));
        if (y.from < 0 && y.to > 0)
            bytes_text(out, "<path class=zero d=\"M%d %.1fH%d\"/>", LEFT, place(&y, 0), WIDTH - RIGHT);
        for (int i = 0; i < chart->count; i++) {
            const struct curve *c = &chart->curve[i];
            if (c->look != CURVE_DOTS) draw_path(out, c, &x, &y);
            if (c->look == CURVE_DOTS || (c->look == CURVE_BOLD && c->count <= 40)) draw_dots(out, c, &x, &y);
        }
        bytes_text(out, "</svg></figure>\n");
    }
    for (int i = 0; i < chart->count; i++) free(chart->curve[i].dot);
}
