/* rewrite.c FILE.cu - what nvcc knows and g++ does not, as plain C++ on standard output, line by line as it was:
 *     kernel<T><<<grid, block, shared, stream>>>(arguments)
 *                                       becomes sim::launch("kernel<T>", kernel<T>, grid, ...)(arguments)
 *     __shared__ T name[A][B];          becomes a reference to memory of the block
 *     extern __shared__ T name[];       becomes a pointer to the dynamic part of it
 * Comments and literals stay as they are. */
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text { char *at; size_t n, room; };

struct source {
    const char *name;
    char *all, *code;           /* the file, and the same with comments and literals blank */
    size_t n;
    struct text out;
};

static void stop(const struct source *s, size_t at, const char *sentence)
{
    int line = 1;
    for (size_t i = 0; i < at; i++) line += s->all[i] == '\n';
    fprintf(stderr, "%s:%d: %s\n", s->name, line, sentence);
    exit(1);
}

static void put(struct text *t, const char *from, size_t n)
{
    if (t->n + n + 1 > t->room) {
        t->room = 2 * (t->n + n) + 256;
        t->at = realloc(t->at, t->room);
        if (!t->at) exit(1);
    }
    memcpy(t->at + t->n, from, n);
    t->at[t->n += n] = 0;
}

__attribute__((format(printf, 2, 3))) static void put_text(struct text *t, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (n < 0 || n >= (int)sizeof line) exit(1);
    put(t, line, (size_t)n);
}

static bool in_name(char c) { return isalnum((unsigned char)c) || c == '_'; }
static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static void read_file(struct source *s, const char *name)
{
    FILE *f = fopen(name, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) { perror(name); exit(1); }
    s->name = name;
    s->n = (size_t)ftell(f);
    rewind(f);
    s->all = calloc(s->n + 16, 1);
    s->code = calloc(s->n + 16, 1);
    if (!s->all || !s->code || fread(s->all, 1, s->n, f) != s->n) { perror(name); exit(1); }
    memcpy(s->code, s->all, s->n);
    fclose(f);
}

static void blank(struct source *s, size_t from, size_t to)
{
    for (size_t i = from; i < to && i < s->n; i++)
        if (s->code[i] != '\n') s->code[i] = ' ';
}

/* Blanks comments and literals.  A quote after a digit separates digits. */
static void keep_code(struct source *s)
{
    for (size_t i = 0; i < s->n;) {
        const char *at = s->all + i, *end;
        size_t from = i;
        if (starts(at, "//")) {
            end = strchr(at, '\n');
            i = end ? (size_t)(end - s->all) : s->n;
        } else if (starts(at, "/*")) {
            end = strstr(at + 2, "*/");
            if (!end) stop(s, i, "a comment that does not end");
            i = (size_t)(end - s->all) + 2;
        } else if (*at == '"' || (*at == '\'' && !(i > 0 && isalnum((unsigned char)at[-1])))) {
            for (i++; i < s->n && s->all[i] != *at; i++) i += s->all[i] == '\\';
            i++;
        } else {
            i++;
            continue;
        }
        blank(s, from, i);
    }
}

/* Where the name of the kernel begins, of which `end` is the end: words, "::", and template arguments. */
static size_t kernel_start(const struct source *s, size_t end)
{
    size_t i = end;
    if (i > 0 && s->code[i - 1] == '>')
        for (int depth = 0; i > 0;) {
            char c = s->code[--i];
            depth += (c == '>') - (c == '<');
            if (depth == 0) break;
        }
    while (i > 0 && (in_name(s->code[i - 1]) || s->code[i - 1] == ':')) i--;
    if (i == end) stop(s, end, "<<< without a kernel before it");
    return i;
}

/* Returns the place after >>>. */
static size_t launch(struct source *s, size_t at)
{
    size_t start = kernel_start(s, at), length = at - start;
    const char *end = strstr(s->code + at, ">>>"), *stopper = strchr(s->code + at, ';');
    if (!end || (stopper && stopper < end)) stop(s, at, "<<< without >>> in this statement");
    s->out.n -= length;
    put_text(&s->out, "sim::launch(\"%.*s\", %.*s, ", (int)length, s->all + start, (int)length, s->all + start);
    put(&s->out, s->all + at + 3, (size_t)(end - s->code) - at - 3);
    put_text(&s->out, ")");
    return (size_t)(end - s->code) + 3;
}

/* Returns the place of the semicolon. */
static size_t shared(struct source *s, size_t at)
{
    static const char outside[] = "extern ";
    size_t length = sizeof outside - 1;
    bool dynamic = s->out.n >= length && strcmp(s->out.at + s->out.n - length, outside) == 0;
    const char *semicolon = strchr(s->code + at, ';');
    if (!semicolon) stop(s, at, "__shared__ without a semicolon");
    size_t end = (size_t)(semicolon - s->code), from = at + strlen("__shared__");
    for (size_t i = from; i < end; i++)
        if (strchr(",=(", s->code[i])) stop(s, i, "one __shared__ variable a declaration, and no initialiser");
    size_t name_end = from;
    while (name_end < end && s->code[name_end] != '[') name_end++;
    size_t bracket = name_end;
    while (isspace((unsigned char)s->code[name_end - 1])) name_end--;
    size_t name = name_end;
    while (in_name(s->code[name - 1])) name--;
    const char *type = s->all + from, *word = s->all + name, *sizes = s->all + bracket;
    int nt = (int)(name - from), nw = (int)(name_end - name), ns = (int)(end - bracket);
    if (dynamic) {
        s->out.n -= length;
        put_text(&s->out, "%.*s *%.*s = (%.*s *)sim::dynamic_memory()", nt, type, nw, word, nt, type);
    } else {
        put_text(&s->out, "static char sim_key_%.*s; typedef %.*s sim_type_%.*s%.*s; "
                 "auto &%.*s = sim::shared<sim_type_%.*s>(&sim_key_%.*s)", nw, word, nt, type, nw, word, ns, sizes,
                 nw, word, nw, word, nw, word);
    }
    return end;
}

int main(int argc, char **argv)
{
    struct source s = {0};
    if (argc != 2) return 2;
    read_file(&s, argv[1]);
    keep_code(&s);
    put_text(&s.out, "#include <cuda_runtime.h>\n#line 1 \"%s\"\n", argv[1]);
    for (size_t i = 0; i < s.n;) {
        if (starts(s.code + i, "<<<")) i = launch(&s, i);
        else if (starts(s.code + i, "__shared__") && !(i > 0 && in_name(s.code[i - 1]))) i = shared(&s, i);
        else put(&s.out, s.all + i++, 1);
    }
    return fwrite(s.out.at, 1, s.out.n, stdout) == s.out.n ? 0 : 1;
}
