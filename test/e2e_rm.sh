#!/bin/sh
# e2e_rm.sh - the program rm as a user meets it: rankings of every shape are taken, what cannot be compared is counted, the model
# learns a taste it can be checked against, rewards are normalised, rm --score agrees with itself, and bad input ends in one
# sentence with its exit code.  On preferences with a known law the loss must come close to that of the law itself.
# With the data collection beside the project (SHARED), also public preference data in English and Chinese.  FULL=1: more seeds.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
rewards() { sed -n 's/.*"reward": \([-0-9.e+]*\)}.*/\1/p' "$1"; }

# ---- data: eight letters; a person's taste is 1 for each A and -1/2 for each B, and wavers as Bradley and Terry say ----
awk -v out="$work" 'BEGIN {
    srand(7)
    split("A B C D E F G H", letter, " ")
    for (i = 1; i <= 16000; i++) {
        for (k = 0; k < 2; k++) {
            text[k] = ""; r[k] = 0
            for (t = 0; t < 8; t++) {
                c = letter[1 + int(8 * rand())]
                text[k] = text[k] (t ? " " : "") c
                r[k] += c == "A" ? 1 : c == "B" ? -0.5 : 0
            }
        }
        first = rand() < 1 / (1 + exp(r[1] - r[0])) ? 0 : 1
        row = sprintf("{\"prompt\":\"%d\",\"chosen\":\"%s\",\"rejected\":\"%s\"}", i, text[first], text[1 - first])
        coin = rand() < 0.5
        if (i <= 8000) {
            print row >(out "/train.jsonl")
            printf "{\"prompt\":\"%d\",\"chosen\":\"%s\",\"rejected\":\"%s\"}\n", i, text[coin], text[1 - coin] >(out "/coins.jsonl")
            print text[0] "\n" text[1] >(out "/corpus.txt")
        } else {
            print row >(out "/test.jsonl")
            print r[first], r[1 - first] >(out "/taste.txt")
        }
        if (i > 300) continue
        # four answers, ranked by taste, with ties
        printf "{\"prompt\":\"number %d\",\"responses\":[", i >(out "/ranked.jsonl")
        ranks = ""
        for (k = 0; k < 4; k++) {
            a = int(5 * rand()); s = ""
            for (t = 0; t < 4; t++) s = s (t ? " " : "") (t < a ? "A" : letter[3 + int(6 * rand())])
            printf "%s\"%s\"", k ? "," : "", s >(out "/ranked.jsonl")
            ranks = ranks (k ? "," : "") (5 - a)
        }
        printf "],\"ranks\":[%s]}\n", ranks >(out "/ranked.jsonl")
    }
}'
"$BIN/pretrain" --data "$work/corpus.txt" --preset llama --vocab-size 300 --layers 2 --channels 64 --heads 4 --ffn 128 --context 64 \
    --batch-tokens 4096 --micro-tokens 2048 --lr 3e-3 --steps 20 --eval-every 0 --threads 2 --out "$work/base" >"$work/out" 2>&1 ||
    { wrong "a base model"; finish; }
echo '{"prompt":"letters","response":"A B C"}' >"$work/chat.jsonl"
expect 0 "done" "$BIN/sft" --model "$work/base" --data "$work/chat.jsonl" --validation 0 --steps 2 --batch-tokens 256 \
    --micro-tokens 256 --out "$work/sft"

# ---- a known law: within 0.01 of the loss of the true taste on 8000 unseen pairs (seeds give 0.003 to 0.005), and not below it ----
small="--batch-tokens 1024 --micro-tokens 1024 --lr 1e-3 --beta2 0.99 --threads 2"
law() {                                              # name data seed
    expect 0 "done" "$BIN/rm" --model "$work/base" $small --data "$work/$2" --validation 0 --normalize none --min-lr 0 \
        --eval-every 0 --seed "$3" --out "$work/$1"
    "$BIN/rm" --score --model "$work/$1" "$work/test.jsonl" >"$work/scores.jsonl" 2>"$work/out" || wrong "scoring $1"
    rewards "$work/scores.jsonl" | paste -d ' ' - - | paste -d ' ' - "$work/taste.txt" |
        awk '{ model += log(1 + exp($2 - $1)); law += log(1 + exp($4 - $3)); right += $1 > $2; n++ }
             END { printf "%d %.5f %.5f %.4f\n", n, model / n, law / n, right / n }' >"$work/law"
    read -r n model law right <"$work/law"
    echo "$1: $n pairs, loss $model, of the law itself $law, accuracy $right"
}
law taste train.jsonl 1
check "all pairs are scored" [ "$n" -eq 8000 ]
check "close to the law" awk -v m="$model" -v l="$law" 'BEGIN { exit !(m < l + 0.01 && m > l - 0.005) }'
if [ -n "$FULL" ]; then
    for seed in 2 3; do
        law taste$seed train.jsonl $seed
        check "close to the law, seed $seed" awk -v m="$model" -v l="$law" 'BEGIN { exit !(m < l + 0.01 && m > l - 0.005) }'
    done
    law coins coins.jsonl 1
    check "from coins nothing is learnt" awk -v m="$model" 'BEGIN { exit !(m > log(2) - 0.005) }'
fi

# ---- a run on rankings of four ----
run="$BIN/rm --model $work/sft $small --lr 3e-3 --data $work/ranked.jsonl --epochs 4 --validation 0.2 --eval-every 20 --out $work/run"
expect 0 "answer 4, quality -" $run --dry-run
check "rows are counted" said "300  rows read"
check "answers are marked" said "<|assistant|>["
expect 0 "parameters" $run --plan
expect 0 "memory of a rank (measured" $run --plan --cluster "h100 x 8, network 25GB/s"
check "--plan and --dry-run leave nothing behind" [ ! -e "$work/run" ]
expect 0 "rewards are (score " $run
metrics=$work/run/metrics.jsonl
check "untrained, it is wrong more often" below "$(number "$metrics" val_accuracy first)" "$(number "$metrics" val_accuracy last)"
check "held-out prompts are ranked" below 0.95 "$(number "$metrics" val_accuracy last)"
check "the loss falls" below "$(number "$metrics" val_loss last)" 0.3
for key in val_brier val_ece val_margin val_longer_wins val_length_correlation accuracy margin pairs score_mean score_std; do
    check "metrics have $key" [ -n "$(number "$metrics" $key last)" ]
done
check "the progress line shows the accuracy" grep -qE "step [0-9]+/[0-9]+  ETA [^ ]+ ?[^ ]*  accuracy [0-9.]+  loss " "$work/run/log.txt"
check "evaluations fit a terminal" awk "/val_/ { sub(/^[-0-9]+ [0-9:]+  /, \"\"); if (length > 80) exit 1; n++ } END { if (!n) exit 1 }" "$work/run/log.txt"
check "the calibration table is printed" grep -q "confidence   pairs   predicted   was right" "$work/run/log.txt"
expect 0 "ok" "$BIN/ckpt" verify "$work/run"
expect 0 "sft      sft  step 2" "$BIN/ckpt" lineage "$work/run"
expect 0 "reached already" $run
expect 78 "margin" $run --margin 1
expect 0 "resumes from" $run --epochs 4.2

# normalised: the best answers of the training data have mean 0 and deviation 1; other choices, the same order
# (300 prompts are fewer than the 512 references taken, so all of them count but those whose answers are all tied)
expect 0 "done" $run --validation 0 --out "$work/both"
expect 0 "done" $run --validation 0 --out "$work/none" --normalize none
expect 0 "done" $run --validation 0 --out "$work/mean" --normalize mean
for kind in both none mean; do "$BIN/rm" --score --model "$work/$kind" "$work/ranked.jsonl" >"$work/$kind.jsonl" 2>>"$work/out"; done
paste -d ' ' "$work/both.jsonl" "$work/none.jsonl" "$work/mean.jsonl" |
    awk -v s="$("$BIN/ckpt" config "$work/both" score.std)" -v m="$("$BIN/ckpt" config "$work/both" score.mean)" '
        { gsub(/[{}",:a-z]/, ""); b = $4; raw = $8; c = $12
          if ((b * s + m - raw) ^ 2 > 1e-6 || (c + m - raw) ^ 2 > 1e-6) bad++; n++ }
        END { exit !(n == 1200 && bad == 0) }'
check "reward = (score - mean) / deviation" [ $? -eq 0 ]
awk -F'[][]' 'NR == FNR { split($4, rank, ","); if (rank[1] == rank[2] && rank[1] == rank[3] && rank[1] == rank[4]) next; best = 1; for (k = 2; k <= 4; k++) if (rank[k] < rank[best]) best = k; pick[NR] = best; prompts++; next }
    { split($0, f, /[ ,}]+/); r = f[8] + 0; row = f[2] + 0; k = f[4] + 1
      if (k == pick[row]) { n++; sum += r; squares += r * r } }
    END { mean = sum / n; d = sqrt(squares / n - mean * mean); printf "references: %d, mean %.5f, deviation %.5f\n", n, mean, d
          exit !(n == prompts && mean ^ 2 < 1e-4 && (d - 1) ^ 2 < 1e-3) }' "$work/ranked.jsonl" "$work/both.jsonl"
check "references have mean 0 and deviation 1" [ $? -eq 0 ]

# from a pipe, any shape of row, the same numbers
head -n 1 "$work/ranked.jsonl" | "$BIN/rm" --score --model "$work/both" >"$work/piped.jsonl" 2>>"$work/out"
check "a pipe gives the same as a file" [ "$(rewards "$work/piped.jsonl")" = \
    "$(head -n 4 "$work/both.jsonl" >"$work/four"; rewards "$work/four")" ]
printf '%s\n' '{"prompt":"p","response":"A A"}' '{"messages":[{"role":"user","content":"p"},{"role":"assistant","content":"A A"}]}' \
    '{"chosen":"\n\nHuman: p\n\nAssistant: A A","rejected":"\n\nHuman: p\n\nAssistant: B"}' | sed 's/$/\n/' |
    "$BIN/rm" --score --model "$work/both" >"$work/piped.jsonl" 2>>"$work/out"
check "four answers, three of them the same" [ "$(rewards "$work/piped.jsonl" | sort | uniq -c | awk '{ print $1 }' | sort | tr '\n' ' ')" = "1 3 " ]
# a row is answered while the pipe stays open
{ printf '{"prompt":"p","response":"A A"}\n'
  i=0; while [ $i -lt 250 ] && [ ! -s "$work/live.jsonl" ]; do sleep 0.02; i=$((i + 1)); done
  cp "$work/live.jsonl" "$work/live"; } | "$BIN/rm" --score --model "$work/both" >"$work/live.jsonl" 2>>"$work/out"
check "a row from a pipe is answered at once" grep -q '"row": 1' "$work/live"
printf '{"prompt":"p","response":"A"}\n{"prompt":"p"\n' >"$work/bad.jsonl"
: >"$work/none.jsonl"
expect 0 "there is no row to score" "$BIN/rm" --score --model "$work/both" "$work/none.jsonl"
expect 65 "bad.jsonl:2: not JSON" "$BIN/rm" --score --model "$work/both" "$work/bad.jsonl"
check "what came before is answered" said '"row": 1'
printf '{"prompt":"p","response":"A"}\n{"text":"p"}\n' >"$work/bad.jsonl"
expect 65 "bad.jsonl:2: not a dialogue" "$BIN/rm" --score --model "$work/both" "$work/bad.jsonl"
expect 78 "is a checkpoint of stage sft, expected rm" "$BIN/rm" --score --model "$work/sft" "$work/ranked.jsonl"
expect 64 "--model" "$BIN/rm" --score "$work/ranked.jsonl"
expect 66 "" "$BIN/rm" --score --model "$work/both" "$work/nowhere.jsonl"

# options of the loss; a base model with a warning; the same bits for any number of threads
expect 0 "done" $run --steps 3 --margin 0.5 --label-smoothing 0.1 --center 0.01 --out "$work/options"
expect 0 "was not fine-tuned on dialogues" "$BIN/rm" --model "$work/base" $small --data "$work/ranked.jsonl" --steps 2 \
    --out "$work/frombase"
for threads in 1 3; do expect 0 "done" $run --steps 3 --threads $threads --out "$work/threads$threads"; done
expect 1 "0 of " "$BIN/ckpt" diff "$work/threads1" "$work/threads3"
expect 0 "the largest prompt needs that many" $run --steps 2 --micro-tokens 20 --out "$work/grown"

# ---- bad input ----
bad="$BIN/rm --model $work/sft $small --steps 2 --out $work/bad"
printf '{"prompt":"p","chosen":"a","rejected":"a"}\n{"prompt":"p","chosen":"","rejected":"a"}\n' >"$work/useless.jsonl"
printf '{"prompt":"p","chosen":"a","rejected":"b"}\n{"prompt":"p","chosen":"a"}\n' >"$work/half.jsonl"
printf '{"prompt":"p","responses":["a","b"],"ranks":[1]}\n' >"$work/count.jsonl"
expect 65 "2  fewer than two different answers" $bad --data "$work/useless.jsonl"
expect 65 "half.jsonl:2: expected the key \"rejected\"" $bad --data "$work/half.jsonl"
expect 65 "2 responses, but 1 ranks" $bad --data "$work/count.jsonl"
expect 0 "half.jsonl:2: expected the key" $bad --data "$work/half.jsonl" --skip-bad-rows 1 --validation 0 --dry-run
expect 65 "not a ranking" $bad --data "$work/chat.jsonl"
expect 66 "there is no file or folder" $bad --data "$work/nowhere.jsonl"
expect 64 "label-smoothing" $bad --data "$work/ranked.jsonl" --label-smoothing 0.7
expect 64 "--out is missing" "$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl"
expect 78 "is a checkpoint of stage rm" "$BIN/rm" --model "$work/both" --data "$work/ranked.jsonl" --out "$work/bad"
cp "$work/ranked.jsonl" "$work/changing.jsonl"
expect 0 "done" "$BIN/rm" --model "$work/sft" $small --data "$work/changing.jsonl" --steps 2 --out "$work/changed"
# model and data may have moved, but not become others
cp -r "$work/sft" "$work/moved" && cp "$work/changing.jsonl" "$work/moved"
expect 0 "done: 3 steps" "$BIN/rm" $small --model "$work/moved" --data "$work/moved/changing.jsonl" --steps 3 --out "$work/changed"
expect 78 "--model holds other weights" "$BIN/rm" --model "$work/base" $small --data "$work/changing.jsonl" --steps 4 --out "$work/changed"
sed -i '3s/A/B/' "$work/changing.jsonl"
expect 78 "started on other data" "$BIN/rm" --model "$work/sft" $small --data "$work/changing.jsonl" --steps 4 --out "$work/changed"

# ---- public data ----
d=$SHARED/data
expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" --vocab-size 300 --layers 1 --channels 32 --heads 2 \
    --context 2048 --batch-tokens 2048 \
    --micro-tokens 2048 --steps 2 --eval-every 0 --threads 2 --out "$work/long"
small="--model $work/long --batch-tokens 8192 --micro-tokens 4096 --lr 3e-3 --threads 2"
real() {                                             # rankings file kept words: what --dry-run must say
    there "$2" || return 0
    expect 0 "$1  rankings read" "$BIN/rm" $small --data "$2" --dry-run
    [ -z "$4" ] || check "$2: $4" said "$4"
    check "$2: most are kept" [ "$(awk '/prompts to train on/ { n = $1 } END { print n + 0 }' "$work/out")" -gt "$3" ]
}
real 2312 "$d/pref-hh-rlhf/harmless-base-test.jsonl.gz" 2100 "4  empty answers left out"
real 2749 "$d/pref-hh-rlhf/helpful-rejection-sampled-test.jsonl.gz" 2500 "32  answers left out: equal to another of the same prompt"
real 212 "$d/pref-oasst-ranked/oasst_en_100_trees.jsonl" 180
real 300 "$d/pref-dpo-demo/dpo_en_demo.json" 200
real 10 "$d/pref-dpo-demo/v1_dpo_demo.jsonl" 5
real 500 "$d/pref-zh-medicalgpt/dpo_zh_500.jsonl" 400
real 1100 "$d/pref-llms-from-scratch/instruction-data-with-preference.json" 1000
real 25 "$d/pref-stackexchange/stack_exchange_paired_tiny.json" 4
train() {                                            # name file...
    name=$1
    shift
    there "$@" || return 0
    expect 0 "done" "$BIN/rm" $small --data "$@" --steps 4 --eval-every 4 --max-length 512 --validation 0.02 --out "$work/$name"
    expect 0 "ok" "$BIN/ckpt" verify "$work/$name"
}
train trees "$d/pref-oasst-ranked/oasst_en_100_trees.jsonl"
train pairs "$d/pref-hh-rlhf/harmless-base-test.jsonl.gz" "$d/pref-zh-medicalgpt/dpo_zh_500.jsonl"

finish
