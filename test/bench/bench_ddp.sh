#!/bin/sh
# bench_ddp.sh - two ranks of one thread beside two processes of PyTorch's DistributedDataParallel (gloo) with the same model: GPT-2's
# 12 x 768 with 1024 ids, 16 x 256 tokens a step, float32.  In turn, ROUNDS times; the first step of each does not count.
cd "$(dirname "$0")/../.." || exit 1
: "${BIN:=bin}" "${PYTHON:=python3}" "${MPIRUN:=mpirun}" "${RANKS:=bin-mpi}" "${ROUNDS:=2}" "${STEPS:=4}" "${LAYERS:=12}" "${CHANNELS:=768}"
"$PYTHON" -c 'import torch.distributed as d; assert d.is_gloo_available()' 2>/dev/null || { echo "skipped: PyTorch with gloo is not installed"; exit 0; }
[ -x "$RANKS/pretrain" ] && command -v "$MPIRUN" >/dev/null || { echo "skipped: no programs for several ranks ($RANKS: make MPI=1)"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
case $("$MPIRUN" --version 2>&1) in
*"Open MPI"*|*OpenRTE*) launch="$MPIRUN -q --allow-run-as-root --oversubscribe --bind-to none" ;;
*) launch=$MPIRUN ;;
esac
for i in 1 2 3; do cat README.md docs/*.md; done >"$work/text.txt"
for round in $(seq "$ROUNDS"); do
    rm -rf "$work/run"
    $launch -n 2 "$RANKS/pretrain" --data "$work/text.txt" --shards "$work/shards" --preset gpt2 --layers "$LAYERS" --channels "$CHANNELS" \
        --heads 12 --context 256 --vocab-size 1024 --batch-tokens 4096 --steps "$STEPS" --threads 1 --eval-every 0 --sample-every 0 \
        --save-every 0 --out "$work/run" >"$work/log" 2>&1 || { tail -n 3 "$work/log"; exit 1; }
    sed -n 's/.*"loss".*"tokens_per_second":\([0-9.]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n +2 | tee -a "$work/ours" | tr '\n' ' '
    echo "tokens/s: two ranks"
    export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 20000))
    beside="test/bench/ddp_beside.py $LAYERS $CHANNELS 12 256 1024 8 $STEPS"
    RANK=1 OMP_NUM_THREADS=1 "$PYTHON" $beside >/dev/null 2>"$work/log1" &
    RANK=0 OMP_NUM_THREADS=1 "$PYTHON" $beside >"$work/torch" 2>"$work/log" || { tail -n 3 "$work/log"; kill %1; exit 1; }
    wait
    unset WORLD_SIZE MASTER_ADDR MASTER_PORT
    tail -n +2 "$work/torch" | tee -a "$work/theirs" | tr '\n' ' '
    echo "tokens/s: PyTorch $("$PYTHON" -c 'import torch; print(torch.__version__)'), DDP"
done
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
awk -v a="$(median "$work/ours")" -v b="$(median "$work/theirs")" 'BEGIN { printf "* %-48s %8.2f %s\n", "two ranks beside two processes of PyTorch DDP", a / b, "times as fast (" a " and " b " tokens/s)" }'
