#!/bin/bash
# yarn-betas-of-gguf-are-not-read.sh - llama.cpp does not use the YaRN betas that a GGUF file holds.
#
# One would guess: where a GGUF file says llama.rope.scaling.yarn_beta_fast and yarn_beta_slow, the model is computed with them, as
# transformers does with beta_fast and beta_slow of config.json.
# What happens: the package gguf writes the keys, llama.cpp's converter copies the two numbers from config.json into them, and the
# loader reads type, factor and original context beside them - but the betas for a few architectures only, and llama and qwen2 are not
# among these.  They get 32 and 1, without a word.  Given as options (--yarn-beta-fast, --yarn-beta-slow) the same numbers are used.
# Version: xllamacpp 2026.10.11549 (llama.cpp within), gguf 0.19.0.
# Why it matters: a model that was trained with other betas gives other probabilities once it is converted, in short texts too; the
# keys in its file look as if all had been done.  Whoever serves it must give the betas as options.
# Source: src/llama-arch.cpp has the keys; src/models/grok.cpp is one of the files that read them.
# Seen (log-probabilities of the first answered tokens):
#   xllamacpp 2026.10.11549 gguf 0.19.0
#   llama no betas in the file               10 -1.0358    59 -1.0455    57 -0.2515
#   llama 2 and 0.1 in the file              10 -1.0358    59 -1.0455    57 -0.2515
#   llama another factor in the file         10 -1.5216     8 -1.3276    60 -1.2706
#   llama options 2 and 0.1                  24 -1.0354    22 -1.7303     9 -0.6565
#   qwen2 no betas in the file               33 -1.1748    15 -0.7511    13 -1.5335
#   qwen2 2 and 0.1 in the file              33 -1.1748    15 -0.7511    13 -1.5335
#   qwen2 another factor in the file         10 -1.5548    13 -0.8664    22 -0.8742
#   qwen2 options 2 and 0.1                  59 -0.9094    53 -1.1828    17 -1.0263
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
ROWS, WIDTH, LAYERS = 64, 64, 2


def write(architecture, factor, betas):
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter("model.gguf", architecture)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(64)
    if betas:
        writer.add_rope_scaling_yarn_beta_fast(betas[0])
        writer.add_rope_scaling_yarn_beta_slow(betas[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(ROWS)])
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {"token_embd.weight": (ROWS, WIDTH), "output_norm.weight": (WIDTH,), "output.weight": (ROWS, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{layer}.{name}.weight": (WIDTH, WIDTH) for name in
                   ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
        if architecture == "qwen2":
            shapes |= {f"blk.{layer}.{name}.bias": (WIDTH,) for name in ("attn_q", "attn_k", "attn_v")}
    for name, shape in shapes.items():
        numbers = random.standard_normal(shape) * 0.3 if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(name, numbers.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answer(architecture, what, factor=4.0, betas=None, options=None):
    write(architecture, factor, betas)
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = "model.gguf", 256, 1, False
    parameters.verbosity, parameters.cpuparams.n_threads = 0, 1
    if options:
        parameters.yarn_beta_fast, parameters.yarn_beta_slow = options
    server = xllamacpp.Server(parameters)
    reply = server.handle_completions({"prompt": [i * 7 % ROWS for i in range(40)], "n_predict": 3, "temperature": 0, "n_probs": 1,
                                       "ignore_eos": True})
    reply = reply if isinstance(reply, dict) else json.loads(reply)
    tokens = [(token["id"], round(token["logprob"], 4)) for token in reply["choices"][0]["logprobs"]["content"]]
    print(f"{architecture:5} {what:32}", "  ".join(f"{i:4} {p:.4f}" for i, p in tokens))
    return tokens


right = True
for architecture in ("llama", "qwen2"):
    none = answer(architecture, "no betas in the file")
    right &= none == answer(architecture, "2 and 0.1 in the file", betas=(2.0, 0.1))
    right &= none != answer(architecture, "another factor in the file", factor=8.0)
    right &= none != answer(architecture, "options 2 and 0.1", options=(2.0, 0.1))
sys.stdout.flush()
os._exit(not right)
PYTHON
