#!/bin/sh
# check_includes.sh - who may include whom:  format -> common/base, common/threads (both know nothing of models);
# common -> common, format;  programs -> common, format, themselves (rlhf also rm's head);  test -> anything but a .c file.
# Only common/cpu knows common/cpu.
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0

# check FOLDER ALLOWED: every quoted include of the folder's files must match the pattern.
check() {
    files=$(find $1 -name '*.[ch]' 2>/dev/null)
    [ -n "$files" ] || return 0
    bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' /dev/null $files | grep -vE "\"($2)\"")
    if [ -z "$bad" ]; then passed=$((passed + 1)); return 0; fi
    failed=$((failed + 1))
    printf '%s may include only %s:\n%s\n' "$1" "$2" "$bad"
}

h='[a-z0-9_]+\.h'
check format "common/base\.h|common/threads\.h|format/$h"
check common "common/$h|format/$h|common/cpu/$h"
check common/cpu "common/$h|common/cpu/$h"
for program in pretrain sft rm; do check $program "common/$h|format/$h|$program/$h"; done
check rlhf "common/$h|format/$h|rlhf/$h|rm/$h"
check test "(common|common/cpu|format|pretrain|sft|rm|rlhf|test|test/bench|test/fuzz|test/demo)/$h"

outside=$(grep -rln --include='*.[ch]' '"common/cpu/' common format pretrain sft rm rlhf 2>/dev/null | grep -v '^common/cpu/')
if [ -z "$outside" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "only common/cpu may include common/cpu: $outside"; fi

echo "check_includes: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
