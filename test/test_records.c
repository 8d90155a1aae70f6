/* JSON rows from arrays and lines, whatever the file is called; every refusal with file, line and what was found. */
#include "common/data/records.h"
#include "common/data/textfile.h"
#include "test/test.h"

#include <zlib.h>

static char folder[] = "/tmp/test_records_XXXXXX";

static char *put(const char *name, const void *data, size_t size)
{
    struct error error;
    char *path = host_text("%s/%s", folder, name);
    if (file_replace(path, data, size, &error) != 0) die("%s", error.text);
    return path;
}

static int collect(void *self, json_t *row, const char *where)
{
    struct bytes *text = self;
    char *dump = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    bytes_text(text, "%s %s\n", where + strlen(folder) + 1, dump);
    free(dump);
    return 0;
}

static void check_rows(const char *name, const char *content, bool lenient, const char *expected)
{
    struct bytes text = {0};
    struct error error = {0};
    char *path = put(name, content, strlen(content));
    int status = records_read(&path, 1, lenient, NULL, collect, &text, &error);
    test_check(status == 0 && strcmp(text.data ? text.data : "", expected) == 0, __FILE__, __LINE__, "%s\nfound %s\nexpected %s\n%s",
               content, text.data, expected, error.text);
    bytes_free(&text);
    free(path);
}

static void check_refused(const char *name, const char *content, const char *sentence)
{
    bool lenient = strstr(name, ".txt") != NULL;
    struct bytes text = {0};
    struct error error = {0};
    char *path = put(name, content, strlen(content));
    int status = records_read(&path, 1, lenient, NULL, collect, &text, &error);
    const char *said = strstr(error.text, name);
    test_check(status == -1 && error.exit_code == EXIT_DATA && said && strcmp(said, sentence) == 0, __FILE__, __LINE__,
               "%s: said     '%s'\nexpected '%s'", content, error.text, sentence);
    bytes_free(&text);
    free(path);
}

static void check_refusals(void)
{
    check_refused("a.jsonl", "{\"a\":1}\n{\"b\": nope}\n", "a.jsonl:2: not JSON at column 7 (invalid token), found 'nope}'");
    check_refused("b.json", "{\"\xC3\xA9\" 1}", "b.json:1: not JSON at column 6 (':' expected), found '1}'");
    check_refused("c.jsonl", "{\"a\":1} x", "c.jsonl:1: not JSON at column 9 (end of file expected), found 'x'");
    check_refused("d.jsonl", "{\"a\":1,\"a\":2}", "d.jsonl:1: not JSON at column 8 (duplicate object key), found '\"a\":2}'");
    check_refused("e.jsonl", "\n\n{\"a\":",
                  "e.jsonl:3: not JSON: it ends in the middle of a value (expected an array, or one whole value per line)");
    check_refused("f.json", "[1,\n2,\n 3 4]", "f.json:3: not JSON at column 4 (',' or ']' expected), found '4]'");
    check_refused("g.json", "[1] [2]", "g.json:1: not JSON at column 5 (end of file expected), found '[2]'");
    check_refused("h.json", "[1,\n2",
                  "h.json:2: not JSON: it ends in the middle of a value (expected an array, or one whole value per line)");
    check_refused("i.jsonl", "{\"a\": \"x\xFFy\"}",
                  "i.jsonl:1: not JSON at column 9 (unable to decode byte 0xff), found '\\xffy\"}'");
    check_refused("j.jsonl", "plain \033[31m text", "j.jsonl:1: not JSON at column 1 (invalid token), found 'plain \\x1b[31m text'");
    check_refused("k.json", "[1,]", "k.json:1: not JSON at column 4 (unexpected token), found ']'");
    check_refused("l.json", "[,1]", "l.json:1: not JSON at column 2 (unexpected token), found ',1]'");
    check_refused("m.json", "[{\"a\":1},\n {\"a\":nope}]", "m.json:2: not JSON at column 7 (invalid token), found 'nope}]'");
    check_refused("n.json", "[", "n.json:1: not JSON: it ends in the middle of a value (expected an array, or one whole value per line)");
    /* what Python writes is not to blame for another fault */
    check_refused("o.jsonl", "{\"a\":NaN,\"b\":12345678901234567890,\"c\":\"\\ud83d\",\"d\":nope,\"e\":NaN}",
                  "o.jsonl:1: not JSON at column 52 (invalid token), found 'nope,\"e\":NaN}'");
    check_refused("p.jsonl", "{\"a\":NaN,\"a\":1}", "p.jsonl:1: not JSON at column 10 (duplicate object key), found '\"a\":1}'");
    check_refused("q.jsonl", "{\"a\":NaN,\"b\":[1",
                  "q.jsonl:1: not JSON: it ends in the middle of a value (expected an array, or one whole value per line)");
    check_refused("r.json", "[{\"a\":1},\n {\"a\":-Infinity,\"b\" 2}]",
                  "r.json:2: not JSON at column 21 (':' expected), found '2}]'");
    /* among prompts, too: what begins like JSON is not a question */
    static const char hint[] = "; a plain text that begins with { or [ must be a JSON string";
    struct { const char *name, *content, *sentence; } like_json[] = {
        {"cut.txt", "Tell me.\n {\"prompt\":\"Hi\n", "cut.txt:2: not JSON: it ends in the middle of a value (expected an array, or one whole value per line)"},
        {"bracket.txt", "[Scene] he enters\nand goes\n", "bracket.txt:1: not JSON at column 2 (invalid token), found 'Scene] he enters\\x0aand goes\\x0a'"},
        {"numbered.txt", "[1] first\n[2] second\n", "numbered.txt:1: not JSON at column 5 (end of file expected), found 'first\\x0a[2] second\\x0a'"}};
    for (int i = 0; i < 3; i++) {
        char *sentence = host_text("%s%s", like_json[i].sentence, hint);
        check_refused(like_json[i].name, like_json[i].content, sentence);
        free(sentence);
    }
    check_refused("table.csv", "act,prompt\nPoet,Write.\n",
                  "table.csv: a table is not read; write its rows as JSON lines, such as {\"prompt\": ...}");
    struct error error;
    char *missing = host_text("%s/none", folder);
    CHECK(records_read(&missing, 1, false, NULL, collect, NULL, &error) == -1 && error.exit_code == EXIT_NOINPUT);
    free(missing);
    char *deep = host_alloc(100001, 1);
    memset(deep, '[', 100000);
    char *path = put("deep.json", deep, 100000);
    CHECK(records_read(&path, 1, false, NULL, collect, NULL, &error) == -1 && error.exit_code == EXIT_DATA);
    free(path);
    free(deep);
}

/* Plain text that is not UTF-8: a few bytes are replaced and counted, another encoding is refused. */
static void check_encoding(void)
{
    struct bytes text = {0}, out = {0};
    struct ledger ledger = {0};
    struct error error;
    for (int i = 0; i < 100; i++) bytes_text(&text, i % 7 ? "Tell me about the river.\n" : "Caf\xE9?\n");
    char *path = put("few.txt", text.data, text.size);
    CHECK(records_read(&path, 1, true, &ledger, collect, &out, &error) == 0);
    CHECK(tally_get(&ledger.changed, "invalid bytes, replaced by U+FFFD") == 15);
    free(path);
    for (int i = 0; i < 10; i++) bytes_text(&text, "Caf\xE9?\n");
    path = put("latin.txt", text.data, text.size);
    int status = records_read(&path, 1, true, NULL, collect, &out, &error);
    CHECK(status == -1 && error.exit_code == EXIT_DATA && strstr(error.text, "25 of its first 2165 bytes are not UTF-8"));
    bytes_free(&text);
    bytes_free(&out);
    ledger_free(&ledger);
    free(path);
}

static int stop_at_two(void *self, json_t *row, const char *where)
{
    int *count = self;
    (void)row, (void)where;
    return ++*count == 2 ? -1 : 0;
}

static void check_repair(void)
{
    static const char text[] = "{\"a\":\"x\xFFy\"}\r\n{\"a\":\"ok\"}\r\n";
    char *path = put("repair.jsonl", text, sizeof text - 1);
    struct text_counts counts = {0};
    struct records *r;
    struct error error;
    json_t *row;
    const char *where;
    CHECK(records_open(&r, path, false, NULL, &counts, &error) == 0 && records_next(r, &row, &where, &error) == 1);
    CHECK(strcmp(json_string_value(json_object_get(row, "a")), "x\xEF\xBF\xBDy") == 0 && counts.invalid == 1);
    CHECK(records_next(r, &row, &where, &error) == 1 && records_next(r, &row, &where, &error) == 0);
    records_close(r);
    free(path);
}

/* Bad rows of lines and of arrays are skipped and listed, as many as allowed; what breaks the array is not of one row. */
static void check_skipping(void)
{
    static const struct { const char *content; double skip; int status; uint64_t rows, bad; } at[] = {
        {"{\"a\":1}\n{\"a\":nope}\n{\"a\":2}\n{\"a\":", 2, 0, 4, 2},
        {"{\"a\":1}\n{\"a\":nope}\n{\"a\":2}\n{\"a\":", 1, -1, 4, 2},
        {"{\"a\":1}\n{\"a\":nope}\n{\"a\":2}\n{\"a\":", 0.5, 0, 4, 2},
        {"{\"a\":1}\n{\"a\":nope}\n{\"a\":2}\n{\"a\":", 0.49, -1, 4, 2},
        {"[{\"a\":1},{\"a\":\"]\",nope},{\"a\":1,\"a\":2} , {\"a\":2},,]", 9, 0, 6, 4},
        {"[{\"a\":1} {\"a\":2}]", 9, -1, 1, 0}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct bytes text = {0};
        struct error error = {0};
        struct ledger l = {.skip = at[i].skip};
        char *path = put("skip", at[i].content, strlen(at[i].content));
        int status = records_read(&path, 1, false, &l, collect, &text, &error);
        test_check(status == at[i].status && l.rows == at[i].rows && l.bad == at[i].bad, __FILE__, __LINE__,
                   "%s: status %d, %d rows, %d bad: %s", at[i].content, status, (int)l.rows, (int)l.bad, error.text);
        CHECK(l.bad == 0 || strstr(l.bad_rows.data, "nope"));
        if (status == 0) CHECK(strstr(text.data, "{\"a\":1}") && strstr(text.data, "{\"a\":2}"));
        bytes_free(&text);
        ledger_free(&l);
        free(path);
    }
}

int main(void)
{
    if (!mkdtemp(folder)) die("no temporary folder");
    check_rows("l.jsonl", "{\"a\":1}\n\n  \n{\"b\":[2,\"x\"]}", false, "l.jsonl:1 {\"a\":1}\nl.jsonl:4 {\"b\":[2,\"x\"]}\n");
    check_rows("lines.json", "\xEF\xBB\xBF{\"a\":1}\r\n{\"a\":2}\r\n", false, "lines.json:1 {\"a\":1}\nlines.json:2 {\"a\":2}\n");
    check_rows("array.json", "\xEF\xBB\xBF \n[{\"a\":1},\n{\"a\":2}]\n", false, "array.json[0] {\"a\":1}\narray.json[1] {\"a\":2}\n");
    check_rows("array.jsonl", "[]", false, "");
    check_rows("mixed.json", " [ 1.5 , \"a]\" ,[2] , {\"b\":[]},null ] ", false,
               "mixed.json[0] 1.5\nmixed.json[1] \"a]\"\nmixed.json[2] [2]\nmixed.json[3] {\"b\":[]}\nmixed.json[4] null\n");
    check_rows("empty", "", false, "");
    check_rows("nul.jsonl", "{\"a\":\"x\\u0000y\"}", false, "nul.jsonl:1 {\"a\":\"x\\u0000y\"}\n");
    check_rows("strings.jsonl", "\"Hello \\\"you\\\"\"\n12\n", false, "strings.jsonl:1 \"Hello \\\"you\\\"\"\nstrings.jsonl:2 12\n");
    check_rows("plain.txt", "Tell me.\n12\n{\"prompt\":\"p\"}\nbad \xFF byte\ntrue\n", true,
               "plain.txt:1 \"Tell me.\"\nplain.txt:2 \"12\"\nplain.txt:3 {\"prompt\":\"p\"}\n"
               "plain.txt:4 \"bad \\uFFFD byte\"\nplain.txt:5 \"true\"\n");
    check_rows("python.jsonl", "{\"a\":17911891234567890123,\"b\":[NaN,Infinity,-Infinity],\"c\":\"NaN \\\\ud83d\"}\n"
               "{\"a\":\"x\\ud83dy\\ude00\\ud83d\\ude00\",\"n\":-99999999999999999999}\n", false,
               "python.jsonl:1 {\"a\":1.7911891234567891e19,\"b\":[null,null,null],\"c\":\"NaN \\\\ud83d\"}\n"
               "python.jsonl:2 {\"a\":\"x\\uFFFDy\\uFFFD\\uD83D\\uDE00\",\"n\":-1e20}\n");
    check_rows("large.jsonl", "{\"a\":\"1e999\",\"b\":[1e999,-1.5E+400,1e308],\"c\":NaN,\"d\":1e999}\n", false,
               "large.jsonl:1 {\"a\":\"1e999\",\"b\":[null,null,1e308],\"c\":null,\"d\":null}\n");
    check_rows("python.json", "[{\"a\":NaN},{\"a\":\"],\\udc00\"} ,{\"a\":[1,Infinity]}]", false,
               "python.json[0] {\"a\":null}\npython.json[1] {\"a\":\"],\\uFFFD\"}\npython.json[2] {\"a\":[1,null]}\n");
    check_rows("python.txt", "NaN\n12345678901234567890123\n", true, "python.txt:1 \"NaN\"\npython.txt:2 \"12345678901234567890123\"\n");
    check_refusals();
    check_encoding();
    check_skipping();
    check_repair();

    int count = 0;
    struct error error;
    char *path = put("three.jsonl", "1\n2\n3\n", 6), *zipped = host_text("%s/rows.json", folder);
    CHECK(records_read(&path, 1, false, NULL, stop_at_two, &count, &error) == -1 && count == 2);
    gzFile gz = gzopen(zipped, "wb");
    CHECK(gz && gzputs(gz, "[7,8]") == 5 && gzclose(gz) == Z_OK);
    char *both[] = {path, zipped};
    struct bytes text = {0};
    CHECK(records_read(both, 2, false, NULL, collect, &text, &error) == 0 &&
          strstr(text.data, "three.jsonl:3 3\nrows.json[0] 7\nrows.json[1] 8\n"));
    bytes_free(&text);
    free(path);
    free(zipped);

    char *remove = host_text("rm -rf %s", folder);
    CHECK(system(remove) == 0);
    free(remove);
    return test_end("test_records");
}
