#!/bin/sh
# run.sh - every benchmark, one after another, and all results again in one table.  BENCH="ops tokenizer" runs only these.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}"
export BIN BUILD
said=$(mktemp) || exit 1
trap 'rm -f "$said" "$said.failed"' EXIT

for b in "$BUILD"/test/bench/bench_* test/bench/bench_*.sh; do
    [ -x "$b" ] && [ -f "$b" ] || continue
    name=$(basename "$b" .sh | sed 's/^bench_//')
    [ -n "$BENCH" ] && case " $BENCH " in *" $name "*) ;; *) continue ;; esac
    echo "== $name"
    "$b" || touch "$said.failed"
done | tee "$said"
echo
echo "== results"
grep '^\* ' "$said"
[ ! -e "$said.failed" ]
