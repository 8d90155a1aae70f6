"""unicode_nfc.py - writes common/text/nfc_table.c from Python's copy of the Unicode data: `python3 test/unicode_nfc.py >common/text/nfc_table.c`;
with the argument nfkc, common/text/nfkc_table.c."""
import sys
try:
    import unicodedata2 as u        # of a newer version of Unicode than Python has
except ImportError:
    import unicodedata as u

HANGUL = range(0xAC00, 0xAC00 + 11172)
chars = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
parts = {}
for c in chars:
    d = u.decomposition(chr(c))
    if d and not d.startswith("<") and c not in HANGUL:
        parts[c] = [int(x, 16) for x in d.split()]
joins = sorted((p[0], p[1], c) for c, p in parts.items() if len(p) == 2 and u.normalize("NFC", chr(p[0]) + chr(p[1])) == chr(c))
second = {b for a, b, c in joins} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
marks = [(c, u.combining(chr(c))) for c in chars if u.combining(chr(c)) or c in second or u.normalize("NFC", chr(c)) != chr(c)]
ranges = []
for c, k in marks:
    if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == k:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, k])


def table(items, width=118):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line[:-1] + "};")


# Newer than Unicode 12.0, the version of the package tokenizers 0.23 for NFKC: it leaves them as they are, and so do we.
NEWER = [(0x32FF, 0x32FF), (0xA7F2, 0xA7F4), (0xAB69, 0xAB69), (0x10780, 0x107BF), (0x1E030, 0x1E06D), (0x1F16C, 0x1F16C), (0x1FBF0, 0x1FBF9)]


def nfkc():
    looks, text = [], []
    for c in chars:
        full = u.normalize("NFKD", chr(c))
        if full == u.normalize("NFD", chr(c)) or any(a <= c <= b for a, b in NEWER):
            continue
        full = [ord(x) for x in full]
        last = looks[-1] if looks else None
        if len(full) == 1 and last and last[3] == 0 and last[1] == c - 1 and last[2] + c - last[0] == full[0]:
            last[1] = c
        elif len(full) == 1:
            looks.append([c, c, full[0], 0])
        else:
            at = next((i for i in range(len(text)) if text[i:i + len(full)] == full), len(text))
            text += full if at == len(text) else []
            looks.append([c, c, at, len(full)])
    print(f"/* nfkc_table.c - Unicode {u.unidata_version}, without what is newer than 12.0, written by test/unicode_nfc.py from Python's copy of the Unicode data. */")
    print('#include "common/text/nfc.h"\n')
    print("const struct nfkc_look nfkc_look[] = {")
    table("{0x%X, 0x%X, %s, %d}" % (a, b, at if n else hex(at), n) for a, b, at, n in looks)
    print("const int nfkc_looks = sizeof nfkc_look / sizeof *nfkc_look;\n")
    print("const uint32_t nfkc_text[] = {")
    table("0x%X" % c for c in text)


if sys.argv[1:] == ["nfkc"]:
    nfkc()
    sys.exit()
print(f"/* nfc_table.c - Unicode {u.unidata_version}, written by test/unicode_nfc.py from Python's copy of the Unicode data.  Hangul is computed. */")
print('#include "common/text/nfc.h"\n')
print("/* Characters that may change or join what stands before them, and their combining classes. */")
print("const struct nfc_mark nfc_mark[] = {")
table("{0x%X, 0x%X, %d}" % tuple(r) for r in ranges)
print("const int nfc_marks = sizeof nfc_mark / sizeof *nfc_mark;\n")
print("/* Character, and the one or two that it decomposes into. */")
print("const struct nfc_part nfc_part[] = {")
table("{0x%X, 0x%X, 0x%X}" % (c, p[0], p[1] if len(p) > 1 else 0) for c, p in sorted(parts.items()))
print("const int nfc_parts = sizeof nfc_part / sizeof *nfc_part;\n")
print("/* Rows of nfc_part whose two compose again, by these two. */")
print("const uint16_t nfc_join[] = {")
order = {c: i for i, c in enumerate(sorted(parts))}
table("%d" % order[c] for a, b, c in joins)
print("const int nfc_joins = sizeof nfc_join / sizeof *nfc_join;")
