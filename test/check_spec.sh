#!/bin/sh
# check_spec.sh - SPEC.md says what the code does: limits and check ids on both sides; and format/ stays by itself.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
bad() { failed=$((failed + 1)); echo "$@" >&2; }
dir=$work

# every number of limits.h, by the compiler
names=$(sed -n 's/^#define \(CKPT_[A-Z_]*\) .*/\1/p' format/limits.h | grep -v -e SIGNATURE -e BYTE_ORDER)
{
    echo '#include "format/limits.h"'
    echo '#include <stdio.h>'
    echo 'int main(void) {'
    for n in $names; do echo "puts(\"\"); printf(\"| $n | %llu |\", (unsigned long long)$n);"; done
    echo 'puts(""); return 0; }'
} >"$dir/limits.c"
if ${CC:-cc} -I. "$dir/limits.c" -o "$dir/limits" && "$dir/limits" | sed 1d >"$dir/code"; then
    while read -r line; do grep -qxF "$line" format/SPEC.md && ok || bad "SPEC.md lacks: $line"; done <"$dir/code"
    [ "$(grep -c '^| CKPT_' format/SPEC.md)" -eq "$(wc -l <"$dir/code")" ] && ok || bad "SPEC.md lists limits that the code lacks"
else bad "limits.h does not compile by itself"; fi

# check ids in messages are those of the table
grep -oh '\[[A-Z][A-Z]*[0-9][0-9]*\]"' format/*.c format/ckpt/*.c | tr -d '[]"' | sort -u >"$dir/used"
sed -n 's/^| \([A-Z]*[0-9]*\) | \(file\|code\) |.*/\1/p' format/SPEC.md | sort -u >"$dir/listed"
for id in $(cat "$dir/used"); do grep -qx "$id" "$dir/listed" && ok || bad "check $id is not in SPEC.md"; done
for id in $(sed -n 's/^| \([A-Z]*[0-9]*\) | file |.*/\1/p' format/SPEC.md); do
    grep -q "\[$id\]" format/*.c format/ckpt/*.c && ok || bad "no code for check $id"
done

# format/ knows common/base, nothing else
others=$(grep -hn '#include "' format/*.[ch] | grep -v -e '"format/' -e '"common/base/')
[ -z "$others" ] && ok || bad "format/ includes $others"
finish
