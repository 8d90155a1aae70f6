# lib.sh - what the end-to-end scripts share; sourced from the top folder.  $work is a folder that is gone at the end.
: "${BIN:=bin}" "${BUILD:=build/cpu}" "${SHARED:=../shared}" "${ASAN_OPTIONS:=detect_leaks=0}"   # what lives as long as the process is no leak
export ASAN_OPTIONS
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

ok() { passed=$((passed + 1)); }
# STOP in the environment: the first failure ends the script.
wrong() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    [ -f "$work/out" ] && tail -n 5 "$work/out"
    [ -z "$STOP" ] || exit 1
}
check() { what=$1; shift; if "$@"; then ok; else wrong "$what"; fi; }

# expect CODE WORDS command...: the exit code, and words that must be said; nothing may look like a crash.
expect() {
    code=$1 words=$2
    shift 2
    timeout 300 "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    if [ "$got" -eq "$code" ] && grep -qF -- "$words" "$work/out"; then ok
    else wrong "exit $got, expected $code and '$words': $*"; fi
}
said() { grep -qF -- "$1" "$work/out"; }

# number FILE KEY first|last: a number of a metrics.jsonl
number() { grep -o "\"$2\":[-0-9.e+a-z]*" "$1" | "$([ "$3" = first ] && echo head || echo tail)" -n 1 | cut -d: -f2; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 < b + 0) }'; }

# finish: the last line, with the count, and the end.  omit WORDS: this cannot be tested here; skip WORDS: nothing can.
finish() {
    echo "$(basename "$0" .sh): $passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
omit() { skipped=$((skipped + 1)); echo "skipped: $*"; }
skip() { omit "$@"; finish; }
# there FILE...: whether all are; python_has PACKAGE: or the end
there() { for file; do [ -r "$file" ] || { omit "$file is not there"; return 1; }; done; }
python_has() {
    "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec(sys.argv[1]))' "$1" 2>/dev/null ||
        skip "the Python package $1 is not installed"
}

# the records of a metrics.jsonl without what the clock decides (docs/metrics.md)
timeless() { sed -E 's/,"([a-z0-9_.]*second[a-z0-9_.]*|peak_share|host_bytes|device_bytes)":[^,}]*//g' "$1"; }
