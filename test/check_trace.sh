#!/bin/sh
# check_trace.sh - --trace of all four programs is JSON with a span for every phase of every rank, also while the run goes on,
# after a signal and after a kill; and what it cannot be written to is refused.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${MPICC:=mpicc}" "${MPIRUN:=mpirun}"
tool=$BUILD/test/tool_trace
sh test/small_data.sh "$work"
# spans RANK NAME NUMBER...: of the trace that was just read
spans() {
    rank=$1
    shift
    while [ $# -gt 0 ]; do
        grep -q "^$1 $rank $2\$" "$work/spans" || { echo "expected $1 $rank $2" >>"$work/out"; cat "$work/spans" >>"$work/out"; return 1; }
        shift 2
    done
}
sound() { "$tool" "$work/trace.json" >"$work/spans" 2>"$work/out"; }

text="--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 32 --schedule constant --threads 1
    --batch-tokens 256 --micro-tokens 64 --save-every 2 --validation 0.1"
few="--steps 4 --eval-every 2 --sample-every 2"
expect 0 "done: 4 steps" "$BIN/pretrain" $text $few --out "$work/base" --trace "$work/trace.json"
check "pretrain: the trace is whole" sound
check "pretrain: a span for each phase" spans 0 step 4 prepare 4 forward 16 head 16 backward 16 reduce 4 update 4 evaluate 3 save 2 sample 2
expect 0 "done: 4 steps" "$BIN/pretrain" $text $few --out "$work/again"
expect 0 equal "$BIN/ckpt" diff --tensors "$work/base" "$work/again"
tune="--steps 2 --batch-tokens 128 --micro-tokens 128 --eval-every 0 --threads 1 --trace $work/trace.json"
expect 0 "done: 2 steps" "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" $tune --out "$work/sft"
check "sft: the trace is whole" sound
check "sft: a span for each phase" spans 0 step 2 forward 2 backward 2 update 2
expect 0 "done: 2 steps" "$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl" $tune --out "$work/rm"
check "rm: the trace is whole" sound
check "rm: a span for each phase" spans 0 step 2 forward 2 backward 2 update 2
expect 0 "done: 2 steps" "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/chats.jsonl" --episodes 6 --max-new-tokens 6 \
    --steps 2 --minibatches 1 --eval-every 0 --threads 1 --trace "$work/trace.json" --out "$work/rlhf"
check "rlhf: the trace is whole" sound
check "rlhf: a span for each phase" spans 0 step 2 sample 4 score 4 reward 4

"$BIN/pretrain" $text --steps 1000000 --out "$work/long" --trace "$work/trace.json" >"$work/out" 2>&1 &
job=$!
for i in $(seq 200); do grep -qs '"step":3,' "$work/long/metrics.jsonl" && grep -qs forward "$work/trace.json" && break; sleep 0.1; done
for i in 1 2 3 4 5; do check "the trace is whole while the run goes on" sound; done
kill -TERM $job
wait $job 2>/dev/null
check "SIGTERM ends with code 75" [ $? -eq 75 ]
check "the trace is whole after a signal" sound
steps=$(sed -n 's/.*"step":\([0-9]*\),"loss".*/\1/p' "$work/long/metrics.jsonl" | tail -n 1)
check "and has the update of the last step" spans 0 update "$steps"
"$BIN/pretrain" $text --steps 1000000 --out "$work/long" --trace "$work/trace.json" >"$work/out" 2>&1 &
job=$!
for i in $(seq 100); do grep -qs forward "$work/trace.json" && break; sleep 0.1; done
kill -KILL $job
wait $job 2>/dev/null
check "the trace is whole after a kill" sound

expect 74 "--trace $work/none/t.json: cannot be opened" "$BIN/pretrain" $text $few --out "$work/no" --trace "$work/none/t.json"
expect 74 "--trace /dev/null: is no file" "$BIN/pretrain" $text $few --out "$work/no" --trace /dev/null
expect 74 "cannot be opened" "$BIN/pretrain" $text $few --out "$work/no" --trace "$work"
[ -w /dev/full ] && expect 74 "is no file" "$BIN/pretrain" $text $few --out "$work/no" --trace /dev/full
expect 74 "--trace: No space left on device; the trace ends here" sh -c "ulimit -f 40; exec $BIN/pretrain $(echo $text) --steps 40 \
    --save-every 0 --out $work/small --trace $work/trace.json"
check "a full disk: what is there is whole" sound
check "a refused trace trains nothing" [ ! -e "$work/no/final.ckpt" ]
expect 0 "done: 4 steps" "$BIN/pretrain" $text $few --out "$work/in" --trace "$work/in/trace.json"
check "it may lie in the run folder" "$tool" "$work/in/trace.json" >"$work/spans"
expect 0 "memory" "$BIN/pretrain" $text $few --plan --trace "$work/plan.json"
check "a plan writes none" [ ! -e "$work/plan.json" ]

case $BUILD in *-*san*) MPICC=none ;; esac
if command -v "$MPICC" >/dev/null && command -v "$MPIRUN" >/dev/null; then
    case $("$MPIRUN" --version 2>&1) in
    *"Open MPI"*|*OpenRTE*) launch="$MPIRUN -q --allow-run-as-root --oversubscribe --bind-to none" build=build/cpu-mpi ;;
    *) launch="$MPIRUN" build=build/cpu-mpich ;;
    esac
    make -s -j2 MPI=1 MPICC="$MPICC" BUILD="$build" BIN="$build/bin" all >"$work/out" 2>&1 || wrong "make MPI=1"
    expect 0 "done: 4 steps" $launch -n 2 "$build/bin/pretrain" $text $few --out "$work/two" --trace "$work/trace.json"
    check "2 ranks: the trace is whole" sound
    for rank in 0 1; do
        check "rank $rank: a span for each phase, and those between ranks" spans $rank step 4 forward 8 backward 8 reduce 4 update 4 sum_scatter 4
    done
    check "ranks wait" grep -q "^wait 1 " "$work/spans"
else
    omit "traces of several ranks (no MPI, or a sanitizer)"
fi
finish
