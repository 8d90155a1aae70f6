#!/bin/sh
# check_crash.sh - a save is killed at each of its system calls, and each is made to fail: the folder must always go on from the
# old or the new file, byte-identical to a reference, and nothing may be left behind.  FULL=1: every call with every error.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
tool=$BUILD/test/tool_save
dir=$work
run=$dir/run

case $BUILD in *-*san) skip "under a sanitizer, whose own system calls would be hit too" ;; esac
bad() { failed=$((failed + 1)); echo "$@" >&2; }

# uuid, time and header CRC are new in every save
same() {
    cmp -l "$1" "$2" 2>/dev/null | awk '{ o = $1 - 1; if (!((o >= 80 && o < 96) || (o >= 160 && o < 168) || (o >= 252 && o < 256))) exit 1 }' &&
        [ "$(wc -c <"$1")" -eq "$(wc -c <"$2")" ]
}

mkdir "$dir/old" "$dir/new"
"$tool" save "$dir/old" final.ckpt 1 && "$tool" save "$dir/new" final.ckpt 2 || { bad "saving fails without any fault"; finish; }

# What must hold after a save that met `$1` and ended with code `$2` (137: killed).
judge() {
    if cmp -s "$run/final.ckpt" "$dir/old/final.ckpt"; then which=old
    elif same "$run/final.ckpt" "$dir/new/final.ckpt"; then which=new
    else bad "$1: final.ckpt is neither the old nor the new file"; return; fi
    [ "$2" -eq 0 ] && [ $which = old ] && { bad "$1: the save says it succeeded but the old file is there"; return; }
    case $2 in 0 | 74 | 127 | 137) ;; *) bad "$1: exit code $2"; return ;; esac
    "$BIN/ckpt" latest --jobs 1 "$run" >/dev/null 2>&1 || { bad "$1: nothing to go on from"; return; }
    [ "$2" -eq 74 ] && ls "$run" | grep -q 'ckpt\.tmp-' && ! grep -q unlink <<END && { bad "$1: a failed save left its temporary file"; return; }
$1
END
    "$tool" save "$run" final.ckpt 2 && "$tool" retain "$run" 3 || { bad "$1: the next save fails"; return; }
    same "$run/final.ckpt" "$dir/new/final.ckpt" || { bad "$1: the next save is wrong"; return; }
    [ "$(ls "$run" | tr '\n' ' ')" = "final.ckpt latest " ] || { bad "$1: left behind: $(ls "$run" | tr '\n' ' ')"; return; }
    passed=$((passed + 1))
}

fresh() { rm -rf "$run"; cp -r "$dir/old" "$run"; }

# A file that may not grow is written short, then refused.
for blocks in 0 1 16 100 200 400; do
    fresh
    (ulimit -f $blocks; "$tool" save "$run" final.ckpt 2 >/dev/null 2>"$dir/said")
    judge "limit of $blocks blocks" $?
done

if ! strace -qq -o /dev/null true 2>/dev/null; then
    skip "faults in system calls (strace is missing or may not trace)"
fi

# "name number" of every call from the one that opens the folder on, and "hint" of those behind the checkpoint's rename:
# they write the file `latest`, whose failure costs nothing
fresh
strace -qq -o "$dir/log" "$tool" save "$run" final.ckpt 2
awk -v run="$run" '{ name = $0; sub(/\(.*/, "", name); n[name]++; if (index($0, run)) seen = 1
    if (seen && name ~ /^[a-z0-9_]+$/ && name != "exit_group") print name, n[name], hint
    if (seen && name ~ /^rename/) hint = "hint" }' "$dir/log" | grep -v -e '^execve' -e '^brk' -e '^munmap' -e '^mmap' -e '^getrandom' >"$dir/calls"
[ "$(grep -c pwrite64 "$dir/calls")" -ge 10 ] || bad "the trace shows no writing"

try() {
    fresh
    strace -qq -o "$dir/log" -e trace="$1" -e inject="$1:$3:when=$2" "$tool" save "$run" final.ckpt 2 >/dev/null 2>"$dir/said"
    code=$?
    grep -q -e INJECTED -e SIGKILL "$dir/log" || [ $code -eq 137 ] || { bad "$1 number $2 $3: was not injected"; return; }
    # what was not written or not made durable must not be called saved
    case "$1 $2 $3$4" in
        "pwrite64 "*" error=ENOSPC" | "pwrite64 "*" error=EIO" | "fsync 1 error="* | "fsync 2 error="* | "fallocate "*" error="*)
            [ $code -eq 74 ] || { bad "$1 number $2 $3: exit code $code (expected 74)"; return; } ;;
    esac
    judge "$1 number $2 $3" $code
}

i=0
while read -r name number hint; do
    i=$((i + 1))
    # by default every fifth call, and all of those on which durability rests
    case $name in fsync | rename* | fallocate | unlink*) ;; *) [ -n "$FULL" ] || [ $((i % 5)) -eq 0 ] || continue ;; esac
    try "$name" "$number" signal=SIGKILL
    case $name in
        # (a kernel that counts bytes it did not write is found by the next reader's checksums, not by the writer)
        pwrite64 | write) faults="error=ENOSPC error=EIO error=EINTR" ;;
        pread64 | read) faults="error=EIO retval=1" ;;
        fsync | fallocate | close) faults="error=EIO error=ENOSPC" ;;
        openat | rename | renameat | renameat2) faults="error=EACCES error=EMFILE error=EIO" ;;
        flock) faults="error=ENOLCK" ;;
        *) faults="" ;;
    esac
    k=0
    for fault in $faults; do
        k=$((k + 1))
        # and one fault for each, another one each time
        [ -n "$FULL" ] || [ $((i / 5 % $(echo $faults | wc -w) + 1)) -eq $k ] || continue
        try "$name" "$number" "$fault" "$hint"
    done
done <"$dir/calls"
finish
