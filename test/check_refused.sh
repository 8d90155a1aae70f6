#!/bin/bash
# check_refused.sh - a command that is refused changes nothing in the run that its folder holds: every byte, and every name, is as it
# was.  For each program: other options, other parents, other data, bad data, too little memory.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
sh test/small_data.sh "$work"
few="--batch-tokens 128 --micro-tokens 128 --steps 2 --threads 1"
sizes="--vocab-size 300 --layers 1 --channels 32 --heads 2 --ffn 64 --context 96"
base() { "$BIN/pretrain" --data "$work/text.txt" $sizes $few "$@"; }
sft() { "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" $few "$@"; }
rm_() { "$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl" $few "$@"; }
rlhf() {
    "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/chats.jsonl" --ptx-data "$work/text.txt" --steps 2 \
        --episodes 8 --minibatches 2 --max-new-tokens 8 --micro-tokens 128 --threads 1 "$@"
}
teach() { if "$@" >"$work/out" 2>&1; then ok; else wrong "$*"; fi; }
teach base --out "$work/base"
teach base --seed 2 --out "$work/other"
teach sft --out "$work/sft"
teach "$BIN/sft" --model "$work/other" --data "$work/chats.jsonl" $few --out "$work/othersft"
teach rm_ --out "$work/rm"
teach rlhf --out "$work/rlhf"
sed 's/cat/rat/' "$work/text.txt" >"$work/text2.txt"
head -n 40 "$work/chats.jsonl" >"$work/chats2.jsonl"
head -n 40 "$work/ranked.jsonl" >"$work/ranked2.jsonl"
echo '{"prompt"' >"$work/broken.jsonl"

state() { (cd "$1" && find . -type d && find . -type f -printf '%p %T@ ' -exec cksum {} \;) | sort; }      # names, times, bytes

case $BUILD in *san) memory=unlimited enough=16777216 ;; *) memory=60000 enough=1000000 ;; esac    # a sanitizer maps terabytes

# refused CODE RUN command...: with --out RUN
refused() {
    local code=$1 run=$work/$2 before got
    shift 2
    before=$(state "$run")
    (case $code in 70) ulimit -v $memory ;; esac; "$@" --out "$run") >"$work/out" 2>&1 </dev/null
    got=$?
    if [ $got -ne "$code" ]; then wrong "code $got, expected $code: $*"
    elif [ "$before" != "$(state "$run")" ]; then
        diff <(echo "$before") <(state "$run") >"$work/out"
        wrong "changed by a refusal ($code): $*"
    else ok; fi
}

for run in base sft rm rlhf; do
    command=$run
    [ $run = rm ] && command=rm_
    refused 64 $run $command --no-such-option
    refused 78 $run $command --lr 0.5
    refused 78 $run $command --seed 7
    refused 78 $run $command --resume never
    batch="--batch-tokens 20000000"
    [ $run = rlhf ] && batch=
    refused 70 $run $command --micro-tokens $enough $batch
done
refused 78 base base --vocab-size 310
refused 78 base base --data "$work/text2.txt"
refused 78 base base --data "$work/text.txt" "$work/text2.txt" --vocab-size 290
refused 66 base base --data "$work/none.txt"
cp "$work/text.txt" "$work/text1.txt"
cp "$work/text2.txt" "$work/text.txt"
refused 78 base base
refused 78 rlhf rlhf
cp "$work/text1.txt" "$work/text.txt"
for data in chats2:78 broken:65 none:66; do
    refused ${data#*:} sft sft --data "$work/${data%:*}.jsonl"
done
refused 78 sft sft --model "$work/other"
for data in ranked2:78 broken:65 none:66; do
    refused ${data#*:} rm rm_ --data "$work/${data%:*}.jsonl"
done
refused 78 rm rm_ --model "$work/othersft"
refused 78 rlhf rlhf --prompts "$work/chats2.jsonl"
refused 78 rlhf rlhf --ptx-data "$work/text2.txt"
refused 78 rlhf rlhf --policy "$work/othersft"
refused 78 rlhf sft
for run in base rlhf; do refused 0 $run $run --plan; done
refused 0 base true      # the check itself sees no change where there is none

# The same data elsewhere, and shards that are gone, are made again and the run resumes.
mv "$work/text.txt" "$work/moved.txt"
expect 0 "done: 4 steps" "$BIN/pretrain" --data "$work/moved.txt" $sizes $few --steps 4 --out "$work/base"
rm -r "$work/base/shards"
expect 0 "done: 5 steps" "$BIN/pretrain" --data "$work/moved.txt" $sizes $few --steps 5 --out "$work/base"
check "no folder is left beside the shards" [ -z "$(find "$work" -name 'new-*')" ]

finish
