/* tokenizer_settings.c - the settings of a tokenizer.json: what happens to text before it is merged.
 *
 * What cannot be done exactly is refused with the reason: a tokenizer that is nearly right spoils everything after it. */
#include "common/text/tokenizer_import.h"

#include <stdlib.h>

static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "(none)";
}

static bool is_empty(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static bool is_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && strcmp(value, text) == 0;
}

/* Is it the normalizer that writes U+2581 for every blank? */
static bool is_escape(const json_t *n)
{
    return is_text(n, "type", "Replace") && is_text(json_object_get(n, "pattern"), "String", " ") &&
           is_text(n, "content", TEXT_MARK);
}

/* escaped: set where blanks become U+2581. */
static int read_normalizer(struct tokenizer *t, bool *escaped, const json_t *n, bool inside, struct error *error)
{
    if (!n || json_is_null(n)) return 0;
    const char *type = type_of(n);
    if (strcmp(type, "Sequence") == 0 && !inside) {
        const json_t *list = json_object_get(n, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_normalizer(t, escaped, json_array_get(list, i), true, error)) return -1;
        return 0;
    }
    if (strcmp(type, "NFC") == 0) t->flags |= TOKENIZER_NFC;
    else if (strcmp(type, "NFKC") == 0 && !*escaped) t->flags |= TOKENIZER_NFKC;
    else if (by_characters(t) && strcmp(type, "Prepend") == 0 && is_text(n, "prepend", TEXT_MARK))
        t->flags |= TOKENIZER_PREFIX | TOKENIZER_SECTIONS;
    else if (by_characters(t) && is_escape(n)) *escaped = true;
    else return fail(error, EXIT_DATA, "it has the normalizer %.40s%s, and only NFC and NFKC are known%s", type,
                     *escaped ? " behind the one that writes U+2581" : "",
                     by_characters(t) ? ", and what writes U+2581 for blanks and before a text" : "");
    return 0;
}

static int set_regex(struct tokenizer *t, const char *regex, struct error *error)
{
    if (strlen(regex) == 0 || strlen(regex) > REGEX_MAX)
        return fail(error, EXIT_DATA, "its pattern has %zu bytes, expected 1 to %d", strlen(regex), REGEX_MAX);
    struct bytes own = {0};
    t->pattern = pattern_of(regex);
    if (t->pattern != PATTERN_CUSTOM) return 0;
    int status = regex_translate(&own, regex, error);
    if (status == 0 && own.size > REGEX_MAX)
        status = fail(error, EXIT_DATA, "its pattern has more than %d bytes", REGEX_MAX);
    if (status == 0) t->pattern = pattern_of(own.data);
    if (status == 0 && t->pattern == PATTERN_CUSTOM) t->regex = host_text("%s", own.data);
    bytes_free(&own);
    return status;
}

/* Split, then bytes.  "Removed" with invert keeps only what matches, which is the same where the pattern matches all
 * text. */
static int read_split(struct tokenizer *t, const json_t *split, struct error *error)
{
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    bool invert = json_is_true(json_object_get(split, "invert"));
    if (!regex || !behavior) return fail(error, EXIT_DATA, "its Split has no regular expression or no behavior");
    if (set_regex(t, regex, error)) return -1;
    if (strcmp(behavior, "Isolated") == 0 && !invert) return 0;
    if (strcmp(behavior, "Removed") == 0 && invert && t->pattern != PATTERN_CUSTOM) return 0;
    return fail(error, EXIT_DATA, "its Split has behavior %.40s%s, and only Isolated is known", behavior,
                invert ? " (inverted)" : "");
}

/* Digits cuts numbers out before GPT-2's pattern sees the rest, so for that pattern a number is like the end of the
 * text: one pattern says both, with numbers left out of the blanks' look-ahead. */
static int read_digits(struct tokenizer *t, const json_t *digits, struct error *error)
{
    bool each = json_is_true(json_object_get(digits, "individual_digits"));
    char regex[100];
    snprintf(regex, sizeof regex,
             "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}%s| ?[^\\s\\p{L}\\p{N}]+|\\s+(?![^\\s\\p{N}])|\\s+",
             each ? "" : "+");
    return set_regex(t, regex, error);
}

/* What the package takes for punctuation: ASCII's, and Unicode's as of version 8. */
static const char punctuation[] =
    "(?:[!-/:-@\\[-`{-~\\x{166D}\\x{111C9}]|(?![\\x{61D}\\x{9FD}\\x{A76}\\x{C77}\\x{C84}\\x{1B4E}\\x{1B4F}\\x{1B7D}-"
    "\\x{1B7F}\\x{2E43}-\\x{2E4F}\\x{2E52}-\\x{2E5D}\\x{10D6E}\\x{10EAD}\\x{10F55}-\\x{10F59}\\x{10F86}-\\x{10F89}"
    "\\x{113D4}\\x{113D5}\\x{113D7}\\x{113D8}\\x{1144B}-\\x{1144F}\\x{1145A}\\x{1145B}\\x{1145D}\\x{11660}-\\x{1166C}"
    "\\x{116B9}\\x{1183B}\\x{11944}-\\x{11946}\\x{119E2}\\x{11A3F}-\\x{11A46}\\x{11A9A}-\\x{11A9C}\\x{11A9E}-"
    "\\x{11AA2}\\x{11B00}-\\x{11B09}\\x{11BE1}\\x{11C41}-\\x{11C45}\\x{11C70}\\x{11C71}\\x{11EF7}\\x{11EF8}"
    "\\x{11F43}-\\x{11F4F}\\x{11FFF}\\x{12FF1}\\x{12FF2}\\x{16D6D}-\\x{16D6F}\\x{16E97}-\\x{16E9A}\\x{16FE2}"
    "\\x{1E5FF}\\x{1E95E}\\x{1E95F}])\\p{P})";

/* One of several stages as an expression that isolates what it matches. */
static int stage_regex(struct bytes *out, const json_t *one, struct error *error)
{
    const char *regex = json_string_value(json_object_get(json_object_get(one, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(one, "behavior")), *type = type_of(one);
    bool isolated = !behavior || strcmp(behavior, "Isolated") == 0;
    if (strcmp(type, "Digits") == 0)
        bytes_text(out, "\\p{N}%s", json_is_true(json_object_get(one, "individual_digits")) ? "" : "+");
    else if (strcmp(type, "Punctuation") == 0 && (isolated || strcmp(behavior, "Contiguous") == 0))
        bytes_text(out, "%s%s", punctuation, isolated ? "" : "+");
    else if (strcmp(type, "Split") == 0 && regex && behavior && isolated &&
             !json_is_true(json_object_get(one, "invert")))
        return regex_translate(out, regex, error);
    else return fail(error, EXIT_DATA, "it splits text with %.40s%s%.40s, which is not known here", type,
                     behavior ? " of the behavior " : "", behavior ? behavior : "");
    return 0;
}

/* Several stages, with ByteLevel among them: what stands behind it sees the alphabet of bytes. */
static int read_stages(struct tokenizer *t, const json_t *list, struct error *error)
{
    struct bytes all = {0};
    bool spelled = false;
    int status = 0;
    for (size_t i = 0; i < json_array_size(list) && status == 0; i++) {
        const json_t *one = json_array_get(list, i);
        bool level = is_text(one, "type", "ByteLevel");
        if (level && (spelled || json_is_true(json_object_get(one, "add_prefix_space"))))
            status = fail(error, EXIT_DATA,
                          "it has ByteLevel twice, or with add_prefix_space, which is not known here");
        if (!level || !json_is_false(json_object_get(one, "use_regex"))) {
            if (all.size) bytes_text(&all, STAGE_NEXT);
            if (spelled) bytes_text(&all, STAGE_SPELLED);
            if (level) bytes_text(&all, "%s", pattern_regex(PATTERN_GPT2));
            else if (status == 0) status = stage_regex(&all, one, error);
        }
        spelled |= level;
    }
    if (status == 0 && (!spelled || all.size > REGEX_MAX))
        status = !spelled ? fail(error, EXIT_DATA, "it splits text in stages without ByteLevel: it is not byte-level BPE")
                          : fail(error, EXIT_DATA, "its patterns have more than %d bytes", REGEX_MAX);
    if (status == 0) {
        t->pattern = PATTERN_CUSTOM;
        t->flags |= TOKENIZER_STAGES;
        t->regex = host_text("%s", all.data);
    }
    bytes_free(&all);
    return status;
}

static int read_splitting(struct tokenizer *t, const json_t *pre, struct error *error)
{
    const json_t *first = NULL, *last = pre, *list = json_object_get(pre, "pretokenizers");
    size_t n = json_array_size(list);
    if (is_text(pre, "type", "Sequence")) {
        if (n > 2) return read_stages(t, list, error);
        first = n == 2 ? json_array_get(list, 0) : NULL;
        last = json_array_get(list, n == 2);
    }
    if (!is_text(last, "type", "ByteLevel"))
        return fail(error, EXIT_DATA, "its pre-tokenizer is %.40s, expected ByteLevel: it is not byte-level BPE",
                    type_of(last));
    if (json_is_true(json_object_get(last, "add_prefix_space")))
        return fail(error, EXIT_DATA,
                    "it puts a space before every text (add_prefix_space), which this program does not");
    bool regex = !json_is_false(json_object_get(last, "use_regex"));
    if (!first && regex) return set_regex(t, pattern_regex(PATTERN_GPT2), error);
    if (first && !regex && is_text(first, "type", "Split")) return read_split(t, first, error);
    if (first && regex && is_text(first, "type", "Digits")) return read_digits(t, first, error);
    if (first) return read_stages(t, list, error);
    return fail(error, EXIT_DATA,
                "it splits text with nothing then ByteLevel without GPT-2's pattern, which is not known here");
}

/* Metaspace: a blank before every text that begins without one, and pieces that begin at blanks. */
static int read_metaspace(struct tokenizer *t, const json_t *m, struct error *error)
{
    const char *scheme = json_string_value(json_object_get(m, "prepend_scheme"));
    if (!scheme) scheme = json_is_false(json_object_get(m, "add_prefix_space")) ? "never" : "always";
    bool always = strcmp(scheme, "always") == 0, first = strcmp(scheme, "first") == 0;
    if (!is_text(m, "replacement", TEXT_MARK) || (!always && !first && strcmp(scheme, "never") != 0))
        return fail(error, EXIT_DATA, "its Metaspace does not put U+2581 for blanks, or has the prepend_scheme %.40s", scheme);
    if (!json_is_false(json_object_get(m, "split"))) t->pattern = PATTERN_WORDS;
    if (t->flags & TOKENIZER_PREFIX) return 0;                 /* there is a blank already */
    if (always || first) t->flags |= TOKENIZER_PREFIX | TOKENIZER_UNLESS_BLANK;
    if (always) t->flags |= TOKENIZER_SECTIONS;
    return 0;
}

/* The pre-tokenizer of a vocabulary of characters.  Splitting at blanks when there are none left does nothing. */
static int read_blanks(struct tokenizer *t, const json_t *pre, bool escaped, struct error *error)
{
    const json_t *list = json_object_get(pre, "pretokenizers");
    if (is_text(pre, "type", "Sequence") && json_array_size(list) == 1) pre = json_array_get(list, 0);
    if (is_text(pre, "type", "Metaspace")) return read_metaspace(t, pre, error);
    bool idle = is_text(pre, "type", "Split") && is_text(json_object_get(pre, "pattern"), "String", " ");
    if (pre && !json_is_null(pre) && !idle)
        return fail(error, EXIT_DATA, "its pre-tokenizer is %.40s, expected none or Metaspace for a model that falls back to "
                    "bytes", type_of(pre));
    if (!escaped) return fail(error, EXIT_DATA, "its model falls back to bytes, and nothing writes U+2581 for blanks");
    return 0;
}

/* Of what a decoder does only one thing may differ: whether the blank before a text is left out again. */
static int read_decoder(struct tokenizer *t, const json_t *d, bool inside, struct error *error)
{
    const char *type = type_of(d), *scheme = json_string_value(json_object_get(d, "prepend_scheme"));
    if (!d || json_is_null(d)) {
        t->flags |= t->flags & TOKENIZER_PREFIX ? TOKENIZER_STRIP : 0;
        return 0;
    }
    if (strcmp(type, "Sequence") == 0 && !inside) {
        const json_t *list = json_object_get(d, "decoders");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_decoder(t, json_array_get(list, i), true, error)) return -1;
        return 0;
    }
    bool found = word_number("Replace|ByteFallback|Fuse|Strip|Metaspace", type) >= 0;
    bool strip = strcmp(type, "Strip") == 0, one = json_integer_value(json_object_get(d, "start")) == 1;
    if (!found || (strip && (!is_text(d, "content", " ") || json_integer_value(json_object_get(d, "stop")) != 0)))
        return fail(error, EXIT_DATA, "it has the decoder %.40s, which is not known here", type);
    bool never = scheme ? strcmp(scheme, "never") == 0 : json_is_false(json_object_get(d, "add_prefix_space"));
    if ((strip && one) || (strcmp(type, "Metaspace") == 0 && !never)) t->flags |= TOKENIZER_STRIP;
    return 0;
}

static int read_model(struct tokenizer *t, const json_t *model, struct error *error)
{
    if (!is_empty(json_object_get(model, "continuing_subword_prefix")) ||
        !is_empty(json_object_get(model, "end_of_word_suffix")))
        return fail(error, EXIT_DATA,
                    "its model marks the parts of words with a prefix or suffix, which is not known here");
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return fail(error, EXIT_DATA, "its model drops merges at random (dropout), which is not known here");
    if (json_is_true(json_object_get(model, "ignore_merges"))) t->flags |= TOKENIZER_IGNORE_MERGES;
    if (by_characters(t) && t->flags & TOKENIZER_IGNORE_MERGES)
        return fail(error, EXIT_DATA, "its model falls back to bytes and ignores merges, which is not known here together");
    return 0;
}

int import_settings(struct tokenizer *t, const json_t *root, struct error *error)
{
    const json_t *model = json_object_get(root, "model"), *pre = json_object_get(root, "pre_tokenizer");
    bool escaped = false;
    if (json_is_true(json_object_get(model, "byte_fallback"))) t->pattern = PATTERN_WHOLE;
    if (read_model(t, model, error) || read_normalizer(t, &escaped, json_object_get(root, "normalizer"), false, error))
        return -1;
    if (t->flags & TOKENIZER_NFKC) t->flags &= ~(unsigned)TOKENIZER_NFC;      /* which it is too */
    if (!by_characters(t)) return read_splitting(t, pre, error);
    return read_blanks(t, pre, escaped, error) || read_decoder(t, json_object_get(root, "decoder"), false, error) ? -1 : 0;
}
