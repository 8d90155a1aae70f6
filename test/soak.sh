#!/bin/sh
# soak.sh HOURS - trains all four programs over and over, on one and on several ranks, breaks each run several times at a random
# moment, lets it go on with another number of ranks, and compares the tensors and records it ends with with those of a run that
# nobody disturbed.  Memory must stay what it was.  One line for each cycle; the totals come last.  SEED=n: the same faults again.
cd "$(dirname "$0")/.." || exit 1
: "${RANKS:=build/cpu-mpi/bin}" "${MPIRUN:=mpirun}" "${SEED:=$(date +%s)}"
. test/lib.sh
until=$(awk -v h="${1:-2}" -v now="$(date +%s)" 'BEGIN { printf "%d", now + 3600 * h }')
begun=$(date +%s) cycles=0 legs=0 broken=0 steady=0
disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=24m tmpfs "$disk" 2>/dev/null && mounted=1 || echo "no tmpfs may be mounted: a limit on the size of files stands in for a full disk"
trap 'kill -KILL $job $(ranks_of "$disk" "$program") 2>/dev/null; [ "$mounted" ] && umount -l "$disk"; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
launch="$MPIRUN -q --allow-run-as-root --oversubscribe --bind-to none"
[ -x "$RANKS/pretrain" ] && several="1 1 2 2 4" || { several=1; echo "no programs for several ranks ($RANKS): one rank only"; }
sh test/small_data.sh "$work"

random() { SEED=$(((SEED * 1103515245 + 12345) % 2147483648)); r=$((SEED / 65536 % $1)); }        # r: 0 to $1 - 1
pick() { random $#; shift $r; picked=$1; }
say() { echo "$(date +%H:%M:%S) $*"; }

# options PROGRAM: four slices of one micro-batch, so that ranks may share out anything
options() {
    common="--threads 1 --slices 4 --save-every 20 --keep 2 --eval-every 40"
    case $1 in
    pretrain) echo "--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 32 --schedule constant
        --batch-tokens 1024 --micro-tokens 256 --validation 0.1 --steps 800 $common" ;;
    sft) echo "--model $work/ref/pretrain --data $work/chats.jsonl --batch-tokens 512 --micro-tokens 128 --steps 1200 $common" ;;
    rm) echo "--model $work/ref/sft --data $work/ranked.jsonl --batch-tokens 512 --micro-tokens 128 --steps 1200 $common" ;;
    rlhf) echo "--policy $work/ref/sft --reward $work/ref/rm --prompts $work/chats.jsonl --episodes 12 --max-new-tokens 8 --steps 160
        --ptx-data $work/text.txt --ptx-tokens 256 --ema 0.9 --micro-tokens 128 --critic-warmup 1 --minibatches 2 $common
        --save-every 4 --eval-every 8" ;;
    esac
}

# start PROGRAM RANKS OUT options...: in the background, as $job
start() {
    program=$1 n=$2 out=$3
    shift 3
    set -- $(options "$program") "$@"
    if [ "$n" = 1 ]; then set -- "$BIN/$program" "$@"; else set -- $launch -n "$n" "$RANKS/$program" "$@"; fi
    "$@" --out "$out" >"$work/out" 2>&1 </dev/null &
    job=$!
}
ranks_of() { for p in $(pgrep -f -- "--out $1"); do [ "$(cat /proc/"$p"/comm 2>/dev/null)" = "$2" ] && echo "$p"; done; }
# finished SECONDS: waits so long for $job, whose exit code is $code then; else everything is killed, and it is a failure
finished() {
    i=0
    while kill -0 $job 2>/dev/null && [ $i -lt $(($1 * 10)) ]; do sleep 0.1; i=$((i + 1)); done
    if kill -0 $job 2>/dev/null; then late=1; kill -KILL $job $(ranks_of "$out" "$program") 2>/dev/null; else late=; fi
    wait $job 2>/dev/null
    code=$?
    [ ! "$late" ]
}
same() {
    timeless "$1/metrics.jsonl" >"$work/a"
    timeless "$2/metrics.jsonl" >"$work/b"
    "$BIN/ckpt" diff "$1" "$2" >"$work/out" 2>&1
    grep -q ' 0 of [1-9][0-9]* tensors differ, 0 only in A, 0 only in B' "$work/out" && cmp "$work/a" "$work/b" >>"$work/out"
}
memory() { grep -o '"host_bytes":[0-9]*' "$1/metrics.jsonl" | cut -d: -f2 | "$2" -n 1; }
bad() { broken=$((broken + 1)) wrongs="$wrongs FAILED: $*"; }

# fault KIND: what befalls the run in $out; the codes it may then end with (a signal may come before it is listened for)
fault() {
    victims=$(ranks_of "$out" "$program")
    set -- "$1" $victims
    kind=$1
    shift
    [ $# -gt 0 ] || set -- $job
    random $#
    one=$(echo "$@" | cut -d ' ' -f $((r + 1)))
    within=90
    case $kind in
    kill-one) kill -KILL "$one"; codes="71 137" ;;
    kill-all) kill -KILL "$@"; codes="71 137" ;;
    kill-launcher) kill -KILL $job; codes="137" ;;
    hold) kill -STOP "$one"; sleep 1; kill -CONT "$one"; within=0 ;;
    freeze) kill -STOP "$one"; codes="71 72 137" ;;
    term) kill -TERM "$one"; codes="75 143" ;;
    usr1) kill -USR1 "$one"; codes="75 138" ;;
    int-all) kill -INT "$@"; codes="75 130" ;;
    stop-file) touch "$out/stop" || within=0; codes=75 ;;
    full-disk) codes=74
        if [ "$mounted" ]; then cat /dev/zero >"$disk/ballast" 2>/dev/null; else prlimit --pid "$one" --fsize=200000; fi ;;
    esac 2>/dev/null
    [ $within -eq 0 ] && { finished 300 && [ $code -eq 0 ] || bad "$kind: code $code"; return; }
    finished $within || bad "$kind: still there after $within s"
    kill -KILL "$one" 2>/dev/null         # a frozen one
    rm -f "$out/stop" "$disk/ballast"
    case " 0 $codes " in *" $code "*) ;; *) bad "$kind: code $code, $(tail -n 1 "$work/out" | cut -c1-200)" ;; esac
    sleep 0.5
    left=$(ranks_of "$out" "$program")
    [ -z "$left" ] || { sleep 3; left=$(ranks_of "$out" "$program"); }
    [ -z "$left" ] || { bad "$kind: processes left"; kill -KILL $left; }
}

# whole PROGRAM: broken up to four times, then to its end
whole() {
    out=$disk/run story= wrongs=
    rm -rf "$out"
    random 5
    for k in $(seq $r) last; do
        pick $several; n=$picked
        random 4; z=$r
        zero=
        [ "$n" = 1 ] || zero="--zero $z"
        legs=$((legs + 1))
        started=$(date +%s)
        if [ $k = last ]; then
            start "$1" "$n" "$out" $zero
            story="$story $n"
            finished 300 && [ $code -eq 0 ] || bad "$n ranks: code $code, $(tail -n 1 "$work/out" | cut -c1-200)"
        else
            pick kill-one kill-all kill-launcher hold freeze term usr1 int-all stop-file full-disk
            kind=$picked
            [ "$n" -gt 1 ] || case $kind in kill-launcher) kind=kill-all ;; freeze) kind=hold ;; esac
            [ $kind = freeze ] && zero="$zero --stall-limit 4"
            start "$1" "$n" "$out" $zero
            random 40
            sleep $((r / 10)).$((r % 10))
            story="$story $n:$kind@$((r / 10)).$((r % 10))s"
            echo "$kind" >>"$work/faults"
            fault $kind
            [ $code -ne 0 ] || break                    # it came too late
        fi
    done
    same "$out" "$work/ref/$1" || bad "other bits: $(tail -n 1 "$work/out")"
    peak=$(memory "$out" tail) first=$(cat "$work/peak.$1.$n$zero" 2>/dev/null || echo "$peak" | tee "$work/peak.$1.$n$zero")
    [ "$peak" -le $((first + first / 8 + 1048576)) ] || bad "memory: $peak bytes, $first in the first such run"
    [ -z "$(find "$out" -name '*tmp*')" ] || bad "left behind: $(find "$out" -name '*tmp*' | tr '\n' ' ')"
    say "cycle $cycles: $1$story, $((peak / 1024)) KiB: ${wrongs:-the bits of the undisturbed run}"
    if [ -n "$wrongs" ]; then rm -rf "soak-$cycles"; cp -r "$out" "soak-$cycles"; cp "$work/out" "soak-$cycles/said"; fi
}

# calm PROGRAM RANKS: runs undisturbed until no rank holds more than 30 seconds before (MPI's buffers grow when a rank lags)
calm() {
    out=$disk/calm wrongs= legs=$((legs + 1))
    rm -rf "$out"
    start "$1" "$2" "$out" --steps 1000000
    for i in $(seq 100); do grep -qs '"step":100,' "$out/metrics.jsonl" && break; sleep 1; done
    resident() { for p in $(ranks_of "$out" "$program"); do awk '/^VmRSS/ { print $2 }' /proc/"$p"/status; done | sort -n | tail -n 1; }
    first=$(resident) held=no before=$first
    for k in 1 2 3 4 5; do
        sleep 30
        after=$(resident)
        [ "${after:-0}" -gt 0 ] && [ "$after" -le $((before + 512)) ] && { held=yes; break; }
        before=$after
    done
    kill -TERM "$(ranks_of "$out" "$1" | head -n 1)"
    finished 60 && [ $code -eq 75 ] || bad "code $code"
    [ $held = yes ] || bad "memory grows"
    done_steps=$(awk -F '[:,]' '/"loss"/ { s = $2 } END { print s }' "$out/metrics.jsonl")
    say "calm: $1 on $2, $done_steps steps: $first KiB resident, $after KiB $((30 * k)) s later$wrongs"
    steady=$((steady + 1))
    rm -rf "$out"
}

say "soak of ${1:-2} hours, SEED=$SEED"
for p in pretrain sft rm rlhf; do
    start $p 1 "$work/ref/$p"
    finished 300 && [ $code -eq 0 ] || { cat "$work/out"; exit 1; }
done
while [ "$(date +%s)" -lt "$until" ]; do
    for p in pretrain sft rm rlhf; do
        [ "$(date +%s)" -lt "$until" ] || break
        cycles=$((cycles + 1))
        whole $p
    done
    if [ $((cycles % 20)) -eq 4 ]; then
        pick pretrain sft rm rlhf; p=$picked
        pick $several
        [ "$(($(date +%s) + 300))" -gt "$until" ] || calm $p $picked
    fi
done
say "$cycles cycles, $legs runs and $steady calm runs in $((($(date +%s) - begun) / 60)) minutes; faults: $(sort "$work/faults" |
    uniq -c | awk '{ printf "%s%s %s", s, $2, $1; s = ", " }')"
say "$broken failures"
[ $broken -eq 0 ]
