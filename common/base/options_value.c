/* options_value.c - one value of the options table, from a word and back.  What is written is what would be read:
 * run.conf, the checkpoint's copy and the check on resume use the same words. */
#include "common/base/options.h"

#include <errno.h>
#include <math.h>

/* Every string and list made here stays reachable, and is freed never: options point to them. */
static struct { void **item; size_t count; } kept;

static void *keep(void *memory)
{
    kept.item = host_append(kept.item, kept.count, 1, sizeof *kept.item);
    return kept.item[kept.count++] = memory;
}

/* ---- words to values ---- */

struct unit { const char *name; double factor; };
static const struct unit int_units[] = {{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9},
                                       {"B", 1e9}, {"T", 1e12}, {NULL, 0}};
static const struct unit size_units[] = {
    {"T", 1099511627776.0}, {"G", 1073741824}, {"M", 1048576}, {"K", 1024}, {"TiB", 1099511627776.0},
    {"GiB", 1073741824},    {"MiB", 1048576},  {"KiB", 1024},  {"B", 1},    {NULL, 0}};
static const struct unit time_units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {NULL, 0}};

/* factor of a unit's name, 1 for none, 0 for an unknown one */
static double unit_factor(const struct unit *units, const char *name)
{
    if (!*name) return 1;
    for (const struct unit *u = units; u->name; u++)
        if (strcmp(u->name, name) == 0) return u->factor;
    return 0;
}

/* A decimal number at text; *rest is what follows.  False for none, for hexadecimal, and for what is not finite. */
static bool decimal(double *value, const char *text, const char **rest)
{
    const char *digits = text + strspn(text, "+-");
    if (digits - text > 1 || !*digits || !strchr("0123456789.", *digits) || strncmp(digits, "0x", 2) == 0 ||
        strncmp(digits, "0X", 2) == 0)
        return false;
    char *end;
    *value = strtod(text, &end);
    *rest = end;
    return end != text && isfinite(*value);
}

/* Whole numbers are read as such, so none is rounded; fractions and exponents must give a whole number. */
static bool whole_number(int64_t *value, const char *text, const struct unit *units)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    double factor;
    if (end != text && errno == 0 && text[0] != ' ' && (factor = unit_factor(units, end)) > 0)
        return !__builtin_mul_overflow((int64_t)n, (int64_t)factor, value);
    double x;
    const char *rest;
    if (!decimal(&x, text, &rest) || !((factor = unit_factor(units, rest)) > 0)) return false;
    x *= factor;
    if (fabs(x) > 9007199254740992.0 || x != floor(x)) return false;
    *value = (int64_t)x;
    return true;
}

/* 1:30 (minutes and seconds), 1:30:00; x is what stands before the first colon, at which rest points. */
static bool clock_time(double *value, double x, const char *rest)
{
    double sum = 0;
    for (int part = 0; part < 3; part++) {
        if (x < 0 || (part > 0 && x >= 60)) return false;
        sum = 60 * sum + x;
        if (!*rest) { *value = sum; return true; }
        if (*rest != ':' || !decimal(&x, rest + 1, &rest)) return false;
    }
    return false;
}

/* 90, 30s, 1.5h, 3h50m (each unit smaller than the one before), or a clock's time. */
static bool duration(double *value, const char *text)
{
    const char *rest;
    double x, sum = 0, smallest = INFINITY;
    if (!decimal(&x, text, &rest)) return false;
    if (*rest == ':') return clock_time(value, x, rest);
    for (;;) {
        char unit[2] = {*rest, 0};
        double factor = unit_factor(time_units, unit);
        if (!(factor > 0) || factor >= smallest) return false;
        sum += x * factor;
        smallest = factor;
        if (!*rest || !*++rest) break;
        if (*rest < '0' || *rest > '9' || !decimal(&x, rest, &rest)) return false;
    }
    *value = sum;
    return true;
}

static const char *const expected[] = {
    [OPTION_FLAG] = "true or false", [OPTION_INT] = "a whole number (expected e.g. 12, 400k or 200M)",
    [OPTION_SIZE] = "a size (expected e.g. 65536, 64K or 2M)", [OPTION_REAL] = "a number (expected e.g. 1e-4)",
    [OPTION_SECONDS] = "a time (expected e.g. 90, 30s, 15m, 2h or 1:30:00)"};

static int check_range(const struct option *o, double x, const char *word, struct error *error)
{
    bool or_zero = o->flags & OPTION_OR_ZERO;
    if (!(o->min < o->max) || (x >= o->min && x <= o->max) || (or_zero && x == 0)) return 0;
    char low[32], high[32];
    snprintf(low, sizeof low, "%s%.10g", or_zero ? "0, or " : "", o->min);
    snprintf(high, sizeof high, "%.10g", o->max);
    if (o->max >= 9e18)
        return fail(error, EXIT_USAGE, "--%s: %s is too small (expected %s or more)", o->name, word, low);
    return fail(error, EXIT_USAGE, "--%s: %s is out of range (expected %s to %s)", o->name, word, low, high);
}

void option_list_add(struct option_list *list, const char *word)
{
    if ((list->count & (list->count - 1)) == 0) {            /* full at every power of two */
        char **item = keep(host_alloc(list->count ? 2 * (size_t)list->count : 1, sizeof *item));
        if (list->count) memcpy(item, list->item, (size_t)list->count * sizeof *item);
        list->item = item;
    }
    list->item[list->count++] = keep(host_text("%s", word));
}

bool option_auto(const struct option *o)
{
    if (!(o->flags & OPTION_AUTO)) return false;
    return o->type == OPTION_REAL ? *(double *)o->value < 0 : *(int64_t *)o->value < 0;
}

int option_set(const struct option *o, const char *word, struct error *error)
{
    int64_t whole = 0;
    double real = 0;
    bool ok = false;
    int n;
    const char *rest = "";
    if (o->flags & OPTION_AUTO && strcmp(word, "auto") == 0) {
        if (o->type == OPTION_REAL) *(double *)o->value = -1;
        else *(int64_t *)o->value = -1;
        return 0;
    }
    switch (o->type) {
    case OPTION_TEXT: *(const char **)o->value = keep(host_text("%s", word)); return 0;
    case OPTION_LIST: option_list_add(o->value, word); return 0;
    case OPTION_CHOICE:
        if ((n = word_number(o->choices, word)) < 0)
            return fail(error, EXIT_USAGE, "--%s: '%s' is none of %s", o->name, text_shown(word).text, o->choices);
        *(int *)o->value = n;
        return 0;
    case OPTION_FLAG:
        if ((n = word_number("true|false|yes|no|on|off|1|0", word)) < 0) break;
        *(bool *)o->value = n % 2 == 0;
        return 0;
    case OPTION_INT: ok = whole_number(&whole, word, int_units); real = (double)whole; break;
    case OPTION_SIZE: ok = whole_number(&whole, word, size_units); real = (double)whole; break;
    case OPTION_REAL: ok = decimal(&real, word, &rest) && !*rest; break;
    case OPTION_SECONDS: ok = duration(&real, word); break;
    }
    if (!ok)
        return fail(error, EXIT_USAGE, "--%s: '%s' is not %s", o->name, text_shown(word).text, expected[o->type]);
    if (check_range(o, real, word, error)) return -1;
    if (o->type == OPTION_INT || o->type == OPTION_SIZE) *(int64_t *)o->value = whole;
    else *(double *)o->value = real;
    return 0;
}

void option_clear(const struct option *o)
{
    static const size_t bytes[] = {
        [OPTION_FLAG] = sizeof(bool), [OPTION_INT] = sizeof(int64_t), [OPTION_SIZE] = sizeof(int64_t),
        [OPTION_REAL] = sizeof(double), [OPTION_SECONDS] = sizeof(double), [OPTION_TEXT] = sizeof(char *),
        [OPTION_CHOICE] = sizeof(int), [OPTION_LIST] = sizeof(struct option_list)};
    memset(o->value, 0, bytes[o->type]);
}

void option_reset(const struct option *o)
{
    struct error error;
    option_clear(o);
    if (o->standard && option_set(o, o->standard, &error)) die("default of --%s: %s", o->name, error.text);
}

/* ---- values to words ---- */

static void add_whole(struct bytes *out, int64_t n, const char *units, int64_t base)
{
    char unit[2] = "";
    for (const char *u = units;
         *u && n && n % base == 0 && (n >= 10 * base || n <= -10 * base || *unit || base == 1024); u++) {
        n /= base;
        unit[0] = *u;
    }
    bytes_text(out, "%lld%s", (long long)n, unit);
}

static void add_real(struct bytes *out, double x, bool seconds)
{
    char text[32];
    if (seconds && x >= 3600 && fmod(x, 3600) == 0) bytes_text(out, "%.0fh", x / 3600);
    else if (seconds && x >= 60 && fmod(x, 60) == 0) bytes_text(out, "%.0fm", x / 60);
    else bytes_text(out, "%s", text_real(text, x, 1));
}

/* The value as a user would write it, appended to out (lists: shell-quoted words). */
static void add_value(struct bytes *out, const struct option *o)
{
    if (option_auto(o)) {
        bytes_text(out, "auto");
        return;
    }
    size_t length = 0;
    const char *word = o->type == OPTION_CHOICE ? word_at(o->choices, *(int *)o->value, &length) : NULL;
    switch (o->type) {
    case OPTION_FLAG: bytes_text(out, *(bool *)o->value ? "true" : "false"); break;
    case OPTION_INT: add_whole(out, *(int64_t *)o->value, "kMGT", 1000); break;
    case OPTION_SIZE: add_whole(out, *(int64_t *)o->value, "KMGT", 1024); break;
    case OPTION_REAL: case OPTION_SECONDS: add_real(out, *(double *)o->value, o->type == OPTION_SECONDS); break;
    case OPTION_CHOICE: bytes_add(out, word, length); break;
    case OPTION_TEXT: if (*(const char **)o->value) bytes_quoted(out, *(const char **)o->value); break;
    case OPTION_LIST: {
        const struct option_list *list = o->value;
        for (int i = 0; i < list->count; i++) {
            if (i) bytes_add(out, " ", 1);
            bytes_quoted(out, list->item[i]);
        }
        break;
    }
    }
}

bool option_unset(const struct option *o) { return o->type == OPTION_TEXT && !*(const char **)o->value; }

void options_print(struct bytes *out, const struct option *table)
{
    const char *group = NULL;
    for (const struct option *o = table; o->name; o++) {
        if (o->group) group = o->group;
        if (o->flags & OPTION_NOT_SAVED) continue;
        if (group) bytes_text(out, "%s# %s\n", out->size ? "\n" : "", group);
        group = NULL;
        bytes_text(out, option_unset(o) ? "# %s is not set" : "%s = ", o->name);
        add_value(out, o);
        bytes_add(out, "\n", 1);
    }
}

char *option_text(const struct option *o)
{
    struct bytes b = {0};
    bytes_add(&b, "", 0);
    add_value(&b, o);
    if (utf8_prefix(b.data, b.size) == b.size) return b.data;
    char *escaped = host_alloc(4 * b.size + 8, 1);
    text_escape(escaped, 4 * b.size + 8, b.data, b.size);
    bytes_free(&b);
    return escaped;
}

char *option_default_text(const struct option *o)
{
    union { bool flag; int64_t whole; double real; int choice; const char *text; struct option_list list; } value;
    struct option copy = *o;
    copy.value = &value;
    option_reset(&copy);
    return option_text(&copy);
}

bool option_changed(const struct option *table, const char *name)
{
    const struct option *o = table;
    while (o->name && strcmp(o->name, name) != 0) o++;
    if (!o->name) return false;
    scoped char *standard = option_default_text(o), *now = option_text(o);
    return strcmp(standard, now) != 0;
}

int option_needs(const struct option *table, const char *name, const char *other, struct error *error)
{
    if (!option_changed(table, name) || option_changed(table, other)) return 0;
    return fail(error, EXIT_USAGE, "--%s means nothing without --%s: give both, or neither", name, other);
}

int option_excludes(const struct option *table, const char *name, const char *others, const char *why,
                    struct error *error)
{
    for (const struct option *o = table; o->name && option_changed(table, name); o++)
        if (word_number(others, o->name) >= 0 && option_changed(table, o->name))
            return fail(error, EXIT_USAGE, "--%s cannot be given with --%s, %s", o->name, name, why);
    return 0;
}
