/* test_tokenizer.c - the tokenizer: splitting, training against a plain reference, round trips, and every check of TOKN. */
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/text/tokenizer_parts.h"
#include "test/test.h"

#include <time.h>

/* Documents cut out of one text. */
struct documents { const char *text; size_t size, at, step; };

static bool next_document(void *self, const char **text, size_t *length)
{
    struct documents *d = self;
    if (d->at >= d->size) return false;
    *text = d->text + d->at;
    *length = d->step && d->step < d->size - d->at ? d->step : d->size - d->at;
    d->at += *length;
    return true;
}

static struct tokenizer *train(const char *text, size_t size, size_t step, int vocab, enum pattern pattern)
{
    const char *special[] = {"<|endoftext|>"};
    struct tokenizer_training how = {.vocab = vocab, .pattern = pattern, .special = special, .n_special = 1};
    struct documents d = {text, size, 0, step};
    struct tokenizer *t = NULL;
    struct error error;
    if (tokenizer_train(&t, next_document, &d, &how, &error)) test_check(false, __FILE__, __LINE__, "%s", error.text);
    return t;
}

/* Words over few letters, so that ties and overlaps are common. */
static struct bytes make_text(size_t size, int letters)
{
    struct bytes b = {0};
    struct rng r = rng_at(7, 1, 0, (uint64_t)letters);
    while (b.size < size) {
        static const char *const blank[] = {" ", " ", " ", "  ", "\n", ".\n\n", ", "};
        const char *gap = blank[rng_u32(&r) % 7];
        for (uint32_t n = 1 + rng_u32(&r) % 9; n > 0; n--) {
            char letter = (char)('a' + rng_u32(&r) % (uint32_t)letters * (rng_u32(&r) % 2));
            bytes_add(&b, &letter, 1);
        }
        bytes_add(&b, gap, strlen(gap));
    }
    return b;
}

/* The reference: all pieces in a row with -1 between them, all pairs counted anew for every merge. */
enum { REFERENCE_VOCAB = 420 };
struct reference { int *id; size_t n; char token[REFERENCE_VOCAB][64]; int length[REFERENCE_VOCAB]; int n_tokens; };

static int reference_order(const struct reference *r, int x, int y)
{
    int n = int_min(r->length[x], r->length[y]), order = memcmp(r->token[x], r->token[y], (size_t)n);
    return order ? order : r->length[x] - r->length[y];
}

static long reference_best(const struct reference *r, int *left, int *right)
{
    static long count[REFERENCE_VOCAB][REFERENCE_VOCAB];
    memset(count, 0, sizeof count);
    for (size_t i = 0; i + 1 < r->n; i++)
        if (r->id[i] >= 0 && r->id[i + 1] >= 0) count[r->id[i]][r->id[i + 1]]++;
    long best = 0;
    for (int a = 0; a < r->n_tokens; a++)
        for (int b = 0; b < r->n_tokens; b++) {
            if (count[a][b] < best || count[a][b] == 0) continue;
            int order = reference_order(r, a, *left) ? reference_order(r, a, *left) : reference_order(r, b, *right);
            if (count[a][b] > best || order < 0) { best = count[a][b]; *left = a; *right = b; }
        }
    return best;
}

static void reference_merge(struct reference *r, int left, int right)
{
    int id = r->n_tokens++;
    memcpy(r->token[id], r->token[left], (size_t)r->length[left]);
    memcpy(r->token[id] + r->length[left], r->token[right], (size_t)r->length[right]);
    r->length[id] = r->length[left] + r->length[right];
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        bool pair = i + 1 < r->n && r->id[i] == left && r->id[i + 1] == right;
        r->id[n++] = pair ? id : r->id[i];
        i += pair;
    }
    r->n = n;
}

static void check_training(const char *text, size_t size, int merges)
{
    struct tokenizer *t = train(text, size, 0, 256 + merges + 1, PATTERN_GPT2);
    struct reference *r = host_alloc(1, sizeof *r);
    r->id = host_alloc(2 * size, sizeof *r->id);
    for (; r->n_tokens < 256; r->n_tokens++) { r->token[r->n_tokens][0] = (char)r->n_tokens; r->length[r->n_tokens] = 1; }
    struct split split;
    const char *piece;
    size_t n;
    split_open(&split, t->splitter);
    split_start(&split, text, size);
    while (split_next(&split, &piece, &n)) {
        for (size_t i = 0; i < n; i++) r->id[r->n++] = (unsigned char)piece[i];
        r->id[r->n++] = -1;
    }
    split_close(&split);
    CHECK(t->n_merges == merges);
    for (int rank = 0; rank < t->n_merges; rank++) {
        int left = 0, right = 0;
        long count = reference_best(r, &left, &right);
        struct merge m = t->merge[rank];
        if (!test_check(count >= 2 && m.left == (uint32_t)left && m.right == (uint32_t)right && m.result == 256 + (uint32_t)rank,
                        __FILE__, __LINE__, "merge %d is (%u, %u), the reference has (%d, %d) with %ld", rank, m.left, m.right,
                        left, right, count)) break;
        reference_merge(r, left, right);
    }
    free(r->id);
    free(r);
    tokenizer_free(t);
}

static void test_training(void)
{
    for (int letters = 2; letters <= 12; letters += 5) {
        struct bytes text = make_text(20000, letters);
        check_training(text.data, text.size, 120);
        bytes_free(&text);
    }
    char path[400];
    struct bytes corpus = {0};
    struct error error;
    if (!test_shared(path, sizeof path, "data/tok-bpe-train-ref/corpus.en")) test_skip("no corpus.en");
    else if (CHECK(file_read(&corpus, path, 1 << 20, &error) == 0)) check_training(corpus.data, corpus.size, 160);
    bytes_free(&corpus);
}

static bool same_bytes(const struct tokenizer *a, const struct tokenizer *b)
{
    struct bytes x = {0}, y = {0};
    tokenizer_write(&x, a);
    tokenizer_write(&y, b);
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    bytes_free(&x);
    bytes_free(&y);
    return same;
}

/* Many threads encode with one tokenizer: everyone gets what a single thread gets. */
struct crowd { const struct tokenizer *t; const struct bytes *text; struct ids want; bool wrong[64]; };

static void crowd_task(void *context, int i, int thread)
{
    struct crowd *c = context;
    struct ids ids = {0};
    (void)thread;
    tokenizer_encode(&ids, c->t, c->text->data, c->text->size);
    c->wrong[i] = ids.count != c->want.count || memcmp(ids.id, c->want.id, ids.count * sizeof *ids.id) != 0;
    free(ids.id);
}

static void check_crowd(const struct tokenizer *t)
{
    struct bytes text = make_text(20000, 15);
    struct crowd c = {.t = t, .text = &text};
    tokenizer_encode(&c.want, t, text.data, text.size);
    threads_for(64, crowd_task, &c);
    for (int i = 0; i < 64; i++) CHECK(!c.wrong[i]);
    free(c.want.id);
    bytes_free(&text);
}

static void test_threads(void)
{
    struct bytes text = make_text(3 << 20, 20);
    struct tokenizer *one = train(text.data, text.size, 50000, 600, PATTERN_QWEN2);
    for (int n = 2; n <= 3; n++) {
        threads_start(n);
        struct tokenizer *t = train(text.data, text.size, 50000, 600, PATTERN_QWEN2);
        CHECK(same_bytes(one, t));
        check_crowd(t);
        tokenizer_free(t);
    }
    threads_start(1);
    tokenizer_free(one);
    bytes_free(&text);
}

static void test_small_training(void)
{
    struct tokenizer *t = train("", 0, 0, 300, PATTERN_GPT2);
    CHECK(tokenizer_vocab(t) == 257 && t->n_merges == 0 && tokenizer_special(t, "<|endoftext|>") == 256);
    tokenizer_free(t);
    t = train("abab abab ab", 12, 0, 300, PATTERN_GPT2);      /* pieces abab, " abab", " ab" */
    CHECK(t->n_merges == 2);    /* ab 5 times; then (" ", ab) and (ab, ab) twice each: a tie */
    CHECK(t->token[t->merge[0].result].length == 2 && memcmp(t->token[t->merge[0].result].bytes, "ab", 2) == 0);
    CHECK(memcmp(t->token[t->merge[1].result].bytes, " ab", 3) == 0);
    tokenizer_free(t);
    struct tokenizer_training how = {.vocab = 255, .pattern = PATTERN_GPT2};
    struct documents none = {"", 0, 0, 0};
    struct error error = {0};
    CHECK(tokenizer_train(&t, next_document, &none, &how, &error) == -1 && error.exit_code == EXIT_USAGE);
}

/* Encoding must equal the definition: merge the pair of lowest rank, leftmost first, until there is none. */
static void check_definition(const struct tokenizer *t, const char *piece, size_t length)
{
    int *id = host_alloc(length + 1, sizeof *id);
    size_t n = 0;
    for (; n < length; n++) id[n] = t->byte_id[(unsigned char)piece[n]];
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = join_of(t, (uint32_t)id[i], (uint32_t)id[i + 1]).rank;
            if (rank < best) { best = rank; at = i; }
        }
        if (best == UINT32_MAX) break;
        id[at] = (int)t->merge[best].result;
        memmove(id + at + 1, id + at + 2, (--n - at - 1) * sizeof *id);
    }
    struct ids got = {0};
    tokenizer_encode(&got, t, piece, length);
    CHECK(got.count == n && memcmp(got.id, id, n * sizeof *id) == 0);
    free(got.id);
    free(id);
}

static void check_round_trip(const struct tokenizer *t, const char *text, size_t size, const char *name)
{
    struct ids ids = {0};
    struct bytes back = {0};
    tokenizer_encode(&ids, t, text, size);
    tokenizer_decode(&back, t, ids.id, ids.count);
    test_check(back.size == size && memcmp(back.data ? back.data : "", text, size) == 0, __FILE__, __LINE__,
               "%s does not come back from its tokens", name);
    bool special = false;
    for (size_t i = 0; i < ids.count; i++) special = special || tokenizer_is_special(t, ids.id[i]);
    CHECK(!special);
    free(ids.id);
    bytes_free(&back);
}

static void test_encoding(void)
{
    struct bytes text = make_text(200000, 6);
    for (int p = PATTERN_GPT2; p <= PATTERN_QWEN2; p++) {
        struct tokenizer *t = train(text.data, text.size, 0, 500, (enum pattern)p);
        struct rng r = rng_at(1, 1, 0, (uint64_t)p);
        check_round_trip(t, text.data, text.size, "the training text");
        check_round_trip(t, "", 0, "nothing");
        check_round_trip(t, "a<|endoftext|>b", 15, "the text of a special token");
        for (int k = 0; k < 60; k++) {                 /* short ones twice: the second time from the cache */
            char word[200];
            size_t n = 1 + rng_u32(&r) % (k < 40 ? 12 : 199);
            for (size_t i = 0; i < n; i++) word[i] = (char)('a' + rng_u32(&r) % 6);
            check_definition(t, word, n);
            check_definition(t, word, n);
        }
        for (int k = 0; k < 300; k++) {                /* any bytes, with many that start characters and many blanks */
            char noise[300];
            size_t n = rng_u32(&r) % sizeof noise;
            static const char some[] = " \n\r\ta'sZ9\xE4\xB8\xAD\xC3\xA9\xF0\x9F\x98\x80\xED\xA0\x80\xC0\x80\xE3\x80\x80\xFF";
            for (size_t i = 0; i < n; i++)
                noise[i] = rng_u32(&r) % 3 ? some[rng_u32(&r) % (sizeof some - 1)] : (char)rng_u32(&r);
            check_round_trip(t, noise, n, "noise");
        }
        tokenizer_free(t);
    }
    bytes_free(&text);
}

/* Long runs of one thing must cost about what any text costs. */
static void test_hostile_text(void)
{
    size_t size = getenv("FULL") ? 10 << 20 : 1 << 20;
    char *text = host_alloc(size, 1);
    struct bytes sample = make_text(100000, 3);
    for (int p = PATTERN_GPT2; p <= PATTERN_QWEN2; p++) {
        struct tokenizer *t = train(sample.data, sample.size, 0, 400, (enum pattern)p);
        for (const char *letter = "a \n1.\x80\xC3"; *letter; letter++) {
            memset(text, *letter, size);
            clock_t start = clock();               /* of this process: others may use the machine */
            check_round_trip(t, text, size, "a run of one byte");
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            test_check(seconds < 10, __FILE__, __LINE__, "%zu times 0x%02X took %.1f s", size, (unsigned char)*letter, seconds);
            text[size - 1] = 'x';
            check_round_trip(t, text, size, "a run of one byte and a letter");
        }
        tokenizer_free(t);
    }
    memset(text, 'a', size);
    for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (i * i >> 7) % 4);
    struct tokenizer *t = train(text, size, 0, 2000, PATTERN_GPT2);     /* one word of a megabyte */
    check_round_trip(t, text, size, "one long word");
    tokenizer_free(t);
    bytes_free(&sample);
    free(text);
}

static void check_pieces(enum pattern pattern, const char *regex, const char *text, const char *want)
{
    struct splitter *splitter;
    struct split s;
    struct bytes got = {0};
    const char *piece;
    size_t n;
    if (!CHECK(splitter_open(&splitter, pattern, regex, NULL) == 0)) return;
    split_open(&s, splitter);
    split_start(&s, text, strlen(text));
    while (split_next(&s, &piece, &n)) bytes_text(&got, "%s%.*s", got.size ? "|" : "", (int)n, piece);
    test_check(strcmp(got.data, want) == 0, __FILE__, __LINE__, "\"%s\" splits into \"%s\", expected \"%s\"", text, got.data, want);
    bytes_free(&got);
    split_close(&s);
    splitter_close(splitter);
}

static void test_splitting(void)
{
    check_pieces(PATTERN_GPT2, NULL, "I'm  here, 1234 it'S", "I|'m| | here|,| 1234| it|'|S");
    check_pieces(PATTERN_LLAMA3, NULL, "I'M  here, 12345\n\n x", "I|'M| | here|,| |123|45|\n\n| x");
    check_pieces(PATTERN_QWEN2, NULL, "(a) 12\r\n b", "(a|)| |1|2|\r\n| b");
    check_pieces(PATTERN_GPT2, NULL, "\xE4\xB8\xAD\xE6\x96\x87\xEF\xBC\x8C\xC3\xA9", "\xE4\xB8\xAD\xE6\x96\x87|\xEF\xBC\x8C|\xC3\xA9");
    check_pieces(PATTERN_GPT2, NULL, "a\xE3\x80\x80\xE3\x80\x80" "b", "a|\xE3\x80\x80|\xE3\x80\x80|b");    /* wide blanks */
    check_pieces(PATTERN_GPT2, NULL, "ab\xFF\xFE" "cd", "ab|\xFF|\xFE|cd");
    check_pieces(PATTERN_GPT2, NULL, "a  \xC3", "a|  |\xC3");            /* the run ends before the broken byte */
    check_pieces(PATTERN_CUSTOM, "b+", "aabbab", "aa|bb|a|b");             /* what does not match is a piece as well */
    check_pieces(PATTERN_CUSTOM, "b*", "aab", "aa|b");
    check_pieces(PATTERN_CUSTOM, "a\\Kb", "aab", "aa|b");
}

/* A word that needs more stack than PCRE2's compiled code has is still a word, and the interpreter finds the same pieces;
 * what is given up is said and never taken for text without a match. */
static void test_limits(void)
{
    static const char nested[] = "(?:(?:[ab]|cd)+x?)+|\\s+";
    size_t n = 0, length, count[2] = {0}, first[2] = {0}, last[2] = {0};
    struct bytes text = {0};
    struct splitter *splitter;
    struct split s;
    const char *piece;
    for (int i = 0; i < 10000; i++) bytes_text(&text, "abcdx");
    bytes_text(&text, " ab");
    if (!CHECK(splitter_open(&splitter, PATTERN_CUSTOM, nested, NULL) == 0)) return;
    split_open(&s, splitter);
    for (int interpret = 0; interpret < 2; interpret++) {
        split_start(&s, text.data, text.size);
        s.interpret = interpret;
        for (n = 0; split_next(&s, &piece, &length); n++) {
            if (n == 0) first[interpret] = length;
            last[interpret] = length;
        }
        count[interpret] = n;
        CHECK(!s.failed);
    }
    CHECK(count[0] == 4 && first[0] == PIECE_MAX && last[0] == 2);      /* the long word in two, the blank, the last word */
    CHECK(count[1] == count[0] && first[1] == first[0] && last[1] == last[0]);
    split_close(&s);
    splitter_close(splitter);
    bytes_free(&text);

    static const char hopeless[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    if (!CHECK(splitter_open(&splitter, PATTERN_CUSTOM, "(a|aa)+$", NULL) == 0)) return;
    split_open(&s, splitter);
    split_start(&s, hopeless, strlen(hopeless));
    CHECK(!split_next(&s, &piece, &length) && s.failed && !split_next(&s, &piece, &length));
    split_start(&s, "b", 1);
    CHECK(split_next(&s, &piece, &length) && !s.failed);
    split_close(&s);
    splitter_close(splitter);
}

static void test_special(void)
{
    struct tokenizer *t = train("", 0, 0, 257, PATTERN_GPT2);
    CHECK(tokenizer_special(t, "<|im_end|>") == -1 && tokenizer_special(t, "a") == -1);
    CHECK(tokenizer_add_special(t, "<|im_end|>") == 257 && tokenizer_add_special(t, "<|im_end|>") == 257);
    CHECK(tokenizer_add_special(t, "a") == 258 && tokenizer_special(t, "a") == 258);      /* not the byte a */
    CHECK(tokenizer_vocab(t) == 259 && tokenizer_is_special(t, 257) && !tokenizer_is_special(t, 97));
    CHECK(!tokenizer_is_special(t, -1) && !tokenizer_is_special(t, 259));
    struct ids ids = {0};
    tokenizer_encode(&ids, t, "a<|im_end|>", 11);
    CHECK(ids.count == 11 && ids.id[0] == 97);
    free(ids.id);
    size_t length;
    CHECK(strcmp(tokenizer_bytes(t, 257, &length), "<|im_end|>") == 0 && length == 10);
    struct bytes b = {0};
    tokenizer_decode(&b, t, (int[]){104, 257, 105}, 3);
    CHECK(strcmp(b.data, "h<|im_end|>i") == 0);
    bytes_free(&b);
    tokenizer_free(t);
}

/* Streams the bytes of `text` token by token (a byte each) in groups of n. */
static void check_stream(const char *text, size_t n, const char *want)
{
    struct tokenizer *t = train("", 0, 0, 257, PATTERN_GPT2);
    struct utf8_held held = {0};
    struct bytes b = {0};
    for (size_t i = 0; i < strlen(text); i += n) {
        int id[8];
        size_t k = 0;
        for (; k < n && text[i + k]; k++) id[k] = (unsigned char)text[i + k];
        size_t before = b.size;
        tokenizer_stream(&b, &held, t, id, k);
        for (size_t at = before; at < b.size;) {
            int whole = utf8_length(b.data + at, b.size - at);
            if (!CHECK(whole > 0)) break;
            at += (size_t)whole;
        }
    }
    tokenizer_stream(&b, &held, t, NULL, 0);
    test_check(held.count == 0 && strcmp(b.data, want) == 0, __FILE__, __LINE__, "\"%s\" streams as \"%s\"", text, b.data);
    bytes_free(&b);
    tokenizer_free(t);
}

static void test_streaming(void)
{
    static const char *const text[][2] = {
        {"plain", "plain"}, {"\xE4\xB8\xAD!\xF0\x9F\x98\x80", "\xE4\xB8\xAD!\xF0\x9F\x98\x80"},
        {"a\xFF" "b", "a\xEF\xBF\xBD" "b"}, {"\xE4\xB8", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE4" "A", "\xEF\xBF\xBD" "A"}, {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
    };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        for (size_t n = 1; n <= 5; n++) check_stream(text[i][0], n, text[i][1]);
    struct tokenizer *t = train("", 0, 0, 257, PATTERN_GPT2);
    struct utf8_held held = {0};
    struct bytes b = {0};
    tokenizer_stream(&b, &held, t, (int[]){0xE4, 0xB8}, 2);
    CHECK(b.size == 0 && held.count == 2);             /* held back until the character is whole */
    tokenizer_stream(&b, &held, t, (int[]){0xAD}, 1);
    CHECK(b.size == 3 && held.count == 0);
    bytes_free(&b);
    tokenizer_free(t);
}

/* TOKN.  A tokenizer of 256 bytes, 3 merges and 2 special tokens; `broken` changes a copy of its bytes. */
static void put_u32(char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (char)(value >> 8 * i);
}

static void check_refused(const struct bytes *good, size_t at, uint32_t value, const char *message)
{
    struct error error = {0};
    struct tokenizer *t = NULL;
    char *copy = host_alloc(good->size, 1);
    memcpy(copy, good->data, good->size);
    put_u32(copy + at, value);
    int status = tokenizer_read(&t, copy, good->size, &error);
    test_check(status == -1 && t == NULL && error.exit_code == EXIT_DATA && strstr(error.text, message), __FILE__, __LINE__,
               "byte %zu = %u: expected \"%s\", found \"%s\"", at, value, message, status ? error.text : "no error");
    if (status == 0) tokenizer_free(t);
    free(copy);
}

static void test_broken(void)
{
    struct tokenizer *t = train("ab abc abc abcd abcd", 20, 0, 260, PATTERN_GPT2);
    tokenizer_add_special(t, "<|x|>");
    struct bytes b = {0};
    tokenizer_write(&b, t);
    int vocab = t->n_vocab;
    size_t offsets = 64, merges = offsets + 4 * ((size_t)vocab + 1), specials = merges + 36, types = specials + 16;
    size_t area = types + (size_t)vocab;
    CHECK(vocab == 261 && t->n_merges == 3 && b.size == area + 256 + 2 + 3 + 4 + 13 + 5);
    check_refused(&b, 0, 2, "kind 2");                                          /* TK1 */
    check_refused(&b, 4, 260, "its head means");
    check_refused(&b, 4, 255, "255 tokens");
    check_refused(&b, 4, 0xFFFFFFFF, "tokens, expected 256");
    check_refused(&b, 8, 4, "its head means");
    check_refused(&b, 8, 0xFFFFFFFF, "not possible");
    check_refused(&b, 12, 0xFFFFFFFF, "not possible");
    check_refused(&b, 24, 0xFFFFFFFF, "not possible");
    check_refused(&b, 28, 0xFFFFFFFF, "its head means");
    check_refused(&b, 16, 77, "pattern 77");
    check_refused(&b, 16, 255, "pattern 255 with 0 bytes");                     /* TK8 */
    check_refused(&b, 20, 4, "stages without a pattern");
    check_refused(&b, 20, 8, "flags 0x8");
    check_refused(&b, 60, 1, "head is 1");
    check_refused(&b, offsets, 1, "first token starts at 1");                   /* TK2 */
    check_refused(&b, offsets + 8, 0, "spans bytes");
    check_refused(&b, offsets + 40, 0xFFFFFFF0, "spans bytes");
    check_refused(&b, offsets + 4 * (size_t)vocab, 282, "end at byte");
    check_refused(&b, offsets + 4, 0, "0 bytes, expected 1");                   /* TK3 */
    check_refused(&b, area + 4, 0x01060504, "have the same bytes");             /* TK4 */
    check_refused(&b, area, 0x03020161, "have the same bytes");
    check_refused(&b, merges, 9999, "names token 9999");                        /* TK5 */
    check_refused(&b, merges + 8, 261, "ids end at 261");
    check_refused(&b, merges, 'b', "joined");                                   /* TK6 */
    check_refused(&b, merges + 8, 257, "joined");
    check_refused(&b, merges + 4, 259, "special or unused");
    check_refused(&b, specials, 260, "not where it belongs");                   /* TK7 */
    check_refused(&b, specials + 8, 259, "not where it belongs");
    check_refused(&b, specials + 4, 2, "role 2");
    put_u32(b.data + specials + 4, 1);
    check_refused(&b, specials + 12, 1, "both separate documents");
    put_u32(b.data + specials + 4, 0);
    check_refused(&b, types, 0x01010102, "type 2");
    check_refused(&b, types, 0x01010103, "not where it belongs");
    check_refused(&b, types, 0x01010105, "unused but has");
    put_u32(b.data + merges + 12, 'a');                                         /* the same merge twice */
    put_u32(b.data + merges + 16, 'b');
    check_refused(&b, merges + 20, 256, "same pair");
    bytes_free(&b);
    tokenizer_free(t);
}

/* What separates documents is kept in the section; without, it is <|endoftext|>, and the section is as it always was. */
static void test_document(void)
{
    struct tokenizer *t = train("ab abc abc abcd abcd", 20, 0, 260, PATTERN_GPT2), *u = NULL;
    struct error error;
    struct bytes before = {0}, after = {0};
    int x = tokenizer_add_special(t, "<|x|>");
    CHECK(tokenizer_document(t) == tokenizer_special(t, "<|endoftext|>") && tokenizer_document(t) == 259);
    tokenizer_write(&before, t);
    tokenizer_set_document(t, x);
    tokenizer_write(&after, t);
    CHECK(before.size == after.size && memcmp(before.data, after.data, before.size) != 0);
    CHECK(tokenizer_read(&u, after.data, after.size, &error) == 0 && tokenizer_document(u) == x);
    tokenizer_free(u);
    CHECK(tokenizer_read(&u, before.data, before.size, &error) == 0 && tokenizer_document(u) == 259);
    tokenizer_free(u);
    tokenizer_free(t);
    bytes_free(&before);
    bytes_free(&after);
}

/* A pattern of its own survives; bad ones are refused; no change of a bit and no cut is fatal. */
static void test_custom_pattern(void)
{
    struct tokenizer *t = train("ab abc abc abcd abcd", 20, 0, 260, PATTERN_GPT2), *u = NULL;
    t->pattern = PATTERN_CUSTOM;
    t->regex = host_text("%s", "\\p{L}+");
    struct bytes b = {0};
    tokenizer_write(&b, t);
    struct error error;
    if (CHECK(tokenizer_read(&u, b.data, b.size, &error) == 0)) {
        CHECK(u->pattern == PATTERN_CUSTOM && same_bytes(t, u));
        tokenizer_free(u);
    }
    size_t regex = b.size - (256 + 2 + 3 + 4 + 13) - 6;
    CHECK(memcmp(b.data + regex, "\\p{L}+", 6) == 0);
    check_refused(&b, regex + 2, ')', "zero byte");
    check_refused(&b, regex, 0x28282828, "does not compile");
    check_refused(&b, 24, 5000, "not possible");
    for (size_t bit = 0; bit < 8 * b.size; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        if (tokenizer_read(&u, b.data, b.size, &error) == 0) {
            check_round_trip(u, "abcd \xE4\xB8\xAD abc", 12, "text after a changed bit");
            tokenizer_free(u);
        }
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t n = 0; n < b.size; n++) CHECK(tokenizer_read(&u, b.data, n, &error) == -1);
    bytes_add(&b, "", 1);
    CHECK(tokenizer_read(&u, b.data, b.size, &error) == -1);
    bytes_free(&b);
    tokenizer_free(t);
}

static void test_identity(void)
{
    struct tokenizer *t = train("ab abc abc abcd abcd", 20, 0, 260, PATTERN_GPT2), *u = NULL;
    struct bytes b = {0};
    struct error error;
    size_t n, m;
    tokenizer_write(&b, t);
    CHECK(tokenizer_read(&u, b.data, b.size, &error) == 0);
    CHECK(same_bytes(t, u) && tokenizer_crc(t, &n) == tokenizer_crc(u, &m) && n == m && n == b.size);
    CHECK(tokenizer_crc(t, &n) == crc32_of(0, b.data, b.size));
    tokenizer_add_special(u, "<|x|>");
    CHECK(tokenizer_crc(t, &n) != tokenizer_crc(u, &m) && m == n + 4 + 8 + 1 + 5);
    bytes_free(&b);
    tokenizer_free(t);
    tokenizer_free(u);
}

int main(void)
{
    test_splitting();
    test_limits();
    test_small_training();
    test_training();
    test_threads();
    test_encoding();
    test_hostile_text();
    test_special();
    test_streaming();
    test_broken();
    test_document();
    test_custom_pattern();
    test_identity();
    return test_end("test_tokenizer");
}
