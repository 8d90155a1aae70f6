#!/bin/sh
# check_failures.sh - what can go wrong around a run, seen from outside: the exit code, one sentence that says what, and nothing
# lost.  Here with pretrain, whose loop, options and run folder are those of all programs; bad data is each program's own test.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
. test/said.sh
[ -x "$BIN/pretrain" ] || skip "pretrain is not built"
awk 'BEGIN { srand(1); for (i = 0; i < 3000; i++) printf "%s%s", substr("the red fox sees an old stone house by the green river", 1 + int(30 * rand()), 20), i % 9 ? " " : "\n" }' >"$work/text.txt"
model="--layers 1 --channels 32 --heads 2 --ffn 64 --context 64 --vocab-size 300 --batch-tokens 256 --micro-tokens 256 --threads 1"
data="--data $work/text.txt --shards $work/shards $model"

pretrain="$BIN/pretrain $data"

# ---- one process, whatever launched it ----
for ranks in "OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0" "PMI_SIZE=2 PMI_RANK=1" "WORLD_SIZE=2 RANK=0" "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1"; do
    expect 69 "started as one of 2 processes" env $ranks $pretrain --out "$work/x"
done
expect 0 "memory" env SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 $pretrain --plan       # a bare batch script
expect 0 "memory" env SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 WORLD_SIZE=1 RANK=0 $pretrain --plan
expect 64 "OMPI_COMM_WORLD_SIZE is set, but OMPI_COMM_WORLD_RANK is not" env OMPI_COMM_WORLD_SIZE=2 $pretrain --out "$work/x"
expect 64 "WORLD_SIZE is set, but RANK is not" env WORLD_SIZE=1 $pretrain --plan
verdict "a refused rank leaves no run behind" "$([ ! -e "$work/x" ] && echo yes)"

# ---- the command line ----
expect 64 "unknown option --batch-tokns: did you mean --batch-tokens?" $pretrain --out "$work/x" --batch-tokns 4
expect 64 "--lr: 'fast' is not a number" $pretrain --out "$work/x" --lr fast
expect 64 "--lr: 11 is out of range (expected 0 to 10)" $pretrain --out "$work/x" --lr 11
expect 64 "--steps: '4q' is not a whole number" $pretrain --out "$work/x" --steps 4q
expect 64 "--time-limit: '2w' is not a time" $pretrain --out "$work/x" --time-limit 2w
expect 64 "--schedule: 'cos' is none of" $pretrain --out "$work/x" --schedule cos
expect 64 "--steps needs a value" $pretrain --out "$work/x" --steps
printf 'steps = 3\nlr = fast\n' >"$work/conf"
expect 64 "$work/conf:2: --lr: 'fast' is not a number" $pretrain --out "$work/x" --config "$work/conf"
expect 66 "$work/none" $pretrain --out "$work/x" --config "$work/none"
expect 0 "quartet" "$BIN/pretrain" --version
[ -e "$work/x" ] && got=no || got=yes
verdict "a refused command line leaves no folder" $got

# ---- the run folder ----
expect 74 "cannot be created" $pretrain --out /proc/quartet --steps 1
expect 74 "cannot be created" $pretrain --out "$work/text.txt/run" --steps 1
expect 0 "done: 4 steps" $pretrain --out "$work/run" --steps 4 --save-every 2
expect 0 "step 4 was reached already" $pretrain --out "$work/run" --steps 4 --save-every 2
expect 78 "--lr is 0.002 now, but the run was started with 0.004" $pretrain --out "$work/run" --steps 6 --lr 0.002
expect 78 "--resume never" $pretrain --out "$work/run" --steps 6 --resume never
expect 0 "resumes from step 4" $pretrain --out "$work/run" --steps 6 --save-every 5
expect 0 "done: 6 steps" "$BIN/pretrain" --config "$work/run/run.conf" --out "$work/again"
expect 0 "done: 6 steps" "$BIN/pretrain" --config "$work/again/run.conf" --out "$work/third" --threads 2
expect 0 "equal" "$BIN/ckpt" diff --tensors "$work/again" "$work/third"
if [ -x "$BIN/sft" ]; then
    printf '{"prompt":"a","response":"b"}\n' >"$work/chat.jsonl"
    expect 78 "holds a run of pretrain, not of sft" "$BIN/sft" --model "$work/run" --data "$work/chat.jsonl" --out "$work/run"
fi
$pretrain --out "$work/busy" --steps 1000000 >"$work/busy.log" 2>&1 &
pid=$!
i=0
while [ $i -lt 500 ] && [ ! -s "$work/busy/metrics.jsonl" ]; do sleep 0.02; i=$((i + 1)); done
expect 69 "is in use by pretrain (process $pid)" $pretrain --out "$work/busy" --steps 1000000
kill -INT "$pid"
wait "$pid"
[ $? -eq 75 ] && got=yes || got=no
verdict "SIGINT ends with code 75" $got
expect 75 "time limit" $pretrain --out "$work/busy" --steps 1000000 --time-limit 1

# ---- diverging, and too large ----
wild="--steps 400 --lr 10 --clip 0 --warmup 0 --schedule constant --beta1 0 --beta2 0 --eps 1e-20 --weight-decay 10"
expect 65 "was not finite in 3 updates in a row" $pretrain --out "$work/wild" --save-every 2 $wild
at=$(sed -n 's/.*step \([0-9]*\): skipped.*order.sample \([0-9]*\),.*/\1 \2/p' "$work/said" | head -n 1)
awk -v at="$at" 'BEGIN { split(at, n, " "); exit !(n[1] > 1 && n[2] == 4 * (n[1] - 1)) }' && got=yes || got=no      # 4 rows of 64 a step
verdict "the skipped update is said with its place in the data" $got
expect 0 ": ok (" "$BIN/ckpt" verify "$work/wild"
expect 70 "of memory" "$BIN/pretrain" --data "$work/text.txt" --shards "$work/shards" --layers 400 --channels 65536 \
    --vocab-size 300 --out "$work/huge"

# ---- a full disk: files may not grow beyond what the logs need (ulimit counts 512 or 1024 bytes) ----
expect 0 "done: 4 steps" $pretrain --out "$work/full" --steps 4
expect 74 "3 checkpoints in a row could not be saved" sh -c "ulimit -f 40; exec $pretrain --out $work/full --steps 40 --save-every 6"
expect 0 ": ok (" "$BIN/ckpt" verify "$work/full"
[ -z "$(find "$work/full" -name '*tmp*')" ] && got=yes || got=no
verdict "nothing half-written is left behind" $got
expect 0 "resumes from step 4" $pretrain --out "$work/full" --steps 8

# ---- memory: what --plan says, and what the process then takes (2 % and 32 MiB of program, libraries and buffers allowed; a
# sanitizer's own memory comes on top) ----
beside=33554432
case $BUILD in *asan*|*tsan*) beside=67108864 ;; esac
larger="$BIN/pretrain --data $work/text.txt --shards $work/shards --layers 4 --channels 256 --heads 4 --context 64 --vocab-size 300
    --batch-tokens 1024 --micro-tokens 1024 --steps 2 --save-every 1 --out $work/larger"
expect 0 "total" $larger --plan
planned=$(awk '$1 == "total" { print $NF }' "$work/said")
expect 0 "done: 2 steps" $larger
taken=$(sed -n 's/.*"host_bytes":\([0-9]*\).*/\1/p' "$work/larger/metrics.jsonl" | tail -n 1)
awk -v p="$planned" -v t="$taken" -v b=$beside 'BEGIN { exit !(p > 5e7 && t <= 1.02 * p + b) }' && got=yes || got=no
verdict "--plan says $planned bytes, the process takes $taken" $got

# ---- streams that are closed or broken ----
( exec <&- 2>&-; exec $pretrain --out "$work/closed" --steps 3 )
[ $? -eq 0 ] && [ -f "$work/closed/final.ckpt" ] && got=yes || got=no
verdict "closed standard streams do not matter" $got
$pretrain --out "$work/pipe" --steps 3 2>&1 >/dev/null | true
i=0
while [ $i -lt 250 ] && [ ! -f "$work/pipe/final.ckpt" ]; do sleep 0.02; i=$((i + 1)); done
expect 0 ": ok (" "$BIN/ckpt" verify "$work/pipe"

# ---- a folder whose name has a blank ----
expect 0 "install -d" make install BUILD="$BUILD" BIN="$BIN" DESTDIR="$work/a b" PREFIX="/the prefix"
[ -x "$work/a b/the prefix/bin/quartet-rm" ] && got=yes || got=no
verdict "make install copes with a blank" $got

finish
