/* tokenizer_export.c - a tokenizer as tokenizer.json.  Special tokens stand in the vocabulary too, because
 * readers give an added token that is not there the next free id. */
#include "common/text/tokenizer_parts.h"

#include <jansson.h>
#include <stdlib.h>

void bytes_spell(struct bytes *out, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        int b = (unsigned char)bytes[i], c = b;
        if (b < 33) c = 256 + b;
        else if (b >= 127 && b < 161) c = 256 + 33 + b - 127;
        else if (b == 173) c = 256 + 67;
        char two[2] = {(char)(c < 128 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        bytes_add(out, two, c < 128 ? 1 : 2);
    }
}

/* The same as a JSON string. */
static json_t *spelled(const char *bytes, size_t length)
{
    struct bytes text = {0};
    bytes_spell(&text, bytes, length);
    json_t *value = json_stringn(text.data ? text.data : "", text.size);
    bytes_free(&text);
    return value;
}

/* A token of characters: U+2581 for a blank. */
static json_t *marked(const char *bytes, size_t length)
{
    struct bytes text = {0};
    for (size_t i = 0; i < length; i++)
        if (bytes[i] == ' ') bytes_text(&text, TEXT_MARK);
        else bytes_add(&text, bytes + i, 1);
    json_t *value = json_stringn_nocheck(text.data ? text.data : "", text.size);
    bytes_free(&text);
    return value;
}

static json_t *text_of(const struct tokenizer *t, uint32_t id)
{
    const struct token *k = &t->token[id];
    if (k->type == TOKEN_BYTE) return json_sprintf("<0x%02X>", (unsigned char)*k->bytes);
    if (k->type != TOKEN_NORMAL) return json_stringn_nocheck(k->bytes, k->length);
    return by_characters(t) ? marked(k->bytes, k->length) : spelled(k->bytes, k->length);
}

const char *tokenizer_form(const struct tokenizer *t)
{
    return t->flags & TOKENIZER_NFKC ? "NFKC" : t->flags & TOKENIZER_NFC ? "NFC" : NULL;
}

/* "normalizer", "pre_tokenizer", "decoder" and what the model has besides its tokens, of a tokenizer of characters. */
static void put_characters(json_t *root, const struct tokenizer *t)
{
    const char *form = tokenizer_form(t);
    bool prefix = t->flags & TOKENIZER_PREFIX, unless = t->flags & TOKENIZER_UNLESS_BLANK;
    json_t *list = json_array(), *decoders, *model = json_object_get(root, "model");
    if (form) json_array_append_new(list, json_pack("{s:s}", "type", form));
    if (prefix && !unless) json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", TEXT_MARK));
    if (!unless)
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content",
                                              TEXT_MARK));
    if (unless || t->pattern == PATTERN_WORDS)
        json_object_set_new(root, "pre_tokenizer",
                            json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", TEXT_MARK,
                                      "prepend_scheme", !unless ? "never" : t->flags & TOKENIZER_SECTIONS ? "always" : "first",
                                      "split", t->pattern == PATTERN_WORDS));
    else json_object_set_new(root, "pre_tokenizer", json_null());
    json_object_set_new(root, "normalizer", !json_array_size(list) ? json_null()
                        : json_pack("{s:s, s:O}", "type", "Sequence", "normalizers", list));
    decoders = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String", TEXT_MARK,
                         "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (t->flags & TOKENIZER_STRIP)
        json_array_append_new(decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop",
                                                  0));
    json_object_set_new(root, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders));
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(model, "fuse_unk", json_true());
    if (tokenizer_special(t, "<unk>") >= 0) json_object_set_new(model, "unk_token", json_string("<unk>"));
    json_decref(list);
}

static json_t *split_of(const char *regex, size_t length)
{
    return json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex, length, "behavior",
                     "Isolated", "invert", 0);
}

static json_t *splitting(const struct tokenizer *t)
{
    const char *regex = t->pattern == PATTERN_CUSTOM ? t->regex : pattern_regex(t->pattern);
    bool gpt2 = t->pattern == PATTERN_GPT2, spelled = false;
    json_t *list = json_array();
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                              "use_regex", gpt2);
    for (size_t n; !gpt2; regex += n + 1) {
        n = strcspn(regex, STAGE_NEXT);
        if (*regex == *STAGE_SPELLED && !spelled) json_array_append(list, bytes);
        spelled |= *regex == *STAGE_SPELLED;
        json_array_append_new(list, split_of(regex + spelled, n - spelled));
        if (!regex[n]) break;
    }
    if (!spelled) json_array_append(list, bytes);
    json_decref(bytes);
    json_t *one = json_array_get(list, 0), *all = gpt2 ? json_incref(one) : json_pack("{s:s, s:O}", "type", "Sequence",
                                                                                     "pretokenizers", list);
    json_decref(list);
    return all;
}

bool tokenizer_prefixes(const struct tokenizer *t) { return t->flags & TOKENIZER_PREFIX; }

/* Every cut of a token into two tokens must be a merge, and all merges of a token lie together in the list. */
bool tokenizer_scores(float *score, const struct tokenizer *t)
{
    if (t->pattern != PATTERN_WHOLE) return false;
    if (t->score) {
        memcpy(score, t->score, (size_t)t->n_vocab * sizeof *score);
        return true;
    }
    int n = 0;
    for (int id = 0; id < t->n_vocab; id++) score[id] = t->token[id].type == TOKEN_NORMAL ? -1e9f : 0;
    for (int i = 0; i < t->n_merges; i++) {
        uint32_t made = t->merge[i].result;
        if (i > 0 && t->merge[i - 1].result == made) continue;
        if (score[made] != -1e9f) return false;
        score[made] = (float)-i;
    }
    for (int id = 0; id < t->n_vocab; id++) {
        const struct token *k = &t->token[id];
        if (k->type != TOKEN_NORMAL || k->length > SCORED_BYTES_MAX) continue;
        for (uint32_t i = 1; i < k->length; i++)
            n += (k->bytes[i] & 0xC0) != 0x80 && tokenizer_find(t, k->bytes, i, false) >= 0 &&
                 tokenizer_find(t, k->bytes + i, k->length - i, false) >= 0;
    }
    return n == t->n_merges;
}

json_t *tokenizer_json(const struct tokenizer *t)
{
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    for (int i = 0; i < t->n_vocab; i++) {
        if (t->token[i].type == TOKEN_UNUSED) continue;
        json_t *text = text_of(t, (uint32_t)i);
        json_object_set_new_nocheck(vocab, json_string_value(text), json_integer(i));
        unsigned char type = t->token[i].type, flags = t->token[i].flags;
        if (t->score) flags &= (unsigned char)~TOKEN_NORMALIZED;
        if (type == TOKEN_SPECIAL || type == TOKEN_FOUND)
            json_array_append_new(added, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", i, "content",
                                                   json_stringn_nocheck(t->token[i].bytes, t->token[i].length), "single_word",
                                                   flags & TOKEN_WORD, "lstrip", flags & TOKEN_LSTRIP, "rstrip",
                                                   flags & TOKEN_RSTRIP, "normalized", flags & TOKEN_NORMALIZED, "special",
                                                   type == TOKEN_SPECIAL));
        json_decref(text);
    }
    for (int i = 0; i < t->n_merges; i++)
        json_array_append_new(merges, json_pack("[o, o]", text_of(t, t->merge[i].left), text_of(t, t->merge[i].right)));
    json_t *nfc = tokenizer_form(t) ? json_pack("{s:s}", "type", tokenizer_form(t)) : json_null();
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                                "use_regex", 1);
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", (t->flags & TOKENIZER_IGNORE_MERGES) != 0, "vocab", vocab, "merges", merges);
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation", "padding",
                             "added_tokens", added, "normalizer", nfc, "pre_tokenizer",
                             by_characters(t) ? json_null() : splitting(t), "post_processor",
                             "decoder", decoder, "model", model);
    if (!root) die("a tokenizer cannot be written as JSON");
    if (by_characters(t)) put_characters(root, t);
    return root;
}
