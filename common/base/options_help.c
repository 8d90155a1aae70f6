/* options_help.c - the table of options for people: --help, and, by the hidden options --help-man and --help-words,
 * what docs/man/build.sh makes manual pages and completion of. */
#include "common/base/options.h"

#include <sys/ioctl.h>
#include <unistd.h>

static const char *value_name(const struct option *o)
{
    static const char *const name[] = {"", "N", "SIZE", "X", "TIME", "TEXT", "", "A B .."};
    return o->type == OPTION_CHOICE ? o->choices : name[o->type];
}

/* ---- --help ---- */

static int terminal_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return 80;
    return size.ws_col;
}

/* Words of text from column `column` on (the cursor stands there), broken before `width`, continued at `indent`. */
static void print_wrapped(const char *text, int column, int indent, int width)
{
    bool first = true;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (!first && column + 1 + n >= width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            putchar(' ');
            column++;
        }
        printf("%.*s", n, text);
        first = false;
        column += n;
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_row(const struct option *o, int width)
{
    enum { INDENT = 26 };
    scoped_bytes struct bytes left = {0}, right = {0};
    bytes_text(&left, o->type == OPTION_FLAG ? "  --[no-]%s%s" : "  --%s %s", o->name, value_name(o));
    bytes_text(&right, "%s", o->help ? o->help : "");
    if (o->flags & OPTION_REQUIRED) bytes_text(&right, " (required)");
    else if (o->standard && o->type != OPTION_FLAG)
        bytes_text(&right, " (default %s)", *o->standard ? o->standard : "''");
    else if (o->standard && strcmp(o->standard, "true") == 0) bytes_text(&right, " (default: on)");
    if (left.size + 2 > INDENT) printf("%s\n%*s", left.data, INDENT, "");
    else printf("%-*s", INDENT, left.data);
    print_wrapped(right.data, INDENT, INDENT, width);
}

void options_help(const struct option *table, const char *usage, const char *about, bool all)
{
    int width = terminal_width(), hidden = 0, marked = 0;
    bool config = false;
    const char *group = NULL;
    for (const struct option *o = table; o->name; o++) marked += (o->flags & OPTION_COMMON) != 0;
    for (const char *line = usage, *label = "usage: "; *line; label = "       ", line += strspn(line, "\n ")) {
        scoped char *text = host_text("%s%.*s", program_prefix(), (int)strcspn(line, "\n"), line);
        printf("%s", label);
        print_wrapped(text, 7, 7, width);
        line += strcspn(line, "\n");
    }
    putchar('\n');
    print_wrapped(about, 0, 0, width);
    for (const struct option *o = table; o->name; o++) {
        if (o->group) group = o->group;
        if (!all && marked && !(o->flags & (OPTION_COMMON | OPTION_REQUIRED))) {
            hidden++;
            continue;
        }
        if (group) printf("\n%s:\n", group);
        group = NULL;
        print_row(o, width);
        config |= strcmp(o->name, "config") == 0;
    }
    if (hidden) printf("\n  --help-all              the other %d options too\n", hidden);
    printf("%s  --help, --version       this text; the version\n\n", hidden ? "" : "\n");
    print_wrapped("Numbers take k, M, B (thousands; sizes: K, M, G of 1024), times s, m, h, d. Names may be cut short "
                  "where only one matches.", 0, 0, width);
    if (config) print_wrapped("Options marked (required) may also be given in the --config file.", 0, 0, width);
}

/* ---- manual page and completion ---- */

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

static void man_row(const struct option *o)
{
    printf(".TP\n\\fB\\-\\-%s", o->type == OPTION_FLAG ? "[no\\-]" : "");
    roff_all(o->name);
    printf("\\fR%s", o->type == OPTION_FLAG ? "" : " \\fI");
    roff_all(value_name(o));
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
        man_row(o);
    }
}

/* A line for each: --name and what may follow: "flag", "number", "file" or the choices, "a|b|c". */
void options_words(const struct option *table)
{
    for (const struct option *o = table; o->name; o++)
        printf("--%s %s\n", o->name, o->type == OPTION_CHOICE ? o->choices : o->type == OPTION_FLAG ? "flag" :
               o->type == OPTION_TEXT || o->type == OPTION_LIST ? "file" : "number");
}
