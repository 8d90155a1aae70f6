#!/bin/sh
# check_families.sh - sft, rm and rlhf train a model of every family that was imported from another system's folder.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
sh test/small_data.sh "$work"
tiny="--layers 2 --channels 32 --heads 4 --context 64 --vocab-size 300 --steps 1 --batch-tokens 256 --micro-tokens 256 --validation 0"
few="--steps 2 --validation 0"

# train NAME FOLDER: the stages after pretraining, from a folder
train() {
    expect 0 "" "$BIN/ckpt" import "$2" --out "$work/$1.ckpt"
    expect 0 "" "$BIN/sft" --model "$work/$1.ckpt" --data "$work/chats.jsonl" $few --out "$work/$1-sft"
    expect 0 "" "$BIN/rm" --model "$work/$1-sft" --data "$work/ranked.jsonl" $few --out "$work/$1-rm"
    expect 0 "" "$BIN/rlhf" --policy "$work/$1-sft" --reward "$work/$1-rm" --prompts "$work/chats.jsonl" --steps 1 --episodes 4 \
        --max-new-tokens 6 --validation 0 --out "$work/$1-rlhf"
    check "$1: rlhf saved no model" sh -c "$BIN/ckpt verify $work/$1-rlhf >$work/out"
}

for preset in gpt2 opt opt-350m bloom falcon falcon-40b gptj gpt_neox codegen phi llama mistral qwen2 qwen3 glm4 glm baichuan; do
    [ $preset = falcon-40b ] && own="--kv-heads 2 --ffn 64" || own=
    expect 0 "" "$BIN/pretrain" --data "$work/text.txt" --preset $preset $tiny $own --out "$work/$preset-base"
    expect 0 "" "$BIN/ckpt" export "$work/$preset-base" --hf "$work/$preset-hf"
    train $preset "$work/$preset-hf"
done

# variant NAME OF SED: another config.json
variant() {
    cp -r "$work/$2-hf" "$work/$1-hf"
    sed "$3" "$work/$2-hf/config.json" >"$work/$1-hf/config.json"
    check "$1: config.json is as it was" sh -c "! cmp -s $work/$1-hf/config.json $work/$2-hf/config.json"
    train "$1" "$work/$1-hf"
}
scaling() { echo "s/\"rope_type\": \"default\"/\"rope_type\": \"$1\", $2/"; }
bands='"original_max_position_embeddings": 16'
variant window mistral 's/"sliding_window": null/"sliding_window": 5/'
variant alibi falcon 's/"alibi": false/"alibi": true/'
variant linear llama "$(scaling linear '"factor": 2')"
variant llama3 llama "$(scaling llama3 "\"factor\": 4, \"low_freq_factor\": 1, \"high_freq_factor\": 4, $bands")"
variant yarn llama "$(scaling yarn "\"factor\": 4, $bands")"
variant dynamic llama "$(scaling dynamic '"factor": 2')"

echo "check_families: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
