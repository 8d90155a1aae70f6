/* Names, folders, globs and weights; lines and blocks of plain and gzip files; cleaning by rule, against worked
 * examples. */
#include "common/data/textfile.h"
#include "test/test.h"

#include <sys/stat.h>
#include <zlib.h>

static char folder[] = "/tmp/test_textfile_XXXXXX";

static const char *in(const char *name)
{
    static char path[4][300];
    static int n;
    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", folder, name);
    return path[n];
}

static void put(const char *name, const void *data, size_t size)
{
    struct error error;
    if (file_replace(in(name), data, size, &error) != 0) die("%s", error.text);
}

static void put_gzip(const char *name, const void *data, size_t size)
{
    gzFile gz = gzopen(in(name), "wb");
    if (!gz || gzwrite(gz, data, (unsigned)size) != (int)size || gzclose(gz) != Z_OK) die("cannot write %s", name);
}

static bool expands_to(const char *const *entry, int n, bool weights, const char *expected)
{
    struct option_list list = {(char **)(void *)entry, n};
    struct paths p;
    struct error error;
    struct bytes text = {0};
    if (paths_expand(&p, &list, weights, &error) != 0) return false;
    for (int i = 0; i < p.count; i++) bytes_text(&text, "%s:%g:%d ", p.path[i] + strlen(folder) + 1, p.weight[i], p.source[i]);
    bool same = strcmp(text.data ? text.data : "", expected) == 0;
    if (!same) fprintf(stderr, "found    %s\nexpected %s\n", text.data, expected);
    bytes_free(&text);
    paths_free(&p);
    return same;
}

static void check_names(void)
{
    mkdir(in("books"), 0700);
    mkdir(in("books/deep"), 0700);
    put("books/b.txt", "b", 1);
    put("books/a.jsonl", "{}", 2);
    put("books/ignored.dat", "x", 1);
    put("books/.hidden.txt", "x", 1);
    put("books/deep/c.txt.gz", "c", 1);
    put("odd=3.txt", "x", 1);
    put("set[1].txt", "x", 1);
    put("size=2", "x", 1);
    mkdir(in("empty"), 0700);

    char books[300], weighted[310], glob[300], odd[300], set[300], size[310], missing[300], none[300], bad[310];
    snprintf(books, sizeof books, "%s", in("books"));
    snprintf(weighted, sizeof weighted, "%s=2.5", books);
    snprintf(glob, sizeof glob, "%s", in("books/*.txt"));
    snprintf(odd, sizeof odd, "%s", in("odd=3.txt"));
    snprintf(set, sizeof set, "%s", in("set[1].txt"));
    snprintf(size, sizeof size, "%s=4", in("size=2"));
    snprintf(missing, sizeof missing, "%s", in("nowhere.txt"));
    snprintf(none, sizeof none, "%s", in("empty"));
    snprintf(bad, sizeof bad, "%s=-1", books);

    CHECK(expands_to((const char *[]){books}, 1, false, "books/a.jsonl:1:0 books/b.txt:1:0 books/deep/c.txt.gz:1:0 "));
    CHECK(expands_to((const char *[]){set, weighted}, 2, true,
                     "set[1].txt:1:0 books/a.jsonl:2.5:1 books/b.txt:2.5:1 books/deep/c.txt.gz:2.5:1 "));
    CHECK(expands_to((const char *[]){glob, odd}, 2, true, "books/b.txt:1:0 odd=3.txt:1:1 "));
    CHECK(expands_to((const char *[]){size}, 1, true, "size=2:4:0 "));

    struct { const char *entry; bool weights; int code; const char *says; } refused[] = {
        {missing, false, EXIT_NOINPUT, "there is no file or folder"}, {weighted, false, EXIT_NOINPUT, "there is no file"},
        {none, false, EXIT_NOINPUT, "holds no .txt"}, {bad, true, EXIT_USAGE, "weight"},
        {"/tmp/test_textfile_none/*.txt", false, EXIT_NOINPUT, "nothing matches"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct option_list list = {(char **)(void *)&refused[i].entry, 1};
        struct paths p = {0};
        struct error error = {0};
        CHECK(paths_expand(&p, &list, refused[i].weights, &error) == -1 && p.count == 0);
        test_check(error.exit_code == refused[i].code && strstr(error.text, refused[i].says), __FILE__, __LINE__,
                   "case %zu: exit %d, '%s'", i, error.exit_code, error.text);
    }
}

/* Reads all lines, joined by '|'. */
static char *lines_of(const char *name, struct error *error)
{
    struct textfile *f;
    struct bytes text = {0};
    char *line;
    size_t length;
    int got;
    if (textfile_open(&f, in(name), error) != 0) return NULL;
    while ((got = textfile_line(f, &line, &length, error)) == 1) {
        bytes_add(&text, line, length);
        bytes_add(&text, "|", 1);
    }
    textfile_close(f);
    if (got == 0) return text.data ? text.data : host_text("%s", "");
    bytes_free(&text);
    return NULL;
}

static void check_lines(void)
{
    static const char text[] = "\xEF\xBB\xBF" "one\r\ntwo\n\n\rfour\r\nlast";
    put("crlf.txt", text, sizeof text - 1);
    put_gzip("crlf.data", text, sizeof text - 1);
    put("empty.txt", "", 0);
    struct error error;
    const char *expected = "one|two||\rfour|last|";
    for (int zipped = 0; zipped < 2; zipped++) {
        char *found = lines_of(zipped ? "crlf.data" : "crlf.txt", &error);
        CHECK(found && strcmp(found, expected) == 0);
        free(found);
    }
    char *nothing = lines_of("empty.txt", &error);
    CHECK(nothing && *nothing == 0);
    free(nothing);

    /* lines longer than the buffer, and bytes that no text has */
    size_t size = 300000;
    char *big = host_alloc(size, 1);
    for (size_t i = 0; i < size; i++) big[i] = (char)(i % 70000 == 69999 ? '\n' : i % 255 == 10 ? 0 : (int)(i % 255));
    put_gzip("big.gz", big, size);
    struct textfile *f;
    char *line;
    size_t length, at = 0;
    int count = 0;
    CHECK(textfile_open(&f, in("big.gz"), &error) == 0);
    while (textfile_line(f, &line, &length, &error) == 1) {
        size_t kept = at + length < size && big[at + length] == '\r' ? 1 : 0;
        if (memcmp(line, big + at, length) != 0) CHECK(!"line differs");
        at += length + kept + 1;
        CHECK(textfile_line_number(f) == ++count);
    }
    CHECK(count == 5 && at == size + 1);
    textfile_close(f);

    /* blocks give the same bytes, also after a look at the first one */
    CHECK(textfile_open(&f, in("big.gz"), &error) == 0);
    textfile_first(f, &error);
    char *again = host_alloc(size + 1, 1);
    int64_t n;
    for (at = 0; (n = textfile_read(f, again + at, 12345 < size + 1 - at ? 12345 : size + 1 - at, &error)) > 0;) at += (size_t)n;
    CHECK(n == 0 && at == size && memcmp(again, big, size) == 0);
    textfile_close(f);
    free(again);
    free(big);
}

static void check_first(void)
{
    struct { const char *text; int first; } c[] = {{"  \r\n\t[1]", '['}, {"\xEF\xBB\xBF {", '{'}, {" \n", 0}, {"", 0}, {"x", 'x'}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct textfile *f;
        struct error error;
        put("first", c[i].text, strlen(c[i].text));
        CHECK(textfile_open(&f, in("first"), &error) == 0 && textfile_first(f, &error) == c[i].first);
        textfile_close(f);
    }
}

static void check_damage(void)
{
    struct error error = {0};
    struct textfile *f;
    CHECK(textfile_open(&f, in("nowhere"), &error) == -1 && error.exit_code == EXIT_NOINPUT);
    CHECK(textfile_open(&f, folder, &error) == -1 && error.exit_code == EXIT_NOINPUT && strstr(error.text, "is a folder"));

    char text[20000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + rand() % 26);
    put_gzip("whole.gz", text, sizeof text);
    struct bytes raw = {0};
    if (file_read(&raw, in("whole.gz"), 1 << 20, &error) != 0) die("%s", error.text);
    put("cut.gz", raw.data, raw.size / 2);
    CHECK(lines_of("cut.gz", &error) == NULL && error.exit_code == EXIT_DATA && strstr(error.text, "damaged gzip"));
    raw.data[raw.size / 2] ^= 0x55;
    put("flipped.gz", raw.data, raw.size);
    CHECK(lines_of("flipped.gz", &error) == NULL && error.exit_code == EXIT_DATA && strstr(error.text, "damaged gzip"));
    bytes_free(&raw);
}

static void check_clean(void)
{
    struct { const char *text; bool start; const char *clean; unsigned boms, returns, invalid; } c[] = {
        {"plain\n", true, "plain\n", 0, 0, 0},
        {"\xEF\xBB\xBFx", true, "x", 1, 0, 0},
        {"\xEF\xBB\xBFx", false, "\xEF\xBB\xBFx", 0, 0, 0},
        {"a\r\nb\rc\r", true, "a\nb\nc\n", 0, 3, 0},
        {"\r\r\n", true, "\n\n", 0, 2, 0},
        {"h\xC3\xA9 \xE7\xBA\xA2 \xF0\x9F\x98\x80", true, "h\xC3\xA9 \xE7\xBA\xA2 \xF0\x9F\x98\x80", 0, 0, 0},
        {"\xFFz\xC3", true, "\xEF\xBF\xBDz\xEF\xBF\xBD", 0, 0, 2},
        {"\xC0\xAF", true, "\xEF\xBF\xBD\xEF\xBF\xBD", 0, 0, 2},              /* overlong */
        {"\xED\xA0\x80", true, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0, 0, 3},    /* surrogate */
        {"", true, "", 0, 0, 0}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct bytes out = {0};
        struct text_counts counts = {0};
        bytes_add(&out, ">", 1);
        text_clean(&out, c[i].text, strlen(c[i].text), c[i].start, &counts);
        test_check(strcmp(out.data + 1, c[i].clean) == 0 && counts.boms == c[i].boms && counts.carriage_returns == c[i].returns &&
                   counts.invalid == c[i].invalid && counts.bytes == strlen(c[i].text), __FILE__, __LINE__, "cleaning case %zu", i);
        bytes_free(&out);
    }
}

int main(void)
{
    if (!mkdtemp(folder)) die("no temporary folder");
    check_names();
    check_lines();
    check_first();
    check_damage();
    check_clean();
    char *remove = host_text("rm -rf %s", folder);
    CHECK(system(remove) == 0);
    free(remove);
    return test_end("test_textfile");
}
