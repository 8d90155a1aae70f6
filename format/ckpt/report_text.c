/* report_text.c - what a report takes over from a run folder as text: samples, settings, the log.  It may say anything,
 * so all of it goes through html_text. */
#define _GNU_SOURCE
#include "format/ckpt/report.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MOST = 4, SAMPLE_LENGTH = 1600, LOG_LINES = 150, LINE_LENGTH = 400 };

/* ---- escaping ---- */

/* Characters that change the order of what follows, or cannot be seen: marks, embeddings, isolates, separators, BOM. */
static bool is_invisible(const unsigned char *c, int length)
{
    if (length == 2) return (c[0] == 0xc2 && c[1] < 0xa0) || (c[0] == 0xd8 && c[1] == 0x9c);
    if (length != 3) return false;
    unsigned code = (c[0] & 15u) << 12 | (c[1] & 63u) << 6 | (c[2] & 63u);
    return (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

void html_text(struct bytes *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        const unsigned char *c = (const unsigned char *)text + i;
        int n = utf8_length(text + i, length - i);
        i += n ? (size_t)n : 1;
        if (*c == '&') bytes_text(out, "&amp;");
        else if (*c == '<') bytes_text(out, "&lt;");
        else if (*c == '>') bytes_text(out, "&gt;");
        else if (*c == '"') bytes_text(out, "&quot;");
        else if (*c == '\'') bytes_text(out, "&#39;");
        else if (n && !is_invisible(c, n) && (*c >= 0x20 || *c == '\n' || *c == '\t') && *c != 0x7f)
            bytes_add(out, c, (size_t)n);
        else if (*c != '\r')
            for (int k = 0; k < (n ? n : 1); k++) bytes_text(out, "\\x%02x", c[k]);
    }
}

char *html_copy(const char *text)
{
    struct bytes copy = {0};
    bytes_add(&copy, "", 0);
    html_text(&copy, text, strlen(text));
    return copy.data;
}

void html_number(struct bytes *out, double x)
{
    char text[32];
    if (!isfinite(x)) bytes_text(out, "-");
    else if (fabs(x) >= 10000) bytes_text(out, "%s", text_count(text, x));
    else bytes_text(out, "%.4g", x);
}

/* At most `most` bytes of it, ending with a whole character. */
static void html_cut(struct bytes *out, const char *text, size_t length, size_t most)
{
    size_t kept = length > most ? utf8_prefix(text, most) : length;
    if (kept == 0) kept = length > most ? most : length;
    html_text(out, text, kept);
    if (kept < length) bytes_text(out, "&hellip;");
}

/* ---- samples ---- */

/* Special tokens, <|...|>, stand back from the text. */
static void html_tokens(struct bytes *out, const char *text, size_t length)
{
    length = length > SAMPLE_LENGTH ? SAMPLE_LENGTH : length;
    while (length) {
        const char *open = memmem(text, length, "<|", 2);
        const char *close = open ? memmem(open, length - (size_t)(open - text), "|>", 2) : NULL;
        size_t before = close && close - open < 40 ? (size_t)(open - text) : length;
        html_cut(out, text, before, SAMPLE_LENGTH);
        if (before == length) return;
        bytes_text(out, "<i>");
        html_text(out, open, (size_t)(close + 2 - open));
        bytes_text(out, "</i>");
        length -= (size_t)(close + 2 - text);
        text = close + 2;
    }
}

static void sample_head(struct bytes *out, const struct run_view *run, long long step)
{
    bytes_text(out, "<div class=stage><h3>%s <small>%s, step %lld</small></h3>", run->name, run->stage->program, step);
}

/* samples.txt: "--- step N", then the text up to the next such line. */
static int text_samples(struct bytes *out, const struct run_view *run)
{
    static const char mark[] = "--- step ";
    long long newest = -1, step;
    int shown = 0;
    for (int pass = 0; pass < 2; pass++)
        for (const char *p = run->samples; (p = strstr(p, mark)); p++) {
            const char *text = strchr(p, '\n');
            if ((p != run->samples && p[-1] != '\n') || !text || sscanf(p + strlen(mark), "%lld", &step) != 1) continue;
            if (pass == 0) { newest = step; continue; }
            if (step != newest || shown == SAMPLES_MOST) continue;
            const char *end = strstr(text, "\n--- step ");
            size_t length = end ? (size_t)(end - text) : strlen(text);
            while (length && isspace((unsigned char)text[0])) { text++; length--; }
            while (length && isspace((unsigned char)text[length - 1])) length--;
            if (shown++ == 0) sample_head(out, run, step);
            bytes_text(out, "<blockquote>");
            html_tokens(out, text, length);
            bytes_text(out, "</blockquote>");
        }
    return shown;
}

static void html_member(struct bytes *out, const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    html_number(out, json_is_number(value) ? json_number_value(value) : NAN);
}

static void rollout(struct bytes *out, const json_t *row)
{
    const json_t *prompt = json_object_get(row, "prompt"), *response = json_object_get(row, "response");
    bytes_text(out, "<blockquote><b>");
    if (json_is_string(prompt)) html_cut(out, json_string_value(prompt), json_string_length(prompt), SAMPLE_LENGTH);
    bytes_text(out, "</b>\n");
    if (json_is_string(response)) html_tokens(out, json_string_value(response), json_string_length(response));
    bytes_text(out, "<small>reward ");
    html_member(out, row, "reward");
    bytes_text(out, " &middot; KL ");
    html_member(out, row, "kl");
    bytes_text(out, "%s</small></blockquote>", json_is_false(json_object_get(row, "stopped")) ? " &middot; cut" : "");
}

static int rollout_samples(struct bytes *out, const struct run_view *run)
{
    json_t *row[SAMPLES_MOST] = {NULL};
    long long newest = -1;
    int rows = 0;
    for (const char *p = run->samples; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        json_t *one = json_loadb(p, strcspn(p, "\n"), JSON_ALLOW_NUL, NULL);
        long long step = json_integer_value(json_object_get(one, "step"));
        if (json_is_object(one) && step != newest) {
            newest = step;
            while (rows) json_decref(row[--rows]);
        }
        if (json_is_object(one) && rows < SAMPLES_MOST) row[rows++] = one;
        else json_decref(one);
    }
    if (rows) sample_head(out, run, newest);
    for (int i = 0; i < rows; i++) {
        rollout(out, row[i]);
        json_decref(row[i]);
    }
    return rows;
}

void html_samples(struct bytes *out, const struct run_view *run)
{
    if (run->rollouts ? rollout_samples(out, run) : text_samples(out, run)) bytes_text(out, "</div>\n");
}

/* ---- settings ---- */

static const char *next_line(const char *p)
{
    p += strcspn(p, "\n");
    return p + (*p == '\n');
}

/* The lines "name = value" of run.conf. */
static json_t *read_settings(const char *conf)
{
    json_t *settings = json_object();
    for (const char *p = conf; *p; p = next_line(p)) {
        size_t end = strcspn(p, "\n"), equals = strcspn(p, "=\n");
        if (*p == '#' || p[equals] != '=' || equals < 2) continue;
        char *name = host_text("%.*s", (int)equals - 1, p);
        equals += 1 + (p[equals + 1] == ' ');
        json_object_set_new_nocheck(settings, name, json_stringn_nocheck(p + equals, end - equals));
        free(name);
    }
    return settings;
}

/* One column a run; rows whose values differ are marked. */
void html_settings(struct bytes *out, struct run_view *const *run, int count)
{
    json_t *all[REPORT_RUNS], *value;
    const char *name;
    if (*run[0]->conf == 0) return;
    for (int i = 0; i < count; i++) all[i] = read_settings(run[i]->conf);
    bytes_text(out, "<details><summary>Settings</summary><div class=wide><table class=%s>",
               count == 1 ? "settings" : "compare");
    if (count > 1) bytes_text(out, "<tr><th>");
    for (int i = 0; i < count && count > 1; i++) bytes_text(out, "<th>%s", run[i]->name);
    json_object_foreach(all[0], name, value) {
        bool differs = false;
        for (int i = 1; i < count; i++) differs |= !json_equal(value, json_object_get(all[i], name));
        bytes_text(out, "<tr%s><th>", differs ? " class=differs" : "");
        html_text(out, name, strlen(name));
        for (int i = 0; i < count; i++) {
            const json_t *own = json_object_get(all[i], name);
            bytes_text(out, "<td>");
            html_cut(out, own ? json_string_value(own) : "", json_string_length(own), LINE_LENGTH);
        }
    }
    bytes_text(out, "</table></div></details>\n");
    for (int i = 0; i < count; i++) json_decref(all[i]);
}

/* ---- log ---- */

/* The words of a log line behind its time, or NULL for a line that goes on with the one before. */
static const char *message(const char *line)
{
    static const char form[] = "dddd-dd-dd dd:dd:dd  ";
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? !isdigit((unsigned char)line[i]) : line[i] != form[i]) return NULL;
    return line + sizeof form - 1;
}

static bool starts(const char *text, const char *word) { return strncmp(text, word, strlen(word)) == 0; }

/* The table below the last "data:" or "prompts:": counts, under headings. */
static void html_counts(struct bytes *out, const char *log)
{
    const char *block = NULL;
    for (const char *p = log; *p; p = next_line(p)) {
        const char *words = message(p);
        if (words && (starts(words, "data:\n") || starts(words, "prompts:\n"))) block = next_line(p);
    }
    if (!block || message(block) || *block == 0) return;
    bytes_text(out, "<h4>Data</h4><div class=wide><table class=counts>");
    for (const char *p = block; *p && !message(p); p = next_line(p)) {
        size_t length = strcspn(p, "\n"), blank = strspn(p, " "), digits = strspn(p + blank, "0123456789");
        if (*p == ' ' && digits) {
            bytes_text(out, "<tr><td class=n>");
            html_text(out, p + blank, digits);
            bytes_text(out, "<td>");
            blank += digits;
            blank += strspn(p + blank, " ");
            html_cut(out, p + blank, length - blank, LINE_LENGTH);
        } else {
            bytes_text(out, "<tr><th colspan=2>");
            html_cut(out, p, length, LINE_LENGTH);
        }
    }
    bytes_text(out, "</table></div>\n");
}

void html_log(struct bytes *out, const struct run_view *run)
{
    int lines = 0;
    bool hidden = true;
    html_counts(out, run->log);
    for (const char *p = run->log; *p; p = next_line(p)) {
        const char *words = message(p);
        if (words && starts(words, "warning:")) {
            bytes_text(out, "<p class=\"note bad\">");
            html_cut(out, words, strcspn(words, "\n"), LINE_LENGTH);
            bytes_text(out, "</p>");
            if (++lines == 20) break;
        }
    }
    lines = 0;
    for (const char *p = run->log; *p && lines < LOG_LINES; p = next_line(p)) {
        const char *words = message(p);
        if (words) hidden = starts(words, "step ") || starts(words, "sample:");
        if (hidden) continue;
        if (lines++ == 0) bytes_text(out, "<details><summary>Log without progress lines</summary><pre>");
        html_cut(out, p, strcspn(p, "\n"), LINE_LENGTH);
        bytes_text(out, "\n");
    }
    if (lines) bytes_text(out, "</pre></details>\n");
}

int log_calibration(struct dot *dot, int most, const char *log)
{
    const char *table = NULL;
    int count = 0;
    for (const char *p = log; (p = strstr(p, "\n  confidence ")); p++) table = p + 1;
    for (const char *p = table ? next_line(table) : ""; *p && count < most; p = next_line(p)) {
        double predicted, right;
        if (sscanf(p, " %*[0-9.-] %*d %lf %lf", &predicted, &right) != 2) break;
        if (!(fabs(predicted) < 2 && fabs(right) < 2)) break;
        dot[count++] = (struct dot){predicted, right, false};
    }
    return count;
}
