"""unicode_newer.py - writes common/text/tokenizer_unicode_table.c: `python3 test/unicode_newer.py >common/text/tokenizer_unicode_table.c`.

The classes are those that the expressions of the package `tokenizers` see; what Unicode 13 already had is asked of perl, what is newer
than the package of `unicodedata2`."""
import subprocess
import unicodedata2
from tokenizers import Regex, pre_tokenizers

CLASSES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
chars = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
text = "".join(map(chr, chars))


def matched(regex):
    for _, (first, end) in pre_tokenizers.Split(Regex(regex), "removed", invert=True).pre_tokenize_str(text):
        yield from chars[first:end]


theirs = {c: k for k in CLASSES for c in matched(r"\p{%s}+" % k)}
han = set(matched(r"\p{Han}+"))
perl = subprocess.run(["perl", "-e", r"for my $c (0..0x10FFFF) { next if $c >= 0xD800 && $c < 0xE000; for my $k (qw(%s)) { if (chr($c) =~ /\p{gc=$k}/) "
                       r"{ my $was = chr($c) =~ /\p{Present_In: 13.0}/ ? $k : 'Cn'; print qq($c $was\n); last } } }" % " ".join(CLASSES)],
                      stdout=subprocess.PIPE, text=True, check=True).stdout
before = {int(c): k for c, k in (line.split() for line in perl.splitlines())}
ranges = []
for c in chars:
    newer = theirs[c] == "Cn" and unicodedata2.category(chr(c)) != "Cn"
    if theirs[c] == before[c] and not newer and c != 0x180E:        # a blank to PCRE2, and not there
        continue
    kind = "Cf" if theirs[c] == "Cn" else "Han" if c in han else theirs[c]
    if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == kind:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, kind])
print("/* tokenizer_unicode_table.c - characters that engines know or not, with their classes in Unicode 16.0; those of %s are unassigned.\n"
      " * Written by test/unicode_newer.py. */" % unicodedata2.unidata_version)
print('#include "common/text/tokenizer_unicode.h"\n')
print("const struct unicode_newer unicode_newer[] = {")
line = "   "
for r in ranges:
    item = " {0x%X, 0x%X, CLASS_%s}," % (r[0], r[1], r[2].upper())
    if len(line) + len(item) > 118:
        print(line)
        line = "   "
    line += item
print(line[:-1] + "};")
print("const int unicode_newers = sizeof unicode_newer / sizeof *unicode_newer;")
