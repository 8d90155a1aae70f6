/* chat_parse.c - one pass over the marks {{ }}, {% %} and {# #}, with a stack of what is open. */
#include "common/interop/chat_jinja.h"

#include <string.h>

enum { DEEP = 100 };
static const char *const blocks[] = {"if", "for", "macro", "set", "call", "filter", "block", "with", "autoescape"};
enum { BLOCKS = sizeof blocks / sizeof *blocks };

struct parse { const char *text, *at; int open[DEEP], depth; struct error *error; };

static int wrong(const struct parse *p, const char *at, const char *what)
{
    int line = 1;
    for (const char *c = p->text; c < at; c++) line += *c == '\n';
    return fail(p->error, EXIT_DATA, "line %d of it: %s", line, what);
}

/* From behind the mark that opens to the one that closes: brackets and quotes in between are whole. */
static int find_end(struct parse *p, char last)
{
    char stack[DEEP];
    const char *start = p->at;
    int depth = 0;
    for (; *p->at; p->at++) {
        char c = *p->at;
        if (depth == 0 && c == last && p->at[1] == '}') return 0;
        if (c == '\'' || c == '"') {
            const char *from = p->at++;
            while (*p->at && *p->at != c) p->at += p->at[0] == '\\' && p->at[1] ? 2 : 1;
            if (!*p->at) return wrong(p, from, "a quote does not end");
        } else if (strchr("([{", c)) {
            if (depth == DEEP) return wrong(p, p->at, "too many brackets");
            stack[depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (strchr(")]}", c) && (depth == 0 || stack[--depth] != c)) {
            return wrong(p, p->at, "a bracket closes that was not opened");
        }
    }
    return wrong(p, start, last == '%' ? "a {% does not end" : "a {{ does not end");
}

/* A sign of assignment outside brackets and quotes: {% set x = 1 %} needs no {% endset %}. */
static bool assigns(const char *from, const char *to)
{
    int depth = 0;
    for (; from < to; from++) {
        if (strchr("([{", *from)) depth++;
        if (strchr(")]}", *from)) depth--;
        if (*from == '\'' || *from == '"') return false;            /* a name comes first */
        if (depth == 0 && *from == '=') return true;
    }
    return false;
}

static int block_of(const char *word, size_t n)
{
    int b = 0;
    while (b < BLOCKS && (strlen(blocks[b]) != n || strncmp(blocks[b], word, n) != 0)) b++;
    return b;
}

/* A tag between `from` and `to`: opens a block, closes the last one, or stands in it. */
static int take_tag(struct parse *p, const char *from, const char *to)
{
    from += strspn(from, "-+ \t\r\n");
    size_t n = strspn(from, "abcdefghijklmnopqrstuvwxyz_");
    bool ends = n > 3 && strncmp(from, "end", 3) == 0;
    int b = ends ? block_of(from + 3, n - 3) : block_of(from, n);
    const char *open = p->depth ? blocks[p->open[p->depth - 1]] : "";
    bool within = strcmp(open, "if") == 0 || strcmp(open, "for") == 0;
    if (n == 0) return wrong(p, from, "a {% %} without a word");
    if (!ends && ((n == 4 && strncmp(from, "else", 4) == 0) || (n == 4 && strncmp(from, "elif", 4) == 0)) && !within)
        return wrong(p, from, "an else or elif outside an if");
    if (b == BLOCKS || (!ends && strcmp(blocks[b], "set") == 0 && assigns(from, to))) return 0;
    if (!ends) {
        if (p->depth == DEEP) return wrong(p, from, "too many blocks");
        p->open[p->depth++] = b;
        return 0;
    }
    if (p->depth == 0 || p->open[p->depth - 1] != b) return wrong(p, from, "a block ends that is not the last one begun");
    p->depth--;
    return 0;
}

static bool is_raw(const char *tag)
{
    tag += strspn(tag, "-+ \t\r\n");
    return strncmp(tag, "raw", 3) == 0 && strchr(" -+%", tag[3]);
}

int chat_parses(const char *text, struct error *error)
{
    struct parse p = {.text = text, .at = text, .error = error};
    while ((p.at = strchr(p.at, '{'))) {
        char kind = p.at[1];
        const char *mark = p.at, *end;
        if (kind == '#' || (kind == '%' && is_raw(p.at + 2))) {
            end = kind == '#' ? strstr(p.at + 2, "#}") : strstr(p.at + 2, "endraw");
            if (!end) return wrong(&p, mark, kind == '#' ? "a {# does not end" : "a raw does not end");
            p.at = kind == '#' ? end + 2 : end + 6;
            continue;
        }
        if (kind != '{' && kind != '%') { p.at++; continue; }
        p.at += 2;
        if (find_end(&p, kind == '{' ? '}' : '%') != 0) return -1;
        if (kind == '%' && take_tag(&p, mark + 2, p.at) != 0) return -1;
        if (kind == '{' && (size_t)(p.at - mark - 2) == strspn(mark + 2, "-+ \t\r\n"))
            return wrong(&p, mark, "a {{ }} with nothing in it");
        p.at += 2;
    }
    return p.depth ? fail(error, EXIT_DATA, "a block of it, %s, does not end", blocks[p.open[p.depth - 1]]) : 0;
}
