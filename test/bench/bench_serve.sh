#!/bin/sh
# bench_serve.sh - chat --serve beside llama-cpp-python's server: 16 clients on a llama model of 8 x 512 with random weights, float32 on both sides.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${PYTHON:=python3}" "${THREADS:=$(nproc)}"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"$PYTHON" -c 'import llama_cpp.server.app' 2>/dev/null || { echo "skipped: the Python package llama-cpp-python[server] is not installed"; exit 0; }
for i in 1 2 3; do cat README.md docs/*.md; done >"$work/text.txt"
"$BIN/pretrain" --data "$work/text.txt" --preset llama --layers 8 --channels 512 --heads 8 --context 512 --vocab-size 4096 --steps 1 \
    --batch-tokens 1024 --out "$work/run" >"$work/log" 2>&1 && "$BIN/ckpt" export "$work/run" --gguf "$work/m.gguf" >>"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
"$PYTHON" test/bench/serve_beside.py "$BIN/chat" "$work/run" "$work/m.gguf" "$THREADS" 16 64 5
