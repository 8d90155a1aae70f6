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

# a tokenizer without <|endoftext|>: further pretraining takes what the folder names as the beginning of a text, or as its end
characters() {
    awk 'BEGIN {
        printf "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\",\"special\":true},"
        printf "{\"id\":2,\"content\":\"</s>\",\"special\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
        printf "{\"type\":\"Prepend\",\"prepend\":\"\342\226\201\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
        printf "\"content\":\"\342\226\201\"}]},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{"
        printf "\"<unk>\":0,\"<s>\":1,\"</s>\":2"
        for (i = 0; i < 256; i++) printf ",\"<0x%02X>\":%d", i, i + 3
        for (i = 0; i < 26; i++) printf ",\"%c\":%d", 97 + i, i + 259
        print ",\"\342\226\201\":285}}}"
    }'
}
# further NAME TOKEN ID STOPS FOLDER: trained two steps and saved, and still of the same token, and ends at the same ones
tokens_at=$(((192 + 24 + $(printf %s "$work/text.txt" | wc -c) + 63) / 64 * 64))
further() {
    expect 0 "documents begin with the token $2" "$BIN/ckpt" import "$5" --out "$work/$1.ckpt"
    expect 0 "done: 2 steps" "$BIN/pretrain" --model "$work/$1.ckpt" --data "$work/text.txt" $few --batch-tokens 128 --micro-tokens 128 \
        --out "$work/$1-more"
    check "$1: its documents do not begin with id $3" [ "$(od -An -tu2 -N2 -j "$tokens_at" "$work/$1-more/shards/"*.shard)" -eq "$3" ]
    expect 0 "document    $2" "$BIN/ckpt" tokenizer "$work/$1-more"
    expect 0 "stops       [$4]" "$BIN/ckpt" tokenizer "$work/$1-more"
}
cp -r "$work/llama-hf" "$work/bos-hf"
characters >"$work/bos-hf/tokenizer.json"
sed 's/"bos_token": "[^"]*"/"bos_token": "<s>"/; s/"eos_token": "[^"]*"/"eos_token": {"content": "<\/s>"}/' \
    "$work/llama-hf/tokenizer_config.json" >"$work/bos-hf/tokenizer_config.json"
cp -r "$work/bos-hf" "$work/eos-hf"
cp -r "$work/bos-hf" "$work/ids-hf"
sed 's/"bos_token": "[^"]*"/"bos_token": null/' "$work/bos-hf/tokenizer_config.json" >"$work/eos-hf/tokenizer_config.json"
sed 's/"bos_token_id": [0-9]*/"bos_token_id": null/' "$work/llama-hf/config.json" >"$work/eos-hf/config.json"
rm "$work/ids-hf/tokenizer_config.json"
sed 's/"bos_token_id": [0-9]*/"bos_token_id": 1/' "$work/llama-hf/config.json" >"$work/ids-hf/config.json"
printf '{"eos_token_id": [2, 300, -1, "x", null, 2]}' >"$work/ids-hf/generation_config.json"
further bos "<s>" 1 "</s>, <s>" "$work/bos-hf"
further eos "</s>" 2 "</s>" "$work/eos-hf"
further ids "<s>" 1 "</s>, <s>" "$work/ids-hf"
expect 0 "" "$BIN/ckpt" export "$work/bos-more" --gguf "$work/bos.gguf"
check "nothing is said about the form of text that is left alone" sh -c "! grep -q 'brings text' '$work/out'"
cp -r "$work/bos-hf" "$work/nfc-hf"
characters | sed 's/"normalizers":\[/&{"type":"NFC"},/' >"$work/nfc-hf/tokenizer.json"
expect 0 "" "$BIN/ckpt" import "$work/nfc-hf" --out "$work/nfc.ckpt"
expect 0 "the tokenizer brings text into NFC, which llama.cpp does not do" "$BIN/ckpt" export "$work/nfc.ckpt" --gguf "$work/nfc.gguf"
further gguf "<s>" 1 "</s>, <s>" "$work/bos.gguf"
expect 0 "" "$BIN/ckpt" export "$work/bos-more" --hf "$work/back-hf"
further back "<s>" 1 "</s>, <s>" "$work/back-hf"
sed 's/"\([be]os_token_id\)": [0-9]*/"\1": null/' "$work/llama-hf/config.json" >"$work/ids-hf/config.json"
expect 0 "" "$BIN/ckpt" import "$work/ids-hf" --out "$work/none.ckpt"
expect 78 "the tokenizer has no token <|endoftext|>, which separates documents, and no other" "$BIN/pretrain" --model "$work/none.ckpt" \
    --data "$work/text.txt" $few --out "$work/none-more"

variant window mistral 's/"sliding_window": null/"sliding_window": 5/'
variant alibi falcon 's/"alibi": false/"alibi": true/'
variant linear llama "$(scaling linear '"factor": 2')"
variant llama3 llama "$(scaling llama3 "\"factor\": 4, \"low_freq_factor\": 1, \"high_freq_factor\": 4, $bands")"
variant yarn llama "$(scaling yarn "\"factor\": 4, $bands")"
variant dynamic llama "$(scaling dynamic '"factor": 2')"

finish
