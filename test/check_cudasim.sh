#!/bin/bash
# check_cudasim.sh - tests the simulator itself: each planted fault of test/cudasim/faults.cu must be noticed in the way
# that its line says, and the program without one in none.
#   stops    the program ends with an error        asan    it does so in the build with AddressSanitizer and UBSan
#   nan      the answer is not a number            differs the answer depends on the order of threads or streams
# "race" after it: the build with ThreadSanitizer, which is asked about races alone, stops at it; "race" alone: only that
# build does.  Then the operations once (tool_once.c): no race, and the same bits in all orders of threads and streams.
cd "$(dirname "$0")/.." || exit 1
: "${BUILD:=build/sim}"
fault=$BUILD/test/cudasim/faults
case $BUILD in *sim*) ;; *) fault= ;; esac
if ! [ -x "$fault" ]; then
    echo "skipped: the CUDA simulator is not built here (make SIM=1 test)"
    echo "check_cudasim: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS="$TSAN_OPTIONS exitcode=66 halt_on_error=1"
passed=0 failed=0 skipped=0
answer=$("$fault" none)

# What is noticed of a fault: "stops", "nan", "differs", or "nothing".
noticed() {
    local order stream seed first out
    first=$(timeout 60 "$fault" "$1" 2>/dev/null) || { echo stops; return; }
    case $first in *nan*) echo nan; return ;; esac
    case $BUILD in *tsan*) echo nothing; return ;; esac             # a race is one in any order
    for order in forward reverse random; do
        for stream in eager lazy random; do
            for seed in 1 2 3; do
                out=$(CUDASIM_ORDER=$order CUDASIM_STREAMS=$stream CUDASIM_SEED=$seed timeout 60 "$fault" "$1" \
                      2>/dev/null) || { echo stops; return; }
                [ "$out" = "$first" ] || { echo differs; return; }
            done
        done
    done
    [ "$first" = "$answer" ] && echo nothing || echo wrong
}

while read -r name want race; do
    case $BUILD-$want in
    *tsan-*) [ "$race$want" = nothing ] || case $race$want in *race*) want=stops ;; *) continue ;; esac ;;
    *-race) continue ;;
    *asan-asan) want=stops ;;
    *asan-*) ;;
    *-asan) continue ;;
    esac
    got=$(noticed "$name")
    if [ "$got" = "$want" ]; then passed=$((passed + 1)); continue; fi
    failed=$((failed + 1))
    echo "$name: $got, and it should be: $want"
done <<END
none nothing
past_global asan
past_shared asan
past_dynamic asan
misaligned asan
no_barrier nan race
no_second_barrier differs race
no_warp_barrier differs race
divergent_barrier stops
early_return stops
divergent_shuffle stops
wrong_mask stops
unwritten_shared nan
unwritten_global nan
host_pointer stops
host_pointer_in_struct stops
too_many_threads stops
empty_grid stops
too_much_shared stops
host_touches stops
copy_too_long stops
copy_wrong_side stops
freed_pointer stops
default_stream stops
no_event differs
pinned_early differs
lt_other_problem stops
lt_misaligned stops
lt_no_workspace stops
lt_workspace_misaligned stops
lt_split_k differs
lt_types stops
copy_no_wait nan race
copy_no_barrier nan race
copy_misaligned stops
copy_left stops
same_written race
blocks_write race
END

once=$BUILD/test/tool_once work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
same_once() {       # name order streams
    CUDASIM_ORDER=$2 CUDASIM_STREAMS=$3 CUDASIM_PRODUCTS=fixed "$once" >"$work/$1" 2>"$work/log" || {
        grep -E 'WARNING|^    #[01] |cudasim' "$work/log" | head -n 20
        return 1
    }
    ! grep nan "$work/$1" && cmp "$work/$1" "$work/first"
}
for orders in "first forward eager" "second reverse lazy" "third random random"; do
    case $BUILD-$orders in *tsan-first*) ;; *tsan-*) continue ;; esac
    if same_once $orders; then passed=$((passed + 1)); continue; fi
    failed=$((failed + 1))
    echo "once, $orders: see above"
done
echo "check_cudasim: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
