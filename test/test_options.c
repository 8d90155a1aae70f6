/* test_options.c - the options table: words, units, ranges, typos, files, and back again. */
#include "common/train/train.h"
#include "format/kv.h"
#include "test/test.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/wait.h>

static struct values {
    bool plan, shuffle;
    int64_t steps, tokens, seed, block;
    double epochs, lr, limit;
    const char *out, *config, *machine, *separator;
    int schedule;
    struct option_list data;
} v;

static const struct option table[] = {
    {"Run", "out", OPTION_TEXT, &v.out, .flags = OPTION_REQUIRED | OPTION_MAY_CHANGE, .help = "The run folder."},
    {NULL, "config", OPTION_TEXT, &v.config, .flags = OPTION_NOT_SAVED, .help = "A file of options."},
    {NULL, "machine", OPTION_TEXT, &v.machine, .flags = OPTION_NOT_SAVED | OPTION_ALONE, .help = "Only a machine."},
    {NULL, "plan", OPTION_FLAG, &v.plan, .flags = OPTION_NOT_SAVED, .help = "Say what it would take."},
    {"Training", "steps", OPTION_INT, &v.steps, "100", 1, 1e12, .flags = OPTION_MAY_CHANGE | OPTION_ONE_OF,
     .help = "Steps."},
    {NULL, "tokens", OPTION_INT, &v.tokens, "0", .flags = OPTION_MAY_CHANGE | OPTION_ONE_OF, .help = "Tokens."},
    {NULL, "epochs", OPTION_REAL, &v.epochs, "1", .flags = OPTION_MAY_CHANGE | OPTION_ONE_OF, .help = "Epochs."},
    {NULL, "seed", OPTION_INT, &v.seed, "1", .help = "The seed."},
    {NULL, "block", OPTION_SIZE, &v.block, "64K", 1, 1e15, .help = "A size."},
    {NULL, "lr", OPTION_REAL, &v.lr, "3e-4", 0, 1,
     .help = "The learning rate, and a sentence long enough that it must be broken over lines."},
    {NULL, "limit", OPTION_SECONDS, &v.limit, "0", 0, 1e9, .flags = OPTION_MAY_CHANGE, .help = "A time."},
    {NULL, "schedule", OPTION_CHOICE, &v.schedule, "cosine", .choices = "constant|linear|cosine",
     .help = "The schedule."},
    {NULL, "shuffle", OPTION_FLAG, &v.shuffle, "true", .help = "Shuffle."},
    {"Data", "data", OPTION_LIST, &v.data, .help = "Files."},
    {NULL, "separator", OPTION_TEXT, &v.separator, .help = "A text."},
    {NULL},
};

static struct error error;

/* Parses the words after the program's name; NULL ends. */
static int parse(const char *first, ...)
{
    char *argv[40] = {(char *)"prog"};
    int argc = 1;
    va_list list;
    va_start(list, first);
    for (const char *word = first; word; word = va_arg(list, const char *)) argv[argc++] = (char *)(uintptr_t)word;
    va_end(list);
    error = (struct error){0};
    return options_parse(table, argc, argv, "prog --out RUN", "A test.", NULL, &error);
}

static bool says(const char *text)
{
    bool ok = error.exit_code == EXIT_USAGE && strstr(error.text, text);
    if (!ok) fprintf(stderr, "expected \"%s\", got %d \"%s\"\n", text, error.exit_code, error.text);
    return ok;
}

static void test_values(void)
{
    CHECK(parse("--out", "r", NULL) == 0);
    CHECK(v.steps == 100 && v.seed == 1 && v.block == 65536 && v.lr == 3e-4 && v.limit == 0 && v.schedule == 2 &&
          v.shuffle && !v.plan);
    CHECK(v.data.count == 0 && v.separator == NULL && strcmp(v.out, "r") == 0);
    CHECK(parse("--out=r", "--steps", "400k", "--seed", "-9223372036854775808", "--block=2M", "--lr", "1e-4", "--limit",
                "2h", "--plan", "--no-shuffle", "--schedule", "linear", "--data", "a", "b", "--separator=", "--data",
                "c", NULL) == 0);
    CHECK(v.steps == 400000 && v.seed == INT64_MIN && v.block == 2097152 && v.lr == 1e-4 && v.limit == 7200 && v.plan &&
          !v.shuffle);
    CHECK(v.schedule == 1 && v.data.count == 3 && strcmp(v.data.item[2], "c") == 0 && v.separator && !*v.separator);
    CHECK(option_given(table, "data") && !option_given(table, "config") && option_given(table, "shuffle"));
    static const struct {
        const char *word;
        int64_t n;
    } whole[] = {{"12", 12},          {"1.5M", 1500000},  {"1e6", 1000000},
                 {"200M", 200000000}, {"1G", 1000000000}, {"300B", 300000000000}, {"3K", 3000}};
    for (int i = 0; i < 7; i++)
        CHECK(parse("--out", "r", "--steps", whole[i].word, NULL) == 0 && v.steps == whole[i].n);
    static const struct {
        const char *word;
        double s;
    } times[] = {{"90", 90},    {"30s", 30},    {"15m", 900},     {"1d", 86400},      {"1:30:00", 5400},
                 {"2:05", 125}, {"1.5h", 5400}, {"3h50m", 13800}, {"1d2h3m4s", 93784}};
    for (int i = 0; i < 9; i++)
        CHECK(parse("--out", "r", "--limit", times[i].word, NULL) == 0 && v.limit == times[i].s);
    CHECK(parse("--out", "r", "--sch", "constant", NULL) == 0 && v.schedule == 0);      /* a prefix that one name has */
    CHECK(parse("--out", "r", "--plan=false", NULL) == 0 && !v.plan);
    CHECK(parse("--out", "--", NULL) == -1 && says("--out needs a value"));
    CHECK(parse("--machine", "m", NULL) == 0 && !v.out && strcmp(v.machine, "m") == 0);
    CHECK(parse("--plan", NULL) == -1 && says("--out is missing"));
}

static void test_mistakes(void)
{
    CHECK(parse("--out", "r", "--lr", "abc", NULL) == -1 && says("--lr: 'abc' is not a number (expected e.g. 1e-4)"));
    CHECK(parse("--out", "r", "--lr", "1e-4x", NULL) == -1 && says("is not a number"));
    CHECK(parse("--out", "r", "--lr", "nan", NULL) == -1 && says("is not a number"));
    CHECK(parse("--out", "r", "--lr", "inf", NULL) == -1 && says("is not a number"));
    CHECK(parse("--out", "r", "--lr", "1e999", NULL) == -1 && says("is not a number"));
    CHECK(parse("--out", "r", "--lr", "2", NULL) == -1 && says("--lr: 2 is out of range (expected 0 to 1)"));
    CHECK(parse("--out", "r", "--lr", "-1", NULL) == -1 && says("out of range"));
    CHECK(parse("--out", "r", "--steps", "1.5", NULL) == -1 && says("'1.5' is not a whole number"));
    CHECK(parse("--out", "r", "--steps", "12q", NULL) == -1 && says("is not a whole number"));
    CHECK(parse("--out", "r", "--steps", "99999999999999999999", NULL) == -1 && says("is not a whole number"));
    CHECK(parse("--out", "r", "--steps", "9999999999999999G", NULL) == -1 && says("is not a whole number"));
    CHECK(parse("--out", "r", "--steps", "0", NULL) == -1 && says("expected 1 to 1e+12"));
    CHECK(parse("--out", "r", "--steps", "", NULL) == -1 && says("is not a whole number"));
    CHECK(parse("--out", "r", "--block", "2X", NULL) == -1 && says("is not a size"));
    CHECK(parse("--out", "r", "--limit", "2w", NULL) == -1 && says("is not a time"));
    CHECK(parse("--out", "r", "--limit", "1:75", NULL) == -1 && says("is not a time"));
    CHECK(parse("--out", "r", "--limit", "5m3h", NULL) == -1 && says("is not a time"));
    CHECK(parse("--out", "r", "--limit", "3h-5m", NULL) == -1 && says("is not a time"));
    CHECK(parse("--out", "r", "--limit", "3h 5m", NULL) == -1 && says("is not a time"));
    CHECK(parse("--out", "r", "--schedule", "cosin", NULL) == -1 && says("none of constant|linear|cosine"));
    CHECK(parse("--out", "r", "--stpes", "4", NULL) == -1 && says("did you mean --steps?"));
    CHECK(parse("--out", "r", "--sepp-arator", "4", NULL) == -1 && says("did you mean --separator?"));
    CHECK(parse("--out", "r", "--learning-rate", "1", NULL) == -1 && says("--learning-rate: did you mean --lr?"));
    CHECK(parse("--output", "r", NULL) == -1 && says("did you mean --out?"));
    CHECK(parse("--out", "r", "--max-steps", "1", NULL) == -1 && says("did you mean --steps?"));
    CHECK(parse("--out", "r", "--batch-size", "1", NULL) == -1 && says("--help-all lists them"));      /* not in this table */
    CHECK(parse("--out", "r", "--zzzzzzz", "4", NULL) == -1 && says("--help-all lists them"));
    CHECK(parse("--out", "r", "--se", "4", NULL) == -1 && says("--se could be --seed or --separator"));
    CHECK(parse("--out", "r", "--steps", NULL) == -1 && says("--steps needs a value"));
    CHECK(parse("--out", "r", "--steps", "--plan", NULL) == -1 && says("--steps needs a value"));
    CHECK(parse("--out", "r", "--no-steps", NULL) == -1 && says("unknown option --no-steps"));
    CHECK(parse("--out", "r", "-q", NULL) == -1 && says("two dashes"));
    CHECK(parse("stray", "--out", "r", NULL) == -1 && says("'stray' belongs to no option"));
    CHECK(parse("--plan", NULL) == -1 && says("--out is missing"));
    CHECK(parse("--out", "r", "--\033[31m", "x", NULL) == -1 && says("unknown option --\\x1b[31m"));
}

static char folder[] = "/tmp/quartet-options-XXXXXX";
static char path[64];

static void write_file(const char *text, size_t size)
{
    FILE *f = fopen(path, "w");
    fwrite(text, 1, size, f);
    fclose(f);
}

static void config_says(const char *content, const char *expected)
{
    char where[128];
    write_file(content, strlen(content));
    snprintf(where, sizeof where, "%s:%s", path, expected);
    CHECK(parse("--out", "r", "--config", path, NULL) == -1 && says(where));
}

static void test_config(void)
{
    const char *good = "# a comment\n\n out = x # more\nsteps=7\r\nseed = 5\ndata = a 'b c' \"d\\\"\"\ndata = e\\ "
                       "f\nplan = yes\nseparator =\n";
    write_file(good, strlen(good));
    CHECK(parse("--config", path, "--seed", "6", NULL) == 0);
    CHECK(strcmp(v.out, "x") == 0 && v.steps == 7 && v.seed == 6 && v.data.count == 4 && v.plan && v.separator &&
          !*v.separator);
    CHECK(strcmp(v.data.item[1], "b c") == 0 && strcmp(v.data.item[2], "d\"") == 0 &&
          strcmp(v.data.item[3], "e f") == 0);
    CHECK(parse("--config", path, "--data", "z", NULL) == 0 && v.data.count == 1 && strcmp(v.data.item[0], "z") == 0);
    config_says("steps = 3\n\nlr = abc\n", "3: --lr: 'abc' is not a number");
    config_says("stepz = 3\n", "1: unknown option --stepz: did you mean --steps?");
    config_says("steps 3\n", "1: expected \"name = value\"");
    config_says("steps = 3 4\n", "1: steps takes one value");
    config_says("\nsteps =\n", "2: steps needs a value");
    config_says("separator = 'open\n\n", "1: the quote ' is not closed");
    config_says("config = other\n", "1: a config file cannot name another one");
    config_says("separator = 'two\nlines'\nlr = 7", "3: --lr: 7 is out of range");
    write_file("out = a\0b\n", 10);
    CHECK(parse("--config", path, NULL) == -1 && says("1: a zero byte"));
    CHECK(parse("--out", "r", "--config", "/nowhere/at/all", NULL) == -1 && error.exit_code == EXIT_NOINPUT);
}

/* Of rows that say the same, one on the command line withdraws those of the file; a file that names every option, as run.conf
 * does, counts as changing only what differs from the default. */
static void test_one_of(void)
{
    static const char file[] = "out = x\nsteps = 7\nepochs = 3\nseed = 1\nlr = 0.5\n";
    write_file(file, sizeof file - 1);
    CHECK(parse("--config", path, NULL) == 0 && v.steps == 7 && v.epochs == 3);
    CHECK(parse("--config", path, "--tokens", "40", NULL) == 0 && v.tokens == 40 && v.steps == 100 && v.epochs == 1);
    CHECK(!option_given(table, "steps") && option_given(table, "tokens"));
    CHECK(parse("--config", path, "--epochs", "2", NULL) == 0 && v.tokens == 0 && v.steps == 100 && v.epochs == 2);
    CHECK(parse("--config", path, "--tokens", "40", "--steps", "5", NULL) == 0 && v.tokens == 40 && v.steps == 5);
    CHECK(option_given(table, "seed") && !option_changed(table, "seed") && option_changed(table, "lr"));
    CHECK(!option_changed(table, "data") && !option_changed(table, "separator"));
    CHECK(option_needs(table, "seed", "separator", &error) == 0);
    CHECK(option_needs(table, "lr", "separator", &error) == -1 && says("--lr means nothing without --separator"));
    v.separator = "s";
    CHECK(option_needs(table, "lr", "separator", &error) == 0);
}

/* What options_print writes, --config reads back as the very same values. */
static void test_round_trip(void)
{
    static const char *const awkward[] = {
        "",  " ",   "a b", "it's", "\"q\"", "#x", "a#b",           "\\",       "a\\nb", "line\nbreak\n", "\t", "$HOME",
        "=", "é中", "--x", "-",    "'",     "''", "a'b\"c\\d # e", "\xff\xfe", "\r"};
    static const double reals[] = {0.1, 1e-4, 1.0 / 3, 0, 1, 5e-324, 0.30000000000000004, 1e-10};
    static const int64_t wholes[] = {1, 10, 999, 1000, 10000, 123000, 400000, 1000001, 1000000000, 999999999999};
    static const double times[] = {0, 0.5, 59, 60, 90, 3600, 5400, 86400, 1e9, 1.0 / 3};
    int n = sizeof awkward / sizeof *awkward;
    for (int i = 0; i < 60; i++) {
        char seed[32], steps[32], lr[40], limit[40];
        snprintf(seed, sizeof seed, "%lld", (long long)wholes[(i * 7) % 10] * (i % 2 ? -1 : 1));
        snprintf(steps, sizeof steps, "%lld", (long long)wholes[i % 10]);
        snprintf(lr, sizeof lr, "%.17g", reals[i % 8]);
        snprintf(limit, sizeof limit, "%.17g", times[i % 10]);
        char *separator = host_text("--separator=%s", awkward[i % n]);
        char *list = host_text("--data=%s", awkward[(i * 5 + 1) % n]),
             *more = host_text("--data=%s", awkward[(i * 3 + 2) % n]);
        CHECK(parse("--out", awkward[(i + 2) % 13], "--seed", seed, "--steps", steps, "--lr", lr, "--limit", limit,
                    separator, list, more, i % 3 ? "--shuffle" : "--no-shuffle", "--schedule",
                    i % 2 ? "constant" : "linear", NULL) == 0);
        struct values before = v;
        struct bytes text = {0}, again = {0};
        options_print(&text, table);
        write_file(text.data, text.size);
        bool read = CHECK(parse("--config", path, NULL) == 0);
        if (!read) fprintf(stderr, "%s\n%s", error.text, text.data);
        CHECK(v.steps == before.steps && v.seed == before.seed && v.block == before.block && v.lr == before.lr &&
              v.limit == before.limit);
        CHECK(v.shuffle == before.shuffle && v.schedule == before.schedule && !strcmp(v.out, before.out));
        CHECK(v.separator && !strcmp(v.separator, before.separator) && v.data.count == 2);
        for (int k = 0; k < 2 && v.data.count == 2; k++) CHECK(!strcmp(v.data.item[k], before.data.item[k]));
        options_print(&again, table);
        CHECK(text.size == again.size && memcmp(text.data, again.data, text.size) == 0);
        bytes_free(&text);
        bytes_free(&again);
        free(separator); free(list); free(more);
    }
}

static void test_resume_check(void)
{
    struct kv kv = {0};
    const char *text;
    CHECK(parse("--out", "r", "--lr", "1e-4", "--data", "a b", "c", "--separator", "\xff", NULL) == 0);
    options_save(&kv, table);
    CHECK(kv_get_text(&kv, "option.lr", &text) == 1 && strcmp(text, "0.0001") == 0);
    CHECK(kv_get_text(&kv, "option.data", &text) == 1 && strcmp(text, "'a b' c") == 0);
    CHECK(kv_find(&kv, "option.plan") == NULL && kv_find(&kv, "option.config") == NULL);
    CHECK(options_compare(table, &kv, &error) == 0);
    CHECK(parse("--out", "other", "--steps", "9", "--limit", "4", "--lr", "1e-4", "--data", "a b", "c", "--separator",
                "\xff", NULL) == 0);
    CHECK(options_compare(table, &kv, &error) == 0);
    v.lr = 2e-4;
    CHECK(options_compare(table, &kv, &error) == -1 && error.exit_code == EXIT_MISMATCH);
    CHECK(strstr(error.text, "--lr is 0.0002 now") && strstr(error.text, "started with 0.0001"));
    v.lr = 1e-4;
    struct kv older = {0};                  /* an option newer than the file had its default */
    for (size_t i = 0; i < kv.count; i++)
        if (strcmp(kv.entry[i].key, "option.schedule") != 0) kv_set_text(&older, kv.entry[i].key, kv.entry[i].value);
    CHECK(options_compare(table, &older, &error) == 0);
    v.schedule = 0;
    CHECK(options_compare(table, &older, &error) == -1 && strstr(error.text, "--schedule is constant now") &&
          strstr(error.text, "cosine"));
    kv_free(&kv);
    kv_free(&older);
}

/* --help goes to stdout, fits 80 columns when piped, and ends with 0. */
static void test_help(void)
{
    int pipes[2], status = -1;
    CHECK(pipe(pipes) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], 1);
        parse("--steps", "x", "--help", NULL);
        _exit(99);
    }
    close(pipes[1]);
    FILE *f = fdopen(pipes[0], "r");
    char line[1000];
    bool wide = false, group = false, standard = false;
    while (fgets(line, sizeof line, f)) {
        size_t n = strcspn(line, "\n");
        if (n > 80 || (n > 0 && line[n - 1] == ' ')) wide = true;
        if (strcmp(line, "Training:\n") == 0) group = true;
        if (strstr(line, "(default 100)")) standard = true;
    }
    fclose(f);
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(!wide && group && standard);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/conf", folder);
    test_values();
    test_mistakes();
    test_config();
    test_one_of();
    test_round_trip();
    test_resume_check();
    test_help();
    unlink(path);
    rmdir(folder);
    return test_end("test_options");
}
