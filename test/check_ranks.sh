#!/bin/sh
# check_ranks.sh - several ranks by MPI: the programs of make MPI=1 end with the bits of one rank that has the same
# --slices, whatever the number of ranks, what they share out, and where the run was stopped in between; and what ranks
# cannot do is refused in one sentence.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
. test/mpi.sh
ranks=$build/bin
build_ranks "$ranks" all
sh test/small_data.sh "$work"

# run PROGRAM RANKS OUT options...: RANKS 1 is the usual build
run() {
    program=$1 n=$2 out=$work/$3
    shift 3
    if [ "$n" = 1 ]; then set -- "$BIN/$program" "$@"; else set -- $launch -n "$n" "$ranks/$program" "$@"; fi
    timeout 200 "$@" --threads 1 --out "$out" >"$work/out" 2>&1 </dev/null
}
# bits A B: the tensors of two runs have the same bits; same: their records are the same, too, but for the clock's
bits() {
    "$BIN/ckpt" diff "$work/$1" "$work/$2" >"$work/out" 2>&1
    grep -q ' 0 of [1-9][0-9]* tensors differ, 0 only in A, 0 only in B' "$work/out"
}
same() {
    timeless "$work/$1/metrics.jsonl" >"$work/a"
    timeless "$work/$2/metrics.jsonl" >"$work/b"
    bits "$1" "$2" && cmp "$work/a" "$work/b"
}
ran() { what=$1; shift; if run "$@"; then ok; else wrong "$what"; fi; }

# ---- bits ----
text="--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 32 --steps 6 --schedule constant
    --batch-tokens 768 --micro-tokens 64 --eval-every 3 --save-every 2 --validation 0.1"
ran "pretrain, 1 rank" pretrain 1 base $text --slices 4
for n in 2 4; do
    ran "pretrain, $n ranks" pretrain $n p$n $text --slices 4
    check "pretrain: $n ranks have the bits of one" same base p$n
done
ran "pretrain, 1 rank of 3 slices" pretrain 1 three $text --slices 3
ran "pretrain, 3 ranks, --zero 0" pretrain 3 p30 $text --zero 0
check "pretrain: 3 ranks have the bits of one, and --slices is their number by default" same three p30
ran "pretrain, 3 ranks, --zero 2" pretrain 3 z $text --zero 2
ran "pretrain, 1 rank, a slice for each micro-batch" pretrain 1 z1 $text --slices 12
check "pretrain: --zero 2 has the bits of one rank" same z z1
ran "pretrain, 3 ranks, --zero 3" pretrain 3 w $text --zero 3
check "pretrain: --zero 3 has the bits of one rank" same w z1
check "pretrain: --zero 3 draws the samples of one rank" cmp "$work/w/samples.txt" "$work/z1/samples.txt"
ran "pretrain, 2 ranks, --zero 3 --recompute block, stopped" pretrain 2 w2 $text --zero 3 --recompute block --slices 12 --steps 4
ran "pretrain resumes on 1 rank what --zero 3 has saved" pretrain 1 w2 $text
check "pretrain: stopped under --zero 3, then 1 rank: the bits of one" bits w2 z1
odd="$text --batch-tokens 704 --slices 14"              # of 11 micro-batches: one rank, then both have nothing to do
ran "pretrain, 2 ranks, --zero 3, more slices than micro-batches" pretrain 2 w3 $odd --zero 3
ran "pretrain, 2 ranks, --zero 2, more slices than micro-batches" pretrain 2 z2 $odd --zero 2
ran "pretrain, 1 rank of as many slices" pretrain 1 z3 $odd
check "pretrain: --zero 2 with slices that are empty has the bits of one rank" same z2 z3
check "pretrain: --zero 3 with slices that are empty has the bits of one rank" same w3 z3
old="--preset gpt2 --data $work/text.txt --vocab-size 300 --layers 3 --channels 32 --heads 2 --context 32 --steps 3
    --batch-tokens 256 --micro-tokens 64 --eval-every 3 --validation 0.1"
ran "pretrain of a gpt2, 2 ranks, --zero 3" pretrain 2 o3 $old --zero 3
ran "pretrain of a gpt2, 1 rank" pretrain 1 o1 $old --slices 4
check "pretrain: --zero 3 of a gpt2 has the bits of one rank" same o3 o1
old="$old --preset llama3-8b --kv-heads 1 --ffn 64 --time-limit 1h"
ran "pretrain with a head of its own, 2 ranks, --zero 3" pretrain 2 h3 $old --zero 3
ran "pretrain with a head of its own, 1 rank" pretrain 1 h1 $old --slices 4
check "pretrain: --zero 3 with a head of its own has the bits of one rank" same h3 h1
if bits base three; then wrong "3 slices have the bits of 4: the comparison cannot tell"; else ok; fi
ran "pretrain stops" pretrain 4 moved $text --slices 4 --steps 2
ran "pretrain resumes on 2 ranks" pretrain 2 moved $text --slices 4 --steps 4
ran "pretrain resumes on 1 rank, which keeps its slices" pretrain 1 moved $text
check "pretrain: 4, then 2, then 1 rank have the bits of one" bits base moved

# as_one PROGRAM X options...: 2 ranks, whole and with --zero 2 and 3, beside 1 rank; their runs are X1 to X5
as_one() {
    p=$1 x=$2
    shift 2
    ran "$p, 1 rank" "$p" 1 "${x}1" "$@" --slices 2
    ran "$p, 2 ranks" "$p" 2 "${x}2" "$@"
    check "$p: 2 ranks have the bits of one" same "${x}1" "${x}2"
    ran "$p, 2 ranks, --zero 2" "$p" 2 "${x}3" "$@" --zero 2 --slices 4
    ran "$p, 1 rank of 4 slices" "$p" 1 "${x}4" "$@" --slices 4
    check "$p: --zero 2 has the bits of one rank" same "${x}3" "${x}4"
    ran "$p, 2 ranks, --zero 3" "$p" 2 "${x}5" "$@" --zero 3 --slices 4
    check "$p: --zero 3 has the bits of one rank" same "${x}5" "${x}4"
}
chats="--model $work/base --data $work/chats.jsonl --steps 4 --batch-tokens 256 --micro-tokens 64 --save-every 2 --eval-every 2"
as_one sft s $chats
"$BIN/ckpt" export "$work/base" --hf "$work/hf" >"$work/out" 2>&1 && ok || wrong "export"
foreign="--model $work/hf --data $work/chats.jsonl --steps 2 --batch-tokens 256 --micro-tokens 64"
ran "sft of a Hugging Face folder, 1 rank" sft 1 f1 $foreign --slices 2
ran "sft of a Hugging Face folder, 2 ranks" sft 2 f2 $foreign
check "sft of a Hugging Face folder: 2 ranks have the bits of one" same f1 f2
ranked="--model $work/s1 --data $work/ranked.jsonl --steps 4 --batch-tokens 256 --micro-tokens 64 --save-every 2 --eval-every 2"
as_one rm r $ranked
prompts="--policy $work/s1 --reward $work/r1 --prompts $work/chats.jsonl --episodes 12 --max-new-tokens 8 --steps 4 --save-every 2
    --eval-every 2 --ptx-data $work/text.txt --ptx-tokens 256 --ema 0.9 --micro-tokens 128 --critic-warmup 1 --minibatches 2"
ran "rlhf, 1 rank" rlhf 1 l1 $prompts --slices 3
ran "rlhf, 3 ranks" rlhf 3 l3 $prompts
check "rlhf: 3 ranks have the bits of one" same l1 l3
small="$prompts --micro-tokens 48 --schedule constant"          # of 12 slices some have no answers, or no text
ran "rlhf, 1 rank of 12 slices" rlhf 1 lz $small --slices 12
ran "rlhf, 2 ranks, --zero 3, stopped" rlhf 2 l4 $small --slices 12 --zero 3 --steps 2
ran "rlhf resumes, 3 ranks, --zero 2" rlhf 3 l4 $small --zero 2
check "rlhf: --zero 3, then 2 has the bits of one rank" bits lz l4

# a reward program: each rank's answers its own, and a share of them
echo 'tee -a "$1" | while read -r line; do echo "${#line}"; done' >"$work/reward.sh"
asked="--policy $work/s1 --prompts $work/chats.jsonl --episodes 5 --max-new-tokens 6 --steps 3 --eval-every 3 --validation 0.02 --minibatches 1"
ran "rlhf with a reward program, 1 rank" rlhf 1 c1 $asked --slices 2 --reward-cmd "sh $work/reward.sh $work/one"
ran "rlhf with a reward program, 2 ranks, --zero 3" rlhf 2 c2 $asked --zero 3 --reward-cmd "sh $work/reward.sh $work/two"
check "rlhf with a reward program: 2 ranks have the bits of one" same c1 c2
sort "$work/one" >"$work/a"
sort "$work/two" >"$work/b"
check "its programs are asked once for each answer" cmp "$work/a" "$work/b"

# ---- layers that ranks split: other sums, so losses agree to 1e-6; the bits depend on the split alone ----
# agree A B: losses of two runs, and the first gradient norm; the later ones, which Adam makes more of, to 1e-5
agree() {
    for run in "$1" "$2"; do
        grep -oE '"(loss|grad_norm)":[0-9.e+-]+' "$work/$run/metrics.jsonl" | tr -d '"' | tr : ' ' >"$work/losses.$run"
    done
    paste -d ' ' "$work/losses.$1" "$work/losses.$2" | awk '{ d = $2 - $4; if (d < 0) d = -d; t = $1 == "loss" || NR <= 2 ? 1e-6 : 1e-5
        if ($1 == $3 && d <= t * $4) good++; else print } END { exit !(NR >= 4 && good == NR) }'
}
ran "pretrain, tensor 2" pretrain 2 t1 $text --tensor-parallel 2 --slices 12
check "pretrain: layers split by 2 have the losses of one rank" agree t1 z1
ran "pretrain, tensor 2, data 2" pretrain 4 t2 $text --tensor-parallel 2 --slices 12
check "pretrain: tensor 2, data 2 has the bits of tensor 2" same t1 t2
ran "pretrain, tensor 2, data 2, --zero 3" pretrain 4 t3 $text --tensor-parallel 2 --slices 12 --zero 3 --steps 4
ran "pretrain resumes, tensor 2, --zero 2" pretrain 2 t3 $text --tensor-parallel 2 --zero 2
check "pretrain: tensor 2, data 2, --zero 3, then tensor 2 has the bits of tensor 2" bits t1 t3
ran "pretrain, tensor 2, stopped" pretrain 2 t4 $text --tensor-parallel 2 --slices 12 --steps 4
ran "pretrain resumes on 1 rank" pretrain 1 t4 $text
check "pretrain: stopped at tensor 2, resumed on one rank, has the losses of one rank" agree t4 z1
for split in "gpt2 2" "bloom 4" "gptj 2"; do      # tied, tied and normed, with a head of its own and its biases; tokens left over
    preset=${split% *} n=${split#* }
    old="--preset $preset --data $work/text.txt --vocab-size 301 --layers 2 --channels 32 --heads 4 --context 32 --steps 3
        --batch-tokens 256 --micro-tokens 128 --recompute block --eval-every 2 --validation 0.1"
    ran "pretrain of a $preset, tensor $n" pretrain "$n" $preset-2 $old --tensor-parallel "$n"
    ran "pretrain of a $preset, 1 rank" pretrain 1 $preset-1 $old
    check "pretrain: $preset split by $n has the losses of one rank" agree $preset-2 $preset-1
done
ran "sft, tensor 2" sft 2 s6 $chats --tensor-parallel 2
ran "sft, 1 rank, 1 slice" sft 1 s7 $chats
check "sft: layers split by 2 have the losses of one rank" agree s6 s7
ran "rm, tensor 2" rm 2 r6 $ranked --tensor-parallel 2
ran "rm, 1 rank, 1 slice" rm 1 r7 $ranked
check "rm: layers split by 2 have the losses of one rank" agree r6 r7
ran "rlhf, tensor 2" rlhf 2 l6 $asked --tensor-parallel 2 --slices 2 --reward-cmd "sh $work/reward.sh $work/six" --sample-every 1
check "rlhf: layers split by 2 have the losses of one rank" agree l6 c1
check "its program is asked once by each group" [ "$(wc -l <"$work/six")" = "$(wc -l <"$work/one")" ]
ran "rlhf with a reward model, tensor 2, data 2, --zero 3" rlhf 4 l7 $prompts --tensor-parallel 2 --slices 2 --zero 3
ran "rlhf with a reward model, tensor 2" rlhf 2 l8 $prompts --tensor-parallel 2 --slices 2
check "rlhf: tensor 2, data 2, --zero 3 has the bits of tensor 2" same l7 l8

# ---- stages that split the row of layers: the bits of one rank, but for tied embeddings, which have two owners ----
row="--preset llama3-8b --data $work/text.txt --vocab-size 300 --layers 5 --channels 32 --heads 2 --kv-heads 2 --ffn 64 --context 32 --steps 3
    --schedule constant --batch-tokens 384 --micro-tokens 64 --eval-every 2 --save-every 2 --validation 0.1"
ran "pretrain, untied, 1 rank" pretrain 1 v1 $row
ran "pretrain, 2 stages" pretrain 2 v2 $row --pipeline-parallel 2 --recompute block
check "pretrain: 2 stages have the bits of one rank" same v1 v2
ran "pretrain, 4 stages, fewer micro-batches, stopped" pretrain 4 v4 $row --pipeline-parallel 4 --micro-tokens 192 --steps 2
ran "pretrain, 1 rank, fewer micro-batches" pretrain 1 v5 $row --micro-tokens 192
ran "pretrain resumes, 3 stages" pretrain 3 v4 $row --pipeline-parallel 3 --micro-tokens 192
check "pretrain: stopped on 4 stages, resumed on 3, has the bits of one rank" bits v4 v5
ran "pretrain, tensor 2, data 2" pretrain 4 v6 $row --tensor-parallel 2
ran "pretrain, tensor 2, pipeline 2, data 2" pretrain 8 v7 $row --tensor-parallel 2 --pipeline-parallel 2
check "pretrain: tensor 2, pipeline 2, data 2 has the bits of tensor 2, data 2" same v6 v7
ran "pretrain, tied, 3 stages" pretrain 3 v8 $row --preset gpt2 --pipeline-parallel 3
ran "pretrain, tied, 1 rank" pretrain 1 v9 $row --preset gpt2
check "pretrain: stages of a tied model have the losses of one rank" agree v8 v9
talks="--model $work/v1 --data $work/chats.jsonl --steps 2 --batch-tokens 256 --micro-tokens 64 --eval-every 2 --sample-every 2"
ran "sft, 1 rank, untied" sft 1 sp1 $talks --slices 2
ran "sft, 2 stages, data 2" sft 4 sp2 $talks --pipeline-parallel 2
check "sft: 2 stages, data 2 have the bits of one rank" same sp1 sp2
check "sft: and its samples" cmp "$work/sp1/samples.txt" "$work/sp2/samples.txt"
ran "rm, 3 stages" rm 3 rp2 $ranked --model "$work/sp1" --pipeline-parallel 3
ran "rm, 1 rank, untied" rm 1 rp1 $ranked --model "$work/sp1"
check "rm: 3 stages have the bits of one rank" same rp1 rp2

# ---- memory ----
# planned PHASE command...: its bytes
planned() { phase=$1; shift; "$@" --threads 1 --plan 2>/dev/null | awk -v phase="$phase" '$1 == phase && $NF ~ /^[0-9]+$/ { print $NF }'; }
one=$(planned moments "$ranks/pretrain" $text --channels 256)
two=$(planned moments $launch -n 2 "$ranks/pretrain" $text --channels 256)
check "two ranks hold half of the moments each ($two of $one bytes)" below "$two" "$((one * 51 / 100))"
deep="$text --layers 12 --channels 64 --micro-tokens 256"
for phase in params packed grads moments acts; do            # of acts, the heads' and what is on its way are there once
    one=$(planned $phase "$ranks/pretrain" $deep)
    two=$(planned $phase $launch -n 2 "$ranks/pretrain" $deep --tensor-parallel 2)
    check "two ranks that split layers hold half of the $phase each ($two of $one bytes)" below "$two" "$((one * 53 / 100))"
done
one=$(planned work "$ranks/pretrain" $deep)
two=$(planned work $launch -n 2 "$ranks/pretrain" $deep --slices 2)
check "the plan has the scratch of sums over ranks ($two, on one $one bytes)" below "$((one + 100000))" "$two"

acts() { "$@" --threads 1 --plan 2>/dev/null | awk '$1 == "acts" { print $NF }'; }
one=$(acts "$ranks/pretrain" $row --micro-tokens 32)
two=$(acts $launch -n 2 "$ranks/pretrain" $row --micro-tokens 32 --pipeline-parallel 2)
check "2 stages keep 2 micro-batches of about half of the layers ($two of $one bytes)" below "$two" "$((one * 12 / 10))"

# ---- faults: one code, the right rank named, nobody left, and the same command goes on ----
# fault SIGNAL RANK [OPTIONS]: what becomes of 3 ranks when one of them gets it
fault() {
    rm -rf "$work/f"
    $launch -n 3 "$ranks/pretrain" $text --threads 1 --slices 3 --steps 5000 --save-every 20 --keep 1 --stall-limit 4 --out "$work/f" $3 \
        >"$work/out" 2>&1 </dev/null &
    launcher=$!
    for i in $(seq 100); do [ -e "$work/f/latest" ] && break; sleep 0.1; done
    for p in $(pgrep -f "$ranks/pretrain.*--out $work/f"); do
        tr '\0' '\n' 2>/dev/null </proc/$p/environ | grep -qE "^(OMPI_COMM_WORLD|PMI)_RANK=$2\$" && victim=$p
    done
    kill -"$1" "$victim"
    start=$(date +%s)
    wait $launcher
    code=$? seconds=$(($(date +%s) - start))
    kill -KILL "$victim" 2>/dev/null
    sleep 0.2
    if [ "$code" -ne 0 ] && [ "$seconds" -le 8 ] && ! pgrep -f "$ranks/pretrain.*--out $work/f" >/dev/null &&
        { [ "$kills" ] || grep -q "\"state\":\"failed\".*rank $2 (process $victim " "$work/f/status.json"; }; then ok
    else wrong "rank $2 gets SIG$1: code $code after $seconds s, $(cat "$work/f/status.json")"; fi
}
fault KILL 1 "--layers 3 --pipeline-parallel 3"
fault KILL 1
fault KILL 0
fault STOP 2
steps=$("$BIN/ckpt" info "$work/f" 2>/dev/null | awk '$1 == "step" { print $2; exit }')
check "a checkpoint was left behind" [ "${steps:-0}" -ge 20 ]
ran "the same command goes on" pretrain 3 f $text --slices 3 --steps "$((steps + 2))"

# a signal to one of the ranks that split layers, or to the launcher, in the middle of a long step
signalled() {
    out=$work/g$1
    $launch -n 2 "$ranks/pretrain" $text --threads 1 --tensor-parallel 2 --slices 12 --batch-tokens 400000 --out "$out" >"$work/out" 2>&1 </dev/null &
    launcher=$!
    for i in $(seq 200); do grep -qs '"state":"running"' "$out/status.json" && break; sleep 0.1; done
    sleep 0.5
    if [ "$1" = USR1 ]; then kill -USR1 $launcher; else kill -"$1" "$(pgrep -n -f "$ranks/pretrain.*--out $out")"; fi
    for i in $(seq 900); do kill -0 $launcher 2>/dev/null || break; sleep 0.1; done
    kill -KILL $launcher 2>/dev/null && pkill -KILL -f "$ranks/pretrain.*--out $out"
    wait $launcher
    code=$?
    grep -q '"state":"stopped"' "$out/status.json"
}
check "a signal to one rank of a split layer stops all" signalled TERM
check "SIGUSR1 to the launcher stops all" signalled USR1
check "... with code 75" [ $code -eq 75 ]
touch "$work/f/stop"
expect 75 "the file stop in the run folder" $launch -n 3 "$ranks/pretrain" $text --threads 1 --slices 3 --steps 9000 --out "$work/f"
rm "$work/f/stop"

# ---- what is refused ----
expect 64 "start one of 1, 3" $launch -n 2 "$ranks/pretrain" $text --slices 3 --out "$work/no"
expect 64 "an update has 12 of them, but 4 slices" $launch -n 2 "$ranks/pretrain" $text --slices 4 --zero 2 --out "$work/no"
expect 64 "an update has 8 of them, but 2 slices" $launch -n 2 "$ranks/rlhf" $prompts --zero 2 --slices 2 --micro-tokens 32 --out "$work/no"
expect 64 "--tensor-parallel 3: 2 heads, 2 key/value heads" $launch -n 3 "$ranks/pretrain" $text --tensor-parallel 3 --out "$work/no"
expect 64 "start a multiple of it" $launch -n 3 "$ranks/pretrain" $text --tensor-parallel 2 --out "$work/no"
expect 64 "--pipeline-parallel 6: each stage takes a layer at least, and the model has 5" $launch -n 6 "$ranks/pretrain" $row --pipeline-parallel 6 --out "$work/no"
expect 64 "--pipeline-parallel 2: the ranks of rlhf split layers" $launch -n 2 "$ranks/rlhf" $prompts --pipeline-parallel 2 --out "$work/no"
expect 64 "with --tensor-parallel 2, but 2 ranks were started: start a multiple of 4" $launch -n 2 "$ranks/pretrain" $text --tensor-parallel 2 --pipeline-parallel 2 --out "$work/no"
expect 64 "--data-parallel 3, but 2 ranks were started" $launch -n 2 "$ranks/pretrain" $text --data-parallel 3 --out "$work/no"
expect 78 "\"--lr 0.01\" here, but \"--lr 0.02\" on rank 0" $launch -n 1 "$ranks/pretrain" $text --lr 0.02 --out "$work/no" \
    : -n 1 "$ranks/pretrain" $text --lr 0.01 --out "$work/no"
mkdir "$work/A" "$work/B"
cp "$work/chats.jsonl" "$work/A/data.jsonl"
sed '$d' "$work/chats.jsonl" >"$work/B/data.jsonl"
there() { echo "cd $work/$1 && exec $PWD/$ranks/sft --model $work/base --data data.jsonl --steps 2 --out $work/no2"; }
expect 78 'here, but "data: ' $launch -n 1 sh -c "$(there A)" : -n 1 sh -c "$(there B)"
expect 69 "this build trains on one" $launch -n 2 "$BIN/pretrain" $text --out "$work/no"
finish
