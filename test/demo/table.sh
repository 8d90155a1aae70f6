#!/bin/sh
# table.sh RUNS WORLD SECONDS - what each stage of the demonstration gained, from its metrics and from answers scored by the rule.
runs=$1 world=$2 seconds=$3
first() { grep -o "\"$2\":[-0-9.e+]*" "$runs/$1/metrics.jsonl" | head -n 1 | cut -d: -f2; }
last() { grep -o "\"$2\":[-0-9.e+]*" "$runs/$1/metrics.jsonl" | tail -n 1 | cut -d: -f2; }
row() { printf '  %-44s %10.4g %10.4g\n' "$1" "$2" "$3"; }

printf '\n%s\n' "What each stage gained                               before      after"
echo "pretrain"
row "validation loss" "$(first base val_loss)" "$(last base val_loss)"
row "bits per byte" "$(first base val_bits_per_byte)" "$(last base val_bits_per_byte)"
echo "sft"
row "validation loss on answers" "$(first sft val_loss)" "$(last sft val_loss)"
echo "rm"
row "accuracy on held-out prompts" "$(first rm val_accuracy)" "$(last rm val_accuracy)"
row "log loss of held-out pairs" "$(first rm val_log_loss)" "$(last rm val_log_loss)"
echo "rlhf"
row "learned reward" "$(first rlhf reward)" "$(last rlhf reward)"
row "KL from sft (nats per answer)" "$(first rlhf kl)" "$(last rlhf kl)"
row "answer length (tokens)" "$(first rlhf length)" "$(last rlhf length)"
row "distinct-2 of a batch" "$(first rlhf distinct_2)" "$(last rlhf distinct_2)"

printf '\n%s\n' "400 held-out instructions       gold by the rule   words   distinct-2   ended"
for stage in base sft rlhf; do
    "$world" score <"$runs/data/held-out-$stage.jsonl" | while read -r gold words distinct ended n; do
        printf '  %-30s %14.3f %7.1f %12.3f %7.2f\n' "$stage" "$gold" "$words" "$distinct" "$ended"
    done
done

printf '\n%s\n' "One instruction, three answers"
for stage in base sft rlhf; do
    line=$(grep -n about "$runs/data/held-out.jsonl" | head -n 1 | cut -d: -f1)
    sed -n "${line}p" "$runs/data/held-out-$stage.jsonl" | sed "s/.*\"prompt\":\"\([^\"]*\)\",.*\"response\":\"\(\([^\"\\\\]\|\\\\.\)*\)\".*/\1|\2/" |
        while IFS='|' read -r prompt answer; do
            [ "$stage" = base ] && printf '  %s\n' "$prompt"
            printf '  %-5s %s\n' "$stage" "$answer" | fold -s -w 110 | sed '2,$s/^/        /'
        done
done
printf '\n%s s in all.  Talk to it: bin/chat --model %s/rlhf\n' "$seconds" "$runs"
