/* dump.h - what the files of `ckpt` share: the command line as parsed, opening, JSON, and values as text.  Everything
 * that comes from a file is escaped before a terminal or a JSON reader sees it. */
#ifndef QUARTET_DUMP_H
#define QUARTET_DUMP_H

#include "format/folder.h"
#include "format/lineage.h"

enum { EXIT_DIFFERENT = 1 };            /* `ckpt diff` only */

/* One command with its arguments. */
struct dump {
    const char *command;
    char **argument;                    /* positional */
    int arguments;
    bool json, hist, recompute, quick, deep, hex, group, tensors_only, force;
    int64_t jobs, top;
    double tol;
    const char *dir, *role, *match, *sort;
};

/* Commands return the exit code, after printing. */
int dump_info(struct dump *d);
int dump_sections(struct dump *d);
int dump_tensors(struct dump *d);
int dump_hash(struct dump *d);
int dump_limits(struct dump *d);
int dump_keys(struct dump *d);          /* config train rng data chat meta eval, by d->command */
int dump_tokenizer(struct dump *d);
int dump_lineage(struct dump *d);
int dump_stats(struct dump *d);
int dump_print(struct dump *d);
int dump_verify(struct dump *d);
int dump_diff(struct dump *d);
int dump_strip(struct dump *d);
int dump_ls(struct dump *d);
int dump_latest(struct dump *d);
int dump_explain(struct dump *d);

/* Opens d->argument[i], a file or a run folder (then its newest file that passes the quick checks).  With problems,
 * opening goes on past them.  Returns 0, or the exit code after saying why on stderr. */
int dump_open(struct ckpt **out, const struct dump *d, int i, struct problems *problems);
/* Prints the sentence on stderr and returns its exit code. */
int dump_error(const struct error *error);

/* Problems kept as text, at most PROBLEMS_SHOWN of them. */
enum { PROBLEMS_SHOWN = 100 };
struct findings { char *text[PROBLEMS_SHOWN]; int shown, exit_code; };
void findings_add(void *findings, const struct error *error);       /* a struct problems' report */
void findings_free(struct findings *f);

/* ---- JSON: one object a command, keys in the order written ---- */

struct json { struct bytes out; int depth; bool comma; };
void json_start(struct json *j, const struct dump *d);              /* {"schema": "ckpt-dump/1", "command": ... */
void json_end(struct json *j);                                      /* closes what is open, prints, frees */
void json_open(struct json *j, const char *key, char bracket);      /* key NULL within an array */
void json_close(struct json *j, char bracket);
void json_text(struct json *j, const char *key, const char *value);
void json_u64(struct json *j, const char *key, uint64_t value);     /* above 2^53 as a text */
void json_i64(struct json *j, const char *key, int64_t value);
void json_f64(struct json *j, const char *key, double value);       /* NaN and infinities as texts */
void json_bool(struct json *j, const char *key, bool value);
void json_crc(struct json *j, const char *key, uint32_t crc);       /* eight hexadecimal digits */
void json_hex(struct json *j, const char *key, const void *data, size_t size);
void json_kv(struct json *j, const char *key, const struct kv *kv);
void json_entry(struct json *j, const char *key, const struct kv_entry *e);
void json_findings(struct json *j, const struct findings *f);

/* ---- text ---- */

char *with_commas(char out[32], uint64_t n);                        /* 1,410,244,608 */
char *shape_text(char out[200], const struct ckpt_tensor *t);       /* [2, 3] */
char *time_text(char out[32], int64_t nanoseconds);                 /* 2026-09-20T10:11:12Z */
char *flags_text(char out[64], uint32_t flags);
/* The value as a script wants it; long ones are cut when `cut`. */
void entry_text(struct bytes *out, const struct kv_entry *e, bool cut);
/* Shell pattern with * and ?. */
bool glob_match(const char *pattern, const char *text);

#endif
