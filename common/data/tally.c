/* tally.c - a handful of lines, found by walking them. */
#include "common/data/tally.h"

#include <string.h>

void tally_add(struct tally *t, const char *what, uint64_t n)
{
    int i = 0;
    if (n == 0) return;
    while (i < t->count && strcmp(t->line[i].what, what) != 0) i++;
    if (i == TALLY_LINES) die("no line left in a tally for '%s'", what);
    if (i == t->count) {
        t->line[i].what = what;
        t->count++;
    }
    t->line[i].n += n;
}

uint64_t tally_get(const struct tally *t, const char *what)
{
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->line[i].what, what) == 0) return t->line[i].n;
    return 0;
}

void tally_print(struct bytes *out, const struct tally *t)
{
    for (int i = 0; i < t->count; i++)
        bytes_text(out, "%8llu  %s\n", (unsigned long long)t->line[i].n, t->line[i].what);
}

void tally_report(struct bytes *out, const struct tally *read, const struct tally *dropped,
                  const struct tally *changed)
{
    tally_print(out, read);
    if (dropped->count > 0) bytes_text(out, "dropped, and why:\n");
    tally_print(out, dropped);
    if (changed->count > 0) bytes_text(out, "changed:\n");
    tally_print(out, changed);
    bytes_text(out, "kept:\n");
}
