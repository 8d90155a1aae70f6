#!/bin/sh
# check_includes.sh - who may include whom.  Wings of common/, each on top of those before it:
#     base   text, model   data, interop   train;   format/ stands on base only, and all but base may use it.
# programs -> common, format, themselves (rlhf also rm's head);  test -> anything but a .c file.
# Only common/cpu knows common/cpu, and only common/cuda common/cuda (but for act.h: the type of activations, found
# through the include path), and only common/comm knows common/comm.  docs/house.md draws this.
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0

# check FOLDER ALLOWED: every quoted include of the folder's own files must match the pattern.
check() {
    files=$(find $1 -maxdepth 1 -name '*.[ch]' -o -maxdepth 1 -name '*.cu' 2>/dev/null)
    [ -n "$files" ] || { failed=$((failed + 1)); echo "$1 has no files"; return 0; }
    bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' /dev/null $files | grep -vE "\"($2)\"")
    if [ -z "$bad" ]; then passed=$((passed + 1)); return 0; fi
    failed=$((failed + 1))
    printf '%s may include only %s:\n%s\n' "$1" "$2" "$bad"
}

h='[a-z0-9_]+\.h'
wings='base|text|model|data|train'
check common/base "common/base/$h"
check format "common/base/$h|format/$h"
check format/ckpt "common/(base|text|model|interop)/$h|format/$h|format/ckpt/$h"
check common/text "common/(base|text)/$h|format/$h"
check common/model "common/(base|model)/$h|act\.h|format/$h"
check common/cpu "common/(base|model|cpu)/$h"
check common/cuda "common/(base|model|cuda)/$h|act\.h|common/comm/engine\.h"
check common/comm "common/(base|model|comm)/$h"
check common/data "common/(base|text|model|data)/$h|format/$h"
check common/interop "common/(base|text|model|interop)/$h|format/$h"
check common/train "common/($wings|interop)/$h|format/$h"
for program in pretrain sft rm; do check $program "common/($wings)/$h|format/$h|$program/$h"; done
check rlhf "common/($wings)/$h|format/$h|rlhf/$h|rm/$h"
check rlhf/chat "common/($wings)/$h|format/$h|rlhf/chat/$h"
for part in test test/bench test/fuzz test/demo; do
    check $part "(common/($wings|cpu|cuda|interop)|format|format/ckpt|pretrain|sft|rm|rlhf|rlhf/chat|test|test/bench|test/fuzz|test/demo)/$h"
done
check test/cudasim "sim\.h"
check test/seam "common/(base|model)/$h|wrap\.h"

stray=$(find common -maxdepth 1 -name '*.[ch]')
if [ -z "$stray" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "in no wing of common: $stray"; fi

echo "check_includes: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
