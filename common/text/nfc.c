/* nfc.c - text is cut before every character that nothing before it can change; only pieces of more than one character,
 * or of one that is itself not in NFC, go through decomposing, ordering and composing. */
#include "common/text/nfc.h"

#include <stdlib.h>
#include <string.h>

enum { S = 0xAC00, L = 0x1100, V = 0x1161, T = 0x11A7, VS = 21, TS = 28, SS = 11172, LS = 19 };     /* Hangul */

struct piece { uint32_t *c; size_t n; };

static uint32_t get(const char *text, int n)
{
    const uint8_t *p = (const uint8_t *)text;
    if (n == 1) return p[0];
    uint32_t c = p[0] & (n == 2 ? 0x1F : n == 3 ? 0x0F : 0x07);
    for (int i = 1; i < n; i++) c = c << 6 | (p[i] & 0x3F);
    return c;
}

static void put(struct bytes *out, uint32_t c)
{
    char b[4] = {(char)c};
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = n - 1; n > 1 && i > 0; i--, c >>= 6) b[i] = (char)(0x80 | (c & 0x3F));
    if (n > 1) b[0] = (char)(lead[n] | c);
    bytes_add(out, b, (size_t)n);
}

/* The combining class, or -1 for a character that begins a piece. */
static int class_of(uint32_t c)
{
    if (c < 0x300 || (c >= 0x3400 && c < 0xA000)) return -1;
    for (int low = 0, high = nfc_marks; low < high;) {
        int middle = (low + high) / 2;
        if (c < nfc_mark[middle].first) high = middle;
        else if (c > nfc_mark[middle].last) low = middle + 1;
        else return nfc_mark[middle].class;
    }
    return -1;
}

static void add(struct piece *p, uint32_t c)
{
    p->c = host_append(p->c, p->n, 1, sizeof *p->c);
    p->c[p->n++] = c;
}

static void decompose(struct piece *p, uint32_t c)
{
    if (c >= S && c < S + SS) {
        uint32_t i = c - S;
        add(p, L + i / (VS * TS));
        add(p, V + i % (VS * TS) / TS);
        if (i % TS) add(p, T + i % TS);
        return;
    }
    for (int low = 0, high = nfc_parts; low < high;) {
        const struct nfc_part *k = &nfc_part[(low + high) / 2];
        if (c < k->c) high = (low + high) / 2;
        else if (c > k->c) low = (low + high) / 2 + 1;
        else {
            decompose(p, k->first);
            if (k->second) decompose(p, k->second);
            return;
        }
    }
    add(p, c);
}

/* The character that two compose to, or 0. */
static uint32_t join(uint32_t a, uint32_t b)
{
    if (a >= L && a < L + LS && b >= V && b < V + VS) return S + ((a - L) * VS + b - V) * TS;
    if (a >= S && a < S + SS && (a - S) % TS == 0 && b > T && b < T + TS) return a + b - T;
    for (int low = 0, high = nfc_joins; low < high;) {
        const struct nfc_part *k = &nfc_part[nfc_join[(low + high) / 2]];
        if (a == k->first && b == k->second) return k->c;
        if (a < k->first || (a == k->first && b < k->second)) high = (low + high) / 2;
        else low = (low + high) / 2 + 1;
    }
    return 0;
}

/* Marks in the order of their classes, equal ones as they stand. */
static void order(struct piece *p)
{
    for (size_t i = 1; i < p->n; i++) {
        uint32_t c = p->c[i];
        int k = class_of(c);
        size_t at = i;
        for (; k > 0 && at > 0 && class_of(p->c[at - 1]) > k; at--) p->c[at] = p->c[at - 1];
        p->c[at] = c;
    }
}

/* Each character joins the last starter unless one of its own class or above, or another starter, stands between. */
static void compose(struct piece *p)
{
    size_t start = 0, n = 0;
    int last = -1;                              /* class of what stands between; -1: nothing does */
    bool have = false;
    for (size_t i = 0; i < p->n; i++) {
        uint32_t c = p->c[i], whole;
        int k = class_of(c) > 0 ? class_of(c) : 0;
        if (have && last < k && (whole = join(p->c[start], c))) {
            p->c[start] = whole;
            continue;
        }
        if (k == 0) { start = n; have = true; last = -1; }
        else last = k;
        p->c[n++] = c;
    }
    p->n = n;
}

static void normalise(struct bytes *out, struct piece *p, const char *text, size_t length)
{
    p->n = 0;
    for (size_t i = 0; i < length;) {
        int n = utf8_length(text + i, length - i);
        decompose(p, get(text + i, n));
        i += (size_t)n;
    }
    order(p);
    compose(p);
    for (size_t i = 0; i < p->n; i++) put(out, p->c[i]);
}

bool nfc_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)text[i] >= 0xCC) return false;
    return true;
}

void nfc(struct bytes *out, const char *text, size_t length)
{
    struct piece p = {0};
    size_t from = 0, start = 0;                 /* [from, start): to be copied; the piece begins at start */
    bool changes = false;                       /* the piece is more than a character that stays as it is */
    for (size_t i = 0; i <= length;) {
        int n = i < length ? utf8_length(text + i, length - i) : 0;
        if (n == 0 || class_of(get(text + i, n)) < 0) {         /* a border */
            if (changes) {
                bytes_add(out, text + from, start - from);
                normalise(out, &p, text + start, i - start);
                from = i;
            }
            start = i + (n == 0);                               /* an invalid byte is no part of any piece */
            changes = false;
        } else changes = true;
        i += n ? (size_t)n : 1;
    }
    bytes_add(out, text + from, length - from);
    free(p.c);
}

static const struct nfkc_look *look_of(uint32_t c)
{
    for (int low = 0, high = nfkc_looks; low < high;) {
        int middle = (low + high) / 2;
        if (c < nfkc_look[middle].first) high = middle;
        else if (c > nfkc_look[middle].last) low = middle + 1;
        else return &nfkc_look[middle];
    }
    return NULL;
}

void nfkc(struct bytes *out, const char *text, size_t length)
{
    struct bytes plain = {0};
    for (size_t i = 0, n; i < length; i += n) {
        n = (size_t)utf8_length(text + i, length - i);
        uint32_t c = n > 1 ? get(text + i, (int)n) : 0;
        const struct nfkc_look *k = c ? look_of(c) : NULL;
        if (n == 0) n = 1;
        if (!k) bytes_add(&plain, text + i, n);
        else if (k->n == 0) put(&plain, k->to + (c - k->first));
        else for (int j = 0; j < k->n; j++) put(&plain, nfkc_text[k->to + (uint32_t)j]);
    }
    nfc(out, plain.data ? plain.data : "", plain.size);
    bytes_free(&plain);
}
