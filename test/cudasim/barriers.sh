#!/bin/bash
# barriers.sh [FILE...] - tests the tests: takes each barrier of the kernels, and each wait for a copy, for the device or
# for other ranks, out of a copy of the source, one at a time, and says which run notices it:
#   tool_once under ThreadSanitizer in bfloat16, then in float32, then without it in other orders of threads;
#   for waits of the host, test_device and tool_once with streams as late as they may be;
#   for waits for ranks, check_devices.
# One that none notices fails, unless a comment in the line above says that check_simulated sees it, or that no test
# does.
# FILE: only those of these, as common/cuda/norm.cu
cd "$(dirname "$0")/../.." || exit 1
if ! command -v nvcc >/dev/null && [ ! -x "$CUDA_HOME/bin/nvcc" ]; then
    echo "skipped: removing barriers in the simulator: there is no CUDA toolkit"
    echo "barriers: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
files=${*:-common/cuda/*.cu common/cuda/*.h common/comm/*.c common/model/*.c common/train/*.c}
device='__sync(threads|warp)\(\);|__syncthreads_or\(|copies_(wait|close)(<[0-9]>)?\(\);'
host='cudaEventSynchronize\(|cudaStreamSynchronize\(|device_wait\(\);'
ranks='comm_wait\((c|comm|m->use\.comm)\);|finish\(e\);|cudaStreamWaitEvent\('
# What only measures, and what tests of the programs and of ranks look at.
elsewhere='^common/cuda/(tensor.h|peak.cu|engine_nccl.cu|offload.cu|device.cu)|void device_wait'
kernels=$(grep -nE "$device|$host" $files /dev/null | grep ^common/cuda | grep -vE "$elsewhere")
others=$(grep -nE "^  .*\b($ranks)" $files /dev/null)
tree=build/barriers passed=0 failed=0
export CUDASIM_PRODUCTS=fixed TSAN_OPTIONS="exitcode=66 halt_on_error=1"
rm -rf $tree && mkdir -p $tree
cp -a Makefile common format pretrain sft rm rlhf test $tree && mkdir -p $tree/docs && cp docs/packages.mk $tree/docs
cd $tree || exit 1

# make's settings of a kind of run, and its folder
settings() {
    case $1 in
    races) echo "SIM=1 SAN=tsan BUILD=races" ;;
    races-f32) echo "SIM=1 SAN=tsan PRECISION=f32 BUILD=races-f32" ;;
    *) echo "SIM=1 BUILD=sim" ;;
    esac
}

# A kernel file that uses a header, and the part of once that runs a file's kernels.
user() {
    case $1 in
    kernel) echo token_loss ;;
    columns) echo norm ;;
    *) echo "$1" ;;
    esac
}
part() {
    case $1 in
    token_loss) echo loss ;;
    sampling) echo sample ;;
    attention* | flash*) echo attention ;;
    *) echo "$1" ;;
    esac
}

# what KIND PROGRAM STEM: how the run of a changed file ends: "" when nothing is noticed
what() {
    local kind=$1 program=$2 stem=$3 folder out code orders
    folder=$(settings "$kind") folder=${folder##*=}
    make -s $(settings "$kind") CHANGED="test/$program" "$folder/changed-$stem" >"$folder.log" 2>&1 ||
        { echo "no build"; return; }
    for orders in "forward lazy" "reverse random" "random lazy"; do
        set -- $orders
        out=$(CUDASIM_ORDER=$1 CUDASIM_STREAMS=$2 timeout 300 "$folder/changed-$stem" \
              $([ "$program" = tool_once ] && part "$stem") 2>"$folder.log")
        code=$?
        case $code in 0) ;; 66) echo race; return ;; *) echo "stops ($code)"; return ;; esac
        case $out in *nan*) echo nan; return ;; esac
        [ "$program" = test_device ] || cmp -s <(echo "$out") "$folder/once-$(part "$stem")" ||
            { echo differs; return; }
        case $kind in races*) return ;; esac
    done
}

# The same of the programs on several devices.
on_ranks() {
    make -s -j"$(nproc)" $(settings fast) all sim/test/tool_trace >sim.log 2>&1 || { echo "no build"; return; }
    STOP=1 BIN=$PWD/sim/bin BUILD=$PWD/sim timeout 900 test/check_devices.sh </dev/null | grep -m 1 ^FAILED
}

for kind in ${kernels:+races races-f32 fast}; do
    folder=$(settings $kind) folder=${folder##*=}
    make -s -j"$(nproc)" $(settings $kind) "$folder/test/tool_once" "$folder/test/test_device" >/dev/null || exit 1
    for part in embed norm qk attention loss sample optimizer; do
        "$folder/test/tool_once" $part >"$folder/once-$part"
    done
done

while IFS=: read -r file line text; do
    [ -n "$file" ] || continue
    stem=$(basename "${file%.*}") compiled=
    stem=$(user "$stem")
    cp "../../$file" kept
    case $text in
    *cudaEvent* | *cudaStream*)
        sed -i -E "${line}s/cuda_check\(cuda(Event|Stream)(Synchronize|WaitEvent)\([^\"]*\"[^\"]*\"\);//" "$file" ;;
    *__syncthreads_or*) sed -i "${line}s/__syncthreads_or//" "$file" ;;
    *) sed -i -E "${line}s/$device|$ranks|device_wait\(\);/(void)0;/" "$file" ;;
    esac
    if sed -n "$((line - 1))p" kept | grep -qE "check_simulated sees it|No test sees it"; then
        cp kept "$file"
        echo "$file:$line:$(sed -n "$((line - 1))p" "$file" | tr -d '/*')"
        continue
    fi
    cmp -s "$file" kept && { echo "$file:$line: could not be removed: $text"; failed=$((failed + 1)); continue; }
    noticed=
    if echo "$text" | grep -qE "$ranks"; then
        noticed=$(on_ranks)
    elif echo "$text" | grep -qE "$host"; then
        noticed=$(what fast test_device "$stem")
        [ -n "$noticed" ] || [ "$stem" != optimizer ] || noticed=$(what fast tool_once "$stem")
    else
        for kind in races races-f32 fast; do
            noticed=$(what $kind tool_once "$stem")
            [ -z "$noticed" ] || { noticed="$noticed, $kind"; break; }
        done
    fi
    cp kept "$file"                         # newer than what was made of the changed one
    text=$(echo "$text" | sed -E 's/^ +//; s/ +\/\*.*//')
    case $noticed in
    "") failed=$((failed + 1)) noticed="NO TEST FAILS" ;;
    "no build"*) failed=$((failed + 1)) ;;
    *) passed=$((passed + 1)) ;;
    esac
    echo "$file:$line: $text: $noticed"
done <<<"$kernels
$others"
cd ../.. && rm -rf $tree
echo "barriers: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
