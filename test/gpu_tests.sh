#!/bin/sh
# gpu_tests.sh - make CUDA=1 test: on a GPU, the tests that the simulator runs, and how far each operation was from its
# reference.  Without one: what can be checked all the same (check_cuda.sh), and code 69 where that passes.
# Also for a build that was carried to the machine with the GPU:  BIN=build/cuda/bin BUILD=build/cuda test/gpu_tests.sh
cd "$(dirname "$0")/.." || exit 1
: "${BIN:=build/cuda/bin}" "${BUILD:=build/cuda}"
export BIN BUILD ERRORS=1
[ -z "$TESTS" ] || exec test/run.sh default
why=$("$BUILD/test/test_device" 2>&1)
if [ $? -ne 69 ]; then
    TESTS="check_cuda $(cat test/cudasim/subset)" exec test/run.sh default
fi
TESTS=check_cuda test/run.sh default || exit 1
echo "skipped: the tests on a GPU: ${why#quartet: }"
exit 69
