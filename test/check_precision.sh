#!/bin/sh
# check_precision.sh - checkpoints of the float32 and the bfloat16 build are the same kind of file: one goes on with the
# other's.  Runs in the bfloat16 build, beside a float32 one.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
one="only make PRECISION=bf16 test, with the programs of both builds there, compares them"
case $BUILD in *-bf16) ;; *) skip "$one" ;; esac
[ -x bin/pretrain ] || skip "$one"
expect 0 "cpu, bfloat16" "$BIN/pretrain" --version
expect 0 "cpu, float32" bin/pretrain --version
QUARTET_TILE=widened expect 0 "widened to float32" "$BIN/chat" --version

seq 1 900 | awk '{ print "The number " $1 " has the remainder " $1 % 7 " by seven.\n<|endoftext|>" }' >"$work/text.txt"
options="--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 64 --batch-tokens 512 --lr 1e-2 --threads 2"
for first in bin "$BIN"; do
    then=$BIN
    [ "$first" = "$BIN" ] && then=bin
    run=$work/$(basename "$first")
    expect 0 "done: 20 steps" "$first/pretrain" $options --steps 20 --out "$run"
    expect 0 "resumes from step 20" "$then/pretrain" $options --steps 40 --out "$run"
    expect 0 "ok" "$then/ckpt" verify "$run"
    "$then/ckpt" tensors "$run/final.ckpt" | awk '{ print $1, $2, $3, $4 }' | grep -v '^0x' >"$run.tensors"
    for b in bin "$BIN"; do
        expect 0 "bits per byte" "$b/pretrain" --eval-only --model "$run/final.ckpt" --data "$work/text.txt"
        grep -o 'bits per byte [0-9.]*' "$work/out" | cut -d' ' -f4 >"$run.$(basename "$b")"
    done
    check "both builds read the same model" awk -v a="$(cat "$run.bin")" -v b="$(cat "$run.$(basename "$BIN")")" \
        'BEGIN { exit !(a > 0 && b > 0 && (a - b) / a < 0.01 && (b - a) / a < 0.01) }'
done
check "tensors have the same names, types and shapes" cmp -s "$work/bin.tensors" "$work/$(basename "$BIN").tensors"

# --stochastic-rounding: threads change no bit, nor does a stop; nearest has other bits; float32 has nothing to round
small="--data $work/text.txt --vocab-size 300 --layers 1 --channels 32 --heads 2 --context 64 --batch-tokens 512 --save-every 3 --lr 1e-2 --schedule constant --warmup 0"
random="$small --stochastic-rounding"
bits() { "$BIN/ckpt" diff --tensors "$work/$1" "$work/$2" >"$work/out" 2>&1; }
expect 64 "this build computes in float32" bin/pretrain $random --steps 6 --out "$work/no"
expect 0 "done: 6 steps" "$BIN/pretrain" $random --steps 6 --threads 1 --out "$work/r1"
expect 0 "done: 3 steps" "$BIN/pretrain" $random --steps 3 --threads 3 --out "$work/r3"
expect 78 "--stochastic-rounding is false now, but the run was started with true" "$BIN/pretrain" $small --steps 6 --out "$work/r3"
expect 0 "resumes from step 3" "$BIN/pretrain" $random --steps 6 --threads 2 --out "$work/r3"
expect 0 "done: 6 steps" "$BIN/pretrain" $small --steps 6 --threads 1 --out "$work/nearest"
check "a stopped run, on other threads, has the bits of one that was not" bits r1 r3
if bits r1 nearest; then wrong "rounding at random has the bits of rounding to nearest"; else ok; fi

finish
