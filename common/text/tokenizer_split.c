/* tokenizer_split.c - text -> pieces, by the regular expression a tokenizer was trained with.
 *
 * PCRE2 does the matching: the patterns need Unicode classes and look-ahead, and its compiled code is fast.  It is only
 * shown valid UTF-8: text is first cut into runs of valid characters, and a run ends where the text ends as far as the
 * pattern can see.  What a pattern does not match is a piece too (behaviour "Isolated" of a tokenizer.json). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/text/tokenizer_parts.h"
#include "common/text/tokenizer_unicode.h"

#include <pcre2.h>
#include <stdlib.h>

struct splitter {
    pcre2_code *code;
    pcre2_match_context *limits;
    struct joints *joints;              /* instead of the two above */
    bool spelled;                       /* bytes are matched as characters of the alphabet */
    struct splitter *inner;             /* the next stage, or NULL */
};

static const struct { const char *name, *regex; } known[] = {
    [PATTERN_GPT2] = {"gpt2",
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    [PATTERN_LLAMA3] = {"llama3",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    [PATTERN_QWEN2] = {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};
enum { N_KNOWN = sizeof known / sizeof *known };

static bool is_known(enum pattern p) { return p >= PATTERN_GPT2 && (int)p < N_KNOWN; }
const char *pattern_name(enum pattern p) { return is_known(p) ? known[p].name : "custom"; }
const char *pattern_regex(enum pattern p) { return is_known(p) ? known[p].regex : NULL; }

enum pattern pattern_of(const char *regex)
{
    enum pattern p = PATTERN_GPT2;
    while ((int)p < N_KNOWN && strcmp(known[p].regex, regex) != 0) p++;
    return (int)p < N_KNOWN ? p : PATTERN_CUSTOM;
}

/* \p{Han} means the script; from 10.40 on PCRE2 would add characters that several scripts use. */
static char *scripts_only(const char *regex, size_t length)
{
    struct bytes b = {0};
    for (const char *at = regex; at < regex + length;) {
        size_t n = at[0] == '\\' && at[1] ? 2 : 1, name = n == 2 && (at[1] == 'p' || at[1] == 'P') && at[2] == '{'
                 ? strspn(at + 3, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") : 0;
        bytes_add(&b, at, n);
        at += n;
        if (name < 4 && !(name == 3 && strncmp(at, "{Han}", 5) == 0)) continue;
        if (at[1 + name] == '}' && PCRE2_MAJOR * 100 + PCRE2_MINOR >= 1040) { bytes_text(&b, "{sc:"); at++; }
    }
    char *text = host_text("%s", b.data ? b.data : "");
    bytes_free(&b);
    return text;
}

static int open_stage(struct splitter *s, const char *regex, size_t length, bool known_one, struct error *error)
{
    int why;
    PCRE2_SIZE where;
    s->spelled = length && *regex == *STAGE_SPELLED;
    char *text = scripts_only(regex + s->spelled, length - s->spelled);
    s->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &why, &where, NULL);
    free(text);
    if (!s->code) {
        char message[200];
        pcre2_get_error_message(why, (PCRE2_UCHAR *)message, sizeof message);
        return fail(error, EXIT_DATA, "tokenizer: its splitting pattern does not compile: %s at byte %zu", message, where);
    }
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);      /* where it is not possible matching is slower, and equal */
    s->limits = pcre2_match_context_create(NULL);
    if (!s->limits) die("no memory for the tokenizer's pattern");
    /* The known patterns step back over at most one run of blanks; a stranger's may try for ever. */
    pcre2_set_match_limit(s->limits, known_one ? UINT32_MAX : 10000000);
    pcre2_set_heap_limit(s->limits, 4 << 20);         /* KiB: what a run of 4 MiB may need in the interpreter */
    return 0;
}

int splitter_open(struct splitter **out, enum pattern pattern, const char *regex, struct error *error)
{
    const char *source = pattern == PATTERN_CUSTOM ? regex : pattern_regex(pattern);
    if (!source) return fail(error, EXIT_DATA, "tokenizer: pattern %d is unknown to this version", (int)pattern);
    struct splitter *first = NULL, **last = &first;
    int stages = 0;
    for (size_t n; ; source += n + 1, last = &(*last)->inner) {
        n = strcspn(source, STAGE_NEXT);
        if (++stages > STAGES_MAX) {
            splitter_close(first);
            return fail(error, EXIT_DATA, "tokenizer: its pattern has more than %d stages", STAGES_MAX);
        }
        *last = host_alloc(1, sizeof **last);
        if (open_stage(*last, source, n, pattern != PATTERN_CUSTOM, error) != 0) {
            splitter_close(first);
            return -1;
        }
        if (!source[n]) break;
    }
    *out = first;
    return 0;
}

void splitter_open_joints(struct splitter **out, const struct tokenizer *t)
{
    *out = host_alloc(1, sizeof **out);
    (*out)->joints = joints_open(t);
}

void splitter_close(struct splitter *s)
{
    if (!s) return;
    splitter_close(s->inner);
    joints_close(s->joints);
    pcre2_code_free(s->code);
    pcre2_match_context_free(s->limits);
    free(s);
}

void split_open(struct split *s, const struct splitter *splitter)
{
    *s = (struct split){.splitter = splitter, .match = pcre2_match_data_create(1, NULL)};
    if (!s->match) die("no memory to split text");
    if (!splitter->inner) return;
    s->inner = host_alloc(1, sizeof *s->inner);
    split_open(s->inner, splitter->inner);
}

void split_close(struct split *s)
{
    pcre2_match_data_free(s->match);
    bytes_free(&s->copy);
    bytes_free(&s->spelled);
    if (s->inner) split_close(s->inner);
    free(s->inner);
}

void split_start(struct split *s, const char *text, size_t length)
{
    s->text = s->unspelled = text;
    s->length = length;
    if (s->splitter->spelled) {
        s->spelled.size = 0;
        bytes_spell(&s->spelled, text, length);
        s->text = s->spelled.data ? s->spelled.data : "";
        s->length = s->spelled.size;
    }
    s->shown = s->splitter->joints || s->splitter->spelled ? s->text : unicode_shown(&s->copy, s->text, s->length);
    if (s->inner) split_start(s->inner, text, 0);
    s->at = s->run = s->run_end = s->next = s->next_end = 0;
    s->interpret = false;
    s->failed = 0;
}

/* Sets [next, next_end) to the first match at or after `at`, or to the rest of the run when nothing matches.  The
 * compiled code has a small stack of its own: where that overflows, the interpreter takes over for the rest of the text,
 * so that ids depend neither on the machine nor on the stack.  False when it gives up too. */
static bool find_match(struct split *s)
{
    const uint32_t how = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int n;
    if (s->splitter->joints) {
        s->next = s->at;
        s->next_end = s->at + joints_piece(s->splitter->joints, s->text + s->at, s->run_end - s->at);
        return true;
    }
    do {
        n = pcre2_match(s->splitter->code, (PCRE2_SPTR)(s->shown + s->run), s->run_end - s->run, s->at - s->run,
                        s->interpret ? how | PCRE2_NO_JIT : how, s->match, s->splitter->limits);
    } while (n < 0 && n != PCRE2_ERROR_NOMATCH && !s->interpret && (s->interpret = true));
    s->next = s->at;
    s->next_end = s->run_end;
    if (n == PCRE2_ERROR_NOMATCH) return true;
    s->failed = n < 0 ? n : 0;
    if (n < 0) return false;
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->match);
    if (found[0] < s->at - s->run || found[1] <= found[0]) return true;        /* \K moved a border: not a match */
    s->next = s->run + found[0];
    s->next_end = s->run + found[1];
    return true;
}

void split_check(const struct split *s)
{
    char text[120], where[80];
    if (!s->failed) return;
    pcre2_get_error_message(s->failed, (PCRE2_UCHAR *)text, sizeof text);
    size_t left = s->length - s->at;
    quit(EXIT_DATA, "the splitting pattern of the tokenizer gives up (%s) at the text '%s': shorten or leave out this "
         "text, or use a tokenizer with a simpler pattern", text,
         text_escape(where, sizeof where, s->text + s->at, left < 60 ? left : 60));
}

static bool next_piece(struct split *s, const char **piece, size_t *length)
{
    if (s->at == s->length || s->failed) return false;
    if (s->at == s->run_end) {
        s->run = s->at;
        s->run_end = s->at + utf8_prefix(s->text + s->at, s->length - s->at);
        s->next = s->next_end = s->at;
    }
    size_t end = s->at + 1;                      /* an invalid byte: no run starts here */
    if (s->run_end == s->at) s->run_end = end;
    else {
        if (s->at == s->next_end && !find_match(s)) return false;
        end = s->at < s->next ? s->next : s->next_end;
        if (end - s->at > PIECE_MAX)
            for (end = s->at + PIECE_MAX; (s->text[end] & 0xC0) == 0x80;) end--;      /* whole characters */
    }
    *piece = s->text + s->at;
    *length = end - s->at;
    s->at = end;
    if (!s->splitter->spelled) return true;
    size_t characters = 0;
    for (size_t i = 0; i < *length; i++) characters += ((*piece)[i] & 0xC0) != 0x80;
    *piece = s->unspelled;
    *length = characters;
    s->unspelled += characters;
    return true;
}

bool split_next(struct split *s, const char **piece, size_t *length)
{
    const char *outer;
    size_t n;
    if (!s->inner) return next_piece(s, piece, length);
    while (!split_next(s->inner, piece, length)) {
        s->failed = s->inner->failed;
        if (s->failed || !next_piece(s, &outer, &n)) return false;
        split_start(s->inner, outer, n);
    }
    return true;
}
