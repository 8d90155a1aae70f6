#!/bin/bash
# check_stopping.sh - the wish to stop is heard wherever a program can be for more than a moment: each case must end with code 75 in
# a few seconds, and what was begun must go on to the bits of a run that nobody stopped.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
awk 'BEGIN { srand(1); for (i = 0; i < 3000; i++) printf "%s%s", substr("the red fox sees an old stone house by the green river", 1 + int(30 * rand()), 20), i % 9 ? " " : "\n" }' >"$work/text.txt"
sizes="--layers 1 --channels 32 --heads 2 --ffn 64 --context 64 --vocab-size 300 --batch-tokens 256 --micro-tokens 256"
expect 0 "done: 2 steps" "$BIN/pretrain" --data "$work/text.txt" $sizes --steps 2 --out "$work/base"
mkfifo "$work/pipe"

# stopped "what" SECONDS SIGNAL command...: the signal comes after SECONDS (none: the command stops by itself), and the end soon.
stopped() {
    local what=$1 after=$2 signal=$3 pid start code
    shift 3
    "$@" >"$work/out" 2>&1 </dev/null &
    pid=$!
    sleep "$after"
    [ "$signal" = none ] || kill "-$signal" $pid
    start=$(date +%s%N)
    wait $pid
    code=$?
    local ms=$((($(date +%s%N) - start) / 1000000))
    if [ $code -eq 75 ] && [ $ms -lt 5000 ]; then ok; else wrong "$what: code $code after $ms ms"; fi
}

stopped "sft reads a pipe" 0.5 TERM "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b"
stopped "rm reads a pipe" 0.5 USR1 "$BIN/rm" --model "$work/base" --data "$work/pipe" --out "$work/c"
stopped "a time limit while reading" 1 none "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b" --time-limit 1
( sleep 30 >"$work/pipe" ) & writer=$!
stopped "sft reads a pipe from which nothing comes" 0.5 INT "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b"
kill $writer 2>/dev/null

echo "check_stopping: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
