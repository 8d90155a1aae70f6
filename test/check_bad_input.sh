#!/bin/sh
# check_bad_input.sh - the six programs in the hands of a stranger who gets everything wrong: each mistake is one line of a table,
# with the exit code of docs/exit-codes.md and words of the one sentence that must be said.  What concerns one program's data
# alone is in that program's e2e script, what concerns the loop and the run folder in check_failures.sh.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
. test/said.sh

# ---- a small chain ----
sh test/small_data.sh "$work"
few="--batch-tokens 256 --micro-tokens 128 --threads 1 --steps 2"
sizes="--vocab-size 300 --layers 1 --channels 32 --heads 2 --ffn 64 --context 96"
text="--data $work/text.txt" chats="--data $work/chats.jsonl" ranked="--data $work/ranked.jsonl"
pretrain="$BIN/pretrain $few --out $work/x" sft="$BIN/sft $few --out $work/x" rm="$BIN/rm $few --out $work/x"
rlhf="$BIN/rlhf --prompts $work/chats.jsonl --episodes 4 --minibatches 2 --max-new-tokens 8 --micro-tokens 256 --threads 1 --out $work/x"
$BIN/pretrain --data "$work/text.txt" $few $sizes --out "$work/base" >"$work/said" 2>&1 &&
    $BIN/sft --model "$work/base" --data "$work/chats.jsonl" $few --out "$work/sft" >"$work/said" 2>&1 &&
    $BIN/rm --model "$work/sft" --data "$work/ranked.jsonl" $few --out "$work/rm" >"$work/said" 2>&1 ||
    { verdict "a small chain" no; echo "check_bad_input: $passed passed, $failed failed, 0 skipped"; exit 1; }
both="--policy $work/sft --reward $work/rm"

# ---- files that are no checkpoint, or a damaged one, to each program that reads one ----
"$BUILD/test/tool_broken" "$work"
cp "$work/sft/final.ckpt" "$work/weight.ckpt"
at=$("$BIN/ckpt" tensors "$work/sft" | awk '$1 == "tok_embd.weight" && $2 == "weight" { print $(NF - 3) }')      # its last columns: offset crc32 trainable decay
printf '\377\377' | dd of="$work/weight.ckpt" bs=1 seek=$((at + 101)) conv=notrunc status=none
head -c 200000 "$work/sft/final.ckpt" >"$work/cut.ckpt"
{ cat "$work/sft/final.ckpt"; echo; } >"$work/longer.ckpt"
: >"$work/empty.ckpt"
mkfifo "$work/pipe"
while IFS='|' read -r file code words; do
    for program in "$sft $chats --model" "$rm $ranked --model" "$BIN/rm --score --model" \
        "$rlhf --reward $work/rm --policy" "$rlhf --policy $work/sft --reward" \
        "$pretrain $text --model" "$BIN/chat --prompt hi --model" "$BIN/ckpt info"; do
        case $file-$program in weight*--score* | weight*--reward | weight*ckpt\ info | S9*ckpt\ info) continue ;; esac     # stage first; tensors unread; all is shown
        expect "$code" "$words" $program "$work/$file"
    done
done <<'TABLE'
none.ckpt|66|cannot be opened
empty.ckpt|65|the file is empty
text.txt|65|not a checkpoint
cut.ckpt|65|truncated
longer.ckpt|65|something was appended
H3.ckpt|65|byte-swapped
H5-newer.ckpt|65|newer
S9.ckpt|65|[S9]
weight.ckpt|65|tok_embd.weight
pipe|65|not a regular file
TABLE
expect 65 "corrupt (65), 1 problem" "$BIN/ckpt" verify "$work/weight.ckpt"

# ---- all the rest, a line a mistake: code|words|command ----
mkdir "$work/none" "$work/locked"
printf '{"text":"a"}\nnot json\n' >"$work/bad.jsonl"
printf '{"x":1}\n' >"$work/key.jsonl"
printf '{"text":5}\n' >"$work/type.jsonl"
printf '{"prompt":1,"response":"a"}\n' >"$work/number.jsonl"
printf '{"prompt":"p","chosen":1,"rejected":"b"}\n' >"$work/ranktype.jsonl"
: >"$work/empty.jsonl"
awk 'BEGIN { printf "{\"prompt\":\"p\",\"response\":\""; for (i = 0; i < 500; i++) printf "long "; print "\"}" }' >"$work/long.jsonl"
printf 'steps = 2\nlayers = 1\nchannels = 32\nvocab-size = 300\ncontext = 64\nbatch-tokens = 256\n' >"$work/conf"
while IFS='|' read -r code words command; do
    case $command in *--data*) ;; pretrain*) command="$command $text" ;; sft*) command="$command $chats" ;; rm*) command="$command $ranked" ;; esac
    expect "$code" "$words" sh -c \
        "work=$work; exec $(echo "$command" | sed "s#^pretrain#$pretrain#; s#^sft#$sft#; s#^rm#$rm#; s#^rlhf#$rlhf#; s#^chat#$BIN/chat#; s#^ckpt#$BIN/ckpt#; s#^score#$BIN/rm --score#")"
done <<'TABLE'
65|bad.jsonl:2: not JSON|pretrain --data $work/bad.jsonl
65|key.jsonl:1: there is no key 'text', found x|pretrain --data $work/key.jsonl
65|type.jsonl:1: the key 'text' holds a number|pretrain --data $work/type.jsonl
65|there is no text|pretrain --data $work/empty.jsonl
66|is a pipe or a device|pretrain --data $work/pipe
66|holds no .txt|pretrain --data $work/none
66|nothing matches|pretrain --data "$work/*.none"
64|out of range (expected 257|pretrain --vocab-size 100
64|there is no preset 'lama' (expected gpt2, llama, |pretrain --preset lama
64|--tensor-parallel 8, but 1 rank was started|pretrain --tensor-parallel 8
64|--pipeline-parallel 2, but 1 rank was started: start a multiple of 2|pretrain --pipeline-parallel 2
64|--zero 2 with --pipeline-parallel 2: stages share out moments only|pretrain --pipeline-parallel 2 --zero 2
64|--data-parallel 2, but 1 rank was started|sft --data-parallel 2 --model $work/base --data $work/chats.jsonl
64|--cluster describes machines to plan for: it needs --plan|pretrain --cluster "a100-80 x 8"
64|--gpu-hour means nothing without --cluster|pretrain --plan --gpu-hour 2
64|'b100' is no known device (expected a100-40, |pretrain --plan --cluster "b100 x 8"
64|--tokens is missing: a plan for a cluster|pretrain --plan --cluster "h100 x 8" --steps 0
70|a rank needs at least|pretrain --plan --cluster "a100-40 x 1" --preset gpt3-175b
64|32 channels cannot be cut into 7 heads|pretrain --channels 32 --heads 7
64|--context must be at least 2|pretrain --context 1
64|--context 4096 is above the model's 96|pretrain --model $work/base --context 4096
64|--layers cannot be given with --model|pretrain --model $work/base --layers 3
64|--tokenizer-bytes cannot be given with --model|pretrain --model $work/base --tokenizer-bytes 1M
64|--vocab-size cannot be given with --tokenizer|pretrain --tokenizer $work/base --vocab-size 400
66|none/tokenizer.model: cannot be opened|pretrain --tokenizer $work/none/tokenizer.model
64|--eval-only needs a checkpoint|pretrain --eval-only
64|out of range (expected 0 to 10)|pretrain --lr 1e3
70|of memory, and|pretrain --layers 400 --channels 16384 --vocab-size 300
78|of stage rm, expected pretrain, sft|pretrain --model $work/rm
78|of stage rm, expected pretrain, sft|sft --model $work/rm
65|number.jsonl:1|sft --model $work/base --data $work/number.jsonl
65|bad.jsonl:1: not a dialogue|sft --model $work/base --data $work/bad.jsonl
65|no trainable token|sft --model $work/base --data $work/empty.jsonl
65|not one answer fits|sft --model $work/base --data $work/long.jsonl
64|expected at most a million|sft --model $work/base --batch-tokens 1000G
64|out of range (expected 1 to 16777216)|sft --model $work/base --micro-tokens 1G
64|out of range (expected 1e-06 to|sft --model $work/base --epochs 0
78|a checkpoint of rm, from which sft cannot resume|sft --model $work/base --resume $work/rm
66|cannot be opened|sft --model $work/base --resume $work/nothing
78|holds a run of pretrain, not of sft|sft --model $work/base --out $work/base
65|ranktype.jsonl:1|rm --model $work/sft --data $work/ranktype.jsonl
65|not a ranking|rm --model $work/sft --data $work/chats.jsonl
78|of stage rm|rm --model $work/rm
78|of stage sft, expected rm|score --model $work/sft $work/ranked.jsonl
65|bad.jsonl:1|score --model $work/rm $work/bad.jsonl
78|of stage pretrain|rlhf --policy $work/base --reward $work/rm
64|--ptx-coef means nothing without --ptx-data|rlhf --policy $work/sft --reward $work/rm --ptx-coef 2
64|--reward-cmd-coef means nothing without --reward-cmd|rlhf --policy $work/sft --reward $work/rm --reward-cmd-coef 2
64|--kl-horizon means nothing without --kl-target|rlhf --policy $work/sft --reward $work/rm --kl-horizon 20
64|--pipeline-parallel 2: the ranks of rlhf split layers, but not the row|rlhf --policy $work/sft --pipeline-parallel 2
64|--out -: a model cannot be written to a pipe|ckpt import $work/base --out -
64|--gguf -: a model cannot be written to a pipe|ckpt export $work/base --gguf -
64|did you mean --reward-cmd?|rlhf --policy $work/sft --reward-cdm cat
65|ended with exit code 3|rlhf --policy $work/sft --steps 1 --reward-cmd 'exit 3'
65|silent for 0.2 seconds|rlhf --policy $work/sft --steps 1 --reward-cmd 'sleep 9' --reward-timeout 0.2
65|wrote "rubbish"|rlhf --policy $work/sft --steps 1 --reward-cmd 'yes rubbish'
65|expected one finite number|rlhf --policy $work/sft --steps 1 --reward-cmd 'while read -r x; do echo rubbish; done'
78|of stage rm|chat --model $work/rm --prompt hi
64|--system cannot be given with --prompts|chat --model $work/sft --prompts $work/chats.jsonl --system hi
64|--prompt cannot be given with --prompts|chat --model $work/sft --prompts $work/chats.jsonl --prompt hi
64|--samples cannot be given with --logprobs|chat --model $work/sft --samples 2 --logprobs $work/chats.jsonl
78|no averaged weights|chat --model $work/sft --ema --prompt hi
64|did you mean 'info'|ckpt inf $work/rm
64|did you mean --json|ckpt info --jsn $work/rm
66|there is no tensor 'nosuch'|ckpt print $work/rm nosuch
64|is outside dimension 0|ckpt print $work/rm tok_embd.weight 99999
64|there is no byte 99999999999|ckpt explain $work/rm 99999999999
64|exists already|ckpt strip $work/rm $work/rm/final.ckpt
66|there is no checkpoint in this folder|ckpt latest $work/none
66|has no key 'nokey'|ckpt config $work/rm nokey
TABLE

# ---- help speaks of no option that is not there ----
for program in pretrain sft rm rlhf chat; do
    "$BIN/$program" --help-all >"$work/said"
    for name in $(grep -oE -- '--[a-z][a-z0-9-]*[a-z0-9]' "$work/said" | sort -u); do
        case $name in --help | --help-all | --version | --score) continue ;; esac
        grep -qE -- "^  ($name|--\[no-\]${name#--})( |\$)" "$work/said" && got=yes || got=no
        verdict "$program --help: $name" $got
    done
done

# ---- a start that failed leaves no claim on its folder; a file of options gives way to the command line ----
expect 66 "there is no file" $BIN/sft --model "$work/base" --data "$work/none.jsonl" $few --out "$work/mine"
expect 0 "done: 2 steps" $BIN/rm --model "$work/sft" --data "$work/ranked.jsonl" $few --out "$work/mine"
expect 0 "done: 3 steps" $BIN/pretrain --config "$work/conf" --data "$work/text.txt" --tokens 700 --threads 1 --out "$work/tokens"
expect 0 "done: 3 steps" $BIN/pretrain --config "$work/tokens/run.conf" --out "$work/again"
expect 0 "done: 1 step," $BIN/pretrain --config "$work/tokens/run.conf" --tokens 200 --out "$work/fewer"
expect 0 "done: 2 steps" $BIN/pretrain --data "$work/text.txt" --model "$work/base" --batch-tokens 96 --steps 2 --threads 1 --out "$work/on"
expect 0 "done: 2 steps" $BIN/pretrain --config "$work/on/run.conf" --out "$work/on2"

# ---- rlhf whose policy waits: the line is about the critic; a rate of 0 for one of the two ----
expect 0 "done: 2 steps" $rlhf $both --steps 2 --critic-warmup 1 --out "$work/wait"
grep -q "step 1/2 .* critic.lr .* critic.norm [0-9]" "$work/said" && ! grep -q nan "$work/said" && got=yes || got=no
verdict "progress during the critic's warm-up" $got
head -n 2 "$work/wait/metrics.jsonl" | tail -n 1 | grep -q '"lr":null,"grad_norm":null,"critic.lr":[0-9]' && got=yes || got=no
verdict "a frozen policy has no rate" $got
expect 0 "done: 2 steps" $rlhf $both --steps 2 --critic-warmup 0 --lr 0 --critic-lr 1e-3 --out "$work/rate"

# ---- samples of rm ----
expect 0 "done: 2 steps" $BIN/rm --model "$work/sft" --data "$work/ranked.jsonl" $few --validation 0.2 --sample-every 1 --out "$work/shown"
[ "$(grep -c 'quality [01], score' "$work/shown/samples.txt")" -eq 12 ] && got=yes || got=no
verdict "3 held-out prompts with 2 answers, twice" $got

# ---- streams: full, closed, broken ----
if [ -w /dev/full ]; then
    while read -r command; do
        sh -c "$command" >/dev/full 2>"$work/said" </dev/null
        [ $? -eq 74 ] && grep -q "cannot be written" "$work/said" && got=yes || got=no
        verdict "full: $command" $got
    done <<TABLE
$BIN/pretrain --help
$BIN/ckpt info $work/rm
$BIN/rm --score --model $work/rm $work/ranked.jsonl
$BIN/chat --model $work/sft --prompt hi
$BIN/sft --model $work/base --data $work/chats.jsonl --dry-run
$BIN/rm --model $work/sft --data $work/ranked.jsonl --plan
$rlhf $both --plan
$BIN/pretrain --eval-only --model $work/base --data $work/text.txt
TABLE
else omit "there is no /dev/full"; fi
for command in "$BIN/rm --score --model $work/rm" "$BIN/chat --model $work/sft"; do
    $command <&- >"$work/said" 2>&1
    [ $? -eq 74 ] && grep -q "stdin is closed" "$work/said" && got=yes || got=no
    verdict "stdin closed: $command" $got
done
( exec <&- >&- 2>&-; exec $rlhf $both --steps 2 --out "$work/closed" )
[ $? -eq 0 ] && expect 0 ": ok (" "$BIN/ckpt" verify "$work/closed" && grep -qx "rlhf [0-9]*" "$work/closed/lock" && got=yes || got=no
verdict "all streams closed: nothing is written to a file that took their numbers" $got
for command in "$BIN/ckpt tensors $work/rm" "$BIN/rm --score --model $work/rm $work/ranked.jsonl" "$BIN/pretrain --help"; do
    { $command; echo $? >"$work/code"; } 2>"$work/said" | head -n 1 >/dev/null
    case $(cat "$work/code") in 0 | 74 | 141) got=yes ;; *) got=no ;; esac
    verdict "code $(cat "$work/code") with a reader that left: $command" $got
done

# ---- a folder that cannot be written: for root only a file system is one ----
if [ "$(id -u)" -ne 0 ]; then
    chmod 555 "$work/locked"
    expect 74 "cannot be created" $BIN/sft --model "$work/base" --data "$work/chats.jsonl" $few --out "$work/locked/run"
fi

finish
