#!/bin/sh
# check_stories.sh - a model that others trained, as a checkpoint (tool_stories.c), through the programs: its loss on stories is near the
# published one, text of another kind surprises it, and chat goes on with a story as its makers print it.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
data=$SHARED/data
there "$data/model-stories260K/stories260K.bin" "$data/pretrain-tinystories/tinystories_944k.txt" || finish
model=$work/stories.ckpt
# loss FILE: nats a token
loss() { "$BIN/pretrain" --model "$model" --data "$1" --eval-only 2>"$work/out" | sed -n 's/^loss \([0-9.]*\) .*/\1/p'; }
near() { awk -v x="$1" -v y="$2" 'BEGIN { exit !(x > y - 0.02 && x < y + 0.02) }'; }

check "conversion" "$BUILD/test/tool_stories" "$data/model-stories260K/stories260K.bin" \
    "$data/model-stories260K/tok512.bin" "$work" stories.ckpt
expect 0 "ok" "$BIN/ckpt" verify --deep "$model"

# Published: 1.297 on the validation stories.  These few are plain ones; the whole file has blank lines and garbled quotation marks,
# which the model never saw.
head -n 40 "$data/pretrain-tinystories/tinystories_944k.txt" | grep -v '^$' >"$work/plain.txt"
few=$(loss "$work/plain.txt") all=$(loss "$data/pretrain-tinystories/tinystories_944k.txt")
check "loss on plain stories is '$few', expected 1.367" near "${few:-0}" 1.367
check "loss on the file of stories is '$all', expected 1.743" near "${all:-0}" 1.743
for i in 1 2 3 4 5 6 7 8; do
    echo "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the slings of fortune."
done >"$work/other.txt"
other=$(loss "$work/other.txt")
check "loss on another text is '$other', expected above that on stories" below "${all:-9}" "${other:-0}"

expect 0 " girl named Lily. She loved to play outside in the park." "$BIN/chat" --model "$model" --temperature 0 --max-new-tokens 40 \
    --prompt " Once upon a time, there was a little"

finish
