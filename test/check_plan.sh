#!/bin/sh
# check_plan.sh - the table that begins docs/distributed.md is what the planner says now.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
version=$("$BIN/pretrain" --version) || { wrong "pretrain --version"; finish; }
case $version in
*"cpu, float32"*) ;;
*) skip "the table is that of the CPU's float32 build, whose arenas it measures" ;;
esac
docs/plan_table.sh "$BIN" >"$work/now"
sed -n '/^| model/,/^$/p' docs/distributed.md | sed '/^$/d' >"$work/told"
check "the table is another now" diff "$work/told" "$work/now"
finish
