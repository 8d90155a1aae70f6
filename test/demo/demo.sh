#!/bin/sh
# demo.sh - raises a small model through all four stages on a small written world, and prints what each stage gained.
# OUT=folder (runs/demo), SEED=1, THREADS=0 (all).  Takes minutes; stopped, it goes on where it was when started again.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}" "${OUT:=runs/demo}" "${SEED:=1}" "${THREADS:=0}"
world=$BUILD/test/demo/world
data=$OUT/data
common="--seed $SEED --threads $THREADS"
start=$(date +%s)
mkdir -p "$data" || exit 74

step() { printf '\n== %s (%s s)\n' "$*" $(($(date +%s) - start)); }
run() { "$@" || { code=$?; echo "demo.sh: $1 ended with exit code $code" >&2; exit $code; }; }
make_once() { out=$1; shift; [ -s "$out" ] || { "$@" >"$out.part" && mv "$out.part" "$out"; } || exit $?; }

step "data: stories and facts, flawed demonstrations, prompts"
make_once "$data/corpus.txt" "$world" corpus "$SEED" 1500000
make_once "$data/chats.jsonl" "$world" chats "$((2 * SEED))" 3000
make_once "$data/rank-prompts.jsonl" "$world" prompts "$((2 * SEED + 2))" 700
make_once "$data/prompts.jsonl" "$world" prompts "$((2 * SEED + 4))" 2000
make_once "$data/held-out.jsonl" "$world" prompts "$((2 * SEED + 1))" 200

step "pretrain: raw text -> base model"
run "$BIN/pretrain" --data "$data/corpus.txt" --vocab-size 512 --layers 4 --channels 128 --heads 4 --ffn 384 --context 128 \
    --preset llama --tokens 1M --batch-tokens 4096 --micro-tokens 2048 --lr 3e-3 --out "$OUT/base" $common \
    --eval-every 100 --save-every 100 --sample-prompt "Once there was"

step "sft: instructions -> assistant"
run "$BIN/sft" --model "$OUT/base" --data "$data/chats.jsonl" --epochs 2 --batch-tokens 2048 --micro-tokens 2048 --lr 1e-3 \
    --out "$OUT/sft" $common --eval-every 50 --save-every 100

step "ranked answers: four samples a prompt from the assistant, ranked with noise"
make_once "$data/answers.jsonl" "$BIN/chat" --model "$OUT/sft" --prompts "$data/rank-prompts.jsonl" --samples 4 --max-new-tokens 72 $common
make_once "$data/ranked.jsonl" "$world" rank "$SEED" 0.73 <"$data/answers.jsonl"

step "rm: ranked answers -> reward model"
run "$BIN/rm" --model "$OUT/sft" --data "$data/ranked.jsonl" --epochs 3 --batch-tokens 4096 --micro-tokens 4096 --lr 3e-4 \
    --out "$OUT/rm" $common --eval-every 20 --save-every 50

step "rlhf: prompts + reward model -> aligned model"
run "$BIN/rlhf" --policy "$OUT/sft" --reward "$OUT/rm" --prompts "$data/prompts.jsonl" --steps 40 --episodes 128 --minibatches 4 \
    --lr 1e-4 --critic-lr 3e-4 --kl-coef 0.05 --max-new-tokens 72 --micro-tokens 4096 --out "$OUT/rlhf" $common

step "evaluation on instructions nobody trained on"
for stage in base sft rlhf; do
    make_once "$data/held-out-$stage.jsonl" "$BIN/chat" --model "$OUT/$stage" --prompts "$data/held-out.jsonl" --samples 1 \
        --max-new-tokens 72 $common
done
test/demo/table.sh "$OUT" "$world" $(($(date +%s) - start))
