#!/bin/sh
# gpu.sh - make CUDA=1 bench: what one GPU reaches (bench_gpu.c), an iteration of PPO by phase, and the same training
# steps in PyTorch where it is installed.  Minutes; all results again at the end.  Without a usable GPU: one sentence and
# code 69.
# BENCH_TINY=1: shapes for the simulator (make SIM=1 bench), whose figures mean nothing.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=build/cuda/bin}" "${BUILD:=build/cuda}"
case $BUILD in *sim*) BENCH_TINY=1 ;; esac
world=$BUILD/test/demo/world
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 3 "$work/log"; exit 1; }; }
median() {
    grep -o "\"$2\":[-0-9.e+]*" "$1" | cut -d: -f2 | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f", v[int((NR + 1) / 2)] }'
}

# A policy of random weights, which answers at full length
ppo() {
    shape="--preset gpt2 --layers 12 --channels 768 --heads 12 --ffn 3072 --context 256"
    episodes=256 new=128 micro=16384
    if [ -n "$BENCH_TINY" ]; then
        shape="--layers 1 --channels 16 --heads 2 --ffn 32 --context 64"
        episodes=4 new=8 micro=128
    fi
    common="--batch-tokens 512 --micro-tokens 512 --eval-every 0"
    "$world" corpus 1 200000 >"$work/corpus.txt"
    "$world" chats 2 100 >"$work/chats.jsonl"
    "$world" prompts 4 300 >"$work/prompts.jsonl"
    quiet "$BIN/pretrain" --data "$work/corpus.txt" --shards "$work/shards" --vocab-size 512 $shape $common --steps 1 \
        --sample-every 0 --out "$work/base"
    quiet "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" $common --steps 1 --out "$work/sft"
    quiet "$BIN/rlhf" --policy "$work/sft" --reward-cmd "$world gold" --prompts "$work/prompts.jsonl" --steps 3 \
        --episodes $episodes --minibatches 4 --critic-warmup 0 --max-new-tokens $new --micro-tokens $micro \
        --eval-every 0 --out "$work/rlhf"
    for phase in sample score reward update; do
        printf '* %-44s %8s s\n' "PPO, GPT-2 124M, $episodes answers: $phase" \
            "$(median "$work/rlhf/metrics.jsonl" "seconds_$phase")"
    done
}

"$BUILD/test/bench/bench_gpu" ${BENCH_TINY:+tiny} >"$work/said" 2>"$work/error"
code=$?
cat "$work/said" "$work/error"
[ $code -eq 0 ] || exit $code
ppo | tee -a "$work/said"
if [ -n "$BENCH_TINY" ] || ! python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    echo "skipped: PyTorch beside it: there is no python3 with a PyTorch that can use a GPU"
else
    sizes=$(sed -n 's/^\* training GPT-2 \([0-9.]*[MB]\), \([0-9]*\) x .*tokens.*/\1=\2/p' "$work/said")
    timeout 240 python3 test/bench/torch_step.py $sizes | tee -a "$work/said"
fi
echo
echo "== results${BENCH_TINY:+ of tiny shapes: they mean nothing}"
grep '^\* ' "$work/said"
