#!/bin/sh
# check_resume.sh - each program runs to its end, and once more with SIGKILL at random moments and the same command again
# until it is done: final weights, moments and averages must have the same bits, the records must be equal but for what the
# clock decides (docs/metrics.md).  Then SIGTERM: exit code 75, a valid checkpoint, and the same end.
# KILLS=n (3; 20 with FULL=1), SEED=n (the moments), PROGRAMS="pretrain sft" (only these).
cd "$(dirname "$0")/.." || exit 1
: "${KILLS:=${FULL:+20}}" "${SEED:=$(date +%s)}" "${PROGRAMS:=pretrain sft rm rlhf}"
: "${KILLS:=3}"
. test/lib.sh

# ---- tiny data -------------------------------------------------------------------------------------------------------------
awk -v out="$work" 'BEGIN {
    srand(1)
    split("red blue green small big old round bright", adjective, " ")
    split("cat dog bird fox stone river tree house", noun, " ")
    split("sees finds likes hears follows leaves", verb, " ")
    for (i = 1; i <= 400; i++) {
        a = adjective[1 + int(8 * rand())]; n = noun[1 + int(8 * rand())]; v = verb[1 + int(6 * rand())]; m = noun[1 + int(8 * rand())]
        text = "The " a " " n " " v " the " m "."
        print text "\n" (i % 5 ? "" : "<|endoftext|>") >(out "/corpus.txt")
        if (i > 150) continue
        ask = "What does the " n " do?"
        printf "{\"prompt\":\"%s\",\"response\":\"The %s %s the %s.\"}\n", ask, n, v, m >(out "/chats.jsonl")
        printf "{\"prompt\":\"%s\",\"chosen\":\"The %s %s the %s.\",\"rejected\":\"No %s.\"}\n", ask, n, v, m, a >(out "/ranked.jsonl")
        printf "{\"prompt\":\"%s\"}\n", ask >(out "/prompts.jsonl")
    }
}'

# ---- the command lines: program, then its run folder -----------------------------------------------------------------------
common="--threads 2 --seed 3 --keep 2"
command_of() {
    case $1 in
    pretrain) echo "$BIN/pretrain --data $work/corpus.txt --vocab-size 300 --preset llama --layers 2 --channels 64 --heads 2 --ffn 128
        --context 64 --steps 60 --batch-tokens 1024 --micro-tokens 512 --save-every 5 --eval-every 7 --validation 0.1 --out $2 $common" ;;
    sft) echo "$BIN/sft --model $work/pretrain --data $work/chats.jsonl --steps 60 --batch-tokens 1024 --micro-tokens 512 --lr 1e-3
        --save-every 5 --eval-every 7 --out $2 $common" ;;
    rm) echo "$BIN/rm --model $work/sft --data $work/ranked.jsonl --steps 40 --batch-tokens 1024 --micro-tokens 512 --save-every 5 --eval-every 7
        --out $2 $common" ;;
    rlhf) echo "$BIN/rlhf --policy $work/sft --reward $work/rm --prompts $work/prompts.jsonl --steps 8 --episodes 16 --minibatches 2
        --ppo-epochs 2 --max-new-tokens 12 --micro-tokens 1024 --critic-warmup 1 --ema 0.9 --ptx-data $work/corpus.txt --ptx-coef 0.5 --kl-target 6 --kl-horizon 100 --reward-norm scale
        --save-every 1 --out $2 $common" ;;
    esac
}

check() {   # check "what" condition...
    what=$1
    shift
    if "$@"; then passed=$((passed + 1)); return 0; fi
    failed=$((failed + 1))
    echo "failed: $what (SEED=$SEED)"
    return 1
}

now() { date +%s.%N; }

# Metrics, and other records of steps, without what the clock decides.
timeless() { sed -E 's/,"([a-z0-9_.]*second[a-z0-9_.]*|peak_share|host_bytes|device_bytes)":[^,}]*//g' "$1"; }

same_run() {   # same_run program REFERENCE OTHER
    check "$1: the final tensors are the same" "$BIN/ckpt" diff --tensors "$2/final.ckpt" "$3/final.ckpt" >"$work/diff" || cat "$work/diff"
    for records in metrics rollouts; do
        [ -f "$2/$records.jsonl" ] || continue
        timeless "$2/$records.jsonl" >"$work/a"
        timeless "$3/$records.jsonl" >"$work/b"
        check "$1: $records.jsonl is the same" cmp -s "$work/a" "$work/b" || diff "$work/a" "$work/b" | cut -c1-300 | head -n 6
    done
    check "$1: every checkpoint is valid" "$BIN/ckpt" verify "$3" >"$work/verify" || cat "$work/verify"
}

# Lives of random length, KILLS of them cut short.  A run that comes to its end before is compared, and begun anew.
kill_and_go_on() {   # kill_and_go_on program REFERENCE RUN seconds
    hit=0 tries=0
    while [ "$hit" -lt "$KILLS" ] && [ "$tries" -lt $((5 * KILLS)) ]; do
        tries=$((tries + 1))
        $(command_of "$1" "$3") >>"$work/log" 2>&1 &
        pid=$!
        sleep "$(awk -v seed="$((SEED + 7919 * tries))" -v t="$4" 'BEGIN { srand(seed); rand(); print (0.02 + 0.6 * rand()) * t }')"
        kill -9 "$pid" 2>/dev/null && hit=$((hit + 1))
        wait "$pid" 2>/dev/null
        [ -f "$3/final.ckpt" ] && [ "$hit" -lt "$KILLS" ] && { same_run "$1 killed" "$2" "$3"; rm -rf "$3"; }
    done
    $(command_of "$1" "$3") >>"$work/log" 2>&1
    check "$1: comes to its end after $hit kills" [ $? -eq 0 ] || tail -n 5 "$work/log"
    check "$1: was killed $KILLS times, not $hit" [ "$hit" -eq "$KILLS" ]
    same_run "$1 killed" "$2" "$3"
}

# A signal in the middle: code 75, and the same command comes to the same end.
stop_and_go_on() {   # stop_and_go_on program RUN signal
    $(command_of "$1" "$2") >>"$work/log" 2>&1 &
    pid=$!
    i=0
    while [ $i -lt 1000 ] && ! grep -q '"step":[1-9]' "$2/metrics.jsonl" 2>/dev/null; do sleep 0.01; i=$((i + 1)); done
    kill -"$3" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    check "$1: $3 ends it with code 75" [ $? -eq 75 ] || tail -n 5 "$work/log"
    check "$1: $3 leaves a valid checkpoint" "$BIN/ckpt" verify "$2" >"$work/verify" || cat "$work/verify"
    $(command_of "$1" "$2") >>"$work/log" 2>&1
    check "$1: goes on after $3 to its end" [ $? -eq 0 ] || tail -n 5 "$work/log"
}

[ -x "$BIN/ckpt" ] || skip "ckpt is not built"
for program in pretrain sft rm rlhf; do
    case " $PROGRAMS " in *" $program "*) ;; *) [ "$program" = rlhf ] && continue ;; esac     # the others are parents too
    if [ ! -x "$BIN/$program" ]; then
        omit "$program is not built"
        continue
    fi
    begun=$(now)
    : >"$work/log"
    $(command_of "$program" "$work/$program") >>"$work/log" 2>&1
    check "$program: runs to its end" [ $? -eq 0 ] || { tail -n 5 "$work/log"; break; }
    seconds=$(awk -v a="$begun" -v b="$(now)" 'BEGIN { print b - a }')
    case " $PROGRAMS " in *" $program "*) ;; *) continue ;; esac
    kill_and_go_on "$program" "$work/$program" "$work/$program-killed" "$seconds"
    stop_and_go_on "$program" "$work/$program-stopped" TERM
    same_run "$program stopped" "$work/$program" "$work/$program-stopped"
    if [ -n "$FULL" ]; then
        stop_and_go_on "$program" "$work/$program-user" USR1
        same_run "$program stopped by USR1" "$work/$program" "$work/$program-user"
    fi
done
finish
