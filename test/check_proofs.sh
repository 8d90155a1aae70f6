#!/bin/sh
# check_proofs.sh - every check that docs/proofs.md names is there: a function of test_NAME.c, or words of NAME.sh.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
grep '^| F' docs/proofs.md >"$work/facts"
grep -oE '`[a-z0-9_]+:[^`]+`' "$work/facts" | tr -d '`' | sort -u >"$work/named"
while IFS=: read -r file name; do
    if [ -f "test/$file.sh" ]; then check "$file.sh does not say $name" grep -qF -- "\"$name" "test/$file.sh"
    else check "test_$file.c has no $name" grep -qE "^static .*[ *]$name\(" "test/test_$file.c"; fi
done <"$work/named"
check "facts are numbered from F1 on, each with a proof" awk -F'|' '
    { gsub(/ /, "", $2); if ($2 != "F" NR || $4 !~ /`.*:.*`/) bad = 1 } END { exit bad || NR < 60 }' "$work/facts"
check "README.md says how many" grep -qF "lists $(wc -l <"$work/facts") facts" README.md
finish
