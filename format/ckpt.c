/* ckpt.c - the checkpoint tool: one command, its arguments, its output.  This file knows the command line only; what a
 * command does is in dump_*.c.  It reads nothing it need not and believes nothing it reads, for it is what people point
 * at files they do not know. */
#include "format/dump.h"

#include "common/base/threads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct command {
    const char *name, *arguments, *options;         /* options: names, each followed by a space */
    int least, most;                                /* positional arguments */
    int (*run)(struct dump *d);
    const char *about;
};

static const struct command commands[] = {
    {"info", "FILE|RUN", "json ", 1, 1, dump_info, "What the file is, on one screen, from its metadata alone."},
    {"sections", "FILE|RUN", "json ", 1, 1, dump_sections,
     "The section table: where each part lies, its size and checksum."},
    {"tensors", "FILE|RUN", "json role match sort group ", 1, 1, dump_tensors,
     "Every tensor: name, role, dtype, shape, bytes, offset, checksum."},
    {"config", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "The model's settings (CONF); with KEY the bare value."},
    {"train", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "The trainer's state (TRNS); with KEY the bare value."},
    {"rng", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "The random streams (RNGS); with KEY the bare value."},
    {"data", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "The data cursor (DCUR); with KEY the bare value."},
    {"chat", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "The chat template (CHAT); with KEY the bare value."},
    {"meta", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys, "Free text (META); with KEY the bare value."},
    {"eval", "FILE|RUN [KEY]", "json ", 1, 2, dump_keys,
     "Metrics at the time of saving (EVAL); with KEY the bare value."},
    {"tokenizer", "FILE|RUN", "json ", 1, 1, dump_tokenizer, "Size and identity of the tokenizer (TOKN)."},
    {"lineage", "FILE|RUN", "json dir ", 1, 1, dump_lineage,
     "The models this one came from, as a tree, from this file alone."},
    {"stats", "FILE|RUN [PATTERN]", "json hist recompute role jobs ", 1, 2, dump_stats,
     "Smallest, largest, mean, deviation ... of each tensor."},
    {"print", "FILE|RUN TENSOR [SLICE]", "json hex role ", 2, 3, dump_print,
     "Values of a tensor; SLICE as 0:4,7 (one item a dimension)."},
    {"verify", "FILE|RUN...", "json quick deep jobs ", 1, 1000, dump_verify,
     "Checks every byte; of a run folder every checkpoint. Reports all problems."},
    {"diff", "A B", "json tol top tensors jobs ", 2, 2, dump_diff,
     "What differs: settings and tensors, largest relative change first. Ends with 1 if anything does."},
    {"hash", "FILE|RUN", "json ", 1, 1, dump_hash, "Identity and checksum of the weights and of each tensor."},
    {"strip", "FILE|RUN NEW", "json force ", 2, 2, dump_strip,
     "Copies without training state (moments, master weights, cursors); the weights keep their identity."},
    {"ls", "RUN", "json deep jobs ", 1, 1, dump_ls,
     "The checkpoints of a run folder: valid or why not, and which one resuming takes."},
    {"latest", "RUN", "json jobs ", 1, 1, dump_latest, "The path of the newest whole checkpoint of a run folder."},
    {"explain", "FILE|RUN OFFSET", "json ", 2, 2, dump_explain,
     "Which field, key or tensor element lies at this byte of the file."},
    {"limits", "", "json ", 0, 0, dump_limits, "The fixed sizes and limits of the format."},
    {NULL},
};

struct flag { const char *name, *value; size_t at; enum { ON, COUNT, REAL, WORD } kind; const char *help; };
#define AT(field) offsetof(struct dump, field)
static const struct flag flags[] = {
    {"json", NULL, AT(json), ON, "one JSON object instead of text (schema ckpt-dump/1)"},
    {"role", "ROLE", AT(role), WORD, "only tensors of this role: weight, master, m, v, ema, buffer, head, scale"},
    {"match", "PATTERN", AT(match), WORD, "only tensors whose name fits, with * and ?"},
    {"sort", "ORDER", AT(sort), WORD, "name, size or offset (default: offset)"},
    {"group", NULL, AT(group), ON, "one line a block, with its share of the bytes"},
    {"dir", "FOLDER", AT(dir), WORD, "mark the ancestors found in this folder or the runs in it"},
    {"hist", NULL, AT(hist), ON, "histogram of the binary exponents (reads the tensors)"},
    {"recompute", NULL, AT(recompute), ON, "from the tensors, not from the statistics in the file"},
    {"hex", NULL, AT(hex), ON, "the stored bits of each value"},
    {"quick", NULL, AT(quick), ON, "structure and metadata only"},
    {"deep", NULL, AT(deep), ON, "also the values: finite, moments not negative, optimizer shapes, statistics"},
    {"jobs", "N", AT(jobs), COUNT, "threads (default: one a core)"},
    {"tol", "X", AT(tol), REAL, "differences of at most X in every element are none (default: 0)"},
    {"top", "N", AT(top), COUNT, "show at most N tensors (default: 20; 0: all)"},
    {"tensors", NULL, AT(tensors_only), ON, "compare tensors only, not the metadata"},
    {"force", NULL, AT(force), ON, "replace NEW if it exists"},
    {NULL},
};

/* ---- help and did-you-mean ---- */

/* Insertions, deletions and changes from a to b; words are short. */
static int distance(const char *a, const char *b)
{
    int row[33], n = (int)strnlen(b, 32);
    for (int i = 0; i <= n; i++) row[i] = i;
    for (int k = 1; a[k - 1] && k <= 32; k++) {
        int corner = row[0];
        row[0] = k;
        for (int i = 1; i <= n; i++) {
            int old = row[i];
            row[i] = int_min(int_min(old, row[i - 1]) + 1, corner + (a[k - 1] != b[i - 1]));
            corner = old;
        }
    }
    return row[n];
}

static const char *nearest_command(const char *word)
{
    const char *best = NULL;
    int least = 3;
    for (const struct command *c = commands; c->name; c++)
        if (distance(word, c->name) < least) { least = distance(word, c->name); best = c->name; }
    return best;
}

static bool takes(const struct command *c, const char *option)
{
    size_t n = strlen(option);
    for (const char *p = c->options; (p = strstr(p, option)); p += n)
        if ((p == c->options || p[-1] == ' ') && p[n] == ' ') return true;
    return false;
}

static void help(void)
{
    printf("usage: ckpt COMMAND ...\n\nLooks into checkpoints. A run folder stands for its newest checkpoint.\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  %-10s %-22s %s\n", c->name, c->arguments, c->about);
    printf("\n`ckpt COMMAND --help` tells a command's options. Exit codes: 0 fine, 1 different (diff), 64 usage,\n"
           "65 corrupt, 66 missing, 74 reading or writing failed.\n");
}

static void help_command(const struct command *c)
{
    printf("usage: ckpt %s %s\n\n%s\n\n", c->name, c->arguments, c->about);
    for (const struct flag *f = flags; f->name; f++) {
        char left[32];
        snprintf(left, sizeof left, "--%s%s%s", f->name, f->value ? " " : "", f->value ? f->value : "");
        if (takes(c, f->name)) printf("  %-18s %s\n", left, f->help);
    }
}

/* ---- parsing ---- */

static _Noreturn void bad_option(const struct command *c, const char *word)
{
    const char *best = NULL;
    int least = 3;
    for (const struct flag *f = flags; f->name; f++)
        if (takes(c, f->name) && distance(word, f->name) < least) { least = distance(word, f->name); best = f->name; }
    if (best) quit(EXIT_USAGE, "%s: there is no option --%s; did you mean --%s?", c->name, word, best);
    quit(EXIT_USAGE, "%s: there is no option --%s; `ckpt %s --help` lists them", c->name, word, c->name);
}

static void set_flag(struct dump *d, const struct flag *f, const char *value)
{
    char *end = NULL;
    void *field = (char *)d + f->at;
    errno = 0;
    if (f->kind == ON) *(bool *)field = true;
    if (f->kind == WORD) *(const char **)field = value;
    if (f->kind == REAL) *(double *)field = strtod(value, &end);
    if (f->kind == COUNT) *(int64_t *)field = strtoll(value, &end, 10);
    bool wrong = end && (end == value || *end || errno);
    if (f->kind == REAL && !(*(double *)field >= 0)) wrong = true;
    if (f->kind == COUNT && (*(int64_t *)field < 0 || *(int64_t *)field > 1000000000)) wrong = true;
    if (wrong) quit(EXIT_USAGE, "--%s takes a number of at least 0, found '%s'", f->name, value);
}

/* One option at argv[*i]; moves *i over its value. */
static void parse_option(struct dump *d, const struct command *c, int argc, char **argv, int *i)
{
    char word[64];
    const char *text = argv[*i] + 2, *equals = strchr(text, '=');
    snprintf(word, sizeof word, "%.*s", (int)(equals ? equals - text : (long)strnlen(text, 60)), text);
    const struct flag *f = flags;
    while (f->name && strcmp(f->name, word) != 0) f++;
    if (!f->name || !takes(c, f->name)) bad_option(c, word);
    if (f->kind == ON && equals) quit(EXIT_USAGE, "--%s takes no value", word);
    if (f->kind != ON && !equals && *i + 1 >= argc) quit(EXIT_USAGE, "--%s needs a value (%s)", word, f->value);
    set_flag(d, f, f->kind == ON ? NULL : equals ? equals + 1 : argv[++*i]);
}

static void check_words(const struct dump *d)
{
    bool known = !d->role;
    for (uint32_t r = 0; role_name(r); r++) known |= d->role && strcmp(d->role, role_name(r)) == 0;
    if (!known) quit(EXIT_USAGE, "--role is '%s' (expected weight, master, m, v, ema, buffer, head or scale)", d->role);
    if (d->sort && strcmp(d->sort, "name") != 0 && strcmp(d->sort, "size") != 0 && strcmp(d->sort, "offset") != 0)
        quit(EXIT_USAGE, "--sort is '%s' (expected name, size or offset)", d->sort);
    if (d->quick && d->deep) quit(EXIT_USAGE, "--quick and --deep exclude each other");
}

static const struct command *parse(struct dump *d, int argc, char **argv)
{
    const struct command *c = commands;
    bool only_arguments = false;
    while (c->name && strcmp(c->name, argv[1]) != 0) c++;
    if (!c->name) {
        const char *best = nearest_command(argv[1]);
        quit(EXIT_USAGE, best ? "there is no command '%s'; did you mean '%s'?"
             : "there is no command '%s'; `ckpt --help` lists them", argv[1], best);
    }
    *d = (struct dump){.command = c->name, .argument = host_alloc((size_t)argc, sizeof *d->argument), .top = 20};
    for (int i = 2; i < argc; i++) {
        if (only_arguments || argv[i][0] != '-' || argv[i][1] == 0) d->argument[d->arguments++] = argv[i];
        else if (strcmp(argv[i], "--") == 0) only_arguments = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help_command(c);
            exit(0);
        } else if (argv[i][1] == '-') parse_option(d, c, argc, argv, &i);
        else quit(EXIT_USAGE, "%s: there is no option %s (options start with two dashes)", c->name, argv[i]);
    }
    if (d->arguments < c->least || d->arguments > c->most) quit(EXIT_USAGE, "usage: ckpt %s %s", c->name, c->arguments);
    check_words(d);
    return c;
}

/* ---- what all commands use ---- */

int dump_error(const struct error *error)
{
    fprintf(stderr, "%s: %s\n", program_name(), error->text);
    return error->exit_code;
}

void findings_add(void *self, const struct error *error)
{
    struct findings *f = self;
    f->exit_code = error->exit_code;
    if (f->shown < PROBLEMS_SHOWN) f->text[f->shown++] = host_text("%s", error->text);
}

void findings_free(struct findings *f)
{
    for (int i = 0; i < f->shown; i++) free(f->text[i]);
    *f = (struct findings){0};
}

int dump_open(struct ckpt **out, const struct dump *d, int i, struct problems *problems)
{
    struct error error;
    struct stat st;
    const char *path = d->argument[i];
    if (stat(path, &st) != 0) {
        fail(&error, EXIT_NOINPUT, "%s: cannot be opened: %s", path, strerror(errno));
        return dump_error(&error);
    }
    if (!S_ISDIR(st.st_mode)) return reader_open_file(out, path, problems, &error) == 0 ? 0 : dump_error(&error);
    struct run_list list;
    if (folder_list(&list, path, &error) != 0) return dump_error(&error);
    fail(&error, EXIT_NOINPUT, "%s: there is no checkpoint in this folder", path);
    *out = NULL;
    for (size_t k = 0; k < list.count && !*out; k++)
        if (reader_open_file(out, list.file[k].path, NULL, &error) != 0)
            fprintf(stderr, "%s: skipped %s\n", program_name(), error.text);
    folder_list_free(&list);
    return *out ? 0 : dump_error(&error);
}

int main(int argc, char **argv)
{
    struct dump d;
    program_begin("ckpt");
    if (argc < 2) {
        help();
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help();
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("ckpt %s (format %d.%d)\n", QUARTET_VERSION, CKPT_MAJOR, CKPT_MINOR);
        return 0;
    }
    const struct command *c = parse(&d, argc, argv);
    if (takes(c, "jobs")) threads_start((int)d.jobs);
    int code = c->run(&d);
    free(d.argument);
    if (takes(c, "jobs")) threads_stop();
    return code;
}
