#!/bin/sh
# bench_decode.sh - decoding 1, 8 and 32 sequences at once with GPT-2's 124M shape and random weights, beside llama.cpp on the GGUF file
# that `ckpt export` makes of them: float32 and the same threads on both sides, ROUNDS times in turn.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}" "${PYTHON:=python3}" "${THREADS:=$(nproc)}" "${ROUNDS:=5}"
"$PYTHON" -c 'import llama_cpp' 2>/dev/null || { echo "skipped: the Python package llama-cpp-python is not installed"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# words of random letters, each twice: enough pairs for a vocabulary of this size
awk 'BEGIN {
    srand(1)
    for (i = 0; i < 60000; i++) {
        word = ""
        for (n = 3 + int(6 * rand()); n > 0; n--) word = word sprintf("%c", 97 + int(26 * rand()))
        print word, word
    }
}' >"$work/words.txt"
{ "$BIN/pretrain" --data "$work/words.txt" --preset gpt2 --vocab-size 50257 --context 128 --batch-tokens 128 --micro-tokens 128 --steps 1 \
    --eval-every 0 --sample-every 0 --validation 0 --out "$work/run" && "$BIN/ckpt" export "$work/run" --gguf "$work/m.gguf"; } >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
"$PYTHON" test/bench/decode_beside.py "$BUILD/test/bench/decode_model" "$work/run" "$work/m.gguf" "$THREADS" "$ROUNDS"
