/* paths.c - a folder is walked in byte order.  What is left out of it is counted and named: a file that is missing from
 * the training data must not be missing from the log. */
#include "common/data/paths.h"
#include "common/base/signals.h"
#include "common/base/threads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER_DEPTH = 32, NAMED = 3 };

static void paths_add(struct paths *p, const char *path, double weight, uint64_t size)
{
    p->path = host_append(p->path, (size_t)p->count, 1, sizeof *p->path);
    p->weight = host_append(p->weight, (size_t)p->count, 1, sizeof *p->weight);
    p->size = host_append(p->size, (size_t)p->count, 1, sizeof *p->size);
    p->path[p->count] = host_text("%s", path);
    p->weight[p->count] = weight;
    p->size[p->count++] = size;
}

void paths_free(struct paths *p)
{
    for (int i = 0; i < p->count; i++) free(p->path[i]);
    free(p->path);
    free(p->weight);
    free(p->size);
    bytes_free(&p->left_out);
    *p = (struct paths){0};
}

void paths_tell(const struct paths *p, void (*say)(void *self, const char *line), void *self)
{
    for (char *line = p->left_out.data, *end; say && line && *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        say(self, line);
        *end = '\n';
    }
}

/* ---- folders ---- */

/* Things of one kind that a folder has and that are left out: how many, and the first few names. */
struct left { int count; struct bytes names; };

struct walk { struct paths *paths; double weight; struct left files, links, folders; };

static void leave(struct left *l, const char *path)
{
    if (l->count++ < NAMED) bytes_text(&l->names, "%s%s", l->count > 1 ? ", " : "", text_shown(path).text);
}

static void note_left(struct paths *p, struct left *l, const char *folder, const char *what, const char *how)
{
    if (l->count > 0)
        bytes_text(&p->left_out, "left out of %s: %d %s%s %s: %s%s\n", folder, l->count, what, plural(l->count), how,
                   l->names.data, l->count > NAMED ? ", ..." : "");
    bytes_free(&l->names);
}

/* A run folder, also one whose program has only just taken the lock. */
static bool is_run(const char *folder)
{
    char word[10] = "", *lock = host_text("%s/lock", folder);
    FILE *f = fopen(lock, "r");
    bool run = f && fscanf(f, "%9[a-z]", word) == 1 && word_number("pretrain|sft|rm|rlhf", word) >= 0;
    if (f) fclose(f);
    free(lock);
    return run || (path_holds(folder, "run.conf") && path_holds(folder, "status.json"));
}

static bool is_tokenizer_or_shards(const char *folder)
{
    glob_t shards = {0};
    if (path_holds(folder, "tokenizer.json") ||
        (path_holds(folder, "vocab.json") && path_holds(folder, "merges.txt")) ||
        (path_holds(folder, "encoder.json") && path_holds(folder, "vocab.bpe"))) return true;
    scoped char *pattern = host_text("%s/*.shard", folder);
    bool found = glob(pattern, GLOB_NOSORT, NULL, &shards) == 0;
    globfree(&shards);
    return found;
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* byte order, whatever the locale: the order of documents must not depend on LANG */
static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int add_folder(struct walk *w, const char *folder, int depth, struct error *error)
{
    static const char texts[] = ".txt|.jsonl|.jsonlines|.ndjson|.json|.gz|.zst",
                      own[] = "log.txt|samples.txt|metrics.jsonl|rollouts.jsonl|status.json";      /* of a run */
    struct dirent **entry;
    if (depth > FOLDER_DEPTH)
        return fail(error, EXIT_NOINPUT, "%s: folders are nested more than %d deep", folder, FOLDER_DEPTH);
    int n = scandir(folder, &entry, visible, by_bytes);
    if (n < 0) return fail(error, EXIT_NOINPUT, "cannot list the folder %s: %s", folder, strerror(errno));
    int status = 0;
    bool run = is_run(folder);                   /* only where the user names it: its own files are no data */
    for (int i = 0; i < n; i++) {
        scoped char *path = host_text("%s/%s", folder, entry[i]->d_name);
        struct stat s;
        if (status != 0) { }
        else if (stat(path, &s) != 0) leave(&w->links, path);
        else if (S_ISDIR(s.st_mode) && (is_run(path) || is_tokenizer_or_shards(path))) leave(&w->folders, path);
        else if (S_ISDIR(s.st_mode)) status = add_folder(w, path, depth + 1, error);
        else if (text_ends(path, texts) && !(run && word_number(own, entry[i]->d_name) >= 0))
            paths_add(w->paths, path, w->weight, (uint64_t)s.st_size);
        else leave(&w->files, path);
        free(entry[i]);
    }
    free(entry);
    return status;
}

/* ---- entries ---- */

static int add_path(struct paths *p, const char *path, double weight, struct error *error)
{
    struct stat s;
    bool there = stat(path, &s) == 0;
    if (!there || !S_ISDIR(s.st_mode)) {
        paths_add(p, path, weight, there ? (uint64_t)s.st_size : 0);
        return 0;
    }
    struct walk w = {p, weight, {0}, {0}, {0}};
    int before = p->count;
    int status = add_folder(&w, path, 1, error);
    note_left(p, &w.folders, path, "folder", "of a run, a tokenizer or shards");
    note_left(p, &w.files, path, "file", "not named as text");
    note_left(p, &w.links, path, "link", "leading nowhere");
    if (status != 0 || p->count > before || is_run(path)) return status;
    return fail(error, EXIT_NOINPUT, "the folder %s holds no .txt, .jsonl, .json, .gz or .zst file%s%s", path,
                p->left_out.size ? "; " : "", p->left_out.size ? p->left_out.data : "");
}

static int add_entry(struct paths *p, const char *entry, double weight, struct error *error)
{
    struct stat s;
    if (access(entry, F_OK) == 0) return add_path(p, entry, weight, error);              /* names may hold [ or * */
    if (lstat(entry, &s) == 0)
        return fail(error, EXIT_NOINPUT, S_ISLNK(s.st_mode) ? "the link '%s' leads nowhere" : "cannot open '%s'",
                    entry);
    glob_t found;
    int status = glob(entry, 0, NULL, &found);
    if (status == GLOB_NOMATCH)
        return fail(error, EXIT_NOINPUT, strpbrk(entry, "*?[") ? "nothing matches '%s'"
                                                               : "there is no file or folder '%s'", entry);
    if (status != 0) return fail(error, EXIT_NOINPUT, "cannot expand '%s': %s", entry, strerror(errno));
    int result = 0;
    for (size_t i = 0; i < found.gl_pathc && result == 0; i++) {
        bool there = access(found.gl_pathv[i], F_OK) == 0;
        if (there) result = add_path(p, found.gl_pathv[i], weight, error);
        else bytes_text(&p->left_out, "left out: the link %s leads nowhere\n", found.gl_pathv[i]);
    }
    globfree(&found);
    return result;
}

/* Splits "books=2.5" into name and weight.  Returns 0, or -1 when what follows the last '=' is no weight. */
static int split_weight(char *entry, double *weight, struct error *error)
{
    char *equals = strrchr(entry, '='), *end;
    if (!equals || access(entry, F_OK) == 0) return 0;
    *weight = strtod(equals + 1, &end);
    if (end == equals + 1 || *end) {
        *weight = 1;                                         /* an '=' of the name: let the name be looked for whole */
        return 0;
    }
    if (!(*weight > 0 && *weight <= 1000))
        return fail(error, EXIT_USAGE, "the weight in '%s' is not above 0 and at most 1000", entry);
    *equals = 0;
    return 0;
}

int paths_expand(struct paths *out, const struct option_list *list, bool weights, struct error *error)
{
    struct paths p = {0};
    int status = 0;
    for (int i = 0; i < list->count && status == 0; i++) {
        scoped char *entry = host_text("%s", list->item[i]);
        double weight = 1;
        if (weights) status = split_weight(entry, &weight, error);
        if (status == 0) status = add_entry(&p, entry, weight, error);
    }
    if (status == 0 && p.count == 0)
        status = fail(error, EXIT_NOINPUT, "no file is left of '%s'; %s", list->count ? list->item[0] : "",
                      p.left_out.data);
    if (status != 0) paths_free(&p);
    else *out = p;
    return status;
}

/* ---- contents ---- */

int file_crc(uint32_t *crc, const char *path, struct error *error)
{
    enum { BLOCK = 1 << 20 };
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail(error, EXIT_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    scoped char *block = host_alloc(BLOCK, 1);
    ssize_t n;
    *crc = 0;
    int status = 0;
    while (status == 0 && (n = read(file, block, BLOCK)) > 0) {
        *crc = crc32_of(*crc, block, (size_t)n);
        status = signals_check(error, "reading %s", path);
    }
    if (status == 0 && n < 0) status = fail(error, EXIT_IO, "cannot read %s: %s", path, strerror(errno));
    close(file);
    return status;
}

struct checksums { char **path; uint32_t *crc; int *status; };

static void crc_of_one(void *context, int i, int thread)
{
    struct checksums *c = context;
    (void)thread;
    c->status[i] = file_crc(&c->crc[i], c->path[i], NULL);
}

int paths_crc(uint32_t *crc, const struct paths *p, struct error *error)
{
    size_t n = (size_t)p->count;
    struct checksums c = {p->path, host_alloc(n, sizeof *c.crc), host_alloc(n, sizeof *c.status)};
    int status = 0;
    threads_for(p->count, crc_of_one, &c);
    for (int i = 0; i < p->count && status == 0; i++)
        if (c.status[i] != 0) status = file_crc(&c.crc[i], p->path[i], error);      /* again, for its sentence */
    *crc = crc32_of(0, c.crc, n * sizeof *c.crc);
    free(c.crc);
    free(c.status);
    return status;
}
