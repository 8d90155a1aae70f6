#!/bin/sh
# check_tokenizers.sh - tokenizers of others through the programs; and their ids against the real packages `tokenizers` and
# `sentencepiece`, which is skipped where PYTHON (python3) has no tokenizers.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${PYTHON:=python3}"
[ -d "$SHARED/golden/tokenizers" ] || skip "no golden tokenizers"
dir=$work
check() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "check_tokenizers: $2"; fi; }
quiet() { "$@" >"$dir/log" 2>&1 || { cat "$dir/log"; failed=$((failed + 1)); finish; }; }

# a tokenizer.model, the tokenizer.json of the same vocabulary, and what export makes of them: the same tokens, and numbers
model=$SHARED/golden/tokenizers/made-spm/tokenizer.model json=$SHARED/golden/tokenizers/made-llama2/tokenizer.json
for i in 1 2 3 4 5 6 7 8 9; do echo "The quick  brown fox no. $i says  \"caf\303\251\" 12345 times\tand\n goes home."; done >"$dir/text.txt"
printf '{"text":"The quick  brown fox"}\n{"text":" caf\\u00e9 \\u4e2d 7\\n\\tx \\u2581 y"}\n' >"$dir/rows.jsonl"
logprobs() { "$BIN/chat" --model "$1" --logprobs "$dir/rows.jsonl"; }
for name in model json; do
    eval path=\$$name
    quiet "$BIN/pretrain" --data "$dir/text.txt" --tokenizer "$path" --preset llama --layers 1 --channels 32 --context 64 --steps 2 \
        --batch-tokens 128 --micro-tokens 128 --validation 0 --out "$dir/$name"
    quiet "$BIN/ckpt" export "$dir/$name" --gguf "$dir/$name.gguf"
    quiet "$BIN/ckpt" import "$dir/$name.gguf" --out "$dir/$name-gguf.ckpt"
    quiet "$BIN/ckpt" export "$dir/$name" --hf "$dir/$name-hf"
    quiet "$BIN/ckpt" import "$dir/$name-hf" --out "$dir/$name-hf.ckpt"
    logprobs "$dir/$name" >"$dir/$name.said"
    for other in gguf hf; do
        logprobs "$dir/$name-$other.ckpt" >"$dir/$name-$other.said"
        cmp -s "$dir/$name.said" "$dir/$name-$other.said"
        check $? "tokenizer.$name through $other: other tokens or numbers"
    done
done
cmp -s "$dir/model.said" "$dir/json.said"
check $? "tokenizer.model and tokenizer.json of one vocabulary give other tokens"
rm "$dir/model-hf/tokenizer.json"
cp "$model" "$dir/model-hf/tokenizer.model"
quiet "$BIN/ckpt" import "$dir/model-hf" --out "$dir/folder.ckpt"
logprobs "$dir/folder.ckpt" | cmp -s - "$dir/model.said"
check $? "a folder with tokenizer.model gives other tokens"

# agree SCRIPT TOOL: what it counted
agree() {
    "$PYTHON" "test/$1" "$dir" "$BUILD/test/$2" >"$dir/agree"
    sed '$d' "$dir/agree"
    line=$(tail -n 1 "$dir/agree")
    p=$(echo "$line" | sed -n 's/^check_[a-z]*: \([0-9]*\) passed.*/\1/p')
    f=$(echo "$line" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$line" | sed -n 's/.* \([0-9]*\) skipped$/\1/p')
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1})) skipped=$((skipped + ${s:-0}))
}
python_has tokenizers
agree tokenizers_agree.py tool_tokens

# dialogues by published chat templates: the ids of transformers, with a tokenizer of bytes and with one of characters
python_has transformers
rm -rf "$dir"/*-hf
sh test/small_data.sh "$dir"
small="--preset llama --layers 1 --channels 32 --context 128 --steps 2 --batch-tokens 512 --micro-tokens 512 --validation 0"
quiet "$BIN/pretrain" --data "$dir/text.txt" $small --vocab-size 400 --out "$dir/bytes"
quiet "$BIN/pretrain" --data "$dir/text.txt" $small --tokenizer "$json" --out "$dir/characters"
for name in mistral zephyr gemma qwen3 glm4 chatml mistral-characters zephyr-characters chatml-characters; do
    base=bytes
    case $name in *-characters) base=characters ;; esac
    quiet "$BIN/sft" --model "$dir/$base" --data "$dir/chats.jsonl" --template "${name%-*}" --steps 2 --validation 0 --out "$dir/$name"
    quiet "$BIN/ckpt" export "$dir/$name" --hf "$dir/$name-hf"
done
agree templates_agree.py tool_chat
finish
