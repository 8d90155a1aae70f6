#!/bin/sh
# e2e_chat.sh - chat with models that were really trained: three sentences by heart (pretrain), three questions about them (sft).
# A model that has learnt them by heart says exactly them, so every link from text to weights to text is checked.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh

check() {          # check NAME EXPECTED FOUND
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "$1: expected '$2', found '$3'"; fi
    [ "$2" = "$3" ]
}
greedy() { model=$1; shift; "$BIN/chat" --model "$work/$model" --temperature 0 "$@" 2>&1; }

fox='Over the hill.' bird='In the tree.' cat='Near the fire.'
for i in 1 2 3 4 5 6 7 8 9 10; do
    printf 'The red fox runs over the green hill.\n<|endoftext|>\nA small bird sings in the old tree.\n<|endoftext|>\n'
    printf 'My quiet cat sleeps near the warm fire.\n<|endoftext|>\n'
done >"$work/text.txt"
turn() { printf '{"role":"user","content":"Where is the %s?"},{"role":"assistant","content":"%s"}' "$1" "$2"; }
for i in 1 2 3 4 5 6 7 8 9 10; do
    printf '{"messages":[%s,%s]}\n' "$(turn fox "$fox")" "$(turn bird "$bird")" "$(turn bird "$bird")" "$(turn cat "$cat")" \
           "$(turn cat "$cat")" "$(turn fox "$fox")" "$(turn fox "$fox")" "$(turn cat "$cat")"
done >"$work/chats.jsonl"

"$BIN/pretrain" --data "$work/text.txt" --out "$work/base" --vocab-size 300 --layers 2 --channels 64 --heads 2 --context 128 \
    --batch-tokens 512 --micro-tokens 512 --steps 150 --lr 3e-3 --validation 0 >"$work/log" 2>&1
check "pretrain" 0 $? || cat "$work/log"
"$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" --out "$work/sft" --steps 120 --batch-tokens 1024 --micro-tokens 1024 \
    --lr 3e-3 --validation 0 >"$work/log" 2>&1
check "sft" 0 $? || cat "$work/log"

check "base, fox" " fox runs over the green hill." "$(greedy base --prompt 'The red')"
check "base, bird" " bird sings in the old tree." "$(greedy base --prompt 'A small')"
check "base, cat" " quiet cat sleeps near the warm fire." "$(greedy base --prompt 'My')"
check "sft, cat" "$cat" "$(greedy sft --prompt 'Where is the cat?')"
check "sft, dialogue" "$bird $cat $fox" \
    "$(printf 'Where is the bird?\nWhere is the cat?\n/reset\nWhere is the fox?\n' | greedy sft | tr '\n' ' ' | sed 's/ $//')"
check "long sft dialogue" "12" "$(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo 'Where is the fox?'; done | greedy sft | grep -c '\.$')"
check "threads" "$(greedy sft --temperature 2 --prompt Who --threads 1)" "$(greedy sft --temperature 2 --prompt Who --threads 3)"

finish
