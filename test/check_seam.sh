#!/bin/sh
# check_seam.sh - the checking build (make SEAM=1 test) stops planted faults; in other builds there is nothing to see.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
case $BUILD in
*-seam) ;;
*) skip "only make SEAM=1 test keeps host code off device memory" ;;
esac

fault() { sh -c 'ulimit -c 0; "$0" "$1"; exit $?' "$BUILD/test/seam/fault" "$1" >"$work/out" 2>&1; }

# check FAULT SENTENCE: the program must die (a code above 128) with the sentence; or, where there is none, end with 0
check() {
    fault "$1"
    code=$?
    if [ -z "$2" ]; then [ $code -eq 0 ]; else [ $code -gt 128 ] && grep -q "$2" "$work/out" && grep -q "fault(main" "$work/out"; fi &&
        { passed=$((passed + 1)); return 0; }
    failed=$((failed + 1))
    echo "$1: code $code, expected: $2"
    cat "$work/out"
}

check none ""
check read "host code touches device memory, byte 20 of"
check write "host code touches device memory, byte 3996 of"
check copy "host code touches device memory"
check put "the host array of a device_put was changed before device_wait"
check get "the host array of a device_get was written before device_wait"
fault early
if [ $? -eq 3 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "numbers are there before device_wait"; fi
fault "host thread"
if [ $? -gt 128 ] && grep -q "host code touches" "$work/out"; then passed=$((passed + 1))
else failed=$((failed + 1)); echo "a task of host code reads device memory unnoticed"; fi

finish
