#!/bin/sh
# growth.sh - how cost grows: a training step, the memory of a program beside --plan, answers to a prompt, a corpus,
# rows of data.  Prints tables.  GROWTH="context corpus" makes only these of: parameters context vocabulary batch
# threads memory answers corpus rows.  GROWTH_MB="10 100 1000": sizes of the corpus, which takes 1.7 times its size in
# TMPDIR.  BENCH_CLOCK=cpu as in bench.h.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${BUILD:=build/cpu}" "${GROWTH_MB:=10 100 1000}"
export GROWTH
world=$BUILD/test/demo/world
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
wanted() { case " ${GROWTH:-$1} " in *" $1 "*) ;; *) return 1 ;; esac; }
of() { awk "BEGIN { printf \"$1\", $2 }"; }                             # of FORMAT EXPRESSION
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 3 "$work/log"; exit 1; }; }
number() { grep -o "\"$2\":[-0-9.e+]*" "$1" | tail -n 1 | cut -d: -f2; }
median() {
    grep -o "\"$2\":[-0-9.e+]*" "$1" | cut -d: -f2 | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
# timed COMMAND: seconds of the clock and of the processors in $wall and $cpu
spent() { sed -n 2p "$work/times" | tr ms '  ' | awk '{ print 60 * $1 + $2 + 60 * $3 + $4 }'; }
timed() {
    times >"$work/times"; before=$(spent) start=$(date +%s.%N)      # times of a subshell would be its own
    quiet "$@"
    end=$(date +%s.%N); times >"$work/times"
    wall=$(of %.2f "$end - $start") cpu=$(of %.2f "$(spent) - $before")
}

# rows KIND N K: rows of dialogues, rankings of K answers, or prompts
rows() {
    awk -v kind="$1" -v n="$2" -v k="$3" '
    function pick() { return word[int(rand() * count) + 1] }
    function words(n,  s) { s = pick(); while (--n) s = s " " pick(); return s }
    BEGIN {
        count = split("the fox bear duck found a kite boat in lake and played all day was proud of red farm", word, " ")
        srand(1)
        for (i = 0; i < n; i++) {
            if (kind == "prompts") { printf "{\"prompt\":\"%d %s\"}\n", i, words(15); continue }
            if (kind == "dialogues") {
                printf "{\"messages\":[{\"role\":\"user\",\"content\":\"%d %s\"}," \
                       "{\"role\":\"assistant\",\"content\":\"%s\"}," \
                       "{\"role\":\"user\",\"content\":\"%s\"},{\"role\":\"assistant\",\"content\":\"%s\"}]}\n", \
                       i, words(12), words(25), words(6), words(20)
                continue
            }
            printf "{\"prompt\":\"%d %s\",\"responses\":[", i, words(12)
            for (a = 0; a < k; a++) printf "%s\"%s\"", a ? "," : "", words(20)
            printf "],\"scores\":["
            for (a = 0; a < k; a++) printf "%s%d", a ? "," : "", a
            print "]}"
        }
    }'
}

for part in parameters context vocabulary batch threads; do
    wanted $part || continue
    "$BUILD/test/bench/growth_model" || exit 1
    break
done

small="--layers 4 --channels 128 --heads 4 --ffn 384 --context 128 --batch-tokens 2048 --micro-tokens 2048"
small="$small --eval-every 0"
"$world" corpus 1 10000000 >"$work/10.txt"
base() {
    [ -d "$work/base" ] && return
    quiet "$BIN/pretrain" --data "$work/10.txt" --vocab-size 512 --shards "$work/shards" $small --steps 10 \
        --out "$work/base"
    rows dialogues 1000 >"$work/some"
    quiet "$BIN/sft" --model "$work/base" --data "$work/some" --steps 1 --out "$work/sft"
}

if wanted memory; then
    base
    printf '\n| pretrain: layers x channels, micro-batch | parameters | --plan | resident at most | difference |\n'
    printf '|---|---|---|---|---|\n'
    for case in "4 256 1024" "4 256 4096" "4 256 16384" "8 256 4096" "8 512 4096" "8 1024 4096"; do
        set -- $case
        model="--data $work/10.txt --tokenizer $work/base --shards $work/shards --layers $1 --channels $2 --context 256
            --batch-tokens $3 --micro-tokens $3 --eval-every 0 --sample-every 0 --steps 2"
        quiet "$BIN/pretrain" $model --plan
        plan=$(awk '/^  total/ { print $NF }' "$work/log") parameters=$(awk '/^parameters/ { print $2 }' "$work/log")
        quiet "$BIN/pretrain" $model --out "$work/memory"
        most=$(number "$work/memory/metrics.jsonl" host_bytes)
        printf '| %s x %s, %s tokens | %s | %s MB | %s MB | %s MB |\n' "$1" "$2" "$3" "$parameters" \
            "$(of %.1f "$plan / 1e6")" "$(of %.1f "$most / 1e6")" "$(of %.1f "($most - $plan) / 1e6")"
        rm -rf "$work/memory"
    done
fi

if wanted answers; then
    base
    printf '\n| rm: answers to a prompt | tokens/s | share of a full micro-batch |\n|---|---|---|\n'
    for k in 2 3 4 6 9; do
        rows rankings 2000 $k >"$work/ranked"
        quiet "$BIN/rm" --model "$work/sft" --data "$work/ranked" --batch-tokens 4096 --micro-tokens 4096 --steps 30 \
            --eval-every 0 --out "$work/rm$k"
        tokens=$(number "$work/rm$k/metrics.jsonl" tokens)
        printf '| %s | %.0f | %s %% |\n' "$k" \
            "$(median "$work/rm$k/metrics.jsonl" tokens_per_second)" "$(of %.1f "100 * $tokens / (30 * 4096)")"
    done
fi

# corpus MB: so much of the written world, each 100 MB of it of another seed
corpus() {
    left=$1 seed=1
    while [ "$left" -gt 0 ]; do
        part=$((left < 100 ? left : 100))
        "$world" corpus $seed $((part * 1000000)) || exit 1
        left=$((left - part)) seed=$((seed + 1))
    done
}
# Seconds from the start of pretrain to its first step, which is over when its line appears.
first_step() {
    rm -rf "$work/warm"
    start=$(date +%s.%N)
    "$BIN/pretrain" "$@" --out "$work/warm" 2>&1 | while read -r line; do
        case $line in "step 1/"*) date +%s.%N ;; esac
    done >"$work/step"
    of %.2f "$(cat "$work/step") - $start - $(number "$work/warm/metrics.jsonl" seconds)"
}
if wanted corpus; then
    base
    printf '\n| corpus | tokens | one step, tokenising first: clock, processors | MB per second, per processor second '
    printf '| to the first step, shards there: all trained on, 1%% held out | resident at most: tokenising, shards there |\n'
    printf '|---|---|---|---|---|---|\n'
    for mb in $GROWTH_MB; do
        corpus "$mb" >"$work/corpus.txt" || exit 1
        data="--data $work/corpus.txt --tokenizer $work/base --shards $work/corpus $small --sample-every 0 --steps 1"
        timed "$BIN/pretrain" $data --validation 0 --out "$work/cold"
        most=$(number "$work/cold/metrics.jsonl" host_bytes)
        tokens=$(grep -o 'data: [0-9.kMG]*' "$work/log" | cut -d' ' -f2)
        held=$(first_step $data --validation 0.01 --eval-tokens 128)
        warm=$(first_step $data --validation 0)
        printf '| %s MB | %s | %s s, %s s | %s, %s | %s s, %s s | %s MB, %s MB |\n' "$mb" "$tokens" "$wall" "$cpu" \
            "$(of %.0f "$mb / $wall")" "$(of %.0f "$mb / $cpu")" "$warm" "$held" "$(of %.1f "$most / 1e6")" \
            "$(of %.1f "$(number "$work/warm/metrics.jsonl" host_bytes) / 1e6")"
        rm -rf "$work/corpus" "$work/corpus.txt" "$work/cold" "$work/warm"
    done
fi

if wanted rows; then
    base
    printf '\n| read until the plan is printed | 10000 rows: clock, processors | 100000 rows |\n|---|---|---|\n'
    for what in "sft, dialogues" "rm, rankings of 2 answers" "rm, rankings of 9 answers" "rlhf, prompts"; do
        printf '| %s ' "$what"
        for n in 10000 100000; do
            case $what in
            sft*) rows dialogues $n; set -- "$BIN/sft" --model "$work/base" --data ;;
            *2*) rows rankings $n 2; set -- "$BIN/rm" --model "$work/sft" --data ;;
            *9*) rows rankings $n 9; set -- "$BIN/rm" --model "$work/sft" --data ;;
            *) rows prompts $n; set -- "$BIN/rlhf" --policy "$work/sft" --reward-cmd cat --prompts ;;
            esac >"$work/rows"
            timed "$@" "$work/rows" --plan
            printf '| %s s, %s s ' "$wall" "$cpu"
        done
        echo '|'
    done
fi
