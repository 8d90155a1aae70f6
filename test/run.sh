#!/bin/sh
# run.sh default|full - runs every test program and script, and adds up what they say.
# A test that ends without its closing line, or with a bad exit code and no failure counted, counts as one failure.
# TESTS="name name" runs only these.  ERRORS=1: how far operations are from their references.  FULL=1 in the environment of a test means the long form.
cd "$(dirname "$0")/.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}"
[ "$1" = full ] && FULL=1 || FULL=
BIN=$(cd "$BIN" && pwd)
export BIN BUILD FULL
passed=0 failed=0 skipped=0
log=$BUILD/test.log
for t in "$BUILD"/test/test_* test/check_*.sh test/e2e_*.sh; do
    [ -x "$t" ] && [ -f "$t" ] || continue
    name=$(basename "$t" .sh)
    [ -n "$TESTS" ] && case " $TESTS " in *" $name "*) ;; *) continue ;; esac
    start=$(date +%s)
    "$t" >"$log" 2>&1
    code=$?
    line=$(grep -E '^[a-z0-9_]+: [0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    p=$(echo "$line" | sed -n 's/.*: \([0-9]*\) passed.*/\1/p')
    f=$(echo "$line" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$line" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
    [ -n "$line" ] || { p=0 f=1 line="$name: ended with code $code and no closing line"; }
    [ "$code" -ne 0 ] && [ "$f" -eq 0 ] && { f=1 line="$line, yet exit code $code"; }
    [ "$f" -gt 0 ] && sed "s/^/    /" "$log" | tail -n 40
    grep -E "^skipped: ${ERRORS:+|^error: }" "$log" | sed "s/^/    /"
    echo "$line ($(($(date +%s) - start)) s)"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
done
[ "$((passed + failed))" -gt 0 ] || { echo "no test was run"; failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
