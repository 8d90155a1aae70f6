#!/bin/sh
# check_man.sh - the manual pages name every option and command and are free of faults, the completion completes, --help
# is short and --help-all whole.
. test/lib.sh
check "pages and completion are written" docs/man/build.sh "$BIN" "$work/man"

# ---- pages ----
for program in pretrain sft rm rlhf chat ckpt; do
    page=$work/man/quartet-$program.1
    check "$program: a name" grep -q "^quartet.-$program .- [a-z]" "$page"
    if command -v groff >/dev/null; then
        check "$program: groff" sh -c "groff -ww -z -man '$page' >'$work/out' 2>&1 && [ ! -s '$work/out' ]"
        groff -Tascii -man "$page" 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g' >"$work/text"
    else omit "groff is not installed"; fi
    if command -v mandoc >/dev/null; then
        check "$program: mandoc" sh -c "mandoc -T lint -W warning '$page' >'$work/out' 2>&1"
    else omit "mandoc is not installed"; fi
    [ $program = ckpt ] && continue
    "$BIN/$program" --help-all | grep -oE '^  --(\[no-\])?[a-z0-9-]+' | tr -d ' ' |
        grep -v '^--help' >"$work/options"
    check "$program: options" [ "$(wc -l <"$work/options")" -ge 15 ]
    while read -r option; do
        grep -qF -- "\\fB$(echo "$option" | sed 's/-/\\-/g')\\fR" "$page" && ok || wrong "$program: $option is not in its page"
    done <"$work/options"
done
for command in $("$BIN/ckpt" --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p'); do
    check "ckpt: $command" grep -q "^\.SS $command" "$work/man/quartet-ckpt.1"
done
check "rm: scoring" grep -q '^\.SH SCORING' "$work/man/quartet-rm.1"
check "examples" grep -q '^\.SH EXAMPLES' "$work/man/quartet-rlhf.1"

# ---- completion ----
# completes "WORDS" EXPECTED: what TAB offers behind the last word, sorted
completes() {
    said=$(cd "$work/files" && bash -c '
        . "$1" || exit 1
        set -f; COMP_WORDS=($2); [ "${2% }" != "$2" ] && COMP_WORDS+=(""); set +f
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _quartet; printf "%s\n" "${COMPREPLY[@]}"' - "$work/man/quartet.bash" "$1" 2>&1 | sort | tr '\n' ' ')
    [ "$said" = "$2 " ] && ok || wrong "completion of '$1': '$said', expected '$2'"
}
if command -v bash >/dev/null; then
    mkdir -p "$work/files/runs"
    : >"$work/files/data.jsonl"
    completes "quartet-pretrain --sched" "--schedule"
    completes "quartet-pretrain --schedule " "constant cosine linear wsd"
    completes "quartet-pretrain --schedule = c" "constant cosine"
    completes "quartet-pretrain --layers " ""
    completes "quartet-sft --data d" "data.jsonl"
    completes "quartet-sft --data data.jsonl " "data.jsonl runs"
    completes "quartet-sft --help" "--help --help-all"
    completes "quartet-rlhf --no-d" "--no-dry-run"
    completes "quartet-rm --lr" "--lr"
    completes "quartet-rm --score --l" ""
    completes "quartet-ckpt l" "latest limits lineage ls"
    completes "quartet-ckpt tensors --so" "--sort"
    completes "quartet-ckpt tensors --sort " "name offset size"
    completes "quartet-ckpt info r" "runs"
else omit "bash is not installed"; fi

# ---- --help ----
for program in pretrain sft rm rlhf; do
    "$BIN/$program" --help >"$work/short"
    "$BIN/$program" --help-all >"$work/long"
    check "$program: short" [ "$(wc -l <"$work/short")" -lt "$(($(wc -l <"$work/long") * 2 / 3))" ]
    check "$program: --out" grep -q '^  --out ' "$work/short"
    check "$program: no --beta1" sh -c "! grep -q '^  --beta1' '$work/short' && grep -q '^  --beta1' '$work/long'"
    check "$program: says where the rest is" grep -q "^  --help-all  *the other [0-9]* options" "$work/short"
done

# ---- make install ----
if [ "$BUILD" = build/cpu ]; then
    check "make install" env MAKEFLAGS= make -s install DESTDIR="$work/root" PREFIX=/usr >/dev/null
    check "installed" [ -x "$work/root/usr/bin/quartet-rm" ]
    check "its page" [ -s "$work/root/usr/share/man/man1/quartet-rm.1" ]
    check "its completion" [ -s "$work/root/usr/share/bash-completion/completions/quartet-rm" ]
    check "nothing without prefix" [ -z "$(find "$work/root" -type f ! -name 'quartet-*')" ]
    "$work/root/usr/bin/quartet-rm" --help >"$work/short"
    check "its own name" [ "$(grep -c '^\(usage:\|      \) quartet-rm ' "$work/short")" = 2 ]
    expect 64 "\`quartet-ckpt --help\` lists them" "$work/root/usr/bin/quartet-ckpt" nonsense
    : >"$work/root/usr/bin/other"
    check "make uninstall" env MAKEFLAGS= make -s uninstall DESTDIR="$work/root" PREFIX=/usr
    check "only that goes" [ "$(find "$work/root" -type f)" = "$work/root/usr/bin/other" ]
fi
finish
