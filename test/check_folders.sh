#!/bin/sh
# check_folders.sh - a Hugging Face folder or a GGUF file in place of a checkpoint: every program computes from it what it
# computes from the checkpoint that `ckpt import` writes, and `ckpt` looks into it.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
sh test/small_data.sh "$work"
size="--preset llama --layers 2 --channels 32 --context 64"
tiny="--batch-tokens 256 --micro-tokens 256 --validation 0"
sft="--data $work/chats.jsonl --validation 0 --batch-tokens 256"
crc() { "$BIN/ckpt" hash "$1" | sed -n 's/^weights_crc32 *//p'; }
same() { [ -n "$1" ] && [ "$1" = "$2" ]; }
ids() { "$BIN/ckpt" "$1" "$2" | grep -o 'imported .*step 0 .*' | tr -s ' ' | cut -d' ' -f7; }

expect 0 "done: 4 steps" "$BIN/pretrain" --data "$work/text.txt" $size --vocab-size 300 $tiny --steps 4 --out "$work/base"
expect 0 "" "$BIN/ckpt" export "$work/base" --hf "$work/hf"
expect 0 "" "$BIN/ckpt" export "$work/base" --hf "$work/shards" --shard 20K
expect 0 "" "$BIN/ckpt" export "$work/base" --gguf "$work/base.gguf"
expect 0 "" "$BIN/ckpt" import "$work/hf" --out "$work/base.ckpt"

# ---- programs: the same weights, the same parent in the lineage ----

expect 0 "starts from" "$BIN/sft" --model "$work/base.ckpt" $sft --steps 4 --out "$work/sft"
for m in hf shards base.gguf; do
    expect 0 "imported as it is read" "$BIN/sft" --model "$work/$m" $sft --steps 4 --out "$work/sft-$m"
    check "sft from $m has other weights" same "$(crc "$work/sft-$m")" "$(crc "$work/sft")"
    check "sft from $m has another parent" same "$(ids lineage "$work/sft-$m")" "$(ids lineage "$work/sft")"
done
expect 0 "imported as it is read" "$BIN/pretrain" --model "$work/hf" --data "$work/text.txt" $tiny --steps 2 --out "$work/more-hf"
expect 0 "" "$BIN/pretrain" --model "$work/base.ckpt" --data "$work/text.txt" $tiny --steps 2 --out "$work/more"
check "pretrain from a folder has other weights" same "$(crc "$work/more-hf")" "$(crc "$work/more")"
expect 0 "" "$BIN/pretrain" --tokenizer "$work/base.gguf" --data "$work/text.txt" $size $tiny --steps 1 --out "$work/tok"
check "a tokenizer from GGUF" same "$("$BIN/ckpt" tokenizer "$work/tok" | grep crc)" "$("$BIN/ckpt" tokenizer "$work/base" | grep crc)"

# two sources, and what was said in the log of the run
expect 0 "" "$BIN/ckpt" export "$work/sft" --hf "$work/sft-folder"
expect 0 "imported as it is read" "$BIN/rm" --model "$work/sft-folder" --data "$work/ranked.jsonl" --validation 0 --steps 3 --out "$work/rm"
check "the log does not say what was imported" grep -q "sft-folder: Hugging Face folder, imported" "$work/rm/log.txt"
expect 0 "" "$BIN/ckpt" export "$work/rm" --hf "$work/rm-folder"
rlhf="--prompts $work/chats.jsonl --steps 2 --episodes 8 --max-new-tokens 8"
expect 0 "rm-folder: Hugging Face folder, imported" "$BIN/rlhf" --policy "$work/sft-folder" --reward "$work/rm-folder" $rlhf --out "$work/rlhf"
expect 0 "" "$BIN/ckpt" verify "$work/rlhf"
expect 78 "is a checkpoint of stage rm" "$BIN/sft" --model "$work/rm-folder" $sft --steps 1 --out "$work/x1"
expect 78 "is a checkpoint of stage imported, expected rm" "$BIN/rlhf" --policy "$work/sft-folder" --reward "$work/sft-folder" $rlhf --out "$work/x2"

# chat: the same log-probabilities
printf '{"text":"The cat number 7 sees a dog."}\n' >"$work/rows.jsonl"
for m in base.ckpt hf base.gguf; do "$BIN/chat" --model "$work/$m" --logprobs "$work/rows.jsonl" >"$work/said-$m" 2>/dev/null; done
check "chat from a folder" cmp -s "$work/said-hf" "$work/said-base.ckpt"
check "chat from a GGUF file" cmp -s "$work/said-base.gguf" "$work/said-base.ckpt"
check "chat said nothing" [ -s "$work/said-hf" ]

# ---- resuming: from the same weights, wherever they lie now; not from others ----

expect 0 "" "$BIN/sft" --model "$work/hf" $sft --steps 2 --schedule constant --save-every 2 --out "$work/part"
mv "$work/hf" "$work/moved"
expect 0 "resumes from step 2" "$BIN/sft" --model "$work/moved" $sft --steps 4 --schedule constant --out "$work/part"
expect 0 "" "$BIN/sft" --model "$work/base.ckpt" $sft --steps 4 --schedule constant --out "$work/whole"
check "a resumed run has other weights" same "$(crc "$work/part")" "$(crc "$work/whole")"
expect 78 "--model" "$BIN/sft" --model "$work/sft-folder" $sft --steps 6 --schedule constant --out "$work/part"
mv "$work/moved" "$work/hf"

# ---- ckpt: what is in them ----

for m in hf shards base.gguf hf/model.safetensors; do
    for command in info tensors stats verify hash; do expect 0 "" "$BIN/ckpt" $command "$work/$m"; done
    expect 0 "ok (" "$BIN/ckpt" verify "$work/$m"
done
expect 0 "Hugging Face folder" "$BIN/ckpt" info "$work/hf"
expect 0 "blk.1.ffn_down.weight" "$BIN/ckpt" tensors "$work/hf"
expect 0 "model.layers.1.mlp.down_proj.weight" "$BIN/ckpt" tensors "$work/hf/model.safetensors"
for pair in "hf base.gguf" "shards hf" "base.ckpt base.gguf"; do
    "$BIN/ckpt" diff --tensors "$work/${pair% *}" "$work/${pair#* }" >"$work/out" 2>&1
    check "diff of $pair" grep -q ' 0 of [0-9]* tensors differ, 0 only in A, 0 only in B; same weights_id' "$work/out"
done
expect 1 "tensors differ" "$BIN/ckpt" diff --tensors "$work/hf" "$work/sft-folder"
check "identity of an import" same "$("$BIN/ckpt" hash "$work/hf" | head -n 1)" "$("$BIN/ckpt" hash "$work/base.ckpt" | head -n 1)"
expect 0 "" "$BIN/ckpt" export "$work/hf" --gguf "$work/again.gguf"
expect 0 "0 of" "$BIN/ckpt" diff --tensors "$work/again.gguf" "$work/base.gguf"
expect 64 "ckpt import" "$BIN/ckpt" strip "$work/hf" "$work/x.ckpt"

# ---- refused, before anything is learnt ----

bad() { rm -rf "$work/bad"; cp -r "$work/$1" "$work/bad"; }
bad hf; head -c 20000 "$work/hf/model.safetensors" >"$work/bad/model.safetensors"
expect 65 "bad/model.safetensors: tensor" "$BIN/sft" --model "$work/bad/" $sft --steps 1 --out "$work/x3"
expect 65 "bad/model.safetensors: tensor" "$BIN/ckpt" verify "$work/bad"
bad hf; sed -i 's/"model_type": "llama"/"model_type": "walrus"/' "$work/bad/config.json"
expect 65 "not a model that can be imported (65); its files are sound (20 tensors" "$BIN/ckpt" verify "$work/bad"
check "verify does not say why" grep -q "model_type walrus" "$work/out"
bad shards; rm "$work/bad/model-00002-of-"*
expect 66 "bad/model-00002-of-" "$BIN/chat" --model "$work/bad" --prompt x
bad shards; head -c 9000 "$work/shards/model-00002-of-"* >"$work/cut" && mv "$work/cut" "$(ls "$work/bad/model-00002-of-"*)"
expect 65 "bad/model-00002-of-" "$BIN/ckpt" import "$work/bad" --out "$work/x.ckpt"
bad shards; last=$(ls "$work/bad" | grep '^model-.*-of-.*safetensors$' | tail -n 1)       # it holds several tensors
cp "$work/bad/$last" "$work/bad/more.safetensors"
sed -i "0,/$last/s//more.safetensors/" "$work/bad/model.safetensors.index.json"
expect 65 "is there twice" "$BIN/ckpt" import "$work/bad" --out "$work/x.ckpt"
bad hf; cp "$work/sft-folder/tokenizer.json" "$work/bad/"
expect 65 "the tokenizer has 304 ids, the embedding only 300" "$BIN/ckpt" import "$work/bad" --out "$work/x.ckpt"
check "a refused import left a file" [ ! -e "$work/x.ckpt" ]
bad hf; sed -i 's/"vocab_size": *[0-9]*/"vocab_size": 7/' "$work/bad/config.json"
expect 65 "model.embed_tokens.weight" "$BIN/rlhf" --policy "$work/bad" --reward "$work/rm" $rlhf --out "$work/x4"
bad hf; rm "$work/bad/tokenizer.json"
expect 65 "holds no tokenizer" "$BIN/sft" --model "$work/bad" $sft --steps 1 --out "$work/x5"
head -c 3000 "$work/base.gguf" >"$work/cut.gguf"
expect 65 "cut.gguf" "$BIN/chat" --model "$work/cut.gguf" --prompt x
mkfifo "$work/pipe"
expect 65 "not a regular file" timeout 5 "$BIN/ckpt" import "$work/pipe" --out "$work/x.ckpt"
expect 65 "not a regular file" timeout 5 "$BIN/chat" --model "$work/pipe" --prompt x
expect 64 "give the folder" "$BIN/sft" --model "$work/hf/model.safetensors" $sft --steps 1 --out "$work/x6"
[ -z "$(find "$work"/x? -name '*.ckpt' 2>/dev/null)" ] && ok || wrong "a refused run left a checkpoint"

finish
