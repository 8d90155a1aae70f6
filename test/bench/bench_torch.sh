#!/bin/sh
# bench_torch.sh - training steps beside PyTorch on the CPU: float32, and bfloat16 where build/cpu-bf16 has a benchmark (make PRECISION=bf16
# bench-build).   THREADS, ROUNDS
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build/cpu}" "${PYTHON:=python3}" "${THREADS:=$(nproc)}" "${ROUNDS:=5}"
"$PYTHON" -c 'import torch' 2>/dev/null || { echo "skipped: PyTorch is not installed"; exit 0; }
bf16=build/cpu-bf16/test/bench/bench_model
[ -x "$bf16" ] || bf16=
exec "$PYTHON" test/bench/train_beside.py "$THREADS" "$ROUNDS" "$BUILD/test/bench/bench_model" $bf16
