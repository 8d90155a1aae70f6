#!/bin/bash
# gguf-token-names-end-answers.sh - llama.cpp ends an answer at tokens that the file does not call an end, because of their names.
#
# One would guess: an answer ends with the token that tokenizer.ggml.eos_token_id of the GGUF file names (or eot or eom beside it), as
# transformers ends with eos_token_id.
# What happens: any token of the vocabulary that is called like the end token of some known model ends it as well: <|end|>, <|im_end|>,
# <|endoftext|>, <end_of_turn>, <|eot_id|>, <EOT>, <|return|>, and marks of code models such as <|file_sep|> and <|repo_name|>.  That holds
# for tokens of type normal too, which become control tokens by it.  The log of loading lists them.
# Version: xllamacpp 2026.10.11549 (llama.cpp within), gguf 0.19.0.
# Why it matters: a model that puts <|end|> behind its reasoning or every turn of a tool, or a base model that writes several documents or
# files, stops early, with the finish reason "stop"; evaluations of the same weights in transformers or vLLM go on.  Name the marks of a
# template of one's own differently where they are not the end of an answer.
# Source: special_eog_ids in src/llama-vocab.cpp; llama.cpp issue 9606.
# Seen (4 tokens asked for, a logit bias makes the model say only this one; eos_token_id is that of </s>):
#   xllamacpp 2026.10.11549 gguf 0.19.0
#   normal   </s>           stop    after 1
#   normal   <|end|>        stop    after 1
#   normal   <|endoftext|>  stop    after 1
#   normal   <|im_end|>     stop    after 1
#   normal   <end_of_turn>  stop    after 1
#   normal   <|file_sep|>   stop    after 1
#   normal   <|repo_name|>  stop    after 1
#   normal   <|stop|>       length  after 4
#   normal   <|user|>       length  after 4
#   normal   word           length  after 4
#   control  </s>           stop    after 1
#   control  <|end|>        stop    after 1
#   control  <|endoftext|>  stop    after 1
#   control  <|im_end|>     stop    after 1
#   control  <end_of_turn>  stop    after 1
#   control  <|file_sep|>   stop    after 1
#   control  <|repo_name|>  stop    after 1
#   control  <|stop|>       length  after 4
#   control  <|user|>       length  after 4
#   control  word           length  after 4
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
WIDTH, ROWS = 64, 64
ends = ["<|end|>", "<|endoftext|>", "<|im_end|>", "<end_of_turn>", "<|file_sep|>", "<|repo_name|>"]
marks = ends + ["<|stop|>", "<|user|>"]
shown = ["</s>"] + marks + ["word"]
names = shown + [f"t{i}" for i in range(len(shown), ROWS)]
types = {"normal": gguf.TokenType.NORMAL, "control": gguf.TokenType.CONTROL}


def write(kind):
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter("model.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([types[kind] if name in marks else gguf.TokenType.CONTROL if name == "</s>" else gguf.TokenType.NORMAL
                            for name in names])
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name in "output_norm", "blk.0.attn_norm", "blk.0.ffn_norm":
        writer.add_tensor(name + ".weight", np.ones(WIDTH, np.float32))
    for name in ("token_embd", "output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output", "blk.0.ffn_gate",
                 "blk.0.ffn_up", "blk.0.ffn_down"):
        writer.add_tensor(name + ".weight", random.standard_normal((ROWS, WIDTH)).astype(np.float32) / 8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reasons(kind):
    """{token: why the answer ended}"""
    write(kind)
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = "model.gguf", 256, 1, False
    parameters.verbosity, parameters.cpuparams.n_threads = 0, 1
    server = xllamacpp.Server(parameters)
    found = {}
    for i, name in enumerate(shown):
        reply = server.handle_completions({"prompt": [30, 31], "n_predict": 4, "temperature": 0, "logit_bias": [[i, 100.0]]})
        reply = reply if isinstance(reply, dict) else json.loads(reply)
        found[name] = reply["choices"][0]["finish_reason"]
        print(f"{kind:8} {name:14} {found[name]:7} after {reply['usage']['completion_tokens']}")
    return found


expected = {name: "stop" if name in ["</s>"] + ends else "length" for name in shown}
right = all([reasons(kind) == expected for kind in types])
sys.stdout.flush()
os._exit(not right)
PYTHON
