/* data.c - the tokenizer first, because everything else counts in its tokens.  It is kept in the run folder with the
 * CRC of what it came from, so that a run that is stopped before its first checkpoint does not train it twice. */
#include "common/base/rng.h"
#include "common/base/signals.h"
#include "pretrain/pretrain.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char end_of_text[] = "<|endoftext|>";
enum { TOKENIZER_LIMIT = 256 << 20 };

void pretrain_say(void *self, const char *line)
{
    struct pretrain *p = self;
    if (p->run) run_log(p->run, "%s", line);
    else fprintf(stderr, "%s\n", line);
}

__attribute__((format(printf, 2, 3)))
static void say(struct pretrain *p, const char *format, ...)
{
    char line[1000];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    pretrain_say(p, line);
}

static struct shards_options shards_options_of(const struct pretrain *p)
{
    return (struct shards_options){
        .data = &p->data, .text_key = p->text_key, .separator = p->separator, .folder = p->folder,
        .validation = p->validation, .seed = (uint64_t)p->train.seed, .row_tokens = p->row_tokens, .expected = p->expected};
}

static bool holds(const char *folder, const char *file)
{
    char *path = host_text("%s/%s", folder, file);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

/* Without a run of its own (--plan, --eval-only) the program leaves nothing behind. */
static void open_folder(struct pretrain *p)
{
    char name[] = "/tmp/quartet-shards-XXXXXX";
    if (p->shards_folder) {
        p->folder = host_text("%s", p->shards_folder);
    } else if (p->run || (p->train.out && holds(p->train.out, "shards"))) {
        p->folder = host_text("%s/shards", p->train.out);
    } else {
        if (!mkdtemp(name)) quit(EXIT_IO, "cannot create a temporary folder in /tmp; name one with --shards");
        p->folder = host_text("%s", name);
        p->temporary = true;
    }
}

static void remove_folder(const char *folder)
{
    struct dirent *entry;
    DIR *list = opendir(folder);
    while (list && (entry = readdir(list))) {
        char *path = host_text("%s/%s", folder, entry->d_name);
        unlink(path);                                        /* shards alone: there are no folders in it */
        free(path);
    }
    if (list) closedir(list);
    rmdir(folder);
}

/* ---- tokenizer ---- */

/* A sample of the documents: stretches of at most STRETCH_LIMIT bytes, each with the same chance, decided by its number
 * alone; one is taken in any case where less than half of what should be has been so far, so the first always is. */
enum { STRETCH_LIMIT = 1 << 14 };
struct sample {
    struct documents *documents;
    double share;
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

static bool next_sampled(void *self, const char **text, size_t *length)
{
    struct sample *s = self;
    while (!signals_stop()) {
        if (s->left == 0 && !documents_next(s->documents, &s->rest, &s->left)) break;
        *text = s->rest;
        *length = s->share < 1 ? stretch(s->rest, s->left) : s->left;
        s->rest += *length;
        s->left -= *length;
        s->seen += *length;
        struct rng r = rng_at(0, RNG_SPLIT, 1, s->number++);
        if (s->share < 1 && rng_uniform(&r) >= s->share && 2 * (double)s->bytes >= s->share * (double)s->seen) continue;
        s->bytes += *length;
        return true;
    }
    return false;
}

static struct tokenizer *train_tokenizer(struct pretrain *p)
{
    struct error error, late;
    struct shards_options o = shards_options_of(p);
    struct sample sample = {.share = 1};
    struct tokenizer *t = NULL;
    const char *special[] = {end_of_text};
    struct tokenizer_training how = {.vocab = (int)p->vocab_size, .pattern = (enum pattern)(p->pattern + PATTERN_GPT2),
                                     .special = special, .n_special = 1};
    double started = seconds_now();
    char size[16], all[16];
    if (documents_open(&sample.documents, &o, &error) != 0) quit_error(&error);
    uint64_t bytes = documents_bytes(sample.documents);
    text_bytes(all, (double)bytes);
    if (bytes > (uint64_t)p->tokenizer_bytes) {
        sample.share = (double)p->tokenizer_bytes / (double)bytes;
        say(p, "tokenizer: training on a sample of %s of %s", text_bytes(size, (double)p->tokenizer_bytes), all);
    }
    int status = tokenizer_train(&t, next_sampled, &sample, &how, &error);
    if (documents_close(sample.documents, &late) != 0) quit_error(&late);
    if (signals_check(&error, "training the tokenizer") != 0) quit_error(&error);
    if (sample.bytes == 0) quit(EXIT_DATA, "there is no text in the files of --data");
    if (status != 0) quit_error(&error);
    say(p, "tokenizer: %d ids trained on %s in %.1f s", tokenizer_vocab(t), text_bytes(size, (double)sample.bytes),
        seconds_now() - started);
    if (tokenizer_vocab(t) < p->vocab_size)
        say(p, "tokenizer: the text gave %d ids instead of %lld: no further pair of tokens occurs twice",
            tokenizer_vocab(t), (long long)p->vocab_size);
    return t;
}

/* From a vocabulary of others, or from a checkpoint of ours. */
static struct tokenizer *take_tokenizer(const char *path)
{
    struct error error;
    struct tokenizer *t = NULL;
    size_t n = strlen(path);
    if (holds(path, "vocab.bpe") || holds(path, "merges.txt") || holds(path, "tokenizer.json") ||
        (n > 5 && strcmp(path + n - 5, ".json") == 0)) {
        if (tokenizer_import(&t, path, &error) != 0) quit_error(&error);
    } else {
        struct ckpt *c;
        if (ckpt_open(&c, path, &error) != 0) quit_error(&error);
        const struct bytes *tokn = &ckpt_meta_of(c)->tokn;
        if (tokn->size == 0) quit(EXIT_DATA, "%s holds no tokenizer", ckpt_path(c));
        if (tokenizer_read(&t, tokn->data, tokn->size, &error) != 0) quit_error(&error);
        ckpt_close(c);
    }
    tokenizer_add_special(t, end_of_text);
    return t;
}

/* CRC of all that decides the tokenizer. */
static uint32_t origin_crc(const struct pretrain *p)
{
    struct error error;
    struct paths paths;
    struct bytes b = {0};
    if (p->tokenizer_path) return crc32_of(1, p->tokenizer_path, strlen(p->tokenizer_path));
    bytes_text(&b, "%lld %d %lld %s|%s|", (long long)p->vocab_size, p->pattern, (long long)p->tokenizer_bytes,
               p->text_key, p->separator ? p->separator : "");
    if (paths_expand(&paths, &p->data, true, &error) != 0) quit_error(&error);
    for (int i = 0; i < paths.count; i++) {
        struct stat s = {0};
        stat(paths.path[i], &s);
        bytes_text(&b, "%s %lld|", paths.path[i], (long long)s.st_size);
    }
    uint32_t crc = crc32_of(0, b.data, b.size);
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

static struct tokenizer *open_tokenizer(struct pretrain *p, struct tokenizer *resumed)
{
    if (resumed && !p->tokenizer_path) return resumed;
    tokenizer_free(resumed);
    char *path = host_text("%s/tokenizer.bin", p->train.out ? p->train.out : ".");
    uint32_t crc = origin_crc(p);
    struct tokenizer *t = p->train.out ? kept_tokenizer(path, crc) : NULL;
    if (!t) {
        t = p->tokenizer_path ? take_tokenizer(p->tokenizer_path) : train_tokenizer(p);
        if (p->run && !p->expected) keep_tokenizer(path, crc, t);
    }
    free(path);
    return t;
}

/* ---- all of it ---- */

void pretrain_open_data(struct pretrain *p)
{
    unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    struct error error;
    struct tokenizer *resumed = resumed_tokenizer(p);
    if (p->model_path) {
        tokenizer_free(resumed);
        if (parent_open(&p->parent, p->model_path, stages, "init", &error) != 0) quit_error(&error);
        p->tokenizer = p->parent.tokenizer;
    } else {
        pretrain_config(p);                     /* a wrong size is said before a tokenizer is trained for minutes */
        p->tokenizer = open_tokenizer(p, resumed);
    }
    pretrain_config(p);
    open_folder(p);
    struct shards_options o = shards_options_of(p);
    if (shards_open(&p->shards, p->tokenizer, &o, pretrain_say, p, &error) != 0) {
        pretrain_close_data(p);
        quit_error(&error);
    }
}

void pretrain_close_data(struct pretrain *p)
{
    shards_close(p->shards);
    if (p->temporary) remove_folder(p->folder);
    free(p->folder);
    if (p->parent.ckpt) parent_close(&p->parent);
    else tokenizer_free(p->tokenizer);
    p->shards = NULL;
    p->tokenizer = NULL;
    p->folder = NULL;
}
