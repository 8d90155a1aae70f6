#!/bin/sh
# plan_table.sh BIN - prints the first table of docs/distributed.md, as bin/pretrain --plan --cluster calculates it.
bin=${1:-bin}

# One cell: how the work is shared, the MFU, and the days with saving and failures.
cell() {
    "$bin/pretrain" --plan --preset "$1" --tokens 300B --batch-tokens 4M --cluster "$2" 2>&1 | awk '
        /^pretrain: a rank needs/ { print "does not fit"; exit }
        $1 == "layout" { match($0, /tensor.*ZeRO-[0-9]/); how = substr($0, RSTART, RLENGTH)
            gsub(/(tensor|pipeline|data) 1, /, "", how); if (/recomputed/) how = how ", recompute" }
        /MFU/ { mfu = $(NF - 1) }
        $1 == "goodput" { printf "%s: %.0f %%, %s days\n", how, mfu, $4 }'
}

echo "| model | 8 devices | 64 devices | 512 devices |"
echo "|---|---|---|---|"
for model in gpt3-125m gpt3-1.3b llama3-8b gpt3-13b llama3-70b gpt3-175b llama3-405b; do
    row="| $model"
    for n in 8 64 512; do row="$row | $(cell $model "h100 x $n")"; done
    echo "$row |"
done
