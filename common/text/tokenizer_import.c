/* tokenizer_import.c - other people's BPE tokenizers: GPT-2's pair of files, tokenizer.json and tokenizer.model.
 *
 * The first two spell bytes as printable characters; here they become raw bytes.  Two differences are on purpose (see
 * docs/tokenizer.md): special tokens are not found in text, and bytes without a token get one at the end. */
#include "common/text/tokenizer_import.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <utf8proc.h>

enum { FILE_MAX = 256 << 20 };

/* The byte that a character of the alphabet spells (bytes_spell), or -1. */
static int byte_of(int32_t c)
{
    if (c < 256) return (c >= 33 && c <= 126) || (c >= 161 && c != 173) ? c : -1;
    c -= 256;
    return c < 33 ? c : c < 67 ? c - 33 + 127 : c == 67 ? 173 : -1;
}

/* Appends the bytes that `text` spells; false if a character of it is not in the alphabet (area is as before then). */
static bool spell(struct import *im, const char *text, size_t length)
{
    size_t before = im->area.size;
    for (size_t i = 0; i < length;) {
        int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(length - i), &c);
        int byte = n > 0 ? byte_of(c) : -1;
        if (byte < 0) {
            im->area.size = before;
            return false;
        }
        bytes_add(&im->area, &(char){(char)byte}, 1);
        i += (size_t)n;
    }
    return true;
}

int import_place(struct import *im, int id, size_t start, unsigned char type, struct error *error)
{
    char shown[100];
    struct token *k = &im->t->token[id];
    if (k->type != TOKEN_UNUSED)
        return fail(error, EXIT_DATA, "two tokens have the id %d, one of them \"%s\"", id,
                    text_escape(shown, sizeof shown, im->area.data + start, im->area.size - start));
    im->start[id] = start;
    *k = (struct token){NULL, (uint32_t)(im->area.size - start), type, 0};
    return 0;
}

/* The ids end after the largest in vocab and added; holes are allowed, but not a vocabulary of holes. */
static int make_room(struct import *im, const json_t *added, struct error *error)
{
    const char *name;
    json_t *id;
    json_int_t last = 0, n = (json_int_t)json_object_size(im->vocab) + (json_int_t)json_array_size(added);
    json_object_foreach(im->vocab, name, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return fail(error, EXIT_DATA, "the id of a token in its vocabulary is not a number from 0 up");
        if (json_integer_value(id) > last) last = json_integer_value(id);
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *one = json_array_get(added, i), *number = json_object_get(one, "id");
        if (!json_is_integer(number) || json_integer_value(number) < 0 ||
            json_string_length(json_object_get(one, "content")) == 0)
            return fail(error, EXIT_DATA, "added token number %zu has no id or no content", i);
        if (json_integer_value(number) > last) last = json_integer_value(number);
    }
    if (n == 0 || last > 2 * n + 1024 || last + 256 >= TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_DATA, "ids go up to %lld for %lld tokens", (long long)last, (long long)n);
    im->t->n_vocab = (int)last + 1;
    im->t->token = host_alloc((size_t)last + 1 + 256, sizeof *im->t->token);       /* 256: bytes that may be missing */
    im->start = host_alloc((size_t)last + 1 + 256, sizeof *im->start);
    for (int i = 0; i < im->t->n_vocab; i++) im->t->token[i].type = TOKEN_UNUSED;
    return 0;
}

static int add_merge(struct import *im, const char *left, size_t n_left, const char *right, size_t n_right,
                     size_t number, struct error *error)
{
    if (by_characters(im->t) && (memchr(left, ' ', n_left) || memchr(right, ' ', n_right))) return 0;     /* no text has it */
    char *joined = host_text("%.*s%.*s", (int)n_left, left, (int)n_right, right);
    json_t *a = json_object_getn(im->vocab, left, n_left), *b = json_object_getn(im->vocab, right, n_right);
    json_t *c = json_object_get(im->vocab, joined);
    free(joined);
    char shown[2][60];
    if (!a || !b || !c)
        return fail(error, EXIT_DATA, "merge %zu joins \"%s\" and \"%s\", but %s is not in the vocabulary", number + 1,
                    text_escape(shown[0], sizeof shown[0], left, n_left),
                    text_escape(shown[1], sizeof shown[1], right, n_right),
                    !a ? "the first" : !b ? "the second" : "what they make");
    im->t->merge[im->t->n_merges++] = (struct merge){(uint32_t)json_integer_value(a), (uint32_t)json_integer_value(b),
                                                     (uint32_t)json_integer_value(c)};
    return 0;
}

int import_byte(const char *text)
{
    unsigned byte;
    int end = 0;
    bool form = strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && strspn(text + 3, "0123456789ABCDEF") == 2;
    return form && sscanf(text, "<0x%2X>%n", &byte, &end) == 1 && end == 6 ? (int)byte : -1;
}

/* One entry of a vocabulary of characters.  One with a blank in it can come from no text: blanks are U+2581 by then. */
static int place_characters(struct import *im, int id, const char *name, size_t length, struct error *error)
{
    size_t start = im->area.size;
    int byte = import_byte(name);
    if (memchr(name, ' ', length)) return 0;
    if (byte >= 0) bytes_add(&im->area, &(char){(char)byte}, 1);
    else {
        bytes_add(&im->area, name, length);
        text_unmark(&im->area, start);
    }
    return import_place(im, id, start, byte >= 0 ? TOKEN_BYTE : TOKEN_NORMAL, error);
}

/* Every entry of the vocabulary that is not placed yet becomes a normal token, or a special one: when it cannot be
 * spelled, or when `reached` says that no merge makes it and it is longer than a byte.  (So a GPT-2 pair shows its
 * <|endoftext|>.) */
static int place_vocab(struct import *im, const bool *reached, struct error *error)
{
    const char *name;
    json_t *number;
    json_object_foreach(im->vocab, name, number) {
        int id = (int)json_integer_value(number);
        size_t start = im->area.size, length = strlen(name);
        if (im->t->token[id].type == TOKEN_SPECIAL || im->t->token[id].type == TOKEN_FOUND) {
            if (im->t->token[id].length == length && memcmp(im->area.data + im->start[id], name, length) == 0) continue;
            return fail(error, EXIT_DATA, "id %d is an added token and another one in the vocabulary", id);
        }
        if (by_characters(im->t)) {
            if (place_characters(im, id, name, length, error)) return -1;
            continue;
        }
        bool spelled = spell(im, name, length), special = reached && !reached[id] && im->area.size - start > 1;
        char shown[100];
        if (!spelled && !reached)
            return fail(error, EXIT_DATA, "token %d \"%s\" is not spelled in the byte alphabet of byte-level BPE", id,
                        text_escape(shown, sizeof shown, name, length));
        if (!spelled || special) {
            im->area.size = start;
            bytes_add(&im->area, name, length);
            special = true;
        }
        if (import_place(im, id, start, special ? TOKEN_SPECIAL : TOKEN_NORMAL, error)) return -1;
    }
    return 0;
}

/* Fills in bytes that have no token, points the tokens at their bytes, and checks it all. */
static int finish(struct import *im, struct error *error)
{
    struct tokenizer *t = im->t;
    bool have[256] = {false};
    for (int i = 0; i < t->n_vocab; i++)
        if (t->token[i].type == TOKEN_NORMAL && t->token[i].length == 1)
            have[(unsigned char)im->area.data[im->start[i]]] = true;
    for (int b = 0; b < 256 && !by_characters(t); b++) {
        if (have[b]) continue;
        char byte = (char)b;
        im->start[t->n_vocab] = im->area.size;
        t->token[t->n_vocab++] = (struct token){NULL, 1, TOKEN_NORMAL, 0};
        bytes_add(&im->area, &byte, 1);
    }
    t->area = im->area.data;
    im->area = (struct bytes){0};
    for (int i = 0; i < t->n_vocab; i++) t->token[i].bytes = t->area + im->start[i];
    return tokenizer_finish(t, error);
}

/* GPT-2's pair as a tokenizer.json: a vocabulary, and a text with one merge a line. */
static json_t *pair_json(json_t *vocab, const struct bytes *text)
{
    json_t *merges = json_array();
    for (size_t at = 0, end; at < text->size; at = end + 1) {
        const char *line = text->data + at, *stop = memchr(line, '\n', text->size - at);
        end = stop ? (size_t)(stop - text->data) : text->size;
        size_t n = end - at;
        if (n && line[n - 1] == '\r') n--;
        if (n == 0 || (at == 0 && n >= 8 && memcmp(line, "#version", 8) == 0)) continue;
        json_t *one = json_stringn(line, n);
        json_array_append_new(merges, one ? one : json_null());
    }
    return json_pack("{s:b, s:{s:s}, s:{s:O, s:o}}", "pair", 1, "pre_tokenizer", "type", "ByteLevel", "model", "vocab",
                     vocab, "merges", merges);
}

static int read_merge_list(struct import *im, const json_t *merges, struct error *error)
{
    im->t->merge = host_alloc(json_array_size(merges), sizeof *im->t->merge);
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *one = json_array_get(merges, i);
        const char *left = json_string_value(json_array_get(one, 0));
        const char *right = json_string_value(json_array_get(one, 1));
        if (json_is_string(one)) {                       /* as files before 2024 have it */
            left = json_string_value(one);
            right = strchr(left, ' ');
            if (right) right++;
        }
        if (!left || !right) return fail(error, EXIT_DATA, "merge %zu is not a pair of tokens", i + 1);
        size_t n_left = json_is_string(one) ? (size_t)(right - left) - 1 : strlen(left);
        if (add_merge(im, left, n_left, right, strlen(right), i, error)) return -1;
    }
    return 0;
}

/* An added token is found in text unless it is special. */
static int place_added(struct import *im, const json_t *one, struct error *error)
{
    static const struct { const char *name; unsigned char flag; } flags[] = {
        {"lstrip", TOKEN_LSTRIP}, {"rstrip", TOKEN_RSTRIP}, {"single_word", TOKEN_WORD}, {"normalized", TOKEN_NORMALIZED}};
    size_t start = im->area.size;
    int id = (int)json_integer_value(json_object_get(one, "id"));
    bool found = json_is_false(json_object_get(one, "special"));
    const json_t *content = json_object_get(one, "content");
    const json_t *other = json_object_get(im->vocab, json_string_value(content));
    bytes_add(&im->area, json_string_value(content), json_string_length(content));
    char shown[60];
    if (other && json_integer_value(other) != id)
        return fail(error, EXIT_DATA, "the added token \"%s\" has the id %d, and %lld in the vocabulary",
                    text_escape(shown, sizeof shown, im->area.data + start, im->area.size - start), id,
                    (long long)json_integer_value(other));
    if (import_place(im, id, start, found ? TOKEN_FOUND : TOKEN_SPECIAL, error)) return -1;
    for (int i = 0; i < 4; i++)
        if (json_is_true(json_object_get(one, flags[i].name))) im->t->token[id].flags |= flags[i].flag;
    int all = im->t->token[id].flags;
    if (found && by_characters(im->t) && all & TOKEN_NORMALIZED && all & (TOKEN_LSTRIP | TOKEN_RSTRIP))
        return fail(error, EXIT_DATA, "added token %d is normalized and strips blanks, which is not known together "
                    "in a vocabulary of characters", id);
    return 0;
}

static int import_json(struct import *im, const json_t *root, struct error *error)
{
    const json_t *added = json_object_get(root, "added_tokens"), *model = json_object_get(root, "model");
    if (json_object_get(root, "pieces")) return import_pieces(im, root, error) ? -1 : finish(im, error);
    im->vocab = json_object_get(model, "vocab");
    if (json_is_string(json_object_get(model, "type")) && strcmp(json_string_value(json_object_get(model, "type")), "BPE"))
        return fail(error, EXIT_DATA, "its model is %.40s, expected BPE", json_string_value(json_object_get(model, "type")));
    if (!json_is_object(im->vocab) || !json_is_array(json_object_get(model, "merges")))
        return fail(error, EXIT_DATA, "it has no model with a vocabulary and merges: not a tokenizer.json of BPE");
    if (import_settings(im->t, root, error) || make_room(im, added, error) ||
        read_merge_list(im, json_object_get(model, "merges"), error)) return -1;
    for (size_t i = 0; i < json_array_size(added); i++)
        if (place_added(im, json_array_get(added, i), error)) return -1;
    bool *reached = NULL;                       /* by a merge */
    if (json_object_get(root, "pair")) {
        reached = host_alloc((size_t)im->t->n_vocab, sizeof *reached);
        for (int i = 0; i < im->t->n_merges; i++) reached[im->t->merge[i].result] = true;
    }
    int status = place_vocab(im, reached, error);
    free(reached);
    return status ? -1 : finish(im, error);
}

static json_t *read_json(const char *path, struct error *error)
{
    struct bytes text = {0};
    json_error_t why;
    if (file_read(&text, path, FILE_MAX, error)) return NULL;
    json_t *root = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &why);
    bytes_free(&text);
    if (!root) fail(error, EXIT_DATA, "%s: line %d is not JSON: %s", path, why.line, why.text);
    return root;
}

/* The other file of a pair, whichever is named: their names end alike.  NULL if this is not one of a pair. */
static const struct { const char *vocab, *merges; } pairs[] = {
    {"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}};

static bool pair_paths(const char *path, char **vocab, char **merges)
{
    for (int i = 0; i < 2; i++) {
        const char *ends[] = {pairs[i].vocab, pairs[i].merges};
        for (int k = 0; k < 2; k++) {
            size_t n = strlen(path), end = strlen(ends[k]);
            if (n < end || strcmp(path + n - end, ends[k]) != 0) continue;
            *vocab = host_text("%.*s%s", (int)(n - end), path, pairs[i].vocab);
            *merges = host_text("%.*s%s", (int)(n - end), path, pairs[i].merges);
            return true;
        }
    }
    return false;
}

/* The file to read in a folder: the one of these that is there.  NULL if none is. */
static char *file_in(const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "encoder.json", "vocab.json", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat status;
        char *path = host_text("%s/%s", folder, names[i]);
        if (stat(path, &status) == 0) return path;
        free(path);
    }
    return NULL;
}

int tokenizer_import_json(struct tokenizer **out, json_t *root, const char *name, struct error *error)
{
    struct import im = {.t = host_alloc(1, sizeof *im.t)};
    int status = import_json(&im, root, error);
    if (status == 0) *out = im.t;
    else tokenizer_free(im.t);
    bytes_free(&im.area);
    free(im.start);
    return status ? fail_in(error, "%s", name) : 0;
}

static int import_file(struct tokenizer **out, const char *path, struct error *error)
{
    struct bytes lines = {0};
    char *vocab = NULL, *merges = NULL, *name = NULL;
    json_t *root = NULL, *whole = NULL;
    bool pair = pair_paths(path, &vocab, &merges);
    int status = text_ends(path, ".model") ? tokenizer_model_json(&root, path, error)
               : (root = read_json(pair ? vocab : path, error)) ? 0 : -1;
    if (status == 0 && pair && (status = file_read(&lines, merges, FILE_MAX, error)) == 0) {
        whole = pair_json(root, &lines);
        name = host_text("%s with %s", vocab, merges);
    }
    if (status == 0) status = tokenizer_import_json(out, pair ? whole : root, pair ? name : path, error);
    json_decref(root);
    json_decref(whole);
    bytes_free(&lines);
    free(vocab);
    free(merges);
    free(name);
    return status;
}

int tokenizer_import(struct tokenizer **out, const char *path, struct error *error)
{
    struct stat status;
    if (stat(path, &status) || !S_ISDIR(status.st_mode)) return import_file(out, path, error);
    char *file = file_in(path);
    if (!file) return fail(error, EXIT_NOINPUT,
                           "%s: expected tokenizer.json, or encoder.json and vocab.bpe, or vocab.json and "
                           "merges.txt, or tokenizer.model in this folder", path);
    int result = import_file(out, file, error);
    free(file);
    return result;
}
