#!/bin/sh
# e2e_pretrain.sh - the program pretrain as a user meets it: text becomes a run folder that verifies, the same command again
# says it is done, evaluation agrees with what training reported, sources of every kind are taken, and bad input ends in one
# sentence with its exit code.  With the data collection beside the project (SHARED), also Shakespeare and a Chinese novel.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh

# ---- data ----
awk -v out="$work" 'BEGIN {
    srand(2)
    split("red blue green small big old round bright", adjective, " ")
    split("cat dog bird fox stone river tree house", noun, " ")
    split("sees finds likes hears follows leaves", verb, " ")
    for (i = 1; i <= 1500; i++) {
        text = "The " adjective[1 + int(8 * rand())] " " noun[1 + int(8 * rand())] " " verb[1 + int(6 * rand())] " the " noun[1 + int(8 * rand())] "."
        print text >(out "/corpus.txt")
        if (i % 4 == 0) print "<|endoftext|>" >(out "/corpus.txt")
        if (i <= 200) printf "{\"body\":\"%s\",\"id\":%d}\n", text, i >(out "/rows.jsonl")
    }
}'
small="--vocab-size 320 --layers 2 --channels 32 --heads 2 --context 64 --batch-tokens 1024 --micro-tokens 512 --lr 1e-2 --threads 2"

# ---- a run ----
run="$BIN/pretrain --data $work/corpus.txt $small --steps 40 --eval-every 20 --save-every 20 --sample-every 40 --out $work/run"
expect 0 "parameters" $run --plan
check "--plan leaves nothing behind" [ ! -e "$work/run" ]
expect 0 "done: 40 steps" $run --sample-prompt "The red cat"
for file in final.ckpt step-00000020.ckpt latest metrics.jsonl run.conf status.json log.txt samples.txt tokenizer.bin shards; do
    check "the run folder holds $file" [ -e "$work/run/$file" ]
done
metrics=$work/run/metrics.jsonl
check "41 records" [ "$(wc -l <"$metrics")" -eq 41 ]
check "the loss falls" below "$(number "$metrics" loss last)" "$(awk -v x="$(number "$metrics" loss first)" 'BEGIN { print 0.5 * x }')"
check "the validation loss falls" below "$(number "$metrics" val_loss last)" 2.5
check "the sample goes on with the prompt" grep -q "^The red cat" "$work/run/samples.txt"
expect 0 "ok" "$BIN/ckpt" verify "$work/run"
expect 0 "reached already" $run --sample-prompt "The red cat"
expect 0 "layout      tensor 8, pipeline 12, data 4, ZeRO-1" "$BIN/pretrain" --plan --cluster "a100-80 x 384, network 5GB/s" \
    --preset gpt3-175b --tokens 300B --tensor-parallel 8 --pipeline-parallel 12 --zero 1 --gpu-hour 2.50
check "a plan for a cluster has its cost" said "device hours, cost"
expect 0 "peak, memory and hbm measured here" "$BIN/pretrain" --plan --cluster "here x 2" --model "$work/run" --tokens 1M
expect 78 "lr" $run --lr 1e-4
expect 0 "done: 45 steps" $run --steps 45
check "a finished run goes on" [ "$(wc -l <"$metrics")" -eq 46 ]

# batch and learning rate follow the data and the model, and stay when the run grows; a run that will not fit says so
auto="$BIN/pretrain --data $work/corpus.txt --vocab-size 320 --layers 1 --channels 128 --heads 2 --context 64 --threads 2"
expect 0 "12 steps of 512 tokens" $auto --tokens 6k --out "$work/auto"
check "few updates are warned of" said "warning: only 12 updates"
check "run.conf keeps how long was asked for" grep -qx "steps = 0" "$work/auto/run.conf"
check "the rate follows the width" grep -qx "lr = 0.0035" "$work/auto/run.conf"
check "the next command is shown" said "next: $BIN/sft --model $work/auto --data DIALOGUES.jsonl --out $work/sft"
expect 0 "8.19k per step" $auto --tokens 20M --plan
expect 75 "resumes from step 12" $auto --tokens 20M --time-limit 1 --out "$work/auto"
touch "$work/auto/stop"
expect 75 "by the file stop in the run folder" $auto --tokens 20M --out "$work/auto"
rm "$work/auto/stop"
check "the batch stays" grep -qx "batch-tokens = 512" "$work/auto/run.conf"
expect 70 "this run needs" $auto --layers 900 --channels 8192 --plan

# held-out numbers of a checkpoint are those that training reported
bits=$(number "$metrics" val_bits_per_byte last)
expect 0 "bits per byte $(printf %.6f "$bits")" "$BIN/pretrain" --eval-only --model "$work/run" --data "$work/corpus.txt" --validation 0.01
expect 0 "perplexity" "$BIN/pretrain" --eval-only --model "$work/run/final.ckpt" --data "$work/corpus.txt"
check "--eval-only leaves nothing behind" [ -z "$(find /tmp -maxdepth 1 -name 'quartet-shards-*' -newer "$work/corpus.txt" 2>/dev/null)" ]

# from these weights on, with that tokenizer, and a tokenizer by itself
expect 0 "done: 5 steps" "$BIN/pretrain" --data "$work/rows.jsonl" --text-key body --model "$work/run" --batch-tokens 512 \
    --micro-tokens 512 --steps 5 --out "$work/more"
check "lower loss than from random weights" below "$(number "$work/more/metrics.jsonl" loss first)" 3
expect 0 "init" "$BIN/ckpt" lineage "$work/more"
expect 0 "done: 7 steps" "$BIN/pretrain" --data "$work/rows.jsonl" --text-key body --model "$work/run" --batch-tokens 512 \
    --micro-tokens 512 --steps 7 --out "$work/more"
cp -r "$work/run" "$work/run2"
expect 0 "done: 8 steps" "$BIN/pretrain" --data "$work/rows.jsonl" --text-key body --model "$work/run2" --batch-tokens 512 \
    --micro-tokens 512 --steps 8 --out "$work/more"
expect 78 "--model holds other weights" "$BIN/pretrain" --data "$work/rows.jsonl" --text-key body --model "$work/run/step-00000020.ckpt" \
    --batch-tokens 512 --micro-tokens 512 --steps 9 --out "$work/more"
expect 0 "done: 2 steps" "$BIN/pretrain" --data "$work/corpus.txt" --tokenizer "$work/run" ${small#--vocab-size 320 } --steps 2 --out "$work/taken"
expect 0 "vocab_size  320" "$BIN/ckpt" tokenizer "$work/run"
check "the same tokenizer" [ "$(sed 1d "$work/out")" = "$("$BIN/ckpt" tokenizer "$work/taken" | sed 1d)" ]

# a sample of one large document is never empty
grep -v '<|' "$work/corpus.txt" >"$work/whole.txt"
expect 0 "320 ids trained on" "$BIN/pretrain" --data "$work/whole.txt" $small --tokenizer-bytes 3K --steps 1 --out "$work/sampled"

# sources: gzip, folder, glob, weights, array; shards shared by runs
mkdir "$work/folder"
gzip -c "$work/corpus.txt" >"$work/folder/a.txt.gz"
sed 's/"body"/"text"/; s/$/,/; 1s/^/[/; $s/,$/]/' "$work/rows.jsonl" >"$work/folder/b.json"
printf '\357\273\277One\r\nbad \377 byte\r\n' >"$work/folder/c.txt"
printf '{"text":"One of the texts."}\n{"text":"Another."}\n' >"$work/texts.jsonl"
expect 0 "1 byte order mark and 2 carriage returns removed, 1 invalid byte replaced" "$BIN/pretrain" --data "$work/folder" \
    "$work/text*.jsonl=2.5" $small --steps 2 --out "$work/mixed" --shards "$work/cache"
check "--shards names the folder" [ -n "$(ls "$work/cache"/*.shard)" ]
expect 65 "--text-key" "$BIN/pretrain" --data "$work/rows.jsonl" $small --steps 2 --out "$work/key"

# the same bits for any number of threads
for threads in 1 3; do
    expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" $small --threads $threads --steps 3 --out "$work/threads$threads"
done
expect 1 "0 of 42 tensors differ" "$BIN/ckpt" diff "$work/threads1" "$work/threads3"

# both presets, and what a small corpus with a large vocabulary says
expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" --preset gpt2 $small --steps 2 --out "$work/gpt2"
expect 0 "instead of 5000" "$BIN/pretrain" --data "$work/rows.jsonl" --text-key body $small --vocab-size 5000 --steps 1 --out "$work/few"

# ---- bad input ----
bad="$BIN/pretrain $small --steps 2 --out $work/bad"
: >"$work/empty.txt"
printf '{"text":"a"}\n{"text": nope}\n' >"$work/broken.jsonl"
printf '{"text":7}\n' >"$work/type.jsonl"
head -c 3000 /dev/urandom | gzip -c | head -c 1500 >"$work/cut.txt.gz"
expect 66 "there is no file or folder" $bad --data "$work/nowhere.txt"
expect 66 "nothing matches" $bad --data "$work/*.nothing"
expect 65 "there is no text" $bad --data "$work/empty.txt"
expect 65 "broken.jsonl:2: not JSON at column 10" $bad --data "$work/broken.jsonl"
{ cat "$work/broken.jsonl" "$work/type.jsonl"; printf '{"text":"The cat sees the dog."}\n%.0s' 1 2 3 4 5; } >"$work/odd.jsonl"
expect 0 "2  bad rows" "$BIN/pretrain" $small --vocab-size 280 --context 16 --steps 1 --out "$work/odd" --data "$work/odd.jsonl" --skip-bad-rows 0.002k
check "each skipped row is listed" said "odd.jsonl:2: not JSON at column 10"
expect 65 "more than --skip-bad-rows 1 rows are bad" $bad --data "$work/odd.jsonl" --skip-bad-rows 1
expect 65 "more than --skip-bad-rows 0.01 allows" $bad --data "$work/odd.jsonl" --skip-bad-rows 1%
expect 65 "more than --skip-bad-rows 0.01 allows" $bad --data "$work/odd.jsonl" --skip-bad-rows 1e-2
expect 65 "type.jsonl:1: the key 'text' holds a number" $bad --data "$work/type.jsonl"
expect 65 "rows.jsonl:1: there is no key 'text', found body, id" $bad --data "$work/rows.jsonl"
expect 65 "damaged gzip" $bad --data "$work/cut.txt.gz"
expect 64 "unknown option --laers: did you mean --layers?" $bad --data "$work/corpus.txt" --laers 3
expect 64 "--data" $bad
expect 64 "vocab-size" $bad --data "$work/corpus.txt" --vocab-size 100
expect 64 "context" $bad --data "$work/corpus.txt" --context 1
expect 64 "context" $bad --data "$work/corpus.txt" --context 10G
expect 64 "heads" $bad --data "$work/corpus.txt" --heads 5
expect 64 "preset" $bad --data "$work/corpus.txt" --preset gpt7
expect 64 "lr" $bad --data "$work/corpus.txt" --lr fast
expect 64 "validation" $bad --data "$work/corpus.txt" --validation 2
expect 64 "above the model's 64" "$BIN/pretrain" --data "$work/corpus.txt" --model "$work/run" --context 128 --steps 1 --out "$work/bad2"
expect 64 "--layers cannot be given with --model" "$BIN/pretrain" --data "$work/corpus.txt" --model "$work/run" --layers 3 --steps 1 \
    --out "$work/bad3"
expect 64 "--out" "$BIN/pretrain" --data "$work/corpus.txt" $small --steps 1
expect 64 "--model" "$BIN/pretrain" --data "$work/corpus.txt" --eval-only
expect 66 "" "$BIN/pretrain" --data "$work/corpus.txt" --eval-only --model "$work/nowhere"
head -c 5000 "$work/run/final.ckpt" >"$work/cut.ckpt"
expect 65 "" "$BIN/pretrain" --data "$work/corpus.txt" --eval-only --model "$work/cut.ckpt"
expect 65 "not finite" "$BIN/pretrain" --data "$work/corpus.txt" $small --lr 10 --clip 0 --warmup 0 --eps 1e-20 --steps 400 --eval-every 0 \
    --schedule constant --weight-decay 10 --out "$work/diverged"
# files may move, as long as they hold the same text
mkdir "$work/elsewhere" && cp "$work/corpus.txt" "$work/elsewhere/"
expect 0 "reached already" "$BIN/pretrain" --data "$work/elsewhere/corpus.txt" $small --steps 45 --out "$work/run"

# a damaged shard is noticed and made again
for shard in "$work"/run/shards/*.shard; do printf 'XXXX' | dd of="$shard" bs=1 seek=300 conv=notrunc 2>/dev/null; done
expect 0 "is damaged" $run --steps 46
# one whose time does not tell is noticed by the first row that shows the damage
for shard in "$work"/run/shards/*.shard; do
    cp -p "$shard" "$work/was"
    printf 'XXXX' | dd of="$shard" bs=1 seek=300 conv=notrunc 2>/dev/null
    touch -r "$work/was" "$shard"
done
expect 65 "checksum of its tokens from byte" $run --steps 50
expect 0 "done: 50 steps" $run --steps 50

# ---- what is text, and what is not ----
# rows of JSON whatever the file is called; a foreign format is refused by name
sed 's/"body"/"text"/' "$work/rows.jsonl" >"$work/part-00000"
expect 0 "in 198 documents" "$BIN/pretrain" --data "$work/part-00000" $small --steps 1 --out "$work/part"
cp "$BIN/pretrain" "$work/program.txt"
printf 'PAR1\025\000\025' >"$work/rows.parquet"
expect 65 "rows.parquet is a Parquet file, expected text" $bad --data "$work/rows.parquet"
expect 65 "program.txt is a program (ELF)" $bad --data "$work/program.txt"
for i in 1 2 3 4 5 6; do printf 'un \351t\351 \340 la mer\n'; done >"$work/latin.txt"
expect 65 "--allow-invalid-utf8" $bad --data "$work/latin.txt" "$work/corpus.txt"
expect 0 "18 invalid bytes replaced" "$BIN/pretrain" --data "$work/latin.txt" "$work/corpus.txt" --allow-invalid-utf8 $small --steps 1 \
    --out "$work/latin"
mkfifo "$work/fifo"
expect 66 "is a pipe or a device" $bad --data "$work/fifo"
if command -v zstd >/dev/null; then
    zstd -q "$work/corpus.txt" -o "$work/corpus.zst"
    if ldd "$BIN/pretrain" | grep -q libzstd; then code=0 words="done: 1 step,"; else code=65 words="is packed with zstd"; fi
    expect $code "$words" "$BIN/pretrain" --data "$work/corpus.zst" $small --steps 1 --out "$work/zst"
else omit "there is no zstd"; fi

# a run inside its own data: its files are no data, and the same command resumes
mkdir "$work/inside" && cp "$work/corpus.txt" "$work/inside/" && echo x >"$work/inside/notes.pdf" && ln -s nowhere "$work/inside/gone.txt"
for steps in 2 3; do
    ( cd "$work/inside" && expect 0 "done: $steps steps" "$BIN/pretrain" --data . $small --steps $steps --out run; echo $failed >"$work/inside.failed" )
    check "a run inside its own data, $steps steps" [ "$(cat "$work/inside.failed")" -eq "$failed" ]
done
check "what is left out of a folder is in the log" [ "$(grep -c 'left out of .: 1' "$work/inside/run/log.txt")" -eq 6 ]
check "the run is named" grep -q "1 folder of a run, a tokenizer or shards: ./run" "$work/inside/run/log.txt"

# a tokenizer replaced in place counts by its content, and that of the checkpoint serves when it is gone
for n in 300 310; do
    expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" ${small#--vocab-size 320 } --vocab-size $n --steps 1 --out "$work/vocab$n"
done
forget() { rm -f "$1"/*.ckpt "$1/latest" "$1/metrics.jsonl"; }           # as if it had been stopped before its first checkpoint
taken="$BIN/pretrain --data $work/corpus.txt --tokenizer $work/vocab.ckpt ${small#--vocab-size 320 } --out $work/replaced"
cp "$work/vocab300/final.ckpt" "$work/vocab.ckpt"
expect 0 "done" $taken --steps 1
forget "$work/replaced"
cp "$work/vocab310/final.ckpt" "$work/vocab.ckpt"
expect 0 "done" $taken --steps 1
expect 0 "vocab_size  310" "$BIN/ckpt" tokenizer "$work/replaced"
rm "$work/vocab.ckpt"
expect 0 "is gone; the tokenizer is the run's own" $taken --steps 2
# so does the text that a tokenizer was trained on
trained="$BIN/pretrain --data $work/swap.txt $small --out $work/swap"
cp "$work/corpus.txt" "$work/swap.txt"
expect 0 "ids trained on" $trained --steps 1
forget "$work/swap"
tr a-y b-z <"$work/corpus.txt" >"$work/swap.txt"
expect 0 "ids trained on" $trained --steps 1

# --plan estimates and writes nothing; --eval-only leaves nothing behind, even when it fails
temporary() { find /tmp -maxdepth 1 -name 'quartet-shards-*' -newer "$work/corpus.txt" 2>/dev/null; }
expect 0 "estimated from" "$BIN/pretrain" --data "$work/corpus.txt" $small --plan --steps 1 --out "$work/planned"
cp "$work/run/final.ckpt" "$work/flipped.ckpt"
at=$("$BIN/ckpt" tensors "$work/run" | awk '$1 == "tok_embd.weight" && $2 == "weight" { print $(NF - 3) }')
printf '\377\377' | dd of="$work/flipped.ckpt" bs=1 seek=$((at + 101)) conv=notrunc status=none
expect 65 "tok_embd.weight" "$BIN/pretrain" --data "$work/part-00000" --eval-only --model "$work/flipped.ckpt"
check "nothing is left in /tmp" [ -z "$(temporary)" ]
check "--plan makes no folder" [ ! -e "$work/planned" ]

# many names cost memory in proportion
mkdir "$work/many"
( cd "$work/many" && for i in $(seq 20000); do echo "text $i" >"$i.txt"; done )
( ulimit -v 1500000; "$BIN/pretrain" --data "$work/many"/*.txt --plan --vocab-size 300 --layers 1 --channels 32 --context 32 --threads 1 --steps 1 ) >"$work/out" 2>&1
case $BUILD in
*-*san) omit "a sanitizer takes memory of its own" ;;
*) check "20,000 names in 1.5 GB" said "estimated from" ;;
esac

# data that has changed under a run
sed 's/cat/cow/' "$work/corpus.txt" >"$work/corpus2.txt"
cp "$work/corpus.txt" "$work/corpus.kept" && cp "$work/corpus2.txt" "$work/corpus.txt"
expect 78 "the data is not what this run was trained on" $run --steps 60
mv "$work/corpus.kept" "$work/corpus.txt"

# ---- real text ----
real() {                                             # name words file...
    name=$1 words=$2
    shift 2
    there "$@" || return 0
    expect 0 "$words" "$BIN/pretrain" --data "$@" --vocab-size 1024 --layers 2 --channels 64 --heads 2 --context 128 --batch-tokens 2048 \
        --micro-tokens 1024 --lr 5e-3 --steps 40 --eval-every 20 --out "$work/$name"
    check "$name learns" below "$(number "$work/$name/metrics.jsonl" val_loss last)" "$(number "$work/$name/metrics.jsonl" val_loss first)"
    expect 0 "ok" "$BIN/ckpt" verify "$work/$name"
}
d=$SHARED/data
real shakespeare "from the ends of 1 document " $d/pretrain-tinyshakespeare/input.txt
real novel "5591 carriage returns" $d/pretrain-zh-classics/hongloumeng.txt
real novels "3 byte order marks" $d/pretrain-gutenberg/alice_11.txt $d/pretrain-gutenberg/pride_prejudice_1342.txt \
    $d/pretrain-gutenberg/moby_dick_2701.txt
real documents "done" $d/pretrain-docs-jsonl/c4_demo.jsonl $d/pretrain-zh-modern/trpl_zh.jsonl

if there "$d/tok-gpt2/vocab.bpe"; then
    expect 0 "done" "$BIN/pretrain" --data $d/pretrain-names/names.txt --tokenizer $d/tok-gpt2 --preset gpt2 --layers 1 \
        --channels 32 --heads 1 \
        --context 64 --batch-tokens 256 --steps 1 --validation 0 --out "$work/imported"
    expect 0 "50257" "$BIN/ckpt" config "$work/imported"
fi

# what a tokenizer of some size needed while it was trained is given back before the run takes what --plan says
text=$SHARED/data/pretrain-zh-classics/hongloumeng.txt
if there "$text"; then
    large="$BIN/pretrain --data $text --vocab-size 2048 --layers 4 --channels 128 --context 512 --batch-tokens 2048 --micro-tokens 2048 --eval-every 0 --steps 1"
    expect 0 "total" $large --plan --out "$work/large"
    planned=$(awk '$1 == "total" { print $NF }' "$work/out")
    expect 0 "done" $large --out "$work/large"
    taken=$(sed -n 's/.*"host_bytes":\([0-9]*\).*/\1/p' "$work/large/metrics.jsonl" | tail -n 1)
    case $BUILD in
    *-*san) omit "a sanitizer takes memory of its own" ;;
    *) check "$taken bytes taken, $planned planned" awk -v p="$planned" -v t="$taken" 'BEGIN { exit !(p > 5e7 && t <= 1.02 * p + 33554432) }' ;;
    esac
fi

finish
