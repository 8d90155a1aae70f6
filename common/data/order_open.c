/* order_open.c - sources become an order: their shards are placed one behind the other, documents are held out, rows
 * counted, and the data identified; or all of that is estimated from a sample. */
#include "common/base/threads.h"
#include "common/data/documents.h"
#include "common/data/order_parts.h"

#include <assert.h>
#include <math.h>
#include <sys/resource.h>

/* ---- which tokens of a document belong to which split ---- */

/* Spreads CRCs of similar texts evenly.  Source: Appleby, MurmurHash3, finalisation mix. */
static uint32_t mix(uint32_t h)
{
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
}

void order_part(const struct order *s, enum split split, uint64_t from, const struct shard_entry *entry,
                uint64_t *begin, uint64_t *end)
{
    uint64_t n = entry->token_end - from, held = 0;
    if (s->tails && s->validation > 0 && n >= 4) {                  /* either side keeps a token and its target */
        held = (uint64_t)ceil(s->validation * (double)n);
        held = held < 2 ? 2 : held > n - 2 ? n - 2 : held;
    }
    if (!s->tails && mix(entry->hash) < s->threshold) held = n;
    *begin = split == TRAINING ? from : entry->token_end - held;
    *end = split == TRAINING ? entry->token_end - held : entry->token_end;
}

/* ---- opening ---- */

struct placing { const struct order *order; struct placed *to; uint64_t block, from; };

static void place_entries(void *self, const struct shard_entry *entry, size_t n)
{
    struct placing *g = self;
    struct placed *p = g->to;
    uint64_t begin, end;
    for (int k = 0; k < SPLITS; k++) p->before[k][g->block] = p->tokens[k];
    g->block++;
    for (size_t i = 0; i < n; g->from = entry[i++].token_end)
        for (int k = 0; k < SPLITS; k++) {
            order_part(g->order, (enum split)k, g->from, &entry[i], &begin, &end);
            p->tokens[k] += end - begin;
            p->documents[k] += end > begin;
        }
}

/* Fills the table of a shard and its totals. */
static void place_shard(void *context, int i, int thread)
{
    struct order *s = context;
    struct placed *p = &s->placed[i];
    struct placing placing = {s, p, 0, 0};
    struct error why;
    (void)thread;
    for (int k = 0; k < SPLITS; k++) p->tokens[k] = p->documents[k] = 0;
    p->bad = shard_index(p->shard, place_entries, &placing, &why) != 0;
}

/* Where each shard starts: training rows lie within a group, validation rows run through all of them. */
static int place(struct order *s, struct error *error)
{
    threads_for(s->n_placed, place_shard, s);
    for (int i = 0; i < s->n_placed; i++)
        if (s->placed[i].bad && shard_index(s->placed[i].shard, NULL, NULL, error) != 0)
            return shard_discard(s->placed[i].shard, error);
    for (int k = 0; k < SPLITS; k++) s->tokens[k] = s->documents[k] = 0;
    for (int g = 0; g < s->n_groups; g++) {
        s->group[g].tokens = 0;
        for (int i = s->group[g].shard; i < s->group[g].end; i++) {
            struct placed *p = &s->placed[i];
            p->start[TRAINING] = s->group[g].tokens;
            p->start[VALIDATION] = s->tokens[VALIDATION];
            s->group[g].tokens += p->tokens[TRAINING];
            for (int k = 0; k < SPLITS; k++) {
                s->tokens[k] += p->tokens[k];
                s->documents[k] += p->documents[k];
            }
        }
    }
    return 0;
}

/* Whole documents are held out by hash, unless there are too few of them: then the tail of each. */
static int split(struct order *s, double validation, struct error *error)
{
    s->validation = validation;
    s->threshold = (uint32_t)fmin(validation * 4294967296.0, 4294967295.0);
    if (place(s, error) != 0) return -1;
    uint64_t held = s->documents[VALIDATION], all = held + s->documents[TRAINING];
    s->tails = validation > 0 && ((double)all * validation < 1 || held == 0 || held == all);
    return s->tails ? place(s, error) : 0;
}

static void count_rows(struct order *s)
{
    uint64_t T = (uint64_t)s->row_tokens;
    for (int i = 0; i < s->n_groups; i++) {
        struct group *g = &s->group[i];
        g->rows = (g->tokens + T - 1) / T;
        g->times = (uint64_t)(g->weight * (double)g->rows + 0.5);
        if (g->times == 0 && g->rows > 0) g->times = 1;
        s->rows[TRAINING] += g->times;
    }
    s->rows[VALIDATION] = (s->tokens[VALIDATION] + T - 1) / T;
}

static void add_identity(struct order *s, const void *data, size_t size)
{
    s->identity = crc32_of(s->identity, data, size);
}

static void identify(struct order *s, const struct tokenizer *t)
{
    size_t length;
    uint32_t tokenizer = tokenizer_crc(t, &length);
    add_identity(s, &tokenizer, sizeof tokenizer);
    add_identity(s, &s->seed, sizeof s->seed);
    add_identity(s, &s->row_tokens, sizeof s->row_tokens);
    add_identity(s, &s->validation, sizeof s->validation);
    for (int i = 0; i < s->n_groups; i++) {
        add_identity(s, &s->group[i].weight, sizeof s->group[i].weight);
        for (int k = s->group[i].shard; k < s->group[i].end; k++) {
            add_identity(s, &s->placed[k].shard->tokens_crc, sizeof(uint32_t));
            add_identity(s, &s->placed[k].shard->index_crc, sizeof(uint32_t));
        }
    }
}

/* Shards are kept open: as many files as the system lets us. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void group_units(struct order *s)
{
    for (int u = 0; u < s->n_units; u++) s->n_placed += s->unit[u].n_shards;
    s->placed = host_alloc((size_t)s->n_placed + 1, sizeof *s->placed);
    s->group = host_alloc((size_t)s->n_units + 1, sizeof *s->group);
    int n = 0;
    for (int u = 0; u < s->n_units; u++) {
        if (u == 0 || s->unit[u].weight != s->unit[u - 1].weight)
            s->group[s->n_groups++] = (struct group){.weight = s->unit[u].weight, .shard = n};
        for (int i = 0; i < s->unit[u].n_shards; i++) {
            struct placed *p = &s->placed[n++];
            p->shard = &s->unit[u].shard[i];
            for (int k = 0; k < SPLITS; k++)
                p->before[k] = host_alloc(p->shard->info.documents / BLOCK + 1, sizeof **p->before);
        }
        s->group[s->n_groups - 1].end = n;
    }
}

static void report(const struct order *s, const struct shards_say *say)
{
    char count[SPLITS][16], tokens[SPLITS][16];
    struct text_counts c = {0};
    for (int u = 0; u < s->n_units; u++) {
        const struct text_counts *of = &s->unit[u].shard[s->unit[u].n_shards - 1].info.counts;
        c.boms += of->boms;
        c.carriage_returns += of->carriage_returns;
        c.invalid += of->invalid;
    }
    for (int k = 0; k < SPLITS; k++) {
        text_count(count[k], (double)s->documents[k]);
        text_count(tokens[k], (double)s->tokens[k]);
    }
    if (c.boms || c.carriage_returns || c.invalid)
        shards_tell(say, "text cleaned: %llu byte order mark%s and %llu carriage return%s removed, %llu invalid byte%s "
                    "replaced", (unsigned long long)c.boms, plural((int64_t)c.boms),
                    (unsigned long long)c.carriage_returns, plural((int64_t)c.carriage_returns),
                    (unsigned long long)c.invalid, plural((int64_t)c.invalid));
    const int64_t n[SPLITS] = {(int64_t)s->documents[TRAINING], (int64_t)s->documents[VALIDATION]};
    if (s->validation == 0)
        shards_tell(say, "data: %s tokens in %s document%s", tokens[TRAINING], count[TRAINING], plural(n[TRAINING]));
    else shards_tell(say, "data: %s tokens in %s document%s to train on, %s tokens %s %s document%s held out",
                     tokens[TRAINING], count[TRAINING], plural(n[TRAINING]), tokens[VALIDATION],
                     s->tails ? "from the ends of" : "in", count[VALIDATION], plural(n[VALIDATION]));
}

static int open_shards(struct order *s, const struct tokenizer *t, const struct order_options *o, struct shards_say say,
                       struct error *error)
{
    if (tokenizer_document(t) < 0)
        return fail(error, EXIT_MISMATCH, "the tokenizer has no token <|endoftext|>, which separates documents, and no "
                    "other that its import recorded for that");
    struct shards_options how = o->shards;
    how.beside = o->expected != 0;
    how.tokenizer = t;
    how.say = say;
    uint64_t bytes;
    if (documents_paths(&s->paths, &bytes, o->shards.data, error) != 0) return -1;
    paths_tell(&s->paths, say.line, say.self);
    raise_file_limit();
    s->n_units = shard_units(&s->unit, &s->paths);
    if (shards_build(s->unit, s->n_units, &how, error) != 0) return -1;
    group_units(s);
    if (split(s, o->validation, error) != 0) return -1;
    if (s->documents[TRAINING] + s->documents[VALIDATION] == 0)
        return fail(error, EXIT_DATA, "there is no text in %s%s", s->paths.path[0],
                    s->paths.count > 1 ? " and the other files" : "");
    count_rows(s);
    identify(s, t);
    bool fits = true;
    for (int u = 0; u < s->n_units; u++) fits &= !s->unit[u].beside || s->identity == o->expected;
    if (o->expected) shards_settle(s->unit, s->n_units, &how, fits);
    if (!fits)
        return fail(error, EXIT_MISMATCH, "the data is not what this run was trained on (identity %08x, expected "
                    "%08x): restore the files, or start a new run from its weights with --model", s->identity,
                    o->expected);
    report(s, &say);
    return 0;
}

int order_open(struct order **out, const struct tokenizer *t, const struct order_options *o,
               void (*say)(void *self, const char *line), void *self, struct error *error)
{
    assert(o->row_tokens >= 2 && o->validation >= 0 && o->validation < 1);
    struct order *s = host_alloc(1, sizeof *s);
    s->seed = o->seed;
    s->row_tokens = o->row_tokens;
    if (open_shards(s, t, o, (struct shards_say){say, self}, error) != 0) {
        order_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* Tokens of at most SAMPLE bytes of text, and the bytes on the disk that they take. */
static int sample_tokens(double *tokens, double *packed, const struct paths *paths, const struct tokenizer *t,
                         const struct document_rules *rules, struct error *error)
{
    struct documents *d;
    struct part part;
    struct ids ids = {0};
    uint64_t most;
    int got, step = documents_step(paths, &most);
    documents_open(&d, rules);
    documents_over(d, paths->path, paths->count, step, most);
    while ((got = documents_next(d, &part, error)) == 1) {
        ids.count = 0;
        tokenizer_encode_at(&ids, t, part.first ? TEXT_START : TEXT_WITHIN, part.text, part.length);
        *tokens += (double)(ids.count + part.first + part.last);
    }
    *packed = documents_packed(d);
    documents_close(d);
    free(ids.id);
    return got;
}

int order_estimate(struct order **out, const struct tokenizer *t, const struct order_options *o,
                   void (*say)(void *self, const char *line), void *self, struct error *error)
{
    struct shards_say saying = {say, self};
    struct document_rules rules = {o->shards.text_key, o->shards.separator, o->shards.allow_invalid,
                                   o->shards.skip_bad_rows};
    struct paths paths;
    uint64_t bytes;
    double tokens = 0, packed = 0, weighted = 0;
    char shown[3][16];
    if (documents_paths(&paths, &bytes, o->shards.data, error) != 0) return -1;
    paths_tell(&paths, say, self);
    int status = sample_tokens(&tokens, &packed, &paths, t, &rules, error);
    if (status == 0 && tokens == 0) status = fail(error, EXIT_DATA, "there is no text in %s", paths.path[0]);
    for (int i = 0; i < paths.count; i++) weighted += paths.weight[i] * (double)paths.size[i];
    paths_free(&paths);
    if (status != 0) return -1;
    double rate = tokens / packed, T = o->row_tokens;
    struct order *s = *out = host_alloc(1, sizeof *s);
    s->row_tokens = o->row_tokens;
    s->tokens[VALIDATION] = (uint64_t)(rate * (double)bytes * o->validation);
    s->tokens[TRAINING] = (uint64_t)(rate * (double)bytes) - s->tokens[VALIDATION];
    s->rows[VALIDATION] = (uint64_t)ceil((double)s->tokens[VALIDATION] / T);
    s->rows[TRAINING] = (uint64_t)ceil(rate * weighted * (1 - o->validation) / T);
    shards_tell(&saying, "data: about %s tokens, estimated from %s of %s", text_count(shown[0], rate * (double)bytes),
                text_bytes(shown[1], packed), text_bytes(shown[2], (double)bytes));
    return 0;
}

void order_close(struct order *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_placed; i++)
        for (int k = 0; k < SPLITS; k++) free(s->placed[i].before[k]);
    for (int u = 0; u < s->n_units; u++) shard_unit_close(&s->unit[u]);
    free(s->unit);
    free(s->placed);
    free(s->group);
    paths_free(&s->paths);
    free(s);
}
