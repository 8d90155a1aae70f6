/* tokenizer_regex.c - the expressions of tokenizer.json, written for the engine Oniguruma, in the words of PCRE2.
 *
 * Some texts are valid in both and mean different things: {1,3}+ (there: that, repeated; here: without going back),
 * [a[bc]] and [a&&[^b]] (there: union and intersection), \h.  Such parts are translated.  What is neither known to be the
 * same nor translated (\w, [:alpha:]) is refused, never compiled in the hope that it is. */
#include "common/text/tokenizer_parts.h"

#include <stdlib.h>

enum { GROUPS = 50 };

struct walk { const char *at; struct bytes *out; struct error *error; };

static int refuse(const struct walk *w, const char *what)
{
    char shown[60];
    return fail(w->error, EXIT_DATA, "its pattern has %s at \"%s\", which is not known here", what,
                text_escape(shown, sizeof shown, w->at, strlen(w->at)));
}

/* One escape, at the backslash; inside a class some mean something else. */
static int escape(struct walk *w, struct bytes *out, bool inside)
{
    char c = w->at[1];
    const char *end = w->at + 2;
    if (c == 'p' || c == 'P' || c == 'x') {
        size_t n = *end == '{' ? strcspn(end, "}") : strspn(end, "0123456789abcdefABCDEF");
        bool closed = *end == '{' && end[n] == '}' && strchr(end, '^') != end + 1;
        if (!closed && (c != 'x' || n != 2)) return refuse(w, "an escape");
        end += n + (*end == '{');
        bytes_add(out, w->at, (size_t)(end - w->at));
    } else if (c == 'u') {
        if (strspn(end, "0123456789abcdefABCDEF") < 4) return refuse(w, "an escape");
        bytes_text(out, "\\x{%.4s}", end);
        end += 4;
    } else if (c == 'h') bytes_text(out, inside ? "0-9a-fA-F" : "[0-9a-fA-F]");
    else if (c == 'v') bytes_text(out, "\\x0B");
    else if ((c && strchr("sSdDnrtfae", c)) || (c > ' ' && c < 127 && !(c >= '0' && c <= '9') &&
             !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z')) || (c && strchr("zA", c) && !inside))
        bytes_add(out, w->at, 2);
    else return refuse(w, "an escape");
    w->at = end;
    return 0;
}

/* A class, behind its bracket, up to behind the closing one: its items, with those of classes within it, in *set, which
 * begins with ^ when it is negated.  Segments with && between: each but the last goes through `and`. */
static int class_items(struct walk *w, struct bytes *set, struct bytes *and, int depth)
{
    size_t begin = set->size;
    bool alone = false;                                     /* the segment is one negated class: nothing may follow */
    if (*w->at == '^') { bytes_add(set, "^", 1); w->at++; }
    if (*w->at == ']' || depth > 8) return refuse(w, "a class");
    for (size_t first = set->size; *w->at != ']';) {
        if (!*w->at || (alone && strncmp(w->at, "&&", 2) != 0)) return refuse(w, "a class");
        if (strncmp(w->at, "[:", 2) == 0) return refuse(w, "a class");
        if (*w->at == '[') {
            struct bytes inner = {0}, inner_and = {0};
            w->at++;
            int status = class_items(w, &inner, &inner_and, depth + 1);
            bool negated = inner.size && inner.data[0] == '^';
            bool range = set->size > first && set->data[set->size - 1] == '-';
            if (status == 0 && (inner_and.size || range || (negated && (set->size > first || first > begin))))
                status = refuse(w, "a class within a class");
            if (status == 0) bytes_add(set, inner.data, inner.size);
            alone = negated;
            bytes_free(&inner);
            bytes_free(&inner_and);
            if (status != 0) return -1;
        } else if (strncmp(w->at, "&&", 2) == 0) {
            if (depth > 0 || first > begin || set->size == first) return refuse(w, "an intersection of classes");
            bytes_text(and, "(?=[%.*s])", (int)(set->size - begin), set->data + begin);
            set->size = begin;
            first = begin;
            alone = false;
            w->at += 2;
        } else if (*w->at == '\\') {
            if (escape(w, set, true) != 0) return -1;
        } else if (strchr(STAGE_NEXT STAGE_SPELLED, *w->at)) return refuse(w, "a control character");
        else bytes_add(set, w->at++, 1);
    }
    w->at++;
    return 0;
}

static int class(struct walk *w)
{
    struct bytes set = {0}, and = {0};
    bytes_add(&set, "[", 1);
    w->at++;
    int status = class_items(w, &set, &and, 0);
    if (status == 0 && and.size) bytes_text(w->out, "(?:%s%s])", and.data, set.data);
    else if (status == 0) bytes_text(w->out, "%s]", set.data);
    bytes_free(&set);
    bytes_free(&and);
    return status;
}

/* A quantifier of the atom that begins at byte `atom` of the output, with what may follow it. */
static int quantifier(struct walk *w, size_t atom)
{
    if (atom == SIZE_MAX) return refuse(w, "a repetition of nothing");
    if (*w->at != '{') {
        size_t n = w->at[1] == '+' || w->at[1] == '?' ? 2 : 1;
        bytes_add(w->out, w->at, n);
        w->at += n;
        return 0;
    }
    size_t low = strspn(w->at + 1, "0123456789"), comma = w->at[1 + low] == ',';
    size_t high = comma ? strspn(w->at + 2 + low, "0123456789") : 0, n = 1 + low + comma + high;
    if (low == 0 || w->at[n] != '}' || (!comma && w->at[n + 1] == '?')) return refuse(w, "braces");
    n++;
    if (w->at[n] == '?') n++;
    bytes_add(w->out, w->at, n);
    w->at += n;
    if (*w->at != '+' && *w->at != '*') return 0;
    char *whole = host_text("(?:%.*s)%c", (int)(w->out->size - atom), w->out->data + atom, *w->at);
    w->out->size = atom;
    bytes_text(w->out, "%s", whole);
    free(whole);
    w->at++;
    return 0;
}

static int group(struct walk *w)
{
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"};
    size_t n = 1;
    if (w->at[1] == '?') {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (strncmp(w->at, kinds[i], strlen(kinds[i])) == 0) n = strlen(kinds[i]);
        if (n == 1) return refuse(w, "a group");
    }
    bytes_add(w->out, w->at, n);
    w->at += n;
    return 0;
}

int regex_translate(struct bytes *out, const char *regex, struct error *error)
{
    struct walk w = {regex, out, error};
    size_t atom = SIZE_MAX, open[GROUPS], depth = 0;
    while (*w.at) {
        size_t start = out->size;
        int status = 0, n = utf8_length(w.at, strlen(w.at));
        bool setting = strncmp(w.at, "(?i)", 4) == 0;
        if (strchr("*+?{", *w.at)) {
            status = quantifier(&w, atom);
            atom = SIZE_MAX;
        } else if (*w.at == '(') {
            if (depth == GROUPS) return refuse(&w, "too many groups");
            if (!setting) open[depth++] = start;
            status = group(&w);
            atom = SIZE_MAX;
        } else if (*w.at == ')' || *w.at == '|') {
            if (*w.at == ')' && depth == 0) return refuse(&w, "a bracket");
            atom = *w.at == ')' ? open[--depth] : SIZE_MAX;
            bytes_add(out, w.at++, 1);
        } else {
            atom = start;
            if (*w.at == '\\') status = escape(&w, out, false);
            else if (*w.at == '[') status = class(&w);
            else if (*w.at == '.') { bytes_text(out, "[^\\n]"); w.at++; }
            else if (strchr(STAGE_NEXT STAGE_SPELLED, *w.at)) status = refuse(&w, "a control character");
            else if (*w.at == '^' || *w.at == '$' || n == 0) status = refuse(&w, "a border");
            else { bytes_add(out, w.at, (size_t)n); w.at += n; }
        }
        if (status != 0) return -1;
    }
    return 0;
}
