#!/bin/sh
# check_ptxas.sh - reads what ptxas said of every kernel (make CUDA=1): none may spill registers to memory, and a
# block's registers must fit the 65536 of a multiprocessor.  Blocks have 256 threads, those of attention 128.
cd "$(dirname "$0")/.." || exit 1
: "${BUILD:=build/cuda}"
if [ "$(ls "$BUILD"/common/cuda/*.ptxas 2>/dev/null)" = "" ]; then
    echo "skipped: there is no CUDA build in $BUILD"
    echo "check_ptxas: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
awk '
/Compiling entry function/ {
    kernel = FILENAME " " $(NF - 2) " " $NF
    threads = FILENAME ~ /attention/ ? 128 : 256
    next
}
/bytes spill stores/ { spilled = $5 + $9; next }
/Used [0-9]+ registers/ {
    if (spilled > 0) { failed++; print kernel " spills " spilled " bytes" } else passed++
    if ($5 * threads > 65536) { failed++; print kernel ": " $5 " registers x " threads " threads" } else passed++
    spilled = 0
}
END {
    printf "check_ptxas: %d passed, %d failed, 0 skipped\n", passed, failed
    exit failed > 0 || passed == 0
}' "$BUILD"/common/cuda/*.ptxas
