#!/bin/sh
# run.sh - every benchmark, one after another.  BENCH="ops tokenizer" runs only these.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}"
export BIN BUILD
status=0
for b in "$BUILD"/test/bench/bench_*; do
    [ -x "$b" ] && [ -f "$b" ] || continue
    name=$(basename "$b" | sed 's/^bench_//')
    [ -n "$BENCH" ] && case " $BENCH " in *" $name "*) ;; *) continue ;; esac
    echo "== $name"
    "$b" || status=1
done
for s in test/bench/bench_*.sh; do
    [ -x "$s" ] || continue
    name=$(basename "$s" .sh | sed 's/^bench_//')
    [ -n "$BENCH" ] && case " $BENCH " in *" $name "*) ;; *) continue ;; esac
    echo "== $name"
    "$s" || status=1
done
exit $status
