/* tokenizer_export.c - a tokenizer as tokenizer.json of byte-level BPE.  Special tokens stand in the vocabulary too, because
 * readers give an added token that is not there the next free id. */
#include "common/text/tokenizer_parts.h"

#include <jansson.h>
#include <stdlib.h>

/* Bytes spelled in the printable alphabet (tokenizer_import.c), as a JSON string. */
static json_t *spelled(const char *bytes, size_t length)
{
    struct bytes text = {0};
    for (size_t i = 0; i < length; i++) {
        int b = (unsigned char)bytes[i], below = 0;
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        for (int x = 0; x < b && !itself; x++) below += !((x >= 33 && x <= 126) || (x >= 161 && x <= 172) || x >= 174);
        int c = itself ? b : 256 + below;
        char out[2] = {(char)(c < 128 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        bytes_add(&text, out, c < 128 ? 1 : 2);
    }
    json_t *value = json_stringn(text.data ? text.data : "", text.size);
    bytes_free(&text);
    return value;
}

static json_t *text_of(const struct tokenizer *t, uint32_t id)
{
    const struct token *k = &t->token[id];
    return k->type != TOKEN_NORMAL ? json_stringn_nocheck(k->bytes, k->length) : spelled(k->bytes, k->length);
}

static json_t *splitting(const struct tokenizer *t)
{
    const char *regex = t->pattern == PATTERN_CUSTOM ? t->regex : pattern_regex(t->pattern);
    bool gpt2 = t->pattern == PATTERN_GPT2;
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                              "use_regex", gpt2);
    if (gpt2) return bytes;
    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern",
                     "Regex", regex, "behavior", "Isolated", "invert", 0, bytes);
}

void tokenizer_json(struct bytes *out, const struct tokenizer *t)
{
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    for (int i = 0; i < t->n_vocab; i++) {
        if (t->token[i].type == TOKEN_UNUSED) continue;
        json_t *text = text_of(t, (uint32_t)i);
        json_object_set_new_nocheck(vocab, json_string_value(text), json_integer(i));
        if (t->token[i].type != TOKEN_NORMAL)
            json_array_append_new(added, json_pack("{s:i, s:O, s:b, s:b, s:b, s:b, s:b}", "id", i, "content", text,
                                                   "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special",
                                                   t->token[i].type == TOKEN_SPECIAL));
        json_decref(text);
    }
    for (int i = 0; i < t->n_merges; i++)
        json_array_append_new(merges, json_pack("[o, o]", text_of(t, t->merge[i].left), text_of(t, t->merge[i].right)));
    json_t *nfc = t->flags & TOKENIZER_NFC ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                                "use_regex", 1);
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", (t->flags & TOKENIZER_IGNORE_MERGES) != 0, "vocab", vocab, "merges", merges);
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation", "padding",
                             "added_tokens", added, "normalizer", nfc, "pre_tokenizer", splitting(t), "post_processor",
                             "decoder", decoder, "model", model);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (!text) die("a tokenizer cannot be written as JSON");
    bytes_add(out, text, strlen(text));
    free(text);
    json_decref(root);
}
