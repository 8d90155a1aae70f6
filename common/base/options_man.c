/* options_man.c - the table of options for docs/man/build.sh: as a part of a manual page, and as words to complete.
 * Both are hidden options, --help-man and --help-words, since only the program knows its table. */
#include "common/base/options.h"

#include <string.h>

/* Text for roff: the dash that can be typed, no escapes, and no line or word that is taken for a request. */
static void roff(const char *text, size_t length)
{
    for (const char *p = text; p < text + length; p++) {
        bool begins = p == text || p[-1] == ' ';
        if (begins && (*p == '.' || *p == '\'')) printf("\\&");
        if (*p == '-') printf("\\-");
        else if (*p == '\\') printf("\\e");
        else putchar(*p);
    }
}

static void roff_all(const char *text) { roff(text, strlen(text)); }

static void row(const struct option *o)
{
    static const char *const sort[] = {"", "N", "SIZE", "X", "TIME", "TEXT", "", "A B .."};
    printf(".TP\n\\fB\\-\\-%s", o->type == OPTION_FLAG ? "[no\\-]" : "");
    roff_all(o->name);
    printf("\\fR%s", o->type == OPTION_FLAG ? "" : " \\fI");
    roff_all(o->type == OPTION_CHOICE ? o->choices : sort[o->type]);
    printf("%s\n", o->type == OPTION_FLAG ? "" : "\\fR");
    roff_all(o->help ? o->help : "");
    if (o->flags & OPTION_REQUIRED) printf(" Required.");
    else if (o->standard && o->type != OPTION_FLAG) {
        printf(" Default: ");
        roff_all(*o->standard ? o->standard : "''");
        putchar('.');
    }
    putchar('\n');
}

void options_man(const struct option *table, const char *usage, const char *about)
{
    printf(".SH SYNOPSIS\n");
    for (const char *line = usage; *line; line += strspn(line, " \n")) {
        size_t name = strcspn(line, " "), length = strcspn(line, "\n");
        printf("%s.B quartet\\-%.*s\n", line == usage ? "" : ".br\n", (int)name, line);
        roff(line + name + 1, length - name - 1);
        putchar('\n');
        line += length;
    }
    printf(".SH DESCRIPTION\n");
    roff_all(about);
    printf("\n.SH OPTIONS\n");
    for (const struct option *o = table; o->name; o++) {
        if (o->group) printf(".SS %s\n", o->group);
        row(o);
    }
}

/* A line for each: --name and what may follow: "flag", "number", "file" or the choices, "a|b|c". */
void options_words(const struct option *table)
{
    for (const struct option *o = table; o->name; o++)
        printf("--%s %s\n", o->name, o->type == OPTION_CHOICE ? o->choices : o->type == OPTION_FLAG ? "flag" :
               o->type == OPTION_TEXT || o->type == OPTION_LIST ? "file" : "number");
}
