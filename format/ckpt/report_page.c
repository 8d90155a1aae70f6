/* report_page.c - what a report shows of each stage, in one table, and the page around it. */
#include "format/ckpt/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* report.css as it stands, and a NUL. */
extern const char report_style[];
__asm__(".pushsection .rodata\n.global report_style\nreport_style: .incbin \"format/ckpt/report.css\"\n.byte 0\n"
        ".popsection");

#define LOSS_CHART {"Loss", "nats, on a logarithmic axis where it falls far", {"loss", "val_loss"}, true}
#define COMMON_CHARTS \
    {"Learning rate", "per step", {"lr", "critic.lr"}}, \
    {"Gradient norm", "before clipping", {"grad_norm", "critic.grad_norm"}, true}, \
    {"Tokens per second", "of a step", {"tokens_per_second"}}

static const struct stage_view views[] = {
    {"pretrain", {"val_loss", "val_bits_per_byte", "val_perplexity"}, {LOSS_CHART, COMMON_CHARTS}},
    {"sft", {"val_loss", "val_perplexity"}, {LOSS_CHART, COMMON_CHARTS}},
    {"rm", {"val_accuracy", "val_longer_wins", "val_log_loss", "val_ece"}, {
        {"Accuracy", "share of pairs ordered correctly", {"accuracy", "val_accuracy", "val_longer_wins"}},
        {"Margin", "score of the better answer minus the other", {"margin", "val_margin"}},
        {"Length bias", "correlation of score and length", {"val_length_correlation"}},
        LOSS_CHART, COMMON_CHARTS}},
    {"rlhf", {"val_reward", "reward", "kl", "entropy", "distinct_2", "length", "eos_rate"}, {
        {"Reward", "mean of an iteration, and on held-out prompts", {"reward", "val_reward"}},
        {"KL", "nats per answer, to the reference", {"kl", "val_kl"}},
        {"Entropy", "nats per token; a steep fall is a collapse", {"entropy"}},
        {"Distinct-2", "different token pairs; equal answers", {"distinct_2", "val_distinct_2", "identical"}},
        {"Answer length", "tokens", {"length", "val_length"}},
        {"End rate", "share of answers that end by themselves", {"eos_rate", "val_eos_rate"}},
        {"Loss", "of policy and critic", {"policy_loss", "value_loss"}},
        {"Clipped", "share of tokens outside the clip range", {"clip_fraction"}},
        COMMON_CHARTS}},
};

const struct stage_view *stage_view_of(const char *program)
{
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (strcmp(views[i].program, program) == 0) return &views[i];
    return &views[0];
}

void stage_view_want(struct run_view *run)
{
    struct metrics *m = &run->metrics;
    for (int i = 0; run->stage->gain[i]; i++) metrics_want(m, run->stage->gain[i]);
    for (int i = 0; run->stage->chart[i].title; i++)
        for (int k = 0; k < 4 && run->stage->chart[i].key[k]; k++) metrics_want(m, run->stage->chart[i].key[k]);
    metrics_want(m, "seconds");
    metrics_want(m, "tokens");
    metrics_want(m, "val_kl");
    for (int held_out = 0; held_out < 2; held_out++)
        m->pairs[held_out] = (struct pairs){.x = metrics_find(m, held_out ? "val_kl" : "kl"),
                                            .y = metrics_find(m, held_out ? "val_reward" : "reward")};
}

/* ---- gains ---- */

static void gain_row(struct bytes *out, const struct run_view *run, const char *key, bool first)
{
    const struct series *s = metrics_find(&run->metrics, key);
    if (!s || s->count == 0) return;
    bytes_text(out, "<tr%s><th>%s<td><code>%s</code><td class=n>", first ? " class=first" : "", first ? run->name : "",
               key);
    html_number(out, s->start);
    bytes_text(out, "<td class=n>");
    html_number(out, s->end);
    bytes_text(out, "<td class=\"n change\">%+.3g\n", s->end - s->start);
}

static void gains(struct bytes *out, const struct page *page)
{
    bytes_text(out, "<section><h2>What each stage gained</h2><div class=wide><table class=gains><thead><tr><th>Run"
               "<th>Measure<th class=n>Before<th class=n>After<th class=n>Change<tbody>\n");
    for (int i = 0; i < page->count; i++)
        for (int k = 0; page->run[i]->stage->gain[k]; k++) {
            if (!page->compared) gain_row(out, page->run[i], page->run[i]->stage->gain[k], k == 0);
            for (int j = 0; page->compared && i == 0 && j < page->count; j++)
                gain_row(out, page->run[j], page->run[i]->stage->gain[k], true);
        }
    bytes_text(out, "</table></div><p class=about>First and last value in metrics.jsonl; <code>val_</code>: on "
               "held-out data.</p></section>\n");
}

/* ---- warnings ---- */

static void sign(struct bytes *out, bool bad, const char *title, const char *words)
{
    bytes_text(out, "<div class=\"note %s\"><b>%s %s</b> %s</div>\n", bad ? "bad" : "good",
               bad ? "&#9888;" : "&#10003;", title, words);
}

/* Entropy below a fifth of its start, word pairs below a half, or twice as many equal answers and more than a third. */
static void sign_diversity(struct bytes *out, const struct metrics *m)
{
    const struct series *entropy = metrics_find(m, "entropy"), *distinct = metrics_find(m, "distinct_2");
    double e0 = series_mean(entropy, false), e1 = series_mean(entropy, true);
    double d0 = series_mean(distinct, false), d1 = series_mean(distinct, true);
    double i0 = series_mean(metrics_find(m, "identical"), false), i1 = series_mean(metrics_find(m, "identical"), true);
    if (!isfinite(e0) || !isfinite(e1)) return;
    char *words = host_text("Entropy went from %.3g to %.3g nats (%.0f %%), distinct-2 from %.3g to %.3g, equal "
                            "answers from %.0f %% to %.0f %%. The limits: a fifth of the entropy, half of distinct-2, "
                            "twice as many equal answers and more than a third.", e0, e1, 100 * e1 / e0, d0, d1,
                            100 * i0, 100 * i1);
    bool bad = e1 < e0 / 5 || d1 < d0 / 2 || (i1 > 2 * i0 && i1 > 1.0 / 3);
    sign(out, bad, bad ? "The policy is losing its diversity." : "Diversity holds.", words);
    free(words);
}

/* The training reward rose, and the held-out one did not rise, or gave back a quarter of its rise since its best. */
static void sign_reward(struct bytes *out, const struct metrics *m)
{
    const struct series *reward = metrics_find(m, "reward"), *held_out = metrics_find(m, "val_reward");
    double from = series_mean(reward, false), to = series_mean(reward, true), best = -INFINITY, at = 0;
    if (!isfinite(from) || !isfinite(to)) return;
    if (!held_out || held_out->count < 2) {
        sign(out, true, "Held-out reward was not measured.", "A reward that rises only in training goes unnoticed: "
             "hold out prompts with <code>--validation</code>.");
        return;
    }
    for (int i = 0; i < REPORT_BINS; i++)
        if (held_out->bin[i].count && held_out->bin[i].high.y > best) {
            best = held_out->bin[i].high.y;
            at = held_out->bin[i].high.x;
        }
    double rise = held_out->end - held_out->start, lost = best - held_out->end;
    bool bad = to > from && (rise <= 0 || lost > 0.25 * (best - held_out->start));
    char *words = host_text("In training it went from %.3g to %.3g, on held-out prompts from %.3g to %.3g (best %.3g "
                            "at step %.0f). Both come from the same judge: a rule or a second reward model that the "
                            "policy does not see tells more.", from, to, held_out->start, held_out->end, best, at);
    sign(out, bad, bad ? "Reward rises in training, not on held-out prompts." :
         rise > 0 ? "Held-out reward rises with the reward." : "Reward did not rise.", words);
    free(words);
}

static void signs(struct bytes *out, const struct page *page)
{
    for (int i = 0, shown = 0; i < page->count; i++) {
        if (strcmp(page->run[i]->program, "rlhf") != 0) continue;
        if (shown++ == 0) bytes_text(out, "<section><h2>Over-optimisation</h2>\n");
        if (page->compared) bytes_text(out, "<h3>%s</h3>", page->run[i]->name);
        sign_diversity(out, &page->run[i]->metrics);
        sign_reward(out, &page->run[i]->metrics);
        if (i + 1 == page->count) bytes_text(out, "</section>\n");
    }
}

/* ---- charts ---- */

static char *curve_label(const struct run_view *run, const char *key, bool compared)
{
    return compared ? host_text("%s %s", run->name, key) : host_text("%s", key);
}

static void stage_charts(struct bytes *out, struct run_view *const *run, int count)
{
    const struct stage_view *stage = run[0]->stage;
    for (int i = 0; stage->chart[i].title; i++) {
        struct chart chart = {.title = stage->chart[i].title, .about = stage->chart[i].about, .across = "step",
                              .logarithmic = stage->chart[i].logarithmic};
        for (int r = 0; r < count; r++)
            for (int k = 0; k < 4 && stage->chart[i].key[k]; k++) {
                const char *key = stage->chart[i].key[k];
                char *label = curve_label(run[r], key, count > 1);
                chart_series(&chart, metrics_find(&run[r]->metrics, key), label, count > 1 ? r % 8 : k);
                free(label);
            }
        chart_draw(out, &chart);
    }
}

/* Reward over the square root of KL, as the literature draws over-optimisation. */
static void chart_frontier(struct bytes *out, struct run_view *const *run, int count)
{
    struct chart chart = {.title = "Reward against &radic;KL", .about = "one dot per step, later ones darker",
                          .across = "&radic;KL"};
    for (int r = 0; r < count; r++)
        for (int k = 0; k < 2; k++) {
            const struct pairs *p = &run[r]->metrics.pairs[k];
            if (p->count == 0) continue;
            char *label = curve_label(run[r], p->y->key, count > 1);
            struct curve *c = chart_curve(&chart, label, p->y->key, p->count);
            free(label);
            if (!c) continue;
            for (int i = 0; i < p->count; i++)
                c->dot[c->count++] = (struct dot){sqrt(fmax(p->point[i].x, 0)), p->point[i].y, false};
            c->look = k ? CURVE_BOLD : CURVE_DOTS;
            c->color = count > 1 ? r % 8 : k;
        }
    chart_draw(out, &chart);
}

static void chart_calibration(struct bytes *out, struct run_view *const *run, int count)
{
    struct chart chart = {.title = "Calibration", .about = "share right by confidence, held-out pairs; dashed: ideal",
                          .across = "confidence", .square = true};
    for (int r = 0; r < count; r++) {
        struct dot dot[20];
        int dots = log_calibration(dot, 20, run[r]->log);
        const char *label = count > 1 ? run[r]->name : "was right";
        struct curve *c = dots ? chart_curve(&chart, label, "calibration", dots) : NULL;
        if (!c) continue;
        memcpy(c->dot, dot, (size_t)dots * sizeof *dot);
        c->count = dots;
        c->color = count > 1 ? r % 8 : 1;
        c->look = CURVE_BOLD;
    }
    chart_draw(out, &chart);
}

/* ---- stages ---- */

static void bad_note(struct bytes *out, const char *words) { bytes_text(out, "<p class=\"note bad\">%s</p>\n", words); }

/* What was wrong with metrics.jsonl. */
static void metrics_notes(struct bytes *out, const struct metrics *m)
{
    char words[160];
    long long damaged = m->damaged, disordered = m->disordered;
    if (m->missing) bad_note(out, "There is no metrics.jsonl: no curves.");
    snprintf(words, sizeof words, "%lld line%s of metrics.jsonl could not be read; the curves have a gap there.",
             damaged, plural(damaged));
    if (damaged) bad_note(out, words);
    snprintf(words, sizeof words, "%lld line%s of metrics.jsonl repeat%s an earlier step and %s left out.", disordered,
             plural(disordered), disordered == 1 ? "s" : "", disordered == 1 ? "is" : "are");
    if (disordered) bad_note(out, words);
    if (m->cut) bad_note(out, "The last line of metrics.jsonl is incomplete and is left out.");
}

static void facts_line(struct bytes *out, const struct run_view *run)
{
    const struct metrics *m = &run->metrics;
    const struct series *seconds = metrics_find(m, "seconds"), *tokens = metrics_find(m, "tokens");
    char text[32];
    bytes_text(out, "<p class=facts><span class=\"state %s\">%s</span> %s step%s", strcmp(run->state, "done") == 0 ?
               "good" : strcmp(run->state, "failed") == 0 ? "bad" : "", run->state, m->records ?
               with_commas(text, (uint64_t)m->last) : "no", plural(m->last));
    if (tokens && tokens->count) bytes_text(out, " &middot; %s tokens", text_count(text, tokens->end));
    if (seconds && seconds->count) bytes_text(out, " &middot; %s in updates", text_duration(text, seconds->sum));
    bytes_text(out, " &middot; <code>%s</code></p>\n", run->place);
    metrics_notes(out, m);
    if (strcmp(run->state, "running") == 0 && *run->status_text)
        bytes_text(out, "<p class=about>%s</p>\n", run->status_text);
}

static void stage(struct bytes *out, struct run_view *const *run, int count, int number)
{
    bytes_text(out, "<section id=s%d><h2>%s <small>", number, count > 1 ? run[0]->program : run[0]->name);
    if (count > 1) bytes_text(out, "%d runs compared</small></h2>\n", count);
    else bytes_text(out, "%s</small></h2>\n", run[0]->stage->program);
    for (int i = 0; i < count; i++) facts_line(out, run[i]);
    bytes_text(out, "<div class=charts>\n");
    if (strcmp(run[0]->program, "rlhf") == 0) chart_frontier(out, run, count);
    if (strcmp(run[0]->program, "rm") == 0) chart_calibration(out, run, count);
    stage_charts(out, run, count);
    bytes_text(out, "</div>\n");
    html_settings(out, run, count);
    for (int i = 0; i < count; i++) {
        if (count > 1) bytes_text(out, "<h3>%s</h3>", run[i]->name);
        html_log(out, run[i]);
    }
    bytes_text(out, "</section>\n");
}

static void header(struct bytes *out, const struct page *page)
{
    char now[40];
    time_t seconds = (time_t)(nanoseconds_utc() / 1000000000);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &utc));
    bytes_text(out, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
               "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n"
               "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
               "img-src data:\">\n"
               "<link rel=icon href=\"data:,\">\n");
    if (page->refresh) bytes_text(out, "<meta http-equiv=refresh content=%d>\n", page->refresh);
    bytes_text(out, "<title>Report on %s</title>\n<style>%s</style></head><body>\n<header><h1>",
               page->run[page->count - 1]->name, report_style);
    for (int i = 0; i < page->count; i++) {
        if (i) bytes_text(out, "<span class=sep>%s</span>", page->compared ? "vs" : "&middot;");
        if (page->compared) bytes_text(out, "%s", page->run[i]->name);
        else bytes_text(out, "<a href=\"#s%d\">%s</a>", i, page->run[i]->name);
    }
    bytes_text(out, "</h1><p class=about>%s by ckpt " QUARTET_VERSION "%s</p></header>\n<main>\n", now,
               page->refresh ? ", rewritten while the run goes on" : "");
}

void page_write(struct bytes *out, const struct page *page)
{
    header(out, page);
    gains(out, page);
    signs(out, page);
    bytes_text(out, "<section><h2>Samples</h2><div class=samples>\n");
    for (int i = 0; i < page->count; i++) html_samples(out, page->run[i]);
    bytes_text(out, "</div></section>\n");
    if (page->compared) stage(out, page->run, page->count, 0);
    for (int i = 0; i < page->count && !page->compared; i++) stage(out, page->run + i, 1, i);
    if (*page->tree) {
        bytes_text(out, "<section><h2>Lineage</h2><pre class=tree>");
        html_text(out, page->tree, strlen(page->tree));
        bytes_text(out, "</pre></section>\n");
    }
    bytes_text(out, "</main></body></html>\n");
}
