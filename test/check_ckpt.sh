#!/bin/sh
# check_ckpt.sh - every command of ckpt on known files: what it prints, its exit code, escaping, speed.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
ckpt=$BIN/ckpt
dir=$work
out=$dir/out

# expect CODE PATTERN COMMAND...: exit code, and a line of stdout or stderr that matches
expect() {
    want=$1 pattern=$2
    shift 2
    "$@" >"$out" 2>&1
    code=$?
    if [ $code -eq "$want" ] && grep -qE -e "$pattern" "$out"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "$*: exit code $code (expected $want), no line like '$pattern' in:" >&2
        head -n 5 "$out" >&2
    fi
}

mkdir "$dir/base" "$dir/sft" "$dir/rm" "$dir/rlhf" "$dir/run" "$dir/empty"
"$BUILD/test/tool_save" chain "$dir" || failed=1
for step in 1 2 3; do "$BUILD/test/tool_save" save "$dir/run" step-0000000$step.ckpt $step || failed=1; done
f=$dir/rlhf/final.ckpt

expect 0 '^stage +rlhf$' $ckpt info "$f"
expect 0 '^tokens +1,638,400$' $ckpt info "$f"
expect 0 '^config +arch llama  n_layer 1 ' $ckpt info "$dir/rlhf"
expect 0 '^lineage +\[policy: base -> sft, reward: base -> sft -> rm\]$' $ckpt info "$f"
expect 0 '^ +weight +bf16 +1 +19999 +39998$' $ckpt info "$f"
expect 0 '^CONF +4096 .* ok +critical' $ckpt sections "$f"
expect 0 '^TOKN .* 70000 +0  zlib ' $ckpt sections "$f"
expect 0 '^blk.0.up.weight +weight +bf16 +\[7, 2857\] +39998 ' $ckpt tensors "$f"
expect 0 '^1 tensor, ' $ckpt tensors "$f" --role m
expect 0 '^2 tensors' $ckpt tensors "$f" --match 'blk.*' --sort=size
expect 0 '^blk.0 +weight +1 +19999 +39998 +25.2$' $ckpt tensors "$f" --group
expect 0 '^llama$' $ckpt config "$f" arch
expect 0 '^1.0000000000000001e-05$' $ckpt config "$f" norm_eps
expect 0 '^400$' $ckpt train "$f" step
expect 0 '^rng.init.key +01020300$' $ckpt rng "$f"
expect 0 '18446744073709551615' $ckpt data "$f" sizes
expect 0 '^quartet$' $ckpt chat "$f" template
expect 0 '^made by a test$' $ckpt meta "$f" note
expect 0 '^nothing +NaN$' $ckpt eval "$f"
expect 66 "no key 'archh'" $ckpt config "$f" archh
expect 0 '^crc32 +7c9ed83f$' $ckpt tokenizer "$f"
expect 0 '^pretrain base  step 100 ' $ckpt lineage "$f"
expect 0 '^   \|- rm .*val_accuracy=0.71 .*\(reward\)' $ckpt lineage "$f"
expect 0 '^   `- rlhf .*<- this file' $ckpt lineage "$f"
expect 0 '^`- sft .*\(policy\)  found: ' $ckpt lineage "$f" --dir "$dir"
rm "$dir/base/final.ckpt"
expect 66 'there is no such folder' $ckpt lineage "$f" --dir "$dir/nowhere"
expect 0 '^0 tensors' $ckpt stats "$f" nothing
expect 65 'is a checkpoint already' $ckpt import "$f" --out "$dir/again.ckpt"
expect 0 '^pretrain base .* not found' $ckpt lineage "$dir/rlhf" --dir "$dir"
expect 0 '^embed.weight +weight +-0.124952 ' $ckpt stats "$f"
expect 0 '2\^-17 .*2\^-4$' $ckpt stats "$f" 'embed*' --hist
cp "$out" "$dir/hist"
expect 0 '^scale +buffer ' $ckpt stats "$f" scale --recompute
expect 0 'ok \(6 tensors' $ckpt verify "$f" --deep
expect 0 'step-00000003.ckpt: ok' $ckpt verify "$dir/run" "$f"
expect 0 '^weights_id +[0-9a-f]{32}$' $ckpt hash "$f"
expect 0 '^\[ +-?[0-9.]+ +-?[0-9.]+\]$' $ckpt print "$f" embed.weight 7,3:5
expect 0 ' \.\.\.$' $ckpt print "$f" embed.weight
expect 0 '^\[( [0-9a-f]{4}){16}\]$' $ckpt print "$f" norm.weight --hex
expect 0 '"values": \[\[-?[0-9.e-]+,-?[0-9.e-]+\],\[-?[0-9.e-]+,-?[0-9.e-]+\]\]$' $ckpt print "$f" embed.weight 7:9,3:5 --json
expect 0 '"values": -?[0-9.e-]+$' $ckpt print "$f" scale --json
expect 64 'outside dimension 0' $ckpt print "$f" embed.weight 300
expect 64 'is not a slice' $ckpt print "$f" embed.weight 1x
expect 66 "no tensor 'x'" $ckpt print "$f" x
expect 0 'header: weights_id$' $ckpt explain "$f" 112
expect 0 'key template in CHAT' $ckpt explain "$f" 12312
expect 0 'entry 0 of the tensor index \(embed.weight, weight\): shape' $ckpt explain "$f" 41064
expect 0 'tensor embed.weight \(weight, f32\), element \[1, 0\] = ' $ckpt explain "$f" 0xd040
expect 0 'padding after tensor' $ckpt explain "$f" 73000
expect 0 'statistics of tensor embed.weight \(weight\): max' $ckpt explain "$f" 49176
expect 64 'there is no byte' $ckpt explain "$f" 99999999
expect 0 '^keys +65,536$' $ckpt limits

# diff
cp -r "$dir/rlhf" "$dir/again"
expect 0 '^equal: 0 keys, 0 of 6' $ckpt diff "$dir/rlhf" "$dir/again"
expect 1 '^EVAL +val_loss +1.5 +1$' $ckpt diff "$dir/run/step-00000001.ckpt" "$dir/run/step-00000002.ckpt"
expect 1 '^norm.weight +weight +f16 +f16 .* 16 +0$' $ckpt diff "$dir/run/step-00000001.ckpt" "$dir/run/step-00000002.ckpt" --tensors
expect 0 '^equal: 0 keys, 6 of 6 tensors' $ckpt diff "$dir/run/step-00000001.ckpt" "$dir/run/step-00000002.ckpt" --tensors --tol 1

# strip keeps the weights and their identity
expect 0 'instead of' $ckpt strip "$f" "$dir/stripped.ckpt"
expect 64 'exists already' $ckpt strip "$f" "$dir/stripped.ckpt"
expect 0 'instead of' $ckpt strip "$f" "$dir/stripped.ckpt" --force
expect 0 '^4 tensors' $ckpt tensors "$dir/stripped.ckpt"
expect 0 'TRNS is empty' $ckpt train "$dir/stripped.ckpt"
[ "$($ckpt hash "$f" | head -n 2)" = "$($ckpt hash "$dir/stripped.ckpt" | head -n 2)" ] && ok || { failed=$((failed + 1)); echo "strip changed the weights" >&2; }
expect 0 ': ok' $ckpt verify "$dir/stripped.ckpt" --deep

# run folders
expect 0 '^step-00000003.ckpt +valid +resume +latest ' $ckpt ls "$dir/run"
printf x | dd of="$dir/run/step-00000003.ckpt" bs=1 seek=54000 conv=notrunc 2>/dev/null
expect 0 '^step-00000002.ckpt +valid +resume +- ' $ckpt ls "$dir/run" --deep
expect 0 '^step-00000003.ckpt +- +- +latest .*\[T10\]$' $ckpt ls "$dir/run" --deep
expect 0 'step-00000002.ckpt$' $ckpt latest "$dir/run"
expect 65 'chunk 0, bytes 49152 to .*\[T10\]' $ckpt verify "$dir/run"
expect 66 'no checkpoint' $ckpt latest "$dir/empty"
expect 66 'no checkpoints in' $ckpt ls "$dir/empty"

# the command line, and what is not there
expect 64 "did you mean 'verify'" $ckpt verfy "$f"
expect 64 'did you mean --json' $ckpt info --jsno "$f"
expect 64 'unknown option --frobnicate' $ckpt info --frobnicate "$f"
expect 64 'is not a number' $ckpt diff "$f" "$f" --tol abc
expect 64 'needs a value' $ckpt tensors "$f" --role
expect 64 'none of any.weight.master' $ckpt tensors "$f" --role moment
expect 64 'usage: ckpt info' $ckpt info
expect 64 'usage: ckpt COMMAND' $ckpt
expect 0 'usage: ckpt stats' $ckpt stats --help
expect 0 '^ckpt [0-9.]+ \(format 1.0\)' $ckpt --version
expect 66 'cannot be opened' $ckpt info "$dir/nothing"
expect 65 '\[H1\]' $ckpt info "$dir/hist"
expect 65 'not a regular file' $ckpt info /dev/null
[ -e /dev/full ] && expect 74 'output cannot be written' sh -c "$ckpt info '$f' >/dev/full"

# nothing from a file reaches the terminal as an escape sequence
for c in data info; do $ckpt $c "$f" && $ckpt $c "$f" --json; done >"$out" 2>&1
if grep -q "$(printf '\033')" "$out"; then failed=$((failed + 1)) && echo "an escape byte got through" >&2; else passed=$((passed + 1)); fi
expect 0 'esc .x1b\[31m' $ckpt data "$f"
expect 0 'esc .u001[bB]\[31m' $ckpt data "$f" --json

# JSON of every command
if python3 -c 'import json' 2>/dev/null; then
    for c in "info $f" "sections $f" "tensors $f" "config $f" "config $f arch" "eval $f" "tokenizer $f" "lineage $f" \
        "stats $f --hist" "print $f embed.weight" \
        "print $f scale" "verify $f $dir/run" "diff $f $dir/sft" "hash $f" "ls $dir/run" "latest $dir/run" "explain $f 5" limits "info $dir/run/step-00000003.ckpt"; do
        $ckpt $c --json 2>/dev/null | python3 -c 'import json, sys; d = json.load(sys.stdin); sys.exit(d["schema"] != "ckpt-dump/1")' && ok ||
            { failed=$((failed + 1)); echo "ckpt $c --json is no JSON" >&2; }
    done
else
    omit "JSON of every command (no python3)"
fi

# 10 GB answer at once: the best of five in under 50 ms
if "$BUILD/test/tool_save" sparse "$dir/large.ckpt" 10 2>/dev/null; then
    best=999999
    for i in 1 2 3 4 5; do
        start=$(date +%s%N)
        $ckpt info "$dir/large.ckpt" >/dev/null || best=999999
        took=$((($(date +%s%N) - start) / 1000))
        [ $took -lt $best ] && best=$took
    done
    [ $best -lt 50000 ] && ok || { failed=$((failed + 1)); echo "info of 10 GB took $best us" >&2; }
else
    omit "info of 10 GB (no sparse files here)"
fi
finish
