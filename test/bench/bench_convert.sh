#!/bin/sh
# bench_convert.sh - import and export of a Llama-7B-shaped model of few layers, bytes written per second beside cp and sync of the
# same folder, in turn, ROUNDS times: medians, and what is resident at most.  It takes 4 times SIZE of disk in CONVERT_DIR.
# LAYERS=2 (1.2 GB of bfloat16), ROUNDS=5.
: "${BIN:=bin}" "${LAYERS:=2}" "${ROUNDS:=5}" "${CONVERT_DIR:=${TMPDIR:-/tmp}}"
work=$(mktemp -d "$CONVERT_DIR/convert.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
[ "$(df -k --output=avail "$work" | tail -n 1)" -gt $((1500000 + 2000000 * LAYERS)) ] ||
    { echo "* conversion: skipped, $CONVERT_DIR has not enough room"; exit 0; }
now() { date +%s.%N; }

# A folder of random bfloat16 of ordinary size: the sign, the low bit of the exponent and the mantissa vary.
awk -v L="$LAYERS" 'BEGIN {
    C = 4096; F = 11008; V = 32000
    print "model.embed_tokens.weight", V, C
    for (l = 0; l < L; l++) {
        p = "model.layers." l "."
        print p "input_layernorm.weight", C
        print p "post_attention_layernorm.weight", C
        split("q k v o", a, " ")
        for (i = 1; i <= 4; i++) print p "self_attn." a[i] "_proj.weight", C, C
        print p "mlp.gate_proj.weight", F, C; print p "mlp.up_proj.weight", F, C; print p "mlp.down_proj.weight", C, F
    }
    print "model.norm.weight", C; print "lm_head.weight", V, C
}' >"$work/list"
mkdir "$work/hf"
awk 'BEGIN { printf "{\"__metadata__\":{\"format\":\"pt\"}" }
    { n = 2 * $2 * (NF > 2 ? $3 : 1); shape = (NF > 2 ? $2 "," $3 : $2)
      printf ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%.0f,%.0f]}", $1, shape, at, at + n; at += n }
    END { printf "}" }' "$work/list" >"$work/header"
bytes=$(awk '{ at += 2 * $2 * (NF > 2 ? $3 : 1) } END { printf "%.0f", at }' "$work/list")
length=$(wc -c <"$work/header")
{
    for k in 0 8 16 24 32 40 48 56; do printf "\\$(printf %03o $((length >> k & 255)))"; done
    cat "$work/header"
    head -c 1048576 /dev/urandom | LC_ALL=C tr '\000-\377' '\074\274' >"$work/noise"
    while cat "$work/noise"; do :; done 2>/dev/null | head -c "$bytes"
} >"$work/hf/model.safetensors"
cat >"$work/hf/config.json" <<END
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
 "num_hidden_layers": $LAYERS, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
 "tie_word_embeddings": false}
END
"$BIN/ckpt" import "$work/hf" --out "$work/model.ckpt" >/dev/null 2>&1 || { echo "* conversion: the folder is not imported"; exit 1; }
"$BIN/ckpt" export "$work/model.ckpt" --gguf "$work/model.gguf" --type bf16 >/dev/null 2>&1 || exit 1

# timed NAME OUTPUT COMMAND...: its seconds and most resident KiB, until its output is on the disk; the output is removed
timed() {
    name=$1 out=$2
    shift 2
    sync "$work"
    start=$(now)
    "$@" >/dev/null 2>"$work/said" &
    pid=$! peak=0
    while kill -0 $pid 2>/dev/null; do
        got=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null)
        [ "${got:-0}" -gt "$peak" ] && peak=$got
        sleep 0.05
    done
    wait $pid || { cat "$work/said"; exit 1; }
    find "$out" -type f -exec sync {} +
    end=$(now)
    size=$(find "$out" -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
    awk -v n="$size" -v a="$start" -v b="$end" 'BEGIN { printf "%.3f\n", n / (b - a) / 1e9 }' >>"$work/speed.$name"
    echo "$peak" >>"$work/peak.$name"
    rm -rf "$out"
}
kinds="cp import export gguf from_gguf"
i=0
while [ $i -lt "$ROUNDS" ]; do
    timed cp "$work/copy" cp -r "$work/hf" "$work/copy"
    timed import "$work/out.ckpt" "$BIN/ckpt" import "$work/hf" --out "$work/out.ckpt"
    timed export "$work/out" "$BIN/ckpt" export "$work/model.ckpt" --hf "$work/out"
    timed gguf "$work/out.gguf" "$BIN/ckpt" export "$work/model.ckpt" --gguf "$work/out.gguf" --type bf16
    timed from_gguf "$work/out.ckpt" "$BIN/ckpt" import "$work/model.gguf" --out "$work/out.ckpt"
    i=$((i + 1))
done
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
copy=$(median "$work/speed.cp")
for k in $kinds; do
    speed=$(median "$work/speed.$k")
    printf '* conversion, %.2f GB: %-24s %8s GB/s written, %s of cp, %s MiB\n' "$(awk -v b="$bytes" 'BEGIN { print b / 1e9 }')" "$k" "$speed" \
        "$(awk -v a="$speed" -v b="$copy" 'BEGIN { printf "%.2f", a / b }')" "$(awk -v k="$(sort -n "$work/peak.$k" | tail -n 1)" 'BEGIN { printf "%.0f", k / 1024 }')"
    echo "  rounds: $(tr '\n' ' ' <"$work/speed.$k")"
done
