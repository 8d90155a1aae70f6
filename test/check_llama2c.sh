#!/bin/sh
# check_llama2c.sh - `ckpt import --llama2c`: the story model of llama2.c goes on as its makers print it, token for token;
# both versions of the file are one model; what is no such file is refused.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
model=$SHARED/data/model-stories260K/stories260K.bin tok=$SHARED/data/model-stories260K/tok512.bin
there "$model" "$tok" || finish

expect 0 "imported from" "$BIN/ckpt" import --llama2c "$model" "$tok" --out "$work/a.ckpt"
expect 0 "ok" "$BIN/ckpt" verify --deep "$work/a.ckpt"

# what run.c prints at temperature 0, behind <s>
cat >"$work/rows" <<'ROW'
{"text":"Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\""}
ROW
list() { grep -o "\"$1\":\[[-0-9,]*\]" "$2" | tr -c '0-9\n' ' '; }
"$BIN/chat" --model "$work/a.ckpt" --logprobs "$work/rows" >"$work/first" 2>"$work/out"
echo "{\"tokens\":[1,$(list tokens "$work/first" | xargs | tr ' ' ',')]}" >"$work/rows"
"$BIN/chat" --model "$work/a.ckpt" --logprobs "$work/rows" >"$work/second" 2>"$work/out"
check "ids of 'Once upon a time': $(list tokens "$work/first")" [ "$(list tokens "$work/first" | xargs | cut -d' ' -f1-4)" = "403 407 261 378" ]
list argmax "$work/second" | xargs -n 1 | sed '$d' >"$work/says"
list tokens "$work/first" | xargs -n 1 >"$work/wanted"
check "the story is another one" cmp "$work/says" "$work/wanted"
check "the story is short" [ "$(wc -l <"$work/wanted")" -gt 100 ]

# version 1: another header, and the norms first.  Numbers of the pieces of version 0, in floats.
piece() { tail -c +$((29 + 4 * $1)) "$model" | head -c $((4 * $2)); }
{
    printf '24ka\001\000\000\000' && head -c 28 "$model" && printf '\001' && head -c 219 /dev/zero
    piece 32768 320 && piece 94528 320 && piece 259968 64 && piece 0 32768 && piece 33088 61440 && piece 94848 165120
} >"$work/v1.bin"
expect 0 "imported" "$BIN/ckpt" import --llama2c "$work/v1.bin" "$tok" --out "$work/b.ckpt"
expect 0 "0 of" "$BIN/ckpt" diff --tensors "$work/a.ckpt" "$work/b.ckpt"

refused() { expect "$@" --out "$work/no.ckpt"; [ ! -e "$work/no.ckpt" ] && ok || wrong "a file was written"; }
head -c 1000000 "$model" >"$work/cut"
refused 65 "it has 1000000 bytes (expected 1056540 by its header)" "$BIN/ckpt" import --llama2c "$work/cut" "$tok"
head -c 20 "$model" >"$work/cut"
refused 65 "too short" "$BIN/ckpt" import --llama2c "$work/cut" "$tok"
{ printf '\377\377\377\177' && tail -c +5 "$model"; } >"$work/cut"
refused 65 "number 1 of its header is 2147483647" "$BIN/ckpt" import --llama2c "$work/cut" "$tok"
{ printf '24ka\002\000\000\000' && tail -c +9 "$model"; } >"$work/cut"
refused 65 "version 2 (expected 0 or 1" "$BIN/ckpt" import --llama2c "$work/cut" "$tok"
head -c 5000 "$tok" >"$work/cut"
refused 65 "cut: token" "$BIN/ckpt" import --llama2c "$model" "$work/cut"
refused 65 "is not one of a tokenizer of llama2.c" "$BIN/ckpt" import --llama2c "$model" "$model"
refused 66 "nothing.bin" "$BIN/ckpt" import --llama2c "$work/nothing.bin" "$tok"
refused 64 "needs two files" "$BIN/ckpt" import --llama2c "$model"
refused 64 "--llama2c" "$BIN/ckpt" import "$model" "$tok"
finish
