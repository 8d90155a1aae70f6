#!/bin/sh
# check_import.sh - `ckpt import` refuses what it cannot import exactly: one sentence, its exit code, and no file.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
dir=$work

fresh() { rm -rf "$dir/m"; mkdir "$dir/m"; cp test/golden/llama/config.json test/golden/llama/model.safetensors "$dir/m"; }
config() { sed "$1" test/golden/llama/config.json >"$dir/m/config.json"; }
weights() { LC_ALL=C sed "$1" test/golden/llama/model.safetensors >"$dir/m/model.safetensors"; }

# refused NAME CODE WORDS: the folder as it is now
refused() {
    rm -f "$dir/out.ckpt"
    "$BIN/ckpt" import "$dir/m" --out "$dir/out.ckpt" >/dev/null 2>"$dir/said"
    code=$?
    if [ $code -eq "$2" ] && [ "$(wc -l <"$dir/said")" -eq 1 ] && grep -q "$3" "$dir/said" && [ -z "$(ls "$dir" | grep '^out')" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$1: exit code $code (expected $2), a sentence with '$3', no file; said: $(cat "$dir/said")"
    fi
}

fresh
"$BIN/ckpt" import "$dir/m" --out "$dir/good.ckpt" >/dev/null 2>&1 && "$BIN/ckpt" verify --deep "$dir/good.ckpt" >/dev/null &&
    ok || wrong "a good folder is refused"
[ "$("$BIN/ckpt" config "$dir/good.ckpt" arch)" = llama ] && ok || wrong "not a llama"

fresh; config 's/"hidden_act"/"frobnicate": 3, "hidden_act"/';                       refused "an unknown key" 65 "key frobnicate is not known"
fresh; config 's/"hidden_act": "silu"/"hidden_act": "relu"/';                        refused "another activation" 65 'hidden_act is "relu"'
fresh; config 's/"hidden_act"/"rope_scaling": {"type": "linear", "factor": 2}, "hidden_act"/'; refused "two types of rope" 65 'rope_type is "linear" (expected default)'
fresh; config 's/"rope_type": "default"/"rope_type": "longrope"/';                   refused "another rope scaling" 65 'rope_type is "longrope"'
fresh; config 's/"rope_type": "default"/"rope_type": "yarn"/';                       refused "yarn without a factor" 65 "rope scaling needs"
fresh; config 's/"rope_type": "default"/"rope_type": "dynamic", "factor": 2, "alpha": 3/'; refused "a key of another rope scaling" 65 "key alpha of rope type dynamic"
fresh; config 's/"rope_type": "default"/"rope_type": "linear", "factor": 2/; s/"hidden_act"/"rope_scaling": {"type": "linear", "factor": 3}, "hidden_act"/'; refused "two factors" 65 "factor is 3"
fresh; config 's/"hidden_act"/"rope_theta": 5, "hidden_act"/'; refused "two rope_theta" 65 "rope_theta is 5"
fresh; config 's/"hidden_act"/"sliding_window": 5, "hidden_act"/';                   refused "a window in a llama" 65 "sliding_window is 5"
as() { config "s/\"model_type\": \"llama\"/\"model_type\": \"$1\", $2/"; }
fresh; as mistral '"sliding_window": -1';                                            refused "a window of -1" 65 "sliding_window is -1"
fresh; as qwen2 '"use_sliding_window": 1, "sliding_window": 5';                      refused "a window that may be used" 65 "use_sliding_window is 1"
fresh; as qwen2 '"use_sliding_window": true, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]'; refused "windows in the first layers" 65 "layer_types is"
fresh; as qwen2 '"layer_types": ["full_attention", "sliding_attention"]';            refused "a window without a size" 65 "layer_types is"
fresh; as qwen3 '"layer_types": ["full_attention"]';                                 refused "a layer without a type" 65 "one word a layer"
fresh; as falcon '"num_ln_in_parallel_attn": 3';                                     refused "three norms" 65 "num_ln_in_parallel_attn is 3"
fresh; as falcon '"alibi": 3';                                                       refused "an alibi that is no truth" 65 "alibi is 3"
fresh; as gptj '"n_embd": 40, "n_head": 5, "rotary_dim": 5';                         refused "an odd part rotated" 65 "rotary_dim is 5"
fresh; as codegen '"n_embd": 40, "n_head": 5, "rotary_dim": 4';                      refused "heads that make no blocks" 65 "n_head is 5"
fresh; as gpt_neox '"rotary_pct": 0.25, "partial_rotary_factor": 0.5';               refused "two parts rotated" 65 "rotary_pct is 0.25"
fresh; as opt '"do_layer_norm_before": "yes"';                                       refused "norms that are no truth" 65 "do_layer_norm_before is"
fresh; config 's/"model_type": "llama"/"model_type": "walrus"/';                     refused "another type" 65 "model_type walrus"
fresh; config 's/"hidden_act"/"vocab_size": 113, "hidden_act"/';                     refused "a key twice" 65 "not a JSON object"
fresh; config 's/"hidden_size": [0-9]*/"hidden_size": -1/';                          refused "a negative size" 65 "hidden_size is -1"
fresh; config 's/"intermediate_size": [0-9]*/"intermediate_size": 71/';              refused "another shape" 65 "expected 71 x"
fresh; config 's/"num_hidden_layers": 2/"num_hidden_layers": 1/';                    refused "a layer too many" 65 "has no place"
fresh; config 's/"num_hidden_layers": 2/"num_hidden_layers": 3/';                    refused "a layer too few" 65 "layers.2.*is missing"
fresh; echo '{' >"$dir/m/config.json";                                               refused "a cut config.json" 65 "not a JSON object"
fresh; rm "$dir/m/config.json";                                                      refused "no config.json" 66 "config.json"
fresh; rm "$dir/m/model.safetensors";                                                refused "no weights" 66 "model.safetensors"
fresh; head -c 60000 test/golden/llama/model.safetensors >"$dir/m/model.safetensors"; refused "a truncated file" 65 "model.safetensors: tensor"
fresh; echo >>"$dir/m/model.safetensors";                                            refused "a byte too many" 65 "belong to no tensor"
fresh; head -c 5 test/golden/llama/model.safetensors >"$dir/m/model.safetensors";    refused "five bytes" 65 "too short"
fresh; weights 's/"model.norm.weight"/"model.norm.weighs"/';                         refused "a renamed tensor" 65 "model.norm.weight is missing"
fresh; weights 's/"BF16"/"I16" /';                                                   refused "a tensor of whole numbers" 65 "model.safetensors: tensor .* has the type i16"
fresh; weights 's/layers.0.mlp.up_proj/layers.1.mlp.up_proj/';                       refused "a tensor twice" 65 "without repeated keys"
fresh; weights 's/"format":"pt"/"format":3   /';                                     refused "metadata of another type" 65 "__metadata__"
fresh; weights 's/"BF16"/"XF16"/';                                                   refused "another dtype" 65 "dtype XF16"
fresh; weights 's/"data_offsets":\[0,/"data_offsets":[2,/';                          refused "a moved tensor" 65 "data_offsets"
fresh; weights 's/"model.norm.weight":/"model.norm.weight" /';                       refused "a header that is no JSON" 65 "header is not a JSON"
# header SED: the JSON in front of the weights edited, and its length with it
long() { for k in 0 8 16 24 32 40 48 56; do printf "\\$(printf %03o $(($1 >> k & 255)))"; done; }
header() {
    fresh
    n=$(od -An -tu8 -N8 test/golden/llama/model.safetensors | tr -d ' ')
    head -c $((n + 8)) test/golden/llama/model.safetensors | tail -c "$n" | LC_ALL=C sed "$1" >"$dir/header"
    { long "$(wc -c <"$dir/header")"; cat "$dir/header"; tail -c +$((n + 9)) test/golden/llama/model.safetensors; } >"$dir/m/model.safetensors"
}
header 's/^/ \t/; s/$/\n  /'
"$BIN/ckpt" import "$dir/m" --out "$dir/good.ckpt" >/dev/null 2>&1 && ok || wrong "blanks around a header are refused"
header 's/\[113,40\]/[-113,40]/';                                                    refused "a negative dimension" 65 "embed_tokens.weight has a shape that is not one"
header 's/\[113,40\]/[113.0,40]/';                                                   refused "a broken dimension" 65 "embed_tokens.weight has a shape that is not one"
header 's/\[113,40\]/[1e2,40]/';                                                     refused "a dimension with an exponent" 65 "embed_tokens.weight has a shape that is not one"
header 's/\[113,40\]/[4611686018427387904,8]/';                                      refused "dimensions that multiply to too much" 65 "embed_tokens.weight has a shape that is not one"
header 's/\[113,40\]/[4611686018427387904,2]/';                                      refused "more bytes than 64 bits count" 65 "embed_tokens.weight: its data_offsets"
header 's/\[113,40\]/[9223372036854775808,40]/';                                     refused "a number of 64 bits" 65 "header is not a JSON"
header 's/\[113,40\]/[113,40,1,1,1,1,1,1,1]/';                                       refused "nine dimensions" 65 "no shape of at most 8"
header 's/\[113,40\]/[[113],40]/';                                                   refused "a list in a shape" 65 "embed_tokens.weight has a shape that is not one"
header 's/\[113,40\]/[4520]/';                                                       refused "a matrix as a vector" 65 "embed_tokens.weight has 1 dimensions"
header 's/\[9040,9120\]/[9120,9040]/';                                               refused "an end before its beginning" 65 "data_offsets"
header 's/\[14880,20640\]/[20640,26400]/';                                           refused "two tensors in one place" 65 "begins at byte .* (expected byte"
header 's/"dtype":"BF16"/&,"dtype":"BF16"/';                                         refused "a key of a tensor twice" 65 "without repeated keys"
header 's/"format":"pt"/"format":{"a":"b"}/';                                        refused "metadata in metadata" 65 "__metadata__"
header 's/"model.norm.weight"/"model.norm\\u0000weight"/';                           refused "a name with a NUL" 65 "header is not a JSON"
header 's/"model.norm.weight"/"model.\\u001b[31m"/';                               refused "a name that colours the terminal" 65 'control characters.*model.\\x1b'
grep -q "$(printf '\033')" "$dir/said" && wrong "a name reaches the terminal as it is" || ok
fresh; { long $((1 << 40)); tail -c +9 test/golden/llama/model.safetensors; } >"$dir/m/model.safetensors"; refused "a header longer than the file" 65 "it is truncated, or no safetensors"
fresh; rm "$dir/m/model.safetensors"
echo '{"weight_map":{"model.norm.weight":"../secret.safetensors"}}' >"$dir/m/model.safetensors.index.json"; refused "a shard outside" 65 "in the same folder"
echo '{"weight_map":{"model.norm.weight":"no.safetensors"}}' >"$dir/m/model.safetensors.index.json"; refused "a shard that is missing" 66 "no.safetensors"
cp test/golden/llama/model.safetensors "$dir/m/a.safetensors"
echo '{"weight_map":{"model.nose.weight":"a.safetensors"}}' >"$dir/m/model.safetensors.index.json"; refused "an index that lies" 65 "not in the shard"
echo '{}' >"$dir/m/model.safetensors.index.json";                                    refused "an index without a map" 65 "weight_map"
fresh; echo '{% for m in messages %}{{ m.content }}{% endif %}' >"$dir/m/chat_template.jinja"; refused "a template that does not parse" 65 "m: its chat template is no Jinja template: line 1 of it: a block ends"
fresh; printf '%s' '{"chat_template": "a\n{{ \"b }}"}' >"$dir/m/tokenizer_config.json";       refused "a quote without an end in a template" 65 "line 2 of it: a quote does not end"
fresh; echo '{% if a %}b' >"$dir/m/chat_template.jinja";                             refused "a block without an end in a template" 65 "a block of it, if, does not end"
fresh; echo '{%- set x = {"a": {"b": 1}} -%}{% raw %}{{{% endraw %}{# {{ #}{{ x["}}"] }} { } {% set y %}{% endset %}' >"$dir/m/chat_template.jinja"
"$BIN/ckpt" import "$dir/m" --out "$dir/good.ckpt" >/dev/null 2>&1 && ok || wrong "a good template is refused"
rm -rf "$dir/m";                                                                     refused "no folder" 66 "m: cannot be opened: No such file"

# ---- GGUF: quantised matrices become the floats that gguf-py makes of them ----

"$BIN/ckpt" import test/golden/gguf/model.gguf --out "$dir/good.ckpt" >/dev/null 2>&1 &&
    [ "$("$BIN/ckpt" hash "$dir/good.ckpt" | sed -n 's/^weights_crc32 *//p')" = 3e2fea98 ] && ok ||
    wrong "the GGUF file has other weights"
[ "$("$BIN/ckpt" chat "$dir/good.ckpt" template)" = llama3 ] && ok || wrong "no template from the GGUF file"
if [ -d ../shared/golden/gguf ]; then
    for m in gpt2 llama qwen2; do
        "$BIN/ckpt" import ../shared/golden/gguf/$m.gguf --out "$dir/a.ckpt" >/dev/null 2>&1
        "$BIN/ckpt" import ../shared/golden/$m --out "$dir/b.ckpt" >/dev/null 2>&1
        "$BIN/ckpt" diff --tensors "$dir/a.ckpt" "$dir/b.ckpt" >/dev/null && ok || wrong "$m.gguf and its folder differ"
    done
fi

# gguf SED: the file with bytes replaced; patch OFFSET BYTES: at a place
gguf() { rm -rf "$dir/m"; LC_ALL=C sed "$1" test/golden/gguf/model.gguf >"$dir/m"; }
patch() { rm -rf "$dir/m"; cp test/golden/gguf/model.gguf "$dir/m"; printf "$2" | dd of="$dir/m" bs=1 seek="$1" conv=notrunc 2>/dev/null; }
gguf 's/llama.block_count/llama.block_cound/';                    refused "a GGUF key that is not known" 65 "llama.block_cound is not known"
gguf 's/general.architecture\(.\{12\}\)llama/general.architecture\1llamb/'; refused "another architecture" 65 "architecture is llamb"
gguf 's/output_norm.weight/output_norn.weight/';                  refused "a renamed GGUF tensor" 65 "output_norm.weight is missing"
gguf 's/blk.0.attn_k.weight/blk.0.attn_q.weight/';                refused "a GGUF tensor twice" 65 "is there twice"
patch 0 'GGML';                                                   refused "another signature" 65 "not a GGUF file"
patch 4 '\1';                                                     refused "version 1" 65 "version 2 or 3"
patch 4 '\0\0\0\3';                                              refused "big-endian" 65 "big-endian"
patch 14 '\377';                                                  refused "too many tensors" 65 "do not fit the file"
patch 22 '\377';                                                  refused "too many keys" 65 "do not fit the file"
patch 30 '\377';                                                  refused "a long key" 65 "does not fit the file"
rm -rf "$dir/m"; head -c 1100 test/golden/gguf/model.gguf >"$dir/m";   refused "metadata cut short" 65 "inside its metadata"
rm -rf "$dir/m"; head -c 33000 test/golden/gguf/model.gguf >"$dir/m"; refused "tensors cut short" 65 "lies at"
gguf 's/rope.dimension_count\(.\{4\}\)\x08/rope.dimension_count\1\x06/';  refused "a part of each head rotated" 65 "dimension_count is 6 (expected 8)"
gguf 's/tokenizer.ggml.pre/tokenizer.ggml.tre/; s/set loop_messages/set l\xffop_messages/'; refused "a text that is no UTF-8" 65 "tokenizer.chat_template or its value is not valid"
gguf 's/llama.block_count\x04/general.alignment\x04/';              refused "an alignment of 2" 65 "alignment is 2 (expected a power of two)"
gguf 's/llama.block_count\x04/llama.block_count\x06/';              refused "a number of layers that is none" 65 "num_hidden_layers"
gguf 's/llama.attention.key_length/llama.attention.head_count/';    refused "a GGUF key twice" 65 "head_count is there twice"
gguf 's/output_norm.weight\x01/output_norm.weight\x05/';            refused "five dimensions" 65 "has 5 dimensions (expected 1 to 4)"
gguf 's/output_norm.weight\x01/output_norm.weight\x00/';            refused "no dimensions" 65 "has 0 dimensions (expected 1 to 4)"
gguf 's/output_norm.weight\(.\{11\}\)\x00/output_norm.weight\1\x80/'; refused "more values than 64 bits count" 65 "output_norm.weight"
gguf 's/tokenizer.ggml.merges\x09\(...\)\x08/tokenizer.ggml.merges\x09\1\x09/'; refused "lists in a list" 65 "a value of type 9"
gguf 's/tokenizer.ggml.merges\x09\(...\)\x08/tokenizer.ggml.merges\x09\1\x0e/'; refused "a list of another type" 65 "a value of type 14"
gguf 's/tokenizer.ggml.tokens\x09\(.\{10\}\)\x00/tokenizer.ggml.tokens\x09\1\x70/'; refused "a list longer than the file" 65 "does not fit the file"
patch 7042 '\001\176';                                            refused "a scale that is not a number" 65 "tensor output.weight has a scale"
rm -rf "$dir/m"; : >"$dir/m";                                         refused "an empty file" 65 "inside its metadata"

finish
