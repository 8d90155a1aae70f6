#!/bin/sh
# check_broken.sh - every check of format/SPEC.md refuses its broken file (test/tool_broken.c), by name and with exit code 65.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
dir=$work
bad() { failed=$((failed + 1)); echo "$@" >&2; }

"$BUILD/test/tool_broken" "$dir" || bad "tool_broken failed"
for f in "$dir"/good*.ckpt; do
    "$BIN/ckpt" verify --deep --jobs 1 "$f" >"$dir/out" 2>&1 && ok || bad "$f is refused: $(cat "$dir/out")"
done
for f in "$dir"/*.ckpt; do
    name=$(basename "$f" .ckpt)
    id=${name%%-*}
    [ "$id" = good ] && continue
    "$BIN/ckpt" verify --deep --jobs 1 "$f" >"$dir/out" 2>&1
    code=$?
    if [ $code -eq 65 ] && grep -q "\[$id\]" "$dir/out"; then ok; else bad "$name: exit code $code, $(head -n 1 "$dir/out")"; fi
    # what tells a person about a damaged file must survive it
    for c in info sections tensors "explain 40000"; do
        set -- $c
        "$BIN/ckpt" "$1" "$f" $2 >"$dir/out" 2>&1
        code=$?
        case $code in 0 | 64 | 65) ;; *) bad "$name: $c ends with $code" ;; esac
    done
done

# Every check that SPEC.md lists for files has its broken file.
for id in $(sed -n 's/^| \([A-Z]*[0-9]*\) | file |.*/\1/p' format/SPEC.md); do
    ls "$dir" | grep -q "^$id[-.]" && ok || bad "no broken file for check $id"
done
finish
