/* dump.h - what the files of `ckpt` share: the command line as parsed, opening, and output.  A command says its facts
 * once, as one JSON value, which main() prints as JSON or as text.  Everything that comes from a file is escaped before
 * a terminal sees it.  What goes wrong ends the program with a sentence and its exit code. */
#ifndef QUARTET_DUMP_H
#define QUARTET_DUMP_H

#include "format/reader.h"

#include <jansson.h>

enum { EXIT_DIFFERENT = 1 };            /* `ckpt diff` only */

/* One command with its arguments. */
struct dump {
    const char *section;                /* what a command for key-values shows */
    char **argument;                    /* positional */
    int arguments, role, sort, type;          /* the words of --role and --sort by number, 0 the default */
    bool json, hist, recompute, quick, deep, hex, group, tensors_only, force, compare, watch, foreign, llama2c;
    int64_t jobs, top, shard;
    double tol;
    const char *dir, *match, *out, *hf, *gguf;
    const char *show;                   /* as text: the member that is the table; NULL all as facts; "" only the note */
    char *note;                         /* text after it, to free() */
};
#define DUMP_ROLES "any|weight|master|m|v|ema|buffer|head|scale"
enum { SORT_OFFSET, SORT_NAME, SORT_SIZE };

/* A command: the open file (NULL where it opens none), and where its facts go.  Returns the exit code. */
int dump_info(struct dump *d, struct ckpt *c, json_t *facts);
__typeof__(dump_info) dump_sections, dump_tensors, dump_hash, dump_limits, dump_keys, dump_tokenizer, dump_lineage,
    dump_stats, dump_print, dump_verify, dump_diff, dump_strip, dump_ls, dump_latest, dump_explain, dump_import,
        dump_export,
    dump_report;

/* Opens d->argument[i], a file or a run folder (then its newest file that passes the quick checks).  With problems,
 * opening goes on past them.  Quits when it cannot be opened. */
struct ckpt *dump_open(const struct dump *d, int i, struct problems *problems);
/* A Hugging Face folder, a safetensors or a GGUF file?  dump_open opens it where d->foreign. */
bool dump_is_foreign(const char *path);
/* Is the tensor one that --role and a shell pattern (NULL: any) ask for? */
bool dump_wants(const struct dump *d, const struct ckpt_tensor *t, const char *pattern);

/* One pass over a tensor: its statistics.  exponent (may be NULL) counts the finite values but 0: those in
 * [2^e, 2^(e+1)) at e + EXPONENT_BIAS. */
enum { EXPONENTS = 2200, EXPONENT_BIAS = 1101 };                    /* of doubles: -1074 .. 1023 */
struct scan { const struct ckpt *c; size_t tensor; uint64_t *exponent; struct stats stats; int status;
              struct error error; };
void scan_all(struct scan *scan, size_t n);

/* The family tree of an open file, as text, and its ancestors found in a folder or in the folders in it. */
struct family { struct bytes text; char **path; int count; };
void family_find(struct family *f, const struct ckpt *c, const char *dir);
void family_free(struct family *f);

/* ---- facts ---- */

/* Sets a member, or appends where key is NULL; takes over value, and dies when there is none. */
void fact(json_t *to, const char *key, json_t *value);
/* Sets all members of an object; takes it over. */
void fact_members(json_t *to, json_t *members);
/* Prints all of it, as d says. */
void facts_print(const json_t *facts, const struct dump *d);
/* A table of rows (objects) as text: one column per key, booleans by their name, "-" for what a row lacks. */
void facts_table(const json_t *rows, int indent);

json_t *fact_text(const char *text);                                /* what is not UTF-8 becomes U+FFFD */
json_t *fact_u64(uint64_t value);                                   /* above 2^53 a text, as other readers round */
json_t *fact_f64(double value);                                     /* NaN and infinities are texts */
json_t *fact_crc(uint32_t crc);                                     /* eight hexadecimal digits */
json_t *fact_hex(const void *data, size_t size);
json_t *fact_entry(const struct kv_entry *e);
json_t *fact_kv(const struct kv *kv);
void fact_problems(json_t *facts, const struct problems *p);        /* "problems" and "result" */

/* A value as text, escaped; long ones are cut when `cut`, else it is what a script wants. */
void fact_print(struct bytes *out, const json_t *value, bool cut);

char *with_commas(char out[32], uint64_t n);                        /* 1,410,244,608 */
char *flags_text(char out[64], uint32_t flags);                     /* training-state resumable final */
char *shape_text(char out[200], const struct ckpt_tensor *t);       /* [2, 3] */

#endif
