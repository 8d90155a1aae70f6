/* data.c - the tokenizer first, because everything else counts in its tokens.  It is kept in the run folder with the
 * CRC of the text it came from, so that a run that is stopped before its first checkpoint does not train it twice. */
#include "common/base/rng.h"
#include "common/base/signals.h"
#include "common/data/documents.h"
#include "pretrain/pretrain.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char end_of_text[] = "<|endoftext|>";
enum { TOKENIZER_LIMIT = 256 << 20 };

/* ---- tokenizer ---- */

/* A sample of the documents: stretches of at most STRETCH_LIMIT bytes, each with the same chance, decided by its number
 * alone; one is taken in any case where less than half of what should be has been so far, so the first always is. */
enum { STRETCH_LIMIT = 1 << 14 };
struct sample {
    struct pretrain *program;
    struct documents *documents;
    struct paths paths;
    struct error error;
    int status;
    double share, told;                 /* told: when progress was last shown */
    uint64_t all;                       /* bytes of the files */
    uint64_t number, bytes, seen;       /* stretches; their bytes: taken, and seen at all */
    const char *rest; size_t left;      /* of the document at hand */
};

/* Length of the next stretch: up to a blank where there is one, else whole characters. */
static size_t stretch(const char *text, size_t left)
{
    size_t length = STRETCH_LIMIT;
    if (left <= STRETCH_LIMIT) return left;
    while (length > 0 && !isspace((unsigned char)text[length])) length--;
    if (length > 0) return length;
    for (length = STRETCH_LIMIT; ((unsigned char)text[length] & 0xc0) == 0x80; length--) { }
    return length;
}

/* The next part of the text, or false. */
static bool next_part(struct sample *s)
{
    struct part part;
    if (s->status < 0) return false;
    s->status = documents_next(s->documents, &part, &s->error);
    if (s->status == 1) {
        s->rest = part.text;
        s->left = part.length;
    }
    return s->status == 1;
}

/* A line of progress every few seconds. */
static void tell(struct sample *s, const char *doing, double done, double all)
{
    double now = seconds_now();
    if (now - s->told < 5) return;
    s->told = now;
    run_log(s->program->run, "tokenizer: %s, %.0f %%", doing, 100 * fmin(done / fmax(all, 1), 1));
}

static void tell_merges(void *self, int merges, int wanted) { tell(self, "learning", merges, wanted); }

static bool next_sampled(void *self, const char **text, size_t *length)
{
    struct sample *s = self;
    while (!signals_stop()) {
        if (s->left == 0 && !next_part(s)) break;
        *text = s->rest;
        *length = s->share < 1 ? stretch(s->rest, s->left) : s->left;
        s->rest += *length;
        s->left -= *length;
        s->seen += *length;
        struct rng r = rng_at(0, RNG_SPLIT, 1, s->number++);
        if (s->share < 1 && rng_uniform(&r) >= s->share && 2 * (double)s->bytes >= s->share * (double)s->seen) continue;
        s->bytes += *length;
        tell(s, "reading", (double)s->seen, (double)s->all);
        return true;
    }
    return false;
}

/* How much of the text is used: all, a sample, or for --plan very little. */
static void choose_sample(struct pretrain *p, struct sample *s, uint64_t bytes)
{
    char size[16], all[16];
    uint64_t most = 0;
    int step = p->train.plan ? documents_step(&s->paths, &most) : 1;
    documents_over(s->documents, s->paths.path, s->paths.count, step, most);
    p->sampled = p->train.plan;
    s->all = bytes;
    if (!p->sampled && bytes <= (uint64_t)p->tokenizer_bytes)
        run_log(p->run, "tokenizer: training on %s", text_bytes(all, (double)bytes));
    if (p->sampled || bytes <= (uint64_t)p->tokenizer_bytes) return;
    s->share = (double)p->tokenizer_bytes / (double)bytes;
    run_log(p->run, "tokenizer: training on a sample of %s of %s", text_bytes(size, (double)p->tokenizer_bytes),
        text_bytes(all, (double)bytes));
}

static struct tokenizer *train_tokenizer(struct pretrain *p)
{
    struct error error;
    struct document_rules rules = {p->text_key, p->separator, p->allow_invalid, program_skip_rows(p->skip_bad_rows)};
    struct sample sample = {.program = p, .share = 1, .told = seconds_now()};
    struct tokenizer *t = NULL;
    const char *special[] = {end_of_text};
    struct tokenizer_training how = {.vocab = (int)p->vocab_size, .pattern = (enum pattern)(p->pattern + PATTERN_GPT2),
                                     .special = special, .n_special = 1, .progress = tell_merges};
    double started = seconds_now();
    uint64_t bytes;
    char size[16];
    if (documents_paths(&sample.paths, &bytes, &p->data, &error) != 0) quit_error(&error);
    documents_open(&sample.documents, &rules);
    choose_sample(p, &sample, bytes);
    int status = tokenizer_train(&t, next_sampled, &sample, &how, &error);
    documents_close(sample.documents);
    paths_free(&sample.paths);
    if (sample.status < 0) quit_error(&sample.error);
    if (signals_check(&error, "training the tokenizer") != 0) quit_error(&error);
    if (sample.bytes == 0) quit(EXIT_DATA, "there is no text in the files of --data");
    if (status != 0) quit_error(&error);
    run_log(p->run, "tokenizer: %d ids trained on %s in %.1f s%s", tokenizer_vocab(t),
            text_bytes(size, (double)sample.bytes), seconds_now() - started, p->sampled ? ", for this estimate" : "");
    if (tokenizer_vocab(t) < p->vocab_size && !p->sampled)
        run_log(p->run, "tokenizer: the text gave %d ids instead of %lld: no further pair of tokens occurs twice",
            tokenizer_vocab(t), (long long)p->vocab_size);
    return t;
}

/* From a vocabulary of others, or from a checkpoint of ours.  Returns 0 or -1. */
static int take_tokenizer(struct tokenizer **t, const char *path, struct error *error)
{
    int status;
    if (path_holds(path, "vocab.bpe") || path_holds(path, "merges.txt") || path_holds(path, "tokenizer.json") ||
        path_holds(path, "tokenizer.model") || text_ends(path, ".json|.model")) {
        status = tokenizer_import(t, path, error);
    } else {
        struct ckpt *c;
        if (model_file_open(&c, path, NULL, error) != 0) return -1;
        const struct bytes *tokn = &ckpt_meta_of(c)->tokn;
        status = tokn->size == 0 ? fail(error, EXIT_DATA, "%s holds no tokenizer", ckpt_path(c))
                                 : tokenizer_read(t, tokn->data, tokn->size, error);
        ckpt_close(c);
    }
    if (status == 0) tokenizer_add_special(*t, end_of_text);
    return status;
}

/* CRC of all that decides a trained tokenizer: the options, and the bytes of the text, wherever they lie. */
static uint32_t origin_crc(const struct pretrain *p)
{
    struct error error;
    struct paths paths;
    struct bytes b = {0};
    uint64_t size;
    uint32_t text;
    if (documents_paths(&paths, &size, &p->data, &error) != 0 || paths_crc(&text, &paths, &error) != 0)
        quit_error(&error);
    bytes_text(&b, "%lld %d %lld %s|%s|%llu %08x", (long long)p->vocab_size, p->pattern, (long long)p->tokenizer_bytes,
               p->text_key, p->separator ? p->separator : "", (unsigned long long)size, text);
    uint32_t crc = crc32_of(2, b.data, b.size);
    bytes_free(&b);
    paths_free(&paths);
    return crc;
}

/* tokenizer.bin: the CRC above, the CRC of the rest (each as 8 hexadecimal digits), and the bytes of section TOKN. */
static struct tokenizer *kept_tokenizer(const char *path, uint32_t crc)
{
    struct bytes file = {0};
    struct error error;
    struct tokenizer *t = NULL;
    char head[17];
    if (file_read(&file, path, TOKENIZER_LIMIT, &error) != 0) return NULL;
    if (file.size > 16) {
        snprintf(head, sizeof head, "%08x%08x", crc, crc32_of(0, file.data + 16, file.size - 16));
        bool same = memcmp(file.data, head, 16) == 0;
        if (same && tokenizer_read(&t, file.data + 16, file.size - 16, &error) != 0) t = NULL;
    }
    bytes_free(&file);
    return t;
}

static void keep_tokenizer(const char *path, uint32_t crc, const struct tokenizer *t)
{
    struct bytes file = {0}, tokn = {0};
    struct error error;
    tokenizer_write(&tokn, t);
    bytes_text(&file, "%08x%08x", crc, crc32_of(0, tokn.data, tokn.size));
    bytes_add(&file, tokn.data, tokn.size);
    if (file_replace(path, file.data, file.size, &error) != 0) quit_error(&error);
    bytes_free(&file);
    bytes_free(&tokn);
}

/* The tokenizer of the run that this command resumes, and what its data must be; NULL when it starts a new one. */
static struct tokenizer *resumed_tokenizer(struct pretrain *p)
{
    struct error error;
    struct tokenizer *t = NULL;
    uint64_t identity = 0;
    struct ckpt *c = p->run ? program_resumed(p->run, p->train.resume) : NULL;
    if (!c) return NULL;
    const struct ckpt_meta *meta = ckpt_meta_of(c);
    kv_get_u64(&meta->dcur, "data.identity", &identity);
    p->expected = (uint32_t)identity;
    if (meta->tokn.size > 0 && tokenizer_read(&t, meta->tokn.data, meta->tokn.size, &error) != 0) quit_error(&error);
    ckpt_close(c);
    return t;
}

/* One of others is read again at every start: its file may have been replaced, or be gone. */
static struct tokenizer *open_tokenizer(struct pretrain *p, struct tokenizer *resumed)
{
    struct error error;
    struct tokenizer *t = NULL;
    if (p->tokenizer_path && take_tokenizer(&t, p->tokenizer_path, &error) != 0) {
        if (!resumed || error.exit_code != EXIT_NOINPUT) quit_error(&error);
        run_log(p->run, "%s is gone; the tokenizer is the run's own", p->tokenizer_path);
    }
    if (!t && resumed) return resumed;
    tokenizer_free(resumed);
    if (t) return t;
    if (!p->run) return train_tokenizer(p);
    char *path = host_text("%s/tokenizer.bin", p->train.out);
    t = access(path, F_OK) == 0 ? kept_tokenizer(path, origin_crc(p)) : NULL;
    if (!t) {
        t = train_tokenizer(p);
        keep_tokenizer(path, origin_crc(p), t);
    }
    free(path);
    return t;
}

/* ---- shards ---- */

static void remove_folder(const char *folder)
{
    struct dirent *entry;
    DIR *list = opendir(folder);
    while (list && (entry = readdir(list))) {
        char *path = host_text("%s/%s", folder, entry->d_name);
        unlink(path);                                        /* only shards: there are no folders in it */
        free(path);
    }
    if (list) closedir(list);
    rmdir(folder);
}

/* Without a run folder (--eval-only) the shards get a temporary one, which is removed as soon as they are open. */
static int open_shards(struct pretrain *p, struct error *error)
{
    char temporary[] = "/tmp/quartet-shards-XXXXXX";
    char *folder = p->shards_folder ? host_text("%s", p->shards_folder) : NULL;
    if (!folder && (p->run || (p->train.out && path_holds(p->train.out, "shards"))))
        folder = host_text("%s/shards", p->train.out);
    struct order_options o = {
        .shards = {.data = &p->data, .text_key = p->text_key, .separator = p->separator,
                   .allow_invalid = p->allow_invalid, .skip_bad_rows = program_skip_rows(p->skip_bad_rows),
                   .folder = folder ? folder : temporary},
        .validation = p->validation, .seed = (uint64_t)p->train.seed,
        .row_tokens = p->row_tokens, .expected = p->expected};
    if (p->train.plan) {
        free(folder);
        return order_estimate(&p->order, p->tokenizer, &o, program_say, p->run, error);
    }
    if (!folder && !mkdtemp(temporary))
        return fail(error, EXIT_IO, "cannot create a temporary folder in /tmp; name one with --shards");
    if (!folder) run_log(p->run, "tokenised text goes to %s, which is removed", temporary);
    int status = order_open(&p->order, p->tokenizer, &o, program_say, p->run, error);
    if (!folder) remove_folder(temporary);
    free(folder);
    return status;
}

/* ---- all of it ---- */

void pretrain_open_data(struct pretrain *p)
{
    struct error error;
    comm_turn_begin(p->train.comm);
    struct tokenizer *resumed = resumed_tokenizer(p);
    if (p->model_path) {
        tokenizer_free(resumed);
        if (parent_open(&p->parent, p->model_path, p->run, PRETRAIN_PARENTS, "init", &error) != 0) quit_error(&error);
        p->tokenizer = p->parent.tokenizer;
    } else {
        pretrain_config(p);                     /* a wrong size is an error before a tokenizer is trained for minutes */
        p->tokenizer = open_tokenizer(p, resumed);
    }
    pretrain_config(p);
    if (open_shards(p, &error) != 0) quit_error(&error);
    comm_turn_end(p->train.comm);
}

void pretrain_close_data(struct pretrain *p)
{
    order_close(p->order);
    if (p->parent.ckpt) parent_close(&p->parent);
    else tokenizer_free(p->tokenizer);
    p->order = NULL;
    p->tokenizer = NULL;
}
