#!/bin/sh
# check_llamacpp.sh - llama.cpp itself loads the GGUF files that `ckpt export` writes and gives the same answers and tokens;
# skipped where PYTHON (python3) has no xllamacpp, a build of llama.cpp on PyPI.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${PYTHON:=python3}"
python_has xllamacpp
dir=$work
sh test/small_data.sh "$dir"
tiny="--layers 2 --channels 32 --context 128 --vocab-size 400 --lr 3e-3 --steps 30 --batch-tokens 512 --micro-tokens 512 --validation 0"
quiet() { "$@" >"$dir/out" 2>&1 || { wrong "$*"; finish; }; }
printf '{"prompt":"Who sees 3?"}\n{"prompt":"The cat"}\n{"prompt":"river 5"}\n' >"$dir/prompts.jsonl"
names=
# written NAME MODEL TYPE: its GGUF file, and what our own chat answers from that file
written() {
    quiet "$BIN/ckpt" export "$2" --gguf "$dir/$1.gguf" --type "$3"
    "$BIN/chat" --model "$dir/$1.gguf" --prompts "$dir/prompts.jsonl" --temperature 0 --max-new-tokens 12 >"$dir/answers" 2>"$dir/out" || { wrong chat; finish; }
    { printf '{"chats": ['; paste -sd, "$dir/answers"; printf ']}'; } >"$dir/$1.json"
    names="$names $1"
}
for family in llama gpt2; do
    quiet "$BIN/pretrain" --data "$dir/text.txt" --preset $family $tiny --out "$dir/$family-base"
    quiet "$BIN/sft" --model "$dir/$family-base" --data "$dir/chats.jsonl" --template chatml --steps 30 --lr 3e-3 --validation 0 --out "$dir/$family-sft"
    for type in f32 f16 bf16 q8_0; do written $family-$type "$dir/$family-sft" $type; done
done
quiet "$BIN/ckpt" export "$dir/llama-sft" --hf "$dir/hf"
scaled() {
    cp -r "$dir/hf" "$dir/hf-$1"
    sed "s/\"rope_type\": \"default\"/\"rope_type\": \"$1\", $2/" "$dir/hf/config.json" >"$dir/hf-$1/config.json"
    written $1 "$dir/hf-$1" f32
}
scaled linear '"factor": 2.0'
scaled yarn '"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.3'
scaled llama3 '"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 100'

# models of other systems, of every architecture that is written, without their tokenizers: the tokens of their own software
for case in "$SHARED"/golden/*/golden.json; do
    from=$(dirname "$case") name=$(basename "$(dirname "$case")")
    rm -rf "$dir/m"; mkdir "$dir/m"
    cp "$from"/config.json "$from"/model*.safetensors* "$dir/m" 2>/dev/null || continue
    "$BIN/ckpt" import "$dir/m" --out "$dir/g.ckpt" >/dev/null 2>&1 && "$BIN/ckpt" export "$dir/g.ckpt" --gguf "$dir/$name.gguf" >/dev/null 2>&1 || continue
    sed '1s/{/{"unnamed": true, "margin": 0.02,/' "$case" >"$dir/$name.json"
    names="$names $name"
done
timeout 300 "$PYTHON" test/llamacpp_agree.py "$dir" $names
