/* options.h - one table an option, for every program: parse, --help, units, ranges, did-you-mean, config file,
 * run.conf, and what may change on resume, all from the same rows. */
#pragma once

#include "common/base/base.h"

enum option_type {
    OPTION_FLAG,        /* bool:        --plan, --no-plan */
    OPTION_INT,         /* int64_t:     12, 400k (10^3), 200M (10^6), 1G or 1B (10^9) */
    OPTION_SIZE,        /* int64_t bytes: 64K, 2M, 1G are powers of 1024 */
    OPTION_REAL,        /* double:      1e-4, 0.1 */
    OPTION_SECONDS,     /* double:      90, 30s, 15m, 2h, 1d, or 1:30:00 */
    OPTION_TEXT,        /* const char * */
    OPTION_CHOICE,      /* int:         one of the words in `choices`, "a|b|c": 0, 1, 2 */
    OPTION_LIST,        /* struct option_list: may be given several times, several values after one (--data a b c) */
};

struct option_list { char **item; int count; };

enum { OPTION_MAY_CHANGE = 1,     /* does not change the mathematics: may differ on resume */
       OPTION_REQUIRED = 2,
       OPTION_NOT_SAVED = 4,      /* neither in run.conf nor compared on resume: --help, --config, --plan, --dry-run */
       OPTION_AUTO = 8,           /* a number of 0 or more, or the word auto: -1 until the program has computed it */
       OPTION_OR_ZERO = 32,       /* a number of 0, or within the range */
       OPTION_ALONE = 128,        /* given, it takes the place of those that are required */
       OPTION_COMMON = 64,        /* one of the options that --help shows; --help-all shows every one */
       OPTION_ONE_OF = 16 };      /* says the same as the others with this flag: one of them on the command line puts
                                     those of the file back to their defaults (--steps, --tokens, --epochs) */

struct option {
    const char *group;            /* heading in --help; NULL: as the row above */
    const char *name;             /* without the dashes */
    enum option_type type;
    void *value;                  /* set to the default by options_parse, then by file and command line */
    const char *standard;         /* the default as a user would write it; NULL: none (numbers 0, text NULL) */
    double min, max;              /* numbers: checked when min < max */
    const char *choices;          /* OPTION_CHOICE */
    int flags;
    const char *help;             /* one sentence, without the default (added by --help) */
};

/* The table ends with a row whose name is NULL.  usage: "pretrain --data FILES --out RUN"; about: one or two sentences.
 * Handles --help, --help-all and --version itself (prints to stdout and exits 0).  GNU syntax: --name value,
 * --name=value, --flag, --no-flag, `--` ends; unique prefixes of names are accepted.  --config FILE reads
 * "name = value" lines first (the same names; # comments; a list value one item a line or shell-quoted words); the
 * command line beats the file; the later beats the earlier; list options given on the command line replace the file's.
 * Positional arguments go to *positional (NULL: refused).
 * Returns 0, or -1 (EXIT_USAGE) with one sentence: unknown option with a did-you-mean, bad number, range, unit, choice,
 * a missing value or required option, or in a config file the file and line. */
int options_parse(const struct option *table, int argc, char **argv, const char *usage, const char *about,
                  struct option_list *positional, struct error *error);

/* Edits (insert, delete, replace a letter, swap neighbours) between two names: the measure of "did you mean". */
int option_edits(const char *a, const char *b);

/* run.conf: every saved option as used, "name = value", grouped, readable by --config; appended to out. */
void options_print(struct bytes *out, const struct option *table);

/* True when the user gave this option (command line or file). */
bool option_given(const struct option *table, const char *name);

/* True when its value is not the default: what matters where a run.conf, which names every option, must not count as
 * giving them all. */
bool option_changed(const struct option *table, const char *name);

/* 0, or -1 (EXIT_USAGE) when `name` was changed while `other`, without which it means nothing, has its default. */
int option_needs(const struct option *table, const char *name, const char *other, struct error *error);

/* 0, or -1 (EXIT_USAGE) when `name` and one of the others ("a|b") were changed: "--a cannot be given with --name,
 * WHY". */
int option_excludes(const struct option *table, const char *name, const char *others, const char *why,
                    struct error *error);

/* ---- one row: for options.c and train_options.c ---- */

/* Sets the value from a word; a list grows by it.  Returns 0, or -1 (EXIT_USAGE) with the value untouched. */
int option_set(const struct option *o, const char *word, struct error *error);

/* 0, false, NULL or no items; the default. */
void option_clear(const struct option *o);
void option_reset(const struct option *o);

/* The value, or the default, as the user would write it, in valid UTF-8 (which a path need not be); to free(). */
char *option_text(const struct option *o);
char *option_default_text(const struct option *o);

/* True for a number that is still "auto". */
bool option_auto(const struct option *o);

/* True for a text option that is not set: it is not saved. */
bool option_unset(const struct option *o);

/* To stdout: --help, the common options and the required ones, or all, also where none is marked as common; and what
 * docs/man/build.sh makes manual pages and completion of. */
void options_help(const struct option *table, const char *usage, const char *about, bool all);
void options_man(const struct option *table, const char *usage, const char *about);
void options_words(const struct option *table);

/* Words live as long as the process, as those of argv do. */
void option_list_add(struct option_list *list, const char *word);
