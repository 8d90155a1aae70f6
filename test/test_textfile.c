/* Names, folders, globs and weights; lines and blocks of plain and gzip files; cleaning by rule, against worked
 * examples. */
#include "common/data/paths.h"
#include "common/data/textfile.h"
#include "test/files.h"

static bool expands_to(const char *const *entry, int n, bool weights, const char *expected)
{
    struct option_list list = {(char **)(void *)entry, n};
    struct paths p;
    struct error error;
    struct bytes text = {0};
    if (paths_expand(&p, &list, weights, &error) != 0) return false;
    for (int i = 0; i < p.count; i++) bytes_text(&text, "%s:%g ", p.path[i] + strlen(folder) + 1, p.weight[i]);
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

    CHECK(expands_to((const char *[]){books}, 1, false, "books/a.jsonl:1 books/b.txt:1 books/deep/c.txt.gz:1 "));
    CHECK(expands_to((const char *[]){set, weighted}, 2, true,
                     "set[1].txt:1 books/a.jsonl:2.5 books/b.txt:2.5 books/deep/c.txt.gz:2.5 "));
    CHECK(expands_to((const char *[]){glob, odd}, 2, true, "books/b.txt:1 odd=3.txt:1 "));
    CHECK(expands_to((const char *[]){size}, 1, true, "size=2:4 "));

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

/* What lies in a folder and is no data: runs (also one that has just begun), tokenizers, shards; the rest is named. */
static void check_left_out(void)
{
    static const char *const made[] = {"data/run", "data/new", "data/tok", "data/cache", "data/sub"};
    mkdir(in("data"), 0700);
    for (int i = 0; i < 5; i++) mkdir(in(made[i]), 0700);
    put("data/a.txt", "a", 1);
    put("data/sub/b.txt", "b", 1);
    put("data/c.pdf", "c", 1);
    put("data/run/run.conf", "", 0);
    put("data/run/status.json", "{}", 2);
    put("data/run/log.txt", "x", 1);
    put("data/new/lock", "pretrain 12\n", 12);
    put("data/new/log.txt", "x", 1);
    put("data/tok/tokenizer.json", "{}", 2);
    put("data/cache/01234567-0000.shard", "x", 1);
    CHECK(symlink("nowhere", in("data/dangling.txt")) == 0);
    char *entry[] = {host_text("%s", in("data")), host_text("%s", in("data/run"))};
    struct option_list list = {entry, 1};
    struct paths p;
    struct error error;
    CHECK(paths_expand(&p, &list, false, &error) == 0 && p.count == 2 && p.size[1] == 1);
    CHECK(strstr(p.left_out.data, "4 folders of a run, a tokenizer or shards: ") && strstr(p.left_out.data, "/data/cache, ") &&
          strstr(p.left_out.data, ", ...\n") && strstr(p.left_out.data, "1 file not named as text: ") &&
          strstr(p.left_out.data, "/data/c.pdf\n") && strstr(p.left_out.data, "1 link leading nowhere: "));
    paths_free(&p);
    list.count = 2;                                          /* the run named too: its own files are still no data */
    CHECK(paths_expand(&p, &list, false, &error) == 0 && p.count == 2);
    paths_free(&p);
    list = (struct option_list){entry + 1, 1};
    CHECK(paths_expand(&p, &list, false, &error) == -1 && error.exit_code == EXIT_NOINPUT && strstr(error.text, "no file is left"));
    free(entry[1]);
    entry[1] = host_text("%s", in("data/dangling.txt"));
    CHECK(paths_expand(&p, &list, false, &error) == -1 && strstr(error.text, "leads nowhere"));
    free(entry[0]);
    free(entry[1]);
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

    /* pieces give the same bytes, also after a look at the first one */
    CHECK(textfile_open(&f, in("big.gz"), &error) == 0);
    textfile_first(f, &error);
    char *again = host_alloc(size + 1, 1);
    int got;
    for (at = 0; (got = textfile_piece(f, &line, &length, 12345, &error)) == 1 && at + length <= size; at += length) {
        CHECK(length <= 12345);
        memcpy(again + at, line, length);
    }
    CHECK(got == 0 && at == size && memcmp(again, big, size) == 0);
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

/* gzip members with zeros between are one text; what is not packed behind them is not read. */
static void check_members(void)
{
    struct bytes first = {0}, second = {0}, all = {0};
    struct error error;
    static const char zeros[1000];
    put_gzip("first.gz", "one\n", 4);
    put_gzip("second.gz", "two\n", 4);
    CHECK(file_read(&first, in("first.gz"), 1000, &error) == 0 && file_read(&second, in("second.gz"), 1000, &error) == 0);
    bytes_add(&all, first.data, first.size);
    bytes_add(&all, zeros, sizeof zeros);
    bytes_add(&all, second.data, second.size);
    bytes_add(&all, zeros, 7);
    put("padded.gz", all.data, all.size);
    char *found = lines_of("padded.gz", &error);
    CHECK(found && strcmp(found, "one|two|") == 0);
    free(found);
    bytes_add(&all, "rubbish\n", 8);
    put("rubbish.gz", all.data, all.size);
    found = lines_of("rubbish.gz", &error);
    CHECK(found && strcmp(found, "one|two|") == 0);
    free(found);
    bytes_free(&first);
    bytes_free(&second);
    bytes_free(&all);
}

/* A frame of zstd: read, or refused by name where the library was not there. */
static void check_zstd(void)
{
    static const char frame[] = "\x28\xB5\x2F\xFD\x04\x58\x21\0\0one\n\xDF\x16\x68\x09";
    struct error error = {0};
    put("one.zst", frame, sizeof frame - 1);
    char *found = lines_of("one.zst", &error);
#ifdef HAVE_ZSTD
    CHECK(found && strcmp(found, "one|") == 0);
    free(found);
    put("cut.zst", frame, sizeof frame - 3);
    CHECK(!lines_of("cut.zst", &error) && strstr(error.text, "damaged zstd data"));
#else
    CHECK(!found && error.exit_code == EXIT_DATA && strstr(error.text, "is packed with zstd") && strstr(error.text, "zstd -d"));
#endif
}

/* Every format that is no text is refused by name; texts that begin alike are not. */
static void check_foreign(void)
{
#define BYTES(text) text, sizeof text - 1
    static const struct { const char *data; size_t size; const char *says; } c[] = {
        {BYTES("PAR1\x15\0\x15"), "is a Parquet file, expected text"}, {BYTES("ARROW1\0\0"), "is an Arrow"},
        {BYTES("PK\x03\x04\x14\0"), "is a zip archive"}, {BYTES("7z\xBC\xAF\x27\x1C\0"), "is a 7z"},
        {BYTES("\xFD" "7zXZ\0"), "xz -d"}, {BYTES("BZh91AY&SY"), "bzip2 -d"}, {BYTES("SQLite format 3\0"), "is an SQLite"},
        {BYTES("%PDF-1.7\n"), "pdftotext"}, {BYTES("\x89PNG\r\n\x1A\n"), "is a PNG"}, {BYTES("\xFF\xD8\xFF\xE0"), "is a JPEG"},
        {BYTES("\x7F" "ELF\x02\x01\x01\0"), "is a program (ELF)"}, {BYTES("GGUF\x03\0\0\0"), "is a GGUF model"},
        {BYTES("\x10\0\0\0\0\0\0\0{\"a\":1}"), "is a safetensors file"}, {BYTES("QSHARD\r\n"), "is a shard"},
        {BYTES("\x89QCK\r\n\x1a\n"), "is a checkpoint"},
        {BYTES("\xFF\xFEh\0i\0"), "is text in UTF-16LE, expected UTF-8: convert it (iconv -f UTF-16LE"},
        {BYTES("\xFE\xFF\0h\0i"), "UTF-16BE"}, {BYTES("h\0e\0l\0l\0o\0\n\0"), "UTF-16LE"}, {BYTES("\0h\0e\0l\0l"), "UTF-16BE"},
        {BYTES("h\0\0\0i\0\0\0"), "UTF-32LE"}, {BYTES("\0\0\0h\0\0\0i"), "UTF-32BE"},
        {BYTES("PAR1 is a name\n"), NULL}, {BYTES("GGUF files\n"), NULL}, {BYTES("ORC\n"), NULL}, {BYTES("a\0b"), NULL},
        {BYTES("BZh91 text"), NULL}};
#undef BYTES
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct error error = {0};
        for (int zipped = 0; zipped < 2; zipped++) {
            if (zipped) put_gzip("foreign", c[i].data, c[i].size);
            else put("foreign", c[i].data, c[i].size);
            char *found = lines_of("foreign", &error);
            bool right = c[i].says ? !found && error.exit_code == EXIT_DATA && strstr(error.text, c[i].says) : found != NULL;
            test_check(right, __FILE__, __LINE__, "format %zu: '%s'", i, error.text);
            free(found);
        }
    }
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
    check_left_out();
    check_lines();
    check_first();
    check_damage();
    check_members();
    check_zstd();
    check_foreign();
    check_clean();
    char *remove = host_text("rm -rf %s", folder);
    CHECK(system(remove) == 0);
    free(remove);
    return test_end("test_textfile");
}
