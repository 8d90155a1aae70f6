/* options.c - defaults, then the file, then the command line, all through option_set.  The command line is walked
 * twice: to find --config, and to set. */
#include "common/base/options.h"

#include <assert.h>

enum { MAX_ROWS = 256, MAX_CONFIG = 16 << 20 };

/* What the last options_parse was given: the command line is a fact of the process, and so is this. */
static struct { const struct option *table; bool row[MAX_ROWS]; } given;

bool option_given(const struct option *table, const char *name)
{
    for (int i = 0; table == given.table && table[i].name; i++)
        if (strcmp(table[i].name, name) == 0) return given.row[i];
    return false;
}

/* ---- finding a row ---- */

int option_edits(const char *a, const char *b)
{
    enum { MOST = 48 };
    int n = (int)strnlen(a, MOST), m = (int)strnlen(b, MOST), d[MOST + 1][MOST + 1];
    for (int i = 0; i <= n; i++) {
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) { d[i][j] = i + j; continue; }
            d[i][j] = int_min(int_min(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = int_min(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[n][m];
}

/* What other programs call it, and what it is here. */
static const char *const synonym[][2] = {
    {"learning-rate", "lr"}, {"lr-scheduler-type", "schedule"}, {"warmup-steps", "warmup"}, {"max-grad-norm", "clip"},
    {"grad-clip", "clip"}, {"batch-size", "batch-tokens"}, {"gradient-accumulation-steps", "batch-tokens"},
    {"micro-batch-size", "micro-tokens"}, {"per-device-train-batch-size", "micro-tokens"}, {"max-steps", "steps"},
    {"num-steps", "steps"}, {"iterations", "steps"}, {"num-epochs", "epochs"}, {"num-train-epochs", "epochs"},
    {"output", "out"}, {"output-dir", "out"}, {"save-dir", "out"}, {"dataset", "data"}, {"train-file", "data"},
    {"model-name-or-path", "model"}, {"init-from", "model"}, {"checkpoint", "model"}, {"save-steps", "save-every"},
    {"eval-steps", "eval-every"}, {"logging-steps", "log-every"}, {"resume-from-checkpoint", "resume"},
    {"num-layers", "layers"}, {"hidden-size", "channels"}, {"num-heads", "heads"}, {"seq-length", "context"},
    {"block-size", "context"}, {"max-seq-length", "max-length"}, {"num-threads", "threads"}, {"random-seed", "seed"}};

static int unknown(const struct option *table, const char *name, struct error *error)
{
    const char *best = NULL, *meant = "";
    int least = (int)strlen(name) / 3 + 2;
    for (size_t i = 0; i < sizeof synonym / sizeof *synonym; i++)
        if (strcmp(name, synonym[i][0]) == 0) meant = synonym[i][1];
    for (const struct option *o = table; o->name; o++) {
        int d = strcmp(o->name, meant) == 0 ? -1 : option_edits(name, o->name);
        if (d < least) { least = d; best = o->name; }
    }
    if (best) return fail(error, EXIT_USAGE, "unknown option --%s: did you mean --%s?", text_shown(name).text, best);
    return fail(error, EXIT_USAGE, "unknown option --%s: --help-all lists them", text_shown(name).text);
}

/* The row whose name is `name`, or the only one that begins with it: its number, or -1. */
static int find_row(const struct option *table, const char *name, bool flags_only, struct error *error)
{
    int found = -1, other = -1;
    size_t length = strlen(name);
    for (int i = 0; table[i].name; i++) {
        if ((flags_only && table[i].type != OPTION_FLAG) || strncmp(table[i].name, name, length) != 0) continue;
        if (!table[i].name[length]) return i;
        if (found < 0) found = i;
        else other = i;
    }
    if (found < 0 || length == 0) return unknown(table, name, error);
    if (other >= 0)
        return fail(error, EXIT_USAGE, "--%s could be --%s or --%s", name, table[found].name, table[other].name);
    return found;
}

/* ---- the config file ---- */

struct reader { const char *at, *end; int line; };      /* *end is 0 */

static void skip_blanks(struct reader *r) { r->at += strspn(r->at, " \t\r"); }

/* The next word before the end of the line, as a shell would cut it.  Returns 1, 0 when there is none, or -1. */
static int next_word(struct bytes *word, struct reader *r, struct error *error)
{
    skip_blanks(r);
    if (r->at == r->end || *r->at == '\n' || *r->at == '#') return 0;
    word->size = 0;
    bytes_add(word, "", 0);
    char quote = 0;
    for (; r->at < r->end; r->at++) {
        char c = *r->at;
        if (!c) return fail(error, EXIT_USAGE, "a zero byte");
        if (c == '\n') { if (!quote) break; r->line++; }
        if (quote ? c == quote : c == '\'' || c == '"') { quote = quote ? 0 : c; continue; }
        if (!quote && (c == ' ' || c == '\t' || c == '\r')) break;
        if (c == '\\' && quote != '\'' && r->at + 1 < r->end && r->at[1] != '\n') c = *++r->at;
        bytes_add(word, &c, 1);
    }
    return quote ? fail(error, EXIT_USAGE, "the quote %c is not closed", quote) : 1;
}

static void skip_line(struct reader *r)
{
    const char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    r->at = end ? end + 1 : r->end;
    r->line++;
}

static int config_line(const struct option *table, struct reader *r, bool *seen, struct bytes *word,
                       struct error *error)
{
    char name[64];
    size_t n = strcspn(r->at, " \t\r\n=");
    const char *equals = r->at + n + strspn(r->at + n, " \t");
    if (n == 0 || n >= sizeof name || *equals != '=') return fail(error, EXIT_USAGE, "expected \"name = value\"");
    snprintf(name, sizeof name, "%.*s", (int)n, r->at);
    r->at = equals + 1;
    int row = find_row(table, name, false, error);
    if (row < 0) return -1;
    const struct option *o = &table[row];
    if (strcmp(o->name, "config") == 0) return fail(error, EXIT_USAGE, "a config file cannot name another one");
    if (o->type == OPTION_LIST && !seen[row]) option_clear(o);
    seen[row] = given.row[row] = true;
    int got, words = 0;
    while ((got = next_word(word, r, error)) > 0) {
        if (words++ && o->type != OPTION_LIST)
            return fail(error, EXIT_USAGE, "%s takes one value: put quotes around it", o->name);
        if (option_set(o, word->data, error)) return -1;
    }
    if (got < 0) return -1;
    if (words || o->type == OPTION_LIST) return 0;
    if (o->type == OPTION_TEXT) return option_set(o, "", error);
    return fail(error, EXIT_USAGE, "%s needs a value", o->name);
}

static int read_config(const struct option *table, const char *path, struct error *error)
{
    scoped_bytes struct bytes file = {0}, word = {0};
    bool seen[MAX_ROWS] = {false};
    if (file_read(&file, path, MAX_CONFIG, error)) return fail_in(error, "--config");
    struct reader r = {file.data, file.data + file.size, 1};
    int status = 0;
    while (status == 0 && r.at < r.end) {
        skip_blanks(&r);
        int line = r.line;
        if (r.at < r.end && *r.at != '\n' && *r.at != '#') status = config_line(table, &r, seen, &word, error);
        if (status) fail_in(error, "%s:%d", path, line);
        skip_line(&r);
    }
    return status;
}

/* ---- the command line ---- */

struct walk {
    const struct option *table;
    int argc, at;
    char **argv;
    bool find_config;                  /* the first walk: only --config is set */
    bool seen[MAX_ROWS];
    struct option_list *positional;
};

/* Rows that mean the same as the one given now, and that this command line has not given, go back to their defaults. */
static void withdraw_others(const struct walk *w, int row)
{
    for (int i = 0; w->table[i].name; i++) {
        if (i == row || w->seen[i] || !(w->table[i].flags & OPTION_ONE_OF)) continue;
        option_reset(&w->table[i]);
        given.row[i] = false;
    }
}

static int set_row(struct walk *w, int row, const char *word, struct error *error)
{
    const struct option *o = &w->table[row];
    if (w->find_config && strcmp(o->name, "config") != 0) return 0;
    if (o->flags & OPTION_ONE_OF) withdraw_others(w, row);
    if (o->type == OPTION_LIST && !w->seen[row]) option_clear(o);
    w->seen[row] = given.row[row] = true;
    return option_set(o, word, error);
}

static bool is_option(const char *word) { return strncmp(word, "--", 2) == 0; }

static int walk_option(struct walk *w, struct error *error)
{
    const char *word = w->argv[w->at++] + 2, *equals = strchr(word, '=');
    char name[64];
    if ((equals ? (size_t)(equals - word) : strlen(word)) >= sizeof name) return unknown(w->table, word, error);
    snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - word : (long)strlen(word)), word);
    bool no = false;
    int row = find_row(w->table, name, false, error);
    if (row < 0 && strncmp(name, "no-", 3) == 0) {
        row = find_row(w->table, name + 3, true, NULL);
        no = row >= 0;
    }
    if (row < 0) return -1;
    const struct option *o = &w->table[row];
    if (no && equals) return fail(error, EXIT_USAGE, "--no-%s takes no value", o->name);
    if (equals) return set_row(w, row, equals + 1, error);
    if (o->type == OPTION_FLAG) return set_row(w, row, no ? "false" : "true", error);
    if (w->at == w->argc || is_option(w->argv[w->at])) return fail(error, EXIT_USAGE, "--%s needs a value", o->name);
    do {
        if (set_row(w, row, w->argv[w->at++], error)) return -1;
    } while (o->type == OPTION_LIST && w->at < w->argc && !is_option(w->argv[w->at]));
    return 0;
}

static int walk_all(struct walk *w, struct error *error)
{
    bool ended = false;
    for (w->at = 1; w->at < w->argc;) {
        const char *word = w->argv[w->at];
        if (!ended && strcmp(word, "--") == 0) { ended = true; w->at++; continue; }
        if (!ended && is_option(word)) {
            if (walk_option(w, error)) return -1;
            continue;
        }
        if (!ended && word[0] == '-' && word[1])
            return fail(error, EXIT_USAGE, "unknown option %s: options begin with two dashes", word);
        if (!w->positional)
            return fail(error, EXIT_USAGE, "'%s' belongs to no option: --help lists them", text_shown(word).text);
        if (!w->find_config) option_list_add(w->positional, word);
        w->at++;
    }
    return 0;
}

static void answer_and_exit(const struct option *table, int argc, char **argv, const char *usage, const char *about)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        bool help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        bool all = strcmp(argv[i], "--help-all") == 0;
        if (help || all) options_help(table, usage, about, all);
        else if (strcmp(argv[i], "--help-man") == 0) options_man(table, usage, about);
        else if (strcmp(argv[i], "--help-words") == 0) options_words(table);
        else if (strcmp(argv[i], "--version") == 0)
            printf("%s (quartet) %s%s%s\n", program_name(), QUARTET_VERSION, *program_build() ? ", " : "",
                   program_build());
        else continue;
        exit(EXIT_DONE);
    }
}

int options_parse(const struct option *table, int argc, char **argv, const char *usage, const char *about,
                  struct option_list *positional, struct error *error)
{
    int rows = 0, config = -1;
    answer_and_exit(table, argc, argv, usage, about);
    memset(&given, 0, sizeof given);
    given.table = table;
    if (positional) *positional = (struct option_list){0};
    for (; table[rows].name; rows++) {
        assert(rows < MAX_ROWS - 1);
        option_reset(&table[rows]);
        if (strcmp(table[rows].name, "config") == 0) config = rows;
    }
    struct walk first = {table, argc, 1, argv, true, .positional = positional}, second = first;
    second.find_config = false;
    if (walk_all(&first, error)) return -1;
    const char *path = config >= 0 ? *(const char **)table[config].value : NULL;
    if (path && read_config(table, path, error)) return -1;
    if (walk_all(&second, error)) return -1;
    bool alone = false;
    for (int i = 0; i < rows; i++) alone |= table[i].flags & OPTION_ALONE && given.row[i];
    for (int i = 0; i < rows; i++)
        if (table[i].flags & OPTION_REQUIRED && !given.row[i] && !alone)
            return fail(error, EXIT_USAGE, "--%s is missing: %s", table[i].name, table[i].help);
    return 0;
}
