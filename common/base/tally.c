/* tally.c - a handful of lines, found by walking them. */
#include "common/base/tally.h"

#include <inttypes.h>

enum { LISTED = 20 };

void tally_add(struct tally *t, const char *what, uint64_t n)
{
    char text[sizeof t->line[0].what];
    int i = 0;
    if (n == 0) return;
    snprintf(text, sizeof text, "%s", what);
    while (i < t->count && strcmp(t->line[i].what, text) != 0) i++;
    if (i == TALLY_LINES) snprintf(t->line[--i].what, sizeof text, "others");
    if (i == t->count) memcpy(t->line[t->count++].what, text, sizeof text);
    t->line[i].n += n;
}

uint64_t tally_get(const struct tally *t, const char *what)
{
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->line[i].what, what) == 0) return t->line[i].n;
    return 0;
}

static void tally_print(struct bytes *out, const char *heading, const struct tally *t)
{
    if (t->count > 0) bytes_text(out, "%s", heading);
    for (int i = 0; i < t->count; i++)
        bytes_text(out, "%8" PRIu64 "  %s\n", t->line[i].n, text_shown(t->line[i].what).text);
}

void ledger_free(struct ledger *l)
{
    bytes_free(&l->bad_rows);
    *l = (struct ledger){0};
}

int ledger_skip(struct ledger *l, struct error *error)
{
    if (!l || l->skip == 0 || error->exit_code != EXIT_DATA) return -1;
    if (++l->bad <= LISTED) bytes_text(&l->bad_rows, "          %s\n", error->text);
    if (l->skip < 1 || (double)l->bad <= l->skip) return 0;
    return fail_in(error, "more than --skip-bad-rows %.0f rows are bad", l->skip);
}

int ledger_check(const struct ledger *l, struct error *error)
{
    if (l->skip >= 1 || (double)l->bad <= l->skip * (double)l->rows) return 0;
    return fail(error, EXIT_DATA, "%" PRIu64 " of %" PRIu64 " rows are bad, more than --skip-bad-rows %g "
                "allows:\n%.1500s", l->bad, l->rows, l->skip, l->bad_rows.data);
}

void ledger_skipped(struct bytes *out, const struct ledger *l)
{
    if (l->bad > 0) bytes_text(out, "skipped, because not understood:\n%8" PRIu64 "  bad rows:\n%s", l->bad,
                               l->bad_rows.data);
    if (l->bad > LISTED) bytes_text(out, "          ... and %" PRIu64 " more\n", l->bad - LISTED);
}

static void print_counts(struct bytes *out, const struct ledger *l)
{
    tally_print(out, "", &l->read);
    ledger_skipped(out, l);
    tally_print(out, "dropped, and why:\n", &l->dropped);
    tally_print(out, "changed:\n", &l->changed);
    tally_print(out, "keys that are not used:\n", &l->unused);
}

void ledger_report(struct bytes *out, const struct ledger *l)
{
    print_counts(out, l);
    bytes_text(out, "kept:\n");
}

int ledger_nothing(const struct ledger *l, const char *what, bool held_out, struct error *error)
{
    scoped_bytes struct bytes report = {0};
    print_counts(&report, l);
    const char *gap = report.size ? "\n" : " ";
    if (report.size == 0) bytes_text(&report, "there are no rows\n");
    fail(error, EXIT_DATA, "%s%s:%s%.*s", what, held_out ? ": --validation holds out all" : "", gap,
         int_min(1700, (int)report.size - 1), report.data);
    return -1;
}
