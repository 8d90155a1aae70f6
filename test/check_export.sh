#!/bin/sh
# check_export.sh - what `ckpt export --hf` writes: the very bytes that were imported, shards, and nothing on an error.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
dir=$work
ckpt=$BIN/ckpt
check() { what=$1; shift; if "$@" >"$dir/out" 2>"$dir/said"; then ok; else wrong "$what: $(cat "$dir/said")"; fi; }

# the file comes back byte for byte, and in shards value for value
check "import" $ckpt import test/golden/llama --out "$dir/a.ckpt"
check "export" $ckpt export "$dir/a.ckpt" --hf "$dir/hf"
check "the same bytes" cmp "$dir/hf/model.safetensors" test/golden/llama/model.safetensors
check "a folder with a slash behind" $ckpt export "$dir/a.ckpt" --hf "$dir/slash/"
check "is the same folder" diff -r "$dir/hf" "$dir/slash"
check "export in shards" $ckpt export "$dir/a.ckpt" --hf "$dir/shards" --shard 20K
[ "$(ls "$dir/shards" | grep -c '^model-.*-of-.*\.safetensors$')" -gt 2 ] && ok || wrong "no shards: $(ls "$dir/shards")"
check "import of shards" $ckpt import "$dir/shards" --out "$dir/b.ckpt"
check "the same tensors" $ckpt diff --tensors "$dir/a.ckpt" "$dir/b.ckpt"
check "the same settings" sh -c "[ \"\$($ckpt config $dir/a.ckpt)\" = \"\$($ckpt config $dir/b.ckpt)\" ]"
[ -z "$(ls -A "$dir" | grep part)" ] && ok || wrong "left behind: $(ls -A "$dir")"

# a chain of our own: tokenizer, template and reward model
sh test/small_data.sh "$dir"
tiny="--layers 2 --channels 32 --context 64 --vocab-size 300 --steps 4 --batch-tokens 256 --micro-tokens 256 --validation 0"
for family in llama gpt2; do
    check "pretrain" "$BIN/pretrain" --data "$dir/text.txt" --preset $family $tiny --out "$dir/$family-base"
    check "sft" "$BIN/sft" --model "$dir/$family-base" --data "$dir/chats.jsonl" --steps 3 --validation 0 --out "$dir/$family-sft"
    check "rm" "$BIN/rm" --model "$dir/$family-sft" --data "$dir/ranked.jsonl" --steps 3 --validation 0 --out "$dir/$family-rm"
    for stage in base sft rm; do
        check "export of $family $stage" $ckpt export "$dir/$family-$stage" --hf "$dir/x-$family-$stage"
        check "import of $family $stage" $ckpt import "$dir/x-$family-$stage" --out "$dir/again.ckpt"
        [ "$($ckpt chat "$dir/again.ckpt")" = "$($ckpt chat "$dir/$family-$stage")" ] && ok || wrong "$family $stage: another chat template"
        $ckpt strip "$dir/$family-$stage" "$dir/plain.ckpt" --force >/dev/null
        if [ $stage = rm ]; then $ckpt diff --tensors "$dir/plain.ckpt" "$dir/again.ckpt" >"$dir/out"; grep -q "[01] of [0-9]* tensors differ" "$dir/out" && ok || wrong "$family rm: more than score.bias differs: $(tail -n 1 "$dir/out")"
        else check "the tensors of $family $stage" $ckpt diff --tensors "$dir/plain.ckpt" "$dir/again.ckpt"; fi
    done
    # as GGUF: float32 comes back bit for bit, the others load
    $ckpt strip "$dir/$family-sft" "$dir/plain.ckpt" --force >/dev/null
    for type in f32 f16 bf16 q8_0; do
        check "$family as $type" $ckpt export "$dir/$family-sft" --gguf "$dir/x.gguf" --type $type
        check "import of $family as $type" $ckpt import "$dir/x.gguf" --out "$dir/again.ckpt"
        [ $type != f32 ] || check "the tensors of $family as $type" $ckpt diff --tensors "$dir/plain.ckpt" "$dir/again.ckpt"
    done
    # the tokenizer has the same ids, special ones too
    printf '{"text":"The cat number 7 sees\\na <|end|> \\u00e9 12345 river."}\n' >"$dir/rows.jsonl"
    check "ids" "$BIN/chat" --model "$dir/$family-sft" --logprobs "$dir/rows.jsonl"
    mv "$dir/out" "$dir/ours"
    $ckpt import "$dir/x-$family-sft" --out "$dir/again.ckpt" >/dev/null 2>&1
    check "ids again" "$BIN/chat" --model "$dir/again.ckpt" --logprobs "$dir/rows.jsonl"
    mv "$dir/out" "$dir/theirs"
    check "the same ids and log-probabilities" cmp "$dir/theirs" "$dir/ours"
    grep -q '<|assistant|>' "$dir/x-$family-sft/chat_template.jinja" && ok || wrong "no chat template"
done

# every family comes back: the same weights byte for byte, and from the config.json written here the same settings
if [ -d "$SHARED/golden" ]; then
    for case in gpt2 gpt2-inner bloom llama llama-tied llama-headdim llama-bias llama-rope-linear llama-rope-llama3 llama-rope-yarn \
                llama-rope-dynamic smollm mistral qwen2 qwen2-sliding qwen3 falcon-7b falcon-11b falcon-40b falcon-rw falcon-rw-12heads gptj codegen phi gpt-neox glm glm4; do
        rm -rf "$dir/back"
        check "$case" $ckpt import "$SHARED/golden/$case" --out "$dir/a2.ckpt"
        check "export of $case" $ckpt export "$dir/a2.ckpt" --hf "$dir/back"
        check "the bytes of $case" cmp "$dir/back/model.safetensors" "$SHARED/golden/$case/model.safetensors"
        check "import of $case again" $ckpt import "$dir/back" --out "$dir/again.ckpt"
        check "the settings of $case" sh -c "[ \"\$($ckpt config $dir/a2.ckpt)\" = \"\$($ckpt config $dir/again.ckpt)\" ]"
    done
else
    omit "golden models exported again ($SHARED/golden is not there)"
fi

# models of other systems as GGUF: tensors, tokenizer and template come back, and another name of a llama is llama
if [ -d "$SHARED/golden" ]; then
    for case in llama llama-bias llama-headdim qwen2 qwen3 smollm gpt2-inner llama-rope-linear llama-rope-llama3 \
                bloom falcon-7b falcon-11b falcon-40b gpt-neox phi glm4; do
        check "$case" $ckpt import "$SHARED/golden/$case" --out "$dir/a2.ckpt"
        check "GGUF of $case" $ckpt export "$dir/a2.ckpt" --gguf "$dir/x.gguf"
        check "import of the GGUF of $case" $ckpt import "$dir/x.gguf" --out "$dir/again.ckpt"
        $ckpt diff "$dir/a2.ckpt" "$dir/again.ckpt" >"$dir/out"
        grep -q ' 0 of [0-9]* tensors differ' "$dir/out" && ! grep -vE '^(META +name|CONF +arch|section|different)' "$dir/out" >/dev/null && ok || wrong "$case: $(cat "$dir/out")"
    done
else
    omit "GGUF of golden models ($SHARED/golden is not there)"
fi

# a model of every family that is trained from scratch here comes back as what it was
for preset in opt bloom falcon gptj gpt_neox codegen phi mistral qwen2 qwen3 glm4 glm baichuan opt-350m; do
    check "pretrain of $preset" "$BIN/pretrain" --data "$dir/text.txt" --preset $preset $tiny --heads 4 --steps 1 --out "$dir/$preset-base"
    check "export of $preset" $ckpt export "$dir/$preset-base" --hf "$dir/x-$preset"
    check "import of $preset" $ckpt import "$dir/x-$preset" --out "$dir/again.ckpt"
    $ckpt strip "$dir/$preset-base" "$dir/plain.ckpt" --force >/dev/null
    check "the tensors of $preset" $ckpt diff --tensors "$dir/plain.ckpt" "$dir/again.ckpt"
done

# the form of text that a tokenizer asks for, or does not, comes back from a GGUF file: formed NAME CHECKPOINT
formed() {
    check "GGUF, $1" $ckpt export "$2" --gguf "$dir/x.gguf"
    check "import of the GGUF, $1" $ckpt import "$dir/x.gguf" --out "$dir/again.ckpt"
    $ckpt tokenizer "$2" | grep crc32 >"$dir/ours"
    $ckpt tokenizer "$dir/again.ckpt" | grep crc32 >"$dir/theirs"
    check "the tokenizer, $1" cmp "$dir/ours" "$dir/theirs"
}
check "pretrain with the pattern of Qwen2" "$BIN/pretrain" --data "$dir/text.txt" --pattern qwen2 $tiny --heads 4 --steps 1 --out "$dir/pattern"
formed "Qwen2's pattern without a form" "$dir/pattern"
for form in NFC NFKC; do
    rm -rf "$dir/form"
    check "export for $form" $ckpt export "$dir/pattern" --hf "$dir/form"
    sed "s/\"normalizer\": null/\"normalizer\": {\"type\": \"$form\"}/" "$dir/form/tokenizer.json" >"$dir/tokenizer"
    mv "$dir/tokenizer" "$dir/form/tokenizer.json"
    check "import of $form" $ckpt import "$dir/form" --out "$dir/a2.ckpt"
    formed "Qwen2's pattern and $form" "$dir/a2.ckpt"
done
rm -rf "$dir/form"
check "export for NFC" $ckpt export "$dir/llama-base" --hf "$dir/form"
sed 's/"normalizer": null/"normalizer": {"type": "NFC"}/' "$dir/form/tokenizer.json" >"$dir/tokenizer"
mv "$dir/tokenizer" "$dir/form/tokenizer.json"
check "import of NFC" $ckpt import "$dir/form" --out "$dir/a2.ckpt"
formed "another pattern and NFC" "$dir/a2.ckpt"

# rope scaling in a GGUF file: the settings come back, the divisors of llama3 too
scaled() {
    rm -rf "$dir/scaled"
    cp -r "$dir/x-llama-base" "$dir/scaled"
    sed "s/\"rope_type\": \"default\"/\"rope_type\": \"$2\", $3/; s/\"rope_theta\": [0-9.]*/\"rope_theta\": 500000.0/" "$dir/x-llama-base/config.json" >"$dir/scaled/config.json"
    check "$1" $ckpt import "$dir/scaled" --out "$dir/a2.ckpt"
    check "GGUF of $1" $ckpt export "$dir/a2.ckpt" --gguf "$dir/x.gguf"
    check "import of the GGUF of $1" $ckpt import "$dir/x.gguf" --out "$dir/again.ckpt"
    $ckpt diff "$dir/a2.ckpt" "$dir/again.ckpt" >"$dir/out"
    grep -q ' 0 of [0-9]* tensors differ' "$dir/out" && ! grep -vE '^(META +name|CONF +init.std|section|different)' "$dir/out" >/dev/null && ok || wrong "$1: $(cat "$dir/out")"
}
bands='"low_freq_factor": 1.0, "high_freq_factor": 4.0'
scaled "YaRN with a factor of its own" yarn '"factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.37'
# spoilt WORDS SED: x.gguf with bytes replaced is refused
spoilt() {
    LC_ALL=C sed "$2" "$dir/x.gguf" >"$dir/y.gguf"
    $ckpt import "$dir/y.gguf" --out "$dir/no.ckpt" >"$dir/out" 2>"$dir/said"
    [ $? -eq 65 ] && grep -q "$1" "$dir/said" && [ ! -e "$dir/no.ckpt" ] && ok || wrong "$2: $(cat "$dir/said")"
}
spoilt "yarn_zeta_fast of rope scaling yarn is not known" 's/yarn_beta_fast/yarn_zeta_fast/'
spoilt 'scaling.type is "barn"' 's/\x04\(.\{7\}\)yarn/\x04\1barn/'
scaled "llama3 in three bands" llama3 "\"factor\": 8.0, $bands, \"original_max_position_embeddings\": 1000"
scaled "llama3 of 33 positions" llama3 "\"factor\": 32.0, $bands, \"original_max_position_embeddings\": 33"
spoilt "rope_freqz.weight has no place" 's/rope_freqs/rope_freqz/'
printf '\0\0\240\77' | dd of="$dir/x.gguf" bs=1 seek=$(($(wc -c <"$dir/x.gguf") - 64)) conv=notrunc 2>/dev/null      # the first of 16 divisors, 1
spoilt "rope_freqs.weight is not that of rope scaling llama3" ''

# refused
"$ckpt" export "$dir/llama-rm" --gguf "$dir/no.gguf" 2>"$dir/said"
[ $? -eq 78 ] && grep -q 'reward model' "$dir/said" && [ ! -e "$dir/no.gguf" ] && ok || wrong "a reward model as GGUF: $(cat "$dir/said")"
if [ -d "$SHARED/golden" ]; then
    while IFS=: read -r case words; do
        $ckpt import "$SHARED/golden/$case" --out "$dir/a2.ckpt" >/dev/null 2>&1
        "$ckpt" export "$dir/a2.ckpt" --gguf "$dir/no.gguf" 2>"$dir/said"
        [ $? -eq 78 ] && grep -q "$words" "$dir/said" && [ ! -e "$dir/no.gguf" ] && ok || wrong "$case as GGUF: $(cat "$dir/said")"
    done <<'END'
llama-rope-dynamic:a model of type llama with rope scaling dynamic has no place
llama-rope-yarn:beta_fast
mistral:with a window of keys
qwen2-sliding:with a window of keys
falcon-rw:a model of type falcon with ALiBi
opt:type opt is not written as a GGUF file
gptj:type gptj is not
codegen:type codegen is not
glm:heads that are not as wide
baichuan-13b:no family
END
fi
check "no tokenizer" $ckpt export "$dir/a.ckpt" --gguf "$dir/x.gguf"
"$ckpt" export "$dir/a.ckpt" 2>"$dir/said"
[ $? -eq 64 ] && grep -q 'one of --hf' "$dir/said" && ok || wrong "no format: $(cat "$dir/said")"
"$ckpt" export "$dir/a.ckpt" --hf "$dir/hf" >/dev/null 2>"$dir/said"
[ $? -eq 64 ] && grep -q 'exists already' "$dir/said" && ok || wrong "a folder that is there: $(cat "$dir/said")"
"$ckpt" export "$dir/a.ckpt" --hf "$dir/no/where" >/dev/null 2>"$dir/said"
[ $? -eq 74 ] && ok || wrong "no folder above: $(cat "$dir/said")"

finish
