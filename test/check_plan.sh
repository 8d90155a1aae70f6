#!/bin/sh
# check_plan.sh - the table that begins docs/distributed.md is what the planner says now.
cd "$(dirname "$0")/.." || exit 1
: "${BIN:=bin}"
case $("$BIN/pretrain" --version) in
*"cpu, float32"*) ;;
*) echo "skipped: the table is that of the CPU's float32 build, whose arenas it measures"
   echo "check_plan: 0 passed, 0 failed, 1 skipped"; exit 0 ;;
esac
docs/plan_table.sh "$BIN" >"${TMPDIR:-/tmp}/quartet-plan.$$"
sed -n '/^| model/,/^$/p' docs/distributed.md | sed '/^$/d' | diff - "${TMPDIR:-/tmp}/quartet-plan.$$"
same=$?
rm -f "${TMPDIR:-/tmp}/quartet-plan.$$"
[ $same -eq 0 ] && echo "check_plan: 1 passed, 0 failed, 0 skipped" || echo "check_plan: 0 passed, 1 failed, 0 skipped"
exit $same
