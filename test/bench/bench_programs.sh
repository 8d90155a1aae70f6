#!/bin/sh
# bench_programs.sh - the programs as they are run: start to end of one step, packing of dialogues, a PPO iteration by phase, and a
# checkpoint copied and verified.  Small models on the written world of the demonstration.
: "${BIN:=bin}" "${BUILD:=build/cpu}"
world=$BUILD/test/demo/world
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
now() { date +%s.%N; }
took() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.3f", b - a }'; }
result() { printf '* %-48s %8s %s\n' "$1" "$2" "$3"; }
median() { grep -o "\"$2\":[-0-9.e+]*" "$1" | cut -d: -f2 | sort -g | awk '{ v[NR] = $1 } END { printf "%.3f", v[int((NR + 1) / 2)] }'; }
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 3 "$work/log"; exit 1; }; }

"$world" corpus 1 1000000 >"$work/corpus.txt"
"$world" chats 2 2000 >"$work/chats.jsonl"
"$world" prompts 4 500 >"$work/prompts.jsonl"
small="--data $work/corpus.txt --shards $work/shards --layers 4 --channels 128 --heads 4 --ffn 384 --context 128 --batch-tokens 2048 --micro-tokens 2048"

quiet "$BIN/pretrain" $small --vocab-size 512 --steps 60 --eval-every 0 --out "$work/base"
start=$(now)
quiet "$BIN/pretrain" $small --tokenizer "$work/base" --steps 1 --eval-every 0 --out "$work/one"
result "pretrain: start, one step, checkpoint" "$(took "$start")" "s (shards there)"

quiet "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" --steps 30 --batch-tokens 2048 --micro-tokens 2048 \
    --eval-every 0 --out "$work/sft"
tokens=$(grep -o '"tokens":[0-9]*' "$work/sft/metrics.jsonl" | tail -n 1 | cut -d: -f2)
result "sft: tokens of dialogues in each place of a batch" "$(awk -v t="$tokens" 'BEGIN { printf "%.1f", 100 * t / (30 * 2048) }')" "%"

quiet "$BIN/rlhf" --policy "$work/sft" --reward-cmd "$world gold" --prompts "$work/prompts.jsonl" --steps 6 --episodes 128 --minibatches 4 \
    --critic-warmup 0 --max-new-tokens 72 --micro-tokens 4096 --eval-every 0 --out "$work/rlhf"
for phase in sample score reward update; do
    result "rlhf, 128 answers, 4 minibatches: $phase" "$(median "$work/rlhf/metrics.jsonl" "seconds_$phase")" "s"
done

quiet "$BIN/pretrain" --data "$work/corpus.txt" --shards "$work/shards" --tokenizer "$work/base" --preset gpt2 --layers 12 --channels 768 \
    --context 128 --steps 1 --batch-tokens 128 --micro-tokens 128 --eval-every 0 --sample-every 0 --out "$work/large"
file=$work/large/final.ckpt
bytes=$(wc -c <"$file")
rate() { awk -v n="$1" -v s="$2" 'BEGIN { printf "%.2f", n / s / 1e9 }'; }
start=$(now); quiet "$BIN/ckpt" verify "$file"
result "ckpt verify" "$(rate "$bytes" "$(took "$start")")" "GB/s (all threads)"
start=$(now); quiet "$BIN/ckpt" verify --jobs 1 "$file"
result "ckpt verify --jobs 1" "$(rate "$bytes" "$(took "$start")")" "GB/s"
start=$(now); quiet "$BIN/ckpt" strip "$file" "$work/copy.ckpt"
copied=$(wc -c <"$work/copy.ckpt")
result "ckpt strip: read, verified, written and synced" "$(rate "$copied" "$(took "$start")")" "GB/s"
start=$(now); quiet dd if=/dev/zero of="$work/zeros" bs=1M count=$((copied / 1000000)) conv=fsync
result "the same size by dd with fsync" "$(rate "$copied" "$(took "$start")")" "GB/s"
