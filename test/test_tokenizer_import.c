/* test_tokenizer_import.c - other people's tokenizers: ids as their own programs give them, and what is refused.
 *
 * The ids were printed once by Hugging Face's `tokenizers` 0.23 (added tokens removed, so that text is text); the GPT-2
 * ids of the first lines are OpenAI's published ones. */
#define _GNU_SOURCE
#include "common/text/tokenizer_parts.h"
#include "common/text/tokenizer_unicode.h"
#include "test/test.h"

#include <glob.h>
#include <jansson.h>

struct golden { const char *text; int n; int id[40]; };

#define MIXED " I'm  here, 1234 it'S\n\n x"
#define CHINESE "\xE4\xB8\xAD\xE6\x96\x87\xEF\xBC\x8C\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x81"
#define ACCENTS "na\xC3\xAFve caf\xC3\xA9 \xF0\x9F\x98\x80"
#define CODE "\t\tif (x<0) return;\r\n"
#define FOX "The quick brown fox jumps over the lazy dog."

static const struct golden gpt2[] = {
    {"Hello world", 2, {15496, 995}},
    {FOX, 10, {464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13}},
    {MIXED, 12, {314, 1101, 220, 994, 11, 1105, 2682, 340, 6, 50, 628, 2124}},
    {CHINESE, 13, {40792, 23877, 229, 171, 120, 234, 19526, 254, 25001, 121, 171, 120, 223}},
    {ACCENTS, 5, {2616, 38776, 40304, 30325, 222}},
    {CODE, 12, {197, 197, 361, 357, 87, 27, 15, 8, 1441, 26, 201, 198}},
    {"<|endoftext|>", 7, {27, 91, 437, 1659, 5239, 91, 29}},
    {NULL, 0, {0}},
};
static const struct golden minimind[] = {
    {"Hello world", 2, {1602, 1707}},
    {FOX, 18, {750, 5658, 363, 2079, 113, 341, 2979, 1315, 457, 3385, 2141, 309, 3090, 125, 124, 1041, 106, 49}},
    {MIXED, 14, {442, 1422, 256, 1904, 47, 482, 1676, 55, 563, 42, 86, 234, 234, 1390}},
    {CHINESE, 4, {3606, 294, 1968, 1364}},
    {ACCENTS, 12, {113, 100, 163, 143, 478, 317, 4249, 3006, 256, 4544, 282, 258}},
    {"<|endoftext|>", 7, {63, 127, 901, 4237, 1223, 127, 65}},
    {NULL, 0, {0}},
};
static const struct golden qwen3[] = {
    {"Hello world", 2, {9707, 1879}},
    {FOX, 10, {785, 3974, 13876, 38835, 34208, 916, 279, 15678, 5562, 13}},
    {MIXED, 14, {358, 2776, 220, 1588, 11, 220, 16, 17, 18, 19, 432, 13272, 271, 856}},
    {CHINESE, 4, {104811, 3837, 108386, 6313}},
    {ACCENTS, 5, {3376, 37572, 586, 51950, 90316}},
    {CODE, 9, {197, 743, 320, 87, 27, 15, 8, 470, 463}},
    {"<|endoftext|>", 7, {27, 91, 8691, 723, 427, 91, 29}},
    {NULL, 0, {0}},
};
static const struct golden tiny[] = {
    {"Hello world", 4, {39, 385, 78, 675}},
    {FOX, 19, {298, 1394, 127, 575, 77, 123, 1461, 427, 253, 79, 82, 510, 103, 1110, 89, 88, 136, 305, 13}},
    {MIXED, 17, {223, 1791, 95, 207, 101, 11, 95, 16, 17, 18, 19, 209, 6, 50, 94, 94, 1121}},
    {"<|endoftext|>", 8, {27, 91, 322, 78, 622, 1541, 91, 29}},
    {NULL, 0, {0}},
};

static struct tokenizer *import(const char *path)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    int status = tokenizer_import(&t, path, &error);
    test_check(status == 0, __FILE__, __LINE__, "%s", error.text);
    return t;
}

static void check_golden(const struct tokenizer *t, const struct golden *g)
{
    for (; t && g->text; g++) {
        struct ids ids = {0};
        tokenizer_encode(&ids, t, g->text, strlen(g->text));
        test_check(ids.count == (size_t)g->n && memcmp(ids.id, g->id, ids.count * sizeof *ids.id) == 0, __FILE__, __LINE__,
                   "\"%s\" has %zu tokens from %d, expected %d", g->text, ids.count, ids.count ? ids.id[0] : -1, g->n);
        free(ids.id);
    }
}

static void check_again(const struct tokenizer *t, const struct golden *g)
{
    struct bytes b = {0};
    struct tokenizer *u = NULL;
    struct error error = {0};
    if (!t) return;
    tokenizer_write(&b, t);
    int status = tokenizer_read(&u, b.data, b.size, &error);
    if (test_check(status == 0, __FILE__, __LINE__, "%s", error.text)) check_golden(u, g);
    tokenizer_free(u);
    bytes_free(&b);
}

/* Every text file of the collection, byte for byte. */
static void check_collection(const struct tokenizer *t)
{
    char pattern[400];
    glob_t found;
    size_t files = 0;
    test_shared(pattern, sizeof pattern, "data/*/*");
    if (glob(pattern, 0, NULL, &found)) return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct bytes text = {0}, back = {0};
        struct ids ids = {0};
        struct error error;
        const char *path = found.gl_pathv[i], *dot = strrchr(path, '.');
        if (!dot || !strstr(".txt .json .jsonl .csv .md .en .bpe .gz", dot) || file_read(&text, path, 64 << 20, &error)) continue;
        tokenizer_encode(&ids, t, text.data, text.size);
        tokenizer_decode(&back, t, ids.id, ids.count);
        test_check(back.size == text.size && memcmp(back.data, text.data, text.size) == 0, __FILE__, __LINE__,
                   "%s does not come back", path);
        free(ids.id);
        bytes_free(&text);
        bytes_free(&back);
        files++;
    }
    globfree(&found);
    CHECK(files > 50);
}

static void test_collection(void)
{
    char path[400];
    struct tokenizer *t;
    if (!test_shared(path, sizeof path, "data/tok-gpt2")) {
        test_skip("no collection of tokenizers");
        return;
    }
    t = import(path);
    CHECK(t && tokenizer_vocab(t) == 50257 && tokenizer_special(t, "<|endoftext|>") == 50256);
    CHECK(t && !tokenizer_is_special(t, 50255) && !tokenizer_is_special(t, 188));
    check_golden(t, gpt2);
    check_again(t, gpt2);
    if (t) check_collection(t);
    tokenizer_free(t);
    t = import(test_shared(path, sizeof path, "data/tok-gpt2/vocab.bpe"));
    check_golden(t, gpt2);
    tokenizer_free(t);
    t = import(test_shared(path, sizeof path, "data/tok-minimind-zh/tokenizer.json"));
    CHECK(t && tokenizer_vocab(t) == 6400 && tokenizer_special(t, "<|im_end|>") == 2 && t->pattern == PATTERN_GPT2);
    check_golden(t, minimind);
    check_again(t, minimind);
    tokenizer_free(t);
    t = import(test_shared(path, sizeof path, "data/tok-small-fixtures/tiny_bpe_tokenizer.json"));
    CHECK(t && tokenizer_vocab(t) == 2003 + 160 && tokenizer_special(t, "<|im_end|>") == 2002);   /* 160 bytes had no token */
    CHECK(t && t->pattern == PATTERN_QWEN2 && t->flags == TOKENIZER_NFC);
    check_golden(t, tiny);
    tokenizer_free(t);
    t = import(test_shared(path, sizeof path, "data/tok-small-fixtures/tiny_bpe_merges.txt"));
    CHECK(t && tokenizer_vocab(t) == 2160);
    tokenizer_free(t);
}

/* Every text of a golden file, but those in which the text of a special token stands: the origin finds it there. */
static void check_texts(const struct tokenizer *t, const char *file)
{
    char path[400];
    json_t *golden = json_load_file(test_shared(path, sizeof path, file) ? path : "", 0, NULL), *one;
    size_t i, compared = 0;
    if (!t || !golden) return;
    json_array_foreach(json_object_get(golden, "cases"), i, one) {
        const json_t *text = json_object_get(one, "text"), *want = json_object_get(one, "ids");
        const char *bytes = json_string_value(text);
        struct ids ids = {0};
        bool special = false, same;
        for (int id = 0; id < tokenizer_vocab(t); id++) {
            size_t n;
            const char *token = tokenizer_bytes(t, id, &n);
            special |= tokenizer_is_special(t, id) && memmem(bytes, json_string_length(text), token, n) != NULL;
        }
        if (special) continue;
        tokenizer_encode(&ids, t, bytes, json_string_length(text));
        const json_t *decoded = json_object_get(one, "decoded");
        struct bytes back = {0};
        tokenizer_decode(&back, t, ids.id, ids.count);
        if (!decoded) decoded = text;
        test_check(back.size == json_string_length(decoded) && memcmp(back.data ? back.data : "", json_string_value(decoded), back.size) == 0,
                   __FILE__, __LINE__, "%s: text %zu \"%s\" is decoded to another one", file, i, bytes);
        bytes_free(&back);
        same = ids.count == json_array_size(want);
        for (size_t k = 0; same && k < ids.count; k++) same = ids.id[k] == json_integer_value(json_array_get(want, k));
        test_check(same, __FILE__, __LINE__, "%s: text %zu \"%s\" has other ids", file, i, bytes);
        free(ids.id);
        compared++;
    }
    test_check(compared > 50, __FILE__, __LINE__, "%s: %zu texts compared", file, compared);
    json_decref(golden);
}

static void check_refused(const char *path, const char *message)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    int status = tokenizer_import(&t, path, &error);
    test_check(status == -1 && strstr(error.text, message) && strstr(error.text, path), __FILE__, __LINE__,
               "expected \"%s\", found \"%s\"", message, status ? error.text : "no error");
    if (status == 0) tokenizer_free(t);
}

/* Tokenizers made by the package itself, and what it makes of many texts. */
static void test_made(void)
{
    static const char *const made[] = {"gpt2", "bloom", "codegen", "falcon", "llama3", "neox", "opt", "qwen2", "smollm"};
    char path[400], file[100];
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        snprintf(file, sizeof file, "golden/tokenizers/made-%s/tokenizer.json", made[i]);
        if (!test_shared(path, sizeof path, file)) { test_skip("no golden tokenizers"); return; }
        struct tokenizer *t = import(path);
        snprintf(file, sizeof file, "golden/tokenizers/made-%s.json", made[i]);
        check_texts(t, file);
        tokenizer_free(t);
    }
    static const char *const others[][2] = {
        {"data/tok-minimind-zh/tokenizer.json", "golden/tokenizers/minimind-zh.json"},
        {"golden/tokenizers/made-llama2/tokenizer.json", "golden/tokenizers/made-llama2.json"},
        {"golden/tokenizers/made-spm/tokenizer.model", "golden/tokenizers/made-spm-sentencepiece.json"},
        {"golden/tokenizers/made-spm-transformers/tokenizer.json", "golden/tokenizers/made-spm-transformers.json"},
        {"data/tok-spm-mistral-v1/tokenizer.model", "golden/tokenizers/mistral-v1-sentencepiece.json"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct tokenizer *t = import(test_shared(path, sizeof path, others[i][0])), *u = NULL;
        struct bytes b = {0};
        struct error error = {0};
        check_texts(t, others[i][1]);
        if (t) tokenizer_write(&b, t);
        if (t && CHECK(tokenizer_read(&u, b.data, b.size, &error) == 0)) check_texts(u, others[i][1]);
        bytes_free(&b);
        tokenizer_free(t);
        tokenizer_free(u);
    }
    static const char *const unigram[] = {"data/tok-sentencepiece-tests/test_model.model", "data/tok-small-fixtures/m.model"};
    for (int i = 0; i < 2; i++) check_refused(test_shared(path, sizeof path, unigram[i]), "its model is Unigram, expected BPE");
    check_refused(test_shared(path, sizeof path, "data/tok-small-fixtures/tiktoken_small.model"), "not a SentencePiece model");
}

static void test_qwen3(void)
{
    char packed[400], path[] = "/tmp/quartet-test-XXXXXX.json", command[1000];
    if (!test_shared(packed, sizeof packed, "data/tok-qwen3/tokenizer.json.xz")) {
        test_skip("no Qwen3 tokenizer");
        return;
    }
    int file = mkstemps(path, 5);
    snprintf(command, sizeof command, "xz -dc '%s' > '%s' 2>/dev/null", packed, path);
    if (file < 0 || system(command)) test_skip("no xz to unpack the Qwen3 tokenizer");
    else {
        struct tokenizer *t = import(path);
        CHECK(t && tokenizer_vocab(t) == 151669 && tokenizer_special(t, "<|im_end|>") == 151645 && t->pattern == PATTERN_QWEN2);
        check_golden(t, qwen3);
        check_again(t, qwen3);
        check_texts(t, "golden/tokenizers/qwen3.json");
        tokenizer_free(t);
    }
    unlink(path);
    close(file);
}

/* A tokenizer.json over the alphabet: the tokens "\u0120t" and "th" and merges as told, and other parts as told. */
static void write_json(const char *path, const char *normalizer, const char *pre, const char *merges, const char *added,
                        const char *extra)
{
    struct bytes b = {0};
    bytes_text(&b, "{\"normalizer\": %s, \"pre_tokenizer\": %s, \"added_tokens\": %s, \"model\": {\"type\": \"BPE\", %s\"vocab\": {",
               normalizer, pre, added, extra);
    for (int byte = 33; byte <= 126; byte++)
        bytes_text(&b, "\"%s%c\": %d, ", byte == '"' || byte == '\\' ? "\\" : "", byte, byte - 33);
    bytes_text(&b, "\"\xC4\xA0\": 94, \"\xC4\xA0t\": 95, \"th\": 96}, \"merges\": %s}}", merges);
    FILE *f = fopen(path, "w");
    if (!f) die("cannot write %s", path);
    fwrite(b.data, 1, b.size, f);
    fclose(f);
    bytes_free(&b);
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}"
#define BYTES_ONLY "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
#define MERGES "[[\"\xC4\xA0\", \"t\"], \"t h\"]"
#define SPLIT(regex, how) "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, " \
                          how "}, " BYTES_ONLY "]}"

static void check_json(const char *path, enum pattern pattern, const char *normalizer, const char *pre)
{
    write_json(path, normalizer, pre, MERGES, "[{\"id\": 98, \"content\": \"<end>\"}]", "");
    struct tokenizer *t = import(path);
    CHECK(t && t->pattern == pattern && tokenizer_special(t, "<end>") == 98 && t->token[97].type == TOKEN_UNUSED);
    CHECK(t && tokenizer_vocab(t) == 99 + 256 - 95);
    struct ids ids = {0};
    if (t) tokenizer_encode(&ids, t, " the<end>", 9);
    CHECK(ids.count == 8 && ids.id[0] == 95 && ids.id[1] == 'h' - 33 && ids.id[3] == '<' - 33);
    free(ids.id);
    tokenizer_free(t);
}

static void test_json(const char *path)
{
    check_json(path, PATTERN_GPT2, "null", BYTE_LEVEL);
    check_json(path, PATTERN_GPT2, "{\"type\": \"NFC\"}", "{\"type\": \"Sequence\", \"pretokenizers\": [" BYTE_LEVEL "]}");
    check_json(path, PATTERN_CUSTOM, "null", SPLIT(" ?[a-z]+", "\"behavior\": \"Isolated\", \"invert\": false"));
    check_json(path, PATTERN_CUSTOM, "null", "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
               "\"individual_digits\": true}, " BYTE_LEVEL "]}");
    static const struct { const char *normalizer, *pre, *merges, *added, *extra, *message; } bad[] = {
        {"{\"type\": \"Lowercase\"}", BYTE_LEVEL, MERGES, "[]", "", "normalizer Lowercase"},
        {"null", "{\"type\": \"Metaspace\"}", MERGES, "[]", "", "not byte-level BPE"},
        {"null", "{\"type\": \"Metaspace\", \"replacement\": \"_\"}", MERGES, "[]", "\"byte_fallback\": true, ", "Metaspace"},
        {"null", "{\"type\": \"Whitespace\"}", MERGES, "[]", "\"byte_fallback\": true, ", "Whitespace"},
        {"{\"type\": \"Lowercase\"}", "null", MERGES, "[]", "\"byte_fallback\": true, ", "Lowercase"},
        {"{\"type\": \"Prepend\", \"prepend\": \"x\"}", "null", MERGES, "[]", "\"byte_fallback\": true, ", "Prepend"},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}", "null", "[]", "[]",
         "\"byte_fallback\": true, ", "97 tokens, expected 256"},
        {"null", "null", MERGES, "[]", "", "not byte-level BPE"},
        {"null", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", MERGES, "[]", "", "add_prefix_space"},
        {"null", BYTES_ONLY, MERGES, "[]", "", "nothing then ByteLevel without"},
        {"null", SPLIT("(", "\"behavior\": \"Isolated\", \"invert\": false"), MERGES, "[]", "", "does not compile"},
        {"null", SPLIT("a", "\"behavior\": \"MergedWithNext\", \"invert\": false"), MERGES, "[]", "", "MergedWithNext"},
        {"null", SPLIT("a", "\"behavior\": \"Removed\", \"invert\": true"), MERGES, "[]", "", "Removed (inverted)"},
        {"null", BYTE_LEVEL, "[[\"t\", \"x\"]]", "[]", "", "what they make is not in the vocabulary"},
        {"null", BYTE_LEVEL, "[[\"t\", 5]]", "[]", "", "merge 1 is not a pair"},
        {"null", BYTE_LEVEL, "[\"th\"]", "[]", "", "merge 1 is not a pair"},
        {"null", BYTE_LEVEL, "[\"t h\", \"t h\"]", "[]", "", "same pair"},
        {"null", BYTE_LEVEL, MERGES, "[{\"id\": 5, \"content\": \"<end>\"}]", "", "id 5 is an added token and another"},
        {"null", BYTE_LEVEL, MERGES, "[{\"id\": 200, \"content\": \"t\"}]", "", "\"t\" has the id 200, and"},
        {"null", BYTE_LEVEL, MERGES, "[{\"id\": -5, \"content\": \"<end>\"}]", "", "no id or no content"},
        {"null", BYTE_LEVEL, MERGES, "[{\"id\": 9999999, \"content\": \"<end>\"}]", "", "ids go up to 9999999"},
        {"null", BYTE_LEVEL, MERGES, "[]", "\"byte_fallback\": true, ", "pre-tokenizer is ByteLevel"},
        {"null", "null", MERGES, "[]", "\"byte_fallback\": true, ", "nothing writes U+2581"},
        {"null", BYTE_LEVEL, MERGES, "[]", "\"end_of_word_suffix\": \"</w>\", ", "suffix"},
        {"null", BYTE_LEVEL, MERGES, "[]", "\"dropout\": 0.1, ", "dropout"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_json(path, bad[i].normalizer, bad[i].pre, bad[i].merges, bad[i].added, bad[i].extra);
        check_refused(path, bad[i].message);
    }
    write_json(path, "null", BYTE_LEVEL, "[]", "[]", "\"ignore_merges\": true, ");
    struct tokenizer *t = import(path);
    struct ids ids = {0};
    if (t) tokenizer_encode(&ids, t, "th t the", 8);            /* no merges, yet two of the pieces are tokens */
    CHECK(ids.count == 1 + 1 + 4 && ids.id[0] == 96 && ids.id[1] == 95 && ids.id[2] == 94 && ids.id[3] == 't' - 33);
    free(ids.id);
    tokenizer_free(t);
}

/* Expressions for the origin's engine, and what they are for PCRE2; NULL: refused. */
static void test_regex(void)
{
    static const char *const cases[][2] = {
        {"\\p{N}{1,3}+|\\s+(?!\\S)", "(?:\\p{N}{1,3})+|\\s+(?!\\S)"}, {"[ab]{2}+", "(?:[ab]{2})+"}, {"(?:a|(b)){2,}*c", "(?:(?:a|(b)){2,})*c"},
        {"a++b?+c*?", "a++b?+c*?"}, {"x{1,3}?", "x{1,3}?"}, {"[\\p{L}&&[^\\p{Han}]]+", "(?:(?=[\\p{L}])[^\\p{Han}])+"},
        {"[^(\\s|[.,!])]", "[^(\\s|.,!)]"}, {"[a-c[x]y]", "[a-cxy]"}, {"[[:alpha:]_]", NULL}, {"\\u4E2D\\x{41}", "\\x{4E2D}\\x{41}"},
        {"\\h[\\h]", "[0-9a-fA-F][0-9a-fA-F]"}, {"a.", "a[^\\n]"}, {"(?i:'s)", "(?i:'s)"}, {"(?i)a", "(?i)a"},
        {"\\w", NULL}, {"^a", NULL}, {"a$", NULL}, {"\\Ka", NULL}, {"(a)\\1", NULL}, {"\\bx", NULL},
        {"(?m:a)", NULL}, {"(?<n>a)", NULL}, {"a{,3}", NULL}, {"a{2}?", NULL}, {"{2}", NULL}, {"[a[^b]]", NULL}, {"[^a&&b]", NULL},
        {"[[a&&b]c]", NULL}, {"[]a]", NULL}, {"[a", NULL}, {"\\p{^L}", NULL}, {"\\pL", NULL}, {"\\", NULL}, {"a)", NULL}, {"*", NULL},
        {"[\\W]", NULL}, {"a|+", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = {0};
        struct error error = {0};
        int status = regex_translate(&b, cases[i][0], &error);
        const char *want = cases[i][1];
        test_check(want ? status == 0 && strcmp(b.data, want) == 0 : status == -1 && strstr(error.text, "not known here"), __FILE__,
                   __LINE__, "%s becomes %s, expected %s", cases[i][0], status == 0 ? b.data : error.text, want ? want : "refused");
        bytes_free(&b);
    }
}

static void check_ids(const struct tokenizer *t, const char *text, int n, const int *want)
{
    struct ids ids = {0};
    if (t) tokenizer_encode(&ids, t, text, strlen(text));
    test_check(ids.count == (size_t)n && (n == 0 || memcmp(ids.id, want, ids.count * sizeof *want) == 0), __FILE__, __LINE__,
               "\"%s\" has %zu ids, expected %d", text, ids.count, n);
    free(ids.id);
}

/* Added tokens that are not special are found, the longest first, until a template makes one its own; text is in NFC. */
static void test_found(const char *path)
{
    enum { T = 't' - 33, H = 'h' - 33, A = 'a' - 33 };
    write_json(path, "{\"type\": \"NFC\"}", BYTE_LEVEL, MERGES,
               "[{\"id\": 97, \"content\": \"<a>\", \"special\": false}, {\"id\": 98, \"content\": \"<a><b>\", \"special\": false}, "
               "{\"id\": 99, \"content\": \"<end>\", \"special\": true}]", "");
    struct tokenizer *t = import(path), *again = NULL;
    struct bytes b = {0};
    struct error error = {0};
    CHECK(t && tokenizer_special(t, "<a>") == -1 && !tokenizer_is_special(t, 97) && tokenizer_special(t, "<end>") == 99);
    if (t) tokenizer_write(&b, t);
    CHECK(t && tokenizer_read(&again, b.data, b.size, &error) == 0);
    for (int i = 0; i < 2; i++) {
        const struct tokenizer *one = i ? again : t;
        check_ids(one, "<a>t<a><b><a>", 4, (int[]){97, T, 98, 97});
        check_ids(one, "<a", 2, (int[]){'<' - 33, A});
        check_ids(one, "<end>", 5, (int[]){'<' - 33, 'e' - 33, 'n' - 33, 'd' - 33, '>' - 33});
        check_ids(one, "th t<a> t", 4, (int[]){96, 95, 97, 95});
        int two[2] = {one ? one->byte_id[0xC3] : 0, one ? one->byte_id[0xA9] : 0};
        check_ids(one, "\xC3\xA9", 2, two);
        check_ids(one, "e\xCC\x81", 2, two);                              /* e and an acute accent: one letter */
        check_ids(one, "\xCC<a>\x81", 3, (int[]){one ? one->byte_id[0xCC] : 0, 97, one ? one->byte_id[0x81] : 0});
    }
    CHECK(t && tokenizer_add_special(t, "<a>") == 97 && tokenizer_is_special(t, 97) && tokenizer_special(t, "<a>") == 97);
    check_ids(t, "<a>", 3, (int[]){'<' - 33, A, '>' - 33});
    check_ids(t, "<a><b>", 1, (int[]){98});
    bytes_free(&b);
    tokenizer_free(t);
    tokenizer_free(again);
    write_json(path, "{\"type\": \"NFC\"}", BYTE_LEVEL, MERGES,
               "[{\"id\": 97, \"content\": \"Caf\xC3\xA9\", \"special\": false, \"normalized\": true}]", "");
    t = import(path);
    check_ids(t, "Cafe\xCC\x81!", 2, (int[]){97, '!' - 33});               /* found in the text in NFC */
    tokenizer_free(t);
    write_json(path, "null", SPLIT("a$", "\"behavior\": \"Isolated\", \"invert\": false"), MERGES, "[]", "");
    check_refused(path, "its pattern has a border");
}

static void test_bad_files(const char *path)
{
    static const char *const text[][2] = {{"", "not JSON"}, {"{\n\"a\": 1,\n", "line 3 is not JSON"}, {"[1]", "no model with"},
                                          {"{\"a\": 1, \"a\": 2}", "not JSON: duplicate"}};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        FILE *f = fopen(path, "w");
        fputs(text[i][0], f);
        fclose(f);
        check_refused(path, text[i][1]);
    }
    check_refused("/nonexistent/tokenizer.json", "/nonexistent/tokenizer.json");
    check_refused("/proc", "expected tokenizer.json");
}

/* Every stand-in is of its length and is its own: whatever the version of PCRE2 knows, the classes are those of the table. */
static void test_unicode(void)
{
    struct bytes copy = {0}, all = {0};
    size_t changed = 0;
    for (int i = 0; i < unicode_newers; i++)
        for (uint32_t c = unicode_newer[i].first; c <= unicode_newer[i].last; c++) {
            char text[5] = {0};
            int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
            for (int k = n - 1; k > 0; k--) text[k] = (char)(0x80 | (c >> 6 * (n - 1 - k) & 0x3F));
            text[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c >> 6 * (n - 1));
            const char *shown = unicode_shown(&copy, text, (size_t)n);
            bool other = shown != text && utf8_length(shown, (size_t)n) == n && memcmp(shown, text, (size_t)n) != 0;
            if (!other) test_check(false, __FILE__, __LINE__, "U+%04X has no stand-in of %d bytes", c, n);
            changed += other;
            bytes_add(&all, shown, (size_t)n);
        }
    CHECK(changed > 20000 && strlen(all.data) == all.size);
    struct bytes twice = {0};
    CHECK(unicode_shown(&twice, all.data, all.size) == all.data);           /* stand-ins need none */
    CHECK(strcmp(unicode_shown(&copy, "\xE1\xA0\x8E" "a", 4), "\xE2\x80\x8B" "a") == 0);
    bytes_free(&copy);
    bytes_free(&all);
    bytes_free(&twice);
}

/* The pieces of a text, with | between. */
static void check_pieces(const char *regex, const char *text, const char *want)
{
    struct splitter *s;
    struct split split;
    struct error error;
    struct bytes got = {0};
    const char *piece;
    size_t n;
    if (!CHECK(splitter_open(&s, PATTERN_CUSTOM, regex, &error) == 0)) return;
    split_open(&split, s);
    for (int i = 0; i < 2; i++) {               /* used again */
        got.size = 0;
        split_start(&split, text, strlen(text));
        while (split_next(&split, &piece, &n)) bytes_text(&got, "%.*s|", (int)n, piece);
        test_check(strcmp(got.data, want) == 0, __FILE__, __LINE__, "pieces %s, expected %s", got.data, want);
    }
    split_close(&split);
    splitter_close(s);
    bytes_free(&got);
}

static void test_stages(void)
{
    check_pieces("\\p{L}+", "ab\xF0\x9E\x93\x90" "1\xEA\x9F\x8B", "ab\xF0\x9E\x93\x90|1|\xEA\x9F\x8B|");     /* letters of Unicode 15 and 16 */
    check_pieces("\\p{N}+", "\xF0\x9E\x93\xB0" "1a", "\xF0\x9E\x93\xB0" "1|a|");
    check_pieces("\\s+", " \xE1\xA0\x8E ", " |\xE1\xA0\x8E| |");
    check_pieces("[.]+" STAGE_NEXT "a+", "baa..ab", "b|aa|..|a|b|");
    check_pieces("\\p{L}+" STAGE_NEXT STAGE_SPELLED "\\p{N}", "x\xC3\xB2 1\xC2\xB9", "x\xC3|\xB2| |1|\xC2|\xB9|");  /* byte B2 is spelled as a number */
    /* A section whose flag says stages and whose pattern has none, and the other way round, is refused. */
    struct tokenizer *t = NULL;
    struct error error;
    struct bytes b = {0};
    char path[400];
    bool there = test_shared(path, sizeof path, "golden/tokenizers/made-falcon/tokenizer.json");
    if (there && CHECK(tokenizer_import(&t, path, &error) == 0)) {
        tokenizer_write(&b, t);
        tokenizer_free(t);
        CHECK(b.data[20] & 4);
        b.data[20] ^= 4;
        CHECK(tokenizer_read(&t, b.data, b.size, &error) != 0 && strstr(error.text, "stages"));
    }
    bytes_free(&b);
    check_pieces("(?=b)" STAGE_NEXT STAGE_SPELLED "[0-9][0-9]", "12345", "12|34|5|");
}

/* ---- characters ---- */

/* A tokenizer of pieces: 256 bytes, <s>, a user-defined <u>, and those given, with scores that fall but for the last two. */
static json_t *pieces_json(const char *const *piece, int n, bool escaped)
{
    json_t *list = json_array();
    for (int b = 0; b < 256; b++) json_array_append_new(list, json_pack("[o, f, i]", json_sprintf("<0x%02X>", b), 0.0, 6));
    json_array_append_new(list, json_pack("[s, f, i]", "<s>", 0.0, 3));
    json_array_append_new(list, json_pack("[s, f, i]", "<u>", 0.0, 4));
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("[s, f, i]", piece[i], -(double)(i < n - 1 ? i : n - 2), 1));
    return json_pack("{s:o, s:b, s:b}", "pieces", list, "prefix", 1, "escaped", escaped);
}

static void check_decoded(const struct tokenizer *t, const char *want, int n, const int *id)
{
    struct bytes b = {0};
    if (t) tokenizer_decode(&b, t, id, (size_t)n);
    test_check(b.size == strlen(want) && memcmp(b.data ? b.data : "", want, b.size) == 0, __FILE__, __LINE__,
               "decoded \"%.*s\", expected \"%s\"", (int)b.size, b.data ? b.data : "", want);
    bytes_free(&b);
}

/* The best score is joined first, of equal ones the leftmost; what is no piece is bytes; a blank comes before the text. */
static void test_pieces(void)
{
    enum { U = 257, BLANK, A, B, AB, BLANK_A, AAA, AA };
    static const char *const piece[] = {"\xE2\x96\x81", "a", "b", "ab", "\xE2\x96\x81" "a", "aaa", "aa"};
    struct error error = {0};
    for (int escaped = 0; escaped < 2; escaped++) {
        json_t *json = pieces_json(piece, 7, escaped);
        struct tokenizer *t = NULL, *u = NULL, *v = NULL;
        struct bytes b = {0};
        CHECK(tokenizer_import_json(&t, json, "pieces", &error) == 0);
        if (t) tokenizer_write(&b, t);
        json_t *again = t ? tokenizer_json(t) : NULL;
        CHECK(t && tokenizer_read(&u, b.data, b.size, &error) == 0 && tokenizer_import_json(&v, again, "again", &error) == 0);
        for (int i = 0; i < 3; i++) {
            const struct tokenizer *one = i == 0 ? t : i == 1 ? u : v;
            check_ids(one, "", 0, (int[]){0});
            check_ids(one, "b", 2, (int[]){BLANK, B});
            check_ids(one, "a", 1, (int[]){BLANK_A});
            check_ids(one, " ab", 3, (int[]){BLANK, BLANK, AB});         /* ab is better than a blank and a */
            check_ids(one, "c\xC3\xA9", 4, (int[]){BLANK, 'c', 0xC3, 0xA9});
            check_ids(one, "b\xE2\x96\x81" "b", 4, (int[]){BLANK, B, BLANK, B});
            check_ids(one, "\xFF", 2, (int[]){BLANK, 0xFF});
            check_decoded(one, " ab<s>", 4, (int[]){BLANK, BLANK, AB, 256});
            struct ids ids = {0};
            if (one) tokenizer_encode_at(&ids, one, TEXT_WITHIN, "a", 1);
            if (one) tokenizer_encode_at(&ids, one, TEXT_SECTION, "a", 1);
            CHECK(ids.count == 2 && ids.id[0] == A && ids.id[1] == BLANK_A);
            free(ids.id);
        }
        for (int i = 0; i < 2; i++)      /* a a a a: the scores of aa and aaa are equal, so the leftmost pair; then aaa is the left one */
            check_ids(i ? u : t, "baaaa", 4, (int[]){BLANK, B, AAA, A});
        check_ids(t, "b<u>a", 4, (int[]){BLANK, B, U, escaped ? A : BLANK_A});
        json_decref(json);
        json_decref(again);
        bytes_free(&b);
        tokenizer_free(t);
        tokenizer_free(u);
        tokenizer_free(v);
    }
    static const char *const lone[] = {"\xE2\x96\x81", "a", "ax", "b"};
    json_t *json = pieces_json(lone, 4, true);
    struct tokenizer *t = NULL;
    CHECK(tokenizer_import_json(&t, json, "lone", &error) == -1 && strstr(error.text, "\"ax\" has the character \"x\""));
    json_decref(json);
}

/* Messages of protobuf that are no model, or one that is not known here. */
static void test_models(void)
{
    static const struct { const char *bytes; size_t size; const char *message; } bad[] = {
        {"", 0, "not a SentencePiece"}, {"\x0A\x05\x0A\x01" "a", 5, "not a SentencePiece"}, {"\x0A\x03\x0A\x01" "a\xFF", 6, "not a SentencePiece"},
        {"\x0A\x03\x0A\x01" "a", 5, "its model is Unigram"}, {"\x0A\x03\x0A\x01\xFF", 5, "not a SentencePiece"},
        {"\x0A\x03\x0A\x01" "a\x12\x02\x18\x02", 9, "byte_fallback"},
        {"\x0A\x03\x0A\x01" "a\x12\x05\x18\x02\x98\x02\x01", 12, "remove_extra_whitespaces"},
        {"\x0A\x03\x0A\x01" "a\x12\x05\x18\x02\x98\x02\x01\x1A\x0B\x0A\x04nfkc\x12\x01x\x20\x00", 25, "the normalizer nfkc"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *json = NULL;
        struct error error = {0};
        int status = tokenizer_model_parse(&json, bad[i].bytes, bad[i].size, &error);
        test_check(status == -1 && !json && strstr(error.text, bad[i].message), __FILE__, __LINE__, "model %zu: expected \"%s\", found \"%s\"",
                   i, bad[i].message, error.text);
    }
}

int main(void)
{
    char path[] = "/tmp/quartet-test-XXXXXX.json";
    int file = mkstemps(path, 5);
    if (file < 0) die("cannot make a file in /tmp");
    close(file);
    test_json(path);
    test_found(path);
    test_regex();
    test_unicode();
    test_stages();
    test_pieces();
    test_models();
    test_bad_files(path);
    unlink(path);
    test_collection();
    test_made();
    test_qwen3();
    return test_end("test_tokenizer_import");
}
