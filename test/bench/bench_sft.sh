#!/bin/sh
# bench_sft.sh - sft on ragged dialogues beside two loops of PyTorch: llama, 4 x 128, V 4096, context 256.   THREADS, ROUNDS
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}" "${PYTHON:=python3}" "${THREADS:=$(nproc)}" "${ROUNDS:=5}"
"$PYTHON" -c 'import torch' 2>/dev/null || { echo "skipped: PyTorch is not installed"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for i in 1 2; do cat README.md docs/*.md; done >"$work/text.txt"
{ "$BIN/pretrain" --data "$work/text.txt" --preset llama --layers 4 --channels 128 --heads 4 --ffn 384 --context 256 --vocab-size 4096 \
    --batch-tokens 2048 --steps 1 --eval-every 0 --sample-every 0 --out "$work/run" && "$BIN/ckpt" export "$work/run" --hf "$work/hf" &&
    "$PYTHON" test/bench/sft_beside.py words "$work/text.txt" 3000 >"$work/chats.jsonl"; } >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$PYTHON" test/bench/sft_beside.py "$work/chats.jsonl" "$work" "$work/run" "$BIN/sft" "$BUILD/test/tool_tokens" "$THREADS" "$ROUNDS"
