#!/bin/sh
# check_devices.sh - one rank a GPU by --devices and NCCL, on simulated GPUs (make SIM=1 test): the bits of one GPU with the
# same --slices, in all four programs; signals reach all ranks, and none outlives another; what cannot be is refused.
# Other builds have one device.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
sh test/small_data.sh "$work"
text="--data $work/text.txt --vocab-size 270 --preset llama --layers 1 --channels 24 --heads 3 --kv-heads 1 --ffn 40 --context 48
    --batch-tokens 192 --micro-tokens 48 --threads 1"
no="$work/no"
export CUDASIM_PRODUCTS=fixed CUDASIM_DEVICES=3

# ---- the list ----
expect 64 "'0;1' is neither all nor numbers" "$BIN/pretrain" $text --devices "0;1" --out "$no"
expect 64 "'0,' is neither all nor numbers" "$BIN/pretrain" $text --devices 0, --out "$no"
expect 64 "--devices: 0 is named twice" "$BIN/pretrain" $text --devices 0,0 --out "$no"
case $BUILD in *cuda* | *sim*) words="there is no device 3" ;; *) words="this build computes on the CPU" ;; esac
expect 64 "--devices: $words" "$BIN/pretrain" $text --devices 3 --out "$no"
check "nothing is left of what was refused" [ ! -e "$no" ]
expect 0 "done: 1 step" "$BIN/pretrain" $text --devices 0 --steps 1 --out "$work/first"
case $BUILD in *sim*) ;; *) skip "the CUDA simulator is not built here (make SIM=1 test)" ;; esac
if ! "$BIN/pretrain" --version | grep -q NCCL; then
    expect 69 "NCCL was not there when it was made: name one" "$BIN/pretrain" $text --devices 0,1 --out "$no"
    skip "no NCCL in the toolkit"
fi

case $BUILD in *sim-f32*) tolerance=1e-6 random= ;; *) tolerance=1e-2 random=--stochastic-rounding ;; esac

# ---- bits ----
# bits NAME A B
bits() {
    "$BIN/ckpt" diff "$work/$2" "$work/$3" >"$work/out" 2>&1
    check "$1" grep -q ' 0 of [1-9][0-9]* tensors differ, 0 only in A, 0 only in B' "$work/out"
}
expect 0 "done: 4 steps" "$BIN/pretrain" $text --steps 4 --slices 2 --save-every 2 --out "$work/p1"
expect 0 "2 ranks, 2 of them on this host, by NCCL" "$BIN/pretrain" $text --steps 4 --devices 0,2 --save-every 2 --out "$work/p2" --trace "$work/trace.json"
"$BUILD/test/tool_trace" "$work/trace.json" >"$work/spans" 2>&1
check "a trace shows what is under way in a backward pass" grep -q "^bucket 1 " "$work/spans"
bits "pretrain: 2 GPUs have the bits of one" p1 p2
expect 0 "done: 2 steps" env CUDASIM_STREAMS=lazy "$BIN/pretrain" $text --steps 2 --devices 1,2 --zero 0 --offload moments --out "$work/m"
expect 0 "done: 4 steps" "$BIN/pretrain" $text --steps 4 --out "$work/m"
bits "pretrain: stopped on 2 GPUs, resumed on one" p1 m
three="--layers 3 --batch-tokens 96"                  # several buckets, and a rank without a micro-batch
expect 0 "done: 2 steps" "$BIN/pretrain" $text $three --steps 2 --slices 3 --out "$work/q1"
expect 0 "done: 2 steps" "$BIN/pretrain" $text $three --steps 2 --devices all --offload moments --out "$work/q3"
bits "pretrain: 3 GPUs have the bits of one" q1 q3
expect 0 "done: 2 steps" "$BIN/pretrain" $text $random --steps 2 --slices 4 --out "$work/z1"
expect 0 "done: 2 steps" env CUDASIM_STREAMS=lazy "$BIN/pretrain" $text $random --steps 2 --devices 0,1 --zero 2 --out "$work/z2"
bits "pretrain: --zero 2 has the bits of one GPU" z1 z2
expect 0 "done: 2 steps" env CUDASIM_STREAMS=random "$BIN/pretrain" $text $random --steps 2 --devices 0,1 --zero 3 --offload moments --out "$work/z3"
bits "pretrain: --zero 3 has the bits of one GPU" z1 z3
split="--channels 32 --heads 4 --kv-heads 2 --steps 3 --vocab-size 271 --sample-every 3"
expect 0 "done: 3 steps" "$BIN/pretrain" $text $split --out "$work/t1"
expect 0 "each layer split by 2" "$BIN/pretrain" $text $split --devices 0,1 --tensor-parallel 2 --out "$work/t2"
for run in t1 t2; do grep -o '"loss":[0-9.e+-]*' "$work/$run/metrics.jsonl" | cut -d: -f2 >"$work/losses.$run"; done
check "pretrain: layers split by 2 GPUs have the losses of one" [ "$(paste "$work/losses.t1" "$work/losses.t2" |
    awk -v t=$tolerance '{ d = $1 - $2; if (d < 0) d = -d; if (d <= t * $1) good++ } END { print good }')" = 3 ]
row="--preset llama3-8b --layers 4 --steps 2 --slices 1 --sample-every 2"
expect 0 "done: 2 steps" "$BIN/pretrain" $text $row --out "$work/v1"
expect 0 "the row of layers by 3" "$BIN/pretrain" $text $row --devices all --pipeline-parallel 3 --out "$work/v3"
bits "pretrain: 3 stages have the bits of one GPU" v1 v3
check "pretrain: 3 stages draw the texts of one GPU" cmp -s "$work/v1/samples.txt" "$work/v3/samples.txt"
rest="--steps 2 --batch-tokens 192 --micro-tokens 64 --threads 1"
# stage PROGRAM options...: on one GPU and on two
stage() {
    program=$1
    shift
    expect 0 "done: 2 steps" "$BIN/$program" "$@" --slices 2 --out "$work/$program-1"
    expect 0 "done: 2 steps" "$BIN/$program" "$@" --devices 0,1 --out "$work/$program-2"
    bits "$program: 2 GPUs have the bits of one" $program-1 $program-2
}
stage sft --model "$work/p1" --data "$work/chats.jsonl" $rest
stage rm --model "$work/sft-1" --data "$work/ranked.jsonl" $rest
stage rlhf --policy "$work/sft-1" --reward "$work/rm-1" --prompts "$work/chats.jsonl" --episodes 6 --max-new-tokens 4 \
    --micro-tokens 64 --steps 2 --minibatches 2 --threads 1
expect 0 "done: 2 steps" "$BIN/rlhf" --policy "$work/sft-1" --reward "$work/rm-1" --prompts "$work/chats.jsonl" --episodes 6 \
    --max-new-tokens 4 --micro-tokens 64 --steps 2 --minibatches 2 --threads 1 --devices 0,1 --zero 3 --out "$work/rlhf-3"
bits "rlhf: --zero 3 has the bits of one GPU" rlhf-1 rlhf-3
equal="sampled and trained log-probabilities are equal, ratio 1"
for run in rlhf-1 rlhf-2 rlhf-3; do check "$run: sampling gives the bits of training" grep -q "$equal" "$work/$run/log.txt"; done
# layers and vocabulary split, each part's products by an algorithm of their own
expect 0 "done: 1 step" "$BIN/sft" --model "$work/t1" --data "$work/chats.jsonl" $rest --steps 1 --out "$work/sft-t"
expect 0 "done: 1 step" env CUDASIM_PRODUCTS=late "$BIN/rlhf" --policy "$work/sft-t" --reward-cmd "while read l; do echo 1; done" \
    --prompts "$work/chats.jsonl" --episodes 4 --max-new-tokens 4 --micro-tokens 64 --steps 1 --minibatches 1 --threads 1 \
    --devices 0,1 --tensor-parallel 2 --out "$work/rlhf-t"
check "rlhf: split by 2 GPUs, sampling gives the bits of training" grep -q "$equal" "$work/rlhf-t/log.txt"

# ---- ends ----
alive() { pgrep -f "$BIN/pretrain.*--out $work/$1" >/dev/null; }
# begin NAME: a long run on 3 GPUs, until its first checkpoint is there
begin() {
    "$BIN/pretrain" $text --steps 5000 --save-every 2 --keep 1 --devices all --out "$work/$1" >"$work/out" 2>&1 </dev/null &
    parent=$!
    for i in $(seq 200); do [ -e "$work/$1/latest" ] && break; sleep 0.1; done
}
# ended NAME CODE WHAT: the parent's code, within seconds, and nobody left
ended() {
    start=$(date +%s)
    wait $parent
    code=$?
    sleep 0.3
    if [ $code -eq "$2" ] && [ $(($(date +%s) - start)) -le 8 ] && ! alive "$1"; then ok; else wrong "$3: code $code"; fi
}
begin stop
kill -TERM $parent
ended stop 75 "a signal to the parent stops all ranks"
begin kill
victim=$(pgrep -f "$BIN/pretrain.*--out $work/kill" | while read -r p; do
    tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -q '^QUARTET_RANK=1$' && echo "$p"; done)
kill -KILL "$victim"
ended kill 71 "a rank that is killed ends all"
check "the killed rank is named" grep -q "rank 1 (process $victim " "$work/kill/status.json"
begin orphan
kill -KILL $parent
wait $parent
for i in $(seq 80); do alive orphan || break; sleep 0.1; done
if alive orphan; then wrong "ranks outlive their parent"; else ok; fi

# ---- other launchers ----
expect 64 "--out is needed" env RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 "$BIN/pretrain" $text --plan
mkdir "$work/torch"
for r in 1 0; do
    env RANK=$r LOCAL_RANK=$r WORLD_SIZE=2 MASTER_PORT=1 "$BIN/pretrain" $text --steps 4 --save-every 2 --out "$work/torch/t" \
        >"$work/out" 2>&1 </dev/null &
done
wait
bits "ranks of torchrun's variables have the bits of one" p1 torch/t
check "nothing is left of their meeting" [ "$(ls "$work/torch")" = t ]
for r in 1 0; do
    env CUDASIM_DEVICES=1 RANK=$r LOCAL_RANK=$r WORLD_SIZE=2 "$BIN/pretrain" $text --steps 4 --out "$no" >"$work/out$r" 2>&1 </dev/null &
done
wait $!
check "two ranks on one GPU exit with 69" [ $? = 69 ]
wait
check "two ranks on one GPU are told" grep -q "every rank needs a GPU of its own" "$work/out0"
finish
