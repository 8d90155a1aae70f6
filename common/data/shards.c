/* shards.c - text is read in order and tokenised in parallel a batch at a time, so memory is bounded by the
 * batch and the shards are the same for any number of threads.  A source counts as unchanged when its size and time
 * are, or when only the time differs and its bytes still have the same CRC: a fresh copy of a corpus is not
 * tokenised again. */
#include "common/data/documents.h"
#include "common/data/shards.h"
#include "common/base/signals.h"
#include "common/base/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RULES_VERSION = 1, BATCH_BYTES = 8 << 20, DOCUMENTS_LIMIT = 4 << 20 };
static const uint64_t default_shard_tokens = 64 << 20;

void shards_tell(const struct shards_say *say, const char *format, ...)
{
    char line[1000];
    va_list list;
    if (!say->line) return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    say->line(say->self, line);
}

/* ---- what a shard must have been made from ---- */

static uint32_t rules_crc(const struct shards_options *o)
{
    uint32_t crc = crc32_of(RULES_VERSION, o->text_key, strlen(o->text_key) + 1);
    return o->separator ? crc32_of(crc, o->separator, strlen(o->separator) + 1) : crc;
}

static char *part_path(const struct shard_unit *u, const struct shards_options *o, uint32_t part)
{
    uint32_t name = 0;
    for (int i = 0; i < u->n; i++) name = crc32_of(name, u->path[i], strlen(u->path[i]) + 1);
    return host_text("%s/%08x-%04u.shard", o->folder, name, part);
}

static int look_at(struct shard_source *source, char *path, struct error *error)
{
    struct stat s;
    if (stat(path, &s) != 0) return fail(error, EXIT_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    *source = (struct shard_source){path, (uint64_t)s.st_size, s.st_mtim.tv_sec * 1000000000ll + s.st_mtim.tv_nsec, 0};
    return 0;
}

static bool unchanged(const struct shard_source *then, char *path)
{
    struct shard_source now = {0};
    struct error ignored;
    if (strcmp(then->path, path) != 0 || look_at(&now, path, &ignored) != 0 || then->size != now.size) return false;
    return then->mtime == now.mtime || (file_crc(&now.crc, path, &ignored) == 0 && now.crc == then->crc);
}

/* 0, or -1 with the reason why the shard cannot be used. */
static int check_fit(const struct shard *s, const struct shard_unit *u, const struct shards_options *o, uint32_t part,
                     struct error *why)
{
    size_t length;
    if (s->info.tokenizer != tokenizer_crc(o->tokenizer, &length) || s->info.tokenizer_length != length)
        return fail(why, EXIT_MISMATCH, "%s was made with another tokenizer", s->path);
    if (s->info.rules != rules_crc(o))
        return fail(why, EXIT_MISMATCH, "%s was made with another --text-key or --document-separator", s->path);
    if (s->info.part != part || s->n_sources != u->n)
        return fail(why, EXIT_MISMATCH, "%s was made from other files", s->path);
    for (int i = 0; i < u->n && part == 0; i++)
        if (!unchanged(&s->source[i], u->path[i])) return fail(why, EXIT_MISMATCH, "%s has changed", u->path[i]);
    return 0;
}

void shard_unit_close(struct shard_unit *u)
{
    for (int i = 0; i < u->n_shards; i++) shard_close(&u->shard[i]);
    free(u->shard);
    u->shard = NULL;
    u->n_shards = 0;
}

/* Opens what is there and fits.  Returns 0, or -1 with *why (empty: nothing was there) and no shard open. */
static int reuse(struct shard_unit *u, const struct shards_options *o, struct error *why)
{
    bool last = false;
    why->text[0] = 0;
    while (!last) {
        struct shard s;
        scoped char *path = part_path(u, o, (uint32_t)u->n_shards);
        int status = shard_open(&s, path, tokenizer_vocab(o->tokenizer), why);
        if (status == 0) {
            status = check_fit(&s, u, o, (uint32_t)u->n_shards, why);
            if (status != 0) shard_close(&s);
        }
        if (status != 0) {
            if (u->n_shards == 0 && why->exit_code == EXIT_NOINPUT) why->text[0] = 0;
            shard_unit_close(u);
            return -1;
        }
        u->shard = host_grow(u->shard, (size_t)u->n_shards + 1, sizeof *u->shard);
        u->shard[u->n_shards++] = s;
        last = s.info.last;
    }
    return 0;
}

/* ---- building ---- */

struct encoded { size_t at, length; bool first, last; struct ids ids; };

struct builder {
    const struct shards_options *options;
    const struct shard_unit *unit;
    struct shard_source *source;
    struct documents *reader;
    struct shard_writer *writer;
    struct shard_info info;
    int end_of_text;
    uint64_t documents;                 /* in the shard being written */
    uint64_t bytes;                     /* of the document being written */
    uint32_t hash;
    struct bytes text;                  /* the batch */
    struct encoded *part;
    int n_parts, room;
    double told;
};

static void encode_part(void *context, int i, int thread)
{
    struct builder *b = context;
    struct encoded *p = &b->part[i];
    (void)thread;
    p->ids.count = 0;
    tokenizer_encode_at(&p->ids, b->options->tokenizer, p->first ? TEXT_START : TEXT_WITHIN, b->text.data + p->at,
                        p->length);
}

static int begin_shard(struct builder *b, struct error *error)
{
    scoped char *path = part_path(b->unit, b->options, b->info.part);
    int id_bytes = tokenizer_vocab(b->options->tokenizer) <= 65536 ? 2 : 4;
    int status = shard_create(&b->writer, path, id_bytes, b->source, b->unit->n, error);
    b->documents = 0;
    return status;
}

static int end_shard(struct builder *b, bool last, struct error *error)
{
    struct shard_writer *w = b->writer;
    b->writer = NULL;
    b->info.last = last;
    b->info.counts = documents_counts(b->reader);
    if (shard_commit(w, &b->info, error) != 0) return -1;
    b->info.part++;
    return 0;
}

static int write_part(struct builder *b, const struct encoded *p, struct error *error)
{
    uint64_t most = b->options->shard_tokens ? b->options->shard_tokens : default_shard_tokens;
    if (p->first) {
        if ((shard_written(b->writer) >= most || b->documents >= DOCUMENTS_LIMIT) &&
            (end_shard(b, false, error) != 0 || begin_shard(b, error) != 0)) return -1;
        shard_add(b->writer, &b->end_of_text, 1);
        b->hash = 0;
        b->bytes = 0;
    }
    shard_add(b->writer, p->ids.id, p->ids.count);
    b->hash = crc32_of(b->hash, b->text.data + p->at, p->length);
    b->bytes += p->length;
    if (p->last) {
        shard_add(b->writer, &b->end_of_text, 1);
        shard_end_document(b->writer, b->bytes, b->hash);
        b->documents++;
    }
    return 0;
}

static int write_batch(struct builder *b, struct error *error)
{
    if (signals_check(error, "tokenising") != 0) return -1;
    threads_for(b->n_parts, encode_part, b);
    for (int i = 0; i < b->n_parts; i++)
        if (write_part(b, &b->part[i], error) != 0) return -1;
    b->n_parts = 0;
    b->text.size = 0;
    double now = seconds_now();
    if (now - b->told > 5) {
        char done[16], all[16];
        b->told = now;
        shards_tell(&b->options->say, "tokenising: %s of %s read",
                    text_bytes(done, (double)documents_counts(b->reader).bytes),
                    text_bytes(all, (double)b->unit->bytes));
    }
    return 0;
}

static int add_part(struct builder *b, const struct part *p, struct error *error)
{
    if (b->n_parts == b->room) {
        int room = 2 * b->room + 64;
        b->part = host_grow(b->part, (size_t)room, sizeof *b->part);
        memset(b->part + b->room, 0, (size_t)(room - b->room) * sizeof *b->part);
        b->room = room;
    }
    struct encoded *to = &b->part[b->n_parts++];
    *to = (struct encoded){b->text.size, p->length, p->first, p->last, to->ids};
    bytes_add(&b->text, p->text, p->length);
    return b->text.size >= BATCH_BYTES ? write_batch(b, error) : 0;
}

static int read_sources(struct builder *b, struct error *error)
{
    struct part part;
    int got;
    documents_over(b->reader, b->unit->path, b->unit->n, 1, 0);
    while ((got = documents_next(b->reader, &part, error)) == 1)
        if (add_part(b, &part, error) != 0) return -1;
    return got < 0 ? -1 : write_batch(b, error);
}

/* Removes shards of the unit from `part` on, which an earlier, longer text had left. */
static void remove_rest(const struct shard_unit *u, const struct shards_options *o, uint32_t part)
{
    for (int gone = 0; !gone; part++) {
        scoped char *path = part_path(u, o, part);
        gone = unlink(path);
    }
}

static void tell_skipped(const struct shards_options *o, const struct ledger *l)
{
    scoped_bytes struct bytes text = {0};
    ledger_skipped(&text, l);
    if (text.size) shards_tell(&o->say, "%.*s", (int)text.size - 1, text.data);
}

static int build(struct shard_unit *u, const struct shards_options *o, struct error *error)
{
    struct document_rules rules = {o->text_key, o->separator, o->allow_invalid, o->skip_bad_rows};
    struct builder b = {.options = o, .unit = u, .info = {.rules = rules_crc(o)}};
    size_t length;
    b.info.tokenizer = tokenizer_crc(o->tokenizer, &length);
    b.info.tokenizer_length = length;
    b.end_of_text = tokenizer_document(o->tokenizer);
    b.told = seconds_now();
    b.source = host_alloc((size_t)u->n, sizeof *b.source);
    documents_open(&b.reader, &rules);
    int status = 0;
    for (int i = 0; i < u->n && status == 0; i++) {
        status = look_at(&b.source[i], u->path[i], error);
        if (status == 0) status = file_crc(&b.source[i].crc, u->path[i], error);
    }
    if (status == 0) status = begin_shard(&b, error);
    if (status == 0) status = read_sources(&b, error);
    if (status == 0) status = ledger_check(documents_ledger(b.reader), error);
    if (status == 0) status = end_shard(&b, true, error);
    if (status == 0) tell_skipped(o, documents_ledger(b.reader));
    shard_abandon(b.writer);
    if (status == 0) remove_rest(u, o, b.info.part);
    documents_close(b.reader);
    bytes_free(&b.text);
    for (int i = 0; i < b.room; i++) free(b.part[i].ids.id);
    free(b.part);
    free(b.source);
    return status;
}

/* ---- all units ---- */

struct verification { struct shard **shard; bool *bad; };

static void verify_shard(void *context, int i, int thread)
{
    struct verification *v = context;
    struct error why;
    (void)thread;
    v->bad[i] = !signals_stop() && !v->shard[i]->as_written && shard_verify(v->shard[i], &why) != 0;
}

/* Drops the shards of units of which one is damaged.  What is as it was written is checked where it is read. */
static void verify_all(struct shard_unit *unit, int n_units, const struct shards_options *o)
{
    int n = 0, k = 0;
    for (int u = 0; u < n_units; u++) n += unit[u].n_shards;
    scoped struct shard **shard = host_alloc((size_t)n + 1, sizeof *shard);
    scoped bool *damaged = host_alloc((size_t)n + 1, sizeof *damaged);
    struct verification v = {shard, damaged};
    for (int u = 0; u < n_units; u++)
        for (int i = 0; i < unit[u].n_shards; i++) v.shard[k++] = &unit[u].shard[i];
    threads_for(n, verify_shard, &v);
    k = 0;
    for (int u = 0; u < n_units; u++) {
        struct error why = {0};
        bool bad = false;
        int shards = unit[u].n_shards;
        for (int i = 0; i < shards; i++, k++)
            if (v.bad[k] && !bad) bad = shard_verify(v.shard[k], &why) != 0;
        if (!bad) continue;
        shards_tell(&o->say, "tokenising again: %s", why.text);
        shard_unit_close(&unit[u]);
    }
}

static char *beside(const struct shards_options *o) { return host_text("%s/new-%d", o->folder, (int)getpid()); }

void shards_settle(struct shard_unit *unit, int n_units, const struct shards_options *o, bool keep)
{
    scoped char *folder = beside(o);
    struct shards_options new = *o;
    new.folder = folder;
    for (int u = 0; u < n_units; u++) {
        for (int part = 0; keep && unit[u].beside && part < unit[u].n_shards; part++) {
            scoped char *from = part_path(&unit[u], &new, (uint32_t)part), *to = part_path(&unit[u], o, (uint32_t)part);
            if (rename(from, to) != 0) quit(EXIT_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
        }
        if (keep && unit[u].beside) remove_rest(&unit[u], o, (uint32_t)unit[u].n_shards);
        if (!keep) remove_rest(&unit[u], &new, 0);
        unit[u].beside = false;
    }
    rmdir(folder);
}

static int build_missing(struct shard_unit *unit, int n_units, const struct shards_options *o, int folder,
                         struct error *error)
{
    uint64_t bytes = 0;
    double started = seconds_now();
    bool told = false;
    for (int u = 0; u < n_units; u++) {
        if (unit[u].n_shards > 0) continue;
        if (!told) shards_tell(&o->say, "tokenising the data with %d thread%s", threads_count(),
                               plural(threads_count()));
        told = true;
        unit[u].beside = o->beside != 0;
        if (folder_make(o->folder, error) != 0 || build(&unit[u], o, error) != 0 ||
            reuse(&unit[u], o, error) != 0) return -1;
        bytes += unit[u].shard[unit[u].n_shards - 1].info.counts.bytes;
    }
    if (bytes == 0) return 0;
    char size[16];
    shards_tell(&o->say, "tokenised %s in %.1f s", text_bytes(size, (double)bytes), seconds_now() - started);
    if (fsync(folder) != 0) return fail(error, EXIT_IO, "cannot sync %s: %s", o->folder, strerror(errno));
    return 0;
}

/* Two programs may share a folder: the second waits, and then finds everything there.  Returns a file descriptor whose
 * closing gives the lock back, or -1. */
static int lock_folder(const struct shards_options *o, struct error *error)
{
    bool told = false;
    const char *path = o->folder;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (folder >= 0 && flock(folder, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) fail(error, EXIT_IO, "cannot lock %s: %s", path, strerror(errno));
        else if (signals_check(error, "waiting for %s", path) == 0) {
            if (!told) shards_tell(&o->say, "waiting for another program that tokenises into %s", path);
            told = true;
            signals_nap();
            continue;
        }
        close(folder);
        return -1;
    }
    return folder >= 0 ? folder : fail(error, EXIT_IO, "cannot open %s: %s", path, strerror(errno));
}

int shards_build(struct shard_unit *unit, int n_units, const struct shards_options *o, struct error *error)
{
    struct error why;
    if (folder_make(o->folder, error) != 0) return -1;
    int folder = lock_folder(o, error);
    if (folder < 0) return -1;
    for (int u = 0; u < n_units; u++)
        if (reuse(&unit[u], o, &why) != 0 && why.text[0]) shards_tell(&o->say, "tokenising again: %s", why.text);
    verify_all(unit, n_units, o);
    int status = signals_check(error, "checking %s", o->folder);
    struct shards_options new = *o;
    scoped char *other = o->beside ? beside(o) : NULL;
    if (other) new.folder = other;
    if (status == 0) status = build_missing(unit, n_units, &new, folder, error);
    if (status != 0 && other) shards_settle(unit, n_units, o, false);
    close(folder);
    return status;
}
