#!/bin/sh
# check_rank_faults.sh - one of several ranks dies, hangs, is stopped or late, computes nonsense or has no disk, at every place of a run: the others end within
# seconds, nobody is left, the right rank is named, and the same command goes on, with another number of ranks, to the bits of a
# run that nothing befell.  FULL=1: every fault at every place on rank 0 and another, and every call of a save; else a few of them.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
case $BUILD in *-*san*) skip "under a sanitizer: the ranks are built without" ;; esac
. test/mpi.sh
faulty=$PWD/$build/test/faulty
build_ranks "$build/bin" "$build/test/faulty/pretrain" "$build/test/faulty/rlhf"
sh test/small_data.sh "$work"

pretrain="--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 32 --schedule constant --slices 6
    --batch-tokens 384 --micro-tokens 64 --validation 0.1 --steps 12 --eval-every 2 --save-every 4 --threads 1"
"$BIN/pretrain" $pretrain --out "$work/ref-pretrain" >"$work/out" 2>&1 || { wrong "a run that nothing befalls"; finish; }
"$BIN/sft" --model "$work/ref-pretrain" --data "$work/chats.jsonl" --steps 2 --out "$work/sft" >"$work/out" 2>&1 || { wrong "sft"; finish; }
printf '#!/bin/sh\nwhile read -r line; do echo "${#line}"; done\n' >"$work/reward.sh"
rlhf="--policy $work/sft --reward-cmd $work/reward.sh --prompts $work/chats.jsonl --episodes 6 --max-new-tokens 6 --slices 6
    --steps 6 --eval-every 2 --save-every 2 --minibatches 1 --threads 1"
chmod +x "$work/reward.sh"
"$BIN/rlhf" $rlhf --out "$work/ref-rlhf" >"$work/out" 2>&1 || { wrong "an rlhf that nothing befalls"; finish; }

same() {
    timeless "$1/metrics.jsonl" >"$work/a"
    timeless "$2/metrics.jsonl" >"$work/b"
    "$BIN/ckpt" diff "$1" "$2" >"$work/diff" 2>&1
    grep -q ' 0 of [1-9][0-9]* tensors differ, 0 only in A, 0 only in B' "$work/diff" && cmp "$work/a" "$work/b"
}
left() { pgrep -f -- "--out $out" >/dev/null; }
# goes_on PROGRAM OPTIONS RANKS: the same command, on so many ranks
goes_on() {
    if [ "$3" = 1 ]; then set -- "$1" "$2" "$BIN/$1"; else set -- "$1" "$2" $launch -n "$3" "$faulty/$1"; fi
    program=$1 options=$2
    shift 2
    timeout 100 "$@" $options --out "$out" >"$work/out" 2>&1 </dev/null && same "$out" "$work/ref-$program"
}

# befall PROGRAM KIND PLACE NUMBER RANK RANKS: ends; then on another number of ranks
befall() {
    program=$1 kind=$2 place=$3 number=$4 rank=$5 n=$6 out=$work/run
    case $program in pretrain) options=$pretrain ;; *) options=$rlhf ;; esac
    rm -rf "$out"
    start=$(date +%s%N)
    FAULT="$kind $place $number $rank" timeout 60 $launch -n "$n" "$faulty/$program" $options --stall-limit 3 --out "$out" \
        >"$work/out" 2>&1 </dev/null
    code=$? took=$((($(date +%s%N) - start) / 100000000))
    what="$program: $kind at $place $number on rank $rank of $n"
    fired=$(sed -n 's/^.*fault: [a-z]* in //p' "$work/out" | head -n 1)
    [ "$fired" ] || return 1
    sleep 0.1
    named=$(sed -n 's/.*"state":"failed".*rank \([0-9]*\) (process.*/\1/p' "$out/status.json" 2>/dev/null)
    case $kind in
    late) [ $code -eq 0 ] || { wrong "$what: exit code $code"; return; } ;;
    nan) [ $code -eq 65 ] && grep -q "not finite in 3 updates" "$work/out" || { wrong "$what: exit code $code"; return; } ;;
    full) [ $code -eq 74 ] && grep -q "could not be saved" "$work/out" || { wrong "$what: exit code $code"; return; } ;;
    *)  [ $code -ne 0 ] && [ $code -ne 124 ] && [ $code -ne 75 ] || { wrong "$what: exit code $code"; return; }
        # before ranks have met the launcher alone sees who is gone
        [ $place = rendezvous ] || [ "$kills" ] || [ "$named" = "$rank" ] || { wrong "$what: named is rank '$named'"; return; } ;;
    esac
    [ $took -le 300 ] || { wrong "$what: over after $took tenths of a second"; return; }
    if left; then sleep 1; fi
    if left; then wrong "$what: processes left: $(pgrep -a -f -- "--out $out" | cut -c1-200)"; pkill -KILL -f -- "--out $out"; return; fi
    n=$((n % 3 + 1))
    if goes_on "$program" "$options" $n; then ok; else wrong "$what ($fired): then not the bits of an undisturbed run on $n ranks"; fi
    verbose "$what ($fired): $took tenths of a second, code $code"
}
verbose() { [ ! "$VERBOSE" ] || echo "$*"; }
hit() { befall "$@" || wrong "the fault was not met: $*"; }

if [ "$FULL" ]; then
    for rank in 0 1; do
        for kind in kill segv exit freeze loop; do
            for where in "rendezvous 1" "forward 20" "reduce 9" "evaluate 5" "save 2"; do
                case "$kind $where" in "freeze rendezvous"*|"loop rendezvous"*) continue ;; esac    # waits for whom it does not know
                hit pretrain $kind $where $rank 2
            done
            hit rlhf $kind sample 3 $rank 2
        done
        hit pretrain nan reduce 13 $rank 2
        hit pretrain late rendezvous 1 $rank 2
    done
    hit pretrain full forward 20 0 2
    for rank in 0 1; do
        for number in $(seq 1 1000); do befall pretrain kill call "$number" $rank 2 || break; done
    done
else
    hit pretrain kill rendezvous 1 1 2
    hit pretrain late rendezvous 1 1 2
    hit pretrain segv forward 20 1 3
    hit pretrain exit reduce 9 0 2
    hit pretrain nan reduce 13 1 2
    hit pretrain full forward 10 0 2
    hit pretrain freeze forward 20 0 2
    hit pretrain loop forward 20 0 2
    hit rlhf kill sample 3 1 2
    for number in 40 60; do hit pretrain kill call $number 0 2; done
    hit pretrain kill call 20 1 2
fi

finish
