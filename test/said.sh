# said.sh - for scripts about the sentences that programs say; sourced after lib.sh.  What was said is in $work/said.
verdict() {   # verdict "what" yes|no
    if [ "$2" = yes ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "failed: $1"
    tail -n 4 "$work/said" | cut -c1-400
}

# expect CODE "words" command...: the exit code, and words that must be said.
expect() {
    code=$1 words=$2
    shift 2
    timeout -k 2 60 "$@" >"$work/said" 2>&1 </dev/null
    got=$?
    ok=no
    [ "$got" -eq "$code" ] && grep -qF -- "$words" "$work/said" && ok=yes
    verdict "code $got, expected $code and \"$words\": $*" $ok
}
