#!/bin/bash
# full.sh - all that the simulator can run: in both precisions, fast and with AddressSanitizer and UBSan, its subset of
# the tests with threads, warps and blocks forward, in reverse and at random, and streams eager, lazy and at random;
# each operation once under ThreadSanitizer; and each barrier removed in turn (barriers.sh).  As many builds at a time as
# there are processors; hours on two.   SIM_FULL="f32 bf16-tsan": only these.   TESTS: only these tests
cd "$(dirname "$0")/../.." || exit 1
: "${SIM_FULL:=bf16-tsan f32-tsan barriers f32-asan bf16-asan f32 bf16}"
tests=${TESTS:-$(cat test/cudasim/subset)}

if ! command -v nvcc >/dev/null && [ ! -x "$CUDA_HOME/bin/nvcc" ]; then
    for what in $SIM_FULL; do echo "skipped: $what in the simulator: there is no CUDA toolkit"; done
    echo "sim_full: 0 passed, 0 failed, $(wc -w <<<"$SIM_FULL") skipped"
    exit 0
fi
logs=$(mktemp -d)
trap 'rm -r "$logs"' EXIT

# a PRECISION-CHECK as make's settings, and the folder of that build
settings() { echo "SIM=1 PRECISION=${1%-*} SAN=$(case $1 in *-asan) echo 1 ;; *-tsan) echo tsan ;; esac)"; }
folder() { echo "build/sim$(case $1 in f32*) echo -f32 ;; esac)$(case $1 in *-*) echo "-${1#*-}" ;; esac)"; }

run() {             # PRECISION-CHECK ORDER STREAMS TESTS
    local build
    build=$(folder "$1")
    export CUDASIM_ORDER=$2 CUDASIM_STREAMS=$3 CUDASIM_PRODUCTS=fixed
    TESTS=$4 BIN=$build/bin BUILD=$build test/run.sh default |
        sed "s/^/$1, threads $2, streams $3: /"
    return "${PIPESTATUS[0]}"
}

all_of() {          # one of SIM_FULL
    case $1 in
    barriers) test/cudasim/barriers.sh ;;
    *-tsan) run "$1" forward eager check_cudasim ;;
    *)
        run "$1" forward eager "$tests"; local first=$?
        run "$1" reverse lazy "$tests"; local second=$?
        run "$1" random random "$tests" && [ $first$second = 00 ] ;;
    esac
}

make -s -j"$(nproc)" all || exit 1                      # the programs on the CPU, to compare with
for what in $SIM_FULL; do
    case $what in barriers) continue ;; *-tsan) target=sim-tools ;; *) target=tests ;; esac
    make -s -j"$(nproc)" $(settings "$what") $target || exit 1
done
for what in $SIM_FULL; do
    [ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n
    { all_of "$what" 2>&1 || echo "$what: there are failures"; } | tee "$logs/$what" &
done
wait
cat "$logs"/* | awk '
    /: [0-9]+ passed, .* \([0-9]+ s\)$/ || /^[a-z_]+: [0-9]+ passed, / {
        sub(/.*: /, ""); gsub(/,/, "")
        passed += $1; failed += $3; skipped += $5
    }
    /: there are failures$/ { bad = 1 }
    END {
        if (bad && !failed) failed = 1
        printf "sim_full: %d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0
    }'
