#!/bin/bash
# gguf-bf16-rounds-activations.sh - llama.cpp on a CPU: the same weights give worse answers as BF16 than as F16.
#
# One would guess: weights that are bfloat16 numbers keep every bit in a GGUF file of type BF16, so it computes what the model is, as a
# file of type F32 does, and no file of the same size can be closer.
# What happens: a product with a BF16 matrix rounds the activations to bfloat16 too (8 significant bits), with an F16 matrix to float16
# (11 bits); only F32 leaves them alone.  Weights that all three types hold exactly give log-probabilities that are several times
# further from those of F32 as BF16 than as F16.  Q8_0, of half the size, rounds weights and activations.
# Version: xllamacpp 2026.10.11549 (llama.cpp within), gguf 0.19.0.
# Why it matters: BF16 is what one picks for a bfloat16 model in order to lose nothing, and as the reference when quantised files are
# judged.  Where weights lie within float16's range, as trained ones usually do, F16 is closer; F32 is the reference.
# Source: type_traits_cpu in ggml/src/ggml-cpu/ggml-cpu.c (vec_dot_type of F16 and BF16 is the type itself).
# Seen (log-probabilities of all tokens after 8 prompts, compared with F32):
#   xllamacpp 2026.10.11549 gguf 0.19.0
#   F16   weights exact     difference: root mean square 0.0087   largest 0.0324
#   BF16  weights exact     difference: root mean square 0.0382   largest 0.1571
#   Q8_0  weights rounded   difference: root mean square 0.1778   largest 0.7020
packages="xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
"$env/bin/python" - <<'PYTHON'
import json
import os
import sys
from importlib.metadata import version
import gguf
import numpy as np
import xllamacpp

print("xllamacpp", version("xllamacpp"), "gguf", version("gguf"))
ROWS, WIDTH, WIDE, LAYERS, HEADS = 256, 256, 512, 4, 4
TYPES = gguf.GGMLQuantizationType
random = np.random.default_rng(0)


def matrix(rows, columns, scale):
    """numbers with 8 significant bits, multiples of 2^-17: F32, F16 and BF16 all hold them exactly"""
    numbers = (random.standard_normal((rows, columns)) * scale).astype(np.float32)
    numbers[abs(numbers) < 2.0 ** -10] = 0
    return gguf.quants.dequantize(gguf.quants.quantize(numbers, TYPES.BF16), TYPES.BF16)


tensors = {"token_embd.weight": matrix(ROWS, WIDTH, 1 / 16), "output.weight": matrix(ROWS, WIDTH, 1 / 4)}
for layer in range(LAYERS):
    tensors |= {f"blk.{layer}.{name}.weight": matrix(rows, columns, 1 / 16) for name, rows, columns in (
        ("attn_q", WIDTH, WIDTH), ("attn_k", WIDTH, WIDTH), ("attn_v", WIDTH, WIDTH), ("attn_output", WIDTH, WIDTH),
        ("ffn_gate", WIDE, WIDTH), ("ffn_up", WIDE, WIDTH), ("ffn_down", WIDTH, WIDE))}
norms = ["output_norm.weight"] + [f"blk.{layer}.{name}.weight" for layer in range(LAYERS) for name in ("attn_norm", "ffn_norm")]


def write(kind):
    writer = gguf.GGUFWriter("model.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(ROWS)])
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name in norms:
        writer.add_tensor(name, np.ones(WIDTH, np.float32))
    same = True
    for name, numbers in tensors.items():
        stored = gguf.quants.quantize(numbers, kind)
        same &= np.array_equal(gguf.quants.dequantize(stored, kind), numbers)
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return same


def answers(kind):
    """whether the file holds the weights exactly, and the log-probabilities of the first token after each prompt"""
    same = write(kind)
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = "model.gguf", 256, 1, False
    parameters.verbosity, parameters.cpuparams.n_threads = 0, 1
    server = xllamacpp.Server(parameters)
    found = np.zeros((8, ROWS))
    for row in range(8):
        reply = server.handle_completions({"prompt": [(i * 7 * (row + 1) + row) % ROWS for i in range(40)], "n_predict": 1,
                                           "temperature": 0, "n_probs": ROWS, "ignore_eos": True})
        reply = reply if isinstance(reply, dict) else json.loads(reply)
        for token in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            found[row, token["id"]] = token["logprob"]
    return same, found


exact, reference = answers(TYPES.F32)
right, differences = exact, {}
for kind in TYPES.F16, TYPES.BF16, TYPES.Q8_0:
    exact, found = answers(kind)
    right &= exact == (kind != TYPES.Q8_0)
    difference = found - reference
    differences[kind] = np.sqrt((difference ** 2).mean())
    print(f"{kind.name:5} weights {'exact  ' if exact else 'rounded'}   difference: root mean square {differences[kind]:.4f}",
          f"  largest {abs(difference).max():.4f}")
sys.stdout.flush()
os._exit(not (right and differences[TYPES.BF16] > 3 * differences[TYPES.F16]))
PYTHON
