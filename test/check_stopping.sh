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
    while grep -qs '^SigCgt:[[:space:]]*0*$' /proc/$pid/status; do sleep 0.05; done      # it does not listen yet
    sleep "$after"
    [ "$signal" = none ] || kill "-$signal" $pid
    start=$(date +%s%N)
    wait $pid
    code=$?
    local ms=$((($(date +%s%N) - start) / 1000000))
    if [ $code -eq 75 ] && [ $ms -lt 5000 ]; then ok; else wrong "$what: code $code after $ms ms"; fi
}

stopped "sft reads a pipe" 0.5 TERM "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b"
check "what is read is said at once" said ": reading $work/pipe"
stopped "rm reads a pipe" 0.5 USR1 "$BIN/rm" --model "$work/base" --data "$work/pipe" --out "$work/c"
stopped "a time limit while reading" 1 none "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b" --time-limit 1
( sleep 30 >"$work/pipe" ) & writer=$!
stopped "sft reads a pipe from which nothing comes" 0.5 INT "$BIN/sft" --model "$work/base" --data "$work/pipe" --out "$work/b"
kill $writer 2>/dev/null

# Evaluations and samplings that would take long, on a model that is not quite tiny.
sh test/small_data.sh "$work"
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "{\"prompt\":\"Who sees %d?\",\"response\":\"The old cat by the river sees %d.\"}\n", i, i }' >"$work/many.jsonl"
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "{\"prompt\":\"Who sees %d?\",\"chosen\":\"The cat.\",\"rejected\":\"A dog %d.\"}\n", i, i }' >"$work/pairs.jsonl"
for i in 1 2 3 4 5; do cat "$work/text.txt"; done >"$work/long.txt"
wide="--layers 4 --channels 256 --heads 4 --context 64 --vocab-size 300 --threads 1"
expect 0 "done: 1 step," "$BIN/pretrain" --data "$work/text.txt" $wide --batch-tokens 64 --micro-tokens 64 --steps 1 --eval-tokens 64 --out "$work/wide"
some="--micro-tokens 256 --threads 1"
stopped "--eval-only" 0.5 TERM "$BIN/pretrain" --model "$work/wide" --eval-only --data "$work/long.txt" $some
stopped "an evaluation of pretrain" 1.5 USR1 "$BIN/pretrain" --data "$work/long.txt" $wide --micro-tokens 256 --validation 0.5 --eval-tokens 0 --out "$work/d"
stopped "an evaluation of sft" 0.7 TERM "$BIN/sft" --model "$work/wide" --data "$work/many.jsonl" --validation 0.9 --eval-tokens 0 $some --out "$work/e"
stopped "an evaluation of rm" 0.7 TERM "$BIN/rm" --model "$work/wide" --data "$work/pairs.jsonl" --validation 0.9 --eval-tokens 0 $some --out "$work/f"
stopped "a time limit while evaluating" 2 none "$BIN/sft" --model "$work/wide" --data "$work/many.jsonl" --validation 0.9 --eval-tokens 0 $some --time-limit 2 --out "$work/g"
expect 0 "done: 1 step," "$BIN/sft" --model "$work/wide" --data "$work/chats.jsonl" --steps 1 --eval-tokens 128 --batch-tokens 128 --micro-tokens 128 --threads 1 --out "$work/chatty"
stopped "the sampling of rlhf" 0.7 TERM "$BIN/rlhf" --policy "$work/chatty" --reward-cmd "cat" --prompts "$work/many.jsonl" --episodes 2000 --minibatches 2 \
    --max-new-tokens 40 $some --out "$work/h"
stopped "a reward program that is slow" 1.5 TERM "$BIN/rlhf" --policy "$work/chatty" --reward-cmd "sleep 60" --prompts "$work/many.jsonl" --episodes 4 --minibatches 2 \
    --max-new-tokens 4 $some --validation 0 --out "$work/i"

# A record that waits for its evaluation is written once, also when the run is killed after that and begins from there again.
held="$BIN/pretrain --data $work/long.txt $wide --validation 0.5 --eval-tokens 0 --eval-every 0 --save-every 0 --batch-tokens 256 --micro-tokens 256 --out $work/held"
stopped "the first evaluation" 0.7 TERM $held --steps 100000
check "before its record was written" [ ! -s "$work/held/metrics.jsonl" ]
$held --steps 100000 >"$work/out" 2>&1 &
for i in $(seq 400); do grep -qs '"step":2,' "$work/held/metrics.jsonl" && break; sleep 0.05; done
kill -KILL $!
wait $! 2>/dev/null
expect 0 "done: 3 steps" $held --steps 3
check "its record is there once" [ "$(grep -c '"step":0,' "$work/held/metrics.jsonl")" = 1 ]

finish
