#!/bin/sh
# check_tensorboard.sh - what --tensorboard writes is metrics.jsonl and the samples, each point once, also after
# crashes; read by a reader of our own and, where PYTHON (python3) has it, by TensorBoard's.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${PYTHON:=python3}"
"$PYTHON" -c 'import tensorboard' 2>/dev/null && theirs=1 || theirs=
sh test/small_data.sh "$work"
tiny="--layers 1 --channels 32 --context 128 --vocab-size 300 --micro-tokens 512 --threads 1"
often="--save-every 4 --eval-every 4 --sample-every 4 --tensorboard --threads 1"

# points METRICS: "STEP TAG VALUE" of every number
points() {
    tr -d '{}"' <"$1" | awk -F, '{
        split($1, step, ":")
        for (i = 2; i <= NF; i++) {
            split($i, f, ":")
            tag = f[1]
            if (f[2] == "null") continue
            if (tag ~ /^val_/) sub(/^val_/, "val/", tag)
            else if (tag ~ /[.]/) sub(/[.]/, "/", tag)
            else tag = "train/" tag
            print step[2], tag, f[2]
        }
    }' | sort
}
# equal SAID POINTS: the same steps and tags, and values but for the rounding to float32
equal() {
    join -j 1 -a 1 -a 2 -e none -o 1.2,2.2 "$1.keyed" "$2.keyed" | awk '
        { d = $1 - $2; s = $2 < 0 ? -$2 : $2 }
        $1 == "none" || $2 == "none" || d > 1e-6 * s || -d > 1e-6 * s { wrong++ }
        END { exit !(NR > 50 && !wrong) }'
}
keyed() { sed 's/ /@/' "$1" | sort >"$1.keyed"; }

# compare RUN TEXTS: both readers say what metrics.jsonl says, and as many texts
compare() {
    points "$1/metrics.jsonl" >"$work/points"
    keyed "$work/points"
    "$BUILD/test/tool_events" "$1"/events.out.tfevents.* >"$work/all" || wrong "$1: cannot be read"
    [ -z "$theirs" ] || "$PYTHON" test/tensorboard_says.py "$1" >"$work/theirs" 2>"$work/out" || wrong "$1: TensorBoard"
    grep -v ' start 1$' "$work/all" >"$work/ours"
    for reader in ours ${theirs:+theirs}; do
        grep -E '^[0-9]+ (sample|rollout)/' "$work/$reader" | sort >"$work/$reader.texts"
        grep -vE '^[0-9]+ (sample|rollout)/' "$work/$reader" >"$work/$reader.numbers"
        keyed "$work/$reader.numbers"
        check "$1: points of $reader" equal "$work/$reader.numbers" "$work/points"
        check "$1: no point twice" [ -z "$(cut -d' ' -f1,2 "$work/$reader" | sort | uniq -d)" ]
        check "$1: texts of $reader" [ "$(wc -l <"$work/$reader.texts")" -eq "$2" ]
    done
    [ -z "$theirs" ] || check "$1: the same texts" cmp -s "$work/ours.texts" "$work/theirs.texts"
}

# ---- pretrain: whole, after crashes, switched off and on ----
pretrain="$BIN/pretrain --data $work/text.txt $tiny --batch-tokens 512 --sample-prompt The --sample-prompt A \
    --sample-tokens 6"
run="$pretrain $often --steps 12 --out $work/base"
expect 0 "done: 12 steps" $run
compare "$work/base" 6
cp "$work/base/metrics.jsonl" "$work/before"
# a crash after step 10 was recorded: the newest checkpoint is that of step 4, and the last record is torn
crash() {
    rm "$work/base/final.ckpt" "$work/base/step-00000008.ckpt"
    for file in "$work"/base/events.out.tfevents.*; do last=$file; done
    head -c -7 "$last" >"$work/cut" && cp "$work/cut" "$last"
}
crash
expect 0 "resumes from step 4" $run
compare "$work/base" 6
check "two files" [ "$(ls "$work"/base/events.out.tfevents.* | wc -l)" = 2 ]
check "a reader that has seen more drops it" grep -q '^5 start 1$' "$work/all"
number "$work/before" loss last >"$work/x"
check "as without a crash" [ "$(cat "$work/x")" = "$(number "$work/base/metrics.jsonl" loss last)" ]
crash
printf 'mine' >"$work/base/events.out.tfevents.9.other"
expect 0 "resumes from step 4" $run --no-tensorboard
check "what is taken back is taken back without the option, too" [ "$("$BUILD/test/tool_events" \
    "$work"/base/events.out.tfevents.*.quartet | tail -n 1 | cut -d' ' -f1)" = 4 ]
check "a file of another program stays" [ "$(cat "$work/base/events.out.tfevents.9.other")" = mine ]
rm "$work/base/events.out.tfevents.9.other" "$work/base/final.ckpt" "$work/base/step-00000008.ckpt"
expect 0 "resumes from step 4" $run
compare "$work/base" 6
rm "$work"/base/*.ckpt
expect 0 "done: 12 steps" $run
compare "$work/base" 6
check "begun anew: one file" [ "$(ls "$work"/base/events.out.tfevents.* | wc -l)" = 1 ]

# ---- the others ----
small="$often --batch-tokens 512 --micro-tokens 512 --validation 0.2 --steps 4"
expect 0 "done: 4 steps" "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" $small --samples 2 --out "$work/sft"
compare "$work/sft" 2
expect 0 "done: 4 steps" "$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl" $small --out "$work/rm"
compare "$work/rm" 1
expect 0 "done: 4 steps" "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/chats.jsonl" $often \
    --sample-every 2 --rollouts 3 --episodes 8 --max-new-tokens 8 --steps 4 --out "$work/rlhf"
compare "$work/rlhf" 6
check "an answer with its reward" grep -q 'reward .*, KL ' "$work/ours.texts"
[ -n "$theirs" ] || omit "tensorboard is not installed"

finish
