#!/bin/sh
# check_amx.sh - the four programs with the tiles of Intel AMX (make PRECISION=bf16 test-amx): which inner loop is chosen, and
# that threads, batches and decoding change no bit.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
case $BUILD in */amx) ;; *) skip "only make PRECISION=bf16 test-amx has programs for it" ;; esac
expect 0 "cpu, bfloat16 (AMX)" "$BIN/chat" --version
QUARTET_TILE=widened expect 0 "cpu, bfloat16 (widened to float32)" "$BIN/chat" --version
usual() { "$BIN/chat" --version | grep -qE "bfloat16 \((AVX512-BF16|widened to float32)\)"; }
AMX_REFUSED=1 check "a system that refuses the tiles has the loop below" usual
QUARTET_TILE=dots check "the loop below can be asked for" usual

sh test/small_data.sh "$work"
small="--batch-tokens 512 --micro-tokens 256 --lr 1e-3 --seed 3"
chain() {           # chain FOLDER THREADS
    expect 0 "done" "$BIN/pretrain" --data "$work/text.txt" --vocab-size 300 --preset llama --layers 2 --channels 40 --heads 2 --ffn 72 \
        --context 64 --steps 8 $small --threads "$2" --out "$1/base"
    expect 0 "done" "$BIN/sft" --model "$1/base" --data "$work/chats.jsonl" --steps 6 $small --threads "$2" --out "$1/sft"
    expect 0 "done" "$BIN/rm" --model "$1/sft" --data "$work/ranked.jsonl" --steps 4 $small --threads "$2" --out "$1/rm"
    expect 0 "ratio 1, and KL to the reference 0, to the last bit" "$BIN/rlhf" --policy "$1/sft" --reward "$1/rm" --prompts "$work/chats.jsonl" \
        --steps 3 --episodes 16 --minibatches 2 --max-new-tokens 12 --micro-tokens 256 --lr 1e-3 --seed 3 --threads "$2" --out "$1/rlhf"
}
mkdir "$work/one" "$work/three"
chain "$work/one" 1
chain "$work/three" 3
for run in base sft rm rlhf; do
    check "$run has the same bits on three threads" "$BIN/ckpt" diff --tensors "$work/one/$run/final.ckpt" "$work/three/$run/final.ckpt"
done

finish
