#!/bin/sh
# demo.sh - raises a small model through all four stages on a small written world, and prints what each stage gained.
# OUT=folder (runs/demo), SEED=1, THREADS=0 (all).  Takes minutes; started again, it resumes where it was stopped.
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

answers() { "$BIN/chat" --model "$1" --prompts "$2" --samples "$3" --temperature 1 --top-p 1 --max-new-tokens 72 $common; }

step "data: stories and facts, flawed demonstrations, prompts"
make_once "$data/corpus.txt" "$world" corpus "$SEED" 2500000
make_once "$data/chats.jsonl" "$world" chats "$((6 * SEED))" 3000
make_once "$data/rank-prompts.jsonl" "$world" prompts "$((6 * SEED + 2))" 5000
make_once "$data/prompts.jsonl" "$world" prompts "$((6 * SEED + 4))" 2000
make_once "$data/held-out.jsonl" "$world" prompts "$((6 * SEED + 1))" 400

step "pretrain: raw text -> base model"
run "$BIN/pretrain" --data "$data/corpus.txt" --vocab-size 512 --preset llama --layers 4 --channels 128 --heads 4 --ffn 384 \
    --context 128 --tokens 1200k --batch-tokens 2048 --micro-tokens 2048 --lr 3e-3 --eval-every 100 --save-every 200 \
    --sample-prompt "The red fox and the boat." --out "$OUT/base" $common

step "sft: instructions -> assistant"
run "$BIN/sft" --model "$OUT/base" --data "$data/chats.jsonl" --epochs 4 --batch-tokens 2048 --micro-tokens 2048 --lr 1e-3 \
    --eval-every 50 --save-every 100 --out "$OUT/sft" $common

step "four answers of the assistant to each of 5000 prompts, ranked by the rule with noise"
make_once "$data/answers.jsonl" answers "$OUT/sft" "$data/rank-prompts.jsonl" 4
make_once "$data/ranked.jsonl" "$world" rank "$SEED" 0.73 <"$data/answers.jsonl"

step "rm: ranked answers -> reward model"
run "$BIN/rm" --model "$OUT/sft" --data "$data/ranked.jsonl" --epochs 2 --batch-tokens 2048 --micro-tokens 2048 --lr 5e-4 \
    --eval-every 100 --save-every 200 --out "$OUT/rm" $common

step "rlhf: prompts + reward model -> aligned model"
run "$BIN/rlhf" --policy "$OUT/sft" --reward "$OUT/rm" --prompts "$data/prompts.jsonl" --steps 28 --episodes 128 --minibatches 4 \
    --lr 1.5e-4 --critic-lr 5e-4 --critic-warmup 5 --kl-coef 0.05 --max-new-tokens 72 --micro-tokens 4096 --out "$OUT/rlhf" $common

step "evaluation on instructions nobody trained on"
for stage in base sft rlhf; do
    make_once "$data/held-out-$stage.jsonl" answers "$OUT/$stage" "$data/held-out.jsonl" 1
done
test/demo/table.sh "$OUT" "$world" $(($(date +%s) - start))
run "$BIN/ckpt" report "$OUT/rlhf" --out "$OUT/report.html" >/dev/null
printf 'Curves, samples and settings of all four stages, for a browser: %s\n' "$OUT/report.html"
