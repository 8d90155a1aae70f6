#!/bin/sh
# check_cuda.sh - the CUDA build (make CUDA=1) as far as it can be checked without a GPU: what ptxas said of every kernel, and
# that a program without a GPU ends with one sentence and code 69.  No kernel may spill registers to memory, and a block's
# registers must fit the 65536 of a multiprocessor; blocks have 256 threads, those of attention at most 128.
cd "$(dirname "$0")/.." || exit 1
: "${BUILD:=build/cuda}"
. test/lib.sh
[ "$(ls "$BUILD"/common/cuda/*.ptxas 2>/dev/null)" ] || skip "$BUILD is no CUDA build (make CUDA=1)"

touch "$BUILD/common/cuda/removed.ptxas"
env -u MAKEFLAGS -u MAKELEVEL make -n CUDA=1 BUILD="$BUILD" >/dev/null
check "make removes the report of a kernel file that is gone" [ ! -e "$BUILD/common/cuda/removed.ptxas" ]

awk '
/Compiling entry function/ {
    kernel = FILENAME " " $(NF - 2) " " $NF
    threads = FILENAME ~ /attention|flash/ ? 128 : 256
    next
}
/bytes spill stores/ { spilled = $5 + $9; next }
/Used [0-9]+ registers/ {
    if (spilled > 0) { failed++; print kernel " spills " spilled " bytes" } else passed++
    if ($5 * threads > 65536) { failed++; print kernel ": " $5 " registers x " threads " threads" } else passed++
    spilled = 0
}
END { print passed + 0, failed + 0 }' "$BUILD"/common/cuda/*.ptxas >"$work/kernels"
grep -v '^[0-9]* [0-9]*$' "$work/kernels"
read -r p f <<END
$(tail -n 1 "$work/kernels")
END
passed=$((passed + p)) failed=$((failed + f))
check "there are kernels" [ "$p" -gt 0 ]

# The table of kernels, where this is the build that it is made from.
reported() { grep -q "'$2' for '$3'" "$BUILD/common/cuda/$1.ptxas"; }
if ! reported flash _Z13flash_combine9attention sm_80 || ! reported flash _Z13flash_combine9attention sm_90; then
    omit "docs/cuda-kernels.md is made from a bfloat16 build for sm_80 and sm_90"
else
    test/cuda_kernels.sh >"$work/kernels.md"
    if [ "$(grep -c 'of CUDA' docs/cuda-kernels.md)" -eq 1 ] &&
       [ "$(grep 'of CUDA' docs/cuda-kernels.md)" != "$(grep 'of CUDA' "$work/kernels.md")" ]; then
        omit "docs/cuda-kernels.md is of another release of CUDA"
    else
        check "docs/cuda-kernels.md is what test/cuda_kernels.sh prints" cmp "$work/kernels.md" docs/cuda-kernels.md
    fi
fi

expect 0 "CUDA" "$BIN/pretrain" --version
if [ -e /dev/nvidiactl ]; then
    omit "there is a GPU, so its absence cannot be tested"
else
    echo "a text" >"$work/text"
    expect 69 "none can be used here" "$BIN/pretrain" --data "$work/text" --out "$work/run"
    check "in one sentence" [ "$(wc -l <"$work/out")" -eq 1 ]
    check "that leaves nothing behind" [ ! -e "$work/run/metrics.jsonl" ]
fi
finish
