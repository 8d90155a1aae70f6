/* main.c - the command line of the checkpoint tool; what a command does is in dump_*.c.  It reads only what it needs
 * and trusts nothing it reads: people point it at files they know nothing about. */
#include "common/interop/interop.h"
#include "format/ckpt/dump.h"

#include "common/base/options.h"
#include "common/base/threads.h"

#include <fnmatch.h>
#include <stdlib.h>

struct command {
    const char *name, *arguments, *options;         /* options beside json: names, each followed by a space */
    int least, most;                                /* positional arguments */
    int (*run)(struct dump *d, struct ckpt *c, json_t *facts);
    enum { NOTHING, WHOLE, DAMAGED, ANYHOW } open;  /* argument 0; past problems: they are facts too, or passed over */
    const char *show, *about, *section;             /* show: of struct dump */
    bool foreign;                                   /* reads models of other systems too */
};

static const struct command commands[] = {
    {"info", "FILE|RUN", "", 1, 1, dump_info, DAMAGED, NULL,
     "The file on one screen, from its metadata only.", .foreign = true},
    {"sections", "FILE|RUN", "", 1, 1, dump_sections, DAMAGED, "sections",
     "The section table: where each part lies, its size and checksum."},
    {"tensors", "FILE|RUN", "role match sort group ", 1, 1, dump_tensors, DAMAGED, "tensors",
     "Every tensor: name, role, dtype, shape, bytes, offset, checksum.", .foreign = true},
    {"config", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Settings of the model (CONF).", "CONF",
     .foreign = true},
    {"train", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "State of the trainer (TRNS).", "TRNS"},
    {"rng", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Random streams (RNGS).", "RNGS"},
    {"data", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Place in the data (DCUR).", "DCUR"},
    {"chat", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Chat template (CHAT).", "CHAT", .foreign = true},
    {"meta", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Free text (META).", "META", .foreign = true},
    {"eval", "FILE|RUN [KEY]", "", 1, 2, dump_keys, WHOLE, "values", "Metrics when saved (EVAL).", "EVAL"},
    {"tokenizer", "FILE|RUN", "", 1, 1, dump_tokenizer, WHOLE, NULL, "Size and identity of the tokenizer (TOKN).",
     .foreign = true},
    {"lineage", "FILE|RUN", "dir ", 1, 1, dump_lineage, WHOLE, "",
     "The models this one came from, as a tree, from this file only."},
    {"stats", "FILE|RUN [PATTERN]", "hist recompute role jobs ", 1, 2, dump_stats, WHOLE, "tensors",
     "Smallest, largest, mean, standard deviation ... of each tensor.", .foreign = true},
    {"print", "FILE|RUN TENSOR [SLICE]", "hex role ", 2, 3, dump_print, WHOLE, "",
     "Values of a tensor; SLICE as 0:4,7 (one item per dimension).", .foreign = true},
    {"verify", "FILE|RUN...", "quick deep jobs ", 1, 1000, dump_verify, NOTHING, "",
     "Checks every byte; of a run folder every checkpoint. Reports all problems.", .foreign = true},
    {"diff", "A B", "tol top tensors jobs ", 2, 2, dump_diff, NOTHING, "",
     "What differs: settings and tensors, largest relative change first. Exits with 1 if anything does.",
     .foreign = true},
    {"hash", "FILE|RUN", "", 1, 1, dump_hash, WHOLE, "tensors",
     "Identity and checksum of the weights and of each tensor.", .foreign = true},
    {"strip", "FILE|RUN NEW", "force ", 2, 2, dump_strip, WHOLE, "",
     "Copies without training state (moments, master weights, cursors); the weights keep their identity."},
    {"ls", "RUN", "deep jobs ", 1, 1, dump_ls, NOTHING, "files",
     "The checkpoints of a run folder: which are valid, and which one a run resumes from."},
    {"latest", "RUN", "jobs ", 1, 1, dump_latest, NOTHING, "",
     "The path of the newest whole checkpoint of a run folder."},
    {"explain", "FILE|RUN OFFSET", "", 2, 2, dump_explain, ANYHOW, "",
     "Which field, key or tensor element lies at this byte of the file."},
    {"import", "FOLDER|FILE", "out llama2c ", 1, 2, dump_import, NOTHING, "",
     "A Hugging Face folder, a GGUF file, or a model of llama2.c as a checkpoint."},
    {"export", "FILE|RUN", "hf shard gguf type ", 1, 1, dump_export, WHOLE, "",
     "The model as a Hugging Face folder that transformers loads, or as a GGUF file.", .foreign = true},
    {"report", "RUN...", "dir out compare watch jobs ", 1, 16, dump_report, NOTHING, "",
     "One HTML page of a run and its ancestors: curves, samples, gains, settings, lineage."},
    {"limits", "", "", 0, 0, dump_limits, NOTHING, NULL, "The fixed sizes and limits of the format."},
    {NULL},
};

static bool takes(const struct command *c, const char *option)
{
    char list[100], word[32];
    snprintf(list, sizeof list, " %s", c->options);
    snprintf(word, sizeof word, " %s ", option);
    return strstr(list, word) != NULL;
}

/* The command's own table of options, ended by the zeros that *table has. */
static void options_of(struct option table[8], const struct command *c, struct dump *d)
{
    const struct option all[] = {
        {"Options", "json", OPTION_FLAG, &d->json, .help = "One JSON object instead of text (schema ckpt-dump/1)."},
        {NULL, "role", OPTION_CHOICE, &d->role, "any", .choices = DUMP_ROLES, .help = "Only tensors of this role."},
        {NULL, "match", OPTION_TEXT, &d->match, .help = "Only tensors whose name matches this shell pattern."},
        {NULL, "sort", OPTION_CHOICE, &d->sort, "offset", .choices = "offset|name|size", .help = "Order of the lines."},
        {NULL, "group", OPTION_FLAG, &d->group, .help = "One line per block, with its share of the bytes."},
        {NULL, "dir", OPTION_TEXT, &d->dir, .help = "Look for the ancestors in this folder and the runs in it."},
        {NULL, "hist", OPTION_FLAG, &d->hist, .help = "Histogram of the binary exponents (reads the tensors)."},
        {NULL, "recompute", OPTION_FLAG, &d->recompute, .help = "Read the tensors, not the statistics in the file."},
        {NULL, "hex", OPTION_FLAG, &d->hex, .help = "The stored bits of each value."},
        {NULL, "quick", OPTION_FLAG, &d->quick, .help = "Structure and metadata only."},
        {NULL, "deep", OPTION_FLAG, &d->deep,
         .help = "ls: read the tensors too. verify: check their values too (finite, moments not negative and shaped as "
         "their weights, statistics true)."},
        {NULL, "tol", OPTION_REAL, &d->tol, "0", 0, 1e300, .help = "Ignore differences up to this in every element."},
        {NULL, "top", OPTION_INT, &d->top, "20", 0, 1e9, .help = "Show at most this many tensors; 0 shows all."},
        {NULL, "tensors", OPTION_FLAG, &d->tensors_only, .help = "Compare tensors only, not the metadata."},
        {NULL, "out", OPTION_TEXT, &d->out, .flags = OPTION_REQUIRED,
         .help = "The file to write; import and report replace one that is there; report: - for stdout."},
        {NULL, "llama2c", OPTION_FLAG, &d->llama2c, .help = "Two files of llama2.c: MODEL.bin TOKENIZER.bin."},
        {NULL, "hf", OPTION_TEXT, &d->hf, .help = "The Hugging Face folder to write; it must be new or empty."},
        {NULL, "gguf", OPTION_TEXT, &d->gguf, .help = "The GGUF file to write."},
        {NULL, "type", OPTION_CHOICE, &d->type, "f32", .choices = INTEROP_TYPES,
         .help = "Numbers of the matrices in a GGUF file."},
        {NULL, "shard", OPTION_SIZE, &d->shard, "5G", 1, 1e15, .help = "Most bytes of a file of tensors."},
        {NULL, "force", OPTION_FLAG, &d->force, .help = "Replace NEW if it exists."},
        {NULL, "compare", OPTION_FLAG, &d->compare, .help = "Overlay runs of the same stage, without ancestors."},
        {NULL, "watch", OPTION_FLAG, &d->watch, .help = "Rewrite the page until the run ends."},
        {NULL, "jobs", OPTION_INT, &d->jobs, "0", 0, 1e9, .help = "Number of threads; 0 is one per core."}};
    for (size_t i = 0, n = 0; i < sizeof all / sizeof *all; i++)
        if (i == 0 || takes(c, all[i].name)) table[n++] = all[i];
}

static void help(void)
{
    printf("usage: %sckpt COMMAND ...\n\n"
           "Looks into checkpoints. A run folder stands for its newest checkpoint. info, tensors,\nstats, verify, diff and some others read Hugging Face folders, safetensors and GGUF files too.\n\n",
           program_prefix());
    for (const struct command *c = commands; c->name; c++)
        printf("  %-10s %-24s %s\n", c->name, c->arguments, c->about);
    printf("\nWith KEY only its value is printed. `%sckpt COMMAND --help` lists a command's options.\n"
           "Exit codes: 0 fine, 1 different (diff), 64 usage, 65 corrupt, 66 missing, 74 reading or writing failed,\n"
           "78 different stages (report --compare).\n", program_prefix());
}

static const struct command *find_command(const char *name)
{
    const struct command *best = NULL;
    int least = 3;
    for (const struct command *c = commands; c->name; c++) {
        int edits = option_edits(name, c->name);
        if (edits == 0) return c;
        if (edits < least) { least = edits; best = c; }
    }
    if (best) quit(EXIT_USAGE, "there is no command '%s': did you mean '%s'?", name, best->name);
    quit(EXIT_USAGE, "there is no command '%s': `%sckpt --help` lists them", name, program_prefix());
}

/* ---- what all commands use ---- */

bool dump_wants(const struct dump *d, const struct ckpt_tensor *t, const char *pattern)
{
    return (d->role == 0 || d->role - 1 == (int)t->role) && (!pattern || fnmatch(pattern, t->name, 0) == 0);
}

static bool is_safetensors(const char *path)
{
    size_t n = strlen(path);
    return n > 12 && strcmp(path + n - 12, ".safetensors") == 0;
}

/* A model of another system with our names, or with its own where it is none that can be imported. */
static struct ckpt *open_foreign(const struct dump *d, const char *path)
{
    struct ckpt *c;
    struct error error, why;
    if (!d->foreign) quit(EXIT_USAGE, "%s: a model of another system; `ckpt import` makes a checkpoint of it", path);
    bool alone = is_safetensors(path);
    if (!alone && interop_open(&c, path, NULL, &why) == 0) return c;
    if (interop_open_raw(&c, path, &error) != 0) quit_error(&error);
    if (!alone) fprintf(stderr, "%s: %s; its tensors keep their own names\n", program_name(), why.text);
    return c;
}

bool dump_is_foreign(const char *path) { return interop_is(path) || is_safetensors(path); }

struct ckpt *dump_open(const struct dump *d, int i, struct problems *problems)
{
    struct ckpt *c;
    struct error error;
    const char *path = d->argument[i];
    if (dump_is_foreign(path)) return open_foreign(d, path);
    int status = folder_is(path) ? run_newest(&c, path, false, &error) - 1
                                 : reader_open_file(&c, path, problems, &error);
    if (status != 0) quit_error(&error);
    return c;
}

static int run(const struct command *command, struct dump *d)
{
    struct problems problems = {0};
    struct ckpt *c = command->open ? dump_open(d, 0, command->open == WHOLE ? NULL : &problems) : NULL;
    json_t *facts = json_pack("{s:s, s:s}", "schema", "ckpt-dump/1", "command", command->name);
    if (c) fact(facts, "file", fact_text(c->path));
    int code = command->run(d, c, facts);
    if (command->open == DAMAGED) {
        fact_problems(facts, &problems);
        code = problems.exit_code;
    }
    facts_print(facts, d);
    json_decref(facts);
    free(d->note);
    problems_free(&problems);
    ckpt_close(c);
    return code;
}

int main(int argc, char **argv)
{
    program_begin("ckpt");
    const char *word = argc > 1 ? argv[1] : "";
    if (argc < 2 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        help();
        return argc < 2 ? EXIT_USAGE : 0;
    }
    if (strcmp(word, "--version") == 0) {
        printf("ckpt %s (format %d.%d)\n", QUARTET_VERSION, CKPT_MAJOR, CKPT_MINOR);
        return 0;
    }
    const struct command *c = find_command(word);
    struct dump d = {.section = c->section, .show = c->show, .foreign = c->foreign};
    struct option table[8] = {{0}};
    struct option_list arguments;
    struct error error;
    char *usage = host_text("ckpt %s %s", c->name, c->arguments);
    options_of(table, c, &d);
    if (options_parse(table, argc - 1, argv + 1, usage, c->about, &arguments, &error) != 0) quit_error(&error);
    if (arguments.count < c->least || arguments.count > c->most)
        quit(EXIT_USAGE, "usage: %s%s", program_prefix(), usage);
    if (d.dir && !folder_is(d.dir)) quit(EXIT_NOINPUT, "--dir %s: there is no such folder", d.dir);
    d.argument = arguments.item;
    d.arguments = arguments.count;
    if (takes(c, "jobs")) threads_start((int)d.jobs);
    int code = run(c, &d);
    if (takes(c, "jobs")) threads_stop();
    free(usage);
    return code;
}
