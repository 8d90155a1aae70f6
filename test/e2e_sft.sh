#!/bin/sh
# e2e_sft.sh - the program sft as a user meets it: a base model learns to answer, every shape of data is taken, the same command
# again says it is done, and bad input ends in one sentence with its exit code.  With the data collection beside the project
# (SHARED), also public data sets in English and Chinese.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh

# ---- data: the answer repeats the noun of the question, and names its colour, which the animal decides ----
awk -v out="$work" 'BEGIN {
    srand(5)
    split("cat dog bird fox cow pig hen owl", noun, " ")
    split("red blue green black white brown grey pink", colour, " ")
    for (i = 1; i <= 2000; i++) {
        k = 1 + int(8 * rand())
        print "The " noun[k] " is " colour[k] "." >(out "/corpus.txt")
        if (i % 8 == 0) print "<|endoftext|>" >(out "/corpus.txt")
        if (i > 600) continue
        q = "What colour is " (i % 2 ? "the " : "a ") noun[k] " number " i "?"
        a = "The " noun[k] " is " colour[k] "."
        printf "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"},{\"role\":\"assistant\",\"content\":\"%s\"}]}\n", q, a >(out "/messages.jsonl")
        if (i > 40) continue
        printf "%s{\"conversations\":[{\"from\":\"human\",\"value\":\"%s\"},{\"from\":\"gpt\",\"value\":\"%s\"}]}", i == 1 ? "[" : ",", q, a >(out "/sharegpt.json")
        printf "{\"instruction\":\"%s\",\"input\":\"Be brief.\",\"output\":\"%s\"}\n", q, a >(out "/alpaca.jsonl")
        printf "{\"prompt\":\"%s\",\"completion\":\"%s<|endoftext|>\"}\n", q, a >(out "/prompt.jsonl")
        printf "{\"question\":\"%s\",\"answer\":\"%s\"}\n", q, a >(out "/question.jsonl")
    }
    print "]" >(out "/sharegpt.json")
}'
gzip -k "$work/question.jsonl"
"$BIN/pretrain" --data "$work/corpus.txt" --preset llama --vocab-size 320 --layers 2 --channels 64 --heads 2 --ffn 128 --context 320 \
    --batch-tokens 1024 --micro-tokens 512 --lr 3e-3 --steps 60 --eval-every 0 --threads 2 --out "$work/base" >"$work/out" 2>&1 ||
    { wrong "a base model"; finish; }
small="--model $work/base --batch-tokens 1024 --micro-tokens 512 --lr 3e-3 --threads 2"

# ---- looking first ----
run="$BIN/sft $small --data $work/messages.jsonl --epochs 6 --eval-every 30 --sample-every 200 --sample-tokens 24 --out $work/run"
expect 0 "[<|end|>]" $run --dry-run
check "the question is not trained" said "<|user|>|W"
check "rows are counted" said "600  rows read"
expect 0 "parameters" $run --plan
expect 0 "time of a step (calculated)" $run --plan --cluster "a100-80 x 16, network 20GB/s"
check "--plan and --dry-run leave nothing behind" [ ! -e "$work/run" ]

# a pipe is read once, an array from it too
mkfifo "$work/fifo"
for file in sharegpt.json prompt.jsonl; do
    cat "$work/$file" >"$work/fifo" &
    expect 0 "40  rows read" "$BIN/sft" $small --data "$work/fifo" --dry-run
done
cat "$work/sharegpt.json" | timeout 60 "$BIN/sft" $small --data /dev/stdin --dry-run >"$work/out" 2>&1
check "an array through a pipe" said "40  rows read"

# ---- a run ----
expect 0 "4 special tokens of the template quartet are new" $run --validation 0.2
metrics=$work/run/metrics.jsonl
check "the initial loss is stored" below 1 "$(number "$metrics" val_loss first)"
check "held-out questions are answered" below "$(number "$metrics" val_loss last)" 0.9
check "samples are shown" said "sample: "
check "a sample answers with a colour" grep -qE '<.assistant.>The [a-z]+ is [a-z]+\.<.end.>$' "$work/run/samples.txt"
expect 0 "ok" "$BIN/ckpt" verify "$work/run"
expect 0 "init" "$BIN/ckpt" lineage "$work/run"
check "the lineage names the base" said "base"
expect 0 "quartet" "$BIN/ckpt" chat "$work/run"
expect 0 "reached already" $run --validation 0.2
expect 78 "lr" $run --validation 0.2 --lr 1e-4
expect 0 "resumes from" $run --validation 0.2 --epochs 7

# by default the rate is a quarter of pretraining's; micro-batches grow to the longest dialogue and none is dropped for them
expect 0 "next: $BIN/rm --model $work/auto --data RANKED.jsonl --out $work/rm" "$BIN/sft" --model "$work/base" --data "$work/messages.jsonl" \
    --epochs 1 --threads 2 --out "$work/auto"
check "a quarter of 0.004" grep -qx "lr = 0.001" "$work/auto/run.conf"
kept=$(grep -o '[0-9]*  dialogues to train on' "$work/out")
expect 0 "$kept" "$BIN/sft" $small --data "$work/messages.jsonl" --micro-tokens 8 --steps 1 --out "$work/narrow"
check "micro-batches grow" said "the longest dialogue needs that many"

# fine-tuning goes on from fine-tuning, with its template; another one is said
expect 0 "done: 3 steps" "$BIN/sft" $small --model "$work/run" --data "$work/messages.jsonl" --steps 3 --out "$work/more"
check "no new tokens" [ -z "$(grep 'are new' "$work/out")" ]
check "it starts where the other ended" below "$(number "$work/more/metrics.jsonl" val_loss first)" 1
expect 0 "from now on it is chatml" "$BIN/sft" $small --model "$work/run" --template chatml \
    --data "$work/messages.jsonl" --steps 2 --out "$work/chatml"

# the same bits for any number of threads and either kind of recompute
for threads in 1 3; do
    expect 0 "done" "$BIN/sft" $small --threads $threads --data "$work/messages.jsonl" --steps 4 --out "$work/threads$threads" \
        --recompute "$( [ $threads = 1 ] && echo none || echo block)"
done
expect 1 "0 of " "$BIN/ckpt" diff "$work/threads1" "$work/threads3"

# every shape, alone and together; every template and choice of what is trained
for file in sharegpt.json alpaca.jsonl prompt.jsonl question.jsonl question.jsonl.gz; do
    expect 0 "40  rows read" "$BIN/sft" $small --data "$work/$file" --dry-run
done
expect 0 "40  answers that ended in an end mark written as text, removed" "$BIN/sft" $small --data "$work/prompt.jsonl" --dry-run
expect 0 "done" "$BIN/sft" $small --data "$work/sharegpt.json" "$work/alpaca.jsonl" "$work/question.jsonl.gz" --steps 2 --out "$work/mixed"
check "all rows of all files" grep -q "120  rows read" "$work/mixed/log.txt"
for template in chatml llama3 alpaca vicuna mistral zephyr gemma qwen3 glm4; do
    expect 0 "done" "$BIN/sft" $small --template $template --data "$work/sharegpt.json" --steps 2 \
        --out "$work/$template-run" --sample-every 2
    expect 0 "" "$BIN/ckpt" export "$work/$template-run" --hf "$work/$template-hf"
    expect 0 "chat template: $template" "$BIN/ckpt" import "$work/$template-hf" --out "$work/again.ckpt"
done

# a system message where the template has none; a template that nobody knows is kept and not trained on
printf '{"messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}\n' >"$work/system.jsonl"
expect 0 "1  a system message, which the chat template does not have" "$BIN/sft" $small --template gemma --dry-run \
    --data "$work/system.jsonl" "$work/sharegpt.json"
expect 64 "the chat template mistral of" "$BIN/chat" --model "$work/mistral-run" --system S --prompt Q
printf '{%% for m in messages %%}<turn>{{ m.content }}{%% endfor %%}' | tee "$work/chatml-hf/chat_template.jinja" >"$work/unknown.jinja"
expect 0 "not one that is known here" "$BIN/ckpt" import "$work/chatml-hf" --out "$work/unknown.ckpt"
for program in sft rm; do
    expect 78 "quartet|chatml|llama3|alpaca|vicuna|mistral|zephyr|gemma|qwen3|glm4" "$BIN/$program" --model "$work/unknown.ckpt" \
        --data "$work/sharegpt.json" --steps 2 --out "$work/unknown"
done
expect 0 "done" "$BIN/sft" --validation 0.2 --model "$work/unknown.ckpt" --data "$work/sharegpt.json" --steps 2 --template chatml --out "$work/chosen"
expect 0 "" "$BIN/ckpt" export "$work/unknown.ckpt" --hf "$work/unknown-hf"
check "an unknown template is kept word for word" cmp -s "$work/unknown.jinja" "$work/unknown-hf/chat_template.jinja"
for what in all last; do
    expect 0 "done" "$BIN/sft" $small --train-on $what --data "$work/sharegpt.json" --steps 2 --out "$work/$what"
done

# small micro-batches drop nothing: they grow to the longest dialogue
expect 0 "40  dialogues to train on" "$BIN/sft" $small --micro-tokens 32 --data "$work/question.jsonl" --validation 0 --dry-run
expect 0 "the longest dialogue needs that many" "$BIN/sft" $small --micro-tokens 32 --data "$work/question.jsonl" --steps 2 --out "$work/grown"

# ---- bad input ----
bad="$BIN/sft $small --steps 2 --out $work/bad"
echo '{"prompt":"q"}' >"$work/unanswered.jsonl"
printf '{"prompt":"q","response":"a"}\n{"text":"q"}\n' >"$work/text.jsonl"
printf '{"prompt":"q","response":"a"}\n{"prompt":\n' >"$work/broken.jsonl"
printf '{"messages":[{"role":"wizard","content":"a"}]}\n' >"$work/role.jsonl"
: >"$work/empty.jsonl"
expect 65 "no trainable token in the data" $bad --data "$work/unanswered.jsonl"
expect 65 "no trainable token in the data" $bad --data "$work/empty.jsonl"
check "a report ends without an empty line" [ -n "$(tail -n 1 "$work/out")" ]
expect 65 "text.jsonl:2: not a dialogue: expected one of the keys" $bad --data "$work/text.jsonl"
expect 65 "broken.jsonl:2: not JSON" $bad --data "$work/broken.jsonl"
expect 65 "role.jsonl:1: messages: unknown role 'wizard'" $bad --data "$work/role.jsonl"
cat "$work/question.jsonl" "$work/role.jsonl" >"$work/odd.jsonl"
expect 0 "odd.jsonl:41: messages: unknown role 'wizard'" "$BIN/sft" $small --data "$work/odd.jsonl" --skip-bad-rows 3% --dry-run
check "the bad row is counted" said "1  bad rows"
check "and the others are read" said "40  rows read"
expect 65 "1 of 41 rows are bad, more than --skip-bad-rows 0.02 allows" "$BIN/sft" $small --data "$work/odd.jsonl" --skip-bad-rows 0.02 --dry-run
expect 64 "expected a number of rows, or a share" $bad --data "$work/odd.jsonl" --skip-bad-rows some
expect 65 "expected the key \"instruction\"" $bad --data "$work/question.jsonl" --format alpaca
expect 65 "not one answer fits" $bad --data "$work/question.jsonl" --max-length 8
expect 66 "there is no file or folder" $bad --data "$work/nowhere.jsonl"
expect 66 "" "$BIN/sft" --model "$work/nowhere" --data "$work/question.jsonl" --out "$work/bad"
expect 64 "--model" "$BIN/sft" --data "$work/question.jsonl" --out "$work/bad"
expect 64 "--out is missing" "$BIN/sft" $small --data "$work/question.jsonl"
expect 64 "template" $bad --data "$work/question.jsonl" --template llama9
expect 64 "validation" $bad --data "$work/question.jsonl" --validation 1
head -c 5000 "$work/base/final.ckpt" >"$work/cut.ckpt"
expect 65 "" "$BIN/sft" --model "$work/cut.ckpt" --data "$work/question.jsonl" --out "$work/bad"
cp "$work/question.jsonl" "$work/changing.jsonl"
expect 0 "done" "$BIN/sft" $small --data "$work/changing.jsonl" --steps 2 --out "$work/changed"
# model and data may have moved, but not become others
cp -r "$work/base" "$work/moved" && cp "$work/changing.jsonl" "$work/moved"
expect 0 "done: 3 steps" "$BIN/sft" $small --model "$work/moved" --data "$work/moved/changing.jsonl" --steps 3 --out "$work/changed"
expect 78 "--model holds other weights" "$BIN/sft" $small --model "$work/more" --data "$work/changing.jsonl" --steps 4 --out "$work/changed"
sed -i 's/number 7/number seven/' "$work/changing.jsonl"
expect 78 "started on other data" "$BIN/sft" $small --data "$work/changing.jsonl" --steps 4 --out "$work/changed"

# ---- public data: --dry-run counts every row; a few steps on some ----
d=$SHARED/data
expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" --vocab-size 300 --layers 1 --channels 32 --heads 2 \
    --context 2048 --batch-tokens 2048 \
    --micro-tokens 2048 --steps 2 --eval-every 0 --threads 2 --out "$work/long"
small="--model $work/long --batch-tokens 4096 --micro-tokens 2048 --lr 3e-3 --threads 2"
real() {                                             # rows file: what --dry-run must count
    there "$2" || return 0
    expect 0 "$1  rows read" "$BIN/sft" $small --data "$2" --dry-run
    check "$2: most rows are kept" [ "$(awk '/dialogues to train on/ { n = $1 } END { print n + 0 }' "$work/out")" -gt "$3" ]
}
real 500 "$d/sft-fastchat/dummy_conversation.json" 450
real 1000 "$d/sft-dolly-hhrlhf/dolly_hhrlhf_train_small.jsonl" 850
real 1100 "$d/sft-llms-from-scratch/instruction-data.json" 1000
real 175 "$d/sft-self-instruct/seed_tasks.jsonl" 150
real 200 "$d/sft-p3/common_gen_Put_together.jsonl" 150
real 500 "$d/sft-zh-community/add_sub_zh.json" 400
real 91 "$d/sft-llamafactory/identity.json" 80
train() {                                            # name file...
    name=$1
    shift
    there "$@" || return 0
    expect 0 "done" "$BIN/sft" $small --data "$@" --steps 20 --eval-every 20 --out "$work/$name"
    check "$name learns" below "$(number "$work/$name/metrics.jsonl" val_loss last)" "$(number "$work/$name/metrics.jsonl" val_loss first)"
    expect 0 "ok" "$BIN/ckpt" verify "$work/$name"
}
train multi "$d/sft-fastchat/dummy_conversation.json"
train instructions "$d/sft-llms-from-scratch/instruction-data.json" "$d/sft-zh-community/add_sub_zh.json"

# long dialogues are cut at turn borders
if there "$d/sft-nemo/dummy-sft.jsonl"; then
    expect 0 "7503  rows read" "$BIN/sft" $small --data "$d/sft-nemo/dummy-sft.jsonl" "$d/sft-gsm8k/train.jsonl" --dry-run
    check "system messages that are empty are left out" said "an empty system message"
fi

finish
