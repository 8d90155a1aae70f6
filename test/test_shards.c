/* Shards from every kind of source: rows show every token once an epoch in an order that is a permutation, targets
 * never cross a document, and what is kept, rebuilt and why. */
#include "common/data/documents.h"
#include "common/data/order.h"
#include "common/base/le.h"
#include "common/base/threads.h"
#include "test/files.h"

#include <fcntl.h>

static struct tokenizer *tokenizer;
static struct bytes said;

static void put_text(const char *name, const char *text) { put(name, text, strlen(text)); }
static void put_zipped(const char *name, const char *text) { put_gzip(name, text, strlen(text)); }

static void hear(void *self, const char *line)
{
    (void)self;
    bytes_text(&said, "%s\n", line);
}

static bool heard(const char *words)
{
    bool found = said.data && strstr(said.data, words);
    if (!found) fprintf(stderr, "expected to hear '%s', heard:\n%s", words, said.data ? said.data : "nothing\n");
    return found;
}

struct corpus { const char *file[8]; struct order_options options; struct option_list list; };

static struct order *open_corpus(struct corpus *c, struct error *error)
{
    struct order *s = NULL;
    c->list = (struct option_list){(char **)(void *)c->file, 0};
    while (c->file[c->list.count]) c->list.count++;
    c->options.shards.data = &c->list;
    if (!c->options.shards.text_key) c->options.shards.text_key = "text";
    if (!c->options.shards.folder) c->options.shards.folder = in("shards");
    if (!c->options.row_tokens) c->options.row_tokens = 16;
    said.size = 0;
    if (said.data) *said.data = 0;
    return order_open(&s, tokenizer, &c->options, hear, NULL, error) == 0 ? s : NULL;
}

static struct order *opened(struct corpus *c)
{
    struct error error;
    struct order *s = open_corpus(c, &error);
    if (!s) die("%s", error.text);
    return s;
}

static void batch_take(struct batch *b, int tokens)
{
    size_t n = (size_t)tokens;
    *b = (struct batch){.tokens = host_alloc(n, 4), .targets = host_alloc(n, 4), .mask = host_alloc(n, 1),
                        .offsets = host_alloc(n + 1, 4)};
}

static void batch_free(struct batch *b)
{
    free(b->tokens);
    free(b->targets);
    free(b->mask);
    free(b->offsets);
}

static void take_row(const struct order *s, bool validation, uint64_t index, struct batch *b)
{
    struct error error;
    if (order_row(s, validation, index, b, &error) != 0) die("%s", error.text);
}

/* Text of a row's sequences, joined by '|'; end-of-text tokens show as '#'. */
static char *row_text(const struct order *s, bool validation, uint64_t index)
{
    struct batch b;
    struct bytes text = {0};
    batch_take(&b, 4096);
    take_row(s, validation, index, &b);
    for (int i = 0; i < b.S; i++) {
        if (i > 0) bytes_add(&text, "|", 1);
        for (int t = b.offsets[i]; t < b.offsets[i + 1]; t++) {
            size_t length;
            const char *bytes = tokenizer_bytes(tokenizer, b.tokens[t], &length);
            if (tokenizer_is_special(tokenizer, b.tokens[t])) bytes = "#", length = 1;
            bytes_add(&text, bytes, length);
        }
    }
    batch_free(&b);
    return text.data;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* All rows of an epoch, sorted, a line each. */
static char *epoch_text(const struct order *s, bool validation, uint64_t epoch)
{
    uint64_t n = order_rows(s, validation);
    char **row = host_alloc(n + 1, sizeof *row);
    struct bytes text = {0};
    for (uint64_t i = 0; i < n; i++) row[i] = row_text(s, validation, epoch * n + i);
    qsort(row, n, sizeof *row, by_text);
    for (uint64_t i = 0; i < n; i++) {
        bytes_text(&text, "%s\n", row[i]);
        free(row[i]);
    }
    free(row);
    return text.data ? text.data : host_text("%s", "");
}

/* ---- worked example ---- */

static bool next_nothing(void *self, const char **text, size_t *length)
{
    (void)self, (void)text, (void)length;
    return false;
}

/* A tokenizer of 256 bytes and <|endoftext|>: every letter is a token. */
static void make_tokenizer(void)
{
    struct error error;
    const char *special[] = {"<|endoftext|>"};
    struct tokenizer_training how = {.vocab = 257, .pattern = PATTERN_GPT2, .special = special, .n_special = 1};
    if (tokenizer_train(&tokenizer, next_nothing, NULL, &how, &error) != 0) die("%s", error.text);
}

static void check_worked(void)
{
    put_text("worked.txt", "abc\n<|endoftext|>\ndefghij\n<|endoftext|>\n \n<|endoftext|>\nk");
    struct corpus c = {{in("worked.txt")}, {.row_tokens = 6}};
    struct order *s = opened(&c);
    CHECK(order_tokens(s, false) == 6 + 10 + 3 && order_documents(s, false) == 3 && order_rows(s, false) == 4);
    CHECK(order_rows(s, true) == 0 && order_tokens(s, true) == 0);
    char *text = epoch_text(s, false, 0);
    /* rows of 6 of  #abc\n#  #defghij\n#  #k# , sorted */
    CHECK(strcmp(text, "#\n#abc\n#\n#defgh\nij\n#|#k\n") == 0);
    free(text);

    for (uint64_t i = 0; i < 4; i++) {
        struct batch b;
        batch_take(&b, 64);
        take_row(s, false, i, &b);
        for (int t = 0; t < b.N; t++) {
            bool end = b.tokens[t] == 'h', last_of_row = t == b.N - 1;
            if (end && last_of_row) CHECK(b.mask[t] == 1 && b.targets[t] == 'i');          /* goes on in the next row */
            if (b.tokens[t] == 'k') CHECK(b.mask[t] == 1 && b.targets[t] == tokenizer_special(tokenizer, "<|endoftext|>"));
            if (b.tokens[t] == '\n') CHECK(b.mask[t] == 1);
        }
        batch_free(&b);
    }
    order_close(s);
}

/* ---- properties on a larger corpus ---- */

static void random_corpus(const char *name, int documents, uint32_t seed)
{
    struct bytes text = {0};
    for (int d = 0; d < documents; d++) {
        int words = (int)((seed = seed * 1103515245u + 12345u) >> 16) % 60 + 1;
        for (int w = 0; w < words; w++) bytes_text(&text, "%c%x ", 'a' + d % 26, (seed = seed * 1103515245u + 12345u) >> 20);
        bytes_text(&text, "\n<|endoftext|>\n");
    }
    put(name, text.data, text.size);
    bytes_free(&text);
}

/* whole: no document is cut for validation. */
static void check_rows(const struct order *s, bool validation, int T, bool whole)
{
    struct batch b;
    int eot = tokenizer_special(tokenizer, "<|endoftext|>");
    uint64_t rows = order_rows(s, validation), tokens = 0, targets = 0, starts = 0, ends = 0, wrong = 0;
    batch_take(&b, 2 * T);
    for (uint64_t i = 0; i < rows; i++) {
        b.N = b.S = 0;
        take_row(s, validation, i, &b);
        wrong += b.N > T || b.N == 0 || b.offsets[0] != 0 || b.offsets[b.S] != b.N;
        for (int k = 0; k < b.S; k++)
            for (int t = b.offsets[k]; t < b.offsets[k + 1]; t++) {
                bool first = t == b.offsets[k], last = t + 1 == b.offsets[k + 1];
                tokens++;
                targets += b.mask[t];
                starts += b.tokens[t] == eot && b.mask[t] && first;
                ends += b.tokens[t] == eot && !b.mask[t];
                wrong += !last && (b.mask[t] != 1 || b.targets[t] != b.tokens[t + 1]);          /* moved left by one */
                wrong += whole && !b.mask[t] && b.tokens[t] != eot;                   /* only the end of a document has no target */
                wrong += !first && !last && b.tokens[t] == eot;              /* no sequence holds two documents */
            }
    }
    CHECK(wrong == 0);
    CHECK(tokens == order_tokens(s, validation));
    CHECK(targets == tokens - order_documents(s, validation));
    CHECK(starts == (whole || !validation ? order_documents(s, validation) : 0));
    CHECK(ends == (whole || validation ? order_documents(s, validation) : 0));
    batch_free(&b);
}

static void check_properties(void)
{
    random_corpus("many.txt", 1200, 5);
    for (int T = 2; T <= 300; T = T * 3 + 1) {
        struct corpus c = {{in("many.txt")}, {.row_tokens = T, .validation = 0.1, .seed = 3, .shards.shard_tokens = 80000}};
        struct order *s = opened(&c);
        check_rows(s, false, T, true);
        check_rows(s, true, T, true);
        CHECK(order_documents(s, false) + order_documents(s, true) == 1200);
        CHECK(order_documents(s, true) > 80 && order_documents(s, true) < 170);
        /* the same rows in every epoch, in another order */
        char *first = epoch_text(s, false, 0), *second = epoch_text(s, false, 1);
        CHECK(strcmp(first, second) == 0);
        free(first);
        free(second);
        int moved = 0;
        uint64_t rows = order_rows(s, false);
        for (uint64_t i = 0; i < 20; i++) {
            char *a = row_text(s, false, i % rows), *b = row_text(s, false, rows + i % rows);
            moved += strcmp(a, b) != 0;
            free(a);
            free(b);
        }
        CHECK(moved > 10);
        order_close(s);
    }
    /* the held-out documents depend on their text alone: neither on the seed nor on the other files */
    struct corpus one = {{in("many.txt")}, {.validation = 0.1, .seed = 1}}, two = one;
    random_corpus("more.txt", 300, 77);
    two.file[0] = in("more.txt");
    two.file[1] = in("many.txt");
    two.options.seed = 2;
    struct order *a = opened(&one), *b = opened(&two);
    CHECK(order_documents(b, true) > order_documents(a, true) && order_identity(a) != order_identity(b));
    char *first = epoch_text(a, true, 0);
    order_close(a);
    order_close(b);
    one.options.seed = 9;
    a = opened(&one);
    char *second = epoch_text(a, true, 0);
    CHECK(strlen(first) > 1000 && strcmp(first, second) == 0);
    free(first);
    free(second);
    order_close(a);
}

/* ---- weights ---- */

static void check_weights(void)
{
    struct bytes text = {0};
    for (int i = 0; i < 40; i++) bytes_text(&text, "%s", "aaaaaaaa");
    put("a.txt", text.data, text.size);                                     /* 322 tokens: 33 rows of 10 */
    memset(text.data, 'b', text.size);
    put("b.txt", text.data, text.size);
    bytes_free(&text);
    char weighted[220], repeated[220];
    snprintf(weighted, sizeof weighted, "%s=2.5", in("a.txt"));
    snprintf(repeated, sizeof repeated, "%s=1.5", in("a.txt"));
    struct corpus c = {{in("b.txt"), weighted}, {.row_tokens = 10}}, again = {{in("a.txt"), in("b.txt"), repeated}, {.row_tokens = 10}};
    struct order *s = opened(&c), *r = opened(&again);
    CHECK(order_rows(s, false) == 33 + 83 && order_rows(r, false) == 33 + 83);
    for (uint64_t epoch = 0; epoch < 2; epoch++) {
        char *rows = epoch_text(s, false, epoch);
        int a = 0, b = 0;
        for (char *line = strtok(rows, "\n"); line; line = strtok(NULL, "\n")) {
            a += strchr(line, 'a') != NULL || strcmp(line, "|#") == 0;
            b += strchr(line, 'b') != NULL;
        }
        CHECK(b == 33 && a == 83);
        free(rows);
    }
    order_close(s);
    order_close(r);
}

/* ---- sources ---- */

static uint64_t count_of(const char *name, const char *key, const char *separator)
{
    struct corpus c = {{in(name)}, {.shards.text_key = key, .shards.separator = separator}};
    struct order *s = opened(&c);
    uint64_t n = order_documents(s, false);
    order_close(s);
    return n;
}

static void check_sources(void)
{
    put_text("rows.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\\r\\nlines\"}\n\n\"three\"\n{\"text\":\"\"}\n");
    put_text("rows.json", "[{\"body\":[\"a\",\"b\"]},{\"body\":\"c\"}]");
    put_zipped("zip.txt.gz", "one\n---\ntwo\n---\nthree\n");
    put_zipped("zip.jsonl.gz", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
    put_text("unsplit.txt", "one\n---\ntwo\n ---\n<|endoftext|> no\n");
    CHECK(count_of("rows.jsonl", NULL, NULL) == 3);
    CHECK(heard("1 carriage return removed"));
    CHECK(count_of("rows.json", "body", NULL) == 2);
    CHECK(count_of("zip.txt.gz", NULL, "---") == 3);
    CHECK(count_of("zip.jsonl.gz", NULL, NULL) == 2);
    CHECK(count_of("unsplit.txt", NULL, NULL) == 1);
    CHECK(count_of("unsplit.txt", NULL, "---") == 2);
    CHECK(heard("tokenising again") && heard("--document-separator"));

    put_text("dirty.txt", "\xEF\xBB\xBFone\r\ntwo\r\n<|endoftext|>\r\nbad \xFF\xFE bytes\r\n");
    struct corpus c = {{in("dirty.txt")}, {.row_tokens = 64}};
    struct order *s = opened(&c);
    CHECK(heard("1 byte order mark and 3 carriage returns removed, 2 invalid bytes replaced"));
    char *text = epoch_text(s, false, 0);
    CHECK(strcmp(text, "#one\ntwo\n#|#bad \xEF\xBF\xBD\xEF\xBF\xBD bytes\n#\n") == 0);
    free(text);
    order_close(s);
    s = opened(&c);
    CHECK(heard("2 invalid bytes replaced") && !strstr(said.data, "again"));        /* said again from the shard */
    order_close(s);
}

static void check_tails(void)
{
    struct bytes text = {0};
    for (int i = 0; i < 1000; i++) bytes_text(&text, "line %03d\n", i);
    put("single.txt", text.data, text.size);
    struct corpus c = {{in("single.txt")}, {.row_tokens = 32, .validation = 0.05}};
    struct order *s = opened(&c);
    CHECK(heard("from the ends of"));
    CHECK(order_tokens(s, true) == 451 && order_tokens(s, false) == 9002 - 451);      /* ceil(0.05 * 9002) */
    CHECK(order_documents(s, true) == 1 && order_documents(s, false) == 1);
    char *row = row_text(s, true, 0), *rows = epoch_text(s, false, 0);
    CHECK(strncmp(row, "line 950\nline 951\nline 952\nline ", 32) == 0);
    CHECK(strstr(rows, "950") == NULL && strstr(rows, "949"));
    check_rows(s, false, 32, false);
    check_rows(s, true, 32, false);
    free(row);
    free(rows);
    order_close(s);
    bytes_free(&text);
}

/* ---- reuse, change, damage ---- */

static char *only_shard(const char *shards)
{
    char *command = host_text("ls %s/*.shard", shards);
    FILE *list = popen(command, "r");
    char line[300] = "";
    if (!list || !fgets(line, sizeof line, list)) die("no shard in %s", shards);
    while (fgets(line + 290, 10, list)) { }
    pclose(list);
    free(command);
    return host_text("%.*s", (int)strcspn(line, "\n"), line);
}

static void check_reuse(void)
{
    struct error error;
    put_text("kept.txt", "a text that stays\n<|endoftext|>\nand another\n");
    struct corpus c = {{in("kept.txt")}, {.shards.folder = in("kept")}};
    struct order *s = opened(&c);
    CHECK(!strstr(said.data, "again"));
    uint32_t identity = order_identity(s);
    order_close(s);

    char *path = only_shard(in("kept"));
    struct stat before, after;
    CHECK(stat(path, &before) == 0);
    s = opened(&c);
    CHECK(stat(path, &after) == 0 && before.st_ino == after.st_ino && order_identity(s) == identity);
    order_close(s);

    put_text("kept.txt", "a text that stays\n<|endoftext|>\nand another\n");        /* new time, same bytes */
    s = opened(&c);
    CHECK(stat(path, &after) == 0 && before.st_ino == after.st_ino && !strstr(said.data, "again"));
    order_close(s);

    put_text("kept.txt", "a text that stays\n<|endoftext|>\nand anothxr\n");        /* same size */
    s = opened(&c);
    CHECK(heard("has changed") && order_identity(s) != identity);
    identity = order_identity(s);
    order_close(s);

    struct bytes good = {0};
    CHECK(file_read(&good, path, 1 << 20, &error) == 0);
    for (size_t at = 0; at < good.size; at += at < 192 || at > good.size - 60 ? 1 : 7) {
        struct bytes damaged = {0};
        bytes_add(&damaged, good.data, good.size);
        damaged.data[at] ^= 0x40;
        if (file_replace(path, damaged.data, damaged.size, &error) != 0) die("%s", error.text);
        bytes_free(&damaged);
        s = open_corpus(&c, &error);
        struct bytes now = {0};
        bool same = s && order_identity(s) == identity && file_read(&now, path, 1 << 20, &error) == 0 &&
                    now.size == good.size && memcmp(now.data, good.data, good.size) == 0;
        test_check(same, __FILE__, __LINE__, "byte %zu: %s", at, said.data);
        bytes_free(&now);
        order_close(s);
    }
    for (size_t size = 0; size < good.size; size += 13) {
        if (file_replace(path, good.data, size, &error) != 0) die("%s", error.text);
        s = open_corpus(&c, &error);
        CHECK(s && order_identity(s) == identity && heard("damaged"));
        order_close(s);
    }
    put_text("kept.txt", "a text that changed\n");
    s = opened(&c);
    CHECK(heard("has changed") && order_identity(s) != identity && order_documents(s, false) == 1);
    order_close(s);
    bytes_free(&good);
    free(path);
}

/* All rows once: 0, or -1 with *error. */
static int read_rows(const struct order *s, struct error *error)
{
    struct batch b;
    int status = 0;
    batch_take(&b, 64);
    for (uint64_t i = 0; i < order_rows(s, false) && status == 0; i++) {
        b.N = b.S = 0;
        status = order_row(s, false, i, &b, error);
    }
    batch_free(&b);
    return status;
}

/* The file as it is but for these bytes, its times as they were. */
static void change_quietly(const char *path, const char *bytes, size_t n, off_t at)
{
    struct stat was;
    int file = open(path, O_WRONLY);
    if (file < 0 || fstat(file, &was) != 0 || pwrite(file, bytes, n, at) != (ssize_t)n ||
        futimens(file, (struct timespec[2]){was.st_atim, was.st_mtim}) != 0 || close(file) != 0)
        die("cannot change %s", path);
}

/* A shard that is as it was written is not read whole when it is opened; what no one has read before is checked when a
 * row shows it.  Any other time of the file: it is read whole. */
static void check_lazy(void)
{
    struct bytes text = {0}, good = {0}, now = {0};
    struct error error;
    for (int i = 0; i < 4000; i++) bytes_text(&text, "%d words\n%s", i, i % 50 == 49 ? "<|endoftext|>\n" : "");
    put("lazy.txt", text.data, text.size);
    struct corpus c = {{in("lazy.txt")}, {.shards.folder = in("lazy")}};
    struct order *s = opened(&c);
    uint32_t identity = order_identity(s);
    order_close(s);
    char *path = only_shard(c.options.shards.folder);
    CHECK(file_read(&good, path, 1 << 20, &error) == 0 && good.size > 5 * 16384);
    int early = 0, index = 0, tokens = 0;
    for (size_t i = 0; i < 20; i++) {                       /* in the header, 17 times in tokens, in index and checksums */
        size_t at = i < 18 ? 5 + i * (good.size - 2500) / 17 : good.size - (i == 18 ? 60 : 3);
        change_quietly(path, (char[]){(char)(good.data[at] ^ 1)}, 1, (off_t)at);
        error = (struct error){0};
        s = open_corpus(&c, &error);
        bool again = strstr(said.data, "tokenising again");
        early += again;
        if (!again) {
            index += s == NULL;
            tokens += s != NULL;
            CHECK((!s || read_rows(s, &error) == -1) && error.exit_code == EXIT_DATA && strstr(error.text, "is damaged"));
            CHECK(access(path, F_OK) != 0);
            order_close(s);
            s = opened(&c);
            CHECK(heard("tokenising the data"));
        }
        bytes_free(&now);
        CHECK(order_identity(s) == identity && read_rows(s, &error) == 0 && file_read(&now, path, 1 << 20, &error) == 0);
        test_check(now.size == good.size && memcmp(now.data, good.data, now.size) == 0, __FILE__, __LINE__, "byte %zu", at);
        order_close(s);
    }
    CHECK(early == 2 && index == 1 && tokens == 17);

    char last = good.data[20000];
    change_quietly(path, (char[]){(char)(last ^ 1)}, 1, 20000);
    if (utimensat(AT_FDCWD, path, NULL, 0) != 0) die("cannot touch %s", path);
    order_close(opened(&c));
    CHECK(heard("tokenising again") && heard("checksum of its tokens"));
    bytes_free(&text), bytes_free(&good), bytes_free(&now);
    free(path);
}

/* A shard of version 1 ends with its index: it is kept, and read whole at every start. */
static void check_version_1(void)
{
    struct bytes file = {0};
    struct error error;
    put_text("first.txt", "a text of old\n<|endoftext|>\nand another\n");
    struct corpus c = {{in("first.txt")}, {.shards.folder = in("first")}};
    struct order *s = opened(&c);
    uint32_t identity = order_identity(s);
    char *path = only_shard(c.options.shards.folder), *rows = epoch_text(s, false, 0);
    order_close(s);
    CHECK(file_read(&file, path, 1 << 20, &error) == 0);
    file.size -= 4;                                         /* the checksum of its one span */
    unsigned char *h = (unsigned char *)file.data;
    store32(h + 8, 1);
    store64(h + 72, file.size);
    store32(h + 92, 0);
    store32(h + 188, crc32_of(0, h, 188));
    if (file_replace(path, file.data, file.size, &error) != 0) die("%s", error.text);
    struct stat before, after;
    CHECK(stat(path, &before) == 0);
    s = opened(&c);
    char *again = epoch_text(s, false, 0);
    CHECK(!strstr(said.data, "again") && order_identity(s) == identity && strcmp(rows, again) == 0);
    CHECK(stat(path, &after) == 0 && before.st_ino == after.st_ino);
    order_close(s);
    change_quietly(path, (char[]){(char)(h[file.size - 60] ^ 1)}, 1, (off_t)file.size - 60);
    order_close(opened(&c));
    CHECK(heard("tokenising again") && heard("checksum"));
    bytes_free(&file);
    free(path), free(rows), free(again);
}

static void check_threads(void)
{
    char *text[2];
    for (int k = 0; k < 2; k++) {
        char name[24];
        snprintf(name, sizeof name, "threads%d", k);
        threads_start(k == 0 ? 1 : 3);
        struct corpus c = {{in("many.txt")}, {.shards.folder = in(name), .row_tokens = 50, .shards.shard_tokens = 3000}};
        struct order *s = opened(&c);
        text[k] = epoch_text(s, false, 2);
        order_close(s);
    }
    CHECK(strcmp(text[0], text[1]) == 0);
    free(text[0]);
    free(text[1]);
    char *command = host_text("for f in %s/*; do cmp $f %s/$(basename $f) || exit 1; done", in("threads0"), in("threads1"));
    CHECK(system(command) == 0);
    free(command);
}

/* ---- long documents ---- */

/* Parts of a text of several times PART_LIMIT: none too large, together the cleaned text, and cut before spaces. */
static void check_parts(bool spaces)
{
    struct bytes text = {0}, clean = {0}, joined = {0};
    struct text_counts counts = {0};
    uint32_t seed = 9;
    while (text.size < 2.6 * PART_LIMIT) {
        uint32_t r = (seed = seed * 1103515245u + 12345u) >> 16;
        if (spaces) bytes_text(&text, "w%x%s", r, r % 7 == 0 ? "\r\n" : "z ");
        else bytes_add(&text, "\xE7\xBA\xA2", 3);                           /* one line, no space */
    }
    put("long.txt", text.data, text.size);
    text_clean(&clean, text.data, text.size, true, &counts);
    struct document_rules rules = {"text", NULL, false};
    struct documents *d;
    struct part part;
    struct error error;
    int n = 0, lasts = 0, bad = 0;
    documents_open(&d, &rules);
    documents_over(d, (char *[]){in("long.txt")}, 1, 1, 0);
    while (documents_next(d, &part, &error) == 1) {
        bad += part.length > PART_LIMIT || part.length == 0 || part.first != (n == 0);
        if (n > 0) bad += spaces ? part.text[0] != ' ' : utf8_length(part.text, part.length) != 3;
        bytes_add(&joined, part.text, part.length);
        lasts += part.last;
        n++;
    }
    CHECK(n == 3 && lasts == 1 && bad == 0);
    CHECK(joined.size == clean.size && memcmp(joined.data, clean.data, clean.size) == 0);
    CHECK(documents_counts(d).carriage_returns == counts.carriage_returns && documents_counts(d).invalid == 0);
    documents_close(d);
    bytes_free(&text);
    bytes_free(&clean);
    bytes_free(&joined);
}

/* ---- refusals ---- */

static void check_refusals(void)
{
    struct { const char *name, *content, *key; int code; const char *says; } r[] = {
        {"r1.jsonl", "{\"text\":\"a\"}\n{\"body\":\"b\", \"id\":1}\n", "text", EXIT_DATA,
         "r1.jsonl:2: there is no key 'text', found body, id"},
        {"r2.jsonl", "{\"text\":7}\n", "text", EXIT_DATA, "r2.jsonl:1: the key 'text' holds a number, expected a string or a list"},
        {"r3.jsonl", "{\"text\":\"a\"}\nnope\n", "text", EXIT_DATA, "r3.jsonl:2: not JSON at column 1 (invalid token), found 'nope'"},
        {"r4.jsonl", "[1]", "text", EXIT_DATA, "r4.jsonl[0]: found a number, expected an object"},
        {"r5.txt", "", "text", EXIT_DATA, "there is no text in"},
        {"r6.txt", " \n\n", "text", EXIT_DATA, "there is no text in"},
        {"r7.jsonl", "{}\n", "text", EXIT_DATA, "found none"},
    };
    for (size_t i = 0; i < sizeof r / sizeof *r; i++) {
        struct error error = {0};
        put_text(r[i].name, r[i].content);
        struct corpus c = {{in(r[i].name)}, {.shards.text_key = r[i].key}};
        struct order *s = open_corpus(&c, &error);
        test_check(!s && error.exit_code == r[i].code && strstr(error.text, r[i].says), __FILE__, __LINE__, "%s: %d %s", r[i].name,
                   error.exit_code, error.text);
    }
    struct error error = {0};
    struct corpus missing = {{in("nowhere.txt")}};
    CHECK(!open_corpus(&missing, &error) && error.exit_code == EXIT_NOINPUT);
}

/* The documents of a file, each behind it a '|'; or the error. */
static char *documents_of(const char *path, uint64_t most, bool allow_invalid, struct error *error)
{
    struct document_rules rules = {"text", NULL, allow_invalid};
    struct documents *d;
    struct part part;
    struct bytes all = {0};
    int got = 0;
    bytes_add(&all, "", 0);
    documents_open(&d, &rules);
    documents_over(d, (char *[]){(char *)path}, 1, 1, most);
    while (got == 0 && (got = documents_next(d, &part, error)) == 1) {
        bytes_add(&all, part.text, part.length);
        bytes_add(&all, "|", part.last);
        got = 0;
        if (all.size > 1 << 20) break;
    }
    documents_close(d);
    if (got == 0) return all.data;
    bytes_free(&all);
    return NULL;
}

static void check_documents(void)
{
    static const struct { const char *name, *content, *expected; } c[] = {
        {"rows.jsonl", "{\"text\":\"one\"}\n{\"text\":[\"two\",\"lines\"]}\n\"three\"\n", "one|two\nlines|three|"},
        {"part-00000", "\n {\"text\":\"one\"}\n{\"text\":\"two\"}\n", "one|two|"},              /* by content */
        {"x.dump", "\xEF\xBB\xBF" "{\"text\":\"a\xFF\"}\n", "a\xEF\xBF\xBD|"},
        {"array.txt", "[\n {\"text\":\"one\"},\n {\"text\":\"two\"}]\n", "one|two|"},
        {"play.txt", "[Scene] He enters.\n{aside} Oh.\n", "[Scene] He enters.\n{aside} Oh.\n|"},
        {"notes.txt", "[1]\nSee there.\n", "[1]\nSee there.\n|"},
        {"code.txt", "{\n    return 0;\n}\n", "{\n    return 0;\n}\n|"},
        {"quote.txt", "\"Hello\"\nsaid he\n", "\"Hello\"\nsaid he\n|"},
        {"few.txt", "fifteen: \xFF\xFF\xFF\xFE.\xFF\xFF\xFF\xFF.\xFF\xFF\xFF\xFF.\xFF\xFF\xFF\n", NULL}};
    struct error error = {0};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        put_text(c[i].name, c[i].content);
        char *found = documents_of(in(c[i].name), 0, false, &error);
        test_check(found && (!c[i].expected || strcmp(found, c[i].expected) == 0), __FILE__, __LINE__, "%s: '%s' %s", c[i].name,
                   found ? found : "", error.text);
        free(found);
    }
    CHECK(!documents_of(in("r3.jsonl"), 0, false, &error) && error.exit_code == EXIT_DATA);

    /* a text in Latin-1: refused with the option that reads it all the same */
    struct bytes latin = {0};
    for (int i = 0; i < 40; i++) bytes_text(&latin, "un \xE9t\xE9 long\n");
    put("latin.txt", latin.data, latin.size);
    CHECK(!documents_of(in("latin.txt"), 0, false, &error) && error.exit_code == EXIT_DATA &&
          strstr(error.text, "latin.txt: 80 of its first 480 bytes are not UTF-8") && strstr(error.text, "--allow-invalid-utf8"));
    char *found = documents_of(in("latin.txt"), 0, true, &error);
    CHECK(found && strncmp(found, "un \xEF\xBF\xBDt\xEF\xBF\xBD long\n", 16) == 0);
    free(found);
    found = documents_of(in("latin.txt"), 30, true, &error);                /* a sample: whole lines, three of 12 bytes */
    CHECK(found && strlen(found) == 3 * 16 + 1);
    free(found);
    bytes_free(&latin);
}

/* What a plan knows from a sample is close to what the shards hold, for packed files too, and nothing is written. */
static void check_estimate(void)
{
    struct error error;
    struct bytes text = {0};
    for (int i = 0; i < 3000; i++) bytes_text(&text, "line number %d of a text\n%s", i, i % 10 == 0 ? "<|endoftext|>\n" : "");
    put("estimate.txt", text.data, text.size);
    put_zipped("estimate.gz", text.data);
    for (int packed = 0; packed < 2; packed++) {
        struct corpus c = {{in(packed ? "estimate.gz" : "estimate.txt")}, {.validation = 0.1, .shards.folder = in("estimated")}};
        struct order *s = opened(&c), *guess = NULL;
        c.options.shards.folder = in("never");
        CHECK(order_estimate(&guess, tokenizer, &c.options, hear, NULL, &error) == 0 && heard("estimated from"));
        double there = (double)order_rows(s, false), guessed = guess ? (double)order_rows(guess, false) : 0;
        test_check(guessed > 0.9 * there && guessed < 1.1 * there, __FILE__, __LINE__, "%g rows, estimated %g", there, guessed);
        CHECK(access(in("never"), F_OK) != 0);
        order_close(s);
        order_close(guess);
    }
    bytes_free(&text);
    put_text("empty.txt", "");
    struct corpus none = {{in("empty.txt")}, {.shards.text_key = "text"}};
    struct order *s = NULL;
    none.list = (struct option_list){(char **)(void *)none.file, 1};
    none.options.shards.data = &none.list;
    none.options.row_tokens = 16;
    CHECK(order_estimate(&s, tokenizer, &none.options, hear, NULL, &error) == -1 && error.exit_code == EXIT_DATA);
}

int main(void)
{
    if (!mkdtemp(folder)) die("no temporary folder");
    make_tokenizer();
    check_worked();
    check_properties();
    check_weights();
    check_sources();
    check_tails();
    check_reuse();
    check_lazy();
    check_version_1();
    check_threads();
    check_parts(true);
    check_parts(false);
    check_refusals();
    check_documents();
    check_estimate();
    threads_stop();
    tokenizer_free(tokenizer);
    bytes_free(&said);
    char *remove = host_text("rm -rf %s", folder);
    CHECK(system(remove) == 0);
    free(remove);
    return test_end("test_shards");
}
