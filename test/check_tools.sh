#!/bin/sh
# check_tools.sh - other builds and other eyes, with FULL=1: ThreadSanitizer on the pool, a model and a training run; valgrind on a tiny
# run of each program; builds without this machine's vectors.  Each build has its own folder below build/.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
[ -n "$FULL" ] || skip "other builds and valgrind are for make test-full"
quiet() { "$@" >"$work/out" 2>&1; }
build() { quiet make -j2 "$@"; }

# the programs on tiny data: run TOOL BIN FOLDER
sh test/small_data.sh "$work"
run() {
    tool=$1 bin=$2 out=$3
    few="--batch-tokens 128 --micro-tokens 128 --steps 2 --threads 3"
    check "$tool, pretrain" quiet $tool "$bin/pretrain" --data "$work/text.txt" --vocab-size 300 --layers 1 \
        --channels 32 --heads 2 --ffn 64 \
        --context 96 $few --out "$out/base"
    check "$tool, sft" quiet $tool "$bin/sft" --model "$out/base" --data "$work/chats.jsonl" $few --out "$out/sft"
    check "$tool, rm" quiet $tool "$bin/rm" --model "$out/sft" --data "$work/ranked.jsonl" $few --out "$out/rm"
    check "$tool, rlhf" quiet $tool "$bin/rlhf" --policy "$out/sft" --reward "$out/rm" --prompts "$work/chats.jsonl" \
        --steps 2 --episodes 8 \
        --minibatches 2 --max-new-tokens 8 --micro-tokens 128 --threads 3 --out "$out/rlhf"
    check "$tool, chat" quiet $tool "$bin/chat" --model "$out/rlhf" --prompt "Who sees 3?" --max-new-tokens 8
    check "$tool, ckpt" quiet $tool "$bin/ckpt" verify --deep "$out/rlhf"
}

units() { for t in threads matmul attention model train; do echo "$1/test/test_$t"; done; }

if build SAN=tsan all $(units build/cpu-tsan); then
    for t in $(units build/cpu-tsan); do check "ThreadSanitizer, $t" quiet "$t"; done
    run "" build/cpu-tsan/bin "$work/tsan"
else wrong "the ThreadSanitizer build"; fi

# valgrind knows no AVX-512
if command -v valgrind >/dev/null && [ "$(uname -m)" = x86_64 ]; then
    if build ARCH=x86-64-v3 BUILD=build/cpu-v3 BIN=build/cpu-v3/bin all $(units build/cpu-v3); then
        for t in $(units build/cpu-v3); do check "x86-64-v3, $t" quiet "$t"; done
        run "valgrind -q --error-exitcode=9 --leak-check=no" build/cpu-v3/bin "$work/valgrind"
    else wrong "the build for x86-64-v3"; fi
else omit "valgrind is not here"; fi

if build ARCH= BUILD=build/cpu-any BIN=build/cpu-any/bin all $(units build/cpu-any); then
    for t in $(units build/cpu-any); do check "any machine, $t" quiet "$t"; done
else wrong "the build for any machine"; fi
finish
